//! The engine as programs use it, with the bundled models.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod asking;
mod calling;
mod editing;
mod generating;
mod streams;
mod support;
mod triggers;
