//! The one capability: two keys, a budget, and a model that may sleep, panic or lie.

use std::sync::Arc;
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use selkie_tools::{
    Completion, Grants, HostModel, Likelihood, Limit, Limits, MissingKey, ModelBudget, ModelError, ToolError,
    ToolHost,
};

use crate::guest::{GOOD, Guest, Kind, assert_still_serving, limit_of};

/// A host model that does one thing, whatever it is asked.
#[derive(Clone, Copy)]
pub(crate) enum Model {
    /// Answers, and computes ten tokens.
    Answers,
    Sleeps,
    Panics,
    Refuses,
    /// Writes so many bytes.
    Writes(usize),
}

impl HostModel for Model {
    fn log_likelihood(&self, _: &str, _: &str, _: Instant) -> Result<Likelihood, ModelError> {
        match self {
            Model::Sleeps => std::thread::sleep(Duration::from_secs(60)),
            Model::Panics => panic!("the model has a bug"),
            Model::Refuses => return Err(ModelError::UnsupportedText("the text is empty".into())),
            Model::Answers | Model::Writes(_) => {}
        }
        Ok(Likelihood { log_prob: -1.0, tokens: 5, computed: 10 })
    }

    fn complete(&self, _: &str, _: u32, _: Instant) -> Result<Completion, ModelError> {
        let bytes = if let Model::Writes(bytes) = *self { bytes } else { 0 };
        Ok(Completion { text: "A".repeat(bytes), computed: 10 })
    }
}

pub(crate) fn granted(model: Model, budget: ModelBudget) -> Grants {
    Grants::of(Arc::new(model)).with("evil", budget)
}

/// One question, its result at 3072: (tag, log-probability, tokens) or (tag, kind, message).
const ASK: &str =
    "(call $likelihood (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 3072))";

/// Asks so many times, and hands the first refusal on if it is of this kind.
pub(crate) fn asking(times: usize, kind: u8) -> Guest {
    let ask = format!(
        "{ASK}
        (if (i32.load8_u (i32.const 3072)) (then
            (if (i32.ne (i32.load8_u (i32.const 3080)) (i32.const {kind})) (then unreachable))
            (i32.store8 (i32.const 2048) (i32.const 1))
            (i32.store8 (i32.const 2052) (i32.const 3))
            (i32.store (i32.const 2056) (i32.load (i32.const 3084)))
            (i32.store (i32.const 2060) (i32.load (i32.const 3088)))
            (return (i32.const 2048))))"
    );
    Guest::calling(Kind::Text, &ask.repeat(times)).asking()
}

const NOT_GRANTED: u8 = 0;
const BUDGET: u8 = 1;
const UNSUPPORTED_TEXT: u8 = 2;
const FAILED: u8 = 3;

#[test]
fn an_import_that_the_manifest_does_not_ask_for_is_refused() {
    let error = Guest::calling(Kind::Text, ASK).importing_the_model().load_error();
    assert!(matches!(error, ToolError::NotGranted { missing: MissingKey::Manifest, .. }), "{error}");
    assert_snapshot!(error, @r#"plugin evil 6.6.6: the host model is not granted to it: its manifest does not ask for it ("asks": ["host_model"])"#);
}

#[test]
fn what_the_operator_does_not_grant_is_refused_at_the_call() {
    let error = asking(1, NOT_GRANTED).call_error_with(Limits::default(), Grants::none());
    assert!(matches!(error, ToolError::NotGranted { missing: MissingKey::Operator, .. }), "{error}");
    assert_snapshot!(error, @"plugin evil 6.6.6: the host model is not granted to it: the operator has not granted it (`--grant PLUGIN`)");
}

#[test]
fn a_grant_to_a_plugin_that_is_not_loaded_is_refused() {
    let grants = Grants::of(Arc::new(Model::Answers)).with("other", ModelBudget::default());
    let error = ToolHost::of_components_with([("good", GOOD.as_slice())], Limits::default(), grants)
        .expect_err("nobody of that name");
    assert_snapshot!(error, @"the host model is granted to `other`, and no loaded plugin has that name; loaded are good");
}

#[test]
fn a_grant_to_a_plugin_that_does_not_ask_is_refused() {
    let grants = Grants::of(Arc::new(Model::Answers)).with("good", ModelBudget::default());
    let error = ToolHost::of_components_with([("good", GOOD.as_slice())], Limits::default(), grants)
        .expect_err("nobody asked");
    assert!(matches!(error, ToolError::NotGranted { missing: MissingKey::Manifest, .. }), "{error}");
    assert_snapshot!(error, @r#"plugin good 6.6.6: the host model is not granted to it: its manifest does not ask for it ("asks": ["host_model"])"#);
}

#[test]
fn describe_is_granted_nothing() {
    // It traps when it is answered.
    let text = format!(
        "{ASK}
        (if (i32.eqz (i32.load8_u (i32.const 3072))) (then unreachable))
        (if (i32.load8_u (i32.const 3080)) (then unreachable))"
    );
    let guest = Guest::good(Kind::Text).with("DESCRIBE", &text).asking();
    let host = guest.host_with(Limits::default(), granted(Model::Answers, ModelBudget::default()));
    guest.call(&host).expect("an answer");
}

#[test]
fn a_refusal_reaches_the_guest_by_its_kind() {
    let plenty = ModelBudget { calls: 64, tokens: 1000 };
    let cases = [
        (Model::Answers, ModelBudget { calls: 2, ..plenty }, BUDGET),
        (Model::Answers, ModelBudget { tokens: 15, ..plenty }, BUDGET),
        (Model::Answers, ModelBudget { calls: 0, ..plenty }, BUDGET),
        (Model::Refuses, plenty, UNSUPPORTED_TEXT),
        (Model::Panics, plenty, FAILED),
    ];
    let errors = cases.map(|(model, budget, kind)| {
        asking(3, kind).call_error_with(Limits::default(), granted(model, budget)).to_string()
    });
    assert_snapshot!(errors.join("\n"), @r##"
    plugin evil 6.6.6, tool `evil.tool`: model unavailable: model_calls: 2 are allowed in a batch
    plugin evil 6.6.6, tool `evil.tool`: model unavailable: model_tokens: 15 are allowed in a batch
    plugin evil 6.6.6, tool `evil.tool`: model unavailable: model_calls: 0 are allowed in a batch
    plugin evil 6.6.6, tool `evil.tool`: model unavailable: the text is empty
    plugin evil 6.6.6, tool `evil.tool`: model unavailable: the model failed
    "##);
}

#[test]
fn sleeping_in_a_host_call_meets_the_deadline() {
    let limits = Limits { deadline: Duration::from_millis(200), ..Limits::default() };
    let grants = granted(Model::Sleeps, ModelBudget::default());
    let error = asking(1, FAILED).call_error_with(limits, grants);
    assert_eq!(limit_of(&error), (Limit::DeadlineMs, 200), "{error}");
}

#[test]
fn a_completion_that_does_not_fit_is_the_guests_memory() {
    let ask = "(call $complete (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 3072))";
    let guest = Guest::calling(Kind::Text, ask).asking();
    let grants = |bytes| granted(Model::Writes(bytes), ModelBudget::default());
    assert_snapshot!(guest.call_error_with(Limits::default(), grants(200 << 20)), @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit memory_bytes: 134742040 used, 134217728 allowed");
    let host = guest.host_with(Limits::default(), grants(1 << 20));
    guest.call(&host).expect("a megabyte fits");
}

#[test]
fn a_prompt_without_end_is_not_copied() {
    let ask = "(drop (memory.grow (i32.const 1536)))
        (call $complete (i32.const 0) (i32.const 0x5000000) (i32.const 9) (i32.const 3072))";
    let grants = granted(Model::Answers, ModelBudget::default());
    let error = Guest::calling(Kind::Text, ask).asking().call_error_with(Limits::default(), grants);
    assert_snapshot!(error, @"plugin evil 6.6.6, tool `evil.tool`: stopped by the limit output_bytes: 67108865 used, 67108864 allowed");
}

#[test]
fn a_guest_that_can_do_without_the_model_is_served_without_it() {
    let guest = Guest::calling(Kind::Text, ASK).asking();
    let host = guest.host(Limits::default());
    guest.call(&host).expect("an answer");
    assert_still_serving(&host);
}
