//! What asks for a self-edit from outside of the model, and how long what was learned lasts.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use selkie_edit::{Context, Domain};
use selkie_engine::live::{
    EditRequest, EditState, GenerateRequest, Happened, Permission, Piece, Prompt, Scope, SelfEditTerms,
    TraceEvent, Trigger, Triggers,
};

use selkie_learn::SamplingSettings;

use crate::support::{Bench, ask, edit_of, passage, pieces, runtime, teaching, tokens};

fn with_triggers(prompt: Prompt, triggers: Triggers) -> GenerateRequest {
    let self_edit = SelfEditTerms {
        permission: Permission::Allow,
        scope: Scope::Session,
        triggers,
        ..SelfEditTerms::default()
    };
    GenerateRequest { session: Some("one".to_owned()), self_edit, ..ask(prompt) }
}

/// Tells a request, and what triggered in it.
fn triggered(bench: &Bench, request: GenerateRequest) -> (Vec<Piece>, Vec<(Trigger, String)>) {
    let mut trace = bench.live.trace();
    let told = pieces(&bench.live, request);
    let mut found = Vec::new();
    loop {
        match trace.next_blocking() {
            Some(TraceEvent { what: Happened::Triggered { trigger, why }, .. }) => found.push((trigger, why)),
            Some(TraceEvent { what: Happened::Ended { .. }, .. }) | None => return (told, found),
            Some(_) => {}
        }
    }
}

#[test]
fn a_new_document_is_learned_once() {
    let bench = Bench::new(Domain::Passage);
    let triggers = Triggers { document: true, ..Triggers::default() };
    let request = || with_triggers(Prompt::Item(Context::Passage(passage(11)), 0), triggers);
    let (told, first) = triggered(&bench, request());
    assert_eq!(first.len(), 1);
    let (trigger, why) = &first[0];
    assert_eq!(*trigger, Trigger::Document);
    assert!(why.ends_with("is new to base"), "{why}");
    let kept = told
        .iter()
        .any(|piece| matches!(piece, Piece::Event(event) if matches!(event.what, Happened::Kept { .. })));
    let (_, second) = triggered(&bench, request());
    assert_eq!(second.len(), usize::from(!kept), "{second:?}");
}

#[test]
fn a_model_that_does_not_give_the_answers_of_its_context_learns_them() {
    let bench = Bench::new(Domain::Puzzle);
    let puzzle = runtime(Domain::Puzzle).model.puzzle_world().unwrap().held_out_puzzle(0, 1);
    let triggers = Triggers { failed_grader: true, ..Triggers::default() };
    let (told, found) =
        triggered(&bench, with_triggers(Prompt::Item(Context::Puzzle(puzzle.clone()), 0), triggers));
    // If that did not help, the model may ask on its own.
    assert_eq!(
        found[0],
        (Trigger::FailedGrader, "0 of 1 known answers (held_out_example) are right".to_owned())
    );
    // The test's own answer is nothing that the request may learn from or be measured by.
    let scores = told.iter().find_map(|piece| match piece {
        Piece::Event(TraceEvent { what: Happened::Evaluated { scores, .. }, .. }) => Some(scores.clone()),
        _ => None,
    });
    let scores = scores.unwrap();
    assert_eq!((scores.measured.as_str(), scores.items), ("held_out_example", 1));
    let last = puzzle.train.last().unwrap();
    assert_eq!(scores.answers[0].expected, serde_json::json!(last.output));
    assert_eq!(scores.answers[0].input, Some(serde_json::json!(last.input)));
}

#[test]
fn low_confidence_is_noticed_before_anybody_reads_it() {
    let bench = Bench::new(Domain::Passage);
    let never = Triggers { low_confidence: Some((2, -1e9)), ..Triggers::default() };
    let always = Triggers { low_confidence: Some((2, 1.0)), ..Triggers::default() };
    let prompt = || Prompt::Text(passage(5).context);
    let (plain, found) = triggered(&bench, with_triggers(prompt(), never));
    assert_eq!(found, []);
    assert_eq!(tokens(&plain), tokens(&pieces(&bench.live, ask(prompt()))));
    let (told, found) = triggered(&bench, with_triggers(prompt(), always));
    assert_eq!(found[0].0, Trigger::LowConfidence);
    assert!(found[0].1.starts_with("the mean log-probability of 2 tokens is -"), "{}", found[0].1);
    // The first text that is told comes after the edit.
    let first_text = told.iter().position(|piece| matches!(piece, Piece::Text { .. })).unwrap();
    let resumed = told
        .iter()
        .position(|piece| matches!(piece, Piece::Event(TraceEvent { what: Happened::Resumed { .. }, .. })));
    assert!(resumed.unwrap() < first_text);
    // The budget has two edits, so that an answer ends.
    assert!(found.len() <= 3, "{found:?}");
    assert!(matches!(told.last(), Some(Piece::End(_))));
}

#[test]
fn a_low_confidence_that_may_not_edit_changes_nothing_of_the_answer() {
    // Nothing fits into its queue, so every edit is refused.
    let bench = Bench::with(Domain::Passage, |options| options.queue = 0);
    let always = Triggers { low_confidence: Some((2, 1.0)), ..Triggers::default() };
    let prompt = || Prompt::Text(passage(5).context);
    let drawn = SamplingSettings { temperature: 1.0, ..SamplingSettings::seeded(7) };
    for (stop, sampling) in [
        (Vec::new(), SamplingSettings::GREEDY),
        (vec![" the".to_owned()], SamplingSettings::GREEDY),
        (Vec::new(), drawn),
    ] {
        let plain = pieces(&bench.live, GenerateRequest { stop: stop.clone(), sampling, ..ask(prompt()) });
        let asking = GenerateRequest { stop, sampling, ..with_triggers(prompt(), always) };
        let (told, found) = triggered(&bench, asking);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(tokens(&told), tokens(&plain));
        assert_eq!(told.last(), plain.last());
    }
}

static NOW_MS: AtomicI64 = AtomicI64::new(1_000);

#[test]
fn sessions_and_approvals_end_when_their_time_is_over() {
    let bench = Bench::with(Domain::Passage, |options| {
        options.clock = || NOW_MS.load(Ordering::Relaxed);
        options.session_time_to_live = Duration::from_secs(60);
        options.approval_timeout = Duration::from_secs(5);
    });
    let context = Context::Passage(passage(0));
    let edit = EditRequest {
        scope: Scope::Session,
        session: Some("mine".to_owned()),
        ..edit_of(context.clone(), &teaching(0, 20))
    };
    let edit = bench.live.submit(edit).unwrap();
    assert_eq!(bench.live.finished_blocking(&edit).unwrap().state, EditState::Kept);
    let adapter = || {
        let request =
            GenerateRequest { session: Some("mine".to_owned()), ..ask(Prompt::Item(context.clone(), 0)) };
        bench.live.generate(request).unwrap().end_blocking().unwrap().adapter
    };
    assert_eq!(adapter(), "g1");
    NOW_MS.fetch_add(59_000, Ordering::Relaxed);
    // Its use makes it live on.
    assert_eq!(adapter(), "g1");
    NOW_MS.fetch_add(59_000, Ordering::Relaxed);
    assert_eq!(adapter(), "g1");
    NOW_MS.fetch_add(60_000, Ordering::Relaxed);
    assert_eq!(adapter(), "base");

    let asked = EditRequest { permission: Permission::Ask, ..edit_of(context.clone(), &teaching(0, 20)) };
    let edit = bench.live.submit(asked).unwrap();
    assert_eq!(bench.live.edit(&edit).unwrap().state, EditState::AwaitingApproval);
    NOW_MS.fetch_add(5_000, Ordering::Relaxed);
    // Too late, also where nobody has looked at the clock yet.
    let late = bench.live.approve(&edit, true).unwrap_err().to_string();
    assert_eq!(late, format!("self-edit `{edit}` does not wait for approval"));
    let status = bench.live.finished_blocking(&edit).unwrap();
    assert_eq!(
        (status.state, status.reason.as_deref()),
        (EditState::Refused, Some("nobody approved it in time"))
    );
}
