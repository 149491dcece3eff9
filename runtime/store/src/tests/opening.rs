//! Opening homes: new, foreign, broken, locked, of a later version, read-only.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::*;

fn told_by_open(home: &Path) -> String {
    told(&Store::open(home).map(drop).unwrap_err(), home)
}

fn told_by_read(home: &Path) -> String {
    told(&Store::read_only(home).map(drop).unwrap_err(), home)
}

#[test]
fn a_home_is_made_with_the_folders_above_it() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("a/b/home");
    drop(Store::open(&home).unwrap());
    assert_eq!(names(&home), ["adapters", "ledger.sqlite", "lock", "staging"].map(str::to_owned).into());
    assert_eq!(check_settled(&home).entries, 0);
}

#[test]
fn reading_makes_no_home() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    insta::assert_snapshot!(told_by_read(&home), @"there is no store at [home]: nothing was ever kept there, or the path is another");
    assert!(!home.exists());
}

#[test]
fn a_home_whose_first_writer_died_early_is_empty() {
    let check = |made: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        for name in made {
            match *name {
                "lock" => fs::write(folder.path().join(name), "").unwrap(),
                name => fs::create_dir(folder.path().join(name)).unwrap(),
            }
        }
        let before = names(folder.path());
        assert_eq!(Store::read_only(folder.path()).unwrap().log(9).unwrap(), []);
        assert_eq!(names(folder.path()), before);
        drop(Store::open(folder.path()).unwrap());
        check_settled(folder.path());
    };
    check(&[]);
    check(&["lock"]);
    check(&["lock", "staging"]);
    check(&["lock", "staging", "adapters"]);
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let check = |made: &str| {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join(made).join("0123456789abcdef0123456789abcdef");
        fs::create_dir_all(&inside).unwrap();
        let told = told_by_open(folder.path());
        assert_eq!(told, told_by_read(folder.path()));
        assert_eq!(names(folder.path()), BTreeSet::from([made.to_owned()]));
        assert!(inside.exists());
        told
    };
    insta::assert_snapshot!(check("photos"), @"[home] is not a store: it has `photos` in it and no ledger; choose a new or empty folder");
    insta::assert_snapshot!(check("adapters"), @"[home] is not a store: it has `adapters` in it and no ledger; choose a new or empty folder");
    insta::assert_snapshot!(check("staging"), @"[home] is not a store: it has `staging` in it and no ledger; choose a new or empty folder");
}

#[test]
fn what_this_crate_does_not_name_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path()).unwrap());
    let left = folder.path().join("adapters/0123456789abcdef0123456789abcdef");
    fs::create_dir(&left).unwrap();
    fs::write(folder.path().join("adapters/README"), "a person's").unwrap();
    fs::create_dir(folder.path().join("staging/notes")).unwrap();
    drop(Store::open(folder.path()).unwrap());
    assert!(!left.exists());
    assert_eq!(names(&folder.path().join("adapters")), BTreeSet::from(["README".to_owned()]));
    assert_eq!(names(&folder.path().join("staging")), BTreeSet::from(["notes".to_owned()]));
}

#[test]
fn a_lost_ledger_does_not_cost_the_adapters() {
    let folder = tempfile::tempdir().unwrap();
    let kept = keep(&mut Store::open(folder.path()).unwrap(), BASE, 1).unwrap();
    fs::remove_file(folder.path().join("ledger.sqlite")).unwrap();
    insta::assert_snapshot!(told_by_open(folder.path()), @"[home] has adapters but no ledger.sqlite: put the ledger back, or move the folder away and start anew");
    assert_eq!(told_by_open(folder.path()), told_by_read(folder.path()));
    assert!(folder.path().join("adapters").join(kept.adapter.as_str()).exists());
    fs::remove_dir_all(folder.path().join("adapters")).unwrap();
    fs::write(folder.path().join("ledger.sqlite-wal"), "").unwrap();
    assert!(told_by_open(folder.path()).contains("no ledger.sqlite"));
}

#[test]
fn a_file_where_a_folder_is_needed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    insta::assert_snapshot!(told_by_open(&file), @"[home] is a file, and a store needs a folder there");
    insta::assert_snapshot!(told_by_read(&file), @"[home] is a file, and a store needs a folder there");
    insta::assert_snapshot!(told(&Store::open(file.join("home")).map(drop).unwrap_err(), folder.path()), @"[home]/file is a file, and a store needs a folder there");
    let home = folder.path().join("home");
    drop(Store::open(&home).unwrap());
    fs::remove_dir(home.join("adapters")).unwrap();
    fs::write(home.join("adapters"), "").unwrap();
    insta::assert_snapshot!(told_by_open(&home), @"[home]/adapters is a file, and a store needs a folder there");
}

#[test]
fn what_is_no_ledger_is_not_touched() {
    let check = |make: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger.sqlite");
        make(&ledger);
        // Besides SQLite's own, which it makes beside any database that it reads.
        let names = || names(folder.path()).into_iter().filter(|name| !name.starts_with("ledger.sqlite-"));
        let (bytes, before) = (fs::read(&ledger).unwrap(), names().collect::<Vec<_>>());
        let told = told_by_open(folder.path());
        assert_eq!(told, told_by_read(folder.path()));
        assert!(fs::read(&ledger).unwrap() == bytes, "{told}");
        assert_eq!(names().collect::<Vec<_>>(), before);
        told
    };
    let text =
        check(&|ledger| fs::write(ledger, "not a database, but long enough for a header".repeat(9)).unwrap());
    insta::assert_snapshot!(text, @"[home]/ledger.sqlite is not a ledger of selkie");
    let foreign = check(&|ledger| {
        let connection = rusqlite::Connection::open(ledger).unwrap();
        connection.execute_batch("CREATE TABLE notes (text)").unwrap();
    });
    insta::assert_snapshot!(foreign, @"[home]/ledger.sqlite is not a ledger of selkie");
    let newer = check(&|ledger| {
        drop(Store::open(ledger.parent().unwrap()).unwrap());
        let connection = rusqlite::Connection::open(ledger).unwrap();
        connection.execute_batch("PRAGMA user_version = 2").unwrap();
    });
    insta::assert_snapshot!(newer, @"[home]/ledger.sqlite has format 2, and this selkie knows up to 1: use the version that wrote it");
    assert!(check(&|ledger| fs::write(ledger, "").unwrap()).contains("is not a ledger"));
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    keep(&mut store, BASE, 1).unwrap();
    insta::assert_snapshot!(told_by_open(folder.path()), @"the store at [home] is being written by another process: wait until it ends, or use another home folder");
    let candidate = store.begin(BASE).unwrap().stage(&files(2)).unwrap();
    assert_eq!(check_readable(folder.path()).entries, 1);
    candidate.keep(&record(0), &trial()).unwrap();
    drop(store);
    keep(&mut Store::open(folder.path()).unwrap(), BASE, 3).unwrap();
}

/// How a home is left to somebody who may only read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// By a writer that ended.
    Closed,
    /// By one that is there still.
    Open,
    /// By one that was killed, with its last commits in the log alone.
    Killed,
}

#[test]
fn a_home_that_may_not_be_written_can_be_read() {
    for left in [Left::Closed, Left::Open, Left::Killed] {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("50% #1?");
        let mut store = Store::open(&home).unwrap();
        keep(&mut store, BASE, 1).unwrap();
        let logs = ["ledger.sqlite-wal", "ledger.sqlite-shm"].map(|name| home.join(name));
        let saved = logs.clone().map(|log| fs::read(log).unwrap());
        let store = (left == Left::Open).then_some(store);
        for (log, bytes) in logs.iter().zip(saved) {
            if left == Left::Killed {
                fs::write(log, bytes).unwrap();
            }
            assert_eq!(log.exists(), left != Left::Closed);
        }
        let succeeded = read_without_rights(folder.path(), &home);
        assert!(succeeded, "{left:?}");
        drop(store);
        drop(Store::open(&home).unwrap());
        assert_eq!(check_settled(&home).entries, 1);
    }
}

fn read_without_rights(folder: &Path, home: &Path) -> bool {
    let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set_mode(folder, 0o755);
    set_mode(home, 0o555);
    // A privileged user writes anywhere, so that one reads in a process of the user `nobody`.
    let privileged = fs::write(home.join("probe"), "").is_ok();
    let mut child = Command::new(std::env::current_exe().unwrap());
    if privileged {
        fs::remove_file(home.join("probe")).unwrap();
        child.uid(65534).gid(65534);
    }
    child.args(["--exact", "tests::opening::child_without_rights", "--nocapture"]).env(READ_ONLY_HOME, home);
    let status = child.status().unwrap();
    set_mode(home, 0o755);
    status.success()
}

/// Where the parent of [`child_without_rights`] says which home it is about.
const READ_ONLY_HOME: &str = "SELKIE_STORE_TEST_READ_ONLY_HOME";

/// The other half of the test above; does nothing when run by itself.
#[test]
fn child_without_rights() {
    let Some(home) = std::env::var_os(READ_ONLY_HOME) else { return };
    let home = Path::new(&home);
    assert_eq!(check_readable(home).entries, 1);
    let refused = told_by_open(home);
    assert_eq!(refused, "cannot open [home]/lock: Permission denied (os error 13)");
}
