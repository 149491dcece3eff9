//! The self-edits for puzzles that pretraining writes: a prior over the useful part of the edit space.
//!
//! An edit is a chain of JSON fragments, each one piece of the vocabulary, so it is about ten tokens and its
//! text is valid JSON whatever fragments are chosen in this order. The prior does not look at the puzzle: which
//! edit fits which rule is what the outer loop is to find out. Only tools of the prompt's list are used.
//!
//! | choice | values (weight) |
//! | --- | --- |
//! | tools | none (50%), one family of turns and flips (30%), one to three of any kind (15%), a chain of two (5%) |
//! | colour copies | 1 (10%), 4 (20%), 16 (35%), 64 (35%) |
//! | colours | true (85%), false |
//! | loss_on | all_outputs (80%), final_output (12%), all_tokens (8%) |
//! | learning_rate | 0.003 (30%), 0.01 (50%), 0.02 (20%) |
//! | epochs | 2 (25%), 4 (35%), 6 (25%), 8 (15%) |

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::vocabulary::Vocabulary;

/// The tools that have a piece of their own. Others can be listed and are spelled out.
pub const TOOL_NAMES: [&str; 9] = [
    "grid.flip",
    "grid.increase_height",
    "grid.increase_width",
    "grid.reflect",
    "grid.repeat",
    "grid.rotate",
    "grid.translate",
    "grid.transpose",
    "grid.upscale",
];

/// Sequences of one step that the epochs above are meant for: with [`selkie_edit::limits::EXAMPLES_MAX`]
/// examples, the longest edit stays below [`selkie_edit::limits::STEPS_MAX`].
pub const EDIT_BATCH_SIZE: u32 = 10;

const EPOCHS: [(&str, u32); 4] = [
    (", \"epochs\": 2}}", 25),
    (", \"epochs\": 4}}", 35),
    (", \"epochs\": 6}}", 25),
    (", \"epochs\": 8}}", 15),
];

const _: () = {
    use selkie_edit::limits::{EXAMPLES_MAX, STEPS_MAX};
    assert!((EXAMPLES_MAX as u64).div_ceil(EDIT_BATCH_SIZE as u64) * 8 <= STEPS_MAX);
};

const OPEN: &str = "{\"version\": 1, \"data\": {\"tools\": [";
const CALL: &str = "{\"tool\": \"";
const CHAIN: &str = "{\"chain\": [";
const CHAIN_END: &str = "]}";
const COMMA: &str = ", ";

const COPIES: [(&str, u32); 4] = [
    ("], \"permute\": {\"copies\": 1", 10),
    ("], \"permute\": {\"copies\": 4", 20),
    ("], \"permute\": {\"copies\": 16", 35),
    ("], \"permute\": {\"copies\": 64", 35),
];

const COLORS: [(&str, u32); 2] = [(", \"colors\": true}}", 85), (", \"colors\": false}}", 15)];

const LOSS_ON: [(&str, u32); 3] = [
    (", \"training\": {\"loss_on\": \"all_outputs\"", 80),
    (", \"training\": {\"loss_on\": \"final_output\"", 12),
    (", \"training\": {\"loss_on\": \"all_tokens\"", 8),
];

const LEARNING_RATES: [(&str, u32); 3] = [
    (", \"learning_rate\": 0.003", 30),
    (", \"learning_rate\": 0.01", 50),
    (", \"learning_rate\": 0.02", 20),
];

/// The parameters that a tool is used with, from its name's closing quote to the call's end.
const PARAMS: [(&str, &[&str]); 9] = [
    ("grid.flip", &["\", \"params\": {\"axis\": \"rows\"}}", "\", \"params\": {\"axis\": \"columns\"}}"]),
    ("grid.increase_height", &["\", \"params\": {\"factor\": 2}}", "\", \"params\": {\"factor\": 3}}"]),
    ("grid.increase_width", &["\", \"params\": {\"factor\": 2}}", "\", \"params\": {\"factor\": 3}}"]),
    (
        "grid.reflect",
        &[
            "\", \"params\": {\"axis\": \"rows\", \"reverse\": false}}",
            "\", \"params\": {\"axis\": \"rows\", \"reverse\": true}}",
            "\", \"params\": {\"axis\": \"columns\", \"reverse\": false}}",
            "\", \"params\": {\"axis\": \"columns\", \"reverse\": true}}",
        ],
    ),
    (
        "grid.repeat",
        &[
            "\", \"params\": {\"axis\": \"rows\", \"times\": 2}}",
            "\", \"params\": {\"axis\": \"columns\", \"times\": 2}}",
            "\", \"params\": {\"axis\": \"both\", \"times\": 2}}",
        ],
    ),
    (
        "grid.rotate",
        &[
            "\", \"params\": {\"degrees\": 90}}",
            "\", \"params\": {\"degrees\": 180}}",
            "\", \"params\": {\"degrees\": 270}}",
        ],
    ),
    ("grid.translate", &["\", \"params\": {\"copies\": 1}}", "\", \"params\": {\"copies\": 2}}"]),
    ("grid.transpose", &["\", \"params\": {}}"]),
    ("grid.upscale", &["\", \"params\": {\"factor\": 2}}", "\", \"params\": {\"factor\": 3}}"]),
];

/// The tools whose calls come as a family: all turns and flips of the list.
const TURNS: [&str; 3] = ["grid.flip", "grid.rotate", "grid.transpose"];

/// Every fragment, once.
pub(super) fn fragments() -> Vec<&'static str> {
    let weighted = COPIES.iter().chain(&COLORS).chain(&LOSS_ON).chain(&LEARNING_RATES).chain(&EPOCHS);
    let mut all = vec![OPEN, CALL, CHAIN, CHAIN_END, COMMA];
    all.extend(TOOL_NAMES);
    all.extend(weighted.map(|(fragment, _)| *fragment));
    for (_, params) in PARAMS {
        for fragment in params {
            if !all.contains(fragment) {
                all.push(fragment);
            }
        }
    }
    all
}

/// The part of the tools that a prompt lists, in order of name: all of them every other time.
pub(super) fn draw_tools(rng: &mut ChaCha8Rng) -> Vec<&'static str> {
    let mut tools = TOOL_NAMES.to_vec();
    if rng.random_bool(0.5) {
        tools.shuffle(rng);
        tools.truncate(rng.random_range(1..TOOL_NAMES.len()));
        tools.sort_unstable();
    }
    tools
}

/// An edit by the prior, fragment by fragment.
pub(super) fn draw_edit(tools: &[&'static str], rng: &mut ChaCha8Rng) -> Vec<&'static str> {
    let mut edit = vec![OPEN];
    match rng.random_range(0..100) {
        0..50 => {}
        50..80 => {
            let of = TURNS.choose(rng).expect("there are turns");
            let calls: Vec<_> = calls_of(tools).filter(|(tool, _)| tool == of).collect();
            separated(&mut edit, &calls);
        }
        80..95 => {
            let mut calls: Vec<_> = calls_of(tools).collect();
            calls.shuffle(rng);
            calls.truncate(rng.random_range(1..=3));
            separated(&mut edit, &calls);
        }
        _ => {
            let calls: Vec<_> = calls_of(tools).collect();
            edit.push(CHAIN);
            separated(&mut edit, &calls.choose_multiple(rng, 2).copied().collect::<Vec<_>>());
            edit.push(CHAIN_END);
        }
    }
    edit.extend([
        weighted(&COPIES, rng),
        weighted(&COLORS, rng),
        weighted(&LOSS_ON, rng),
        weighted(&LEARNING_RATES, rng),
        weighted(&EPOCHS, rng),
    ]);
    edit
}

/// Every call that these tools can be used with.
fn calls_of(tools: &[&'static str]) -> impl Iterator<Item = (&'static str, &'static str)> {
    PARAMS
        .into_iter()
        .filter(|(tool, _)| tools.contains(tool))
        .flat_map(|(tool, params)| params.iter().map(move |&params| (tool, params)))
}

fn separated(edit: &mut Vec<&'static str>, calls: &[(&'static str, &'static str)]) {
    for (place, &(tool, params)) in calls.iter().enumerate() {
        if place > 0 {
            edit.push(COMMA);
        }
        edit.extend([CALL, tool, params]);
    }
}

fn weighted(choices: &[(&'static str, u32)], rng: &mut ChaCha8Rng) -> &'static str {
    choices.choose_weighted(rng, |(_, weight)| *weight).expect("weights are positive").0
}

/// The ids of the fragments.
pub(super) fn fragment_ids<'a>(
    vocabulary: &'a Vocabulary,
    edit: &'a [&'static str],
) -> impl Iterator<Item = u32> + 'a {
    edit.iter().map(|fragment| vocabulary.id(fragment))
}
