//! Sends the host's name servers to the responder, at start and whenever `/etc/resolv.conf` changes: edited
//! in place, replaced by rename, or through a symlink (systemd-resolved, NetworkManager).

use std::{io, os::fd::AsFd, path::Path, sync::Arc};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::{
    daemon::{
        Error,
        effects::{files, host::Host},
        names::Names,
    },
    sandbox::register,
};

const FILE: &str = "/etc/resolv.conf";

impl Names {
    /// Send the host's name servers to the responder now, and at each change.
    pub async fn feed_host_servers(&self) -> Result<(), Error> {
        self.host.feed.set_host_servers(files::host_servers()?).await?;
        let host = Arc::clone(&self.host);
        tokio::spawn(async move {
            if let Err(error) = follow_host_servers(&host).await {
                tracing::error!(%error, "watch {FILE}");
            }
        });
        Ok(())
    }
}

async fn follow_host_servers(host: &Host) -> io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let target = std::fs::canonicalize(FILE).unwrap_or_default();
    for folder in [Path::new(FILE).parent(), target.parent()].into_iter().flatten() {
        inotify.add_watch(folder, AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO)?;
    }
    let events = register(inotify.as_fd().try_clone_to_owned()?)?;
    let mut before = files::host_servers().ok();
    loop {
        let mut ready = events.readable().await?;
        match inotify.read_events() {
            Ok(_) => {}
            Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
            Err(error) => return Err(error.into()),
        }
        match files::host_servers() {
            Ok(servers) if before.as_ref() != Some(&servers) => {
                tracing::info!(?servers, "the host's name servers");
                before = Some(servers.clone());
                if let Err(error) = host.feed.set_host_servers(servers).await {
                    tracing::error!(%error, "tell the responder");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "read the host's name servers"),
        }
    }
}
