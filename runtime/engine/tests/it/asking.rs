//! pup asks by itself for a self-edit, where it cannot know the rule of a puzzle.

use selkie_edit::{Context, Domain};
use selkie_engine::live::{
    Budget, EndReason, GenerateRequest, Happened, Permission, Piece, Prompt, Scope, SelfEditTerms, TraceEvent,
};

use crate::support::{Bench, ask, pieces, runtime};

fn request(index: u64, permission: Permission, steps: u64) -> GenerateRequest {
    let puzzle = runtime(Domain::Puzzle).model.puzzle_world().unwrap().held_out_puzzle(index, 1);
    GenerateRequest {
        self_edit: SelfEditTerms {
            permission,
            scope: Scope::Request,
            budget: Budget { steps, ..Budget::default() },
            ..SelfEditTerms::default()
        },
        ..ask(Prompt::Item(Context::Puzzle(puzzle), 0))
    }
}

fn kinds(told: &[Piece]) -> Vec<String> {
    let kind = |piece: &Piece| match piece {
        Piece::Event(TraceEvent { what, .. }) => {
            Some(serde_json::to_value(what).unwrap()["event"].as_str().unwrap().to_owned())
        }
        _ => None,
    };
    told.iter().filter_map(kind).filter(|kind| kind != "training_step").collect()
}

#[test]
fn a_puzzle_of_an_unknown_rule_makes_it_ask_and_a_refusal_makes_it_answer() {
    let bench = Bench::new(Domain::Puzzle);
    for index in 0..4 {
        let told = pieces(&bench.live, request(index, Permission::Allow, 1));
        let kinds = kinds(&told);
        assert_eq!(kinds.first().map(String::as_str), Some("triggered"), "puzzle {index}");
        assert_eq!(kinds.last().map(String::as_str), Some("resumed"), "puzzle {index}");
        let Some(Piece::End(end)) = told.last() else { panic!("{told:?}") };
        let rows: Vec<Vec<u8>> = serde_json::from_str(&end.text).unwrap();
        assert!(!rows.is_empty(), "it answers as well as it can");
    }
    // Each asks as often as its budget of edits allows.
    let refused = bench.live.edits();
    assert_eq!(refused.len(), 4 * Budget::default().edits as usize);
    assert!(refused.iter().all(|edit| edit.trigger == selkie_engine::live::Trigger::Model));
    assert_eq!(bench.live.active().unwrap(), "base");
}

#[test]
fn an_answer_without_room_for_more_ends_and_edits_nothing() {
    let bench = Bench::new(Domain::Puzzle);
    let told =
        pieces(&bench.live, GenerateRequest { max_tokens: Some(1), ..request(0, Permission::Allow, 750) });
    let [Piece::End(end)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((end.reason.clone(), end.tokens), (EndReason::Length, 1));
    assert_eq!(bench.live.edits(), []);
}

#[test]
fn without_permission_it_does_not_ask() {
    let bench = Bench::new(Domain::Puzzle);
    let mut trace = bench.live.trace();
    let told = pieces(&bench.live, request(0, Permission::Deny, 1));
    assert_eq!(kinds(&told), Vec::<String>::new());
    loop {
        match trace.next_blocking().unwrap().what {
            Happened::Triggered { trigger, .. } => panic!("{trigger:?}"),
            Happened::Ended { .. } => break,
            _ => {}
        }
    }
}
