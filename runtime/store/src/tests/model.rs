//! Any sequence of writes, crashes and reopenings, against a model of a few lines.

use proptest::prelude::*;

use super::*;
use crate::failpoints::{Failure, Step, arm};

/// One thing that is done to a store.
#[derive(Debug, Clone)]
enum Act {
    Keep(u32),
    Discard(u32),
    Drop(u32),
    Refuse,
    ToParent,
    ToBase,
    To(i64),
    Reopen,
}

/// An act on one of two base models, perhaps stopped at a step.
type Move = (Act, bool, Option<(Step, Failure)>);

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let act = prop_oneof![
        5 => (0..6u32).prop_map(Act::Keep),
        3 => (0..6u32).prop_map(Act::Discard),
        1 => (0..6u32).prop_map(Act::Drop),
        1 => Just(Act::Refuse),
        2 => Just(Act::ToParent),
        1 => Just(Act::ToBase),
        2 => (1..8i64).prop_map(Act::To),
        1 => Just(Act::Reopen),
    ];
    let failure = prop_oneof![Just(Failure::Crash), Just(Failure::Fault)];
    // Of the steps that decide little, `WriteFile` and `RemoveFolder` stand for the others.
    let step = prop::sample::select(vec![
        Step::WriteFile,
        Step::PublishAdapter,
        Step::SyncAdapters,
        Step::InsertGeneration,
        Step::MovePointer,
        Step::Commit,
        Step::Committed,
        Step::RemoveFolder,
    ]);
    prop::collection::vec((act, any::<bool>(), prop::option::weighted(0.4, (step, failure))), 1..25)
}

/// What a store is, without disks.
#[derive(Default)]
struct Model {
    entries: usize,
    /// Base, parent, tag.
    generations: Vec<(&'static str, Option<i64>, u32)>,
    active: BTreeMap<&'static str, i64>,
}

impl Model {
    /// Whether the act is one that a store does, rather than refuses.
    fn apply(&mut self, act: &Act, base: &'static str) -> bool {
        let active = self.active.get(base).copied();
        let target = match act {
            Act::Keep(tag) => {
                self.generations.push((base, active, *tag));
                Some(self.generations.len() as i64)
            }
            Act::Discard(_) | Act::Refuse => active,
            Act::Drop(_) | Act::Reopen => return true,
            Act::ToBase if active.is_none() => return false,
            Act::ToBase => None,
            Act::ToParent => match active {
                Some(id) => self.generations[id as usize - 1].1,
                None => return false,
            },
            Act::To(id) => match self.generations.get(*id as usize - 1) {
                Some((of, ..)) if *of == base && active != Some(*id) => Some(*id),
                _ => return false,
            },
        };
        self.entries += 1;
        match target {
            Some(id) => self.active.insert(base, id),
            None => self.active.remove(base),
        };
        true
    }

    fn check(&self, seen: &Seen) {
        assert_eq!(seen.entries, self.entries);
        let generations: Vec<_> =
            seen.generations.iter().map(|found| (found.parent, &found.adapter)).collect();
        let ids: Vec<_> = self
            .generations
            .iter()
            .map(|found| crate::adapter::Manifest::of(&files(found.2)).unwrap().id)
            .collect();
        let expected: Vec<_> =
            self.generations.iter().zip(&ids).map(|(found, id)| (found.1.map(GenerationId), id)).collect();
        assert_eq!(generations, expected);
        let active: BTreeMap<&str, i64> =
            seen.active.iter().map(|(base, id)| (base.as_str(), id.0)).collect();
        assert_eq!(active, self.active.iter().map(|(base, id)| (*base, *id)).collect());
    }
}

fn run(store: &mut Store, act: &Act, base: &str) -> Result<(), Error> {
    match act {
        Act::Keep(tag) => keep(store, base, *tag).map(drop),
        Act::Discard(tag) => discard(store, base, *tag).map(drop),
        Act::Drop(tag) => store.begin(base)?.stage(&files(*tag)).map(drop),
        Act::Refuse => {
            let refusal = Refusal { reason: "no".to_owned(), problems: Vec::new() };
            store.begin(base)?.refuse(&record(0), &refusal).map(drop)
        }
        Act::ToParent => store.rollback(base, RollbackTo::Parent, 0).map(drop),
        Act::ToBase => store.rollback(base, RollbackTo::Base, 0).map(drop),
        Act::To(id) => store.rollback(base, RollbackTo::Generation(GenerationId(*id)), 0).map(drop),
        Act::Reopen => Ok(()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_store_does_what_the_model_does(moves in moves()) {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let mut store = Some(Store::open(folder.path()).unwrap());
        for (act, other, stop) in moves {
            let base = if other { OTHER } else { BASE };
            let mut open = store.take().unwrap();
            let armed = stop.map(|(step, failure)| (step, failure, arm(step, 0, failure)));
            let result = run(&mut open, &act, base);
            let stopped = armed.as_ref().filter(|(.., armed)| armed.fired()).map(|(step, failure, _)| (*step, *failure));
            match stopped {
                None => prop_assert_eq!(result.is_ok(), model.apply(&act, base), "{:?}: {:?}", act, result),
                Some((Step::Committed, _)) => {
                    prop_assert!(model.apply(&act, base) && result.is_err());
                }
                // In the clean-up after a discard or a drop, which never makes them fail; or before staging.
                Some((Step::RemoveFolder, _)) if result.is_ok() => prop_assert!(model.apply(&act, base)),
                Some(_) => prop_assert!(result.is_err()),
            }
            let crashed = stopped.is_some_and(|(_, failure)| failure == Failure::Crash);
            let reopen = crashed || stopped.is_some_and(|(step, _)| step == Step::RemoveFolder);
            if reopen || matches!(act, Act::Reopen) {
                // As a crash leaves it: the guard says until here that nothing is to be cleaned up.
                drop(open);
                drop(armed);
                model.check(&check_readable(folder.path()));
                open = Store::open(folder.path()).unwrap();
            } else {
                drop(armed);
            }
            model.check(&check_settled(folder.path()));
            store = Some(open);
        }
    }
}
