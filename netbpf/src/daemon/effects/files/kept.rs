//! Notes of the daemon in a container's directory, beside the container's files. Containers cannot access
//! them. A note is written completely or not at all.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::failed;
use crate::{daemon::Error, fault};

/// The note with this name in a container's directory.
pub fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>, Error> {
    let file = dir.join(name);
    let text = match fs::read(&file) {
        // Without a directory there is none, either.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        read => read.map_err(failed("read", &file))?,
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| failed("read", &file)(error.into()))
}

/// Writes or replaces a note. A missing directory is created.
pub fn write(dir: &Path, name: &str, note: &impl Serialize) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(failed("create", dir))?;
    let text = serde_json::to_vec(note).map_err(|error| failed("write", &dir.join(name))(error.into()))?;
    write_whole(dir, name, &text)
}

/// Creates or replaces a file that no container has, completely or not at all.
pub fn write_whole(dir: &Path, name: &str, text: &[u8]) -> Result<(), Error> {
    let (file, part): (PathBuf, PathBuf) = (dir.join(name), dir.join(format!("{name}.part")));
    let written = fault::call("write a note").and_then(|()| fs::write(&part, text));
    let written = written.map_err(failed("write", &part));
    let written = written.and_then(|()| fs::rename(&part, &file).map_err(failed("write", &file)));
    if written.is_err() {
        // If the disk is full, a part of the file may exist.
        let _ = fs::remove_file(&part);
    }
    written
}

/// Removes a note.
pub fn remove(dir: &Path, name: &str) -> Result<(), Error> {
    let file = dir.join(name);
    fs::remove_file(&file).map_err(failed("remove", &file))
}
