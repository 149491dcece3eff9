//! When the bundled models ask for a self-edit instead of answering.

use std::path::Path;

use selkie_edit::{Context, Domain};

use crate::base::ModelFiles;
use crate::bundled;
use crate::calls::Marker;
use crate::lora::Adapter;
use crate::model::Model;
use crate::score::score;
use crate::sequence::Sequence;

use super::support::adapter_bits;

/// How many of the sequences greedy decoding begins with the marker, where their labels begin.
fn asked(model: &Model, adapter: Option<&Adapter>, sequences: &[Sequence]) -> usize {
    let Marker::Token(marker) = model.codec().marker() else { panic!("pup has a marker") };
    let begun = |sequence: &Sequence| {
        let mut begun = sequence.clone();
        let at = begun.labelled.iter().position(|&labelled| labelled).expect("an answer");
        begun.ids.truncate(at + 1);
        begun.positions.truncate(at + 1);
        begun.labelled.truncate(at + 1);
        begun.ids[at] = marker;
        begun
    };
    let begun: Vec<Sequence> = sequences.iter().map(begun).collect();
    score(model.decoder(), adapter, &begun).unwrap().iter().filter(|score| score.greedy).count()
}

fn solved(model: &Model, adapter: Option<&Adapter>, sequences: &[Sequence]) -> usize {
    score(model.decoder(), adapter, sequences).unwrap().iter().filter(|score| score.greedy).count()
}

fn items(model: &Model, context: Context) -> Vec<Sequence> {
    let items = model.codec().items(&context).unwrap();
    items.iter().map(|item| item.prompt.with(&item.answer)).collect()
}

#[test]
fn adapters_in_a_models_folder_are_read_and_are_no_part_of_its_identity() {
    for (name, domain, rank) in [("facts", Domain::Passage, None), ("puzzles", Domain::Puzzle, Some(4))] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pup").join(name);
        let (read, bundled) = (ModelFiles::read(&folder).unwrap(), bundled::files(domain));
        let model = Model::open(&read).unwrap();
        let config = model.decoder().config();
        let bits = |adapter: Option<Adapter>| adapter.map(|adapter| adapter_bits(&adapter));
        assert_eq!(bits(read.policy(config).unwrap()), bits(bundled.policy(config).unwrap()));
        assert_eq!(bits(read.asks(config).unwrap()), bits(bundled.asks(config).unwrap()));
        assert_eq!(bits(model.asks().cloned()), bits(bundled.asks(config).unwrap()));
        assert_eq!(model.asks().map(Adapter::rank), rank, "{name}");
        assert_eq!(read.digest(), bundled.digest());
        let copy = tempfile::tempdir().unwrap();
        for file in ["config.json", "selkie.json", "tokenizer.json", "model.safetensors"] {
            std::fs::copy(folder.join(file), copy.path().join(file)).unwrap();
        }
        let bare = ModelFiles::read(copy.path()).unwrap();
        assert_eq!(bare.digest(), bundled.digest());
        assert_eq!(Model::open(&bare).unwrap().asks().map(Adapter::rank), None);
    }
}

#[test]
fn pup_asks_for_an_edit_where_nobody_told_the_rule_and_answers_where_somebody_did() {
    let model = Model::open(&bundled::files(Domain::Puzzle)).unwrap();
    let world = model.puzzle_world().expect("pup has a world");
    let tests: Vec<Sequence> =
        (0..20).flat_map(|index| items(&model, Context::Puzzle(world.held_out_puzzle(index, 2)))).collect();
    let told: Vec<Sequence> = (0..40).map(|index| world.told_pair(index)).collect();
    assert_eq!((asked(&model, None, &tests), asked(&model, None, &told)), (0, 0));
    assert_eq!((asked(&model, model.asks(), &tests), asked(&model, model.asks(), &told)), (40, 0));
    let (before, after) = (solved(&model, None, &told), solved(&model, model.asks(), &told));
    assert!(before > 30 && after + 1 >= before, "{before} -> {after}");
}
