//! Tools made of other tools: one after the other, or side by side.

use std::borrow::Cow;

use selkie_sdk::{Grid, GridChange, Laws, PuzzleAugmenter, Rng, Shape, Task, ToolError};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::params::{AXIS, Axis, FACTOR_MAX, object};
use crate::transform::{
    Flip, Identity, IncreaseHeight, IncreaseWidth, Reflect, Repeat, Rotate, Transpose, Upscale, concat, laws,
};

/// Most steps of a chain, most parts of a concatenation. SEAL's have two.
const STEPS_MAX: usize = 4;

/// A tool with its parameters, ready to be applied. Only tools that turn one grid into one grid: nothing
/// random, no nesting.
type Step = Box<dyn Fn(&Grid) -> Result<Option<Grid>, ToolError>>;

fn step<T: PuzzleAugmenter>(params: &str) -> Result<Step, serde_json::Error>
where
    T::Params: 'static,
{
    let params: T::Params = serde_json::from_str(params)?;
    Ok(Box::new(move |grid| T::grid(&params, grid)))
}

/// The tools that may be steps.
const STEP_TOOLS: [StepTool; 9] = [
    StepTool::of::<Identity>(),
    StepTool::of::<Rotate>(),
    StepTool::of::<Flip>(),
    StepTool::of::<Transpose>(),
    StepTool::of::<Reflect>(),
    StepTool::of::<Upscale>(),
    StepTool::of::<IncreaseHeight>(),
    StepTool::of::<IncreaseWidth>(),
    StepTool::of::<Repeat>(),
];

struct StepTool {
    name: &'static str,
    params_schema: fn() -> String,
    parse: fn(&str) -> Result<Step, serde_json::Error>,
}

impl StepTool {
    const fn of<T: PuzzleAugmenter>() -> StepTool
    where
        T::Params: 'static,
    {
        StepTool { name: T::NAME, params_schema: T::params_schema, parse: step::<T> }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStep<'a> {
    #[serde(borrow)]
    tool: Cow<'a, str>,
    #[serde(borrow)]
    params: &'a RawValue,
}

/// One to [`STEPS_MAX`] steps. As text at first: the steps' parameters are parsed by their own tools.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct Steps(Box<RawValue>);

impl Steps {
    fn parse(&self) -> Result<Vec<Step>, ToolError> {
        let refuse = |error: serde_json::Error| ToolError::invalid_params(error.to_string());
        let written: Vec<WrittenStep<'_>> = serde_json::from_str(self.0.get()).map_err(refuse)?;
        if written.is_empty() || written.len() > STEPS_MAX {
            let count = written.len();
            return Err(ToolError::invalid_params(format!(
                "{count} tools where 1 to {STEPS_MAX} are allowed"
            )));
        }
        let steps = written.iter().map(|step| {
            let tool = STEP_TOOLS.iter().find(|tool| tool.name == step.tool);
            let unknown = || ToolError::invalid_params(format!("no tool {} for a step", step.tool));
            (tool.ok_or_else(unknown)?.parse)(step.params.get()).map_err(refuse)
        });
        steps.collect()
    }
}

fn steps_schema() -> String {
    let any = STEP_TOOLS.map(|tool| {
        let (name, params) = (tool.name, (tool.params_schema)());
        object(&format!(r#""tool":{{"const":"{name}"}},"params":{params}"#), &["tool", "params"])
    });
    let any = any.join(",");
    format!(r#"{{"type":"array","minItems":1,"maxItems":{STEPS_MAX},"items":{{"anyOf":[{any}]}}}}"#)
}

/// One tool after the other.
pub(crate) struct Chain;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChainParams {
    steps: Steps,
}

impl PuzzleAugmenter for Chain {
    const NAME: &'static str = "grid.chain";
    const SUMMARY: &'static str = "Applies one to four grid tools one after the other.";
    type Params = ChainParams;

    fn params_schema() -> String {
        object(&format!(r#""steps":{}"#, steps_schema()), &["steps"])
    }

    const LAWS: Laws = laws(Shape::Bounded((FACTOR_MAX as u16).pow(STEPS_MAX as u32)));

    fn tasks(params: &ChainParams, tasks: Vec<Task>, _: &mut Rng) -> Result<Vec<Task>, ToolError> {
        let steps = params.steps.parse()?;
        apply(&tasks, &mut |grid| {
            let mut grid = grid.clone();
            for step in &steps {
                match step(&grid)? {
                    Some(changed) => grid = changed,
                    None => return Ok(None),
                }
            }
            Ok(Some(grid))
        })
    }
}

fn apply(tasks: &[Task], change: GridChange<'_>) -> Result<Vec<Task>, ToolError> {
    tasks.iter().filter_map(|task| task.map_grids(change).transpose()).collect()
}

/// The results of several tools joined to one grid.
pub(crate) struct Concat;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConcatParams {
    axis: Axis,
    parts: Steps,
}

impl PuzzleAugmenter for Concat {
    const NAME: &'static str = "grid.concat";
    const SUMMARY: &'static str = "Joins what one to four grid tools make of a grid: stacked (rows) or side by \
                                   side (columns). Tasks whose parts do not fit together are left out.";
    type Params = ConcatParams;

    fn params_schema() -> String {
        object(&format!(r#"{AXIS},"parts":{}"#, steps_schema()), &["axis", "parts"])
    }

    const LAWS: Laws = laws(Shape::Bounded(FACTOR_MAX as u16 * STEPS_MAX as u16));

    fn tasks(params: &ConcatParams, tasks: Vec<Task>, _: &mut Rng) -> Result<Vec<Task>, ToolError> {
        let steps = params.parts.parse()?;
        apply(&tasks, &mut |grid| {
            let parts = steps.iter().map(|step| step(grid)).collect::<Result<Option<Vec<_>>, _>>()?;
            Ok(parts.and_then(|parts| concat(&parts.iter().collect::<Vec<_>>(), params.axis)))
        })
    }
}
