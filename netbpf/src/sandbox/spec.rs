//! The specification of a sandbox and its exit status: files in its directory for the exchange between daemon and
//! supervisor.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::{Error, call};

/// The supervisor's socket in the sandbox's directory. [`super::exec::run`] takes its path.
pub const SOCKET: &str = "supervisor.sock";
pub(super) const SPEC: &str = "spec.json";
pub(super) const EXIT: &str = "exit.json";
/// The file with the PID of process 1 on the host and its start time.
pub(super) const PID: &str = "pid";
/// The supervisor's stderr; empty unless it fails.
pub(super) const DIAGNOSTICS: &str = "supervisor.log";

/// The exit code of a process killed by SIGKILL, by the convention of shells.
const KILLED: i32 = 128 + 9;

/// The specification of a sandbox. Paths are the host's and absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The container's ID, for messages.
    pub id: String,
    /// Its host name, in a UTS namespace of its own. With the host's network this is the host's name.
    pub hostname: String,
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// `KEY=VALUE` pairs. They override the defaults of `PATH`, `HOSTNAME` and `HOME`.
    pub env: Vec<String>,
    /// The directory where the command starts. If missing in `rootfs`, it is created.
    pub working_dir: PathBuf,
    /// Its root directory; the host's if absent.
    pub rootfs: Option<PathBuf>,
    /// `--security-opt no-new-privileges`.
    pub no_new_privileges: bool,
    /// Directories and sockets to hide if its root is the host's. Missing ones are skipped.
    pub hidden: Vec<PathBuf>,
    /// Its network namespace.
    pub network: Network,
    /// The files that it sees in `/etc`.
    pub files: Files,
    /// The log to which its output is appended.
    pub log: PathBuf,
    /// The group that may connect to the supervisor's socket, besides root.
    pub socket_group: Option<u32>,
}

/// The network namespace of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A new one, with `lo` up.
    New,
    /// The host's.
    Host,
    /// The one of this file, such as `/run/netns/NAME`.
    Join(PathBuf),
}

/// Existing files that a sandbox sees in `/etc`. The daemon changes them with [`super::SharedFile`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// `/etc/hosts`.
    pub hosts: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// `/etc/hostname`.
    pub hostname: PathBuf,
}

/// The exit status of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code of the command, or 128 + n if signal n killed it.
    pub code: i32,
    /// The time of the end.
    pub finished: Timestamp,
}

/// The exit status of the sandbox in this directory. Call it when the supervisor has ended. A supervisor that was
/// killed wrote no status; its container was killed with it.
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

/// Writes a new file that only the owner can read, because environments contain passwords.
fn write_private(path: &Path, text: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text)
}

impl Files {
    /// The files with the paths where they are mounted.
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
    fn without_an_exit_status_the_sandbox_was_killed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(exit_status(dir.path()).code, 137);
    }

    #[test]
    fn an_exit_status_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let exit = Exit { code: 3, finished: Timestamp::UNIX_EPOCH };
        fs::write(dir.path().join(EXIT), serde_json::to_vec(&exit).unwrap()).unwrap();
        assert_eq!(exit_status(dir.path()), exit);
    }
}
