//! The command from outside: every test runs the binary in a folder of its own. What a stage does is tested in
//! its room; here is what only the whole shows.

mod adapt;
mod arc_twelve;
mod bad_input;
mod bench;
mod chat;
#[cfg(unix)]
mod compile;
mod doctor;
mod dropped_in;
mod edits_and_tools;
mod guide;
mod kill;
mod ledger;
mod mcp;
mod merge;
#[cfg(target_os = "linux")]
mod native;
mod outer;
mod plugin;
mod python;
mod serve;
mod support;
mod text;
mod train;
