//! Tests that need a whole decoder: tiny random models of each family, and what must hold for any of them.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod adapters;
mod asking;
mod candle_models;
mod chat;
mod constraint;
mod decoding;
mod devices;
mod gradients;
mod loading;
mod merging;
mod operations;
mod portable;
mod pretraining;
mod reference;
mod resuming;
mod stored;
mod streams;
mod support;
mod together;
mod training;
