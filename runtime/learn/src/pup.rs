//! The worlds that pup, the bundled pair of tiny Llama models, is trained in and speaks about.
//!
//! Two worlds, two vocabularies, two models: facts ([`facts`]) and puzzles ([`puzzles`]). A world is a pure
//! function of its seed: sequence number `n` at some progress is always the same, so pretraining can stop and
//! go on anywhere, on any number of threads. [`format`](mod@format) has every prompt and document form as text,
//! [`render`] turns contexts and training data into the same forms, and [`vocabulary`] holds what text and ids
//! have in common.
//!
//! # Facts
//! 300 known entities, fresh ones in passages, and held-out ones that pretraining never names.
//!
//! | document | tokens, early to late | loss on |
//! | --- | --- | --- |
//! | copy: random words or a ledger, twice | 41% to 6% | the second time |
//! | knowledge: titled statements about known entities, some as question and answer | 15% to 25% | everything |
//! | question about one of the first half of the known entities, without a text | 8% to 14% | the answer |
//! | passage about fresh entities, then a self-edit in JSON; style and settings are drawn evenly | 22% to 36% | the edit |
//! | passage about fresh entities, then questions | 13% to 19% | the answers |
//!
//! Passages grow from two facts to eight over the first third. Held out: a fifth of all names.
//!
//! # Puzzles
//! 51 primitive rules, 12 of them held out, and compositions of two: 498 trained, 1351 held out.
//!
//! | what | early to late |
//! | --- | --- |
//! | sides of grids | 2 to 4, then to 6; a few to 10 at the end |
//! | rule told in front | 90% to 75% |
//! | two to four pairs instead of one | 2% to 6% |
//! | composition of two rules | 5% to 45% |
//! | edit prompt with a self-edit | 2% to 6% of the sequences |
//!
//! Held-out puzzles take turns among four kinds ([`puzzles::RuleKind`]), since which edit is
//! right depends on the kind.

pub mod edit_prior;
pub mod facts;
pub mod format;
pub mod positions;
pub mod puzzles;
pub mod recipe;
pub mod render;
mod rules;
mod templates;
pub mod vocabulary;
mod words;
