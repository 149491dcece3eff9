//! One plugin of each kind, as a crate would make it.

use crate::host_model::{Likelihood, Refusal, RefusalKind, log_likelihood};
use crate::testing::{HostModel, check_cases, with_host_model};
use crate::*;

mod puzzles {
    //! A plugin of puzzle augmenters.

    use crate::*;

    pub(super) struct Invert;

    const BACK: Inverse = Inverse { params: "{}", tool: "demo.invert", inverse_params: "{}" };

    impl PuzzleAugmenter for Invert {
        const NAME: &'static str = "demo.invert";
        const SUMMARY: &'static str = "Replaces \"c\" by 9 - c.";
        const LAWS: Laws =
            Laws::DETERMINISTIC.shape(Shape::Bounded(1)).involution().inverse(&[BACK]).items_max(1);
        type Params = NoParams;

        fn grid(_: &NoParams, grid: &Grid) -> Result<Option<Grid>, ToolError> {
            Ok(Some(grid.map(|colour| 9 - colour)))
        }
    }

    crate::register!(Invert);
}

mod texts {
    //! A plugin of text augmenters.

    use crate::*;

    pub(super) struct Draw;

    impl TextAugmenter for Draw {
        const NAME: &'static str = "demo.draw";
        const SUMMARY: &'static str = "Gives one completion at random.";
        const LAWS: Laws = Laws::SEEDED.items_max(1);
        type Params = NoParams;

        fn documents(_: &NoParams, source: &Source, rng: &mut Rng) -> Result<Vec<String>, ToolError> {
            let drawn = source.completions.get(rng.below(source.completions.len()));
            Ok(drawn.into_iter().cloned().collect())
        }
    }

    crate::register!(text: Draw);
}

mod graders {
    //! A plugin of graders that asks for the model.

    use crate::*;

    pub(super) struct Same;

    impl Grader for Same {
        const NAME: &'static str = "demo.same";
        const SUMMARY: &'static str = "Whether two answers are the same.";
        const TAKES: Takes = Takes::Answers;
        const LAWS: Laws = Laws::DETERMINISTIC.one_on_equal().symmetric();
        type Params = NoParams;

        fn answers(_: &NoParams, left: &str, right: &str) -> Result<Score, ToolError> {
            Ok(Score::right(left == right))
        }
    }

    pub(super) struct Likely;

    impl Grader for Likely {
        const NAME: &'static str = "demo.likely";
        const SUMMARY: &'static str = "How likely the first document is.";
        const TAKES: Takes = Takes::Edit;
        type Params = NoParams;

        fn edit(_: &NoParams, edit: &Edit) -> Result<Score, ToolError> {
            let likelihood = host_model::log_likelihood(&edit.passage, &edit.documents[0])?;
            Ok(Score { value: likelihood.log_prob.exp(), reasons: vec!["asked".into()] })
        }
    }

    crate::register!(grader: Same, Likely; asks: host_model);
}

#[test]
fn the_manifests_say_what_the_tools_are() {
    let params = r#""params":{"type":"object","additionalProperties":false}"#;
    let version = env!("CARGO_PKG_VERSION");
    let head = format!(r#"{{"manifest":1,"name":"selkie-sdk","version":"{version}","#);
    let expected = [
        format!(
            r#"{head}"tools":[{{"name":"demo.invert","kind":"puzzle_augmenter","summary":"Replaces \"c\" by 9 - c.",{params},"laws":{{"deterministic":true,"shape":"bounded","growth_max":1,"involution":true,"items_max":1,"inverse":[{{"params":{{}},"tool":"demo.invert","inverse_params":{{}}}}]}}}}]}}"#
        ),
        format!(
            r#"{head}"tools":[{{"name":"demo.draw","kind":"text_augmenter","summary":"Gives one completion at random.",{params},"laws":{{"deterministic":false,"items_max":1}}}}]}}"#
        ),
        format!(
            r#"{head}"asks":["host_model"],"tools":[{{"name":"demo.same","kind":"grader","takes":"answers","summary":"Whether two answers are the same.",{params},"laws":{{"deterministic":true,"one_on_equal":true,"symmetric":true}}}},{{"name":"demo.likely","kind":"grader","takes":"edit","summary":"How likely the first document is.",{params},"laws":{{"deterministic":true}}}}]}}"#
        ),
    ];
    let plugins = [puzzles::SelkiePlugin::PLUGIN, texts::SelkiePlugin::PLUGIN, graders::SelkiePlugin::PLUGIN];
    assert_eq!(plugins.map(|plugin| plugin.describe()), expected);
}

fn check(plugin: Plugin, cases: &str) -> Result<usize, String> {
    check_cases(&plugin, &serde_json::from_str::<Vec<serde_json::Value>>(cases).expect("JSON"))
}

#[test]
fn cases_of_every_kind_run_through_the_plugin() {
    let puzzles = r#"[
        {"tool": "demo.invert", "tasks": [{"train": [], "test": [{"input": [[0, 9]], "output": [[1]]}]}],
         "made": [{"train": [], "test": {"input": [[9, 0]], "output": [[8]]}}]},
        {"tool": "demo.invert", "params": {"x": 1}, "tasks": [], "error": "invalid_params"},
        {"tool": "demo.other", "tasks": [], "error": "unknown_tool"}
    ]"#;
    assert_eq!(check(puzzles::SelkiePlugin::PLUGIN, puzzles), Ok(3));
    let texts = r#"[{"tool": "demo.draw", "seed": 1, "made": [["a"], []],
        "sources": [{"text": "A passage.", "completions": ["a"]}, {"title": "B", "text": "Another."}]}]"#;
    assert_eq!(check(texts::SelkiePlugin::PLUGIN, texts), Ok(1));
    let graders = r#"[
        {"tool": "demo.same", "made": [0.9999999999, {"value": 0, "reasons": []}],
         "submissions": [{"answers": {"left": "a", "right": "a"}}, {"answers": {"left": "a", "right": "b"}}]},
        {"tool": "demo.same", "submissions": [{"grids": {"left": [[1]], "right": [[1]]}}],
         "error": "unsupported_input"},
        {"tool": "demo.likely", "submissions": [{"edit": {"passage": "p", "documents": ["d"]}}],
         "error": "model_unavailable"}
    ]"#;
    assert_eq!(check(graders::SelkiePlugin::PLUGIN, graders), Ok(3));
}

#[test]
fn a_report_shows_the_first_difference_of_each_case() {
    let cases = r#"[
        {"name": "one too few", "tool": "demo.draw", "sources": [{"text": "p", "completions": ["a"]}], "made": []},
        {"tool": "demo.draw", "sources": [{"text": "p"}], "made": [["b"]]},
        {"name": "typing error", "tool": "demo.draw", "source": [], "made": []},
        {"name": "no text", "tool": "demo.draw", "sources": [{"title": "p"}], "made": [[]]},
        {"name": "not refused", "tool": "demo.draw", "sources": [], "error": "internal"},
        {"name": "refused", "tool": "demo.other", "sources": [], "made": []}
    ]"#;
    let report = check(texts::SelkiePlugin::PLUGIN, cases).expect_err("a report");
    let expected = r#"6 of 6 cases differ
case `one too few`:
  at item 0
  expected nothing
  came     ["a"]
case `number 1`:
  at item 0
  expected ["b"]
  came     []
case `typing error`:
  unknown key `source`
case `no text`:
  expected a text where there is null
case `not refused`:
  expected "internal"
  came     []"#;
    assert_eq!(report, expected);
    let refused = check(texts::SelkiePlugin::PLUGIN, r#"[{"tool": "x", "sources": [], "made": []}]"#);
    let expected = "1 of 1 cases differ\ncase `number 0`:\n  expected []\n  came     unknown_tool: x";
    assert_eq!(refused, Err(expected.into()));
}

struct Fixed(f64);

impl HostModel for Fixed {
    fn log_likelihood(&mut self, _: &str, completion: &str) -> Result<Likelihood, Refusal> {
        self.0 -= 1.0;
        Ok(Likelihood { log_prob: self.0, tokens: completion.len() as u32 })
    }

    fn complete(&mut self, _: &str, _: u32) -> Result<String, Refusal> {
        Err(Refusal { kind: RefusalKind::Budget, message: "used up".into() })
    }
}

#[test]
fn a_test_may_stand_in_for_the_host_model() {
    let likelihoods = with_host_model(Fixed(0.0), || {
        assert_eq!(host_model::complete("a", 3).map_err(|refusal| refusal.kind), Err(RefusalKind::Budget));
        [log_likelihood("a", "bc"), log_likelihood("a", "bc")]
    });
    let expected = [-1.0, -2.0].map(|log_prob| Ok(Likelihood { log_prob, tokens: 2 }));
    assert_eq!(likelihoods, expected);
    let refusal = log_likelihood("a", "bc").expect_err("no model any more");
    assert_eq!(refusal.kind, RefusalKind::NotGranted);
    assert_eq!(ToolError::from(refusal).kind, ErrorKind::ModelUnavailable);
}
