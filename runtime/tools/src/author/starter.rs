//! New plugins: folders that build and whose tests pass.
//!
//! A starter is a folder of `sdk/` with its names replaced, and what it refers to: the SDK is on no registry, so a new
//! plugin brings its sources and the interface along. Only crates of others come from cargo.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use selkie_edit::ToolKind;

use super::AuthorError;
use crate::manifest::is_name;

/// Files of the repository: path, text.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/starter_files.rs"));

/// Bytes of a new plugin's name. With the longest tool of a starter it is a tool's full name, which has 64.
const NAME_BYTES_MAX: usize = 48;

/// Names that a crate or a module cannot have, or that would hide what a starter uses.
const TAKEN: [&str; 68] = [
    "abstract", "alloc", "and", "as", "assert", "async", "await", "become", "box", "break", "class", "const",
    "continue", "core", "crate", "def", "del", "do", "dyn", "elif", "else", "enum", "except", "extern",
    "false", "final", "finally", "fn", "for", "from", "global", "if", "impl", "import", "in", "is", "json",
    "lambda", "let", "loop", "macro", "match", "mod", "move", "mut", "not", "or", "override", "pass", "priv",
    "pub", "raise", "ref", "return", "self", "serde", "std", "struct", "super", "test", "trait", "true",
    "try", "type", "use", "where", "while", "yield",
];

/// What a new plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// With the SDK.
    Rust,
    /// With componentize-py.
    Python,
    /// With componentize-qjs.
    JavaScript,
    /// With wit-bindgen's C.
    C,
}

impl std::fmt::Display for Language {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Language::Rust => "Rust",
            Language::Python => "Python",
            Language::JavaScript => "JavaScript",
            Language::C => "C",
        })
    }
}

/// A plugin that is to be begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPlugin {
    /// Its name, by the manifest's rule; `-` becomes `_` in the names of its tools.
    pub name: String,
    /// What its tool works on.
    pub kind: ToolKind,
    /// What it is written in.
    pub language: Language,
}

/// A folder of `sdk/`, and the names in it that are replaced.
struct Starter {
    folder: &'static str,
    /// The plugin, its module and its main file.
    module: &'static str,
    /// The beginning of its tool's name.
    namespace: &'static str,
}

impl NewPlugin {
    /// Writes the plugin into a new folder of its name in `parent`. Gives the folder.
    ///
    /// # Errors
    /// When the name or the combination of kind and language is refused, when the folder is there already, and when
    /// it cannot be written.
    pub fn create(&self, parent: &Path) -> Result<PathBuf, AuthorError> {
        self.check_name()?;
        let starter = self.starter()?;
        let folder = parent.join(&self.name);
        // Nobody else's folder is written to, also when two begin at once.
        fs::create_dir_all(parent).map_err(AuthorError::file(parent))?;
        fs::create_dir(&folder).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => AuthorError::Exists { path: folder.clone() },
            _ => AuthorError::File { path: folder.clone(), source: error },
        })?;
        for (path, text) in self.files(&starter) {
            write(&folder.join(path), &text)?;
        }
        Ok(folder)
    }

    fn check_name(&self) -> Result<(), AuthorError> {
        let refuse = |reason| Err(AuthorError::Name { name: self.name.clone(), reason });
        if !is_name(&self.name, "_-") {
            return refuse("it is lower-case letters, digits, `_` and `-`, and begins with a letter");
        }
        if self.name.len() > NAME_BYTES_MAX {
            return refuse("it has more than 48 characters");
        }
        if TAKEN.contains(&self.name.as_str()) || self.name.starts_with("selkie-sdk") {
            return refuse("it is a word of a programming language or a package that plugins use");
        }
        Ok(())
    }

    fn starter(&self) -> Result<Starter, AuthorError> {
        let of = |folder, module, namespace| Ok(Starter { folder, module, namespace });
        match (self.language, self.kind) {
            (Language::Rust, ToolKind::PuzzleAugmenter) => {
                of("sdk/rust/puzzle/", "starter_puzzle", "starter_puzzle.")
            }
            (Language::Rust, ToolKind::TextAugmenter) => {
                of("sdk/rust/text/", "starter_text", "starter_text.")
            }
            (Language::Rust, ToolKind::Grader) => of("sdk/rust/grader/", "starter_grader", "starter_grader."),
            (Language::Python, ToolKind::PuzzleAugmenter) => of("sdk/python/", "grid_py", "py."),
            (Language::JavaScript, ToolKind::PuzzleAugmenter) => of("sdk/javascript/", "grid_js", "js."),
            (Language::C, ToolKind::PuzzleAugmenter) => of("sdk/c-guest/", "grid_c", "c."),
            (language, kind) => Err(AuthorError::NoStarter { language, kind }),
        }
    }

    /// Everything in the new folder: path, text.
    fn files(&self, starter: &Starter) -> Vec<(String, String)> {
        let own = FILES.iter().filter_map(|(path, text)| Some((path.strip_prefix(starter.folder)?, *text)));
        let own = own.filter(|(path, _)| *path != "README.md");
        let mut files: Vec<(String, String)> = own
            .map(|(path, text)| (self.renamed(path, starter), self.adapted(path, text, starter)))
            .collect();
        files.push((".gitignore".into(), "target/\n".into()));
        files.push(("README.md".into(), self.readme(starter)));
        if self.language == Language::Rust {
            files.push(("Cargo.lock".into(), self.lock()));
        }
        let shared = FILES.iter().filter(|(path, _)| self.brings(path));
        files.extend(shared.map(|(path, text)| ((*path).to_owned(), (*text).to_owned())));
        files
    }

    /// Whether a file of the repository goes along, as it is.
    fn brings(&self, path: &str) -> bool {
        let sdk = ["sdk/Cargo.toml", "sdk/src/", "sdk/bindings/"];
        path.starts_with("schemas/wit/")
            || (self.language == Language::Rust && sdk.iter().any(|part| path.starts_with(part)))
    }

    /// The name as a module and as the beginning of a tool's name.
    fn module(&self) -> String {
        self.name.replace('-', "_")
    }

    fn renamed(&self, path: &str, starter: &Starter) -> String {
        path.replace(starter.module, &self.module())
    }

    fn adapted(&self, path: &str, text: &str, starter: &Starter) -> String {
        match path {
            "Cargo.toml" => {
                // The package has the plugin's name; cargo makes the module's of it.
                let text = text.replace(starter.module, &self.name).replace("\"../..\"", "\"sdk\"");
                text + "\n# The SDK is a workspace of its own.\n[workspace]\nexclude = [\"sdk\"]\n"
            }
            "package-lock.json" | "package.json" => text.replace(starter.module, &self.name),
            // Scripts and glue: what the repository has two folders up is in the new folder.
            "build.sh" => self.named(text, starter).replace("../../", "").replace("target/guests", "target"),
            path if path.starts_with("generated/") => text.to_owned(),
            _ => self.named(text, starter),
        }
    }

    fn named(&self, text: &str, starter: &Starter) -> String {
        let module = self.module();
        let text = text.replace(starter.module, &module);
        if starter.namespace.starts_with(starter.module) {
            return text;
        }
        ["\"", "`"].iter().fold(text, |text, quote| {
            let (before, after) =
                (format!("{quote}{}rotate", starter.namespace), format!("{quote}{module}.rotate"));
            text.replace(&before, &after)
        })
    }

    /// The SDK's lock file with this package: the versions that the SDK was tested with.
    fn lock(&self) -> String {
        let known = FILES.iter().find(|(path, _)| *path == "sdk/Cargo.lock").map_or("", |(_, text)| text);
        let head = format!("[[package]]\nname = \"{}\"\n", self.name);
        let own =
            format!("{head}version = \"0.1.0\"\ndependencies = [\n \"selkie-sdk\",\n \"serde\",\n]\n\n");
        let is_later = |entry: &str| entry.lines().nth(1) > head.lines().nth(1);
        let mut parts: Vec<&str> = known.split_inclusive("\n\n").collect();
        let at = parts.iter().position(|part| part.starts_with("[[package]]") && is_later(part));
        parts.insert(at.unwrap_or(parts.len()), &own);
        parts.concat()
    }

    fn readme(&self, starter: &Starter) -> String {
        let Self { name, language, .. } = self;
        let mut text = format!(
            "# {name}\n\nA plugin for selkie, in {language}.\n\n    selkie plugin build .            # makes a \
             component\n    selkie plugin test .             # runs cases.json in the sandbox\n    selkie plugin check \
             .            # holds its tools to what they promise\n    selkie plugin bench .            # what they use \
             of each limit\n    selkie plugin pack . -o dist     # a file to hand on\n"
        );
        let more = match self.language {
            Language::Rust => {
                "\n`cargo test` runs `cases.json` natively. `sdk` is selkie's SDK, and `schemas/wit` the interface \
                 between\nplugins and their host; both are used as they are.\n"
            }
            _ => {
                "\n`build.sh` installs its tools under `target/tools` the first time. `schemas/wit` is the interface \
                 between\nplugins and their host.\n"
            }
        };
        text += more;
        let known = FILES.iter().find(|(path, _)| path.strip_prefix(starter.folder) == Some("README.md"));
        if let Some((_, rest)) = known.and_then(|(_, readme)| readme.split_once("\n## What there is")) {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n## What there is{rest}");
        }
        text
    }
}

fn write(path: &Path, text: &str) -> Result<(), AuthorError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(AuthorError::file(folder))?;
    fs::write(path, text).map_err(AuthorError::file(path))?;
    #[cfg(unix)]
    if path.extension().is_some_and(|extension| extension == "sh") {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(AuthorError::file(path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_plugins_lock_file_is_the_sdks_with_its_own_package_in_its_place() {
        let lock = |name: &str| {
            NewPlugin { name: name.into(), kind: ToolKind::Grader, language: Language::Rust }.lock()
        };
        for name in ["aa", "selkie-a", "serde_j", "zz"] {
            let text = lock(name);
            let names: Vec<&str> = text.lines().filter(|line| line.starts_with("name = ")).collect();
            assert!(names.is_sorted() && names.contains(&&*format!("name = \"{name}\"")), "{names:?}");
            assert!(text.contains("\n\n[[package]]\nname = \"selkie-sdk\"") && !text.contains("\n\n\n"));
        }
    }

    #[test]
    fn names_are_the_manifests_and_leave_room_for_a_tools() {
        let is_refused = |name: &str| {
            let plugin = NewPlugin { name: name.into(), kind: ToolKind::Grader, language: Language::C };
            matches!(plugin.check_name(), Err(AuthorError::Name { .. }))
        };
        for name in ["", "A", "1a", "a.b", "../a", "a b", "selkie-sdk", "serde", "fn", &"a".repeat(49)] {
            assert!(is_refused(name), "{name}");
        }
        for name in ["a", "a-1", "my_tool", &"a".repeat(48)] {
            assert!(!is_refused(name), "{name}");
        }
    }
}
