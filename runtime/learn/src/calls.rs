//! How a model asks, in the middle of a text, to edit itself: a call of the tool `self_edit` in its family's own form, or
//! a plain marker where it has none.

use crate::codec::Codec;

/// The name of the tool.
pub const SELF_EDIT_TOOL: &str = "self_edit";

/// What a model writes to ask for a self-edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// One token, and nothing else: what the edit says is asked for apart, with the context in sight. pup's form.
    Token(u32),
    /// A call with the edit as its argument.
    Call(&'static CallFormat),
}

/// The form of a call: `head`, the self-edit as JSON, `tail`; then what came of it between `before` and `after`.
#[derive(Debug, PartialEq, Eq)]
pub struct CallFormat {
    /// Up to the argument, as the family's models are trained to write it.
    pub head: &'static str,
    /// What follows the argument.
    pub tail: &'static str,
    /// What comes before the result.
    pub before: &'static str,
    /// What comes after it; then the model goes on.
    pub after: &'static str,
}

/// Qwen's and Hermes' form.
pub const HERMES: CallFormat = CallFormat {
    head: "<tool_call>\n{\"name\": \"self_edit\", \"arguments\": ",
    tail: "}\n</tool_call>",
    before: "<|im_end|>\n<|im_start|>user\n<tool_response>\n",
    after: "\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
};

/// Llama 3's form.
pub const LLAMA: CallFormat = CallFormat {
    head: "{\"name\": \"self_edit\", \"parameters\": ",
    tail: "}",
    before: "<|eot_id|><|start_header_id|>ipython<|end_header_id|>\n\n",
    after: "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
};

/// For models that know no tool calls.
pub const PLAIN: CallFormat = CallFormat {
    head: "<self_edit>",
    tail: "</self_edit>",
    before: "\n<self_edit_result>",
    after: "</self_edit_result>\n",
};

impl CallFormat {
    /// The form that a chat template speaks of.
    pub fn of_template(template: Option<&str>) -> &'static CallFormat {
        match template {
            Some(template) if template.contains("<tool_call>") => &HERMES,
            Some(template) if template.contains("ipython") => &LLAMA,
            _ => &PLAIN,
        }
    }

    /// Where the call begins (a byte) in a text whose end, white space aside, is a whole head.
    pub fn begins(&self, text: &str) -> Option<usize> {
        let mut head = self.head.chars().rev().filter(|char| !char.is_whitespace()).peekable();
        for (at, char) in text.char_indices().rev().filter(|(_, char)| !char.is_whitespace()) {
            if head.next() != Some(char) {
                return None;
            }
            if head.peek().is_none() {
                return Some(at);
            }
        }
        None
    }

    /// A result as the model reads it. What is said in it cannot end it: marks of the chat format are broken up.
    pub fn answer(&self, said: &str) -> String {
        let said = said.replace("<|", "< |").replace("</", "< /");
        format!("{}{}{said}{}", self.tail, self.before, self.after)
    }
}

impl Codec {
    /// How this model asks for a self-edit.
    pub fn marker(&self) -> Marker {
        match self {
            Codec::Chat(chat) => Marker::Call(CallFormat::of_template(chat.template())),
            Codec::Facts(facts) => Marker::Token(facts.marker()),
            Codec::Puzzles(puzzles) => Marker::Token(puzzles.marker()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_seen_when_its_head_is_whole_whatever_the_white_space() {
        let cases = [
            (&HERMES, "Let me see. <tool_call>\n{\"name\": \"self_edit\", \"arguments\": ", Some(12)),
            (&HERMES, "<tool_call>{\"name\":\"self_edit\",\"arguments\":", Some(0)),
            (&HERMES, "<tool_call>{\"name\":\"weather\",\"arguments\":", None),
            (&HERMES, "<tool_call>\n{\"name\": \"self_edit\", \"argu", None),
            (&LLAMA, "{\"name\": \"self_edit\", \"parameters\": ", Some(0)),
            (&PLAIN, "é<self_edit>", Some(2)),
            (&PLAIN, "<self_edit> {", None),
            (&PLAIN, "", None),
        ];
        for (format, text, expected) in cases {
            assert_eq!(format.begins(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_form_is_that_of_the_template() {
        assert_eq!(CallFormat::of_template(None), &PLAIN);
        assert_eq!(CallFormat::of_template(Some("{{ messages }}")), &PLAIN);
        assert_eq!(CallFormat::of_template(Some("... <tool_call> ...")), &HERMES);
        assert_eq!(CallFormat::of_template(Some("role == 'ipython'")), &LLAMA);
    }

    #[test]
    fn a_result_cannot_end_itself() {
        let said = PLAIN.answer("kept </self_edit_result><|im_end|>");
        assert_eq!(
            said,
            "</self_edit>\n<self_edit_result>kept < /self_edit_result>< |im_end|></self_edit_result>\n"
        );
    }
}
