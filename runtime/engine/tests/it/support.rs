//! A live runtime on a bundled model, in a home of its own.

use std::sync::{Arc, OnceLock};

use selkie_edit::{Context, Domain, Passage};
use selkie_engine::live::{EditRequest, EditText, GenerateRequest, Live, LiveOptions, Piece, Prompt};
use selkie_engine::{Runtime, model_files};
use tempfile::TempDir;

pub(crate) struct Bench {
    pub(crate) live: Live,
    pub(crate) home: TempDir,
}

pub(crate) fn runtime(domain: Domain) -> Arc<Runtime> {
    static FACTS: OnceLock<Arc<Runtime>> = OnceLock::new();
    static PUZZLES: OnceLock<Arc<Runtime>> = OnceLock::new();
    let known = match domain {
        Domain::Passage => &FACTS,
        Domain::Puzzle => &PUZZLES,
    };
    let open = || Arc::new(Runtime::open(&model_files(None, domain).unwrap(), None).unwrap());
    known.get_or_init(open).clone()
}

pub(crate) fn options(home: &TempDir) -> LiveOptions {
    LiveOptions {
        streams: 32,
        queue: 8,
        training_threads: 1,
        clock: || 1_700_000_000_000,
        ..LiveOptions::new(home.path().join("home"))
    }
}

impl Bench {
    pub(crate) fn new(domain: Domain) -> Bench {
        Bench::with(domain, |_| ())
    }

    pub(crate) fn with(domain: Domain, change: impl FnOnce(&mut LiveOptions)) -> Bench {
        let home = TempDir::new().unwrap();
        let mut options = options(&home);
        change(&mut options);
        Bench { live: Live::start(runtime(domain), options).unwrap(), home }
    }

    /// The text of a whole answer.
    pub(crate) fn says(&self, request: GenerateRequest) -> String {
        self.live.generate(request).unwrap().end_blocking().unwrap().text
    }
}

pub(crate) fn ask(prompt: Prompt) -> GenerateRequest {
    GenerateRequest { max_tokens: Some(64), ..GenerateRequest::new(prompt) }
}

/// All pieces of an answer.
pub(crate) fn pieces(live: &Live, request: GenerateRequest) -> Vec<Piece> {
    let mut reply = live.generate(request).unwrap();
    std::iter::from_fn(|| reply.next_blocking()).collect()
}

pub(crate) fn tokens(pieces: &[Piece]) -> Vec<u32> {
    let token = |piece: &Piece| match piece {
        Piece::Text { token, .. } => Some(*token),
        _ => None,
    };
    pieces.iter().filter_map(token).collect()
}

pub(crate) fn passage(index: u64) -> Passage {
    runtime(Domain::Passage).model.fact_world().unwrap().held_out_passage(index)
}

pub(crate) fn edit_of(context: Context, text: &str) -> EditRequest {
    EditRequest { seed: 1, ..EditRequest::new(context, EditText::Given(text.to_owned())) }
}

/// A self-edit that teaches a passage by its own statements, one document a line.
pub(crate) fn teaching(index: u64, epochs: u32) -> String {
    let lines = runtime(Domain::Passage).model.fact_world().unwrap().held_out_lines(index);
    serde_json::json!({
        "version": 1,
        "data": { "documents": lines },
        "training": { "learning_rate": 0.01, "epochs": epochs, "batch_size": 4 },
    })
    .to_string()
}
