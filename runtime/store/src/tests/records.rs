//! What goes into the ledger comes back, bit for bit, or is not let in.

use super::*;

/// The entry that the store gives back for this one.
fn check(record: &Record, trial: &Trial) -> Episode {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    let kept = store.begin(BASE).unwrap().stage(&files(1)).unwrap().keep(record, trial).unwrap();
    drop(store);
    let entry = Store::read_only(folder.path()).unwrap().entry(kept.entry).unwrap();
    assert_eq!(entry.base_digest, BASE);
    let Event::Episode(episode) = entry.event else { panic!("not an episode") };
    *episode
}

#[test]
fn a_record_comes_back_as_it_was() {
    let episode = check(&record(1_700_000_000_000), &trial());
    assert_eq!(episode.record, record(1_700_000_000_000));
    assert_eq!(episode.outcome.trial(), Some(&trial()));
}

#[test]
fn numbers_come_back_bit_for_bit() {
    let mut trial = trial();
    // A plain parser reads many of these one unit in the last place off.
    let awkward =
        (1..2000).map(|n| -1.0 / f64::from(n) * 1.000_000_000_000_1).chain([f64::MIN_POSITIVE, -0.0]);
    trial.training.losses = awkward.collect();
    trial.training.losses.extend([f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
    trial.after.log_prob = f64::NAN;
    let episode = check(&record(0), &trial);
    let found = episode.outcome.trial().unwrap();
    let bits = |losses: &[f64]| losses.iter().map(|loss| loss.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&found.training.losses), bits(&trial.training.losses));
    assert!(found.after.log_prob.is_nan());
}

#[test]
fn a_record_that_could_not_be_read_again_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    keep(&mut store, BASE, 1).unwrap();
    let mut deep = record(0);
    deep.options = (0..200).fold(json!(null), |inner, _| json!([inner]));
    let candidate = store.begin(BASE).unwrap().stage(&files(2)).unwrap();
    let error = candidate.keep(&deep, &trial()).unwrap_err();
    insta::assert_snapshot!(told(&error, folder.path()), @"the record cannot go into the ledger, because it could not be read again: recursion limit exceeded at line 1 column 361");
    assert_eq!(check_settled(folder.path()).entries, 1);
}

#[test]
fn a_damaged_row_is_named() {
    let folder = tempfile::tempdir().unwrap();
    keep(&mut Store::open(folder.path()).unwrap(), BASE, 1).unwrap();
    let connection = rusqlite::Connection::open(folder.path().join("ledger.sqlite")).unwrap();
    connection
        .execute_batch(
            "DROP TRIGGER entries_are_final; UPDATE entries SET record = '{\"time_ms\": 1, \"model\": 2}';",
        )
        .unwrap();
    let error = Store::read_only(folder.path()).unwrap().log(1).unwrap_err();
    insta::assert_snapshot!(told(&error, folder.path()), @"the ledger's entry e1 is damaged: invalid type: integer `2`, expected a string at line 1 column 25");
}
