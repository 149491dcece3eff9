//! An adapter as the store sees it: named bytes, their digests, and the id that follows from them.

use sha2::{Digest, Sha256};

use crate::error::{Damage, Error};
use crate::id::ContentId;

/// An adapter's files, `(name, bytes)`. The store does not know what they mean.
pub type AdapterFiles = Vec<(String, Vec<u8>)>;

/// The digest of each file of an adapter, and the id that names the set. The ledger keeps it with the
/// generation, so that damage can be put down to one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) id: ContentId,
    pub(crate) files: Vec<ManifestFile>,
}

/// One line of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestFile {
    pub(crate) name: String,
    /// 64 hex digits.
    pub(crate) sha256: String,
}

impl Manifest {
    /// The manifest of these files, in any order.
    pub(crate) fn of(files: &[(String, Vec<u8>)]) -> Result<Manifest, Error> {
        if let Some((name, _)) = files.iter().find(|(name, _)| !is_plain(name)) {
            return Err(Error::BadFileName { name: name.clone() });
        }
        let lines =
            files.iter().map(|(name, bytes)| ManifestFile { name: name.clone(), sha256: sha256(bytes) });
        Manifest::from_lines(lines.collect())
    }

    /// The manifest of these lines, in any order.
    pub(crate) fn from_lines(mut files: Vec<ManifestFile>) -> Result<Manifest, Error> {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = files.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(Error::DuplicateFile { name: pair[0].name.clone() });
        }
        let text: String = files.iter().map(|file| format!("{}  {}\n", file.sha256, file.name)).collect();
        match ContentId::from_digest(&sha256(text.as_bytes())) {
            Some(id) if !files.is_empty() => Ok(Manifest { id, files }),
            _ => Err(Error::NoFiles),
        }
    }

    /// Whether these are the bytes of that file.
    pub(crate) fn verify(&self, file: &ManifestFile, bytes: Option<&[u8]>) -> Result<(), Error> {
        let damage = match bytes {
            None => Damage::Missing,
            Some(bytes) if sha256(bytes) != file.sha256 => Damage::Changed,
            Some(_) => return Ok(()),
        };
        Err(Error::DamagedAdapter { adapter: self.id.clone(), file: file.name.clone(), damage })
    }
}

/// Whether a name stays inside its folder on every system and needs no escaping in a manifest.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    // 255 bytes is the longest name that common file systems take.
    (1..=255).contains(&name.len()) && !name.starts_with(['.', '-']) && name.bytes().all(plain)
}

/// SHA-256 in 64 hex digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}
