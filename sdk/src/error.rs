//! Why a tool refuses.

/// Why a tool refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolError {
    /// Which kind of refusal.
    pub kind: ErrorKind,
    /// What was wrong, in one line. The host cuts it at 512 bytes.
    pub message: String,
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The parameters do not parse, or a value is outside its range.
    InvalidParams,
    /// The plugin has no tool of that name.
    UnknownTool,
    /// The parameters are fine, but the tool cannot work on this input.
    UnsupportedInput,
    /// The host model refused, and the tool cannot do without.
    ModelUnavailable,
    /// A fault of the plugin's own.
    Internal,
}

impl ErrorKind {
    /// The kind as case files and reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::InvalidParams => "invalid_params",
            ErrorKind::UnknownTool => "unknown_tool",
            ErrorKind::UnsupportedInput => "unsupported_input",
            ErrorKind::ModelUnavailable => "model_unavailable",
            ErrorKind::Internal => "internal",
        }
    }
}

impl ToolError {
    /// The parameters are wrong.
    pub fn invalid_params(message: impl Into<String>) -> ToolError {
        ToolError { kind: ErrorKind::InvalidParams, message: message.into() }
    }

    /// The tool cannot work on this input.
    pub fn unsupported_input(message: impl Into<String>) -> ToolError {
        ToolError { kind: ErrorKind::UnsupportedInput, message: message.into() }
    }

    /// The plugin is at fault.
    pub fn internal(message: impl Into<String>) -> ToolError {
        ToolError { kind: ErrorKind::Internal, message: message.into() }
    }

    pub(crate) fn unknown_tool(name: &str) -> ToolError {
        ToolError { kind: ErrorKind::UnknownTool, message: name.into() }
    }
}
