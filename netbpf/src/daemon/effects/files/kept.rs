//! What the daemon notes in a container's own folder beside the files that the container sees. No container can reach
//! these. A note is there whole or not at all.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use super::failed;
use crate::daemon::Error;

/// The note of this name in a container's folder.
pub fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<Option<T>, Error> {
    let file = dir.join(name);
    let text = match fs::read(&file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(failed("read", &file))?,
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| failed("read", &file)(error.into()))
}

/// Writes it, in the place of an older one. A missing folder is made.
pub fn write(dir: &Path, name: &str, note: &impl Serialize) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(failed("create", dir))?;
    let (file, part): (PathBuf, PathBuf) = (dir.join(name), dir.join(format!("{name}.part")));
    let text = serde_json::to_vec(note).map_err(|error| failed("write", &file)(error.into()))?;
    let written = fs::write(&part, text).map_err(failed("write", &part));
    let written = written.and_then(|()| fs::rename(&part, &file).map_err(failed("write", &file)));
    if written.is_err() {
        // A full disk may have taken a part of it.
        let _ = fs::remove_file(&part);
    }
    written
}

/// Removes it.
pub fn remove(dir: &Path, name: &str) -> Result<(), Error> {
    let file = dir.join(name);
    fs::remove_file(&file).map_err(failed("remove", &file))
}
