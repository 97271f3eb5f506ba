//! Opens network namespaces and visits them. A visit is a thread of its own that ends afterwards, so that no
//! thread of the runtime can stay in the wrong namespace. Must not know links.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
    sync::Arc,
    thread,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};
use rustix::fs::{Mode, OFlags, openat};
use tokio::sync::oneshot;

use super::Error;
use crate::process;

/// An open network namespace. It exists at least as long as this value.
#[derive(Clone, Debug)]
pub struct Namespace {
    file: Arc<File>,
    name: Arc<str>,
}

impl Namespace {
    /// Opens the namespace of a file: `/run/netns/NAME`, `/proc/N/ns/net`, a Docker sandbox key. A namespace
    /// of another kind is detected only when it is entered.
    ///
    /// # Errors
    /// [`Error::Failed`] if the file cannot be opened; [`Error::NotANamespace`] if it is another file, as
    /// after the namespace was unmounted.
    pub fn open_path(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        // Without O_NONBLOCK, opening a FIFO would block until somebody writes to it.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)
            .map_err(|error| Error::failed("open", &*name, error))?;
        let kind = fstatfs(&file).map_err(|errno| Error::failed("look at", &*name, errno))?.filesystem_type();
        if kind != NSFS_MAGIC {
            return Err(Error::NotANamespace(name));
        }
        Ok(Self { file: Arc::new(file), name: name.into() })
    }

    /// Opens the namespace of the process that was started at `started` (see [`process::start_time`]), and not of a
    /// later process with the same PID: both are read through one descriptor of its `/proc` directory, which
    /// leads nowhere once the process is gone. There is no other way to open a process's namespace.
    ///
    /// # Errors
    /// [`Error::Failed`], with [`Error::is_missing`], if the process has ended, or its PID belongs to another
    /// one.
    pub fn open_process(pid: u32, started: u64) -> Result<Self, Error> {
        let name = format!("network namespace of process {pid}");
        let failed = |error: io::Error| Error::failed("open", &*name, error);
        let folder = process::folder(pid).map_err(failed)?;
        let file = openat(&folder, "ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed(errno.into()))?;
        // Last: a process that is alive now was alive when the namespace was opened.
        match process::start_time_in(&folder) {
            Some(found) if found == started => {}
            _ => return Err(failed(io::Error::from(Errno::ESRCH))),
        }
        Ok(Self { file: Arc::new(file.into()), name: name.into() })
    }

    /// The namespace of a descriptor. One of another kind is detected only when it is entered.
    pub fn of(descriptor: OwnedFd, name: &str) -> Self {
        Self { file: Arc::new(descriptor.into()), name: name.into() }
    }

    /// A new one, which nobody else uses.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel makes none.
    pub(super) async fn scratch() -> Result<Self, Error> {
        let failed = |error: io::Error| Error::failed("create", "a network namespace", error);
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        };
        let (answer, made) = oneshot::channel();
        thread::Builder::new()
            .name("netns".to_owned())
            .spawn(move || drop(answer.send(make())))
            .map_err(failed)?;
        let file = made.await.unwrap_or_else(|_| Err(Errno::EIO.into())).map_err(failed)?;
        Ok(Self { file: Arc::new(file), name: "a new namespace".into() })
    }

    /// Whether it is the namespace of the calling thread.
    ///
    /// # Errors
    /// [`Error::Failed`] if one of the two cannot be looked at: there is no `/proc`.
    pub fn same_as_current(&self) -> Result<bool, Error> {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let own = fs::metadata("/proc/thread-self/ns/net")
            .map_err(|error| Error::failed("look at", "/proc/thread-self/ns/net", error))?;
        let other =
            self.file.metadata().map_err(|error| Error::failed("look at", self.to_string(), error))?;
        Ok(identity(own) == identity(other))
    }

    /// Its inode, which no other namespace has as long as this one exists.
    ///
    /// # Errors
    /// [`Error::Failed`] if it cannot be looked at.
    pub fn inode(&self) -> Result<u64, Error> {
        let metadata = self.file.metadata();
        metadata
            .map(|metadata| metadata.ino())
            .map_err(|error| Error::failed("look at", self.to_string(), error))
    }

    /// Checks that this is a network namespace: that a thread can enter it.
    pub(super) async fn check(&self) -> Result<(), Error> {
        self.run(|| ()).await
    }

    /// Runs `work` on a thread in this namespace. Sockets opened there stay in it.
    ///
    /// # Errors
    /// [`Error::NotANamespace`] if it is one of another kind; [`Error::Failed`] if it may not be entered
    /// (`EPERM`), or no thread can be started: then `work` did not run. [`Error::Panicked`] if `work`
    /// panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, result) = oneshot::channel();
        let file = Arc::clone(&self.file);
        thread::Builder::new()
            .name("netns visit".to_owned())
            .spawn(move || {
                let result = setns(&file, CloneFlags::CLONE_NEWNET).map(|()| work());
                // An error means that the caller no longer waits for the result.
                drop(answer.send(result));
            })
            .map_err(|error: io::Error| Error::failed("start a thread for", self.to_string(), error))?;
        match result.await {
            Ok(Ok(value)) => Ok(value),
            // A namespace of another kind is detected only here.
            Ok(Err(Errno::EINVAL)) => Err(Error::NotANamespace(self.to_string())),
            Ok(Err(errno)) => Err(Error::failed("enter", self.to_string(), errno)),
            Err(_) => Err(Error::Panicked(self.to_string())),
        }
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_another_start_time_is_not_opened() {
        let own = std::process::id();
        let started = process::start_time(own).unwrap();
        Namespace::open_process(own, started).unwrap();
        assert!(Namespace::open_process(own, started + 1).unwrap_err().is_missing());
    }
}
