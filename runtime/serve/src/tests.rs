//! The server as a whole, over a live runtime with the bundled model: requests as clients send them.

mod attacks;
mod openai;
mod self_edits;
mod stop;
pub(crate) mod support;
