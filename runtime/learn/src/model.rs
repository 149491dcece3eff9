//! A base model ready to work: weights, language, profile and identity.

use std::ops::ControlFlow;

use selkie_edit::{Answer, Asked, Catalogue, Context, Domain, ItemReport, Report};
use serde::{Deserialize, Serialize};

use crate::base::ModelFiles;
use crate::calls::Marker;
use crate::codec::{ANSWER_TOKENS_MAX, Codec, Item};
use crate::constraint::Constraint;
use crate::decoder::Decoder;
use crate::device::Compute;
use crate::error::LearnError;
use crate::lora::Adapter;
use crate::profile::Profile;
use crate::pup::facts::FactWorld;
use crate::pup::puzzles::PuzzleWorld;
use crate::pup::render::Prompt;
use crate::sample::{Generated, PromptCache, Request, StopReason, generate, generate_batch};
use crate::sampler::SamplingSettings;
use crate::score::{Score, score, score_many};
use crate::sequence::Sequence;

/// New tokens of a self-edit. SEAL allows 128 for a puzzle's JSON and 8,192 for a passage's text; recorded
/// completions are below 600.
const EDIT_TOKENS_MAX: usize = 1024;

/// SEAL's settings for drawing self-edits of a passage.
const EDIT_TEMPERATURE: f64 = 1.0;
const EDIT_TOP_P: f64 = 0.95;

/// The bundled models' own: at 1 a model of a million parameters miscopies what it writes about.
const PUP_TEMPERATURE: f64 = 0.7;

/// New tokens of a text answer; SEAL's limit.
const TEXT_ANSWER_TOKENS_MAX: usize = 64;

/// How self-edits are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Drawing {
    /// Logits are divided by it; 0 is greedy.
    pub temperature: f64,
    /// Only the smallest set of the most probable tokens that holds this share of the probability.
    pub top_p: f64,
    /// New tokens at most.
    pub tokens: usize,
}

/// A base model. Frozen: an adapter is always an argument.
#[derive(Debug)]
pub struct Model {
    decoder: Decoder,
    codec: Codec,
    profile: Profile,
    digest: String,
    policy: Option<Adapter>,
    asks: Option<Adapter>,
}

/// A self-edit as the model wrote it, and what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenEdit {
    /// The prompt, readable.
    pub prompt: String,
    /// The answer, as it came.
    pub text: String,
    /// Its tokens, without the one that ended it; none of an edit that no model was asked for.
    pub ids: Vec<u32>,
    /// Whether the model ended it, or the length limit did.
    pub ended: StopReason,
}

impl WrittenEdit {
    /// An edit that no model was asked for.
    pub fn given(text: &str) -> WrittenEdit {
        let (text, ids) = (text.to_owned(), Vec::new());
        WrittenEdit { prompt: String::new(), text, ids, ended: StopReason::StopToken }
    }
}

impl Model {
    /// Opens a model on the CPU.
    ///
    /// # Errors
    /// Whatever is missing, damaged or unsupported, by name.
    pub fn open(files: &ModelFiles) -> Result<Model, LearnError> {
        Model::open_on(files, &Compute::cpu())
    }

    /// Opens a model to be computed there.
    ///
    /// # Errors
    /// As [`Model::open`], and when the device cannot hold it.
    pub fn open_on(files: &ModelFiles, compute: &Compute) -> Result<Model, LearnError> {
        let profile = Profile::of(files)?;
        let decoder = files.decoder_on(compute)?;
        let codec = Codec::open(profile.renderer, files, &decoder.config().eos_ids)?;
        let (policy, asks) = (files.policy(decoder.config())?, files.asks(decoder.config())?);
        Ok(Model { decoder, codec, profile, digest: files.digest(), policy, asks })
    }

    /// The weights.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The language.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Name and training defaults.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// SHA-256 of the model's files, 64 hex digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The adapter that writes self-edits better than the base model does, if the model came with one. It is an
    /// argument of [`Model::write_edits`] like any other, and nothing else uses it.
    pub fn policy(&self) -> Option<&Adapter> {
        self.policy.as_ref()
    }

    /// The adapter under which the model begins an answer with the marker of a self-edit where it cannot know the answer,
    /// if the model came with one. Edits are trained on top of it, so that their stack has it too.
    pub fn asks(&self) -> Option<&Adapter> {
        self.asks.as_ref()
    }

    /// Asks the model for a self-edit of a context, at SEAL's settings for passages (the bundled models at their own).
    /// The seed decides the draw.
    ///
    /// # Errors
    /// When the model does not understand this kind of context.
    pub fn write_edit(
        &self,
        adapter: Option<&Adapter>,
        context: &Context,
        catalogue: &Catalogue,
        seed: u64,
    ) -> Result<WrittenEdit, LearnError> {
        let temperature = match self.codec {
            Codec::Chat(_) => EDIT_TEMPERATURE,
            Codec::Facts(_) | Codec::Puzzles(_) => PUP_TEMPERATURE,
        };
        let drawing = Drawing { temperature, top_p: EDIT_TOP_P, tokens: EDIT_TOKENS_MAX };
        Ok(self.write_edits(adapter, context, catalogue, drawing, &[seed])?.swap_remove(0))
    }

    /// Asks for several self-edits of a context at once, one a seed. What each says does not depend on the others.
    ///
    /// # Errors
    /// As [`Model::write_edit`].
    pub fn write_edits(
        &self,
        adapter: Option<&Adapter>,
        context: &Context,
        catalogue: &Catalogue,
        drawing: Drawing,
        seeds: &[u64],
    ) -> Result<Vec<WrittenEdit>, LearnError> {
        let prompt = self.codec.edit_prompt(context, catalogue)?;
        self.check_length(prompt.ids.len())?;
        let room = self.decoder.config().max_positions.saturating_sub(prompt.ids.len());
        let constraint = match self.codec.asks_for_json(context.domain()) {
            true => self.edit_constraint(catalogue, context.domain())?,
            false => None,
        };
        let stops = self.stops(prompt.end);
        let request = |&seed: &u64| Request {
            prompt: &prompt.ids,
            position_of: Box::new(prompt.position_of()),
            adapter,
            sampling: SamplingSettings {
                temperature: drawing.temperature,
                top_k: None,
                top_p: drawing.top_p,
                seed,
            },
            stop: &stops,
            constraint: constraint.clone(),
            max_new: drawing.tokens.min(room),
        };
        let go_on = &mut |_| ControlFlow::Continue(());
        let requests = seeds.iter().map(request).collect();
        let made = generate_batch(&self.decoder, &mut PromptCache::new(1), requests, go_on)?;
        let written = |made: Generated| WrittenEdit {
            prompt: prompt.text.clone(),
            text: self.codec.text(&made.ids),
            ids: made.ids,
            ended: made.ended,
        };
        Ok(made.into_iter().map(written).collect())
    }

    /// What decoding is constrained to for the model to write a self-edit that is valid for these tools, in Selkie's
    /// form; none where it does not understand this kind of context. Clone it for each of several streams.
    ///
    /// A passage's prompt asks a real model for free text, of which nearly all is a valid edit; there the constraint is
    /// for callers whose prompt asks for JSON.
    ///
    /// # Errors
    /// When decoding cannot be constrained with the model's tokenizer, or to a loaded tool's schema.
    pub fn edit_constraint(
        &self,
        catalogue: &Catalogue,
        domain: Domain,
    ) -> Result<Option<Constraint>, LearnError> {
        let Some(grammar) = self.codec.edit_grammar(catalogue, domain) else { return Ok(None) };
        let vocabulary = self.codec.vocabulary(self.decoder.config())?;
        Constraint::new(&vocabulary, &grammar).map(Some)
    }

    /// Measures a model on a context: every item by one teacher-forced pass, and greedy decoding for what it says
    /// instead where it is wrong.
    ///
    /// # Errors
    /// When the model does not understand the context, or there is nothing to measure by.
    pub fn evaluate(&self, adapter: Option<&Adapter>, context: &Context) -> Result<Report, LearnError> {
        self.evaluate_items(adapter, &self.codec.items(context)?, &mut || ControlFlow::Continue(()))
    }

    /// The same for what a candidate is asked where the context's own answers may not be known. The text of a passage
    /// is only scored, not decoded.
    ///
    /// # Errors
    /// As [`Model::evaluate`].
    pub fn evaluate_asked(&self, adapter: Option<&Adapter>, asked: &Asked) -> Result<Report, LearnError> {
        self.evaluate_asked_while(adapter, asked, &mut || ControlFlow::Continue(()))
    }

    /// The same, as long as `go_on` says so, which is asked before every item; the items after that are left out.
    ///
    /// # Errors
    /// As [`Model::evaluate`].
    pub fn evaluate_asked_while(
        &self,
        adapter: Option<&Adapter>,
        asked: &Asked,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Report, LearnError> {
        let passage = match asked {
            Asked::Known(context) | Asked::HeldOut(context) => {
                return self.evaluate_items(adapter, &self.codec.items(context)?, go_on);
            }
            Asked::Text(passage) => passage,
        };
        let item = self.codec.text_item(passage)?;
        let score =
            self.score_items(&[(adapter, std::slice::from_ref(&item))])?.swap_remove(0).swap_remove(0);
        let report = ItemReport {
            item: item.name,
            solved: score.greedy,
            log_prob: score.mean_log_prob(),
            prediction: Answer::Text(String::new()),
            expected: item.expected,
        };
        Ok(Report { items: vec![report] })
    }

    fn evaluate_items(
        &self,
        adapter: Option<&Adapter>,
        items: &[Item],
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Report, LearnError> {
        let scores = self.score_items(&[(adapter, items)])?.swap_remove(0);
        let mut reports = Vec::with_capacity(items.len());
        for (item, score) in items.iter().zip(scores) {
            if go_on().is_break() {
                break;
            }
            let prediction = match score.greedy {
                true => item.expected.clone(),
                false => self.answer(adapter, item)?,
            };
            reports.push(ItemReport {
                item: item.name.clone(),
                solved: score.greedy,
                log_prob: score.mean_log_prob(),
                prediction,
                expected: item.expected.clone(),
            });
        }
        Ok(Report { items: reports })
    }

    /// Scores items under each adapter in shared passes: one list a part, in order.
    ///
    /// # Errors
    /// When an item is longer than the model can read.
    pub fn score_items(&self, work: &[(Option<&Adapter>, &[Item])]) -> Result<Vec<Vec<Score>>, LearnError> {
        let sequences = |items: &[Item]| -> Vec<Sequence> {
            items.iter().map(|item| item.prompt.with(&item.answer)).collect()
        };
        let parts: Vec<(Option<&Adapter>, Vec<Sequence>)> =
            work.iter().map(|&(adapter, items)| (adapter, sequences(items))).collect();
        for sequence in parts.iter().flat_map(|(_, sequences)| sequences) {
            self.check_length(sequence.len())?;
        }
        let parts: Vec<_> = parts.iter().map(|(adapter, items)| (*adapter, items.as_slice())).collect();
        score_many(&self.decoder, &parts)
    }

    /// A self-edit that was written, as what a model is to imitate: its tokens and its end have the loss.
    ///
    /// # Errors
    /// When the model does not understand this kind of context.
    pub fn imitation(
        &self,
        context: &Context,
        catalogue: &Catalogue,
        ids: &[u32],
    ) -> Result<Sequence, LearnError> {
        let prompt = self.codec.edit_prompt(context, catalogue)?;
        let ended: Vec<u32> = ids.iter().copied().chain([prompt.end]).collect();
        Ok(prompt.with(&ended))
    }

    /// The generated world that the model was pretrained in, if it was.
    pub fn fact_world(&self) -> Option<FactWorld> {
        let seed = self.profile.world?;
        matches!(self.codec, Codec::Facts(_)).then(|| FactWorld::new(seed))
    }

    /// The same for puzzles.
    pub fn puzzle_world(&self) -> Option<PuzzleWorld> {
        let seed = self.profile.world?;
        matches!(self.codec, Codec::Puzzles(_)).then(|| PuzzleWorld::new(seed))
    }

    /// What greedy decoding says to an item.
    ///
    /// # Errors
    /// The tensor library's.
    pub fn answer(&self, adapter: Option<&Adapter>, item: &Item) -> Result<Answer, LearnError> {
        let prompt = &item.prompt;
        let mut places = prompt.position_of();
        let room = self.decoder.config().max_positions.saturating_sub(prompt.ids.len());
        let limit = match item.expected {
            Answer::Grid(_) => ANSWER_TOKENS_MAX,
            Answer::Text(_) => TEXT_ANSWER_TOKENS_MAX,
        };
        let mut stops = self.stops(prompt.end);
        // A model that asks for a self-edit instead has not answered.
        if let Marker::Token(id) = self.codec.marker() {
            stops.push(id);
        }
        let (ids, _) = generate(
            &self.decoder,
            adapter,
            &prompt.ids,
            &mut places,
            SamplingSettings::GREEDY,
            &stops,
            limit.min(room),
        )?;
        Ok(self.codec.read_answer(&item.expected, &ids))
    }

    /// How likely a completion is after a prompt, and how many tokens were computed for it.
    ///
    /// # Errors
    /// When the model does not read text, the prompt has no tokens, or both are longer than it can read.
    pub fn likelihood(
        &self,
        adapter: Option<&Adapter>,
        prompt: &str,
        completion: &str,
    ) -> Result<(Score, usize), LearnError> {
        let prompt = self.some_prompt(prompt)?;
        let sequence = prompt.with(&self.codec.completion(completion)?);
        self.check_length(sequence.len())?;
        let score = score(&self.decoder, adapter, std::slice::from_ref(&sequence))?.swap_remove(0);
        Ok((score, sequence.len()))
    }

    /// The most likely continuation of a prompt: at most `max_new` tokens, fewer where the model ends itself or
    /// `go_on` says no. With it, how many tokens were computed.
    ///
    /// # Errors
    /// As [`Model::likelihood`].
    pub fn continuation(
        &self,
        adapter: Option<&Adapter>,
        prompt: &str,
        max_new: usize,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(String, usize), LearnError> {
        let prompt = self.some_prompt(prompt)?;
        self.check_length(prompt.ids.len())?;
        let room = self.decoder.config().max_positions.saturating_sub(prompt.ids.len());
        let request = Request {
            prompt: &prompt.ids,
            position_of: Box::new(prompt.position_of()),
            adapter,
            sampling: SamplingSettings::GREEDY,
            stop: &self.stops(prompt.end),
            constraint: None,
            max_new: max_new.min(room),
        };
        let told = &mut |_| if go_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
        let made =
            generate_batch(&self.decoder, &mut PromptCache::new(0), vec![request], told)?.swap_remove(0);
        Ok((self.codec.text(&made.ids), prompt.ids.len() + made.ids.len()))
    }

    fn some_prompt(&self, text: &str) -> Result<Prompt, LearnError> {
        let prompt = self.codec.text_prompt(text)?;
        if prompt.ids.is_empty() {
            return Err(LearnError::Render(
                "the prompt is empty; the model needs something to continue".to_owned(),
            ));
        }
        Ok(prompt)
    }

    /// Tokens that end what follows a prompt whose own end is `end`.
    pub fn stops(&self, end: u32) -> Vec<u32> {
        let mut stops = self.decoder.config().eos_ids.clone();
        stops.push(end);
        stops
    }

    fn check_length(&self, found: usize) -> Result<(), LearnError> {
        let limit = self.decoder.config().max_positions;
        if found > limit { Err(LearnError::TooLong { found, limit }) } else { Ok(()) }
    }
}
