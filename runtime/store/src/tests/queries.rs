//! Finding generations and entries by what people write; adapters, verified; export.

use std::fs;

use super::*;

fn home_with(kept: &[u32]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path()).unwrap();
    for tag in kept {
        keep(&mut store, BASE, *tag).unwrap();
    }
    folder
}

#[test]
fn the_log_is_newest_first_and_limited() {
    let home = home_with(&[1, 2, 3]);
    let reader = Store::read_only(home.path()).unwrap();
    let check = |limit: usize, expected: &[&str]| {
        let ids: Vec<String> = reader.log(limit).unwrap().iter().map(|entry| entry.id.to_string()).collect();
        assert_eq!(ids, expected);
    };
    check(0, &[]);
    check(2, &["e3", "e2"]);
    check(usize::MAX, &["e3", "e2", "e1"]);
}

#[test]
fn generations_are_found_by_number_and_by_content() {
    let home = home_with(&[1, 2, 2]);
    let reader = Store::read_only(home.path()).unwrap();
    let g1 = reader.find_generation("g1").unwrap();
    let check = |name: &str| reader.find_generation(name).map(|found| found.id.to_string());
    assert_eq!(check("g3").unwrap(), "g3");
    assert_eq!(check(g1.adapter.as_str()).unwrap(), "g1");
    assert_eq!(check(&g1.adapter.as_str()[..6].to_uppercase()).unwrap(), "g1");

    let shared = reader.find_generation("g2").unwrap().adapter;
    let told = |name: &str| told(&check(name).unwrap_err(), home.path());
    insta::assert_snapshot!(told(shared.short()), @"`c16aebe5` could be g3 (c16aebe5), g2 (c16aebe5): use the g-number");
    insta::assert_snapshot!(told("g4"), @"there is no generation `g4`; there are g3 (c16aebe5), g2 (c16aebe5), g1 (2e278218)");
    for name in [
        "",
        "g",
        "g0",
        "g01",
        "g-1",
        "g+1",
        "g99999999999999999999",
        "1",
        "zebra",
        "e1",
        "%",
        "f".repeat(33).as_str(),
    ] {
        assert!(told(name).starts_with(&format!("there is no generation `{name}`; there are g3")), "{name}");
    }
}

#[test]
fn a_wrong_name_lists_no_more_than_a_screen() {
    let home = home_with(&(1..=11).collect::<Vec<_>>());
    let error = Store::read_only(home.path()).unwrap().find_generation("g12").unwrap_err();
    insta::assert_snapshot!(told(&error, home.path()), @"there is no generation `g12`; there are g11 (bf32eee1), g10 (4ca29fa9), g9 (a70b3c60), g8 (974558f1), g7 (0bd87c8d), g6 (1fc11757), g5 (a2fae720), g4 (0e69b3c7) and 3 older");
    let empty = home_with(&[]);
    let error = Store::read_only(empty.path()).unwrap().find_generation("g1").unwrap_err();
    insta::assert_snapshot!(told(&error, home.path()), @"there is no generation `g1`; nothing has been kept yet");
}

#[test]
fn entries_are_found_by_name() {
    let check = |home: &tempfile::TempDir, name: &str| {
        let found = Store::read_only(home.path()).unwrap().find_entry(name);
        found.map(|entry| entry.id.to_string()).unwrap_or_else(|error| error.to_string())
    };
    let home = home_with(&[1, 2]);
    assert_eq!(check(&home, "e2"), "e2");
    insta::assert_snapshot!(check(&home, "e3"), @"there is no entry `e3`; the ledger goes from e1 to e2");
    insta::assert_snapshot!(check(&home, "g1"), @"there is no entry `g1`; the ledger goes from e1 to e2");
    insta::assert_snapshot!(check(&home_with(&[]), "e1"), @"there is no entry `e1`; the ledger is empty");
}

#[test]
fn a_damaged_adapter_is_told_by_its_file() {
    let home = home_with(&[1]);
    let reader = Store::read_only(home.path()).unwrap();
    let adapter = reader.find_generation("g1").unwrap().adapter;
    let folder = home.path().join("adapters").join(adapter.as_str());
    let check = || told(&reader.adapter_files(&adapter).unwrap_err(), home.path());

    fs::write(folder.join("notes.txt"), "put there by a person").unwrap();
    assert_eq!(reader.adapter_files(&adapter).unwrap(), files(1));

    let weights = folder.join("adapter_model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    bytes[17] ^= 1;
    fs::write(&weights, bytes).unwrap();
    insta::assert_snapshot!(check(), @"the adapter 2e278218 is damaged: its file adapter_model.safetensors is not what was kept");
    fs::remove_file(&weights).unwrap();
    insta::assert_snapshot!(check(), @"the adapter 2e278218 is damaged: its file adapter_model.safetensors is missing");
    fs::remove_dir_all(&folder).unwrap();
    insta::assert_snapshot!(check(), @"the adapter 2e278218 is damaged: its file adapter_config.json is missing");

    let unknown = crate::adapter::Manifest::of(&files(2)).unwrap().id;
    let error = reader.adapter_files(&unknown).unwrap_err();
    insta::assert_snapshot!(told(&error, home.path()), @"no generation has the adapter c16aebe53fd34060a8362da055bf687c");
}

#[test]
fn an_export_is_the_adapters_folder() {
    let home = home_with(&[1, 2]);
    let reader = Store::read_only(home.path()).unwrap();
    let g1 = reader.find_generation("g1").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let check = |target: &Path| {
        assert_eq!(reader.export(g1.id, target).unwrap(), g1);
        let read = |(name, _): (String, Vec<u8>)| (name.clone(), fs::read(target.join(name)).unwrap());
        assert_eq!(files(1).into_iter().map(read).collect::<AdapterFiles>(), files(1));
        assert_eq!(names(target).len(), 2);
    };
    check(&elsewhere.path().join("new"));
    check(&elsewhere.path().join("deep/er"));
    fs::create_dir(elsewhere.path().join("empty")).unwrap();
    check(&elsewhere.path().join("empty"));
    fs::create_dir(elsewhere.path().join(".again.partial")).unwrap();
    fs::write(elsewhere.path().join(".again.partial/half"), "an export that was killed").unwrap();
    check(&elsewhere.path().join("again"));
    assert_eq!(names(elsewhere.path()), ["again", "deep", "empty", "new"].map(str::to_owned).into());
}

#[test]
fn an_export_writes_over_nothing_and_copies_no_damage() {
    let home = home_with(&[1]);
    let reader = Store::read_only(home.path()).unwrap();
    let g1 = reader.find_generation("g1").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let check = |target: &Path| told(&reader.export(g1.id, target).unwrap_err(), elsewhere.path());
    fs::write(elsewhere.path().join("file"), "mine").unwrap();
    insta::assert_snapshot!(check(&elsewhere.path().join("file")), @"[home]/file is not a new or empty folder; an export does not write over files");
    insta::assert_snapshot!(check(elsewhere.path()), @"[home] is not a new or empty folder; an export does not write over files");
    insta::assert_snapshot!(check(Path::new("/")), @"/ is not a new or empty folder; an export does not write over files");
    insta::assert_snapshot!(check(&elsewhere.path().join("file/below")), @"[home]/file is a file, and a store needs a folder there");
    let weights = home.path().join("adapters").join(g1.adapter.as_str()).join("adapter_model.safetensors");
    fs::write(weights, "").unwrap();
    assert!(check(&elsewhere.path().join("new")).contains("is damaged"));
    assert_eq!(names(elsewhere.path()), BTreeSet::from(["file".to_owned()]));
}
