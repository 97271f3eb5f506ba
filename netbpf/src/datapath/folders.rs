//! The folders that pins are in: what is in one, and its end. Knows no paths.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::Error;

/// The names in a folder that may not be there; folders in it are not listed.
pub fn list(folder: &Path) -> Result<Vec<String>, Error> {
    let failed = |error: io::Error| Error::failed("list", folder.display(), error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

/// Removes what is in folders, and them, the last first.
pub fn clear(folders: &[PathBuf]) -> Result<(), Error> {
    for folder in folders.iter().rev() {
        for name in list(folder)? {
            let path = folder.join(name);
            fs::remove_file(&path).map_err(|error| Error::failed("remove", path.display(), error))?;
        }
        remove_folder(folder)?;
    }
    Ok(())
}

/// Removes a folder that is empty; one that is not belongs to somebody else too.
pub fn remove_folder(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir(folder) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(Error::failed("remove", folder.display(), error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
