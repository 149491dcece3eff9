//! A model's language: how contexts, training data and answers become tokens and back. Which of the three it is
//! comes from the model's profile; the rest of the crate does not ask.

use selkie_edit::{
    Answer, Catalogue, Context, Domain, LossOn, Passage, Puzzle, Question, Task, edit_prompt, schema,
};
use serde_json::Value;

use crate::base::ModelFiles;
use crate::chat::ChatCodec;
use crate::config::ModelConfig;
use crate::constraint::{Grammar, Vocabulary, self_edit_grammar};
use crate::detokenize::Detokenizer;
use crate::error::LearnError;
use crate::profile::RendererKind;
use crate::pup::edit_prior::TOOL_NAMES;
use crate::pup::render::{FactCodec, Prompt, PuzzleCodec};
use crate::sequence::Sequence;

/// The built-in plugin whose tools pup-puzzles was taught by name; it knows no others of that plugin.
const TAUGHT_PLUGIN: &str = "grid";

/// A model's language.
#[derive(Debug)]
pub enum Codec {
    /// A real model's, as SEAL speaks to it.
    Chat(Box<ChatCodec>),
    /// pup's for passages.
    Facts(Box<FactCodec>),
    /// pup's for puzzles.
    Puzzles(Box<PuzzleCodec>),
}

/// One thing to answer: the prompt and the expected answer, end included.
#[derive(Debug, Clone)]
pub struct Item {
    /// The question, or `test 0` of a puzzle.
    pub name: String,
    /// What the model sees.
    pub prompt: Prompt,
    /// What it should say.
    pub answer: Vec<u32>,
    /// The same, readable.
    pub expected: Answer,
}

impl Codec {
    /// The codec that a profile names.
    ///
    /// # Errors
    /// When a real model has no usable tokenizer.
    pub fn open(kind: RendererKind, files: &ModelFiles, eos_ids: &[u32]) -> Result<Codec, LearnError> {
        Ok(match kind {
            RendererKind::Seal => Codec::Chat(Box::new(ChatCodec::open(files, eos_ids)?)),
            RendererKind::PupFacts => Codec::Facts(Box::default()),
            RendererKind::PupPuzzles => Codec::Puzzles(Box::default()),
        })
    }

    /// The kinds of context that the model understands.
    pub fn domains(&self) -> &'static [Domain] {
        match self {
            Codec::Chat(_) => &[Domain::Puzzle, Domain::Passage],
            Codec::Facts(_) => &[Domain::Passage],
            Codec::Puzzles(_) => &[Domain::Puzzle],
        }
    }

    /// The request for a self-edit of a context, with the tools that are loaded.
    ///
    /// # Errors
    /// When the model does not understand this kind of context.
    pub fn edit_prompt(&self, context: &Context, catalogue: &Catalogue) -> Result<Prompt, LearnError> {
        match (self, context) {
            (Codec::Chat(chat), context) => {
                chat.edit_prompt(&edit_prompt(context, catalogue), context.domain() == Domain::Puzzle)
            }
            (Codec::Facts(facts), Context::Passage(passage)) => Ok(facts.edit_prompt(passage)),
            (Codec::Puzzles(puzzles), Context::Puzzle(puzzle)) => {
                let known = |tool: &&selkie_edit::ToolSpec| {
                    tool.plugin.name != TAUGHT_PLUGIN || TOOL_NAMES.contains(&tool.name.as_str())
                };
                Ok(puzzles.edit_prompt(puzzle, catalogue.iter().filter(known).map(|tool| tool.name.as_str())))
            }
            (Codec::Facts(_) | Codec::Puzzles(_), context) => Err(self.wrong_domain(context.domain())),
        }
    }

    /// A document to learn as a training sequence, with a loss on every token.
    ///
    /// # Errors
    /// When the model does not understand passages.
    pub fn document(&self, document: &str) -> Result<Sequence, LearnError> {
        match self {
            Codec::Chat(chat) => chat.document(document),
            Codec::Facts(facts) => Ok(facts.document(document)),
            Codec::Puzzles(_) => Err(self.wrong_domain(Domain::Passage)),
        }
    }

    /// Any text, to be continued. For training and scoring, [`Prompt::with`] adds a [`Codec::completion`], so that
    /// the tokens are those of generation.
    ///
    /// # Errors
    /// When the model does not understand text, or the tokenizer fails.
    pub fn text_prompt(&self, text: &str) -> Result<Prompt, LearnError> {
        match self {
            Codec::Chat(chat) => chat.text_prompt(text),
            Codec::Facts(facts) => Ok(facts.text_prompt(text)),
            Codec::Puzzles(_) => Err(self.no_text()),
        }
    }

    /// Messages (role and content, in order), up to where the assistant answers.
    ///
    /// # Errors
    /// [`LearnError::Render`] when the model has no chat template or it refuses the messages, and the tokenizer's.
    pub fn chat_prompt(&self, messages: &[(&str, &str)]) -> Result<Prompt, LearnError> {
        match self {
            Codec::Chat(chat) => chat.chat_prompt(messages, None),
            Codec::Facts(_) | Codec::Puzzles(_) => {
                Err(LearnError::Render("it is a chat; the model has no chat template".to_owned()))
            }
        }
    }

    /// A conversation, for any model: by the chat template, with the tools that the model may call. pup, which has none
    /// and no memory but its weights, is asked the last message alone: a question, or a puzzle in JSON, of which the first
    /// test is asked.
    ///
    /// # Errors
    /// As [`Codec::chat_prompt`]; for pup an empty conversation, and a message that is no puzzle.
    pub fn conversation(
        &self,
        messages: &[(&str, &str)],
        tools: Option<&Value>,
    ) -> Result<Prompt, LearnError> {
        let last = || {
            let none = || LearnError::Render("the conversation has no message to answer".to_owned());
            messages.last().map(|(_, text)| *text).ok_or_else(none)
        };
        match self {
            Codec::Chat(chat) => chat.chat_prompt(messages, tools),
            Codec::Facts(facts) => Ok(facts.question_prompt(last()?.trim())),
            Codec::Puzzles(puzzles) => match Context::from_json(last()?, "puzzle") {
                Ok(Context::Puzzle(puzzle)) => {
                    let test = puzzle.tests.first().map(|test| puzzles.test_prompt(&test.input));
                    test.ok_or_else(|| LearnError::Render("the puzzle has no test".to_owned()))
                }
                Ok(Context::Passage(_)) => Err(self.wrong_domain(Domain::Passage)),
                Err(error) => Err(LearnError::Render(format!(
                    "the model understands puzzles: the last message must be one in JSON, \
                     {{\"train\":[{{\"input\":[[..]],\"output\":[[..]]}},..],\"test\":[{{\"input\":[[..]]}}]}}; {error}"
                ))),
            },
        }
    }

    /// The ids of text that a runtime puts into a model's text: special tokens of a real model's chat format are read
    /// as such, so what others said must not be in it unbroken.
    ///
    /// # Errors
    /// When the model does not understand text, or the tokenizer fails.
    pub fn formatted(&self, text: &str) -> Result<Vec<u32>, LearnError> {
        match self {
            Codec::Chat(chat) => chat.formatted(text),
            Codec::Facts(facts) => Ok(facts.formatted(text)),
            Codec::Puzzles(_) => Err(self.no_text()),
        }
    }

    /// The ids of what follows a prompt, with the token that ends it.
    ///
    /// # Errors
    /// When the model does not understand text, or the tokenizer fails.
    pub fn completion(&self, text: &str) -> Result<Vec<u32>, LearnError> {
        match self {
            Codec::Chat(chat) => chat.completion(text),
            Codec::Facts(facts) => Ok(facts.completion(text)),
            Codec::Puzzles(_) => Err(self.no_text()),
        }
    }

    /// Makes text of the tokens of one continuation while they come; of a grid, JSON rows that [`Codec::closing`] closes.
    pub fn detokenizer(&self) -> Detokenizer<'_> {
        match self {
            Codec::Chat(chat) => Detokenizer::of(chat.tokenizer()),
            Codec::Facts(facts) => Detokenizer::of(facts.tokenizer()),
            Codec::Puzzles(puzzles) => Detokenizer::new(|ids| puzzles.rows_so_far(ids)),
        }
    }

    /// What is missing at the end of a continuation's text: the brackets of a grid.
    pub fn closing(&self, continuation: &[u32]) -> &'static str {
        match self {
            Codec::Puzzles(puzzles) if puzzles.grid(continuation).is_some() => "]]",
            _ => "",
        }
    }

    /// The tokens by their bytes, for constrained decoding with the model of this configuration.
    ///
    /// # Errors
    /// When decoding with the model's tokenizer cannot be constrained.
    pub fn vocabulary(&self, config: &ModelConfig) -> Result<Vocabulary, LearnError> {
        match self {
            Codec::Chat(chat) => chat.vocabulary(config.vocab_size, &config.eos_ids).cloned(),
            // pup's tokens are longer than what is certain: an edit's are whole fragments of JSON.
            Codec::Facts(facts) => Vocabulary::unforced(facts.tokenizer(), config.vocab_size, &[facts.end()]),
            Codec::Puzzles(puzzles) => {
                Vocabulary::unforced(puzzles.tokenizer(), config.vocab_size, &[puzzles.edit_end()])
            }
        }
    }

    /// What a self-edit in Selkie's form obeys, with these tools; none where the model does not understand this kind
    /// of context.
    pub fn edit_grammar(&self, catalogue: &Catalogue, domain: Domain) -> Option<Grammar> {
        if !self.domains().contains(&domain) {
            return None;
        }
        let mut schema = schema::compose(&catalogue.suited(domain));
        let fields = schema.pointer_mut("/$defs/data/properties").and_then(Value::as_object_mut);
        if let (Codec::Puzzles(_), Some(fields)) = (self, fields) {
            // It could not learn them.
            fields.shift_remove("documents");
        }
        Some(self_edit_grammar(&schema, domain))
    }

    /// Whether [`Codec::edit_prompt`] asks for Selkie's form, and not for free text.
    pub fn asks_for_json(&self, domain: Domain) -> bool {
        match self {
            Codec::Chat(_) => domain == Domain::Puzzle,
            Codec::Facts(_) | Codec::Puzzles(_) => true,
        }
    }

    /// A task to learn as training sequences.
    ///
    /// # Errors
    /// When the model does not understand puzzles.
    pub fn task(&self, task: &Task, loss_on: LossOn) -> Result<Vec<Sequence>, LearnError> {
        match self {
            Codec::Chat(chat) => Ok(vec![chat.task(task, loss_on)?]),
            Codec::Puzzles(puzzles) => Ok(puzzles.task(task, loss_on)),
            Codec::Facts(_) => Err(self.wrong_domain(Domain::Puzzle)),
        }
    }

    /// What is asked about a context: a puzzle's tests whose answer is known, or a passage's questions without the
    /// passage.
    ///
    /// # Errors
    /// When the model does not understand this kind of context, or a puzzle has no known answer to measure by.
    pub fn items(&self, context: &Context) -> Result<Vec<Item>, LearnError> {
        match context {
            Context::Puzzle(puzzle) => self.test_items(puzzle),
            Context::Passage(passage) => {
                let item = |question: &Question| self.question_item(&passage.title, question);
                passage.questions.iter().map(item).collect()
            }
        }
    }

    /// The same asked with the context in sight: the demonstrations before a test, the passage before a question.
    /// (A real model's puzzle prompt has them anyway.)
    ///
    /// # Errors
    /// As [`Codec::items`].
    pub fn items_in_context(&self, context: &Context) -> Result<Vec<Item>, LearnError> {
        let mut items = self.items(context)?;
        let asked = items.iter_mut();
        match (self, context) {
            (Codec::Puzzles(codec), Context::Puzzle(puzzle)) => {
                let tests = puzzle.tests.iter().filter(|test| test.output.is_some());
                asked.zip(tests).for_each(|(item, test)| {
                    item.prompt = codec.prompt_in_context(puzzle, &test.input);
                });
            }
            (Codec::Facts(codec), Context::Passage(passage)) => {
                asked.for_each(|item| item.prompt = codec.prompt_in_context(passage, &item.name));
            }
            (Codec::Chat(chat), Context::Passage(passage)) => {
                for item in asked {
                    item.prompt = chat.question_in_context(passage, &item.name)?;
                }
            }
            _ => {}
        }
        Ok(items)
    }

    /// How a test of a puzzle or a question of a passage is asked, by its place; its answer may be unknown.
    ///
    /// # Errors
    /// A place that is not there, and when the model does not understand this kind of context.
    pub fn asked(&self, context: &Context, place: usize) -> Result<Prompt, LearnError> {
        let missing = |what: &str, count: usize| {
            LearnError::Render(format!("`{}` has no {what} {place}; it has {count}, from 0", context.name()))
        };
        match context {
            Context::Puzzle(puzzle) => {
                let test = puzzle.tests.get(place);
                let input = &test.ok_or_else(|| missing("test", puzzle.tests.len()))?.input;
                match self {
                    Codec::Chat(chat) => chat.test_prompt(puzzle, input),
                    Codec::Puzzles(puzzles) => Ok(puzzles.test_prompt(input)),
                    Codec::Facts(_) => Err(self.wrong_domain(Domain::Puzzle)),
                }
            }
            Context::Passage(passage) => {
                let question = passage.questions.get(place);
                let question = question.ok_or_else(|| missing("question", passage.questions.len()))?;
                Ok(self.question_item(&passage.title, question)?.prompt)
            }
        }
    }

    /// A passage's text as one item: what follows its title.
    ///
    /// # Errors
    /// When the model does not understand text.
    pub fn text_item(&self, passage: &Passage) -> Result<Item, LearnError> {
        Ok(Item {
            name: "the text".to_owned(),
            prompt: self.text_prompt(&format!("{}\n", passage.title))?,
            answer: self.completion(&passage.context)?,
            expected: Answer::Text(passage.context.clone()),
        })
    }

    fn test_items(&self, puzzle: &Puzzle) -> Result<Vec<Item>, LearnError> {
        let mut items = Vec::new();
        for (index, test) in puzzle.tests.iter().enumerate() {
            let Some(output) = &test.output else { continue };
            let (prompt, answer) = match self {
                Codec::Chat(chat) => (chat.test_prompt(puzzle, &test.input)?, chat.grid_answer(output)?),
                Codec::Puzzles(puzzles) => (puzzles.test_prompt(&test.input), puzzles.answer(output)),
                Codec::Facts(_) => return Err(self.wrong_domain(Domain::Puzzle)),
            };
            items.push(Item {
                name: format!("test {index}"),
                prompt,
                answer,
                expected: Answer::Grid(output.clone()),
            });
        }
        if items.is_empty() {
            let reason = format!("puzzle `{}` has no test with a known output to measure by", puzzle.id);
            return Err(LearnError::Render(reason));
        }
        Ok(items)
    }

    fn question_item(&self, title: &str, question: &Question) -> Result<Item, LearnError> {
        let (prompt, answer) = match self {
            Codec::Chat(chat) => (chat.question_prompt(title, &question.question)?, chat.answer(question)?),
            Codec::Facts(facts) => (facts.question_prompt(&question.question), facts.answer(question)),
            Codec::Puzzles(_) => return Err(self.wrong_domain(Domain::Passage)),
        };
        let expected = Answer::Text(question.answer.clone());
        Ok(Item { name: question.question.clone(), prompt, answer, expected })
    }

    /// What a continuation says: a grid where one was asked for and is spelled, else text.
    pub fn read_answer(&self, expected: &Answer, continuation: &[u32]) -> Answer {
        let grid = match (expected, self) {
            (Answer::Text(_), _) | (_, Codec::Facts(_)) => None,
            (Answer::Grid(_), Codec::Chat(chat)) => chat.grid(continuation),
            (Answer::Grid(_), Codec::Puzzles(puzzles)) => puzzles.grid(continuation),
        };
        grid.map_or_else(|| Answer::Text(self.text(continuation)), Answer::Grid)
    }

    /// The text of a continuation.
    pub fn text(&self, continuation: &[u32]) -> String {
        match self {
            Codec::Chat(chat) => chat.text(continuation),
            Codec::Facts(facts) => facts.text(continuation),
            Codec::Puzzles(puzzles) => puzzles.text(continuation),
        }
    }

    fn no_text(&self) -> LearnError {
        LearnError::Render("it is text; the model understands puzzles".to_owned())
    }

    fn wrong_domain(&self, domain: Domain) -> LearnError {
        let names = |domain: &Domain| match domain {
            Domain::Puzzle => "puzzles",
            Domain::Passage => "passages",
        };
        let understood: Vec<&str> = self.domains().iter().map(names).collect();
        LearnError::Render(format!(
            "it is about {}; the model understands {}",
            names(&domain),
            understood.join(" and ")
        ))
    }
}

/// New tokens that an answer may have: a 30x30 grid with its row markers and end.
pub(crate) const ANSWER_TOKENS_MAX: usize = 31 * 30 + 1;

/// The largest grid's sides are within what the answer limit assumes.
const _: () = assert!(selkie_edit::limits::PUZZLE_SIDE_MAX as usize * 31 < ANSWER_TOKENS_MAX);
