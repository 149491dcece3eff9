//! `selkie generate`: continuations of prompts, in one batch.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use selkie_edit::derive_seed;
use selkie_learn::pup::render::Prompt;
use selkie_learn::sample::Told;
use selkie_learn::{
    Constraint, Detokenizer, Generated, Grammar, PromptCache, Request, SamplingSettings, StopReason,
    StopStrings, generate_batch, lines,
};
use serde::Serialize;

use super::text::{NamedAdapter, TextModel, prompts};
use crate::args::{GenerateArgs, GrammarArgs};
use crate::error::CommandError;
use crate::settings::read_text;

/// Streams of one batch: bounds the memory of their keys and values.
const STREAMS_MAX: usize = 256;

/// Bytes of a prompt or a grammar.
const TEXT_BYTES_MAX: usize = 1 << 24;

/// Generates and prints.
pub(crate) fn run(args: &GenerateArgs) -> Result<ExitCode, CommandError> {
    let model = TextModel::open(&args.model)?;
    let adapters = model.adapters(&args.adapters)?;
    let prompts = all_prompts(args, &model)?;
    check_lengths(&prompts, &model)?;
    let constraint = constraint(&args.grammar, &model)?;
    let work = Work { args, model: &model, constraint: constraint.as_ref() };
    let mut jobs = Vec::new();
    for adapter in &adapters {
        for (prompt, tokens) in prompts.iter().enumerate() {
            let job = |sample| Job { adapter, prompt, tokens, sample };
            jobs.extend((0..args.samples as usize).map(job));
        }
    }
    let streams_text = jobs.len() == 1 && !args.json;
    let started = Instant::now();
    // Samples of one prompt under one adapter are neighbours, so one prompt at a time is enough to know.
    let mut cache = PromptCache::new(1);
    let mut outputs = Vec::with_capacity(jobs.len());
    for batch in jobs.chunks(STREAMS_MAX) {
        outputs.extend(work.run(batch, &mut cache, streams_text)?);
    }
    let report = Report::of(&model, outputs, started.elapsed());
    match args.json {
        true => super::print_json(&report)?,
        false if streams_text => super::print("\n")?,
        false => super::print(&report.text(adapters.len(), prompts.len(), args.samples))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn all_prompts(args: &GenerateArgs, model: &TextModel) -> Result<Vec<Prompt>, CommandError> {
    if let Some(path) = &args.prompts {
        return prompts(path, model, args.chat);
    }
    let text = match &args.prompt {
        Some(text) => text.clone(),
        None => stdin()?,
    };
    let prompt = lines::text_prompt(&model.codec, &text, args.chat).map_err(CommandError::input)?;
    Ok(vec![prompt])
}

/// The text on stdin, without the newline at its end.
fn stdin() -> Result<String, CommandError> {
    let path = Path::new("-");
    let mut text = String::new();
    let read = std::io::stdin().lock().take(TEXT_BYTES_MAX as u64 + 1).read_to_string(&mut text);
    read.map_err(|error| CommandError::read(path, &error))?;
    if text.len() > TEXT_BYTES_MAX {
        return Err(CommandError::input(format!(
            "the prompt on stdin is larger than {TEXT_BYTES_MAX} bytes"
        )));
    }
    let end = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(end);
    Ok(text)
}

fn check_lengths(prompts: &[Prompt], model: &TextModel) -> Result<(), CommandError> {
    let limit = model.decoder.config().max_positions;
    match prompts.iter().enumerate().find(|(_, prompt)| prompt.ids.len() >= limit) {
        None => Ok(()),
        Some((index, prompt)) => Err(CommandError::input(format!(
            "prompt {} has {} tokens; the model has {limit} positions, for the prompt and what follows",
            index + 1,
            prompt.ids.len()
        ))),
    }
}

fn constraint(args: &GrammarArgs, model: &TextModel) -> Result<Option<Constraint>, CommandError> {
    let grammar = match (&args.json_schema, &args.regex, &args.grammar) {
        (Some(path), ..) => {
            let schema = serde_json::from_str(&read_text(path, TEXT_BYTES_MAX)?);
            let not_json =
                |error| CommandError::input(format!("`{}` is not valid JSON: {error}", path.display()));
            Grammar::JsonSchema(schema.map_err(not_json)?)
        }
        (_, Some(pattern), _) => Grammar::Regex(pattern.clone()),
        (.., Some(path)) => Grammar::Lark(read_text(path, TEXT_BYTES_MAX)?),
        _ => return Ok(None),
    };
    let vocabulary = model.codec.vocabulary(model.decoder.config())?;
    Ok(Some(Constraint::new(&vocabulary, &grammar)?))
}

/// What all continuations have in common.
struct Work<'a> {
    args: &'a GenerateArgs,
    model: &'a TextModel,
    constraint: Option<&'a Constraint>,
}

/// One continuation.
struct Job<'a> {
    adapter: &'a NamedAdapter,
    prompt: usize,
    tokens: &'a Prompt,
    sample: usize,
}

/// The text of one stream while it comes.
struct Text<'a> {
    /// Taken at the end.
    detokenizer: Option<Detokenizer<'a>>,
    stops: StopStrings,
    text: String,
    is_stopped: bool,
}

impl Text<'_> {
    /// The text that is certain now.
    fn push(&mut self, id: u32) -> String {
        match self.detokenizer.as_mut().and_then(|detokenizer| detokenizer.push(id)) {
            Some(piece) => self.release(&piece),
            None => String::new(),
        }
    }

    fn release(&mut self, piece: &str) -> String {
        let released = self.stops.push(piece);
        self.is_stopped |= released.stop.is_some();
        self.text += &released.text;
        released.text
    }

    /// What waited, when no token comes any more.
    fn finish(&mut self) -> String {
        if self.is_stopped {
            return String::new();
        }
        let mut rest = match self.detokenizer.take().and_then(Detokenizer::finish) {
            Some(piece) => self.release(&piece),
            None => String::new(),
        };
        if !self.is_stopped {
            let held = std::mem::take(&mut self.stops).finish();
            self.text += &held;
            rest += &held;
        }
        rest
    }
}

impl Work<'_> {
    fn run(
        &self,
        jobs: &[Job<'_>],
        cache: &mut PromptCache,
        streams_text: bool,
    ) -> Result<Vec<Output>, CommandError> {
        let stops: Vec<Vec<u32>> = jobs.iter().map(|job| self.model.stops(job.tokens)).collect();
        let requests = jobs.iter().zip(&stops).map(|(job, stop)| self.request(job, stop)).collect();
        let mut texts = jobs.iter().map(|_| self.text()).collect::<Result<Vec<_>, _>>()?;
        let mut failure = None;
        let mut told = |told: Told| {
            let text = &mut texts[told.request];
            let piece = text.push(told.id);
            if streams_text && let Err(error) = super::print(&piece) {
                failure = Some(error);
                return ControlFlow::Break(());
            }
            if text.is_stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let made = generate_batch(&self.model.decoder, cache, requests, &mut told)?;
        if let Some(error) = failure {
            return Err(error);
        }
        let mut outputs = Vec::with_capacity(jobs.len());
        for ((job, made), mut text) in jobs.iter().zip(made).zip(texts) {
            let rest = text.finish();
            if streams_text {
                super::print(&rest)?;
            }
            outputs.push(self.output(job, made, text));
        }
        Ok(outputs)
    }

    fn request<'b>(&self, job: &'b Job<'_>, stop: &'b [u32]) -> Request<'b> {
        let GenerateArgs { temperature, top_k, top_p, seed, max_new, .. } = *self.args;
        // The same draws under each adapter.
        let seed = derive_seed(seed, &format!("prompt/{}/sample/{}", job.prompt, job.sample));
        let room = self.model.decoder.config().max_positions.saturating_sub(job.tokens.ids.len());
        Request {
            prompt: &job.tokens.ids,
            position_of: Box::new(job.tokens.position_of()),
            adapter: job.adapter.adapter.as_ref(),
            sampling: SamplingSettings { temperature, top_k, top_p, seed },
            stop,
            constraint: self.constraint.cloned(),
            max_new: room.min(max_new as usize),
        }
    }

    fn text(&self) -> Result<Text<'_>, CommandError> {
        let stops = StopStrings::new(self.args.stop.clone())?;
        let detokenizer = Some(self.model.codec.detokenizer());
        Ok(Text { detokenizer, stops, text: String::new(), is_stopped: false })
    }

    fn output(&self, job: &Job<'_>, made: Generated, text: Text<'_>) -> Output {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let constraint = made.constraint_cost.map(|cost| ConstraintReport {
            compile_ms: milliseconds(cost.compile),
            ms_per_token: milliseconds(cost.per_token()),
            sampled: cost.sampled,
            forced: cost.forced,
        });
        Output {
            adapter: job.adapter.folder.clone(),
            prompt: job.prompt,
            sample: job.sample,
            text: text.text,
            tokens: made.ids.len(),
            ended: if text.is_stopped { StopReason::Stopped } else { made.ended },
            ids: self.args.log_probs.then_some(made.ids),
            log_probs: self.args.log_probs.then_some(made.log_probs),
            constraint,
        }
    }
}

/// One continuation, as it is printed.
#[derive(Serialize)]
struct Output {
    adapter: Option<String>,
    /// From 0, in the order of the file.
    prompt: usize,
    /// From 0.
    sample: usize,
    text: String,
    /// New tokens, those of a stop string included.
    tokens: usize,
    ended: StopReason,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<u32>>,
    /// Nats; null for a token that the grammar forced.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_probs: Option<Vec<Option<f32>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    constraint: Option<ConstraintReport>,
}

/// What the grammar cost.
#[derive(Serialize)]
struct ConstraintReport {
    compile_ms: f64,
    ms_per_token: f64,
    sampled: u64,
    forced: u64,
}

/// Everything that was generated.
#[derive(Serialize)]
struct Report {
    model: String,
    outputs: Vec<Output>,
    tokens: usize,
    seconds: f64,
    tokens_per_second: f64,
}

impl Report {
    fn of(model: &TextModel, outputs: Vec<Output>, time: Duration) -> Report {
        let tokens = outputs.iter().map(|output| output.tokens).sum();
        let seconds = time.as_secs_f64();
        let tokens_per_second = if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
        Report { model: model.name.clone(), outputs, tokens, seconds, tokens_per_second }
    }

    /// Each continuation under a line that says whose it is.
    fn text(&self, adapters: usize, prompts: usize, samples: u32) -> String {
        let mut text = String::new();
        for output in &self.outputs {
            let mut name = Vec::new();
            if prompts > 1 {
                name.push(format!("prompt {}", output.prompt + 1));
            }
            if samples > 1 {
                name.push(format!("sample {}", output.sample + 1));
            }
            if adapters > 1 {
                name.push(output.adapter.clone().unwrap_or_default());
            }
            text += &format!("--- {}\n{}\n", name.join(", "), output.text);
        }
        text
    }
}
