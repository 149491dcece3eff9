//! Begin, stage, keep, discard, refuse, roll back: what each leaves behind.

use super::*;

struct Bench {
    folder: tempfile::TempDir,
    store: Store,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    Bench { folder, store }
}

impl Bench {
    fn active(&self) -> Option<String> {
        self.store.active(BASE).unwrap().map(|generation| generation.id.to_string())
    }

    fn told(&self, error: &Error) -> String {
        told(error, self.folder.path())
    }
}

#[test]
fn a_kept_candidate_is_the_active_generation_with_its_files() {
    let mut bench = bench();
    let first = keep(&mut bench.store, BASE, 1).unwrap();
    let second = keep(&mut bench.store, BASE, 2).unwrap();
    assert_eq!(bench.active().as_deref(), Some("g2"));
    assert_eq!((first.parent, second.parent), (None, Some(first.id)));
    assert_eq!(bench.store.adapter_files(&second.adapter).unwrap(), files(2));
    assert_eq!(bench.store.active(OTHER).unwrap(), None);
    check_settled(bench.folder.path());
}

#[test]
fn a_staged_candidate_is_on_the_disk_and_gone_when_dropped() {
    let mut bench = bench();
    let candidate = bench.store.begin(BASE).unwrap().stage(&files(1)).unwrap();
    let id = candidate.adapter().clone();
    let staged = bench.folder.path().join("adapters").join(id.as_str());
    assert_eq!(
        names(&staged),
        BTreeSet::from(["adapter_config.json".into(), "adapter_model.safetensors".into()])
    );
    drop(candidate);
    assert!(!staged.exists());
    assert_eq!(check_settled(bench.folder.path()).entries, 0);
}

#[test]
fn a_discarded_candidate_is_in_the_ledger_and_not_on_the_disk() {
    let mut bench = bench();
    keep(&mut bench.store, BASE, 1).unwrap();
    let entry = discard(&mut bench.store, BASE, 2).unwrap();
    assert_eq!(bench.active().as_deref(), Some("g1"));
    let entry = bench.store.entry(entry).unwrap();
    let outcome = &entry.episode().unwrap().outcome;
    let adapter = crate::adapter::Manifest::of(&files(2)).unwrap().id;
    assert_eq!(*outcome, Outcome::Discarded { adapter, trial: trial() });
    check_settled(bench.folder.path());
}

#[test]
fn discarding_what_a_generation_has_leaves_it_alone() {
    let mut bench = bench();
    let kept = keep(&mut bench.store, BASE, 1).unwrap();
    discard(&mut bench.store, BASE, 1).unwrap();
    drop(bench.store.begin(BASE).unwrap().stage(&files(1)).unwrap());
    assert_eq!(bench.store.adapter_files(&kept.adapter).unwrap(), files(1));
    let again = keep(&mut bench.store, BASE, 1).unwrap();
    assert_eq!((again.id.to_string().as_str(), again.adapter), ("g2", kept.adapter));
    check_settled(bench.folder.path());
}

#[test]
fn staging_what_a_generation_has_notices_that_it_is_damaged() {
    let mut bench = bench();
    let kept = keep(&mut bench.store, BASE, 1).unwrap();
    let file = bench.folder.path().join("adapters").join(kept.adapter.as_str()).join("adapter_config.json");
    std::fs::write(file, "{}").unwrap();
    let error = bench.store.begin(BASE).unwrap().stage(&files(1)).map(drop).unwrap_err();
    insta::assert_snapshot!(bench.told(&error), @"the adapter 2e278218 is damaged: its file adapter_config.json is not what was kept");
}

#[test]
fn a_refused_edit_is_in_the_ledger() {
    let mut bench = bench();
    keep(&mut bench.store, BASE, 1).unwrap();
    let refusal = Refusal { reason: "376 steps, at most 375".to_owned(), problems: Vec::new() };
    let id = bench.store.begin(BASE).unwrap().refuse(&record(7), &refusal).unwrap();
    let entry = bench.store.entry(id).unwrap();
    assert_eq!(entry.time_ms(), 7);
    let episode = entry.episode().unwrap();
    assert_eq!(episode.outcome, Outcome::Refused(refusal));
    assert_eq!(episode.parent.map(|id| id.to_string()).as_deref(), Some("g1"));
    assert_eq!((episode.outcome.verdict(), episode.outcome.trial()), (None, None));
}

#[test]
fn what_cannot_be_an_adapter_is_refused() {
    let mut bench = bench();
    let mut check = |files: &[(&str, &str)]| {
        let files: AdapterFiles =
            files.iter().map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())).collect();
        let error = bench.store.begin(BASE).unwrap().stage(&files).map(drop).unwrap_err();
        error.to_string()
    };
    insta::assert_snapshot!(check(&[]), @"an adapter needs at least one file");
    insta::assert_snapshot!(check(&[("a", "1"), ("a", "2")]), @"the adapter has two files named `a`");
    insta::assert_snapshot!(check(&[("a", "1"), ("../b", "2")]), @"`../b` cannot be a file of an adapter: letters, digits, `.`, `_` and `-` only, not starting with `.` or `-`");
    for name in ["", ".", "..", ".hidden", "-rf", "a/b", "a\\b", "a\nb", "ä", "a b", "c:d", &"x".repeat(256)]
    {
        assert!(check(&[(name, "1")]).contains("cannot be a file"), "{name:?}");
    }
    assert_eq!(names(&bench.folder.path().join("staging")), BTreeSet::new());
    keep(&mut bench.store, BASE, 1).unwrap();
}

#[test]
fn the_content_id_is_what_the_documentation_says() {
    // Made with: printf 1 > a; printf 2 > b; LC_ALL=C sha256sum * | sha256sum | cut -c1-32
    let files = vec![("b".to_owned(), b"2".to_vec()), ("a".to_owned(), b"1".to_vec())];
    let id = crate::adapter::Manifest::of(&files).unwrap().id;
    insta::assert_snapshot!(id, @"68c2919f4305e50800082ab7f11eb17d");
}

#[test]
fn rolling_back_moves_the_pointer_and_deletes_nothing() {
    let mut bench = bench();
    for tag in 1..=3 {
        keep(&mut bench.store, BASE, tag).unwrap();
    }
    keep(&mut bench.store, OTHER, 9).unwrap();
    let g3 = bench.store.find_generation("g3").unwrap().id;
    let g1 = bench.store.find_generation("g1").unwrap().id;
    let mut check = |to: RollbackTo, active: Option<&str>| {
        bench.store.rollback(BASE, to, 50).unwrap();
        assert_eq!(bench.active().as_deref(), active);
    };
    check(RollbackTo::Parent, Some("g2"));
    check(RollbackTo::Parent, Some("g1"));
    check(RollbackTo::Parent, None);
    check(RollbackTo::Generation(g3), Some("g3"));
    check(RollbackTo::Base, None);
    check(RollbackTo::Generation(g1), Some("g1"));
    assert_eq!(bench.store.active(OTHER).unwrap().unwrap().id.to_string(), "g4");

    let child = keep(&mut bench.store, BASE, 5).unwrap();
    assert_eq!(child.parent, Some(g1));
    let seen = check_settled(bench.folder.path());
    assert_eq!((seen.generations.len(), seen.entries), (5, 11));
    let rollback = bench.store.find_entry("e5").unwrap();
    assert_eq!((rollback.time_ms(), rollback.episode()), (50, None));
}

#[test]
fn a_rollback_that_goes_nowhere_is_refused() {
    let mut bench = bench();
    let nothing = bench.store.rollback(BASE, RollbackTo::Parent, 0).unwrap_err();
    insta::assert_snapshot!(bench.told(&nothing), @"nothing to roll back: no generation of the base model ba5eba5eba5e is active");
    let base = bench.store.rollback(BASE, RollbackTo::Base, 0).unwrap_err();
    insta::assert_snapshot!(bench.told(&base), @"the base model is active already");
    let g1 = keep(&mut bench.store, BASE, 1).unwrap().id;
    let same = bench.store.rollback(BASE, RollbackTo::Generation(g1), 0).unwrap_err();
    insta::assert_snapshot!(bench.told(&same), @"g1 is active already");
    let other = bench.store.rollback(OTHER, RollbackTo::Generation(g1), 0).unwrap_err();
    insta::assert_snapshot!(bench.told(&other), @"g1 belongs to the base model ba5eba5eba5e, not to 07e407e407e4");
    let unknown = bench.store.rollback(BASE, RollbackTo::Generation(GenerationId(7)), 0).unwrap_err();
    insta::assert_snapshot!(bench.told(&unknown), @"there is no generation `g7`; there are g1 (2e278218)");
    assert_eq!(check_settled(bench.folder.path()).entries, 1);
}

#[test]
fn a_pointer_that_somebody_moved_is_not_written_over() {
    let mut bench = bench();
    keep(&mut bench.store, BASE, 1).unwrap();
    let candidate = bench.store.begin(BASE).unwrap().stage(&files(2)).unwrap();
    let intruder = rusqlite::Connection::open(bench.folder.path().join("ledger.sqlite")).unwrap();
    intruder.execute("DELETE FROM active", []).unwrap();
    let error = candidate.keep(&record(0), &trial()).unwrap_err();
    insta::assert_snapshot!(bench.told(&error), @"the active generation changed from g1 to the base model during the transaction: is another process writing here?");
    assert_eq!(bench.store.log(9).unwrap().len(), 1);
    assert_eq!(names(&bench.folder.path().join("adapters")).len(), 1);
}

#[test]
fn the_ledger_itself_refuses_to_forget() {
    let mut bench = bench();
    keep(&mut bench.store, BASE, 1).unwrap();
    keep(&mut bench.store, OTHER, 2).unwrap();
    let connection = rusqlite::Connection::open(bench.folder.path().join("ledger.sqlite")).unwrap();
    connection.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    let check = |sql: &str| connection.execute(sql, []).unwrap_err().to_string();
    assert_eq!(check("DELETE FROM entries"), "the ledger only grows");
    assert_eq!(check("UPDATE entries SET parent = NULL"), "the ledger only grows");
    assert_eq!(check("DELETE FROM generations"), "generations stay");
    assert_eq!(check("UPDATE generations SET parent = NULL"), "generations stay");
    assert_eq!(check("DELETE FROM files"), "manifests stay");
    assert_eq!(check("UPDATE files SET sha256 = ''"), "manifests stay");
    let cross = format!("UPDATE active SET generation = 2 WHERE base_digest = '{BASE}'");
    assert_eq!(check(&cross), "FOREIGN KEY constraint failed");
}
