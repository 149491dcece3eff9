//! SEAL's chat form with a byte-level tokenizer and a template like Llama 3's.

use selkie_edit::{
    Catalogue, Context, Domain, Example, Grid, LossOn, Passage, Puzzle, PuzzleTest, Question, Task, parse,
    schema,
};
use serde_json::{Value, json};
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::loading::wire;
use super::support::{config, decoder, weights};
use crate::base::ModelFiles;
use crate::bundled;
use crate::chat::ChatCodec;
use crate::codec::Codec;
use crate::config::{Family, ModelConfig};
use crate::constraint::{Constraint, self_edit_grammar};
use crate::error::LearnError;
use crate::model::Model;
use crate::sample::StopReason;
use crate::sequence::Sequence;

const BEGIN: &str = "<|begin_of_text|>";
const END_OF_TEXT: &str = "<|end_of_text|>";
const HEADER: &str = "<|start_header_id|>";
const HEADER_END: &str = "<|end_header_id|>";
const TURN_END: &str = "<|eot_id|>";

const LLAMA_3: &str = r#"{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- endif %}
{%- endif %}
{%- set system_message = messages[0]['content'] | trim %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages[1:] %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'].strip() + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"#;

/// Bytes, Llama's special tokens, and merges over the joints of SEAL's text: ` [[`, `]]#` and `\n\n`.
fn tokenizer() -> Value {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut pieces: Vec<String> = alphabet.iter().map(char::to_string).collect();
    let merges =
        [("Ġ", "["), ("Ġ[", "["), ("[", "["), ("]", "]"), ("]]", "#"), ("Ċ", "Ċ"), ("Ġ", "-"), ("Ġ-", ">")];
    pieces.extend(merges.map(|(left, right)| format!("{left}{right}")));
    let vocab: serde_json::Map<String, Value> =
        pieces.iter().zip(0..).map(|(piece, id)| (piece.clone(), json!(id))).collect();
    let special = [BEGIN, END_OF_TEXT, HEADER, HEADER_END, TURN_END];
    let added: Vec<Value> = special
        .iter()
        .zip(pieces.len()..)
        .map(|(content, id)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
        })
        .collect();
    let begin = json!({"SpecialToken": {"id": BEGIN, "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": added,
        "pre_tokenizer": byte_level,
        "post_processor": {"type": "Sequence", "processors": [byte_level, {
            "type": "TemplateProcessing", "single": [begin, text], "pair": [begin, text],
            "special_tokens": {BEGIN: {"id": BEGIN, "ids": [pieces.len()], "tokens": [BEGIN]}},
        }]},
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocab, "merges": merges.map(|(left, right)| json!([left, right]))},
    })
}

fn settings() -> Value {
    json!({"bos_token": BEGIN, "eos_token": {"content": TURN_END}, "chat_template": LLAMA_3})
}

fn open(files: &[(&str, String)], eos_ids: &[u32]) -> Result<ChatCodec, LearnError> {
    let files: Vec<(&str, &'static [u8])> =
        files.iter().map(|(name, text)| (*name, &*text.clone().into_bytes().leak())).collect();
    ChatCodec::open(&ModelFiles::from_static("DIR", &files, &[]), eos_ids)
}

fn codec_with(settings: &Value) -> ChatCodec {
    open(&[("tokenizer.json", tokenizer().to_string()), ("tokenizer_config.json", settings.to_string())], &[])
        .unwrap()
}

fn codec() -> ChatCodec {
    codec_with(&settings())
}

fn reader() -> Tokenizer {
    Tokenizer::from_bytes(tokenizer().to_string()).unwrap()
}

fn id(token: &str) -> u32 {
    reader().token_to_id(token).unwrap()
}

fn shown(ids: &[u32]) -> String {
    reader().decode(ids, false).unwrap()
}

/// The labelled runs of a sequence, decoded.
fn labelled(sequence: &Sequence) -> Vec<String> {
    let mut runs: Vec<Vec<u32>> = Vec::new();
    let mut inside = false;
    for (&id, &loss) in sequence.ids.iter().zip(&sequence.labelled) {
        if loss && !inside {
            runs.push(Vec::new());
        }
        if loss {
            runs.last_mut().unwrap().push(id);
        }
        inside = loss;
    }
    runs.iter().map(|run| shown(run)).collect()
}

fn grid(rows: &[&[u8]]) -> Grid {
    Grid::from_rows(&rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>()).unwrap()
}

fn task() -> Task {
    let pair =
        |colour| Example { input: grid(&[&[colour, 2], &[3, 4]]), output: grid(&[&[3, 4], &[colour, 2]]) };
    // The second demonstration's input is the first one's output: only places tell them apart.
    let second = Example { input: grid(&[&[3, 4], &[1, 2]]), output: grid(&[&[1, 2], &[3, 4]]) };
    Task { train: vec![pair(1), second], test: pair(9) }
}

fn puzzle() -> Puzzle {
    let Task { train, test } = task();
    Puzzle {
        id: "p".to_owned(),
        train,
        tests: vec![PuzzleTest { input: test.input, output: Some(test.output) }],
    }
}

#[test]
fn a_puzzle_is_asked_as_seal_asks_it() {
    let prompt = codec().test_prompt(&puzzle(), &task().test.input).unwrap();
    insta::assert_snapshot!(prompt.text, @r#"
    <|begin_of_text|><|start_header_id|>system<|end_header_id|>

    Today Date: 26 Jul 2024

    Figure out the underlying transformation in the following examples and apply it to the test case. Here are some examples from this transformation, your answer must follow the format.
    The input-output grids are provided as python arrays:
    [[1 2]
     [3 4]] -> [[3 4]
     [1 2]]#
    [[3 4]
     [1 2]] -> [[1 2]
     [3 4]]#<|eot_id|><|start_header_id|>user<|end_header_id|>

    [[9 2]
     [3 4]] -><|eot_id|><|start_header_id|>assistant<|end_header_id|>
    "#);
    assert!(prompt.text.ends_with("assistant<|end_header_id|>\n\n"));
    assert_eq!(shown(&prompt.ids), prompt.text, "one first token, and every other is the text's");
    assert_eq!(prompt.ids.iter().filter(|&&token| token == id(BEGIN)).count(), 1);
    assert_eq!(prompt.positions, (0..prompt.ids.len() as u32).collect::<Vec<_>>());
    assert_eq!(prompt.end, id(TURN_END));
}

#[test]
fn the_loss_is_on_exactly_what_the_edit_says() {
    let codec = codec();
    let sequence = |loss_on| codec.task(&task(), loss_on).unwrap();
    let prompt = codec.test_prompt(&puzzle(), &task().test.input).unwrap();
    let asked = prompt.with(&codec.grid_answer(&task().test.output).unwrap());
    let answer = "[[3 4]\n [9 2]]#<|eot_id|>";
    assert_eq!(labelled(&sequence(LossOn::FinalOutput)), [answer]);
    // The token of a joint, ` [[`, is the output's.
    assert_eq!(labelled(&sequence(LossOn::AllOutputs)), [" [[3 4]\n [1 2]]#", " [[1 2]\n [3 4]]#", answer]);
    assert_eq!(labelled(&sequence(LossOn::AllTokens)).concat(), shown(&asked.ids));
    // What is learned is what will be asked: the tokens do not depend on the labels.
    for loss_on in [LossOn::FinalOutput, LossOn::AllOutputs, LossOn::AllTokens] {
        let sequence = sequence(loss_on);
        assert_eq!((&sequence.ids, &sequence.positions), (&asked.ids, &asked.positions), "{loss_on:?}");
    }
    assert_eq!(sequence(LossOn::FinalOutput), asked);
}

#[test]
fn without_a_template_messages_are_lines() {
    let codec = codec_with(&json!({"bos_token": BEGIN, "eos_token": END_OF_TEXT}));
    let prompt = codec.test_prompt(&puzzle(), &task().test.input).unwrap();
    assert!(prompt.text.ends_with("[[1 2]\n [3 4]]#\n\n[[9 2]\n [3 4]] -> \n"), "{}", prompt.text);
    // The text does not name the first token, so the tokenizer adds it.
    assert_eq!(shown(&prompt.ids), format!("{BEGIN}{}", prompt.text));
    let sequence = codec.task(&task(), LossOn::AllOutputs).unwrap();
    assert_eq!(
        labelled(&sequence),
        [" [[3 4]\n [1 2]]#", " [[1 2]\n [3 4]]#", "[[3 4]\n [9 2]]#<|end_of_text|>"]
    );
    assert_eq!(prompt.end, id(END_OF_TEXT));
}

#[test]
fn passages_are_plain_text_with_a_loss_on_everything() {
    let codec = codec();
    let document = codec.document("Apollo\nIt flew.").unwrap();
    assert_eq!(shown(&document.ids), "<|begin_of_text|>Apollo\nIt flew.<|eot_id|>");
    assert_eq!(document.labelled_count(), document.len() - 1);
    let prompt = codec.question_prompt("Apollo", "Who flew?").unwrap();
    insta::assert_snapshot!(shown(&prompt.ids), @r#"
    <|begin_of_text|>Let's answer a question directly and concisely.
    Question: Topic: Apollo
    Who flew?
    Answer:
    "#);
    let question = Question { question: "Who flew?".to_owned(), answer: "Armstrong".to_owned() };
    assert_eq!(shown(&codec.answer(&question).unwrap()), "Armstrong<|eot_id|>");
    assert_eq!(codec.text(&codec.answer(&question).unwrap()), "Armstrong");
    let output = task().test.output;
    assert_eq!(codec.grid(&codec.grid_answer(&output).unwrap()), Some(output));
    assert!(codec.edit_prompt("Say it.", true).unwrap().text.contains("\n\nSay it.<|eot_id|>"));
    assert_eq!(codec.edit_prompt("Say it.", false).unwrap().text, "Say it.");
}

#[test]
fn the_token_that_ends_a_turn_is_the_tokenizers() {
    let end = |settings: Value, eos_ids: &[u32]| {
        let files =
            [("tokenizer.json", tokenizer().to_string()), ("tokenizer_config.json", settings.to_string())];
        open(&files, eos_ids).unwrap().question_prompt("t", "q").unwrap().end
    };
    // As in Llama 3's instruction models, whose generation_config.json lists the end of a text first.
    assert_eq!(end(settings(), &[id(END_OF_TEXT), id(TURN_END)]), id(TURN_END));
    assert_eq!(end(json!({}), &[id(END_OF_TEXT), id(TURN_END)]), id(END_OF_TEXT));
    assert_eq!(end(json!({"eos_token": "<|unknown|>"}), &[id(TURN_END)]), id(TURN_END));
    assert_eq!(end(json!({}), &[]), id("Ċ"));
}

#[test]
fn templates_are_found_and_read_as_transformers_does() {
    let text = |files: &[(&str, String)]| {
        let mut all = vec![("tokenizer.json", tokenizer().to_string())];
        all.extend_from_slice(files);
        open(&all, &[]).unwrap().edit_prompt("Hello.", true).unwrap().text
    };
    // Block tags on lines of their own leave no lines behind.
    let template = "{% for m in messages %}\n    {% if m.role == 'user' %}\nU: {{ m.content }}\n    {% endif %}\n{% endfor %}\nA:";
    let configured = |value: Value| ("tokenizer_config.json", json!({"chat_template": value}).to_string());
    assert_eq!(text(&[configured(json!(template))]), "U: Hello.\nA:");
    let named = json!([{"name": "tool_use", "template": "no"}, {"name": "default", "template": template}]);
    assert_eq!(text(&[configured(named)]), "U: Hello.\nA:");
    let file = ("chat_template.jinja", template.to_owned());
    assert_eq!(text(std::slice::from_ref(&file)), "U: Hello.\nA:");
    assert_eq!(text(&[configured(json!("old")), file]), "U: Hello.\nA:");
}

#[test]
fn what_cannot_be_used_is_refused() {
    let refusal = |files: &[(&str, String)]| open(files, &[]).unwrap_err().to_string();
    insta::assert_snapshot!(refusal(&[]), @"tokenizer: there is no `tokenizer.json` in `DIR`");
    assert!(refusal(&[("tokenizer.json", "{".to_owned())]).starts_with("tokenizer: "));
    let damaged = [("tokenizer.json", tokenizer().to_string()), ("tokenizer_config.json", "{".to_owned())];
    insta::assert_snapshot!(refusal(&damaged), @"`DIR/tokenizer_config.json` is not a valid tokenizer configuration: EOF while parsing an object at line 1 column 1");
    let template = |template: &str| {
        let codec = codec_with(&json!({"chat_template": template}));
        codec.edit_prompt("Hello.", true).unwrap_err().to_string()
    };
    insta::assert_snapshot!(template("{% if %}"), @"this model cannot be given this context: the model's chat template fails: syntax error: unexpected end of block (in chat:1)");
    insta::assert_snapshot!(template("{{ raise_exception('Only user and assistant roles are supported!') }}"), @"this model cannot be given this context: the model's chat template fails: invalid operation: Only user and assistant roles are supported! (in chat:1)");
}

#[test]
fn both_kinds_of_context_have_items() {
    let codec = Codec::Chat(Box::new(codec()));
    let items = codec.items(&selkie_edit::Context::Puzzle(puzzle())).unwrap();
    assert_eq!((items.len(), items[0].name.as_str()), (1, "test 0"));
    assert_eq!(codec.read_answer(&items[0].expected, &items[0].answer), items[0].expected);
    let questions = vec![Question { question: "Who?".to_owned(), answer: "[[1]]".to_owned() }];
    let passage = Passage { title: "T".to_owned(), context: "C".to_owned(), questions };
    let items = codec.items(&selkie_edit::Context::Passage(passage)).unwrap();
    // Text that looks like a grid is text where text was asked for.
    assert_eq!(codec.read_answer(&items[0].expected, &items[0].answer), items[0].expected);
    let unknown = Puzzle { tests: vec![PuzzleTest { input: grid(&[&[1]]), output: None }], ..puzzle() };
    insta::assert_snapshot!(
        codec.items(&selkie_edit::Context::Puzzle(unknown)).unwrap_err(),
        @"this model cannot be given this context: puzzle `p` has no test with a known output to measure by"
    );
}

#[test]
fn a_real_model_is_held_to_self_edits() {
    let chat = codec();
    let size = reader().get_vocab_size(true) + 5;
    let vocabulary = chat.vocabulary(size, &[id(END_OF_TEXT), id(TURN_END)]).unwrap();
    let grammar = self_edit_grammar(&schema::compose(&Catalogue::default()), Domain::Passage);
    let mut constraint = Constraint::new(vocabulary, &grammar).unwrap();
    let edit = r#"{"version":1,"data":{"documents":["A seal."]}}"#;
    let mut written = String::new();
    while written.len() < edit.len() {
        written += &shown(&constraint.forced().unwrap());
        assert!(edit.starts_with(&written), "{written}");
        if let Some(letter) = edit[written.len()..].chars().next() {
            constraint.accept(id(&letter.to_string().replace(' ', "Ġ"))).unwrap();
            written.push(letter);
        }
    }
    assert!(constraint.is_finished());
    let cost = constraint.cost();
    assert!(cost.forced > 0 && cost.sampled > 0, "{cost:?}");
    let mut logits = vec![0.0; size];
    constraint.mask(&mut logits).unwrap();
    let ends = (0..).zip(&logits).filter(|(_, logit)| **logit == 0.0).map(|(id, _)| id);
    assert_eq!(ends.collect::<Vec<u32>>(), [id(END_OF_TEXT), id(TURN_END)]);
}

#[test]
fn a_model_that_knows_no_passages_is_held_to_nothing_of_them() {
    let model = Model::open(&bundled::files(Domain::Puzzle)).unwrap();
    assert!(model.edit_constraint(&Catalogue::default(), Domain::Passage).unwrap().is_none());
}

/// A model of random weights behind the tokenizer, with more logits than tokens.
fn model(seed: u64) -> Model {
    let vocab_size = reader().get_vocab_size(true) + 3;
    let config = ModelConfig { vocab_size, max_positions: 1 << 15, layers: 1, ..config(Family::Llama, true) };
    let weights = weights(&decoder(&config, seed));
    let files = [
        ("config.json", wire(&config).to_string().into_bytes()),
        ("tokenizer.json", tokenizer().to_string().into_bytes()),
        ("tokenizer_config.json", settings().to_string().into_bytes()),
        ("model.safetensors", safetensors::serialize(&weights, None).unwrap()),
    ];
    let files: Vec<(&str, &'static [u8])> =
        files.into_iter().map(|(name, bytes)| (name, &*bytes.leak())).collect();
    Model::open(&ModelFiles::from_static("random", &files, &[])).unwrap()
}

#[test]
fn a_puzzles_edit_is_held_to_the_schema_and_a_passages_is_not() {
    let passage = Passage { title: "T".to_owned(), context: "C".to_owned(), questions: Vec::new() };
    let (puzzle, passage) = (Context::Puzzle(puzzle()), Context::Passage(passage));
    let catalogue = Catalogue::default();
    for seed in 0..4 {
        let model = model(seed);
        let start = model.edit_constraint(&catalogue, Domain::Puzzle).unwrap().unwrap();
        let written = model.write_edit(None, &puzzle, &catalogue, seed).unwrap();
        // A model that knows nothing seldom ends a list, but every token that it wrote, the grammar allows.
        let mut walk = start.clone();
        for &id in reader().encode(written.text.as_str(), false).unwrap().get_ids() {
            assert!(walk.accept(id).is_ok(), "{}", written.text);
        }
        assert!(written.text.starts_with(r#"{"version":1"#), "{}", written.text);
        if written.ended == StopReason::Complete {
            parse(&written.text, Domain::Puzzle).unwrap();
        }
        let free = model.write_edit(None, &passage, &catalogue, seed).unwrap();
        assert!(!free.text.starts_with('{'), "{}", free.text);
    }
}
