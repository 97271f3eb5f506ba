//! The program file that supervisors execute, protected from writes. A program in a container can open the executable
//! of its own process (`/proc/self/exe`). A kernel that does not refuse writes to running executables (6.11 to 6.12.1)
//! would let it change the host's file (CVE-2019-5736).

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
    thread,
};

use nix::{
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use super::error::{Error, call};

/// A program on a read-only mount of its own that is in no namespace. It needs no extra memory: the pages are those of
/// the original file.
#[derive(Debug)]
pub struct SealedProgram {
    /// Opened on that mount; keeps the mount alive.
    file: OwnedFd,
    path: PathBuf,
}

impl SealedProgram {
    /// Seals the file at `path`. It stays the same when another file takes its place. Needs root.
    ///
    /// # Errors
    /// [`Error::Call`] if there is no such file, or no private mount of it can be made: `EPERM` without root.
    pub fn open(path: &Path) -> Result<SealedProgram, Error> {
        let path = path.canonicalize().map_err(call("find", path.display()))?;
        let failed = || call::<io::Error>("make a read-only mount of", path.display());
        // In a thread of its own, because the unshared mount namespace ends with the thread.
        let opened = thread::scope(|scope| scope.spawn(|| open_read_only(&path)).join());
        let file = opened.unwrap_or_else(|_| Err(io::ErrorKind::Other.into())).map_err(failed())?;
        Ok(SealedProgram { file, path })
    }

    /// A file that is not sealed, for tests that execute nothing and have no root.
    #[cfg(test)]
    pub fn unsealed(path: &Path) -> SealedProgram {
        let file = std::fs::File::open(path).expect("a file").into();
        SealedProgram { file, path: path.to_owned() }
    }

    /// The path to execute, valid in this process and its children.
    pub(super) fn executable(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// The original path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn open_read_only(path: &Path) -> io::Result<OwnedFd> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    mount(Some(path), path, NONE, MsFlags::MS_BIND, NONE)?;
    mount(NONE, path, NONE, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, NONE)?;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    umount2(path, MntFlags::MNT_DETACH)?;
    Ok(file.into())
}
