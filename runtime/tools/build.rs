//! Lists the files that `selkie plugin new` writes, so that they are part of the binary and of the repository once.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Files and folders of the repository that a new plugin may be made of.
const SOURCES: [&str; 11] = [
    "schemas/wit/since_v0.2.0",
    "sdk/Cargo.lock",
    "sdk/Cargo.toml",
    "sdk/bindings",
    "sdk/src",
    "sdk/c-guest",
    "sdk/javascript",
    "sdk/python",
    "sdk/rust/grader",
    "sdk/rust/puzzle",
    "sdk/rust/text",
];

/// Folders that tools make.
const MADE: [&str; 3] = ["target", "node_modules", "__pycache__"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let root = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../..").canonicalize()?;
    let mut files = Vec::new();
    for source in SOURCES {
        let path = root.join(source);
        println!("cargo::rerun-if-changed={}", path.display());
        collect(path, &mut files)?;
    }
    files.sort();
    let mut list = String::from("[\n");
    for file in files {
        let name = file.strip_prefix(&root)?.components().map(|part| part.as_os_str().to_string_lossy());
        let name = name.collect::<Vec<_>>().join("/");
        writeln!(list, "    ({name:?}, include_str!({:?})),", file.display().to_string())?;
    }
    list.push_str("]\n");
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("starter_files.rs"), list)?;
    Ok(())
}

fn collect(path: PathBuf, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !path.is_dir() {
        files.push(path);
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if !path.file_name().is_some_and(|name| MADE.iter().any(|made| name == *made)) {
            collect(path, files)?;
        }
    }
    Ok(())
}
