//! One daemon for each of its directories.

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

/// How long a process that a killed daemon had just forked may take until its exec, which closes the lock's descriptor.
const TIMEOUT: Duration = Duration::from_millis(500);

/// What is locked, in the directory.
const NAME: &str = "lock";

/// Held by the daemon that uses a directory, for as long as it lives: the kernel lets go of it with the process. What is
/// locked is a file that root alone may open, and ever could: whoever can open a file can lock it.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: Flock<File>,
}

impl Lock {
    /// Takes the lock of a directory, which exists and which others may not write to.
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
                    // Its last owner has just removed it.
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
    /// It leaves nothing. Who opened it meanwhile finds that it is not in its place.
    fn drop(&mut self) {
        if self.is_in_place().unwrap_or_default() {
            // What stays is the next daemon's lock.
            let _ = fs::remove_file(&self.path).or_else(|_| fs::remove_dir(&self.path));
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW.bits();
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
}

/// A bpf file system has no files of anybody's.
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
    fn a_second_daemon_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(dir.path()).unwrap();
        let error = Lock::acquire(dir.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("another netbpf daemon uses {}", dir.path().display()));
        drop(lock);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        drop(Lock::acquire(dir.path()).unwrap());
    }

    #[test]
    fn nobody_else_can_open_what_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let lock = Lock::acquire(dir.path()).unwrap();
        assert_eq!(fs::metadata(dir.path().join(NAME)).unwrap().mode() & 0o777, 0o600);
        // Everybody who may look into the directory can hold it.
        let held = Flock::lock(File::open(dir.path()).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        drop(lock);
        Lock::acquire(dir.path()).unwrap();
        drop(held);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Lock::acquire(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.to_string(), "lock /nonexistent: No such file or directory (os error 2)");
    }
}
