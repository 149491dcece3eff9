//! Parameters that more than one tool has.

/// The schema of [`yes`] as a property.
pub(crate) const TITLE: &str = r#""title":{"type":"boolean","default":true}"#;

/// A flag that is on unless switched off.
pub(crate) fn yes() -> bool {
    true
}

/// The schema of an object with these properties (`"name":{..}, ..`), none of them required.
pub(crate) fn object(properties: &str) -> String {
    format!(r#"{{"type":"object","properties":{{{properties}}},"additionalProperties":false}}"#)
}

/// The documents, each below the title when that is wanted and there is one.
pub(crate) fn titled(documents: Vec<String>, title: &str, wanted: bool) -> Vec<String> {
    if !wanted || title.is_empty() {
        return documents;
    }
    documents.into_iter().map(|document| format!("{title}\n{document}")).collect()
}
