//! Constrained decoding: which tokens may come next for the text to obey a JSON Schema, a regular expression or a
//! grammar.
//!
//! A [`Vocabulary`] is made once a model and shared; a [`Constraint`] belongs to one stream. Whatever the logits
//! are, a finished stream's text obeys the grammar; an unfinished one's is the beginning of such a text. The end
//! tokens are allowed exactly where the grammar may end. The work is llguidance's, and no type of it is in this
//! interface.

mod self_edit;
mod vocabulary;

pub use self_edit::self_edit_grammar;
pub use vocabulary::Vocabulary;

use std::time::{Duration, Instant};

use llguidance::Matcher;
use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};

use crate::error::LearnError;

/// What a text must obey.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// JSON that obeys a schema (draft 2020-12 and older ones), without white space between its parts unless the
    /// schema's `x-guidance` says otherwise. Members come in the schema's order. Keywords that cannot be enforced
    /// (`not`, `if`, `uniqueItems`, ..) are refused, not ignored.
    JsonSchema(Value),
    /// The whole text matches, in the syntax of Rust's `regex` without lookaround and backreferences.
    Regex(String),
    /// A context-free grammar in llguidance's variant of Lark, with a rule `start`.
    Lark(String),
}

impl Grammar {
    fn name(&self) -> &'static str {
        match self {
            Grammar::JsonSchema(_) => "JSON Schema",
            Grammar::Regex(_) => "regular expression",
            Grammar::Lark(_) => "Lark grammar",
        }
    }
}

/// What a constraint has cost so far; a clone starts with what its original had cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConstraintCost {
    /// Making the automaton from the grammar.
    pub compile: Duration,
    /// Everything since: masks, forced tokens and following along.
    pub decode: Duration,
    /// Tokens that were accepted after a mask.
    pub sampled: u64,
    /// Tokens that were forced.
    pub forced: u64,
}

impl ConstraintCost {
    /// Mean time a token, forced ones included; zero before the first.
    pub fn per_token(&self) -> Duration {
        match u32::try_from(self.sampled + self.forced) {
            Ok(tokens @ 1..) => self.decode / tokens,
            _ => Duration::ZERO,
        }
    }
}

/// The state of one stream in a grammar. A clone goes on independently from the same place and shares what has been
/// worked out about the grammar: compile once, clone for each stream of a batch.
#[derive(Clone)]
pub struct Constraint {
    matcher: Matcher,
    vocabulary: Vocabulary,
    cost: ConstraintCost,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").field("cost", &self.cost).finish_non_exhaustive()
    }
}

impl Constraint {
    /// The start of a text that obeys `grammar`.
    ///
    /// # Errors
    /// [`LearnError::Constraint`] with the keyword or the place that cannot be used.
    pub fn new(vocabulary: &Vocabulary, grammar: &Grammar) -> Result<Constraint, LearnError> {
        let started = Instant::now();
        let unusable = |reason: String| {
            let reason = match reason.starts_with("panic") {
                true => TOO_MUCH.to_owned(),
                false => brief(&reason),
            };
            LearnError::Constraint(format!("the {} cannot be used: {reason}", grammar.name()))
        };
        let mut whole = match grammar {
            Grammar::JsonSchema(schema) => {
                check_numbers(schema, &mut Vec::new()).map_err(unusable)?;
                TopLevelGrammar::from_json_schema(with_whitespace_settings(schema))
            }
            Grammar::Regex(pattern) => TopLevelGrammar::from_regex(pattern),
            Grammar::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
        };
        if vocabulary.takes_first_space() {
            whole = after_a_space(whole);
        }
        let parser =
            vocabulary.factory().create_parser(whole).map_err(|error| unusable(error.to_string()))?;
        let matcher = Matcher::new(Ok(parser));
        if let Some(reason) = matcher.get_error() {
            return Err(unusable(reason));
        }
        // Some are seen to be empty only where their first token is looked for.
        if let Err(error) = matcher.clone().compute_mask_or_eos() {
            let reason = error.to_string();
            return Err(unusable(if reason.contains("NoExtensionBias") {
                ENDLESS.to_owned()
            } else {
                reason
            }));
        }
        let cost = ConstraintCost { compile: started.elapsed(), ..ConstraintCost::default() };
        Ok(Constraint { matcher, vocabulary: vocabulary.clone(), cost })
    }

    /// Sets the logits `[vocabulary]` of all tokens that may not come next to minus infinity. After the end only
    /// the end tokens may.
    ///
    /// # Errors
    /// [`LearnError::Constraint`] when there is not one logit a token, or the grammar is too ambiguous to follow.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<(), LearnError> {
        let started = Instant::now();
        if logits.len() != self.vocabulary.size() {
            let (found, expected) = (logits.len(), self.vocabulary.size());
            return Err(LearnError::Constraint(format!("{found} logits for a vocabulary of {expected}")));
        }
        let allowed = self.matcher.compute_mask_or_eos().map_err(stuck)?;
        for (&bits, block) in allowed.as_slice().iter().zip(logits.chunks_mut(u32::BITS as usize)) {
            match bits {
                0 => block.fill(f32::NEG_INFINITY),
                u32::MAX => {}
                _ => (block.iter_mut().zip(0..))
                    .filter(|&(_, bit)| bits & (1 << bit) == 0)
                    .for_each(|(logit, _)| *logit = f32::NEG_INFINITY),
            }
        }
        self.cost.decode += started.elapsed();
        Ok(())
    }

    /// Goes on by a token that the mask allowed.
    ///
    /// # Errors
    /// [`LearnError::Constraint`] when it was not allowed.
    pub fn accept(&mut self, id: u32) -> Result<(), LearnError> {
        let started = Instant::now();
        // A stopped parser takes no token, and an end token after the end changes nothing.
        if !(self.matcher.is_stopped() && self.vocabulary.is_end(id)) {
            self.matcher.consume_token(id).map_err(stuck)?;
        }
        self.cost.sampled += 1;
        self.cost.decode += started.elapsed();
        Ok(())
    }

    /// The tokens that must come next, as the tokenizer would write them; none where there is a choice, at the end, and
    /// with a vocabulary that is [unforced](Vocabulary::unforced). They have been accepted: a loop appends them without
    /// sampling.
    ///
    /// # Errors
    /// [`LearnError::Constraint`] when the grammar is too ambiguous to follow.
    pub fn forced(&mut self) -> Result<Vec<u32>, LearnError> {
        if self.is_finished() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let ids = self.matcher.compute_ff_tokens();
        self.matcher.consume_tokens(&ids).map_err(stuck)?;
        self.cost.forced += ids.len() as u64;
        self.cost.decode += started.elapsed();
        Ok(ids)
    }

    /// Whether nothing but an end token can follow, or one has come. The text is complete.
    pub fn is_finished(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }

    /// Whether this is one of the vocabulary's end tokens, which are no part of a text.
    pub(crate) fn is_end(&self, id: u32) -> bool {
        self.vocabulary.is_end(id)
    }

    /// Whether the text so far is complete, even if it may go on.
    ///
    /// # Errors
    /// [`LearnError::Constraint`] when the grammar is too ambiguous to follow.
    pub fn may_end(&mut self) -> Result<bool, LearnError> {
        Ok(self.is_finished() || self.matcher.is_accepting().map_err(stuck)?)
    }

    /// What the constraint has cost so far.
    pub fn cost(&self) -> ConstraintCost {
        self.cost
    }
}

/// What is said of a grammar on which its compiler gives up.
const TOO_MUCH: &str =
    "it asks for more than can be compiled; use smaller numbers, shorter repetitions and simpler patterns";

/// What is said of a grammar that no text obeys.
const ENDLESS: &str = "no text obeys it; a `$ref` to itself must have a way out";

/// The product of the distinct `multipleOf` of a schema may be so much: an automaton has as many states.
const MULTIPLES_MAX: f64 = 10_000.0;

/// Bounds of numbers are exact up to here, and there are no larger ones.
const BOUND_MAX: f64 = 9_007_199_254_740_992.0;

/// Refuses numbers from which a compiler would make an automaton without end. `multiples` are those seen so far.
fn check_numbers(schema: &Value, multiples: &mut Vec<f64>) -> Result<(), String> {
    match schema {
        Value::Array(values) => values.iter().try_for_each(|value| check_numbers(value, multiples)),
        Value::Object(members) => {
            for (key, value) in members {
                let Some(number) = value.as_f64() else {
                    check_numbers(value, multiples)?;
                    continue;
                };
                match key.as_str() {
                    "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum"
                        if number.abs() > BOUND_MAX =>
                    {
                        return Err(format!("`{key}` is {value}; expected -2^53 to 2^53"));
                    }
                    "multipleOf" => {
                        let states = digits(number);
                        if !multiples.contains(&states) {
                            multiples.push(states);
                        }
                        if multiples.iter().product::<f64>() > MULTIPLES_MAX {
                            return Err(format!(
                                "`multipleOf` {value}: the product of all different ones may be {MULTIPLES_MAX}"
                            ));
                        }
                    }
                    _ => {}
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The digits of a number without its point: 25 of 0.25.
fn digits(number: f64) -> f64 {
    let mut number = number.abs();
    while number.fract() != 0.0 && number < BOUND_MAX {
        number *= 10.0;
    }
    number.max(1.0)
}

/// The same text, perhaps after a space, which decoding takes away.
fn after_a_space(text: TopLevelGrammar) -> TopLevelGrammar {
    let mut whole = TopLevelGrammar::from_lark("start: \" \"? @text".to_owned());
    for mut grammar in text.grammars {
        grammar.name = Some("text".to_owned());
        whole.grammars.push(grammar);
    }
    whole
}

/// Errors of llguidance are of a type that this crate does not name.
fn stuck(error: impl std::fmt::Display) -> LearnError {
    LearnError::Constraint(brief(&error.to_string()))
}

/// A complaint of llguidance on one line, without its dumps, marks below a line of source, and its own jargon.
fn brief(complaint: &str) -> String {
    const CHARS_MAX: usize = 300;
    let says_something = |line: &&str| line.chars().any(char::is_alphanumeric);
    let lines = complaint.lines().map(str::trim).take_while(|line| !line.starts_with('<'));
    let joined = lines.filter(says_something).collect::<Vec<_>>().join("; ");
    let joined =
        joined.replace("Unimplemented keys:", "keywords that cannot be enforced while decoding:").replace(
            "Only absolute $ref's (#/...) are supported without 'referencing' feature",
            "only a $ref into the schema itself (#/...) is followed",
        );
    match joined.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}...", &joined[..end]),
        None => joined,
    }
}

/// White space between the parts of JSON may be endless, and a model that is forced into it stays there.
fn with_whitespace_settings(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(members) = &mut schema
        && !members.contains_key("x-guidance")
    {
        members.insert("x-guidance".to_owned(), compact());
    }
    schema
}

/// JSON without white space.
fn compact() -> Value {
    json!({ "whitespace_flexible": false, "item_separator": ",", "key_separator": ":" })
}
