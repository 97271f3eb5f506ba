//! One daemon for each of its directories.

use std::{
    fs::File,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::Error;

/// How long a process that a killed daemon had just forked may take until its exec, which closes the lock's descriptor.
const PATIENCE: Duration = Duration::from_millis(500);

/// Held by the daemon that uses a directory, for as long as it lives: the kernel lets go of it with the process.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of a directory, which exists.
    pub fn acquire(dir: &Path) -> Result<Self, Error> {
        let mut file = File::open(dir).map_err(|source| Error::Lock { dir: dir.to_owned(), source })?;
        let give_up = Instant::now() + PATIENCE;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => return Ok(Self { _file: file }),
                Err((file, Errno::EWOULDBLOCK)) if Instant::now() < give_up => file,
                Err((_, Errno::EWOULDBLOCK)) => return Err(Error::Locked { dir: dir.to_owned() }),
                Err((_, errno)) => return Err(Error::Lock { dir: dir.to_owned(), source: errno.into() }),
            };
            thread::sleep(Duration::from_millis(10));
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
        assert_eq!(error.to_string(), "lock /nonexistent: No such file or directory (os error 2)");
    }
}
