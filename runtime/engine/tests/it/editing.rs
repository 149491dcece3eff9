//! Self-edits of a live runtime: called for from outside, and in the middle of an answer.

use selkie_edit::{Context, Domain};
use selkie_engine::live::{
    AdapterChoice, Budget, EditRequest, EditState, EditText, EndReason, GenerateRequest, Happened, Kv,
    LiveError, Permission, Piece, Prompt, Scope, SelfEditTerms, Triggers,
};
use selkie_store::{Outcome, RollbackTo, Store};

use crate::support::{Bench, ask, edit_of, passage, pieces, runtime, teaching, tokens};

#[test]
fn an_edit_is_applied_used_and_rolled_back() {
    let bench = Bench::new(Domain::Passage);
    let context = Context::Passage(passage(0));
    let question = ask(Prompt::Item(context.clone(), 0));
    let before = bench.says(question.clone());
    let edit = bench.live.submit(edit_of(context.clone(), &teaching(0, 20))).unwrap();
    let status = bench.live.finished_blocking(&edit).unwrap();
    assert_eq!((status.state, status.generation.as_deref()), (EditState::Kept, Some("g1")), "{status:?}");
    assert_eq!(status.losses.len() as u64, status.steps.1);
    assert_eq!(bench.live.active().unwrap(), "g1");
    let Context::Passage(known) = &context else { unreachable!() };
    assert_eq!(bench.says(question.clone()), known.questions[0].answer);
    let named =
        |name: &str| GenerateRequest { adapter: AdapterChoice::Named(name.to_owned()), ..question.clone() };
    assert_eq!(bench.says(named("base")), before);

    assert_eq!(bench.live.rollback(RollbackTo::Parent).unwrap(), "base");
    assert_eq!(bench.says(question.clone()), before);
    assert_eq!(bench.says(named("g1")), known.questions[0].answer);
    let cards = bench.live.adapters().unwrap();
    let names: Vec<_> =
        cards.iter().map(|card| (card.name.as_str(), card.parent.as_deref(), card.active)).collect();
    assert_eq!(names, [("base", None, true), ("g1", Some("base"), false)]);
    let events = bench.live.edit_events(&edit).unwrap();
    let kinds: Vec<String> = events.iter().map(|event| word(&event.what)).collect();
    let steps = kinds.iter().filter(|kind| *kind == "training_step").count() as u64;
    assert_eq!(steps, status.steps.1);
    let others: Vec<&str> =
        kinds.iter().map(String::as_str).filter(|kind| *kind != "training_step").collect();
    assert_eq!(others, ["triggered", "proposed", "queued", "dataset", "evaluated", "evaluated", "kept"]);
    assert!(events.windows(2).all(|pair| pair[0].number < pair[1].number));
}

fn word(what: &Happened) -> String {
    serde_json::to_value(what).unwrap()["event"].as_str().unwrap().to_owned()
}

#[test]
fn refusals_change_nothing_and_say_what_to_do() {
    let bench = Bench::with(Domain::Passage, |options| options.budget.steps = 20);
    let context = || Context::Passage(passage(0));
    let given = |text: &str| edit_of(context(), text);
    let error = bench.live.submit(given(r#"{"version":2,"data":{}}"#)).unwrap_err();
    assert!(matches!(&error, LiveError::Refused(problems) if !problems.0.is_empty()), "{error}");
    let denied = EditRequest { permission: Permission::Deny, ..given(&teaching(0, 1)) };
    assert_eq!(
        bench.live.submit(denied).unwrap_err().to_string(),
        "self-edits are not allowed by the request"
    );

    let edit = bench.live.submit(given(&teaching(0, 20))).unwrap();
    let status = bench.live.finished_blocking(&edit).unwrap();
    assert_eq!(status.state, EditState::Refused);
    insta::assert_snapshot!(
        status.reason.unwrap(),
        @"the self-edit asks for 100 steps of training; the budget has 20 left: ask for fewer epochs, less data or a larger batch"
    );
    // A client's budget cannot widen the operator's.
    let wide =
        EditRequest { budget: Budget { steps: 10_000, ..Budget::default() }, ..given(&teaching(0, 20)) };
    let edit = bench.live.submit(wide).unwrap();
    assert_eq!(bench.live.finished_blocking(&edit).unwrap().state, EditState::Refused);
    // Measuring is looked at too, before every question.
    let hasty =
        EditRequest { budget: Budget { seconds: 0.0, ..Budget::default() }, ..given(&teaching(0, 2)) };
    let status = bench.live.finished_blocking(&bench.live.submit(hasty).unwrap()).unwrap();
    assert_eq!((status.state, status.before, status.losses), (EditState::Refused, None, Vec::new()));
    assert!(status.reason.unwrap().contains(" seconds of training; the budget has 0 left"));
    assert_eq!(bench.live.active().unwrap(), "base");
    assert_eq!(bench.live.stats().refused, 3);
}

#[test]
fn an_edit_waits_for_approval_where_it_must() {
    let bench = Bench::new(Domain::Passage);
    let asked = || EditRequest {
        permission: Permission::Ask,
        ..edit_of(Context::Passage(passage(0)), &teaching(0, 20))
    };
    let (yes, no) = (bench.live.submit(asked()).unwrap(), bench.live.submit(asked()).unwrap());
    assert_eq!(bench.live.edit(&yes).unwrap().state, EditState::AwaitingApproval);
    bench.live.approve(&no, false).unwrap();
    bench.live.approve(&yes, true).unwrap();
    assert_eq!(bench.live.edit(&no).unwrap().state, EditState::Refused);
    assert_eq!(bench.live.finished_blocking(&yes).unwrap().state, EditState::Kept);
    let again = bench.live.approve(&yes, true).unwrap_err().to_string();
    assert_eq!(again, format!("self-edit `{yes}` does not wait for approval"));

    // What the model writes is shown before it is trained.
    let by_model = EditRequest { edit: EditText::Model, ..asked() };
    let edit = bench.live.submit(by_model).unwrap();
    let text = loop {
        let status = bench.live.edit(&edit).unwrap();
        match status.state {
            EditState::AwaitingApproval => break status.text.unwrap(),
            EditState::Queued => std::thread::yield_now(),
            other => panic!("{other:?}: {:?}", status.reason),
        }
    };
    assert!(bench.live.check(&text, Domain::Passage).is_ok(), "{text}");
    bench.live.approve(&edit, false).unwrap();

    // What a model wrote is in the ledger, also where a person said no; what a person gave is not.
    bench.live.shutdown(true);
    let entries = bench.live.log(10).unwrap();
    let refused: Vec<_> = entries
        .iter()
        .filter_map(|entry| match &entry.episode()?.outcome {
            Outcome::Refused(refusal) => Some((entry.episode()?.record.edit.text.as_str(), &*refusal.reason)),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [(text.as_str(), "it was not approved")]);
}

#[test]
fn edits_of_a_session_build_on_each_other() {
    let bench = Bench::new(Domain::Passage);
    let edit = |index| EditRequest {
        scope: Scope::Session,
        session: Some("mine".to_owned()),
        ..edit_of(Context::Passage(passage(index)), &teaching(index, 20))
    };
    // The second is asked for before the first has begun.
    let edits = [0, 1].map(|index| bench.live.submit(edit(index)).unwrap());
    for edit in &edits {
        assert_eq!(bench.live.finished_blocking(edit).unwrap().state, EditState::Kept);
    }
    let cards = bench.live.adapters().unwrap();
    let parents: Vec<_> = cards.iter().map(|card| (card.name.as_str(), card.parent.as_deref())).collect();
    assert_eq!(parents, [("base", None), ("g2", Some("g1")), ("g1", Some("base"))]);
    let mine = AdapterChoice::Active;
    assert_eq!(bench.live.adapter_name(&mine, Some("mine")).unwrap(), "g2");
}

#[test]
fn who_waits_for_an_edit_takes_no_place_and_is_forgotten_when_it_leaves() {
    let bench = Bench::with(Domain::Passage, |options| {
        (options.streams, options.waiting, options.queue) = (1, 0, 1);
    });
    let asks = GenerateRequest {
        self_edit: SelfEditTerms {
            permission: Permission::Ask,
            ..learns_on_the_way(0, 0, Kv::Keep).self_edit
        },
        ..learns_on_the_way(0, 0, Kv::Keep)
    };
    let mut trace = bench.live.trace();
    let mut waiting = bench.live.generate(asks).unwrap();
    let edit = loop {
        if let Piece::Event(event) = waiting.next_blocking().unwrap()
            && event.what == Happened::AwaitingApproval
        {
            break event.edit.unwrap();
        }
    };
    let other = ask(Prompt::Item(Context::Passage(passage(0)), 0));
    assert!(!bench.says(other.clone()).is_empty());

    let gone = waiting.request().to_owned();
    drop(waiting);
    loop {
        let event = trace.next_blocking().unwrap();
        if event.request.as_ref() == Some(&gone) && matches!(event.what, Happened::Ended { .. }) {
            assert_eq!(event.what, Happened::Ended { reason: "cancelled".to_owned(), tokens: 0 });
            break;
        }
    }
    let reply = bench.live.generate(other).unwrap();
    assert_eq!(reply.end_blocking().unwrap().reason, EndReason::Stop);
    // The one place for an edit that waits is free again too.
    let status = bench.live.finished_blocking(&edit).unwrap();
    assert_eq!(status.reason.as_deref(), Some("the request that it was for has gone"));
    let asked =
        EditRequest { permission: Permission::Ask, ..edit_of(Context::Passage(passage(0)), &teaching(0, 4)) };
    bench.live.submit(asked).unwrap();
}

#[test]
fn a_full_queue_says_when_to_come_back_and_loses_nothing() {
    let bench = Bench::with(Domain::Passage, |options| options.queue = 2);
    let submit = || bench.live.submit(edit_of(Context::Passage(passage(0)), &teaching(0, 4)));
    let mut taken = Vec::new();
    let full = loop {
        match submit() {
            Ok(edit) => taken.push(edit),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, LiveError::Busy { what: "the queue of self-edits", limit: 2, .. }), "{full}");
    for edit in &taken {
        assert!(bench.live.finished_blocking(edit).unwrap().state.is_over());
    }
}

#[test]
fn rolling_back_waits_for_the_edit_that_runs_and_not_in_any_number() {
    let bench = Bench::with(Domain::Passage, |options| options.queue = 1);
    // It runs for as long as it is needed.
    let documents: Vec<String> = (64..71).map(|times| "The home of Ada is Oslo. ".repeat(times)).collect();
    let long = serde_json::json!({
        "version": 1,
        "data": { "include_source": false, "documents": documents },
        "training": { "epochs": 50, "batch_size": 1 },
    });
    let mut trace = bench.live.trace();
    bench.live.submit(edit_of(Context::Passage(passage(0)), &long.to_string())).unwrap();
    while !matches!(trace.next_blocking().unwrap().what, Happened::TrainingStep { .. }) {}
    let (told, said) = std::sync::mpsc::channel();
    for _ in 0..3 {
        let (live, told) = (bench.live.clone(), told.clone());
        std::thread::spawn(move || told.send(live.rollback(RollbackTo::Parent).unwrap_err().to_string()));
    }
    for _ in 0..2 {
        assert_eq!(said.recv().unwrap(), "the queue of self-edits is full (1); try again in 1 s");
    }
    bench.live.shutdown(false);
    let done = said.recv().unwrap();
    assert!(done.starts_with("nothing to roll back: no generation of the base model"), "{done}");
}

#[test]
fn a_session_has_an_adapter_of_its_own() {
    let bench = Bench::new(Domain::Passage);
    let context = Context::Passage(passage(0));
    let edit = EditRequest {
        scope: Scope::Session,
        session: Some("mine".to_owned()),
        ..edit_of(context.clone(), &teaching(0, 20))
    };
    let edit = bench.live.submit(edit).unwrap();
    assert_eq!(bench.live.finished_blocking(&edit).unwrap().state, EditState::Kept);
    assert_eq!(bench.live.active().unwrap(), "base");
    let Context::Passage(known) = &context else { unreachable!() };
    let question = |session: Option<&str>| GenerateRequest {
        session: session.map(str::to_owned),
        ..ask(Prompt::Item(context.clone(), 0))
    };
    let (mine, others) = (bench.says(question(Some("mine"))), bench.says(question(Some("yours"))));
    assert_eq!(mine, known.questions[0].answer);
    assert_eq!(others, bench.says(question(None)));
    assert_ne!(mine, others);
}

#[test]
fn adapters_are_loaded_up_to_a_number() {
    let bench = Bench::new(Domain::Passage);
    let edit = bench.live.submit(edit_of(Context::Passage(passage(0)), &teaching(0, 20))).unwrap();
    assert_eq!(bench.live.finished_blocking(&edit).unwrap().state, EditState::Kept);
    let store = Store::read_only(&bench.live.options().home).unwrap();
    let folder = bench.home.path().join("folder");
    store.export(store.find_generation("g1").unwrap().id, &folder).unwrap();
    for number in 0..64 {
        bench.live.load_adapter(&format!("a{number}"), &folder).unwrap();
    }
    assert_eq!(
        bench.live.load_adapter("one_more", &folder).unwrap_err().to_string(),
        "`one_more` cannot be an adapter's name: 64 adapters are loaded already; unload one first"
    );
    // The same name takes no more room.
    bench.live.load_adapter("a5", &folder).unwrap();
    bench.live.unload_adapter("a5").unwrap();
    bench.live.load_adapter("one_more", &folder).unwrap();
}

/// A request that learns the passage in its middle, by a document trigger and the model's own edit.
fn learns_on_the_way(index: u64, place: usize, kv: Kv) -> GenerateRequest {
    GenerateRequest {
        self_edit: SelfEditTerms {
            permission: Permission::Allow,
            scope: Scope::Request,
            kv,
            triggers: Triggers { document: true, ..Triggers::default() },
            context: Some(Context::Passage(passage(index))),
            ..SelfEditTerms::default()
        },
        ..ask(Prompt::Item(Context::Passage(passage(index)), place))
    }
}

fn generation(pieces: &[Piece]) -> Option<String> {
    pieces.iter().find_map(|piece| match piece {
        Piece::Event(event) => match &event.what {
            Happened::Kept { generation, .. } => Some(generation.clone()),
            _ => None,
        },
        _ => None,
    })
}

#[test]
fn recomputing_says_exactly_what_a_fresh_run_with_the_new_adapter_says() {
    let bench = Bench::new(Domain::Passage);
    let mut kept = 0;
    for index in 0..6 {
        let told = pieces(&bench.live, learns_on_the_way(index, 0, Kv::Recompute));
        let Some(generation) = generation(&told) else { continue };
        kept += 1;
        let fresh = GenerateRequest {
            adapter: AdapterChoice::Named(generation),
            ..ask(Prompt::Item(Context::Passage(passage(index)), 0))
        };
        assert_eq!(tokens(&told), tokens(&pieces(&bench.live, fresh)));
        let Some(Piece::End(end)) = told.last() else { panic!("{told:?}") };
        assert_ne!(end.adapter, "base");
    }
    assert!(kept >= 1, "no edit of six was kept, so nothing was compared");
    // What a request learned is its own.
    assert_eq!(bench.live.active().unwrap(), "base");
}

#[test]
fn a_trace_tells_an_episode_from_beginning_to_end() {
    let bench = Bench::new(Domain::Passage);
    let told = pieces(&bench.live, learns_on_the_way(0, 0, Kv::Keep));
    let kinds: Vec<String> = told
        .iter()
        .filter_map(|piece| match piece {
            Piece::Event(event) => Some(word(&event.what)),
            _ => None,
        })
        .filter(|kind| kind != "training_step")
        .collect();
    let verdict = if generation(&told).is_some() { "kept" } else { "rolled_back" };
    let ends = ["queued", "proposed", "dataset", "evaluated", "evaluated", verdict, "resumed"];
    assert!(kinds.ends_with(&ends.map(str::to_owned)), "{kinds:?}");
}

#[test]
fn denied_edits_never_run_and_the_answer_is_that_of_the_model_alone() {
    let plain = Bench::new(Domain::Passage).says(ask(Prompt::Item(Context::Passage(passage(0)), 0)));
    let bench = Bench::with(Domain::Passage, |options| options.permission = Permission::Deny);
    let told = pieces(&bench.live, learns_on_the_way(0, 0, Kv::Recompute));
    assert!(told.iter().all(|piece| !matches!(piece, Piece::Event(_))), "{told:?}");
    let Some(Piece::End(end)) = told.last() else { panic!("{told:?}") };
    assert_eq!(end.text, plain);
    assert_eq!(bench.live.edits(), []);
}

#[test]
fn a_stop_finishes_or_abandons_the_running_edit_and_the_home_is_whole() {
    for finish in [true, false] {
        let bench = Bench::new(Domain::Passage);
        let mut trace = bench.live.trace();
        let edit = bench.live.submit(edit_of(Context::Passage(passage(0)), &teaching(0, 40))).unwrap();
        let waiting = bench.live.submit(edit_of(Context::Passage(passage(1)), &teaching(1, 40))).unwrap();
        let asked = EditRequest {
            permission: Permission::Ask,
            ..edit_of(Context::Passage(passage(1)), &teaching(1, 40))
        };
        let asked = bench.live.submit(asked).unwrap();
        while !matches!(trace.next_blocking().unwrap().what, Happened::TrainingStep { .. }) {}
        bench.live.shutdown(finish);
        let status = bench.live.edit(&edit).unwrap();
        let expected = if finish { EditState::Kept } else { EditState::Refused };
        assert_eq!(status.state, expected, "{status:?}");
        for edit in [&waiting, &asked] {
            let status = bench.live.edit(edit).unwrap();
            assert_eq!(status.state, EditState::Refused);
            assert_eq!(status.reason.as_deref(), Some("the runtime is shutting down"));
        }
        assert!(matches!(bench.live.approve(&asked, true), Err(LiveError::Closed)));
        assert!(matches!(bench.live.generate(ask(Prompt::Text("a".into()))), Err(LiveError::Closed)));
        let store = Store::open(bench.home.path().join("home")).unwrap();
        let active = store.active(runtime(Domain::Passage).model.digest()).unwrap();
        assert_eq!(active.map(|generation| generation.id.to_string()), status.generation);
    }
}
