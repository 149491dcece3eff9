//! A reader beside a writer: it always gets an answer, and the answer is of one commit.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const KEEPS: u32 = 60;

#[test]
fn a_reader_sees_every_state_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    let done = AtomicBool::new(false);
    let reads = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let (mut reads, mut entries) = (0, 0);
            while !done.load(Ordering::Acquire) {
                let seen = check_readable(folder.path());
                assert!(seen.entries >= entries, "the ledger only grows");
                entries = seen.entries;
                reads += 1;
            }
            reads
        });
        for tag in 0..KEEPS {
            match tag % 3 {
                0 => drop(discard(&mut store, BASE, tag).unwrap()),
                _ => drop(keep(&mut store, BASE, tag).unwrap()),
            }
        }
        done.store(true, Ordering::Release);
        reading.join().unwrap()
    });
    assert!(reads > 1, "the reader got to read beside the writer");
    assert_eq!(check_settled(folder.path()).entries, KEEPS as usize);
}

#[test]
fn of_many_that_open_a_new_home_one_writes() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let barrier = std::sync::Barrier::new(8);
    let opened: Vec<Result<Store, Error>> = std::thread::scope(|scope| {
        let open = || {
            barrier.wait();
            Store::open(&home)
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(opened.iter().filter(|store| store.is_ok()).count(), 1);
    for error in opened.iter().filter_map(|store| store.as_ref().err()) {
        assert!(matches!(error, Error::Locked { .. }), "{error}");
    }
    drop(opened);
    drop(Store::open(&home).unwrap());
}
