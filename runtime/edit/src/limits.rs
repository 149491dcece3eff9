//! Every cap on what a self-edit or a context may ask for, each with its reason.
//!
//! A self-edit is written by a model, so each number here is a promise about the worst edit: what it can
//! cost before it is refused. Errors carry the cap and what was asked.

/// Bytes of a self-edit. The longest recorded completion of SEAL is under 10 kB; a megabyte leaves room for
/// documents of a long passage and keeps parsing under a few milliseconds.
pub const EDIT_BYTES_MAX: usize = 1 << 20;

/// Bytes of a file of contexts, one or many. ARC's whole training set is 0.9 MB, SQuAD 2's is 42 MB.
pub const CONTEXT_BYTES_MAX: usize = 64 << 20;

/// Contexts of one file. SQuAD 2's training set has about 19,000 paragraphs, and SEAL trains on 50.
pub const CONTEXTS_MAX: usize = 1 << 16;

/// Nesting of JSON arrays and objects in an edit. The deepest valid edit (a chain's parameters) needs 10.
pub const JSON_DEPTH_MAX: usize = 32;

/// Problems reported for one edit. More than this does not help a model to repair it.
pub const PROBLEMS_MAX: usize = 32;

/// Pipelines in an edit. SEAL's largest flag set has 23.
pub const PIPELINES_MAX: usize = 32;

/// Tools in one chain. SEAL's chains have two.
pub const CHAIN_DEPTH_MAX: usize = 4;

/// Bytes of one tool call's parameters as JSON. Parameters are numbers and names, not data.
pub const PARAMS_BYTES_MAX: usize = 4096;

/// Copies that the permutation step may make of each task. The pup study used 64.
pub const PERMUTE_COPIES_MAX: u32 = 64;

/// Tasks that may exist while a dataset is being made, before it is cut to [`EXAMPLES_MAX`]. SEAL's largest
/// case (leave-two-out of seven examples under all flags, permuted once) is about 2,000.
pub const TASKS_MAX: usize = 16_384;

/// Training examples of a puzzle; SEAL's `Nmax`.
pub const EXAMPLES_MAX: usize = 250;

/// Documents of a passage. SEAL's completions have about 7 lines.
pub const DOCUMENTS_MAX: usize = 256;

/// Documents about what was known before that an edit may ask for. As many as its own documents: rehearsal keeps
/// what is there and must not become the training.
pub const REPLAY_MAX: u32 = 256;

/// Bytes of one document. About 4,000 tokens.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 10;

/// Tokens of one training sequence; SEAL's limit.
pub const SEQUENCE_TOKENS_MAX: usize = 8192;

/// Tokens of one training set (before epochs). 250 sequences of 8,192 would be 2 million; this keeps one
/// edit within minutes on a CPU for a small model.
pub const TOKENS_MAX: usize = 1 << 20;

/// Optimiser steps of one edit. SEAL silently turns an edit above this into one that does nothing; here it
/// is refused.
pub const STEPS_MAX: u64 = 375;

/// LoRA rank. SEAL's largest is 128.
pub const RANK_MAX: u32 = 256;

/// LoRA alpha. PEFT users rarely go above twice the rank.
pub const ALPHA_MAX: f64 = 1024.0;

/// Learning rate. The pup study's largest useful one is 2e-2; above 1 AdamW's step exceeds any weight.
pub const LEARNING_RATE_MAX: f64 = 1.0;

/// Smallest learning rate. Below it f32 weights do not move. Positive, because constrained decoders treat
/// an exclusive bound of 0 as inclusive.
pub const LEARNING_RATE_MIN: f64 = 1e-6;

/// Epochs. SEAL searches up to 20.
pub const EPOCHS_MAX: u32 = 50;

/// Sequences of one optimiser step.
pub const BATCH_SIZE_MAX: u32 = 64;

/// Characters of the reason that an edit may give.
pub const REASON_CHARS_MAX: usize = 2000;

/// Rows or columns of a puzzle's grid, as in ARC.
pub const PUZZLE_SIDE_MAX: u8 = 30;

/// Largest colour of a grid, as in ARC.
pub const COLOUR_MAX: u8 = 9;

/// Demonstrations of a puzzle. ARC's most is 10; leave-two-out grows with the square.
pub const DEMONSTRATIONS_MAX: usize = 32;

/// Questions of a passage. SQuAD's most in one paragraph is about 30.
pub const QUESTIONS_MAX: usize = 512;

/// Smallest LoRA alpha. Below it the update is nothing; positive for the same reason as
/// [`LEARNING_RATE_MIN`].
pub const ALPHA_MIN: f64 = 0.01;

/// Names in a list of LoRA targets: the seven projections, each written twice at most.
pub const TARGETS_MAX: usize = 14;

/// Characters of a tool's name in an edit. Plugins' names are far shorter.
pub const TOOL_NAME_CHARS_MAX: usize = 128;

/// Tests of a puzzle. ARC's most is 3.
pub const TESTS_MAX: usize = 32;

/// Bytes of a passage's title. It is repeated in front of every document.
pub const TITLE_BYTES_MAX: usize = 1024;

/// Bytes of a passage. SQuAD's longest is under 4 kB; this is about eight training sequences, so that a
/// longer text is split by its owner and not cut by us.
pub const PASSAGE_BYTES_MAX: usize = 256 << 10;

/// Bytes of one question, and of one answer.
pub const QUESTION_BYTES_MAX: usize = 8 << 10;

/// Fuel that an edit may write; larger than any host's, and exact in every JSON parser.
pub const FUEL_MAX: u64 = 1 << 50;

/// Items and model calls that an edit may write; larger than any host's.
pub const ITEMS_MAX: u32 = 1 << 20;
