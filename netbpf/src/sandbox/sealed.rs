//! The program that supervisors are: a file that nobody can write to by way of a process that runs it. What runs in a
//! container can name the program of its own process (`/proc/self/exe`) and, where the kernel does not refuse to write to
//! what is executed (6.11 to 6.12.1), would change the host's (CVE-2019-5736).

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

/// A program by a mount of its own, which is read-only and in no namespace. It costs no memory: the file's pages are
/// those of the program itself.
#[derive(Debug)]
pub struct SealedProgram {
    /// Opened by that mount, and what keeps it.
    file: OwnedFd,
    path: PathBuf,
}

impl SealedProgram {
    /// Seals the file at `path`, which goes on to be what it is now when another one takes its place. To be done as root.
    pub fn open(path: &Path) -> Result<SealedProgram, Error> {
        let path = path.canonicalize().map_err(call("find", path.display()))?;
        let failed = || call::<io::Error>("make a read-only mount of", path.display());
        // A thread, because what it unshares is its own and ends with it.
        let opened = thread::scope(|scope| scope.spawn(|| open_read_only(&path)).join());
        let file = opened.unwrap_or_else(|_| Err(io::ErrorKind::Other.into())).map_err(failed())?;
        Ok(SealedProgram { file, path })
    }

    /// What to execute, in this process and its children.
    pub(super) fn executable(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Where it was found.
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
