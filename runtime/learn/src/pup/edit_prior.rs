//! The self-edits for puzzles that pretraining writes: a prior over the edit space that favours nothing.
//!
//! An edit is a chain of JSON fragments, each one piece of the vocabulary, so it is about ten tokens and its
//! text is valid JSON whatever fragments are chosen in this order. It begins with what the rule is tied to, which
//! is true of the puzzle in sight ([`RuleKind`]); all that follows is chosen without looking at the puzzle: which
//! edit fits which rule is what the outer loop is to find out. Only tools of the prompt's list are used.
//!
//! | choice | values, equally likely unless said |
//! | --- | --- |
//! | tools | none (40%), one family of turns and flips (30%), one to three of any kind (20%), a chain of two (10%) |
//! | colour copies | 1, 4, 16, 64 |
//! | colours | true, false |
//! | loss_on | all_outputs, final_output, all_tokens |
//! | learning_rate | 0.0003, 0.001, 0.003, 0.01, 0.02 |
//! | epochs | 1, 2, 4 |

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::rules::RuleKind;
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

const EPOCHS: [&str; 3] = [",\"epochs\":1}}", ",\"epochs\":2}}", ",\"epochs\":4}}"];

const _: () = {
    use selkie_edit::limits::{EXAMPLES_MAX, STEPS_MAX};
    assert!((EXAMPLES_MAX as u64).div_ceil(EDIT_BATCH_SIZE as u64) * 4 <= STEPS_MAX);
};

/// What the model says of the rule before it chooses: whether turning a grid would change the rule, ...
const TURNS_SAID: [&str; 2] = [
    "{\"version\":1,\"reason\":\"turns keep the rule, ",
    "{\"version\":1,\"reason\":\"turns change the rule, ",
];

/// ... and whether renaming its colours would.
const COLOURS_SAID: [&str; 2] =
    ["colours keep it\",\"data\":{\"tools\":[", "colours change it\",\"data\":{\"tools\":["];

const CALL: &str = "{\"tool\":\"";
const CHAIN: &str = "{\"chain\":[";
const CHAIN_END: &str = "]}";
const COMMA: &str = ",";

const COPIES: [&str; 4] = [
    "],\"permute\":{\"copies\":1",
    "],\"permute\":{\"copies\":4",
    "],\"permute\":{\"copies\":16",
    "],\"permute\":{\"copies\":64",
];

const COLORS: [&str; 2] = [",\"colors\":true}}", ",\"colors\":false}}"];

const LOSS_ON: [&str; 3] = [
    ",\"training\":{\"loss_on\":\"all_outputs\"",
    ",\"training\":{\"loss_on\":\"final_output\"",
    ",\"training\":{\"loss_on\":\"all_tokens\"",
];

const LEARNING_RATES: [&str; 5] = [
    ",\"learning_rate\":0.0003",
    ",\"learning_rate\":0.001",
    ",\"learning_rate\":0.003",
    ",\"learning_rate\":0.01",
    ",\"learning_rate\":0.02",
];

/// The parameters that a tool is used with, from its name's closing quote to the call's end.
const PARAMS: [(&str, &[&str]); 9] = [
    ("grid.flip", &["\",\"params\":{\"axis\":\"rows\"}}", "\",\"params\":{\"axis\":\"columns\"}}"]),
    ("grid.increase_height", &["\",\"params\":{\"factor\":2}}", "\",\"params\":{\"factor\":3}}"]),
    ("grid.increase_width", &["\",\"params\":{\"factor\":2}}", "\",\"params\":{\"factor\":3}}"]),
    (
        "grid.reflect",
        &[
            "\",\"params\":{\"axis\":\"rows\",\"reverse\":false}}",
            "\",\"params\":{\"axis\":\"rows\",\"reverse\":true}}",
            "\",\"params\":{\"axis\":\"columns\",\"reverse\":false}}",
            "\",\"params\":{\"axis\":\"columns\",\"reverse\":true}}",
        ],
    ),
    (
        "grid.repeat",
        &[
            "\",\"params\":{\"axis\":\"rows\",\"times\":2}}",
            "\",\"params\":{\"axis\":\"columns\",\"times\":2}}",
            "\",\"params\":{\"axis\":\"both\",\"times\":2}}",
        ],
    ),
    (
        "grid.rotate",
        &[
            "\",\"params\":{\"degrees\":90}}",
            "\",\"params\":{\"degrees\":180}}",
            "\",\"params\":{\"degrees\":270}}",
        ],
    ),
    ("grid.translate", &["\",\"params\":{\"copies\":1}}", "\",\"params\":{\"copies\":2}}"]),
    ("grid.transpose", &["\",\"params\":{}}"]),
    ("grid.upscale", &["\",\"params\":{\"factor\":2}}", "\",\"params\":{\"factor\":3}}"]),
];

/// The tools whose calls come as a family: all turns and flips of the list.
const TURNS: [&str; 3] = ["grid.flip", "grid.rotate", "grid.transpose"];

/// Every fragment, once.
pub(super) fn fragments() -> Vec<&'static str> {
    let mut all = vec![CALL, CHAIN, CHAIN_END, COMMA];
    all.extend(TURNS_SAID.iter().chain(&COLOURS_SAID).chain(&TOOL_NAMES));
    all.extend(COPIES.iter().chain(&COLORS).chain(&LOSS_ON).chain(&LEARNING_RATES).chain(&EPOCHS));
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

/// An edit by the prior, fragment by fragment: what is true of the rule, then choices that do not depend on it.
pub(super) fn draw_edit(kind: RuleKind, tools: &[&'static str], rng: &mut ChaCha8Rng) -> Vec<&'static str> {
    let mut edit =
        vec![TURNS_SAID[usize::from(kind.orientation_bound)], COLOURS_SAID[usize::from(kind.colour_bound)]];
    match rng.random_range(0..100) {
        0..40 => {}
        40..70 => {
            let of = TURNS.choose(rng).expect("there are turns");
            let calls: Vec<_> = calls_of(tools).filter(|(tool, _)| tool == of).collect();
            separated(&mut edit, &calls);
        }
        70..90 => {
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
    let mut any = |choices: &[&'static str]| *choices.choose(rng).expect("there are choices");
    edit.extend([any(&COPIES), any(&COLORS), any(&LOSS_ON), any(&LEARNING_RATES), any(&EPOCHS)]);
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

/// The ids of the fragments.
pub(super) fn fragment_ids<'a>(
    vocabulary: &'a Vocabulary,
    edit: &'a [&'static str],
) -> impl Iterator<Item = u32> + 'a {
    edit.iter().map(|fragment| vocabulary.id(fragment))
}
