//! A disk that takes no more: the process goes on, and so does the store.
//!
//! A limit on file sizes stands for the full disk: the system refuses the write in the same way, and no test
//! needs rights for it.

use std::process::Command;

use super::*;

/// Where the parent of [`child_with_a_full_disk`] says which home it is about.
const HOME: &str = "SELKIE_STORE_TEST_FULL_DISK_HOME";

#[test]
fn a_full_disk_costs_one_candidate() {
    let folder = tempfile::tempdir().unwrap();
    keep(&mut Store::open(folder.path()).unwrap(), BASE, 1).unwrap();
    // 1000 blocks of 512 bytes or of 1024, by the shell. Ignored signals stay ignored over an exec.
    let output = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 1000; exec \"$0\" --exact tests::full_disk::child_with_a_full_disk",
        ])
        .arg(std::env::current_exe().unwrap())
        .env(HOME, folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(check_settled(folder.path()).entries, 3);
}

/// The other half of the test above; does nothing when run by itself.
#[test]
fn child_with_a_full_disk() {
    let Some(home) = std::env::var_os(HOME) else { return };
    let home = Path::new(&home);
    let mut store = Store::open(home).unwrap();

    let large = vec![("weights".to_owned(), vec![7; 4 << 20])];
    let error = store.begin(BASE).unwrap().stage(&large).map(drop).unwrap_err();
    insta::assert_snapshot!(told(&error, home), @"cannot write [home]/staging/3a61f37f5e09464fa1eae1f7038353fc/weights: File too large (os error 27)");
    check_settled(home);
    keep(&mut store, BASE, 2).unwrap();

    let mut long = record(0);
    long.edit.text = "x".repeat(4 << 20);
    let candidate = store.begin(BASE).unwrap().stage(&files(3)).unwrap();
    let error = candidate.keep(&long, &trial()).unwrap_err();
    assert!(matches!(error, Error::Ledger { .. }), "{error}");
    check_settled(home);
    keep(&mut store, BASE, 4).unwrap();
}
