//! Errors as a user meets them: the chain of what happened, hints apart from it, and an exit code that says
//! whose turn it is.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use selkie_edit::ContextError;
use selkie_engine::StepError;
use selkie_engine::live::LiveError;
use selkie_learn::LearnError;
use selkie_serve::ServeError;
use selkie_tools::ToolError;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It was done as asked, and the answer is no.
    No,
    /// The command line or an input is wrong.
    Input,
    /// A fault of ours.
    Internal,
}

/// An error with what can be done about it.
#[derive(Debug)]
pub(crate) struct CommandError {
    kind: Kind,
    message: String,
    hints: Vec<String>,
}

impl CommandError {
    /// A no.
    pub(crate) fn no(message: impl Into<String>) -> CommandError {
        CommandError { kind: Kind::No, message: message.into(), hints: Vec::new() }
    }

    /// A wrong input.
    pub(crate) fn input(message: impl Into<String>) -> CommandError {
        CommandError { kind: Kind::Input, message: message.into(), hints: Vec::new() }
    }

    /// A fault of ours.
    pub(crate) fn internal(message: impl Into<String>) -> CommandError {
        CommandError { kind: Kind::Internal, message: message.into(), hints: Vec::new() }
    }

    /// A file that cannot be read.
    pub(crate) fn read(path: &Path, error: &std::io::Error) -> CommandError {
        CommandError::input(format!("cannot read `{}`: {error}", path.display()))
    }

    /// A file that is not UTF-8.
    pub(crate) fn not_text(path: &Path, error: &std::string::FromUtf8Error) -> CommandError {
        CommandError::input(format!("`{}` is not UTF-8 text: {}", path.display(), error.utf8_error()))
    }

    /// A context file that is not one.
    pub(crate) fn context(path: &Path, error: ContextError) -> CommandError {
        CommandError::input(format!("`{}`: {error}", path.display()))
    }

    /// The same error with advice.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> CommandError {
        self.hints.push(hint.into());
        self
    }

    /// The same error, of one of several files.
    pub(crate) fn about(mut self, path: &Path) -> CommandError {
        self.message = format!("`{}`: {}", path.display(), self.message);
        self
    }

    fn of(kind: Kind, error: &dyn std::error::Error) -> CommandError {
        CommandError { kind, message: chain(error), hints: Vec::new() }
    }

    /// Prints the error to stderr and gives its exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let label = match self.kind {
            Kind::No => "no",
            Kind::Input => "error",
            Kind::Internal => "internal error",
        };
        eprintln!("{label}: {}", self.message);
        for hint in &self.hints {
            eprintln!("hint: {hint}");
        }
        match self.kind {
            Kind::No => ExitCode::from(1),
            Kind::Input => ExitCode::from(2),
            Kind::Internal => ExitCode::from(3),
        }
    }
}

/// What an error says, and its causes say beyond that.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            // Writing to a String cannot fail.
            let _ = write!(message, ": {text}");
        }
        source = cause.source();
    }
    message
}

impl From<StepError> for CommandError {
    fn from(error: StepError) -> CommandError {
        match &error {
            StepError::NoValidEdit { .. } => {
                CommandError::of(Kind::No, &error).hint("give one with --self-edit, or try another --seed")
            }
            StepError::StackTooHigh { .. } => CommandError::of(Kind::Input, &error)
                .hint("start from the base model with --fresh, or roll back with `selkie rollback`"),
            StepError::Refused(_) => {
                CommandError::of(Kind::Input, &error).hint("`selkie schema` prints what a self-edit may say")
            }
            StepError::NotReplayable { .. }
            | StepError::Context(_)
            | StepError::Schema(_)
            | StepError::OverBudget { .. } => CommandError::of(Kind::Input, &error),
            StepError::Abandoned => CommandError::of(Kind::No, &error),
            StepError::Learn(learn) => CommandError::from(learn),
            StepError::Tool(tool) => CommandError::from(tool),
            StepError::Store(store) => CommandError::from(store),
        }
    }
}

impl From<&LearnError> for CommandError {
    fn from(error: &LearnError) -> CommandError {
        match error {
            LearnError::Tensor(_) => CommandError::of(Kind::Internal, error),
            LearnError::Diverged { .. } => CommandError::of(Kind::No, error),
            LearnError::Read { .. } => CommandError::of(Kind::Input, error).hint(
                "a model folder has config.json, tokenizer.json and model.safetensors (or shards with their index)",
            ),
            _ => CommandError::of(Kind::Input, error),
        }
    }
}

impl From<LearnError> for CommandError {
    fn from(error: LearnError) -> CommandError {
        CommandError::from(&error)
    }
}

impl From<&ToolError> for CommandError {
    fn from(error: &ToolError) -> CommandError {
        CommandError::of(Kind::Input, error)
    }
}

impl From<ToolError> for CommandError {
    fn from(error: ToolError) -> CommandError {
        CommandError::from(&error)
    }
}

impl From<&selkie_store::Error> for CommandError {
    fn from(error: &selkie_store::Error) -> CommandError {
        CommandError::of(Kind::Input, error)
    }
}

impl From<selkie_store::Error> for CommandError {
    fn from(error: selkie_store::Error) -> CommandError {
        CommandError::from(&error)
    }
}

impl From<LiveError> for CommandError {
    fn from(error: LiveError) -> CommandError {
        match error {
            LiveError::Step(step) => CommandError::from(step),
            LiveError::Refused(refused) => CommandError::from(StepError::from(refused)),
            other => CommandError::of(Kind::Input, &other),
        }
    }
}

impl From<ServeError> for CommandError {
    fn from(error: ServeError) -> CommandError {
        let input = CommandError::of(Kind::Input, &error);
        match error {
            ServeError::NoToken { .. } => input.hint(
                "put a secret of 16 characters or more in a file and pass --token-file, or in the variable \
                 SELKIE_TOKEN; or listen on 127.0.0.1",
            ),
            ServeError::Listen { .. } => {
                input.hint("choose another with --address; port 0 is any that is free")
            }
            ServeError::BadToken | ServeError::Adapters { .. } => input,
        }
    }
}

impl From<selkie_outer::OuterError> for CommandError {
    fn from(error: selkie_outer::OuterError) -> CommandError {
        use selkie_outer::OuterError;
        match error {
            OuterError::Step(step) => CommandError::from(step),
            OuterError::Learn(learn) => CommandError::from(learn),
            OuterError::Store(store) => CommandError::from(store),
            other => CommandError::of(Kind::Input, &other),
        }
    }
}
