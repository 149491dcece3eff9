//! Names of what the store keeps: generations (`g3`), ledger entries (`e12`), adapters (32 hex digits).

use std::fmt;

/// Hex digits of a [`ContentId`]: 128 bits, which no accident collides and a person can still compare.
const CONTENT_ID_DIGITS: usize = 32;

/// A kept adapter of one home, counted from `g1`. Never reused, because nothing is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GenerationId(pub(crate) i64);

/// A row of one home's ledger, counted from `e1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub(crate) i64);

/// An adapter by what it contains: the first 32 hex digits of the SHA-256 of its manifest, which is one line
/// `<sha256 of the file>  <name>` a file, sorted by name. In an adapter's folder this prints it:
/// `LC_ALL=C sha256sum * | sha256sum | cut -c1-32`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId(String);

impl ContentId {
    /// The id of these files, in any order.
    ///
    /// # Errors
    /// When there are none, two have one name, or a name is not a plain file name.
    pub fn of(files: &[(String, Vec<u8>)]) -> Result<ContentId, crate::error::Error> {
        Ok(crate::adapter::Manifest::of(files)?.id)
    }

    /// The id that starts with these hex digits of a digest; `None` where they are too few or no hex.
    pub(crate) fn from_digest(hex: &str) -> Option<ContentId> {
        ContentId::parse(hex.get(..CONTENT_ID_DIGITS)?)
    }

    /// The id written like this.
    pub(crate) fn parse(text: &str) -> Option<ContentId> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (digits && text.len() == CONTENT_ID_DIGITS).then(|| ContentId(text.to_owned()))
    }

    /// All 32 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, enough to tell adapters of one home apart.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

/// The number after `letter`, as ids are written: no sign, no leading zero.
pub(crate) fn numbered(letter: char, text: &str) -> Option<i64> {
    let digits = text.strip_prefix(letter)?;
    let canonical = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    if canonical { digits.parse().ok() } else { None }
}

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
