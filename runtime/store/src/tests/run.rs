//! The ledger of a run: what goes in comes back, once, whole, in whatever order and however often it is killed.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::kill::{self, Clock, HOME, Random, run_and_kill, tell};
use super::*;
use crate::failpoints::{Failure, Step, arm};

fn row(key: &str, record: Value) -> RunRow {
    RunRow { key: key.to_owned(), record, seconds: 0.5 }
}

fn settings() -> Value {
    json!({"domain": "knowledge", "seed": u64::MAX, "rounds": [{"learning/rate": 1e-3}, {"learning/rate": 2e-2}]})
}

struct Bench {
    folder: tempfile::TempDir,
    run: RunLedger,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let mut run = RunLedger::open(folder.path()).unwrap();
    run.begin(&settings()).unwrap();
    Bench { folder, run }
}

impl Bench {
    fn told<T: std::fmt::Debug>(&self, result: Result<T, Error>) -> String {
        told(&result.unwrap_err(), self.folder.path())
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        self.run.rows(prefix).unwrap().into_iter().map(|row| row.key).collect()
    }
}

fn told_by_open(folder: &Path) -> String {
    told(&RunLedger::open(folder).map(drop).unwrap_err(), folder)
}

fn told_by_read(folder: &Path) -> String {
    told(&RunLedger::read_only(folder).map(drop).unwrap_err(), folder)
}

#[test]
fn a_run_is_made_beside_what_is_in_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/run");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("metrics.jsonl"), "{}\n").unwrap();
    // What a writer that died while it made the file has left.
    fs::write(path.join("run.sqlite.new-wal"), "half").unwrap();
    let run = RunLedger::open(&path).unwrap();
    assert_eq!((run.settings().unwrap(), run.rows("").unwrap()), (None, vec![]));
    drop(run);
    assert_eq!(names(&path), ["metrics.jsonl", "run.lock", "run.sqlite"].map(str::to_owned).into());
}

#[test]
fn a_run_goes_on_where_it_was() {
    let mut bench = bench();
    bench.run.add(&[row("rollout/1", json!(1))]).unwrap();
    let Bench { folder, run } = bench;
    drop(run);
    let mut run = RunLedger::open(folder.path()).unwrap();
    assert_eq!(run.settings().unwrap(), Some(settings()));
    run.begin(&settings()).unwrap();
    run.add(&[row("rollout/2", json!(2))]).unwrap();
    let reader = RunLedger::read_only(folder.path()).unwrap();
    for run in [run, reader] {
        assert_eq!(run.rows("").unwrap(), [row("rollout/1", json!(1)), row("rollout/2", json!(2))]);
        assert_eq!(run.get("rollout/2").unwrap(), Some(row("rollout/2", json!(2))));
        assert_eq!(run.get("rollout").unwrap(), None);
    }
}

#[test]
fn a_second_writer_is_refused_and_readers_are_not() {
    let mut bench = bench();
    let reader = RunLedger::read_only(bench.folder.path()).unwrap();
    insta::assert_snapshot!(told_by_open(bench.folder.path()), @"the run at [home] is being written by another process: wait until it ends, or use another folder");
    bench.run.add(&[row("a", json!(1))]).unwrap();
    assert_eq!(reader.rows("").unwrap(), [row("a", json!(1))]);
    let Bench { folder, run } = bench;
    drop(run);
    drop(RunLedger::open(folder.path()).unwrap());
}

#[test]
fn a_reader_cannot_write() {
    let Bench { folder, run } = bench();
    drop(run);
    let mut run = RunLedger::read_only(folder.path()).unwrap();
    let error = run.add(&[row("a", json!(1))]).unwrap_err();
    insta::assert_snapshot!(told(&error, folder.path()), @"cannot use the ledger [home]/run.sqlite: attempt to write a readonly database: Error code 8: attempt to write a readonly database");
    assert_eq!(RunLedger::read_only(folder.path()).unwrap().rows("").unwrap(), []);
}

#[test]
fn other_settings_are_named() {
    let mut bench = bench();
    let mut check = |change: &dyn Fn(&mut Value)| {
        let mut other = settings();
        change(&mut other);
        let result = bench.run.begin(&other);
        assert_eq!(bench.run.settings().unwrap(), Some(settings()));
        bench.told(result).split(": ").skip(1).collect::<String>()
    };
    insta::assert_snapshot!(check(&|other| other["rounds"][1]["learning/rate"] = json!(0.01)), @"/rounds/1/learning~1rate is 0.02 there and 0.01 here; use another folder, or the same settings");
    insta::assert_snapshot!(check(&|other| other["rounds"][1] = json!("~")), @r#"/rounds/1 is {"learning/rate":0.02} there and "~" here; use another folder, or the same settings"#);
    insta::assert_snapshot!(check(&|other| other["more"] = json!({"a/~": null})), @r#"/more is nothing there and {"a/~":null} here; use another folder, or the same settings"#);
    insta::assert_snapshot!(check(&|other| other["domain"] = json!("x".repeat(200))), @r#"/domain is "knowledge" there and "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx... here; use another folder, or the same settings"#);
    insta::assert_snapshot!(check(&|other| drop(other.as_object_mut().unwrap().remove("seed"))), @"/seed is 18446744073709551615 there and nothing here; use another folder, or the same settings");
    insta::assert_snapshot!(check(&|other| drop(other["rounds"].as_array_mut().unwrap().pop())), @r#"/rounds/1 is {"learning/rate":0.02} there and nothing here; use another folder, or the same settings"#);
    insta::assert_snapshot!(check(&|other| *other = json!(null)), @r#"the whole is {"domain":"knowledge","seed":18446744073709551615,"rounds":[{"learning/rate":0.001},{"learning/rate"... there and null here; use another folder, or the same settings"#);
    let result = bench.run.begin(&json!({"domain": "arc"}));
    insta::assert_snapshot!(bench.told(result), @r#"the run at [home] was begun with other settings: /domain is "knowledge" there and "arc" here; use another folder, or the same settings"#);
}

#[test]
fn settings_in_another_order_are_the_same() {
    let mut bench = bench();
    let mut reversed = serde_json::Map::new();
    reversed.extend(settings().as_object().unwrap().clone().into_iter().rev());
    assert!(reversed.keys().ne(settings().as_object().unwrap().keys()));
    bench.run.begin(&Value::Object(reversed)).unwrap();
    assert_eq!(bench.run.settings().unwrap().unwrap().to_string(), settings().to_string());
}

#[test]
fn what_is_finished_is_not_written_again() {
    let mut bench = bench();
    let first = row("a", json!({"score": 0.0, "edit": "x"}));
    bench.run.add(std::slice::from_ref(&first)).unwrap();
    let again = RunRow { record: json!({"edit": "x", "score": 0.0}), seconds: 9.0, ..first.clone() };
    bench.run.add(&[row("b", json!(1)), again, row("b", json!(1))]).unwrap();
    assert_eq!(bench.run.rows("").unwrap(), [first.clone(), row("b", json!(1))]);

    let other = row("a", json!({"edit": "x", "score": -0.0}));
    let result = bench.run.add(&[row("c", json!(1)), other]);
    insta::assert_snapshot!(bench.told(result), @"the run at [home] has another record of `a`: /score is 0.0 there and -0.0 here; what is finished does not change, use another folder");
    let result = bench.run.add(&[row("c", json!(1)), row("c", json!(2))]);
    insta::assert_snapshot!(bench.told(result), @"the run at [home] has another record of `c`: the whole is 1 there and 2 here; what is finished does not change, use another folder");
    assert_eq!(bench.keys(""), ["a", "b"]);
}

#[test]
fn nothing_of_a_batch_is_written_when_one_row_cannot_be() {
    let mut bench = bench();
    let deep = (0..200).fold(json!(null), |inner, _| json!([inner]));
    let result = bench.run.add(&[row("a", json!(1)), row("b", deep)]);
    insta::assert_snapshot!(bench.told(result), @"the record cannot go into the ledger, because it could not be read again: recursion limit exceeded at line 1 column 128");
    let without_time = RunRow { seconds: f64::NAN, ..row("b", json!(1)) };
    let result = bench.run.add(&[row("a", json!(1)), without_time]);
    insta::assert_snapshot!(bench.told(result), @"cannot use the ledger [home]/run.sqlite: NOT NULL constraint failed: finished.seconds: Error code 1299: constraint failed");
    assert_eq!(bench.run.rows("").unwrap(), []);
}

#[test]
fn rows_are_found_by_the_beginning_of_their_keys() {
    let mut bench = bench();
    let keys = ["", "1/10", "1/2", "1/2%", "1/20", "1/2_", "1/2\0", "2/1", "A", "a", "a\u{10ffff}", "ä", "b"];
    let rows: Vec<RunRow> = keys.iter().rev().map(|key| row(key, json!(key))).collect();
    bench.run.add(&rows).unwrap();
    let prefixes = ["1/2", "%", "_", "1/2%", "1/2_", "a", "a\u{10ffff}", "1/3", "b"];
    for prefix in prefixes.iter().chain(&keys) {
        let mut expected: Vec<&str> = keys.into_iter().filter(|key| key.starts_with(prefix)).collect();
        expected.sort_unstable();
        assert_eq!(bench.keys(prefix), expected, "{prefix:?}");
    }
    assert_eq!(bench.run.get("1/2\0").unwrap(), Some(row("1/2\0", json!("1/2\0"))));
}

#[test]
fn numbers_come_back_bit_for_bit() {
    let mut bench = bench();
    // A plain parser reads many of these one unit in the last place off.
    let awkward = (1..2000).map(|n| -1.0 / f64::from(n) * 1.000_000_000_000_1);
    let numbers: Vec<f64> = awkward.chain([f64::MIN_POSITIVE, 5e-324, f64::MAX, -0.0, 1.0]).collect();
    let record = json!({"floats": numbers, "whole": [u64::MAX, i64::MIN, 1]});
    let seconds = 0.1 + 0.2;
    bench.run.add(&[RunRow { key: "a".to_owned(), record: record.clone(), seconds }]).unwrap();
    let found = RunLedger::read_only(bench.folder.path()).unwrap().get("a").unwrap().unwrap();
    let bits = |record: &Value| -> Vec<u64> {
        let floats = record["floats"].as_array().unwrap().iter();
        floats.map(|number| number.as_f64().unwrap().to_bits()).collect()
    };
    assert_eq!(bits(&found.record), numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>());
    assert_eq!(found.record.to_string(), record.to_string());
    assert_eq!(found.seconds.to_bits(), seconds.to_bits());
}

#[test]
fn a_row_that_is_there_stays() {
    let mut bench = bench();
    bench.run.add(&[row("a", json!(1))]).unwrap();
    let connection = rusqlite::Connection::open(bench.folder.path().join("run.sqlite")).unwrap();
    let statements = [
        "DELETE FROM finished",
        "UPDATE finished SET seconds = 1",
        "DELETE FROM run",
        "UPDATE run SET settings = '{}'",
    ];
    let refused = statements.map(|sql| connection.execute(sql, []).unwrap_err().to_string());
    insta::assert_snapshot!(refused.join("\n"), @r##"
    the ledger only grows
    the ledger only grows
    a run keeps its settings
    a run keeps its settings
    "##);
}

#[test]
fn the_digest_is_of_what_was_done_and_not_of_how() {
    let rows: Vec<RunRow> = (0..20).map(|n| row(&format!("r/{n}"), json!({"b": n, "a": [0.1]}))).collect();
    let digest = |settings: &Value, batches: &mut dyn Iterator<Item = Vec<RunRow>>| {
        let folder = tempfile::tempdir().unwrap();
        let mut run = RunLedger::open(folder.path()).unwrap();
        run.begin(settings).unwrap();
        batches.for_each(|batch| run.add(&batch).unwrap());
        let digest = run.digest().unwrap();
        assert_eq!(RunLedger::read_only(folder.path()).unwrap().digest().unwrap(), digest);
        digest
    };
    let whole = digest(&settings(), &mut std::iter::once(rows.clone()));
    let otherwise = |row: &RunRow| {
        let record = json!({"a": row.record["a"], "b": row.record["b"]});
        RunRow { record, seconds: 7.0, key: row.key.clone() }
    };
    for size in [1, 3, 20] {
        let reversed: Vec<RunRow> = rows.iter().rev().map(otherwise).collect();
        assert_eq!(digest(&settings(), &mut reversed.chunks(size).map(<[RunRow]>::to_vec)), whole);
    }
    assert_ne!(digest(&json!({}), &mut std::iter::once(rows.clone())), whole);
    assert_ne!(digest(&settings(), &mut std::iter::once(rows[1..].to_vec())), whole);
    let mut changed = rows.clone();
    changed[3].record["a"] = json!([0.1 + f64::EPSILON]);
    assert_ne!(digest(&settings(), &mut std::iter::once(changed)), whole);

    // As its documentation says: lines that `sha256sum` takes too.
    let lines = "{\"a\":1,\"b\":2}\n[\"k\",{\"c\":\"\\n\",\"d\":0.5}]\n";
    let expected = crate::adapter::sha256(lines.as_bytes());
    let record = row("k", json!({"d": 0.5, "c": "\n"}));
    assert_eq!(digest(&json!({"b": 2, "a": 1}), &mut std::iter::once(vec![record])), expected);
}

#[test]
fn a_folder_without_a_run_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none");
    insta::assert_snapshot!(told_by_read(&none), @"there is no run at [home]: nothing was begun there, or the path is another");
    assert!(!none.exists());
    insta::assert_snapshot!(told_by_read(folder.path()), @"there is no run at [home]: nothing was begun there, or the path is another");
    assert_eq!(names(folder.path()), BTreeSet::new());
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    insta::assert_snapshot!(told_by_read(&file), @"there is no run at [home]: nothing was begun there, or the path is another");
    insta::assert_snapshot!(told_by_open(&file), @"[home] is a file, and a store needs a folder there");
    fs::write(folder.path().join("run.sqlite-wal"), "").unwrap();
    insta::assert_snapshot!(told_by_open(folder.path()), @"[home] has `run.sqlite-wal` but no run.sqlite: put the file back, or use another folder");
}

#[test]
fn what_is_no_run_is_not_touched() {
    let check = |make: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("run.sqlite");
        make(&file);
        let bytes = fs::read(&file).unwrap();
        let told = told_by_open(folder.path());
        assert_eq!(told, told_by_read(folder.path()));
        assert!(fs::read(&file).unwrap() == bytes, "{told}");
        assert!(!folder.path().join("run.lock").exists());
        told
    };
    let text =
        check(&|file| fs::write(file, "not a database, but long enough for a header".repeat(9)).unwrap());
    insta::assert_snapshot!(text, @"[home]/run.sqlite is not a run of selkie");
    insta::assert_snapshot!(check(&|file| fs::write(file, "").unwrap()), @"[home]/run.sqlite is not a run of selkie");
    let home = check(&|file| {
        let home = tempfile::tempdir().unwrap();
        drop(Store::open(home.path()).unwrap());
        fs::copy(home.path().join("ledger.sqlite"), file).map(drop).unwrap();
    });
    insta::assert_snapshot!(home, @"[home]/run.sqlite is not a run of selkie");
    let newer = check(&|file| {
        drop(RunLedger::open(file.parent().unwrap()).unwrap());
        fs::remove_file(file.with_file_name("run.lock")).unwrap();
        let connection = rusqlite::Connection::open(file).unwrap();
        connection.execute_batch("PRAGMA user_version = 2").unwrap();
    });
    insta::assert_snapshot!(newer, @"[home]/run.sqlite has format 2, and this selkie knows up to 1: use the version that wrote it");
}

#[test]
fn damage_is_told() {
    let damaged = |damage: &dyn Fn(&Path)| {
        let mut bench = bench();
        let rows: Vec<RunRow> = (0..50).map(|n| row(&format!("r/{n:02}"), json!("x".repeat(500)))).collect();
        bench.run.add(&rows).unwrap();
        let Bench { folder, run } = bench;
        drop(run);
        damage(&folder.path().join("run.sqlite"));
        let run = match RunLedger::read_only(folder.path()) {
            Ok(run) => run,
            Err(error) => return told(&error, folder.path()),
        };
        let asked = [run.rows("").map(drop), run.digest().map(drop), run.settings().map(drop)];
        let answers = asked.map(|result| match result {
            Ok(()) => "an answer".to_owned(),
            Err(error) => told(&error, folder.path()),
        });
        answers.join("\n")
    };
    let overwrite = |from: usize| {
        move |file: &Path| {
            let mut bytes = fs::read(file).unwrap();
            bytes[from..].fill(0xa5);
            fs::write(file, bytes).unwrap();
        }
    };
    insta::assert_snapshot!(damaged(&overwrite(8192)), @r##"
    [home]/run.sqlite is damaged: put a copy of it there, or use another folder: database disk image is malformed: Error code 11: database disk image is malformed
    [home]/run.sqlite is damaged: put a copy of it there, or use another folder: database disk image is malformed: Error code 11: database disk image is malformed
    an answer
    "##);
    insta::assert_snapshot!(damaged(&|file| {
        let bytes = fs::read(file).unwrap();
        fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
    }), @"[home]/run.sqlite is damaged: put a copy of it there, or use another folder: database disk image is malformed: Error code 11: database disk image is malformed");
    let tamper = |sql: &'static str| {
        move |file: &Path| rusqlite::Connection::open(file).unwrap().execute_batch(sql).unwrap()
    };
    // JSON for SQLite, and not for the parser.
    let sql = "DROP TRIGGER finished_is_final; UPDATE finished SET record = '1e999' WHERE key = 'r/07';";
    insta::assert_snapshot!(damaged(&tamper(sql)), @r##"
    `r/07` is damaged in the run at [home]: use a copy of the run, or another folder: number out of range at line 1 column 5
    `r/07` is damaged in the run at [home]: use a copy of the run, or another folder: number out of range at line 1 column 5
    an answer
    "##);
    let sql = "DROP TRIGGER run_is_final; UPDATE run SET settings = '-1e999';";
    insta::assert_snapshot!(damaged(&tamper(sql)), @r##"
    an answer
    `settings` is damaged in the run at [home]: use a copy of the run, or another folder: number out of range at line 1 column 6
    `settings` is damaged in the run at [home]: use a copy of the run, or another folder: number out of range at line 1 column 6
    "##);
}

const KILLS: u64 = 80;

/// After so many kills a new run is begun.
const KILLS_A_RUN: u64 = 20;

/// The longest that a child lives: some batches, on a slow disk too.
const LIFE_MAX_US: u64 = 25_000;

/// One to thirty rows of up to some kilobytes, so that a batch is of one page or of many.
fn batch(number: i64) -> Vec<RunRow> {
    let mut random = Random(number as u64 * 7919 + 1);
    let rows = 1 + random.below(30);
    let text = |random: &mut Random| "x".repeat(random.below(5000) as usize);
    (0..rows)
        .map(|at| row(&format!("{number:06}/{at:02}"), json!({"of": rows, "text": text(&mut random)})))
        .collect()
}

/// The number of batches; each must be there whole.
fn check_batches(run: &RunLedger, context: &str) -> i64 {
    let mut rows = run.rows("").unwrap().into_iter().peekable();
    let mut batches = 0;
    while rows.peek().is_some() {
        batches += 1;
        for expected in batch(batches) {
            assert_eq!(rows.next().map(|row| row.key), Some(expected.key), "{context}");
        }
    }
    batches
}

#[test]
fn a_kill_leaves_all_of_a_batch_or_nothing() {
    let mut random = Random(11);
    let (mut in_flight, mut landed) = (0, 0);
    for number in 0..KILLS / KILLS_A_RUN {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let mut last = 0;
        for kill in 0..KILLS_A_RUN {
            let clock = if kill % 4 == 0 { Clock::Spawned } else { Clock::Began };
            let life = Duration::from_micros(random.below(LIFE_MAX_US));
            let told = run_and_kill("tests::run::child_that_adds", &path, clock, life);
            let context = format!("run {number}, kill {kill}: {told:?}");
            if !path.join("run.sqlite").exists() {
                assert_eq!(told, kill::Told::default(), "{context}");
                continue;
            }
            let found = check_batches(&RunLedger::read_only(&path).unwrap(), &context);
            let acknowledged = told.kept.unwrap_or(last);
            let possible = told.began.max(acknowledged);
            assert!(found == acknowledged || found == possible, "{found} are there. {context}");
            in_flight += u64::from(possible > acknowledged);
            landed += u64::from(possible > acknowledged && found == possible);
            last = found;
        }
        let unkilled = tempfile::tempdir().unwrap();
        let mut run = RunLedger::open(unkilled.path()).unwrap();
        run.begin(&settings()).unwrap();
        run.add(&(1..=last).rev().flat_map(batch).collect::<Vec<_>>()).unwrap();
        assert_eq!(RunLedger::read_only(&path).unwrap().digest().unwrap(), run.digest().unwrap());
    }
    eprintln!("{KILLS} kills: {in_flight} while a batch was added, {landed} of them after the commit");
    assert!(in_flight > KILLS / 4, "only {in_flight} kills came while a batch was added");
}

/// The other half of the test above; does nothing when run by itself.
#[test]
fn child_that_adds() {
    let Some(folder) = std::env::var_os(HOME) else { return };
    let mut run = RunLedger::open(Path::new(&folder)).unwrap();
    run.begin(&settings()).unwrap();
    let mut number = check_batches(&run, "a child");
    loop {
        number += 1;
        tell(format!("began {number}\n"));
        run.add(&batch(number)).unwrap();
        tell(format!("kept {number}\n"));
    }
}

#[test]
fn an_add_that_fails_anywhere_leaves_nothing_or_all() {
    for (step, left) in [(Step::InsertEntry, 0), (Step::Commit, 0), (Step::Committed, 2)] {
        let mut bench = bench();
        let rows = [row("a", json!(1)), row("b", json!(2))];
        let armed = arm(step, 0, Failure::Fault);
        let error = bench.run.add(&rows).unwrap_err();
        assert!(armed.fired() && matches!(error, Error::Injected { .. }), "{error}");
        drop(armed);
        assert_eq!(bench.keys("").len(), left, "{step:?}");
        bench.run.add(&rows).unwrap();
        assert_eq!(bench.run.rows("").unwrap(), rows);
    }
}
