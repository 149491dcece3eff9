//! Version 0.1: puzzle augmenters alone.

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};

use self::bindings::exports::selkie::plugin::{manifest, puzzle_augmenter};
use super::{DescribeError, Failure};
use crate::error::GuestErrorKind;
use crate::state::State;
use crate::work::{Batch, Made, Work};

mod bindings {
    //! The interface in `schemas/wit/since_v0.1.0`, as the host sees it. Generated.
    wasmtime::component::bindgen!({ path: "../../schemas/wit/since_v0.1.0", world: "puzzle-plugin" });
}

use self::bindings::selkie::plugin::types as wire;

super::task_conversions!();

/// Where the exports are.
pub(crate) struct Contract {
    manifest: manifest::GuestIndices,
    puzzle: puzzle_augmenter::GuestIndices,
}

impl Contract {
    pub(super) fn find(pre: &InstancePre<State>) -> wasmtime::Result<Contract> {
        Ok(Contract {
            manifest: manifest::GuestIndices::new(pre)?,
            puzzle: puzzle_augmenter::GuestIndices::new(pre)?,
        })
    }

    pub(super) fn describe(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> Result<String, DescribeError> {
        self.puzzle.load(&mut *store, instance).map_err(DescribeError::Types)?;
        let manifest = self.manifest.load(&mut *store, instance).map_err(DescribeError::Types)?;
        manifest.call_describe(store).map_err(DescribeError::Call)
    }

    pub(super) fn call(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
        batch: &Batch<'_>,
        items_max: usize,
    ) -> Result<Made, Failure> {
        let Work::Tasks(tasks) = batch.work else { return Err(Failure::NotExported) };
        let sent: Vec<wire::Task> = tasks.iter().map(task_out).collect();
        let tool = self.puzzle.load(&mut *store, instance)?;
        let answer = tool.call_augment(store, batch.tool, batch.params, batch.seed, &sent)?;
        let made = answer.map_err(|refusal| Failure::Refused(kind_in(refusal.kind), refusal.message))?;
        tasks_in(made, items_max)
    }
}

fn kind_in(kind: wire::ErrorKind) -> GuestErrorKind {
    match kind {
        wire::ErrorKind::InvalidParams => GuestErrorKind::InvalidParams,
        wire::ErrorKind::UnknownTool => GuestErrorKind::UnknownTool,
        wire::ErrorKind::UnsupportedInput => GuestErrorKind::UnsupportedInput,
        wire::ErrorKind::Internal => GuestErrorKind::Internal,
    }
}
