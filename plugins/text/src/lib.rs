//! Selkie's built-in tools for passages: an ordinary plugin with no privilege.
//!
//! Everything here is rules on text: no model is asked, and a rule that is not sure leaves the sentence out.

mod completion;
mod facts;
mod params;
mod self_qa;
mod sentence;
mod tools;

use self_qa::SelfQa;
use tools::{RewriteFacts, Sentences, ShuffleSentences, Split};

selkie_sdk::register!(text: Split, Sentences, ShuffleSentences, RewriteFacts, SelfQa);
