//! Directories that only root can change. They are created so, or checked: a directory where others could add or remove
//! something is not used. Must not know what the directories are for.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use nix::{fcntl::OFlag, unistd::geteuid};

/// Write permission for group and others.
const WRITABLE: u32 = 0o022;
/// Sticky bit: only the owner of a file may rename or remove it.
const STICKY: u32 = 0o1000;

/// Why a directory is not used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{operation} {}: {source}", path.display())]
    Failed {
        /// The operation.
        operation: &'static str,
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another user owns the directory.
    #[error(
        "{} belongs to user {uid}, who could change what netbpf keeps there: remove it, or give it to root \
         (chown)",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The owner's UID.
        uid: u32,
    },
    /// Others may write to the directory.
    #[error(
        "{} may be written by others than root (mode {mode:04o}), who could change what netbpf keeps there: check \
         its contents, then `chmod go-w` it",
        path.display()
    )]
    Writable {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// Creates a directory for root only. With a group, its members may use names in the directory that they know, but not
/// list them. An existing directory gets these permissions, unless others may write to it.
///
/// # Errors
/// [`Error::Foreign`], [`Error::Writable`], or [`Error::Failed`].
pub fn make_folder(path: &Path, group: Option<u32>) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The directories above are not netbpf's alone.
            let above = path.parent().unwrap_or(path);
            fs::create_dir_all(above).map_err(failed("create", above))?;
            return make_folder(path, group);
        }
        made => made.map_err(failed("create", path))?,
    }
    let (folder, found) = open(path)?;
    if found.mode() & WRITABLE != 0 {
        return Err(writable(path, &found));
    }
    let mode = if group.is_some() { 0o710 } else { 0o700 };
    if let Some(group) = group.filter(|group| *group != found.gid()) {
        fchown(&folder, None, Some(group)).map_err(failed("give to the group", path))?;
    }
    if found.mode() & 0o7777 != mode {
        folder.set_permissions(Permissions::from_mode(mode)).map_err(failed("restrict", path))?;
    }
    Ok(())
}

/// Checks that nobody else can replace a directory of root's in this directory: root owns it, and others may not write
/// to it, or it has the sticky bit.
///
/// # Errors
/// [`Error::Foreign`] or [`Error::Writable`] if others could replace it; [`Error::Failed`] if it is no directory, or
/// cannot be opened.
pub fn check_parent(path: &Path) -> Result<(), Error> {
    let (_, found) = open(path)?;
    match found.mode() & (WRITABLE | STICKY) {
        0 | STICKY.. => Ok(()),
        _ => Err(writable(path, &found)),
    }
}

/// Opens the directory, so that the one that is checked is the one that is changed. A symlink is followed if root owns
/// it.
fn open(path: &Path) -> Result<(File, Metadata), Error> {
    is_own(path, &fs::symlink_metadata(path).map_err(failed("look at", path))?)?;
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_DIRECTORY.bits())
        .open(path)
        .map_err(failed("open the folder", path))?;
    let found = folder.metadata().map_err(failed("look at", path))?;
    is_own(path, &found)?;
    Ok((folder, found))
}

fn is_own(path: &Path, found: &Metadata) -> Result<(), Error> {
    match found.uid() {
        uid if uid == geteuid().as_raw() => Ok(()),
        uid => Err(Error::Foreign { path: path.to_owned(), uid }),
    }
}

fn writable(path: &Path, found: &Metadata) -> Error {
    Error::Writable { path: path.to_owned(), mode: found.mode() & 0o7777 }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Failed { operation, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_new_or_existing_folder_becomes_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outer/inner");
        make_folder(&path, None).unwrap();
        assert_eq!(mode(&path), 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        make_folder(&path, None).unwrap();
        assert_eq!(mode(&path), 0o700);
        make_folder(&path, Some(nix::unistd::getegid().as_raw())).unwrap();
        assert_eq!(mode(&path), 0o710);
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let error = make_folder(dir.path(), None).unwrap_err().to_string();
        assert!(error.contains("may be written by others than root (mode 0777)"), "{error}");
        check_parent(dir.path()).unwrap_err();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
        check_parent(dir.path()).unwrap();
        make_folder(dir.path(), None).unwrap_err();
    }

    #[test]
    fn a_file_in_its_place_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        make_folder(file.path(), None).unwrap_err();
    }
}
