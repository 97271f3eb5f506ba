//! Notifications about changes of the packet filter. A firewall that reloads its rules may remove ours.

use std::{io, time::Duration};

use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_NETFILTER};
use tokio::time::{Instant, timeout_at};

use super::Error;

/// `NFNLGRP_NFTABLES`: all changes of tables, chains, rules and elements.
const GROUP: u32 = 7;

/// A reload makes many changes. [`Changes::next`] returns this long after the last of them, but not later than
/// [`LATEST`] after the first.
const QUIET: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_secs(1);

/// Changes of the packet filter, our own included, since this value was made.
pub struct Changes(TokioSocket);

impl Changes {
    /// Subscribes in the calling thread's namespace. The thread must be in a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Watch`] if the kernel gives no netlink socket (`EMFILE`), or refuses the notifications
    /// (`EPERM`).
    pub fn watch() -> Result<Self, Error> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
            socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
            socket.socket_mut().add_membership(GROUP)?;
            io::Result::Ok(Self(socket))
        };
        open().map_err(Error::Watch)
    }

    /// Waits for the next change and the quiet time after it.
    ///
    /// # Errors
    /// [`Error::Watch`] if the socket is broken. Lost notifications are no error: they count as a change.
    pub async fn next(&mut self) -> Result<(), Error> {
        self.heard().await?;
        let latest = Instant::now() + LATEST;
        while let Ok(heard) = timeout_at(latest.min(Instant::now() + QUIET), self.heard()).await {
            heard?;
            if Instant::now() >= latest {
                break;
            }
        }
        Ok(())
    }

    async fn heard(&mut self) -> Result<(), Error> {
        match self.0.recv_from_full().await {
            // The socket buffer overflowed, so there were changes.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => Ok(()),
            Err(error) => Err(Error::Watch(error)),
            Ok(_) => Ok(()),
        }
    }
}
