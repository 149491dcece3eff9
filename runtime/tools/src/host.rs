//! The plugin host: loads components, keeps their catalogue, calls their tools.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use selkie_edit::{Catalogue, PlannedCall, PluginId, Task, ToolRun, ToolSpec, derive_seed};
use wasmtime::Engine;

use crate::call::Callee;
use crate::component::{self, Plugin};
use crate::engine;
use crate::error::ToolError;
use crate::laws;
use crate::limits::{BATCH_CELLS_MAX, Limits, PLUGINS_MAX};
use crate::manifest::{Laws, Manifest};

/// The components that are part of the binary: name, bytes, manifest.
const BUILT_IN: [(&str, &[u8], &str); 1] = [(
    "grid",
    include_bytes!("../../../plugins/dist/grid.wasm"),
    include_str!("../../../plugins/dist/grid.manifest.json"),
)];

/// What a host loads and how it confines it.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Whether the built-in plugins are loaded.
    pub built_in: bool,
    /// A folder whose `*.wasm` files are loaded, by name.
    pub plugins: Option<PathBuf>,
    /// The limits on every plugin.
    pub limits: Limits,
}

impl HostOptions {
    /// The built-in plugins and those of the folder, under the usual limits.
    pub fn new(plugins: Option<PathBuf>) -> HostOptions {
        HostOptions { built_in: true, plugins, limits: Limits::default() }
    }
}

/// Loaded plugins. Calls need no exclusive access: every batch has a store of its own.
pub struct ToolHost {
    engine: Engine,
    limits: Limits,
    plugins: Vec<Plugin>,
    /// By full name: which plugin, and the tool's laws.
    tools: BTreeMap<String, (usize, Laws)>,
    catalogue: Catalogue,
}

/// What a tool made of the tasks it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallResult {
    /// Its answer, checked.
    pub tasks: Vec<Task>,
    /// Batches it took.
    pub calls: u64,
    /// Fuel it used; the same for the same call and tasks.
    pub fuel: u64,
}

impl std::fmt::Debug for ToolHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.plugins.iter().map(|plugin| &plugin.id)).finish()
    }
}

impl ToolHost {
    /// Loads all plugins.
    ///
    /// # Errors
    /// The first plugin that does not load, in the order built-in, then by file name.
    pub fn new(options: HostOptions) -> Result<ToolHost, ToolError> {
        let mut host = ToolHost {
            engine: engine::engine()?,
            limits: options.limits,
            plugins: Vec::new(),
            tools: BTreeMap::new(),
            catalogue: Catalogue::default(),
        };
        if options.built_in {
            for (name, bytes, manifest) in BUILT_IN {
                host.add(component::built_in(name, bytes, manifest)?);
            }
        }
        for path in options.plugins.as_deref().map(wasm_files).transpose()?.unwrap_or_default() {
            let bytes = read_bounded(&path, host.limits.component_bytes)?;
            let origin = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
            host.load(&format!("`{origin}`"), &bytes)?;
        }
        host.catalogued()
    }

    /// A host of these components alone, each with the name that errors give it before it has its own.
    ///
    /// # Errors
    /// The first component that does not load.
    pub fn of_components<'a>(
        components: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        limits: Limits,
    ) -> Result<ToolHost, ToolError> {
        let mut host = ToolHost::new(HostOptions { built_in: false, plugins: None, limits })?;
        for (name, bytes) in components {
            host.load(name, bytes)?;
        }
        host.catalogued()
    }

    fn load(&mut self, origin: &str, bytes: &[u8]) -> Result<(), ToolError> {
        self.add(component::load(&self.engine, &self.limits, origin, bytes)?);
        Ok(())
    }

    fn add(&mut self, plugin: Plugin) {
        let index = self.plugins.len();
        let tools = plugin.manifest.tools.iter();
        self.tools.extend(tools.map(|tool| (tool.name.clone(), (index, tool.laws.clone()))));
        self.plugins.push(plugin);
    }

    fn catalogued(mut self) -> Result<ToolHost, ToolError> {
        let specs = self.plugins.iter().flat_map(|plugin| {
            plugin.manifest.tools.iter().map(|tool| ToolSpec {
                name: tool.name.clone(),
                kind: tool.kind,
                summary: tool.summary.clone(),
                params_schema: tool.params.clone(),
                plugin: plugin.id.clone(),
            })
        });
        self.catalogue = Catalogue::new(specs).map_err(|twins| ToolError::DuplicateTool {
            tool: twins.0.name.clone(),
            first: twins.0.plugin.to_string(),
            second: twins.1.plugin.to_string(),
        })?;
        Ok(self)
    }

    /// The tools that are loaded.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The plugins that are loaded, in the order they were.
    pub fn plugins(&self) -> impl Iterator<Item = &PluginId> {
        self.plugins.iter().map(|plugin| &plugin.id)
    }

    /// Their manifests, in the same order.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.plugins.iter().map(|plugin| &plugin.manifest)
    }

    /// Applies a planned call to tasks, in as many batches as it takes.
    ///
    /// # Errors
    /// When the tool or its plugin is not the planned one, and whatever goes wrong in the guest.
    pub fn call(&self, call: &PlannedCall, tasks: &[Task]) -> Result<CallResult, ToolError> {
        let unknown = || ToolError::UnknownTool { tool: call.tool.clone() };
        let &(index, ref laws) = self.tools.get(&call.tool).ok_or_else(unknown)?;
        let plugin = &self.plugins[index];
        if plugin.id != call.plugin {
            let (planned, loaded) = (Box::new(call.plugin.clone()), Box::new(plugin.id.clone()));
            return Err(ToolError::OtherPlugin { tool: call.tool.clone(), planned, loaded });
        }
        let pre = plugin.pre(&self.engine)?;
        let callee = Callee { engine: &self.engine, pre, plugin: &plugin.label, limits: &self.limits };
        let mut result = CallResult { tasks: Vec::new(), calls: 0, fuel: 0 };
        for (index, batch) in batches(tasks, self.limits.batch_tasks).into_iter().enumerate() {
            // A tool that says the seed does not matter is not shown it.
            let seed = if laws.deterministic { 0 } else { batch_seed(call.seed, index) };
            let made = callee.augment(&call.tool, &call.params, seed, batch)?;
            if let Some((_, reason)) = laws::answer::broken_by_tasks(laws, batch, &made.tasks) {
                return Err(callee.bad_output(&call.tool, reason));
            }
            result.tasks.extend(made.tasks);
            result.calls += 1;
            result.fuel += made.fuel;
        }
        Ok(result)
    }

    /// A record of what the tools do from now on, for one edit.
    pub fn session(&self) -> Session<'_> {
        Session { host: self, runs: Vec::new() }
    }
}

/// Calls on behalf of one edit, and what they amounted to.
#[derive(Debug)]
pub struct Session<'a> {
    host: &'a ToolHost,
    runs: Vec<ToolRun>,
}

impl Session<'_> {
    /// As [`ToolHost::call`]; a call that fails is not counted.
    ///
    /// # Errors
    /// As [`ToolHost::call`].
    pub fn call(&mut self, call: &PlannedCall, tasks: &[Task]) -> Result<Vec<Task>, ToolError> {
        let result = self.host.call(call, tasks)?;
        let index = self.runs.iter().position(|run| run.tool == call.tool).unwrap_or_else(|| {
            let (tool, plugin) = (call.tool.clone(), call.plugin.clone());
            self.runs.push(ToolRun { tool, plugin, calls: 0, items: 0, fuel: 0 });
            self.runs.len() - 1
        });
        let run = &mut self.runs[index];
        run.calls += result.calls;
        run.items += result.tasks.len() as u64;
        run.fuel += result.fuel;
        Ok(result.tasks)
    }

    /// One entry a tool, in order of first use.
    pub fn finish(self) -> Vec<ToolRun> {
        self.runs
    }
}

/// Cuts tasks into batches by their number and their cells: a function of the tasks alone, so that the same
/// tasks always travel in the same batches. A single task is a batch however large it is.
fn batches(tasks: &[Task], tasks_max: usize) -> Vec<&[Task]> {
    let mut batches = Vec::new();
    let (mut start, mut cells) = (0, 0);
    for (index, task) in tasks.iter().enumerate() {
        let more: usize = task.grids().map(|grid| grid.cells().len()).sum();
        if index > start && (index - start >= tasks_max || cells + more > BATCH_CELLS_MAX) {
            batches.push(&tasks[start..index]);
            (start, cells) = (index, 0);
        }
        cells += more;
    }
    if start < tasks.len() {
        batches.push(&tasks[start..]);
    }
    batches
}

/// The seed of a call's n-th batch: the call's own for the first, so that a call of one batch is what it looks
/// like, and independent ones for the others.
fn batch_seed(seed: u64, index: usize) -> u64 {
    if index == 0 { seed } else { derive_seed(seed, &format!("batch/{index}")) }
}

fn wasm_files(folder: &Path) -> Result<Vec<PathBuf>, ToolError> {
    let unreadable = |source| ToolError::Read { path: folder.into(), source };
    let entries = fs::read_dir(folder).map_err(unreadable)?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            files.push(path);
        }
    }
    if files.len() > PLUGINS_MAX {
        return Err(ToolError::TooManyPlugins { path: folder.into(), found: files.len(), max: PLUGINS_MAX });
    }
    files.sort();
    Ok(files)
}

/// At most one byte more than `max`, which is enough to see that a file is too large.
pub(crate) fn read_bounded(path: &Path, max: usize) -> Result<Vec<u8>, ToolError> {
    let unreadable = |source| ToolError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_manifests_are_the_components_own() {
        let built_in = ToolHost::new(HostOptions::new(None)).expect("the built-in plugins load");
        let components = BUILT_IN.map(|(name, bytes, _)| (name, bytes));
        let loaded = ToolHost::of_components(components, Limits::default()).expect("they load as any other");
        assert!(built_in.manifests().eq(loaded.manifests()));
        assert!(built_in.plugins().eq(loaded.plugins()));
    }
}
