//! Notes for a daemon that does not run: a file for each container that its runtime detached meanwhile, in a directory
//! that only root can use. The daemon reads them when it starts. Must not know who writes them.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The name of the directory, which is beside the daemon's socket.
pub const FOLDER: &str = "detached";

/// The maximum size of a file in bytes: a container's ID and names.
const MAX_FILE: u64 = 64 << 10;

/// The end of the name of a file that is being written.
const PART: &str = "part";

/// A container's interface that its runtime detached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// The runtime's kind.
    pub runtime: String,
    /// The runtime's ID of the container.
    pub container: String,
    /// The name of the runtime's configuration.
    pub configuration: String,
    /// The interface.
    pub interface: String,
}

impl Detached {
    /// Detaches it by `detach`, or notes it if the daemon is away. A daemon that starts meanwhile may have read the notes
    /// already, but then it can be reached.
    ///
    /// # Errors
    /// That of `detach`, or that of the note.
    pub fn or_note<E: From<io::Error>>(
        &self,
        folder: &Path,
        detach: impl Fn() -> Result<(), E>,
        is_away: impl Fn(&E) -> bool,
    ) -> Result<(), E> {
        match detach() {
            Err(error) if is_away(&error) => {}
            done => return done,
        }
        let Some(note) = self.note(folder)? else { return Ok(()) };
        match detach() {
            Err(error) if is_away(&error) => Ok(()),
            done => {
                // The daemon may have removed it.
                let _ = fs::remove_file(note);
                done
            }
        }
    }

    /// Notes it in a file. Without the directory no daemon has run since the host started: its interfaces are gone, and the
    /// daemon's start removes what is stored of them.
    ///
    /// # Errors
    /// If the file cannot be written.
    fn note(&self, folder: &Path) -> io::Result<Option<PathBuf>> {
        let text = serde_json::to_vec(self)?;
        // The same note again has the same file.
        let name: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
        let file = folder.join(&name);
        let part = file.with_extension(PART);
        let write = || {
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(&part)?.write_all(&text)?;
            fs::rename(&part, &file)
        };
        match write() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            done => done.map(|()| Some(file)),
        }
    }

    /// All notes in the directory, with their files. Other files are left out.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn all(folder: &Path) -> io::Result<Vec<(Self, PathBuf)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(folder)? {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == PART) {
                continue;
            }
            match read(&file) {
                Ok(noted) => all.push((noted, file)),
                Err(error) => tracing::warn!(file = %file.display(), %error, "read a note about a container"),
            }
        }
        Ok(all)
    }
}

fn read(path: &Path) -> io::Result<Detached> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_starts_meanwhile_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let noted = Detached {
            runtime: "cni".to_owned(),
            container: "c".to_owned(),
            configuration: "mynet".to_owned(),
            interface: "eth0".to_owned(),
        };
        for (answers, left) in [(0, 1), (1, 0)] {
            let attempts = std::cell::Cell::new(0);
            let detach = || {
                attempts.set(attempts.get() + 1);
                if attempts.get() == 2 && answers == 1 { Ok(()) } else { Err(io::Error::other("away")) }
            };
            noted.or_note(dir.path(), detach, |_| true).unwrap();
            assert_eq!(Detached::all(dir.path()).unwrap().len(), left);
        }
        let refused = noted.or_note(dir.path(), || Err(io::Error::other("refused")), |_| false);
        refused.unwrap_err();
    }

    #[test]
    fn a_container_is_noted_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(FOLDER);
        let noted = Detached {
            runtime: "cni".to_owned(),
            container: "c".to_owned(),
            configuration: "mynet".to_owned(),
            interface: "eth0".to_owned(),
        };
        assert_eq!(noted.note(&folder).unwrap(), None);
        assert!(!folder.exists(), "no daemon has made the directory");
        fs::create_dir(&folder).unwrap();
        noted.note(&folder).unwrap();
        noted.note(&folder).unwrap();
        fs::write(folder.join("other"), "x").unwrap();
        std::os::unix::fs::symlink("/dev/zero", folder.join("link")).unwrap();
        let all = Detached::all(&folder).unwrap();
        assert_eq!(all.into_iter().map(|(noted, _)| noted).collect::<Vec<_>>(), [noted]);
    }
}
