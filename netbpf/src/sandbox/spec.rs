//! What a sandbox shall be and how it ended: the files that daemon and supervisor exchange in its directory.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::{Error, call};

/// The supervisor's socket in the sandbox's directory, which is what [`super::exec::run`] takes.
pub const SOCKET: &str = "supervisor.sock";
pub(super) const SPEC: &str = "spec.json";
pub(super) const EXIT: &str = "exit.json";
/// Process 1: its number in the host and its start time.
pub(super) const PID: &str = "pid";
/// What the supervisor itself has to say; empty unless it fails.
pub(super) const DIAGNOSTICS: &str = "supervisor.log";

/// The killed one's code, by a shell's convention.
const KILLED: i32 = 128 + 9;

/// What a sandbox shall be. Paths are the host's and absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The container's ID, for messages.
    pub id: String,
    /// Its host name. Every sandbox has a UTS namespace; for the host's network this is the host's name.
    pub hostname: String,
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// `KEY=VALUE`, after `PATH`, `HOSTNAME` and `HOME`, which it may replace.
    pub env: Vec<String>,
    /// Where the command starts. Made if it is missing in `rootfs`.
    pub working_dir: PathBuf,
    /// Its root; the host's if absent.
    pub rootfs: Option<PathBuf>,
    /// `--security-opt no-new-privileges`.
    pub no_new_privileges: bool,
    /// Folders and sockets that it does not see where its root is the host's; what is missing is nothing to hide.
    pub hidden: Vec<PathBuf>,
    /// Whose network it has.
    pub network: Network,
    /// What replaces the files of `/etc`.
    pub files: Files,
    /// Where its output goes, appended.
    pub log: PathBuf,
    /// Who besides root may reach the supervisor's socket.
    pub socket_group: Option<u32>,
}

/// Whose network namespace a sandbox has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A new one, `lo` up.
    New,
    /// The host's.
    Host,
    /// The one that this file holds.
    Join(PathBuf),
}

/// Existing files that a sandbox sees in `/etc`. The daemon changes them by [`super::SharedFile`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// `/etc/hosts`.
    pub hosts: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// `/etc/hostname`.
    pub hostname: PathBuf,
}

/// How a sandbox ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The command's code; 128 + n after signal n.
    pub code: i32,
    /// When.
    pub finished: Timestamp,
}

/// How the sandbox of this directory ended; to be asked when its supervisor is gone. A supervisor that was killed
/// leaves no word, and its container was killed with it.
pub fn exit_status(dir: &Path) -> Exit {
    let written = fs::read(dir.join(EXIT)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    written.unwrap_or_else(|| Exit { code: KILLED, finished: Timestamp::now() })
}

impl Spec {
    pub(super) fn read(dir: &Path) -> Result<Spec, Error> {
        let path = dir.join(SPEC);
        let bytes = fs::read(&path).map_err(call("read", path.display()))?;
        serde_json::from_slice(&bytes)
            .map_err(|source| Error::Json { object: path.display().to_string(), source })
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), Error> {
        let path = dir.join(SPEC);
        let text = serde_json::to_vec(self)
            .map_err(|source| Error::Json { object: path.display().to_string(), source })?;
        write_private(&path, &text).map_err(call("write", path.display()))
    }
}

/// Anew, for the owner's eyes only: environments hold passwords.
fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text)
}

impl Files {
    /// Which file goes where.
    pub(super) fn targets(&self) -> [(&Path, &'static str); 3] {
        [
            (&self.hosts, "/etc/hosts"),
            (&self.resolv_conf, "/etc/resolv.conf"),
            (&self.hostname, "/etc/hostname"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_supervisor_that_left_no_word_was_killed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(exit_status(dir.path()).code, 137);
    }

    #[test]
    fn an_exit_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let exit = Exit { code: 3, finished: Timestamp::UNIX_EPOCH };
        fs::write(dir.path().join(EXIT), serde_json::to_vec(&exit).unwrap()).unwrap();
        assert_eq!(exit_status(dir.path()), exit);
    }
}
