//! Creates, lists and removes the directories of pins.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Datapath, Error, host, pins::Pins};

impl Datapath {
    /// Checks the host's requirements and creates the directory of all pins.
    ///
    /// # Errors
    /// [`Error::Missing`], with its remedy, if the process is not root's, the kernel has no BTF or is older than
    /// Linux 5.10, or the directory is on no bpffs; [`Error::Folder`] if others can change the directory or one
    /// above it on the bpffs; [`Error::Failed`] if a call is refused.
    pub fn prepare(bpffs: &Path) -> Result<(), Error> {
        host::check()?;
        host::make_folder(bpffs)
    }

    /// Removes all pins below `bpffs`, the directory and, if netbpf mounted it, the bpffs.
    ///
    /// # Errors
    /// [`Error::Failed`] if a file or directory cannot be removed, or the bpffs cannot be unmounted. The pins
    /// before it are removed.
    pub fn unpin_all(bpffs: &Path) -> Result<(), Error> {
        clear(&Pins::below(bpffs).folders())?;
        Self::leave(bpffs)
    }

    /// Removes the directory if it is empty, and then the bpffs if netbpf mounted it.
    ///
    /// # Errors
    /// [`Error::Failed`] if `rmdir` or `umount` is refused. That others use the directory or the bpffs is no
    /// error: it stays.
    pub fn leave(bpffs: &Path) -> Result<(), Error> {
        remove_folder(bpffs)?;
        host::unmount()
    }
}

/// The names of files in a directory, without subdirectories. Empty if the directory does not exist.
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

/// Removes directories with their files, the last one first.
fn clear(folders: &[PathBuf]) -> Result<(), Error> {
    for folder in folders.iter().rev() {
        for name in list(folder)? {
            let path = folder.join(name);
            fs::remove_file(&path).map_err(|error| Error::failed("remove", path.display(), error))?;
        }
        remove_folder(folder)?;
    }
    Ok(())
}

/// Removes a directory if it is empty; otherwise somebody else uses it too.
pub fn remove_folder(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir(folder) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(Error::failed("remove", folder.display(), error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
