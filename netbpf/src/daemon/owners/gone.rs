//! Waiting for somebody else's network namespace to go: a process by its pidfd (Linux 5.3), a file by inotify on its
//! folder. There is one inotify for all folders: a user may have 128 by default.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use crate::{
    daemon::Daemon,
    model::{Container, Id, Namespace},
    sandbox::register,
};

/// How often the watch over a process looks whether anybody still wants to know.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

/// Folders in which namespaces have names.
pub struct Folders {
    inotify: Inotify,
    watched: Mutex<HashMap<WatchDescriptor, PathBuf>>,
}

impl Folders {
    /// None yet.
    pub fn new() -> nix::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Self { inotify, watched: Mutex::default() })
    }

    fn watch(&self, folder: &Path) -> nix::Result<()> {
        let kinds = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE_SELF;
        let watch = self.inotify.add_watch(folder, kinds)?;
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).insert(watch, folder.to_owned());
        Ok(())
    }

    /// Whether something happened that a file at `path` may be gone by.
    fn concerns(&self, event: &InotifyEvent, path: &Path) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in = watched.get(&event.wd).is_some_and(|folder| path.parent() == Some(folder));
        is_in && event.name.as_deref().is_none_or(|name: &OsStr| path.file_name() == Some(name))
    }
}

impl Daemon {
    /// Forget a foreign container as soon as its namespace has gone.
    pub(in crate::daemon) fn watch_namespace(self: &Arc<Self>, id: Id, namespace: Namespace) {
        let daemon = Arc::clone(self);
        tokio::spawn(async move {
            let gone = match &namespace {
                Namespace::Process { pid, .. } => daemon.process_gone(id, *pid, &namespace).await,
                Namespace::Path(path) => daemon.file_gone(path, &namespace),
            };
            match gone {
                Ok(true) => daemon.forget_namespace(id, namespace).await,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(container = %id.short(), ?namespace, %error, "watch namespace");
                }
            }
        });
    }

    async fn forget_namespace(self: &Arc<Self>, id: Id, namespace: Namespace) {
        let _busy = self.busy(id).await;
        let Ok(container) = self.container(&id) else { return };
        if container.adopted_namespace() != Some(&namespace) {
            return;
        }
        tracing::info!(container = container.name, "its network namespace has gone");
        let after = Container { attachments: Vec::new(), ..container.clone() };
        if let Err(error) = self.unwire(container, after).await {
            tracing::error!(container = %id.short(), %error, "forget");
        }
    }

    /// True when the process has ended, false when nobody wants to know any more.
    pub(in crate::daemon) async fn process_gone(
        &self,
        id: Id,
        pid: u32,
        namespace: &Namespace,
    ) -> io::Result<bool> {
        let number = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        let number = number.ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = match rustix::process::pidfd_open(number, rustix::process::PidfdFlags::NONBLOCK) {
            Err(rustix::io::Errno::SRCH) => return Ok(true),
            pidfd => register(pidfd?)?,
        };
        // The process may have ended, and another may have its number, between the look-up and the opening.
        while Self::is_alive(namespace) {
            match tokio::time::timeout(POLL_INTERVAL, pidfd.readable()).await {
                Ok(ended) => return ended.map(|_| true),
                Err(_) if self.container(&id).is_err() => return Ok(false),
                Err(_) => {}
            }
        }
        Ok(true)
    }

    /// True when the file has gone already; later it is for [`Daemon::watch_folders`] to see.
    fn file_gone(&self, path: &Path, namespace: &Namespace) -> io::Result<bool> {
        self.folders.watch(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        Ok(!Self::is_alive(namespace))
    }

    /// Forget foreign containers whose namespaces' files go, for as long as the daemon runs.
    pub(in crate::daemon) async fn watch_folders(self: Arc<Self>) -> io::Result<()> {
        let readable = register(self.folders.inotify.as_fd().try_clone_to_owned()?)?;
        loop {
            let mut ready = readable.readable().await?;
            match self.folders.inotify.read_events() {
                Ok(events) => {
                    for (id, namespace) in self.concerned(&events) {
                        let daemon = Arc::clone(&self);
                        tokio::spawn(async move { daemon.forget_namespace(id, namespace).await });
                    }
                }
                Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Foreign containers that went by what happened.
    fn concerned(&self, events: &[InotifyEvent]) -> Vec<(Id, Namespace)> {
        let world = self.world();
        world
            .containers()
            .filter_map(|container| {
                let namespace = container.adopted_namespace()?;
                let Namespace::Path(path) = namespace else { return None };
                let is_concerned = events.iter().any(|event| self.folders.concerns(event, path));
                (is_concerned && !Self::is_alive(namespace)).then(|| (container.id, namespace.clone()))
            })
            .collect()
    }
}
