//! Constrained decoding over tokenizers of several kinds, and self-edits written by random models.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use selkie_edit::{
    Catalogue, Domain, PluginId, ToolKind, ToolSpec, TrainingDefaults, Validator, parse, schema, validate,
};
use serde_json::{Value, json};
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::support::config;
use crate::codec::Codec;
use crate::config::{Family, ModelConfig};
use crate::constraint::{Constraint, Grammar, Vocabulary, self_edit_grammar};
use crate::pup::facts::FactWorld;
use crate::pup::format::{EDIT, EOS};
use crate::pup::puzzles::PuzzleWorld;
use crate::sampler::{Sampler, SamplingSettings};

const END: &str = "<|end|>";

/// Words of self-edits and some others, each of them and each of its beginnings a token.
const WORDS: &str = "\" {\" \":\" \"}, \"}} \"] ]} \"version\" \"data\" \"tools\" \"tool\" \"params\" \"chain\" \"grid. rotate \
                     transpose reflect columns rows increase_height permute_colors \"documents\" \"training\" learning_rate \
                     include_source true false epochs batch_size \"lora\" rank alpha targets q_proj warmup_steps schedule \
                     cosine linear reason Ġthe Ġis Ġof Ġselkie Ġseal Ġbecomes Ġpeople. Ġocean Ã© æĹ¥æľ¬ ðŁ¦Ń";

/// A byte-level tokenizer as GPT-2's: all bytes, the beginnings of `words`, and the end token last.
fn byte_level<'a>(words: impl Iterator<Item = &'a str>) -> Tokenizer {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let mut vocab: BTreeMap<String, usize> =
        alphabet.iter().enumerate().map(|(id, letter)| (letter.to_string(), id)).collect();
    let mut merges = Vec::new();
    for word in words {
        let ends: Vec<usize> = word.char_indices().map(|(at, _)| at).skip(1).chain([word.len()]).collect();
        for pair in ends.windows(2) {
            let id = vocab.len();
            if !vocab.contains_key(&word[..pair[1]]) {
                vocab.insert(word[..pair[1]].to_owned(), id);
                merges.push(json!([&word[..pair[0]], &word[pair[0]..pair[1]]]));
            }
        }
    }
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    tokenizer_with(json!({
        "pre_tokenizer": byte_level, "decoder": byte_level, "normalizer": null,
        "added_tokens": [special(END, vocab.len())],
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }))
}

/// A tokenizer as Llama 2's: words with their space in front, bytes in between.
fn byte_fallback() -> Tokenizer {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let letters = "▁abcdefghijklmnopqrstuvwxyz{}[]:,.\"0123456789";
    let joined = ["▁t", "he", "▁the", "\":", "{\"", "\"}", "in"];
    let pieces = bytes.chain(letters.chars().map(String::from)).chain(joined.map(str::to_owned));
    let vocab: serde_json::Map<String, Value> =
        [END.to_owned()].into_iter().chain(pieces).zip(0..).map(|(piece, id)| (piece, json!(id))).collect();
    let merges = [["▁", "t"], ["h", "e"], ["▁t", "he"], ["\"", ":"], ["{", "\""], ["\"", "}"], ["i", "n"]];
    tokenizer_with(json!({
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]},
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "added_tokens": [special(END, 0)],
        "model": {"type": "BPE", "vocab": vocab, "merges": merges, "byte_fallback": true, "unk_token": END, "fuse_unk": true},
    }))
}

fn special(content: &str, id: usize) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
           "normalized": false, "special": true})
}

fn tokenizer_with(parts: Value) -> Tokenizer {
    let mut whole = json!({"version": "1.0", "truncation": null, "padding": null, "post_processor": null});
    whole.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    Tokenizer::from_bytes(whole.to_string()).unwrap()
}

/// A tokenizer and its vocabulary, with rows that no token has, as models are padded.
struct Fixture {
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    end: u32,
}

fn fixture(tokenizer: Tokenizer) -> Fixture {
    let end = tokenizer.token_to_id(END).unwrap();
    let size = tokenizer.get_vocab_size(true).next_multiple_of(64) + 3;
    let vocabulary = Vocabulary::new(&tokenizer, size, &[end]).unwrap();
    Fixture { tokenizer, vocabulary, end }
}

/// A byte-level vocabulary, its tokenizer and its end token.
pub(super) fn byte_level_vocabulary() -> (Vocabulary, Tokenizer, u32) {
    let Fixture { tokenizer, vocabulary, end } = fixture(byte_level(WORDS.split_whitespace()));
    (vocabulary, tokenizer, end)
}

/// Tokens after which a random model wants to end.
const FREE: usize = 30;

/// What a random model writes under a grammar, when it ends within `limit` tokens. After a while its logits favour
/// what closes strings, lists and objects by `bias`.
fn walk(fixture: &Fixture, start: &Constraint, seed: u64, bias: f32, limit: usize) -> Option<String> {
    let Fixture { tokenizer, vocabulary, end } = fixture;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let closes: Vec<f32> = (0..vocabulary.size() as u32)
        .map(|id| tokenizer.decode(&[id], true).unwrap_or_default())
        .map(|text| if text.starts_with(['"', ']', '}']) { bias } else { 0.0 })
        .collect();
    let mut sampler = Sampler::new(SamplingSettings::seeded(seed)).unwrap();
    let mut constraint = start.clone();
    let mut ids = Vec::new();
    while ids.len() < limit {
        ids.extend(constraint.forced().unwrap());
        if constraint.is_finished() {
            return Some(tokenizer.decode(&ids, true).unwrap());
        }
        let wish = if ids.len() < FREE { 0.0 } else { 1.0 };
        let mut logits: Vec<f32> =
            closes.iter().map(|closes| closes * wish + random.random_range(-3.0..3.0)).collect();
        let choice = sampler.next_allowed(&mut logits, &mut constraint).unwrap();
        assert!(choice.log_prob < 0.0 && choice.log_prob > -40.0);
        if choice.id == *end {
            assert!(constraint.is_finished());
            return Some(tokenizer.decode(&ids, true).unwrap());
        }
        ids.push(choice.id);
    }
    None
}

fn catalogue() -> Catalogue {
    let tools: Vec<Value> = serde_json::from_str(include_str!("grid_tools.json")).unwrap();
    let specs = tools.into_iter().map(|tool| ToolSpec {
        name: tool["name"].as_str().unwrap().to_owned(),
        kind: ToolKind::PuzzleAugmenter,
        summary: tool["summary"].as_str().unwrap().to_owned(),
        params_schema: tool["params_schema"].clone(),
        plugin: PluginId { name: "grid".to_owned(), version: "0.1.0".to_owned(), digest: "0".repeat(64) },
    });
    Catalogue::new(specs).unwrap()
}

fn spec(name: &str, params_schema: Value) -> ToolSpec {
    let plugin = PluginId { name: "odd".to_owned(), version: "1.0.0".to_owned(), digest: "0".repeat(64) };
    let (name, kind) = (name.to_owned(), ToolKind::PuzzleAugmenter);
    ToolSpec { name, kind, summary: String::new(), params_schema, plugin }
}

/// Every finished edit of `count` random models is valid; how many finished.
fn check_edits(fixture: &Fixture, catalogue: &Catalogue, domain: Domain, count: u64) -> u64 {
    let grammar = self_edit_grammar(&schema::compose(&catalogue.suited(domain)), domain);
    let start = Constraint::new(&fixture.vocabulary, &grammar).unwrap();
    check_walks(fixture, &start, catalogue, domain, count)
}

/// The same of random models under a constraint.
fn check_walks(
    fixture: &Fixture,
    start: &Constraint,
    catalogue: &Catalogue,
    domain: Domain,
    count: u64,
) -> u64 {
    let validator = Validator::new(catalogue).unwrap();
    let mut finished = 0;
    for seed in 0..count {
        let Some(text) = walk(fixture, start, seed, 7.0, 1000) else { continue };
        check_valid(&text, &validator, domain);
        finished += 1;
    }
    finished
}

fn check_valid(text: &str, validator: &Validator, domain: Domain) {
    let draft = parse(text, domain).unwrap_or_else(|refused| panic!("{text}: {refused:?}"));
    validate(draft, validator, domain, &TrainingDefaults::seal())
        .unwrap_or_else(|refused| panic!("{text}: {refused:?}"));
}

#[test]
fn random_models_write_only_valid_edits() {
    let small = fixture(byte_level(WORDS.split_whitespace()));
    for (domain, count) in [(Domain::Puzzle, 200), (Domain::Passage, 200)] {
        let finished = check_edits(&small, &catalogue(), domain, count);
        assert!(finished * 100 > count * 95, "{finished} of {count} finished");
    }
}

#[test]
fn random_models_write_only_calls_that_odd_tools_take() {
    let number = json!({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 2.5});
    let tools = [
        spec(
            "odd.numbers",
            json!({"type": "object", "required": ["a", "b"], "additionalProperties": false,
            "properties": {"a": number, "b": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 4}}}),
        ),
        spec(
            "odd.lists",
            json!({"type": "object", "required": ["a", "b"], "additionalProperties": false, "properties": {
            "a": {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": true},
            "b": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "contains": {"minimum": 5}}}}),
        ),
        spec(
            "odd.choices",
            json!({"type": "object", "required": ["a"], "additionalProperties": false, "properties": {
            "a": {"oneOf": [{"const": "x"}, {"const": "y"}]}, "b": {"type": "boolean"}},
            "if": {"properties": {"a": {"const": "x"}}}, "then": {"required": ["b"]}}),
        ),
        spec(
            "odd.dependent",
            json!({"type": "object", "additionalProperties": false,
            "properties": {"a": {"type": "boolean"}, "b": {"type": "boolean"}}, "dependentRequired": {"a": ["b"]}}),
        ),
        spec(
            "odd.open",
            json!({"type": "object", "properties": {"note": {"type": "string", "format": "color"}}}),
        ),
        spec(
            "odd.shared",
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/side"}}, "required": ["a"],
            "additionalProperties": false, "$defs": {"side": {"type": "string", "pattern": "^(left|right)$"}}}),
        ),
    ];
    let small = fixture(byte_level(WORDS.split_whitespace()));
    let finished = check_edits(&small, &Catalogue::new(tools).unwrap(), Domain::Puzzle, 100);
    assert!(finished > 90, "{finished} of 100 finished");
}

#[test]
fn without_tools_a_puzzles_list_of_them_is_empty() {
    let small = fixture(byte_level(WORDS.split_whitespace()));
    assert!(check_edits(&small, &Catalogue::default(), Domain::Puzzle, 20) > 18);
    assert!(check_edits(&small, &Catalogue::default(), Domain::Passage, 20) > 18);
}

#[test]
fn tokenizers_with_byte_fallback_write_what_the_schema_says() {
    let llama = fixture(byte_fallback());
    let schema = json!({"type": "object", "properties": {"text": {"type": "string", "minLength": 1, "maxLength": 9},
        "the": {"enum": ["the in", "hé"]}}, "required": ["text", "the"], "additionalProperties": false});
    let start = Constraint::new(&llama.vocabulary, &Grammar::JsonSchema(schema)).unwrap();
    for seed in 0..100 {
        let text = walk(&llama, &start, seed, 0.0, 200).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let length = value["text"].as_str().unwrap().chars().count();
        assert!((1..=9).contains(&length), "{text}");
        assert!(["the in", "hé"].contains(&value["the"].as_str().unwrap()), "{text}");
    }
}

/// The tokens that may come next, as text; the end token as itself.
fn allowed(fixture: &Fixture, constraint: &mut Constraint) -> Vec<String> {
    let mut logits = vec![0.0; fixture.vocabulary.size()];
    constraint.mask(&mut logits).unwrap();
    let ids = (0..).zip(&logits).filter(|(_, logit)| **logit == 0.0).map(|(id, _)| id);
    ids.map(|id| fixture.tokenizer.decode(&[id], false).unwrap()).collect()
}

#[test]
fn masks_allow_exactly_what_may_follow() {
    let small = fixture(byte_level(["true", "false", "tru!"].into_iter()));
    let id = |token: &str| small.tokenizer.token_to_id(token).unwrap();
    let mut constraint =
        Constraint::new(&small.vocabulary, &Grammar::Regex("true|t[xy]+".to_owned())).unwrap();
    assert_eq!(allowed(&small, &mut constraint), ["t", "tr", "tru", "true"]);
    let mut other = constraint.clone();
    constraint.accept(id("t")).unwrap();
    assert_eq!(allowed(&small, &mut constraint), ["r", "x", "y"]);
    constraint.accept(id("x")).unwrap();
    assert!(constraint.may_end().unwrap() && !constraint.is_finished());
    assert_eq!(allowed(&small, &mut constraint), ["x", "y", END]);
    constraint.accept(small.end).unwrap();
    assert!(constraint.is_finished());
    assert_eq!(allowed(&small, &mut constraint), [END]);

    // The clone stayed where it was, and ends by itself where nothing can follow.
    other.accept(id("tru")).unwrap();
    assert!(!other.may_end().unwrap());
    assert_eq!(other.forced().unwrap(), [id("e")]);
    assert!(other.is_finished() && other.may_end().unwrap());
    assert!(other.forced().unwrap().is_empty());
    assert_eq!((other.cost().sampled, other.cost().forced), (1, 1));
    assert!(other.cost().per_token() > std::time::Duration::ZERO);
}

#[test]
fn forced_tokens_are_those_of_the_tokenizer() {
    let small = fixture(byte_level(WORDS.split_whitespace()));
    let grammar = self_edit_grammar(&schema::compose(&catalogue()), Domain::Puzzle);
    let mut constraint = Constraint::new(&small.vocabulary, &grammar).unwrap();
    let text = small.tokenizer.decode(&constraint.forced().unwrap(), true).unwrap();
    assert!(r#"{"version":1,"data":{"#.starts_with(&text) && text.len() > 10, "{text}");
}

#[test]
fn multiples_that_people_ask_for_can_be_used() {
    let small = fixture(byte_level(WORDS.split_whitespace()));
    for multiple in [json!(1), json!(5), json!(100), json!(1000), json!(0.01), json!(0.25)] {
        let price = json!({"type": "number", "multipleOf": multiple});
        let grammar = Grammar::JsonSchema(json!({"type": "object", "properties": {"a": price, "b": price}}));
        let made = Constraint::new(&small.vocabulary, &grammar);
        assert!(made.is_ok(), "{multiple}: {made:?}");
    }
}

#[test]
fn lark_grammars_are_followed() {
    let small = fixture(byte_level(["(", ")"].into_iter()));
    let grammar = Grammar::Lark("start: pair+\npair: \"(\" pair* \")\"".to_owned());
    let start = Constraint::new(&small.vocabulary, &grammar).unwrap();
    let text = (0..20).find_map(|seed| walk(&small, &start, seed, 0.0, 30)).unwrap();
    assert_eq!(text.matches('(').count(), text.matches(')').count());
    assert!(text.starts_with('('));
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let small = fixture(byte_level(WORDS.split_whitespace()));
    let refusal = |grammar: Grammar| Constraint::new(&small.vocabulary, &grammar).unwrap_err().to_string();
    let schema = |schema: Value| refusal(Grammar::JsonSchema(schema));
    insta::assert_snapshot!(schema(json!({"type": "array", "uniqueItems": true})), @r#"constrained decoding: the JSON Schema cannot be used: keywords that cannot be enforced while decoding: ["uniqueItems"]"#);
    insta::assert_snapshot!(schema(json!({"not": {"type": "string"}})), @r#"constrained decoding: the JSON Schema cannot be used: keywords that cannot be enforced while decoding: ["not"]"#);
    insta::assert_snapshot!(schema(json!({"type": "integer", "minimum": 2, "maximum": 1})), @"constrained decoding: the JSON Schema cannot be used: Unsatisfiable schema: minimum (2) is greater than maximum (1)");
    insta::assert_snapshot!(schema(json!({"$ref": "https://example.com/schema"})), @"constrained decoding: the JSON Schema cannot be used: only a $ref into the schema itself (#/...) is followed; ref 'https://example.com/schema'");
    insta::assert_snapshot!(schema(json!({"$ref": "#/$defs/nowhere"})), @"constrained decoding: the JSON Schema cannot be used: Reference segment '$defs' not found in '#/$defs/nowhere'.");
    insta::assert_snapshot!(schema(json!(7)), @"constrained decoding: the JSON Schema cannot be used: schema must be an object or boolean");
    // These would be compiled for minutes, or for ever, or overflow, or be obeyed by nothing.
    insta::assert_snapshot!(schema(json!({"type": "integer", "multipleOf": 999_999})), @"constrained decoding: the JSON Schema cannot be used: `multipleOf` 999999: the product of all different ones may be 10000");
    insta::assert_snapshot!(schema(json!({"allOf": [{"type": "integer", "multipleOf": 997}, {"multipleOf": 1009}]})), @"constrained decoding: the JSON Schema cannot be used: `multipleOf` 1009: the product of all different ones may be 10000");
    insta::assert_snapshot!(schema(json!({"properties": {"n": {"type": "integer", "minimum": i64::MIN}}})), @"constrained decoding: the JSON Schema cannot be used: `minimum` is -9223372036854775808; expected -2^53 to 2^53");
    insta::assert_snapshot!(schema(json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})), @"constrained decoding: the JSON Schema cannot be used: no text obeys it; a `$ref` to itself must have a way out");
    insta::assert_snapshot!(refusal(Grammar::Regex("a(?=b)".to_owned())), @r#"constrained decoding: the regular expression cannot be used: at 1(8): invalid regex "a(?=b)" (in regex): regex parse error:; a(?=b); error: look-around, including look-ahead and look-behind, is not supported; 1 | start: /a(?=b)/"#);
    insta::assert_snapshot!(refusal(Grammar::Regex("a(".to_owned())), @r#"constrained decoding: the regular expression cannot be used: at 1(8): invalid regex "a(" (in regex): regex parse error:; a(; error: unclosed group; 1 | start: /a(/"#);
    insta::assert_snapshot!(refusal(Grammar::Lark("begin: \"a\"".to_owned())), @"constrained decoding: the Lark grammar cannot be used: no start rule found");
    insta::assert_snapshot!(refusal(Grammar::Lark(String::new())), @"constrained decoding: the Lark grammar cannot be used: no start rule found");
}

#[test]
fn what_a_stream_may_not_do_is_an_error() {
    let small = fixture(byte_level(["true"].into_iter()));
    let start = Constraint::new(&small.vocabulary, &Grammar::Regex("true".to_owned())).unwrap();
    let mut constraint = start.clone();
    insta::assert_snapshot!(constraint.mask(&mut [0.0; 7]).unwrap_err(), @"constrained decoding: 7 logits for a vocabulary of 323");
    insta::assert_snapshot!(constraint.accept(5).unwrap_err(), @r#"constrained decoding: Parser Error: token "&" doesn't satisfy the grammar; byte '&' fails parse"#);
    assert!(!constraint.is_finished());
    insta::assert_snapshot!(constraint.mask(&mut vec![0.0; small.vocabulary.size()]).unwrap_err(), @r#"constrained decoding: Parser Error: token "&" doesn't satisfy the grammar; byte '&' fails parse"#);
    let refused = |id| start.clone().accept(id).unwrap_err().to_string();
    insta::assert_snapshot!(refused(9_999_999), @"constrained decoding: token id 9999999 out of range");
    let unfit = |id: u32| format!("[{id}]\" doesn't satisfy the grammar; byte 'ÿ' fails parse");
    let end = refused(small.end);
    assert!(end.ends_with(&unfit(small.end)), "{end}");
    // A token of the model that the tokenizer does not have.
    let padding = small.vocabulary.size() as u32 - 1;
    let unknown = refused(padding);
    assert!(unknown.ends_with(&unfit(padding)), "{unknown}");
}

#[test]
fn vocabularies_that_cannot_be_used_are_refused() {
    let tokenizer = byte_level(WORDS.split_whitespace());
    let refusal = |tokenizer: &Tokenizer, size: usize, ends: &[u32]| {
        Vocabulary::new(tokenizer, size, ends).unwrap_err().to_string()
    };
    insta::assert_snapshot!(refusal(&tokenizer, 600, &[]), @"constrained decoding: the model has no end token, so no text could end");
    insta::assert_snapshot!(refusal(&tokenizer, 600, &[600]), @"token id 600 is outside the vocabulary of 600");
    let words = tokenizer_with(json!({
        "normalizer": null, "pre_tokenizer": null, "added_tokens": [], "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
    }));
    insta::assert_snapshot!(refusal(&tokenizer, 1 << 23, &[0]), @"constrained decoding: 8388608 tokens of 1642 bytes in all; at most 4194302 of either can be constrained");
    insta::assert_snapshot!(refusal(&words, 1, &[0]), @"constrained decoding: the tokenizer's decoder is `WordPiece`, whose tokens are not bytes; byte-level tokenizers and SentencePiece's work");
}

#[test]
fn models_with_fewer_rows_than_the_tokenizer_has_tokens_have_no_others() {
    let tokenizer = byte_level(["ab"].into_iter());
    let end = tokenizer.token_to_id("!").unwrap();
    let vocabulary = Vocabulary::new(&tokenizer, 256, &[end]).unwrap();
    let small = Fixture { tokenizer, vocabulary, end };
    let mut constraint = Constraint::new(&small.vocabulary, &Grammar::Regex("ab".to_owned())).unwrap();
    assert_eq!(allowed(&small, &mut constraint), ["a"]);
}

/// Whether a whole text obeys a grammar, byte by byte.
fn admits(fixture: &Fixture, start: &Constraint, text: &str) -> bool {
    let mut constraint = start.clone();
    let byte_tokens = fixture.tokenizer.encode(text, false).unwrap();
    byte_tokens.get_ids().iter().all(|&id| constraint.accept(id).is_ok()) && constraint.may_end().unwrap()
}

#[test]
fn edits_that_validation_would_refuse_cannot_be_written() {
    let bytes = fixture(byte_level(std::iter::empty()));
    let check = |domain: Domain, allowed: &[&str], refused: &[&str]| {
        let grammar = self_edit_grammar(&schema::compose(&catalogue().suited(domain)), domain);
        let start = Constraint::new(&bytes.vocabulary, &grammar).unwrap();
        allowed.iter().for_each(|text| assert!(admits(&bytes, &start, text), "{text}"));
        refused.iter().for_each(|text| assert!(!admits(&bytes, &start, text), "{text}"));
    };
    check(
        Domain::Puzzle,
        &[
            r#"{"version":1,"data":{}}"#,
            r#"{"version":1,"data":{"tools":[{"tool":"grid.rotate","params":{"degrees":90}},{"chain":[{"tool":"grid.identity"}]}]}}"#,
            r#"{"version":1,"data":{"permute":{"copies":64,"colors":true},"documents":["a b"]}}"#,
            r#"{"version":1,"reason":"x","data":{},"training":{"learning_rate":0.0001,"lora":{"alpha":16}}}"#,
            r#"{"version":1,"data":{},"training":{"learning_rate":0.0005}}"#,
            r#"{"version":1,"data":{},"training":{"learning_rate":0.000001}}"#,
        ],
        &[
            r#"{"version":2,"data":{}}"#,
            r#"{"version": 1,"data":{}}"#,
            r#"{"version":1,"data":{"tools":[{"tool":"grid.spin"}]}}"#,
            r#"{"version":1,"data":{"tools":[{"tool":"grid.rotate","params":{"degrees":45}}]}}"#,
            r#"{"version":1,"data":{"tools":[{"tool":"grid.rotate"}]}}"#,
            r#"{"version":1,"data":{"permute":{"copies":65}}}"#,
            r#"{"version":1,"data":{"documents":[" "]}}"#,
            r#"{"version":1,"data":{"documents":["\n"]}}"#,
            r#"{"version":1,"data":{"documents":["  a"]}}"#,
            r#"{"version":1,"data":{"documents":["a"],"replay":16}}"#,
            r#"{"version":1,"data":{},"reason":"x"}"#,
            r#"{"version":1,"data":{"documents":[]}}"#,
            r#"{"version":1,"data":{},"training":{"learning_rate":0}}"#,
            r#"{"version":1,"data":{},"training":{"learning_rate":1}}"#,
            r#"{"version":1,"data":{},"training":{"learning_rate":0.00012345}}"#,
            r#"{"version":1,"data":{},"training":{"learning_rate":0.00010}}"#,
            r#"{"version":1,"data":{},"training":{"learning_rate":0.000100}}"#,
            r#"{"version":1,"data":{},"training":{"learning_rate":1e-4}}"#,
            r#"{"version":1,"data":{}} "#,
        ],
    );
    check(
        Domain::Passage,
        &[
            r#"{"version":1,"data":{"documents":["A selkie is a seal."],"include_source":false}}"#,
            r#"{"version":1,"data":{"documents":["Ünder\nwater"]}}"#,
            r#"{"version":1,"data":{"documents":[" a"],"replay":256}}"#,
        ],
        &[
            r#"{"version":1,"data":{}}"#,
            r#"{"version":1,"data":{"include_source":false}}"#,
            r#"{"version":1,"data":{"tools":[],"documents":["a"]}}"#,
            r#"{"version":1,"data":{"documents":["a"],"replay":257}}"#,
            r#"{"version":1,"data":{"permute":{},"documents":["a"]}}"#,
            "{\"version\":1,\"data\":{\"documents\":[\"\u{2003}\"]}}",
        ],
    );
}

#[test]
fn tokens_that_are_too_long_are_never_allowed() {
    let long = "a".repeat(300);
    let small = fixture(byte_level([long.as_str()].into_iter()));
    let mut constraint = Constraint::new(&small.vocabulary, &Grammar::Regex("a*".to_owned())).unwrap();
    let longest = allowed(&small, &mut constraint).iter().map(String::len).max();
    assert_eq!(longest, Some(254));
}

#[test]
fn vocabularies_are_shared_and_streams_move_between_threads() {
    fn is_shared<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    is_shared::<Vocabulary>();
    moves::<Constraint>();
}

/// A bundled model's vocabulary, and the start of its edits with these tools.
fn bundled(
    codec: &Codec,
    tokenizer: Tokenizer,
    catalogue: &Catalogue,
    domain: Domain,
) -> (Fixture, Constraint) {
    let vocab_size = tokenizer.get_vocab_size(true);
    let vocabulary = codec.vocabulary(&ModelConfig { vocab_size, ..config(Family::Llama, true) }).unwrap();
    let start = Constraint::new(&vocabulary, &codec.edit_grammar(catalogue, domain).unwrap()).unwrap();
    let end = tokenizer.token_to_id(EOS).unwrap();
    (Fixture { tokenizer, vocabulary, end }, start)
}

/// Whether the constraint allows an edit of pretraining token by token, ends after it, and forces none of it. `ids`
/// are those of a sequence; the edit's, if there is one, follow the request for it.
fn follows(fixture: &Fixture, start: &Constraint, ids: &[u32]) -> Option<String> {
    let request = fixture.tokenizer.token_to_id(EDIT).unwrap();
    let at = ids.iter().position(|&id| id == request)?;
    let (&end, edit) = ids[at + 1..].split_last().unwrap();
    assert_eq!(end, fixture.end);
    let text = fixture.tokenizer.decode(edit, true).unwrap();
    let mut constraint = start.clone();
    let mut logits = vec![0.0; fixture.vocabulary.size()];
    for &id in edit {
        assert!(constraint.forced().unwrap().is_empty());
        logits.fill(0.0);
        constraint.mask(&mut logits).unwrap();
        let piece = fixture.tokenizer.id_to_token(id);
        assert_eq!(
            (logits[id as usize], logits[end as usize]),
            (0.0, f32::NEG_INFINITY),
            "{piece:?} of {text}"
        );
        constraint.accept(id).unwrap();
    }
    assert!(constraint.may_end().unwrap(), "{text}");
    assert_eq!(allowed(fixture, &mut constraint), [EOS]);
    Some(text)
}

#[test]
fn edits_of_pretraining_can_be_written() {
    let catalogue = catalogue();
    let validator = Validator::new(&catalogue).unwrap();
    let check = |codec: &Codec, tokenizer: Tokenizer, domain: Domain, ids: &dyn Fn(u64) -> Vec<u32>| {
        let (fixture, start) = bundled(codec, tokenizer, &catalogue, domain);
        let texts = (0..).filter_map(|index| follows(&fixture, &start, &ids(index)));
        texts.take(60).for_each(|text| check_valid(&text, &validator, domain));
    };
    let facts = FactWorld::new(1);
    check(&Codec::Facts(Box::default()), facts.tokenizer(), Domain::Passage, &|index| {
        facts.sequence(index, 0.5).ids
    });
    let puzzles = PuzzleWorld::new(1);
    check(&Codec::Puzzles(Box::default()), puzzles.tokenizer(), Domain::Puzzle, &|index| {
        puzzles.sequence(index, 0.5).ids
    });
}

#[test]
fn bundled_vocabularies_write_only_valid_edits() {
    for catalogue in [catalogue(), Catalogue::default()] {
        for (codec, tokenizer, domain) in [
            (Codec::Facts(Box::default()), FactWorld::new(1).tokenizer(), Domain::Passage),
            (Codec::Puzzles(Box::default()), PuzzleWorld::new(1).tokenizer(), Domain::Puzzle),
        ] {
            let (fixture, start) = bundled(&codec, tokenizer, &catalogue, domain);
            let finished = check_walks(&fixture, &start, &catalogue, domain, 20);
            assert!(finished > 10, "{finished} of 20 finished");
        }
    }
}

#[test]
fn puzzles_edits_without_tools_or_documents() {
    let codec = Codec::Puzzles(Box::default());
    let (fixture, start) =
        bundled(&codec, PuzzleWorld::new(1).tokenizer(), &Catalogue::default(), Domain::Puzzle);
    let check = |text: &str, expected: bool| assert_eq!(admits(&fixture, &start, text), expected, "{text}");
    check(r#"{"version":1,"reason":"so","data":{"tools":[],"permute":{"copies":16}}}"#, true);
    check(r#"{"version":1,"data":{"tools":[{"tool":"grid.rotate","params":{"degrees":90}}]}}"#, false);
    check(r#"{"version":1,"data":{"documents":["a"]}}"#, false);
    assert_eq!(codec.edit_grammar(&catalogue(), Domain::Passage), None);
}

#[test]
fn a_text_may_begin_with_the_space_that_decoding_takes() {
    let check = |fixture: &Fixture, expected: &[&str]| {
        let mut start = Constraint::new(&fixture.vocabulary, &Grammar::Regex("the|a".to_owned())).unwrap();
        let mut logits = vec![0.0; fixture.vocabulary.size()];
        start.mask(&mut logits).unwrap();
        let ids = (0..).zip(&logits).filter(|(_, logit)| **logit == 0.0).map(|(id, _)| id);
        let pieces: Vec<String> = ids.map(|id| fixture.tokenizer.id_to_token(id).unwrap()).collect();
        assert_eq!(pieces, expected);
    };
    check(&fixture(byte_fallback()), &["<0x20>", "<0x61>", "<0x74>", "▁", "a", "t", "▁t", "▁the"]);
    check(&fixture(byte_level(["the", "Ġthe"].into_iter())), &["a", "t", "th", "the"]);
}
