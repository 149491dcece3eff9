//! A self-edit as it is told in a conversation: a few indented lines.

use std::io::IsTerminal;

use indicatif::ProgressBar;
use selkie_edit::{Answer, ItemReport};
use selkie_engine::live::{Answered, GateScores, Happened, TraceEvent, Trigger, When};
use serde_json::Value;

use crate::commands::adapt::compared;
use crate::{picture, progress};

/// Levels of a drawn loss, lowest first.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Points of a drawn loss.
const POINTS: usize = 40;

/// What was told of one self-edit so far.
pub(super) struct Story {
    losses: Vec<Option<f32>>,
    before: Option<GateScores>,
    bar: Option<ProgressBar>,
    /// Whether the line that is being written has a part of the answer on it.
    mid_line: bool,
}

impl Story {
    pub(super) fn new() -> Story {
        Story { losses: Vec::new(), before: None, bar: None, mid_line: false }
    }

    /// A part of the answer was shown.
    pub(super) fn shown(&mut self, text: &str) {
        self.mid_line = if text.is_empty() { self.mid_line } else { !text.ends_with('\n') };
    }

    /// What an event adds, empty for most.
    pub(super) fn told(&mut self, event: &TraceEvent) -> String {
        let text = match &event.what {
            // A call that somebody made here needs no reason.
            Happened::Triggered { trigger, .. } if event.request.is_none() => {
                format!("{}\n", asked_by(*trigger))
            }
            what => self.text(what),
        };
        if text.is_empty() {
            return text;
        }
        let begin = if std::mem::take(&mut self.mid_line) { "\n" } else { "" };
        text.lines()
            .fold(begin.to_owned(), |told, line| format!("{told}  {line}").trim_end().to_owned() + "\n")
    }

    fn text(&mut self, what: &Happened) -> String {
        match what {
            Happened::Triggered { trigger, why } => format!("{}: {why}\n", asked_by(*trigger)),
            Happened::Proposed { text, attempt } => {
                let which = if *attempt > 1 { format!(" (try {attempt})") } else { String::new() };
                format!("self-edit{which}:\n{}", indented(text.trim_end()))
            }
            Happened::Refused { message, .. } => format!("refused: {}\n", message.trim_end()),
            Happened::Queued { ahead: 0 } | Happened::AwaitingApproval | Happened::Approved => String::new(),
            Happened::Queued { ahead } => format!("waits for {ahead} other self-edits\n"),
            Happened::ToolRan { tool, items, .. } => format!("{tool}: {items} made\n"),
            Happened::Dataset { examples, tokens, steps } => {
                (self.losses, self.bar) = (Vec::new(), Some(progress::bar(*steps)));
                format!("training: {examples} sequences, {tokens} tokens an epoch, {steps} steps\n")
            }
            Happened::TrainingStep { step, loss, .. } => {
                self.step(*step, *loss);
                String::new()
            }
            Happened::Evaluated { when, scores } => self.measured(*when, scores),
            Happened::Kept { generation, reason, .. } => format!("kept as {generation}: {reason}\n"),
            Happened::RolledBack { reason } => self.end(format!("discarded: {reason}\n")),
            Happened::Failed { message } => self.end(format!("failed: {message}\n")),
            Happened::Resumed { adapter, recomputed, .. } => {
                format!("goes on with {adapter}, {recomputed} tokens computed anew\n")
            }
            Happened::Started { .. }
            | Happened::Token { .. }
            | Happened::Ended { .. }
            | Happened::Moved { .. } => String::new(),
        }
    }

    fn step(&mut self, step: u64, loss: Option<f32>) {
        self.losses.push(loss);
        if let Some(bar) = &self.bar {
            bar.set_position(step + 1);
            bar.set_message(loss.map_or("loss is not finite".to_owned(), |loss| format!("loss {loss:.3}")));
        }
    }

    /// The text, with no bar beside it.
    fn end(&mut self, text: String) -> String {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        text
    }

    fn measured(&mut self, when: When, scores: &GateScores) -> String {
        match when {
            When::Before => {
                self.before = Some(scores.clone());
                String::new()
            }
            When::After => {
                let text = self.loss_line() + &self.comparison(scores);
                self.end(text)
            }
        }
    }

    fn loss_line(&self) -> String {
        let finite: Vec<f32> = self.losses.iter().flatten().copied().collect();
        let (Some(first), Some(last)) = (finite.first(), finite.last()) else { return String::new() };
        let drawn = match std::io::stdout().is_terminal() {
            true => format!("  {}", drawn(&finite)),
            false => String::new(),
        };
        format!("loss {first:.3} -> {last:.3} in {} steps{drawn}\n", self.losses.len())
    }

    fn comparison(&self, after: &GateScores) -> String {
        let Some(before) = &self.before else { return String::new() };
        let colour = picture::has_colour();
        let items = before.answers.iter().zip(&after.answers);
        items.map(|(before, after)| compared(&report(before), &report(after), colour)).collect()
    }
}

fn asked_by(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Model => "the model asks for a self-edit",
        Trigger::LowConfidence => "a self-edit is asked for, as the model is not sure",
        Trigger::FailedGrader => "a self-edit is asked for, as the model cannot do what was shown",
        Trigger::Document => "a self-edit is asked for, as this is new",
        Trigger::Call => "a self-edit was called for",
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// An item as the comparison of `selkie adapt` takes it.
fn report(answered: &Answered) -> ItemReport {
    ItemReport {
        item: answered.item.clone(),
        solved: answered.solved,
        log_prob: 0.0,
        prediction: answer(&answered.prediction),
        expected: answer(&answered.expected),
    }
}

fn answer(value: &Value) -> Answer {
    let text = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    serde_json::from_value(value.clone()).unwrap_or_else(|_| Answer::Text(text()))
}

/// A curve of blocks, from the lowest loss to the highest.
fn drawn(losses: &[f32]) -> String {
    let points = losses.len().min(POINTS);
    let shown = (0..points).map(|point| losses[point * losses.len() / points]);
    let (low, high) =
        losses.iter().fold((f32::MAX, f32::MIN), |(low, high), &loss| (low.min(loss), high.max(loss)));
    let level = |loss: f32| ((loss - low) / (high - low).max(f32::EPSILON) * 7.0).round() as usize;
    shown.map(|loss| LEVELS[level(loss).min(7)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: Happened) -> TraceEvent {
        TraceEvent { number: 1, time_ms: 0, request: None, edit: Some("edit-1".to_owned()), what }
    }

    fn scores(prediction: &str, solved: bool, log_prob: f64) -> GateScores {
        let answered = Answered {
            item: "Who?".to_owned(),
            solved,
            prediction: prediction.into(),
            expected: "Dana".into(),
            input: None,
        };
        GateScores {
            measured: "questions".to_owned(),
            solved: usize::from(solved),
            items: 1,
            log_prob: Some(log_prob),
            answers: vec![answered],
        }
    }

    #[test]
    fn an_edit_is_told_in_a_few_lines() {
        let mut story = Story::new();
        let step = |step, loss| Happened::TrainingStep { step, steps: 2, loss, learning_rate: 1e-3 };
        let told: String = [
            Happened::Triggered { trigger: Trigger::Document, why: "a passage was read".to_owned() },
            Happened::Proposed { text: "{\n  \"version\": 1\n}\n".to_owned(), attempt: 1 },
            Happened::AwaitingApproval,
            Happened::Approved,
            Happened::Queued { ahead: 0 },
            Happened::ToolRan { tool: "text.swap".to_owned(), calls: 1, items: 3, fuel: 9 },
            Happened::Dataset { examples: 4, tokens: 90, steps: 2 },
            Happened::Evaluated { when: When::Before, scores: scores("Kador", false, -2.0) },
            step(0, Some(1.5)),
            step(1, Some(0.25)),
            Happened::Evaluated { when: When::After, scores: scores("Dana", true, -0.5) },
            Happened::RolledBack { reason: "it forgot what it knew".to_owned() },
        ]
        .into_iter()
        .map(|what| story.told(&event(what)))
        .collect();
        insta::assert_snapshot!(told, @r#"
          a self-edit is asked for, as this is new
          self-edit:
            {
              "version": 1
            }
          text.swap: 3 made
          training: 4 sequences, 90 tokens an epoch, 2 steps
          loss 1.500 -> 0.250 in 2 steps
          Who?
            before: Kador
            after:  Dana
            gold:   Dana  (now right)
          discarded: it forgot what it knew
        "#);
    }

    #[test]
    fn a_loss_is_drawn_between_its_lowest_and_its_highest() {
        assert_eq!(drawn(&[8.0, 4.0, 1.0]), "█▄▁");
        assert_eq!(drawn(&[2.0]), "▁");
        let many: Vec<f32> = (0..1000).map(|step| 1.0 / (step + 1) as f32).collect();
        assert_eq!(drawn(&many).chars().count(), POINTS);
    }
}
