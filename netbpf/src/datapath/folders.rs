//! The folders that pins are in: their making, what is in one, their end.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Datapath, Error, host, pins::Pins};

impl Datapath {
    /// Makes the folder below which everything is pinned, if the machine has what the datapath needs.
    pub fn prepare(bpffs: &Path) -> Result<(), Error> {
        host::check()?;
        host::make_folder(bpffs)
    }

    /// Removes everything that is pinned below `bpffs`, the folder and, if netbpf made it, the mount.
    pub fn unpin_all(bpffs: &Path) -> Result<(), Error> {
        clear(&Pins::below(bpffs).folders())?;
        Self::leave(bpffs)
    }

    /// Removes the folder if nothing is in it, and then the mount if netbpf made it.
    pub fn leave(bpffs: &Path) -> Result<(), Error> {
        remove_folder(bpffs)?;
        host::unmount()
    }
}

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
