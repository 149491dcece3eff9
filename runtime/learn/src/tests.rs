//! Tests that need a whole decoder: tiny random models of each family, and what must hold for any of them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod adapters;
mod chat;
mod decoding;
mod gradients;
mod loading;
mod operations;
mod pretraining;
mod reference;
mod support;
mod training;
