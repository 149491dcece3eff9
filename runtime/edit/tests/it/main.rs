//! The crate from outside: what it accepts, what it refuses and in which words, and what it plans.

mod contexts;
mod fixtures;
mod many_contexts;
mod planning;
mod prompts;
mod properties;
mod puzzle_data;
mod refusals;
mod schemas;
mod seal_data;
mod settings;
mod support;
