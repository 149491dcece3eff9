//! What the integration tests share.

#![expect(clippy::print_stdout, reason = "a skipped test says why")]

use std::path::{Path, PathBuf};

/// A folder of shared fixtures: the environment variable, else `../shared/<default>` beside the project.
/// `None`, with a printed reason, where it is absent.
pub fn fixture_dir(variable: &str, default: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(default);
    let dir = std::env::var_os(variable).map_or(root, PathBuf::from);
    if dir.is_dir() {
        return Some(dir);
    }
    println!("skipped: no folder `{}` (set {variable} to where the fixtures are)", dir.display());
    None
}

/// A JSON file.
///
/// # Panics
/// When it cannot be read or parsed: a test without its data has no meaning.
pub fn read_json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
