//! Makes sure that only one daemon uses a directory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::Error;

/// How long to wait for a lock. A child that a killed daemon had just forked holds its descriptor until exec closes it.
const TIMEOUT: Duration = Duration::from_millis(500);

/// The name of the locked file in the directory.
const NAME: &str = "lock";

/// The lock of a directory. The kernel releases it when the daemon ends. Only root can open the locked file, because
/// everybody who can open a file can lock it.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: Flock<File>,
}

impl Lock {
    /// Takes the lock of an existing directory, to which only root may write.
    ///
    /// # Errors
    /// [`Error::Locked`] if another daemon has it.
    pub fn acquire(dir: &Path) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Lock { dir: dir.to_owned(), source };
        let path = dir.join(NAME);
        let open = if is_bpffs(dir).map_err(|errno| failed(errno.into()))? { open_folder } else { open_file };
        let give_up = Instant::now() + TIMEOUT;
        loop {
            match Flock::lock(open(&path).map_err(failed)?, FlockArg::LockExclusiveNonblock) {
                Ok(file) => {
                    let lock = Self { path: path.clone(), file };
                    if lock.is_in_place().map_err(failed)? {
                        return Ok(lock);
                    }
                    // The last owner has just removed the file: try again with a new one.
                }
                Err((_, Errno::EWOULDBLOCK)) if Instant::now() < give_up => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err((_, Errno::EWOULDBLOCK)) => return Err(Error::Locked { dir: dir.to_owned() }),
                Err((_, errno)) => return Err(failed(errno.into())),
            }
        }
    }

    fn is_in_place(&self) -> io::Result<bool> {
        let held = self.file.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            found => found.map(|found| (found.dev(), found.ino()) == (held.dev(), held.ino())),
        }
    }
}

impl Drop for Lock {
    /// Removes the file. A daemon that has opened it in the meantime notices that (`is_in_place`).
    fn drop(&mut self) {
        if self.is_in_place().unwrap_or_default() {
            // A file that cannot be removed is no harm: the next daemon locks it.
            let _ = fs::remove_file(&self.path).or_else(|_| fs::remove_dir(&self.path));
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW.bits();
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
}

/// A bpf file system can hold no regular files, so the lock is a directory there.
fn open_folder(path: &Path) -> io::Result<File> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

fn is_bpffs(dir: &Path) -> nix::Result<bool> {
    Ok(statfs(dir)?.filesystem_type() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_until_the_first_ends() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(dir.path()).unwrap();
        let error = Lock::acquire(dir.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("another netbpf daemon uses {}", dir.path().display()));
        drop(lock);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        drop(Lock::acquire(dir.path()).unwrap());
    }

    #[test]
    fn only_root_can_open_the_locked_file() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(dir.path()).unwrap();
        assert_eq!(fs::metadata(dir.path().join(NAME)).unwrap().mode() & 0o777, 0o600);
        // A lock on the directory itself, which everybody can open, must not matter.
        let held = Flock::lock(File::open(dir.path()).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        drop(lock);
        Lock::acquire(dir.path()).unwrap();
        drop(held);
    }

    #[test]
    fn the_error_names_a_missing_directory() {
        let error = Lock::acquire(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.to_string(), "lock /nonexistent: No such file or directory (os error 2)");
    }
}
