//! Every step of every write, stopped: by a kill, after which nothing is cleaned up, and by a fault.

use super::*;
use crate::failpoints::{Failure, Step, arm};

/// A write that can be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    Keep,
    Discard,
    Refuse,
    Rollback,
}

impl Write {
    fn run(self, store: &mut Store) -> Result<(), Error> {
        match self {
            Write::Keep => keep(store, BASE, 3).map(drop),
            Write::Discard => discard(store, BASE, 3).map(drop),
            Write::Refuse => {
                let refusal = Refusal { reason: "no".to_owned(), problems: Vec::new() };
                store.begin(BASE)?.refuse(&record(3), &refusal).map(drop)
            }
            Write::Rollback => store.rollback(BASE, RollbackTo::Parent, 3).map(drop),
        }
    }

    /// The steps that it reaches, with the times that it reaches each.
    fn steps(self) -> &'static [(Step, u32)] {
        match self {
            Write::Keep => &[
                (Step::CreateFolder, 1),
                (Step::WriteFile, 2),
                (Step::SyncFile, 2),
                (Step::SyncFolder, 1),
                (Step::PublishAdapter, 1),
                (Step::SyncAdapters, 1),
                (Step::InsertEntry, 1),
                (Step::InsertFiles, 1),
                (Step::InsertGeneration, 1),
                (Step::MovePointer, 1),
                (Step::Commit, 1),
                (Step::Committed, 1),
            ],
            Write::Discard => &[
                (Step::CreateFolder, 1),
                (Step::WriteFile, 2),
                (Step::SyncFile, 2),
                (Step::SyncFolder, 1),
                (Step::PublishAdapter, 1),
                (Step::SyncAdapters, 1),
                (Step::InsertEntry, 1),
                (Step::Commit, 1),
                (Step::Committed, 1),
                (Step::RemoveFolder, 1),
            ],
            Write::Refuse => &[(Step::InsertEntry, 1), (Step::Commit, 1), (Step::Committed, 1)],
            Write::Rollback => {
                &[(Step::InsertEntry, 1), (Step::MovePointer, 1), (Step::Commit, 1), (Step::Committed, 1)]
            }
        }
    }
}

/// A home with two generations, the second active.
fn home() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    keep(&mut store, BASE, 1).unwrap();
    keep(&mut store, BASE, 2).unwrap();
    folder
}

/// What a home is after `write` went through undisturbed.
fn done(write: Write) -> Seen {
    let folder = home();
    write.run(&mut Store::open(folder.path()).unwrap()).unwrap();
    check_settled(folder.path())
}

/// Stops `write` and checks that it happened wholly, or not at all.
fn check(write: Write, step: Step, passes: u32, failure: Failure) {
    let folder = home();
    let old = check_settled(folder.path());
    let committed = matches!(step, Step::Committed | Step::RemoveFolder);
    let expected = if committed { done(write) } else { old };

    let mut store = Store::open(folder.path()).unwrap();
    let armed = arm(step, passes, failure);
    let stopped = write.run(&mut store);
    assert!(armed.fired(), "{write:?} never reaches {step:?} {passes}");
    // The removal after a discard is a courtesy: the entry is written, and the next open removes it.
    assert_eq!(stopped.is_ok(), step == Step::RemoveFolder, "{stopped:?}");
    if failure == Failure::Crash {
        drop(store);
        drop(armed);
        assert_eq!(check_readable(folder.path()), expected, "after the kill");
        store = Store::open(folder.path()).unwrap();
    } else {
        drop(armed);
    }
    if step == Step::RemoveFolder && failure == Failure::Fault {
        drop(store);
        store = Store::open(folder.path()).unwrap();
    }
    assert_eq!(check_settled(folder.path()), expected, "after recovery");
    // And the same write again works, whatever was left.
    write.run(&mut store).unwrap();
    assert_eq!(check_settled(folder.path()).entries, expected.entries + 1);
}

fn check_all(write: Write) {
    for failure in [Failure::Crash, Failure::Fault] {
        for step in Step::ALL {
            let times =
                write.steps().iter().find(|(reached, _)| *reached == step).map_or(0, |(_, times)| *times);
            for passes in 0..times {
                check(write, step, passes, failure);
            }
            // The list above is complete: there is no further time.
            let folder = home();
            let mut store = Store::open(folder.path()).unwrap();
            let armed = arm(step, times, failure);
            write.run(&mut store).unwrap();
            assert!(!armed.fired(), "{write:?} reaches {step:?} more than {times} times");
        }
    }
}

#[test]
fn keep_is_atomic() {
    check_all(Write::Keep);
}

#[test]
fn discard_is_atomic() {
    check_all(Write::Discard);
}

#[test]
fn refuse_is_atomic() {
    check_all(Write::Refuse);
}

#[test]
fn rollback_is_atomic() {
    check_all(Write::Rollback);
}

#[test]
fn making_a_home_is_atomic() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let armed = arm(Step::PublishLedger, 0, Failure::Crash);
    Store::open(&home).map(drop).unwrap_err();
    drop(armed);
    assert_eq!(names(&home.join("staging")), BTreeSet::from(["ledger.sqlite".to_owned()]));
    assert_eq!(check_readable(&home).entries, 0);
    keep(&mut Store::open(&home).unwrap(), BASE, 1).unwrap();
    check_settled(&home);
}

#[test]
fn recovery_can_die_too() {
    let folder = home();
    let old = check_settled(folder.path());
    let mut store = Store::open(folder.path()).unwrap();
    let armed = arm(Step::InsertEntry, 0, Failure::Crash);
    Write::Keep.run(&mut store).unwrap_err();
    drop((store, armed));
    let armed = arm(Step::RemoveFolder, 0, Failure::Crash);
    Store::open(folder.path()).map(drop).unwrap_err();
    drop(armed);
    assert_eq!(check_readable(folder.path()), old);
    assert_eq!(names(&folder.path().join("adapters")).len(), 3);
    drop(Store::open(folder.path()).unwrap());
    assert_eq!(check_settled(folder.path()), old);
}

#[test]
fn an_export_is_whole_or_not_there() {
    let folder = home();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("out");
    let reader = Store::read_only(folder.path()).unwrap();
    let g1 = reader.find_generation("g1").unwrap();
    for step in [Step::CreateFolder, Step::WriteFile, Step::SyncFile, Step::SyncFolder] {
        let armed = arm(step, 0, Failure::Crash);
        reader.export(g1.id, &target).unwrap_err();
        assert!(armed.fired());
        assert!(!target.exists(), "{step:?}");
    }
    reader.export(g1.id, &target).unwrap();
    assert_eq!(names(elsewhere.path()), BTreeSet::from(["out".to_owned()]));
}
