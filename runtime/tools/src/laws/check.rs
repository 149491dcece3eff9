//! Tools put to the test with generated parameters and inputs.

use jsonschema::Validator;
use proptest::num::u64::ANY as ANY_SEED;
use proptest::prelude::{BoxedStrategy, Strategy};
use proptest::sample;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use proptest::tuple::TupleValueTree;
use serde_json::Value;

use super::inputs::{self, Items};
use super::params::{self, DRAWS_MAX};
use super::report::{LawReport, Outcome, ToolReport};
use super::trial::{Run, Verdict, hold};
use super::{BrokenLaw, Law};
use crate::error::{GuestErrorKind, ToolError};
use crate::manifest::{self, Manifest, ToolManifest};
use crate::work::Batch;

/// Cases that are tried while a counter-example shrinks. Each takes a call or a few.
const SHRINK_CASES_MAX: usize = 2000;

/// Puts every tool of a plugin to the test: its declared laws, that it takes the parameters that its schema
/// accepts, and that it can be repeated. `run` calls a tool with its name, parameters, seed and batch, in a fresh
/// instance, and looks at no laws itself; each law gets so many `cases` of up to three items, the same for the
/// same `seed`. A counter-example is made as small as it can be.
pub fn check_laws(manifest: &Manifest, run: Run<'_, ToolError>, cases: u32, seed: u64) -> LawReport {
    let tools = manifest.tools.iter().map(|tool| ToolReport {
        tool: tool.name.clone(),
        laws: Law::ALL.into_iter().map(|law| (law, check(tool, law, run, cases, seed))).collect(),
    });
    LawReport { plugin: manifest.name.clone(), version: manifest.version.clone(), tools: tools.collect() }
}

fn check(tool: &ToolManifest, law: Law, run: Run<'_, ToolError>, cases: u32, seed: u64) -> Outcome {
    let is_duty = matches!(law, Law::Schema | Law::Repeatable);
    if !is_duty && !tool.laws.declared().any(|declared| declared == law) {
        return Outcome::NotDeclared;
    }
    let Ok(validator) = manifest::check_schema(&tool.params) else { return Outcome::NoParams };
    let known: Vec<Value> = tool.laws.inverse.iter().map(|inverse| inverse.params.clone()).collect();
    let search = Search {
        tool,
        law,
        validator,
        params: if law == Law::Inverse {
            sample::select(known).boxed()
        } else {
            params::values(&tool.params)
        },
        items: inputs::batches(tool.kind, tool.takes),
    };
    search.search(run, cases, &mut inputs::runner(seed, &format!("{}/{law}", tool.name)))
}

/// One law of one tool.
struct Search<'a> {
    tool: &'a ToolManifest,
    law: Law,
    validator: Validator,
    params: BoxedStrategy<Value>,
    items: BoxedStrategy<Items>,
}

/// What is drawn: parameters, seed and batch.
type Case = (Value, u64, Items);
type Tree<T> = Box<dyn ValueTree<Value = T>>;
type CaseTree = TupleValueTree<(Tree<Value>, Tree<u64>, Tree<Items>)>;

impl Search<'_> {
    fn search(&self, run: Run<'_, ToolError>, cases: u32, runner: &mut TestRunner) -> Outcome {
        let mut held = 0;
        for _ in 0..cases {
            let Some(tree) = self.draw(runner) else { return Outcome::NoParams };
            match self.judge(&tree.current(), run) {
                Verdict::Held => held += 1,
                Verdict::Silent => {}
                Verdict::Broken(found) => {
                    return Outcome::Broken { counter_example: self.shrink(tree, found, run) };
                }
            }
        }
        if held > 0 { Outcome::Held { cases: held } } else { Outcome::Untested { cases } }
    }

    /// A case with parameters that the schema accepts.
    fn draw(&self, runner: &mut TestRunner) -> Option<CaseTree> {
        let draws = std::iter::repeat_with(|| self.params.new_tree(runner).ok()).take(DRAWS_MAX).flatten();
        let params = { draws }.find(|tree| self.validator.is_valid(&tree.current()))?;
        let seed = ANY_SEED.boxed().new_tree(runner).ok()?;
        Some(TupleValueTree::new((params, seed, self.items.new_tree(runner).ok()?)))
    }

    fn judge(&self, (params, seed, items): &Case, run: Run<'_, ToolError>) -> Verdict {
        if !self.validator.is_valid(params) {
            return Verdict::Silent;
        }
        let (params, seed) = (params.to_string(), self.shown(*seed));
        let batch = Batch { tool: &self.tool.name, params: &params, seed, work: items.work() };
        match hold(self.law, &self.tool.laws, &batch, run) {
            Ok(verdict) => verdict,
            Err(error) if self.law == Law::Schema => fault(&error).map_or(Verdict::Silent, Verdict::Broken),
            Err(_) => Verdict::Silent,
        }
    }

    /// The seed that the host would show to the tool. That it does not matter is shown with any.
    fn shown(&self, seed: u64) -> u64 {
        if self.tool.laws.deterministic && self.law != Law::Deterministic { 0 } else { seed }
    }

    /// The smallest case found that breaks the law too.
    fn shrink(&self, mut tree: CaseTree, found: String, run: Run<'_, ToolError>) -> BrokenLaw {
        let mut smallest = (tree.current(), found);
        let mut is_new = tree.simplify();
        for _ in 0..SHRINK_CASES_MAX {
            if !is_new {
                break;
            }
            let case = tree.current();
            is_new = match self.judge(&case, run) {
                Verdict::Broken(found) => {
                    smallest = (case, found);
                    tree.simplify()
                }
                _ => tree.complicate(),
            };
        }
        let ((params, seed, items), found) = smallest;
        let (params, seed) = (params.to_string(), self.shown(seed));
        BrokenLaw::new(
            self.law,
            &Batch { tool: &self.tool.name, params: &params, seed, work: items.work() },
            &found,
        )
    }
}

/// What is wrong with a tool that answers with this error. That it cannot work on an input is no fault.
fn fault(error: &ToolError) -> Option<String> {
    match error {
        ToolError::Guest { kind: GuestErrorKind::InvalidParams, message, .. } => {
            Some(format!("it refuses parameters that its schema accepts: {message}"))
        }
        ToolError::Guest { kind: GuestErrorKind::UnknownTool | GuestErrorKind::Internal, .. } => {
            Some(error.to_string())
        }
        // Nothing is shown by a tool that lacks what it asks for.
        ToolError::Guest { .. } | ToolError::NotGranted { .. } => None,
        other => Some(other.to_string()),
    }
}
