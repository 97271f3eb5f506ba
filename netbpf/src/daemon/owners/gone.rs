//! Waits for the end of network namespaces that netbpf did not create: of processes by their pidfd (Linux
//! 5.3), of files by inotify on their directory. There is one inotify instance for all directories, because a
//! user may have only 128 by default.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsStr,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};

use crate::{
    daemon::{
        Daemon,
        effects::host::Host,
        state::{State, world::World},
    },
    model::{Container, Id, Namespace},
    sandbox::register,
};

/// Interval at which the watch of a process checks whether it is still needed.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

/// Directories that contain files of namespaces.
pub struct WatchedFolders {
    inotify: Inotify,
    /// All paths by which each of them was named: a directory has one watch.
    watched: Mutex<HashMap<WatchDescriptor, BTreeSet<PathBuf>>>,
}

impl WatchedFolders {
    /// No directories.
    pub fn new() -> nix::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Self { inotify, watched: Mutex::default() })
    }

    /// Watches the file of a namespace; true if it is gone already. Later, [`Daemon::watch_folders`] detects it.
    fn watch_file(&self, path: &Path, namespace: &Namespace, host: &Host) -> io::Result<bool> {
        self.watch(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
        Ok(!host.is_alive(namespace))
    }

    fn watch(&self, folder: &Path) -> nix::Result<()> {
        let kinds = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE_SELF;
        let watch = self.inotify.add_watch(folder, kinds)?;
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.entry(watch).or_default().insert(folder.to_owned());
        Ok(())
    }

    /// Whether the event may mean that the file at `path` was removed.
    fn concerns(&self, event: &InotifyEvent, path: &Path) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = path.parent().unwrap_or(path);
        let is_in = watched.get(&event.wd).is_some_and(|paths| paths.contains(folder));
        is_in && event.name.as_deref().is_none_or(|name: &OsStr| path.file_name() == Some(name))
    }
}

impl Daemon {
    /// Remove a foreign container as soon as its namespace is gone.
    pub(in crate::daemon) fn watch_namespace(self: &Arc<Self>, id: Id, namespace: Namespace) {
        let daemon = Arc::clone(self);
        tokio::spawn(async move {
            let gone = match &namespace {
                Namespace::Process { pid, .. } => {
                    process_gone(&daemon.state, &daemon.host, id, *pid, &namespace).await
                }
                Namespace::Path(path) => daemon.owners.folders.watch_file(path, &namespace, &daemon.host),
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

    /// Look again, once in a while, for namespaces that are gone: that a file was unmounted, and not removed, is no
    /// event in its directory.
    pub(in crate::daemon) async fn sweep_namespaces(self: Arc<Self>) {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let gone: Vec<(Id, Namespace)> = {
                let world = self.state.world();
                let adopted =
                    world.containers().filter(|container| !is_in_its_namespace(container, &self.host));
                adopted
                    .filter_map(|container| Some((container.id, container.adopted_namespace()?.clone())))
                    .collect()
            };
            for (id, namespace) in gone {
                self.forget_namespace(id, namespace).await;
            }
        }
    }

    async fn forget_namespace(self: &Arc<Self>, id: Id, namespace: Namespace) {
        let _locked = self.state.lock_container(id).await;
        let Ok(container) = self.state.container(&id) else { return };
        if container.adopted_namespace() != Some(&namespace) {
            return;
        }
        // Meanwhile its runtime may have attached it again, in a new namespace with the same path.
        if container.plugin_container().is_some() && is_in_its_namespace(&container, &self.host) {
            return;
        }
        tracing::info!(container = container.name, "its network namespace is gone");
        let after = Container { attachments: Vec::new(), ..container.clone() };
        if let Err(error) = self.unwire(container, after).await {
            tracing::error!(container = %id.short(), %error, "forget");
        }
    }

    /// Remove foreign containers when the files of their namespaces are removed, as long as the daemon runs.
    pub(in crate::daemon) async fn watch_folders(self: Arc<Self>) -> io::Result<()> {
        let readable = register(self.owners.folders.inotify.as_fd().try_clone_to_owned()?)?;
        loop {
            let mut ready = readable.readable().await?;
            match self.owners.folders.inotify.read_events() {
                Ok(events) => {
                    let gone = concerned(&events, &self.owners.folders, &self.state.world(), &self.host);
                    for (id, namespace) in gone {
                        let daemon = Arc::clone(&self);
                        tokio::spawn(async move { daemon.forget_namespace(id, namespace).await });
                    }
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Waits for the end of a process. False if the container was removed before.
pub(super) async fn process_gone(
    state: &State,
    host: &Host,
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
    // Between the look-up and the opening, the process may have ended and its PID been reused.
    while host.is_alive(namespace) {
        match tokio::time::timeout(POLL_INTERVAL, pidfd.readable()).await {
            Ok(ended) => return ended.map(|_| true),
            Err(_) if state.container(&id).is_err() => return Ok(false),
            Err(_) => {}
        }
    }
    Ok(true)
}

/// Whether the namespace of others in which a container is still exists. A container of another kind has none.
pub(super) fn is_in_its_namespace(container: &Container, host: &Host) -> bool {
    let Some(namespace) = container.adopted_namespace() else { return true };
    match container.plugin_container() {
        Some(plugin) => host.inode_of(namespace) == Some(plugin.inode),
        None => host.is_alive(namespace),
    }
}

/// Foreign containers whose namespaces are gone after these events.
fn concerned(
    events: &[InotifyEvent],
    folders: &WatchedFolders,
    world: &World,
    host: &Host,
) -> Vec<(Id, Namespace)> {
    world
        .containers()
        .filter_map(|container| {
            let namespace = container.adopted_namespace()?;
            let Namespace::Path(path) = namespace else { return None };
            let is_concerned = events.iter().any(|event| folders.concerns(event, path));
            (is_concerned && !is_in_its_namespace(container, host)).then(|| (container.id, namespace.clone()))
        })
        .collect()
}
