//! Waiting for somebody else's network namespace to go: a process by its pidfd (Linux 5.3), a file by inotify on its
//! folder.

use std::{io, os::fd::AsFd, path::Path, sync::Arc};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Daemon;
use crate::{
    model::{Container, Id, Namespace, Subject},
    sandbox::register,
};

impl Daemon {
    /// Forget a foreign container as soon as its namespace has gone.
    pub(super) fn watch_namespace(self: &Arc<Self>, id: Id, namespace: Namespace) {
        let daemon = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = gone(&namespace).await {
                tracing::error!(container = %id.short(), ?namespace, %error, "watch namespace");
                return;
            }
            let _busy = daemon.busy(id).await;
            let Ok(container) = daemon.container(&id) else { return };
            if container.subject != Subject::Foreign(namespace) {
                return;
            }
            tracing::info!(container = container.name, "its network namespace has gone");
            let after = Container { attachments: Vec::new(), ..container.clone() };
            if let Err(error) = daemon.unwire(container, after).await {
                tracing::error!(container = %id.short(), %error, "forget");
            }
        });
    }
}

async fn gone(namespace: &Namespace) -> io::Result<()> {
    match namespace {
        Namespace::Process { pid, .. } => process_gone(*pid, namespace).await,
        Namespace::Path(path) => file_gone(path, namespace).await,
    }
}

async fn process_gone(pid: u32, namespace: &Namespace) -> io::Result<()> {
    let number = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let number = number.ok_or(io::ErrorKind::InvalidInput)?;
    let pidfd = match rustix::process::pidfd_open(number, rustix::process::PidfdFlags::NONBLOCK) {
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        pidfd => register(pidfd?)?,
    };
    // The process may have ended, and another may have its number, between the look-up and the opening.
    if Daemon::is_alive(namespace) {
        pidfd.readable().await?.retain_ready();
    }
    Ok(())
}

async fn file_gone(path: &Path, namespace: &Namespace) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(
        folder,
        AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE_SELF,
    )?;
    let events = register(inotify.as_fd().try_clone_to_owned()?)?;
    while Daemon::is_alive(namespace) {
        let mut ready = events.readable().await?;
        // What happened does not matter: whether the namespace is there does.
        match inotify.read_events() {
            Ok(_) => {}
            Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
