//! What a line of the conversation asks for.

use std::path::PathBuf;

/// The commands.
pub(super) const HELP: &str = "\
anything else     say it to the model
/read FILE        read a puzzle or a passage (JSON), or any text, and offer a self-edit of it
/solve            answer the puzzle's tests, or the passage's questions, that were read last
/edit             let the model write a self-edit of what was read last
/edit FILE        the same with this self-edit
/undo             make the parent of the active generation active again
/adapters         list the base model and the generations
/log              list what was tried, newest first
/trace FILE       write everything that happens from now on, a line of JSON an event
/help             this
/quit             leave
The model is asked without what was read: what it knows of it, it has learned by a self-edit.
Ctrl-C cancels an answer; at the prompt it leaves.
";

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Nothing,
    Say(String),
    Read(PathBuf),
    Solve,
    Edit(Option<PathBuf>),
    Undo,
    Adapters,
    Log,
    Trace(PathBuf),
    Help,
    Quit,
    /// A command that is none, in words.
    Wrong(String),
}

impl Typed {
    /// Reads a line. Whatever does not begin with a slash is for the model.
    pub(super) fn of(line: &str) -> Typed {
        let line = line.trim();
        let (command, rest) = match line.split_once(char::is_whitespace) {
            Some((command, rest)) => (command, rest.trim()),
            None => (line, ""),
        };
        let file = (!rest.is_empty()).then(|| PathBuf::from(rest));
        match (command, file) {
            ("", _) => Typed::Nothing,
            ("/read", Some(file)) => Typed::Read(file),
            ("/edit", file) => Typed::Edit(file),
            ("/trace", Some(file)) => Typed::Trace(file),
            ("/read" | "/trace", None) => Typed::Wrong(format!("`{command}` needs a file")),
            ("/solve", None) => Typed::Solve,
            ("/undo", None) => Typed::Undo,
            ("/adapters", None) => Typed::Adapters,
            ("/log", None) => Typed::Log,
            ("/help", None) => Typed::Help,
            ("/quit", None) => Typed::Quit,
            ("/solve" | "/undo" | "/adapters" | "/log" | "/help" | "/quit", Some(_)) => {
                Typed::Wrong(format!("`{command}` stands alone"))
            }
            (command, _) if command.starts_with('/') => {
                Typed::Wrong(format!("there is no command `{command}`"))
            }
            _ => Typed::Say(line.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Typed;

    #[test]
    fn a_line_is_a_command_or_for_the_model() {
        for (line, expected) in [
            ("", Typed::Nothing),
            ("  \t", Typed::Nothing),
            ("Who owns the vice?", Typed::Say("Who owns the vice?".into())),
            ("/read a file.json", Typed::Read("a file.json".into())),
            ("/read", Typed::Wrong("`/read` needs a file".into())),
            ("/edit", Typed::Edit(None)),
            ("/edit e.json", Typed::Edit(Some("e.json".into()))),
            (" /undo ", Typed::Undo),
            ("/undo twice", Typed::Wrong("`/undo` stands alone".into())),
            ("/redo", Typed::Wrong("there is no command `/redo`".into())),
            ("/", Typed::Wrong("there is no command `/`".into())),
            ("/quit", Typed::Quit),
        ] {
            assert_eq!(Typed::of(line), expected, "{line:?}");
        }
    }
}
