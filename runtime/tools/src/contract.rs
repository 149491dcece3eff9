//! The versions of the plugin interface, and what the host needs of each.
//!
//! A component's version is read from the names of its exports, without running it. Every published version has a
//! module of its own, so a plugin loads for as long as its folder in `schemas/wit` is there.

/// Between a version's records of tasks and our types. Every version generates records of its own, alike until
/// one is different.
macro_rules! task_conversions {
    () => {
        fn grid_out(grid: &selkie_edit::Grid) -> wire::Grid {
            wire::Grid { height: grid.height(), width: grid.width(), cells: grid.cells().to_vec() }
        }

        fn task_out(task: &selkie_edit::Task) -> wire::Task {
            let example = |example: &selkie_edit::Example| wire::Example {
                input: grid_out(&example.input),
                output: grid_out(&example.output),
            };
            wire::Task { train: task.train.iter().map(example).collect(), test: example(&task.test) }
        }

        /// Numbers are checked before anything is converted.
        fn tasks_in(
            made: Vec<wire::Task>,
            items_max: usize,
        ) -> Result<crate::work::Made, crate::contract::Failure> {
            crate::contract::check_items(made.len(), items_max)?;
            for (index, task) in made.iter().enumerate() {
                crate::contract::check_demonstrations(index, task.train.len())?;
            }
            let tasks = made.into_iter().enumerate().map(|(index, task)| {
                let example = |example: wire::Example| -> Result<selkie_edit::Example, String> {
                    let grid = |grid: wire::Grid| {
                        selkie_edit::Grid::new(grid.height, grid.width, grid.cells)
                            .map_err(|error| format!("task {index}: {error}"))
                    };
                    Ok(selkie_edit::Example { input: grid(example.input)?, output: grid(example.output)? })
                };
                let train = task.train.into_iter().map(example).collect::<Result<_, _>>()?;
                Ok(selkie_edit::Task { train, test: example(task.test)? })
            });
            tasks
                .collect::<Result<_, String>>()
                .map(crate::work::Made::Tasks)
                .map_err(crate::contract::Failure::Malformed)
        }
    };
}
use task_conversions;

mod v0_1;
mod v0_2;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Store};

use crate::limits::OUTPUT_DEMONSTRATIONS_MAX;
use crate::state::State;
use crate::work::{Batch, Made};

/// The versions that this host runs, for errors.
pub(crate) const SUPPORTED: &str = "0.1, 0.2";

/// The interface that every plugin exports, whatever its version.
const MANIFEST: &str = "selkie:plugin/manifest@";

/// The version of the interface that a component was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Version {
    V0_1,
    V0_2,
    /// One that this host does not run.
    Other(String),
    /// It is no plugin: what it exports instead.
    None(Vec<String>),
}

impl Version {
    /// From the exports, which are not run.
    pub(crate) fn of(engine: &Engine, component: &Component) -> Version {
        let component = component.component_type();
        let exports: Vec<String> = component.exports(engine).map(|(name, _)| name.to_owned()).collect();
        match exports.iter().find_map(|name| name.strip_prefix(MANIFEST)) {
            Some(version) if is(version, "0.1") => Version::V0_1,
            Some(version) if is(version, "0.2") => Version::V0_2,
            Some(version) => Version::Other(version.to_owned()),
            None => Version::None(exports),
        }
    }
}

/// Whether a version is of a line: below 1.0 the first two numbers say what is compatible.
fn is(version: &str, line: &str) -> bool {
    version.strip_prefix(line).is_some_and(|rest| rest.starts_with('.'))
}

/// A component whose exports have been found.
pub(crate) enum Contract {
    V0_1(v0_1::Contract),
    V0_2(v0_2::Contract),
}

/// Why a tool gave no answer.
pub(crate) enum Failure {
    /// The call ended: a limit or a trap.
    Ended(wasmtime::Error),
    /// The tool refused.
    Refused(crate::error::GuestErrorKind, String),
    /// The answer has so many tasks, documents or scores.
    TooManyItems(usize),
    /// The plugin has no interface for this kind of tool.
    NotExported,
    /// The answer is none: what is wrong, and where.
    Malformed(String),
}

fn check_items(items: usize, max: usize) -> Result<(), Failure> {
    if items > max { Err(Failure::TooManyItems(items)) } else { Ok(()) }
}

fn check_demonstrations(task: usize, count: usize) -> Result<(), Failure> {
    let max = OUTPUT_DEMONSTRATIONS_MAX;
    if count <= max {
        return Ok(());
    }
    Err(Failure::Malformed(format!("task {task} has {count} examples, at most {max} are taken")))
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Failure {
        Failure::Ended(error)
    }
}

impl Contract {
    /// Looks up what a component of that version exports.
    pub(crate) fn find(version: &Version, pre: &InstancePre<State>) -> Option<wasmtime::Result<Contract>> {
        match version {
            Version::V0_1 => Some(v0_1::Contract::find(pre).map(Contract::V0_1)),
            Version::V0_2 => Some(v0_2::Contract::find(pre).map(Contract::V0_2)),
            Version::Other(_) | Version::None(_) => None,
        }
    }

    /// Which it is.
    pub(crate) fn version(&self) -> &'static str {
        match self {
            Contract::V0_1(_) => "0.1",
            Contract::V0_2(_) => "0.2",
        }
    }

    /// The plugin's manifest, as text.
    pub(crate) fn describe(
        &self,
        store: &mut Store<State>,
        pre: &InstancePre<State>,
    ) -> Result<String, DescribeError> {
        let instance = pre.instantiate(&mut *store).map_err(DescribeError::Instantiate)?;
        match self {
            Contract::V0_1(contract) => contract.describe(store, &instance),
            Contract::V0_2(contract) => contract.describe(store, &instance),
        }
    }

    /// One batch, in a fresh instance. An answer has at most `items_max` tasks, documents or scores.
    pub(crate) fn call(
        &self,
        store: &mut Store<State>,
        pre: &InstancePre<State>,
        batch: &Batch<'_>,
        items_max: usize,
    ) -> Result<Made, Failure> {
        let instance = pre.instantiate(&mut *store)?;
        match self {
            Contract::V0_1(contract) => contract.call(store, &instance, batch, items_max),
            Contract::V0_2(contract) => contract.call(store, &instance, batch, items_max),
        }
    }
}

/// Where `describe` ended: types of functions are compared only when an instance is there.
pub(crate) enum DescribeError {
    Instantiate(wasmtime::Error),
    Types(wasmtime::Error),
    Call(wasmtime::Error),
}

/// Gives a component what it imports and may have: its log, the host model (which refuses without a grant), and
/// stubs of WASI. The names of everything else.
pub(crate) fn link(
    engine: &Engine,
    component: &Component,
    linker: &mut Linker<State>,
) -> wasmtime::Result<Vec<String>> {
    let mut unknown = Vec::new();
    let ty = component.component_type();
    for (name, import) in ty.imports(engine).filter(|(_, import)| !is_types(engine, &import.ty)) {
        match (needs(name), &import.ty) {
            (Needs::Nothing | Needs::TwoKeys, _) => {}
            (Needs::Stub, ComponentItem::ComponentInstance(instance)) => {
                crate::wasi::define(engine, name, instance, linker)?;
            }
            (Needs::Stub | Needs::Refused, _) => unknown.push(name.to_owned()),
        }
    }
    if unknown.is_empty() {
        v0_2::add_imports(linker)?;
    }
    Ok(unknown)
}

/// What an import takes to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Needs {
    /// Nothing: every plugin is given it.
    Nothing,
    /// Nothing: it links, and reaches nothing.
    Stub,
    /// Two keys: that the manifest asks, and that the operator grants.
    TwoKeys,
    /// It is not there, whoever asks.
    Refused,
}

/// What an import takes, by its name.
pub(crate) fn needs(import: &str) -> Needs {
    if import.starts_with(v0_2::HOST_MODEL) {
        return Needs::TwoKeys;
    }
    match v0_2::IMPORTS.iter().any(|known| import.starts_with(known)) {
        true => Needs::Nothing,
        false if import.starts_with("wasi:") => Needs::Stub,
        false => Needs::Refused,
    }
}

/// Whether an import is types alone: an instance that holds only the shared records is a name for them and gives
/// nothing.
fn is_types(engine: &Engine, item: &ComponentItem) -> bool {
    match item {
        ComponentItem::ComponentInstance(instance) => {
            instance.exports(engine).all(|(_, export)| matches!(export.ty, ComponentItem::Type(_)))
        }
        ComponentItem::Type(_) => true,
        _ => false,
    }
}

/// The names of everything that a component imports, types alone left out.
pub(crate) fn imports(engine: &Engine, component: &Component) -> Vec<String> {
    let ty = component.component_type();
    let imports = ty.imports(engine).filter(|(_, import)| !is_types(engine, &import.ty));
    imports.map(|(name, _)| name.to_owned()).collect()
}
