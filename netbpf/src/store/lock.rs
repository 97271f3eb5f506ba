//! One daemon for a state directory.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::Error;

/// Held by the daemon that uses a state directory, for as long as it lives: the kernel lets go of it with the process.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of a directory, which exists.
    pub fn acquire(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("lock");
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = opened.map_err(|source| Error::Lock { path: path.clone(), source })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => Err(Error::Locked { dir: dir.to_owned() }),
            Err((_, errno)) => Err(Error::Lock { path, source: errno.into() }),
        }
    }
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
        Lock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Lock::acquire(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.to_string(), "lock /nonexistent/lock: No such file or directory (os error 2)");
    }
}
