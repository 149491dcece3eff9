//! The fact world: invented people and machines, what is known about them, and passages about new ones.
//!
//! 300 *base* entities are known: knowledge documents state their facts, and questions are asked about the
//! first half of them. All other entities are *fresh*: a passage names them, the task is done with the passage
//! in sight, and they are never met again, so nothing can be learned but reading. A fifth of all pairs of name
//! words is held out: no pretraining sequence contains one, and [`FactWorld::held_out_passage`] is about
//! nothing else.
//!
//! Facts reach a passage in the ledger register (in `words`), knowledge is stated in another
//! one. That is what makes a self-edit worth writing: training on the ledger itself teaches little.

use std::collections::BTreeSet;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use selkie_edit::{Passage, Question};
use tokenizers::Tokenizer;

use crate::sequence::Sequence;

use super::format::{ANSWER, BOS, COPY, EDIT, EOS, FACT_SPECIALS, QUESTION, question_line};
use super::templates::{Fact, Name, Template, WordIds, filled_text, name_text, plain_words, value_text};
use super::vocabulary::{TextForm, Vocabulary};
use super::words::{
    ATTRIBUTES, EDIT_CHOICES, EDIT_NEXT, EDIT_OPEN, KINDS, LEDGER, LEDGER_OPENING, NAMES, PUNCTUATION,
    QUESTIONS, QUESTIONS_WRITTEN, STATEMENTS, VALUES, WORLD, first_names, second_names,
};

/// Entities that the model knows without a text.
pub const BASE_ENTITIES: usize = 300;

/// Of those, the first so many are also asked about in pretraining.
pub const ASKED_ENTITIES: usize = 150;

/// Facts of the known entities that are asked after to see what an edit has damaged, and never replayed.
pub const WATCHED_FACTS: usize = 128;

/// Facts of a held-out passage: four attributes of two entities.
pub const PASSAGE_FACTS: usize = 8;

/// No sequence of the fact world is longer.
pub const FACT_TOKENS_MAX: usize = 208;

/// One pair of name words in so many is held out.
const HELD_OUT_ONE_IN: u8 = 5;

/// The random streams that a world draws from; each is a world of its own.
#[derive(Clone, Copy)]
enum Stream {
    Entities,
    Pretraining,
    HeldOut,
    Known,
}

/// Which of the known entities to ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Those that pretraining asked about: what an edit may make the model forget.
    Asked,
    /// Those that it only read about.
    OnlyRead,
}

#[derive(Debug, Clone)]
struct Entity {
    name: Name,
    kind: u8,
    values: [u8; ATTRIBUTES],
}

impl Entity {
    fn fact(&self, attribute: usize) -> Fact {
        Fact { name: self.name, kind: self.kind, attribute: attribute as u8, value: self.values[attribute] }
    }
}

/// The generator of fact documents. A pure function of its seed.
#[derive(Debug, Clone)]
pub struct FactWorld {
    seed: u64,
    vocabulary: Vocabulary,
    words: WordIds,
    statements: Vec<Template>,
    questions: Vec<Template>,
    ledger: Vec<Template>,
    pieces: Pieces,
    edits: EditPieces,
    base: Vec<Entity>,
    base_names: BTreeSet<Name>,
    held_out: Vec<[Name; 2]>,
}

/// Ids of the pieces that documents are put together with.
#[derive(Debug, Clone)]
struct Pieces {
    bos: u32,
    eos: u32,
    edit: u32,
    copy: u32,
    newline: u32,
    and: u32,
    question: u32,
    answer: u32,
    ledger_opening: [u32; 2],
}

/// Ids of the fragments that an edit is put together with.
#[derive(Debug, Clone)]
struct EditPieces {
    open: u32,
    next: u32,
    /// What is chosen after the documents, in order: one of each.
    choices: Vec<Vec<u32>>,
}

impl EditPieces {
    fn new(vocabulary: &Vocabulary) -> EditPieces {
        let ids = |choices: &&[&str]| choices.iter().map(|piece| vocabulary.id(piece)).collect();
        EditPieces {
            open: vocabulary.id(EDIT_OPEN),
            next: vocabulary.id(EDIT_NEXT),
            choices: EDIT_CHOICES.iter().map(ids).collect(),
        }
    }
}

/// The vocabulary of every fact world.
pub fn vocabulary() -> Vocabulary {
    let mut words = BTreeSet::new();
    let templates = STATEMENTS.iter().chain(&QUESTIONS).chain(&LEDGER).chain([&LEDGER_OPENING]);
    words.extend(templates.flat_map(|template| plain_words(template)));
    words.extend(WORLD.iter().flatten().map(|attribute| attribute.noun));
    words.extend(["and", QUESTION, ANSWER]);
    let grammar = words.into_iter().map(str::to_owned);
    let values = WORLD.iter().flatten().flat_map(|attribute| attribute.values).map(str::to_owned);
    let spaced = grammar.chain(first_names()).chain(second_names()).chain(values);
    let fragments = [EDIT_OPEN, EDIT_NEXT].into_iter().chain(EDIT_CHOICES.into_iter().flatten().copied());
    let pieces = PUNCTUATION
        .map(str::to_owned)
        .into_iter()
        .chain(spaced.map(|word| format!(" {word}")))
        .chain(fragments.map(str::to_owned));
    Vocabulary::new(pieces, &FACT_SPECIALS, TextForm::SpacedWords)
}

/// A question with its answer.
fn written_question(form: &str, fact: Fact) -> String {
    question_line(&filled_text(form, fact), value_text(fact))
}

fn is_held_out(name: Name) -> bool {
    (name.first + name.second).is_multiple_of(HELD_OUT_ONE_IN)
}

/// Whether two names share no word, so that each word says which entity is meant.
fn are_distinct(one: Name, other: Name) -> bool {
    one.first != other.first && one.second != other.second
}

fn any_name(rng: &mut ChaCha8Rng) -> Name {
    Name { first: rng.random_range(0..NAMES) as u8, second: rng.random_range(0..NAMES) as u8 }
}

fn any_values(rng: &mut ChaCha8Rng) -> [u8; ATTRIBUTES] {
    std::array::from_fn(|_| rng.random_range(0..VALUES) as u8)
}

impl FactWorld {
    /// The world of a seed: who is known, and everything that is said.
    pub fn new(seed: u64) -> FactWorld {
        let vocabulary = vocabulary();
        let templates = |texts: &[&str]| texts.iter().map(|text| Template::new(&vocabulary, text)).collect();
        let mut world = FactWorld {
            seed,
            words: WordIds::new(&vocabulary),
            statements: templates(&STATEMENTS),
            questions: templates(&QUESTIONS),
            ledger: templates(&LEDGER),
            pieces: Pieces {
                bos: vocabulary.id(BOS),
                eos: vocabulary.id(EOS),
                edit: vocabulary.id(EDIT),
                copy: vocabulary.id(COPY),
                newline: vocabulary.id("\n"),
                and: vocabulary.id(" and"),
                question: vocabulary.id(&format!(" {QUESTION}")),
                answer: vocabulary.id(&format!(" {ANSWER}")),
                ledger_opening: [vocabulary.id(" Ledger"), vocabulary.id(".")],
            },
            edits: EditPieces::new(&vocabulary),
            vocabulary,
            base: Vec::new(),
            base_names: BTreeSet::new(),
            held_out: Vec::new(),
        };
        let mut rng = world.rng(Stream::Entities, 0);
        while world.base.len() < BASE_ENTITIES {
            let name = any_name(&mut rng);
            if !is_held_out(name) && world.base_names.insert(name) {
                let kind = rng.random_range(0..KINDS) as u8;
                world.base.push(Entity { name, kind, values: any_values(&mut rng) });
            }
        }
        world.held_out = paired_held_out_names(&mut rng);
        world
    }

    /// The tokenizer of the fact model.
    pub fn tokenizer(&self) -> Tokenizer {
        self.vocabulary.tokenizer()
    }

    /// Number of token ids.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// Pretraining sequence number `index`, where `progress` (0..=1) is how far pretraining has come.
    pub fn sequence(&self, index: u64, progress: f32) -> Sequence {
        let mut rng = self.rng(Stream::Pretraining, index);
        let mut page = Page::default();
        match Form::draw(&mut rng, progress) {
            Form::Copy => self.write_copy(&mut rng, progress, &mut page),
            Form::Knowledge => self.write_knowledge(&mut rng, &mut page),
            Form::Asked => {
                let fact = self.asked_fact(&mut rng);
                page.put(self.pieces.bos, false);
                self.write_question(rng.random_range(0..QUESTIONS.len()), fact, Loss::Answer, &mut page);
                page.put(self.pieces.eos, true);
            }
            Form::Edit => self.write_edit(&mut rng, progress, &mut page),
            Form::Reading => self.write_reading(&mut rng, progress, &mut page),
        }
        debug_assert!(page.ids.len() <= FACT_TOKENS_MAX);
        page.into_sequence()
    }

    /// A passage about two entities of one kind that pretraining never named, with eight facts and a question
    /// for each, asked in forms that edits are not written with. No two of the first thousand passages share
    /// an entity.
    pub fn held_out_passage(&self, index: u64) -> Passage {
        let mut rng = self.rng(Stream::HeldOut, index);
        let names = self.held_out[(index % self.held_out.len() as u64) as usize];
        let facts = pair_facts(names, PASSAGE_FACTS, &mut rng);
        let form = LEDGER[rng.random_range(0..LEDGER.len())];
        let entries: Vec<String> = facts.iter().map(|&fact| filled_text(form, fact)).collect();
        let questions = facts
            .iter()
            .map(|&fact| {
                let form = QUESTIONS[rng.random_range(QUESTIONS_WRITTEN..QUESTIONS.len())];
                Question { question: filled_text(form, fact), answer: value_text(fact).to_owned() }
            })
            .collect();
        Passage {
            title: format!("{} and {}", name_text(names[0]), name_text(names[1])),
            context: format!("{LEDGER_OPENING} {}", entries.join(" ")),
            questions,
        }
    }

    /// What a careful hand writes about a held-out passage: a question with its answer and a statement for each
    /// fact.
    pub fn held_out_lines(&self, index: u64) -> Vec<String> {
        let mut rng = self.rng(Stream::HeldOut, index);
        let names = self.held_out[(index % self.held_out.len() as u64) as usize];
        pair_facts(names, PASSAGE_FACTS, &mut rng)
            .into_iter()
            .flat_map(|fact| [written_question(QUESTIONS[0], fact), filled_text(STATEMENTS[0], fact)])
            .collect()
    }

    /// Documents about entities that the model knows, as an edit would put them: what can be learned again so as
    /// not to be forgotten. None is about a fact of the first `asked` [`FactWorld::known_questions`].
    pub fn known_documents(&self, known: Known, asked: usize) -> Vec<String> {
        let (facts, mut rng) = self.known_facts(known);
        let written = |fact: Fact| written_question(QUESTIONS[rng.random_range(0..QUESTIONS_WRITTEN)], fact);
        facts.into_iter().skip(asked).map(written).collect()
    }

    /// Questions about entities that the model knows, in the same forms as those of held-out passages.
    pub fn known_questions(&self, known: Known, count: usize) -> Vec<Question> {
        let (facts, mut rng) = self.known_facts(known);
        facts
            .into_iter()
            .take(count)
            .map(|fact| {
                let form = QUESTIONS[rng.random_range(QUESTIONS_WRITTEN..QUESTIONS.len())];
                Question { question: filled_text(form, fact), answer: value_text(fact).to_owned() }
            })
            .collect()
    }

    /// What is known, in an order of the world, and the generator behind it.
    fn known_facts(&self, known: Known) -> (Vec<Fact>, ChaCha8Rng) {
        let mut rng = self.rng(Stream::Known, known as u64);
        let entities = match known {
            Known::Asked => &self.base[..ASKED_ENTITIES],
            Known::OnlyRead => &self.base[ASKED_ENTITIES..],
        };
        let mut facts: Vec<Fact> = entities
            .iter()
            .flat_map(|entity| (0..ATTRIBUTES).map(|attribute| entity.fact(attribute)))
            .collect();
        facts.shuffle(&mut rng);
        (facts, rng)
    }

    fn rng(&self, stream: Stream, index: u64) -> ChaCha8Rng {
        // One generator a stream, one ChaCha stream an index: no two documents share random numbers.
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_mul(4).wrapping_add(stream as u64));
        rng.set_stream(index);
        rng
    }

    fn fresh_name(&self, rng: &mut ChaCha8Rng) -> Name {
        loop {
            let name = any_name(rng);
            if !is_held_out(name) && !self.base_names.contains(&name) {
                return name;
            }
        }
    }

    fn asked_fact(&self, rng: &mut ChaCha8Rng) -> Fact {
        self.base[rng.random_range(0..ASKED_ENTITIES)].fact(rng.random_range(0..ATTRIBUTES))
    }

    fn write_title(&self, names: &[Name], loss: bool, page: &mut Page) {
        for (place, &name) in names.iter().enumerate() {
            if place > 0 {
                page.put(self.pieces.and, loss);
            }
            page.put_all(self.words.name(name), loss);
        }
        page.put(self.pieces.newline, loss);
    }

    fn write_statement(&self, form: usize, fact: Fact, page: &mut Page) {
        self.statements[form].fill(&self.words, fact, &mut page.ids);
        page.label_rest(true);
    }

    fn write_question(&self, form: usize, fact: Fact, loss: Loss, page: &mut Page) {
        page.ids.push(self.pieces.question);
        self.questions[form].fill(&self.words, fact, &mut page.ids);
        page.ids.push(self.pieces.answer);
        page.label_rest(loss == Loss::Everything);
        page.put(self.words.value(fact), true);
    }

    /// Random words, then the same words: what teaches a model to look back.
    fn write_copy(&self, rng: &mut ChaCha8Rng, progress: f32, page: &mut Page) {
        page.put(self.pieces.bos, false);
        if rng.random_bool(0.5) {
            let longest = 6 + (34.0 * ramp(progress, CURRICULUM_END)) as usize;
            for _ in 0..rng.random_range(3..=longest) {
                let kind = rng.random_range(0..KINDS);
                let fact = Fact {
                    name: self.fresh_name(rng),
                    kind: kind as u8,
                    attribute: rng.random_range(0..ATTRIBUTES) as u8,
                    value: rng.random_range(0..VALUES) as u8,
                };
                match rng.random_range(0..4) {
                    0 => page.put_all(self.words.name(fact.name), false),
                    1 => page.put(self.words.noun(fact), false),
                    _ => page.put(self.words.value(fact), false),
                }
            }
        } else {
            let (_, facts) = self.fresh_facts(rng, progress);
            self.write_ledger(rng, &facts, page);
        }
        let copied = page.ids[1..].to_vec();
        page.put(self.pieces.copy, false);
        page.put_all(copied, true);
        page.put(self.pieces.eos, true);
    }

    /// What is known about base entities, stated: one statement (as an edit's line will be) or several.
    fn write_knowledge(&self, rng: &mut ChaCha8Rng, page: &mut Page) {
        let known = rng.random_range(0..BASE_ENTITIES);
        let entity = &self.base[known];
        page.put(self.pieces.bos, false);
        let alone = rng.random_bool(0.3);
        let mut names = vec![entity.name];
        if !alone {
            let other = loop {
                let other = self.base[rng.random_range(0..BASE_ENTITIES)].name;
                if are_distinct(other, entity.name) {
                    break other;
                }
            };
            names.insert(rng.random_range(0..=1), other);
        }
        self.write_title(&names, true, page);
        let form = rng.random_range(0..STATEMENTS.len());
        if known < ASKED_ENTITIES && rng.random_bool(0.2) {
            let fact = entity.fact(rng.random_range(0..ATTRIBUTES));
            self.write_question(rng.random_range(0..QUESTIONS.len()), fact, Loss::Everything, page);
        } else if rng.random_bool(0.6) {
            self.write_statement(form, entity.fact(rng.random_range(0..ATTRIBUTES)), page);
        } else {
            let mut attributes: Vec<usize> = (0..ATTRIBUTES).collect();
            attributes.shuffle(rng);
            attributes.truncate(rng.random_range(2..=ATTRIBUTES));
            for attribute in attributes {
                let form = rng.random_range(0..STATEMENTS.len());
                self.write_statement(form, entity.fact(attribute), page);
            }
        }
        page.put(self.pieces.eos, true);
    }

    /// The facts of a new passage: two entities with the same attributes, or fewer facts and entities.
    fn fresh_facts(&self, rng: &mut ChaCha8Rng, progress: f32) -> (Vec<Name>, Vec<Fact>) {
        let most = facts_max(progress);
        let first = self.fresh_name(rng);
        let second = loop {
            let name = self.fresh_name(rng);
            if are_distinct(first, name) {
                break name;
            }
        };
        if rng.random_bool(0.7) {
            return (vec![first, second], pair_facts([first, second], most, rng));
        }
        if rng.random_bool(0.5) {
            let count = 2 * rng.random_range(1..=most / 2);
            return (vec![first, second], pair_facts([first, second], count, rng));
        }
        let entity = Entity { name: first, kind: rng.random_range(0..KINDS) as u8, values: any_values(rng) };
        let mut facts: Vec<Fact> = (0..ATTRIBUTES).map(|attribute| entity.fact(attribute)).collect();
        facts.shuffle(rng);
        facts.truncate(rng.random_range(1..=most.min(ATTRIBUTES)));
        (vec![first], facts)
    }

    fn write_ledger(&self, rng: &mut ChaCha8Rng, facts: &[Fact], page: &mut Page) {
        page.put_all(self.pieces.ledger_opening, false);
        let form = rng.random_range(0..LEDGER.len());
        for &fact in facts {
            self.ledger[form].fill(&self.words, fact, &mut page.ids);
        }
        page.label_rest(false);
    }

    /// `<bos>` title, newline, passage: nothing of it can be foretold, so nothing has a loss.
    fn write_fresh_passage(
        &self,
        rng: &mut ChaCha8Rng,
        progress: f32,
        page: &mut Page,
    ) -> (Vec<Name>, Vec<Fact>) {
        let (names, facts) = self.fresh_facts(rng, progress);
        page.put(self.pieces.bos, false);
        self.write_title(&names, false, page);
        if rng.random_bool(LEDGER_SHARE) {
            self.write_ledger(rng, &facts, page);
        } else {
            for &fact in &facts {
                self.statements[rng.random_range(0..STATEMENTS.len())].fill(&self.words, fact, &mut page.ids);
            }
            page.label_rest(false);
        }
        (names, facts)
    }

    /// A passage, then a self-edit in JSON: documents in one of the styles, then choices that do not depend on
    /// the passage.
    fn write_edit(&self, rng: &mut ChaCha8Rng, progress: f32, page: &mut Page) {
        let (names, facts) = self.write_fresh_passage(rng, progress, page);
        page.put(self.pieces.edit, false);
        page.put(self.edits.open, true);
        let style = EditStyle::draw(rng);
        let one_form = rng.random_bool(0.7);
        let drawn = (rng.random_range(0..STATEMENTS.len()), rng.random_range(0..QUESTIONS_WRITTEN));
        let ledger = rng.random_range(0..LEDGER.len());
        let told = if style == EditStyle::Half { &facts[..facts.len().div_ceil(2)] } else { &facts[..] };
        // Of a rewrite a document is an entity, of anything else a fact.
        let documents: Vec<Vec<Fact>> = match style {
            EditStyle::Rewrite => names
                .iter()
                .map(|&name| told.iter().copied().filter(|fact| fact.name == name).collect())
                .collect(),
            _ => told.iter().map(|&fact| vec![fact]).collect(),
        };
        for (place, document) in documents.into_iter().filter(|document| !document.is_empty()).enumerate() {
            if place > 0 {
                page.put(self.edits.next, true);
            }
            for fact in document {
                let (statement, question) = if one_form {
                    drawn
                } else {
                    (rng.random_range(0..STATEMENTS.len()), rng.random_range(0..QUESTIONS_WRITTEN))
                };
                let asks = match style {
                    EditStyle::Mixed => rng.random_bool(0.5),
                    other => other == EditStyle::Questions,
                };
                if style == EditStyle::Ledger {
                    self.ledger[ledger].fill(&self.words, fact, &mut page.ids);
                    page.label_rest(true);
                } else if asks {
                    self.write_question(question, fact, Loss::Everything, page);
                } else {
                    self.write_statement(statement, fact, page);
                }
            }
        }
        for choices in &self.edits.choices {
            page.put(choices[rng.random_range(0..choices.len())], true);
        }
        page.put(self.pieces.eos, true);
    }

    /// A passage, then questions about it.
    fn write_reading(&self, rng: &mut ChaCha8Rng, progress: f32, page: &mut Page) {
        let (_, mut facts) = self.write_fresh_passage(rng, progress, page);
        facts.shuffle(rng);
        facts.truncate(rng.random_range(1..=facts.len().min(READING_QUESTIONS_MAX)));
        for fact in facts {
            page.put(self.pieces.newline, false);
            self.write_question(rng.random_range(0..QUESTIONS.len()), fact, Loss::Answer, page);
        }
        page.put(self.pieces.eos, true);
    }
}

/// Share of fresh passages in the ledger register; the others are statements, which people write too.
const LEDGER_SHARE: f64 = 0.8;

/// Questions after one passage; more would pass [`FACT_TOKENS_MAX`].
const READING_QUESTIONS_MAX: usize = 6;

/// Progress at which passages have reached their full length and copying its small final share.
const CURRICULUM_END: f32 = 0.35;

/// 0 at the beginning, 1 from `end` on.
fn ramp(progress: f32, end: f32) -> f32 {
    (progress / end).clamp(0.0, 1.0)
}

/// Facts of the longest passages at this progress: even, 2 to [`PASSAGE_FACTS`].
fn facts_max(progress: f32) -> usize {
    2 + 2 * (ramp(progress, CURRICULUM_END) * 3.0) as usize
}

/// The same `count / 2` attributes of two new entities of one kind, every value different, in random order.
fn pair_facts(names: [Name; 2], count: usize, rng: &mut ChaCha8Rng) -> Vec<Fact> {
    let kind = rng.random_range(0..KINDS) as u8;
    let mut attributes: Vec<u8> = (0..ATTRIBUTES as u8).collect();
    attributes.shuffle(rng);
    let mut facts = Vec::with_capacity(count);
    for &attribute in &attributes[..count / 2] {
        let value = rng.random_range(0..VALUES) as u8;
        let other = (value + rng.random_range(1..VALUES) as u8) % VALUES as u8;
        facts.push(Fact { name: names[0], kind, attribute, value });
        facts.push(Fact { name: names[1], kind, attribute, value: other });
    }
    facts.shuffle(rng);
    facts
}

/// All held-out names in random pairs without a common word, as many as can be made.
fn paired_held_out_names(rng: &mut ChaCha8Rng) -> Vec<[Name; 2]> {
    let all = (0..NAMES as u8).flat_map(|first| (0..NAMES as u8).map(move |second| Name { first, second }));
    let mut names: Vec<Name> = all.filter(|&name| is_held_out(name)).collect();
    names.shuffle(rng);
    let mut pairs = Vec::with_capacity(names.len() / 2);
    while let Some(name) = names.pop() {
        if let Some(at) = names.iter().rposition(|&other| are_distinct(name, other)) {
            pairs.push([name, names.remove(at)]);
        }
    }
    pairs
}

/// Where a question has a loss.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    Answer,
    Everything,
}

/// What an edit's documents are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EditStyle {
    /// The ledger's entries as they stand.
    Ledger,
    /// All statements about one entity.
    Rewrite,
    /// A statement.
    Implications,
    /// A question with its answer.
    Questions,
    /// A statement or a question.
    Mixed,
    /// Statements about half of the facts.
    Half,
}

impl EditStyle {
    /// An untrained policy favours none.
    fn draw(rng: &mut ChaCha8Rng) -> EditStyle {
        const ALL: [EditStyle; 6] = [
            EditStyle::Ledger,
            EditStyle::Rewrite,
            EditStyle::Implications,
            EditStyle::Questions,
            EditStyle::Mixed,
            EditStyle::Half,
        ];
        ALL[rng.random_range(0..ALL.len())]
    }
}

/// The forms of pretraining documents.
#[derive(Clone, Copy)]
enum Form {
    Copy,
    Knowledge,
    Asked,
    Edit,
    Reading,
}

impl Form {
    /// Draws a form so that *tokens* have the shares below: each form's chance is its share over its mean
    /// length.
    fn draw(rng: &mut ChaCha8Rng, progress: f32) -> Form {
        let facts = facts_max(progress) as f32 * 0.85;
        let copy = 0.45 - 0.40 * ramp(progress, CURRICULUM_END);
        let rest = 1.0 - copy;
        let forms = [
            (Form::Copy, copy, 14.0 + 8.0 * facts),
            (Form::Knowledge, rest * 0.26, 24.0),
            (Form::Asked, rest * 0.16, 14.0),
            (Form::Edit, rest * 0.38, 16.0 + 17.0 * facts),
            (Form::Reading, rest * 0.20, 12.0 + 7.0 * facts + 6.5 * facts.min(READING_QUESTIONS_MAX as f32)),
        ];
        let total: f32 = forms.iter().map(|(_, share, tokens)| share / tokens).sum();
        let mut at = rng.random::<f32>() * total;
        for (form, share, tokens) in forms {
            at -= share / tokens;
            if at <= 0.0 {
                return form;
            }
        }
        Form::Reading
    }
}

/// A sequence being written.
#[derive(Default)]
struct Page {
    ids: Vec<u32>,
    labelled: Vec<bool>,
}

impl Page {
    fn put(&mut self, id: u32, loss: bool) {
        self.ids.push(id);
        self.labelled.push(loss);
    }

    fn put_all(&mut self, ids: impl IntoIterator<Item = u32>, loss: bool) {
        self.ids.extend(ids);
        self.label_rest(loss);
    }

    /// Says of the ids that were pushed without a word whether they have a loss.
    fn label_rest(&mut self, loss: bool) {
        self.labelled.resize(self.ids.len(), loss);
    }

    fn into_sequence(self) -> Sequence {
        let positions = (0..self.ids.len() as u32).collect();
        Sequence { ids: self.ids, positions, labelled: self.labelled }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences(world: &FactWorld) -> impl Iterator<Item = Sequence> {
        (0..3000).map(|index| world.sequence(index, index as f32 / 3000.0))
    }

    #[test]
    fn no_sequence_names_a_held_out_entity() {
        let world = FactWorld::new(11);
        let mut named = BTreeSet::new();
        for sequence in sequences(&world) {
            for pair in sequence.ids.windows(2) {
                let place = |words: &[u32], id| words.iter().position(|&word| word == id);
                let (firsts, seconds) = world.words.names();
                if let (Some(first), Some(second)) = (place(firsts, pair[0]), place(seconds, pair[1])) {
                    let name = Name { first: first as u8, second: second as u8 };
                    assert!(!is_held_out(name));
                    named.insert(name);
                }
            }
        }
        assert!(named.len() > 1000, "{} names", named.len());
        assert!(world.held_out.len() > 950);
        assert!(world.held_out.iter().flatten().all(|&name| is_held_out(name)));
        let distinct: BTreeSet<Name> = world.held_out.iter().flatten().copied().collect();
        assert_eq!(distinct.len(), 2 * world.held_out.len());
    }

    #[test]
    fn text_and_ids_are_one() {
        let world = FactWorld::new(11);
        let tokenizer = world.tokenizer();
        let bare = |ids: &[u32]| {
            let text = tokenizer.decode(ids, false).expect("ids decode");
            let encoding = tokenizer.encode(text.as_str(), false).expect("any text encodes");
            assert_eq!(encoding.get_ids(), ids, "{text}");
        };
        let special = world.tokenizer().token_to_id(super::super::format::PAD).expect("a special token");
        for sequence in sequences(&world) {
            sequence.ids.split(|&id| id >= special).for_each(bare);
        }
        for index in 0..50 {
            let passage = world.held_out_passage(index);
            let texts = passage.questions.iter().flat_map(|asked| [&asked.question, &asked.answer]);
            for text in [&passage.title, &passage.context].into_iter().chain(texts) {
                let encoding = tokenizer.encode(text.as_str(), false).expect("any text encodes");
                let ids = encoding.get_ids();
                assert!(ids.iter().all(|&id| id < world.vocabulary.id("<")), "only whole pieces: {text}");
                assert_eq!(&tokenizer.decode(ids, false).expect("ids decode"), text);
            }
        }
    }

    #[test]
    fn sequences_are_deterministic_and_short_and_labelled_where_they_can_be_foretold() {
        let world = FactWorld::new(2);
        let again = FactWorld::new(2);
        let other = FactWorld::new(3);
        let mut differing = 0;
        for (index, sequence) in sequences(&world).enumerate() {
            let progress = index as f32 / 3000.0;
            assert_eq!(sequence, again.sequence(index as u64, progress));
            differing += usize::from(sequence != other.sequence(index as u64, progress));
            assert!(sequence.len() <= FACT_TOKENS_MAX && sequence.labelled_count() > 0);
            assert_eq!(sequence.positions, (0..sequence.len() as u32).collect::<Vec<_>>());
            assert_eq!(sequence.ids[0], world.pieces.bos);
            assert_eq!(*sequence.ids.last().expect("not empty"), world.pieces.eos);
            for marker in [world.pieces.edit, world.pieces.copy] {
                if let Some(at) = sequence.ids.iter().position(|&id| id == marker) {
                    assert!(sequence.labelled[..=at].iter().all(|labelled| !labelled));
                    assert!(sequence.labelled[at + 1..].iter().all(|&labelled| labelled));
                }
            }
        }
        assert!(differing > 2900);
    }

    #[test]
    fn an_answer_stands_in_the_passage_and_the_other_entity_has_another() {
        let world = FactWorld::new(2);
        for index in 0..100 {
            let passage = world.held_out_passage(index);
            assert_eq!(passage.questions.len(), PASSAGE_FACTS);
            let answers: BTreeSet<&str> =
                passage.questions.iter().map(|asked| asked.answer.as_str()).collect();
            assert_eq!(answers.len(), PASSAGE_FACTS, "every answer is another word");
            for answer in answers {
                assert!(passage.context.split([' ', ',', ';']).any(|word| word == answer));
            }
        }
    }
}
