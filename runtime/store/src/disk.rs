//! Durable writes: the few ways in which this crate changes a disk.
//!
//! A file is on the disk when its bytes are synced *and* the folder that names it is; a rename is on the disk
//! when the folder that it goes into is. Nothing here is called after the ledger commits.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::error::Error;
use crate::failpoints::{Step, reach};

/// Creates a folder and the folders above it, each synced. A folder that exists is fine.
pub(crate) fn create_folder(path: &Path) -> Result<(), Error> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => return Err(Error::NotAFolder { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(Error::NotAFolder { path: first_file_above(path).to_owned() });
        }
        Err(error) => return Err(Error::io("look at", path)(error)),
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_folder(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => sync_parent(path),
        // Another process came first; its folder is as good.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::io("create the folder", path)(error)),
    }
}

/// The file that stands where `path` needs a folder.
fn first_file_above(path: &Path) -> &Path {
    path.ancestors().find(|above| above.is_file()).unwrap_or(path)
}

/// Creates a folder with these files, all synced. It must not exist.
pub(crate) fn write_folder(path: &Path, files: &[(String, Vec<u8>)]) -> Result<(), Error> {
    reach(Step::CreateFolder)?;
    fs::create_dir(path).map_err(Error::io("create the folder", path))?;
    for (name, bytes) in files {
        write_file(&path.join(name), bytes)?;
    }
    reach(Step::SyncFolder)?;
    sync_folder(path)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(path).map_err(Error::io("create", path))?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write_all(first).map_err(Error::io("write", path))?;
    reach(Step::WriteFile)?;
    file.write_all(second).map_err(Error::io("write", path))?;
    reach(Step::SyncFile)?;
    // Before the rename, or a power cut can leave the final name with no bytes behind it.
    file.sync_all().map_err(Error::io("sync", path))
}

/// Syncs the list of names in a folder: after a rename into it, or files made in it.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    // Windows has no such call and opens no folders as files; its file systems journal renames.
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io("sync the folder", path))?;
    }
    Ok(())
}

/// Syncs the folder that names `path`.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_folder(Path::new(".")),
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

/// Renames; the caller syncs the folder that it goes into.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(Error::io("rename into place", to))
}

/// Removes a file, or a folder with all in it. What is not there is fine. Links are not followed.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("look at", path)(error)),
    };
    reach(Step::RemoveFolder)?;
    let removed = if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(Error::io("remove", path))
}

/// The names in a folder, sorted; none where there is no folder. A name that is no Unicode is shown with
/// replacement characters, and so equals none of ours.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", path)(error)),
    };
    let mut names = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>, std::io::Error>>()
        .map_err(Error::io("list", path))?;
    names.sort();
    Ok(names)
}

/// Whether there is anything at a path.
pub(crate) fn is_there(path: &Path) -> Result<bool, Error> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(Error::io("look at", path)(error)),
    }
}

/// A file's bytes, or `None` where there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}
