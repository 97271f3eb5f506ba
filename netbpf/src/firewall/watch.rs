//! When somebody else changes the packet filter: a firewall that is reloaded takes our rules along.

use std::{io, time::Duration};

use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_NETFILTER};
use tokio::time::{Instant, timeout_at};

use super::Error;

/// `NFNLGRP_NFTABLES`: every change of tables, chains, rules and elements.
const GROUP: u32 = 7;

/// A firewall that is reloaded makes many changes; this long after the last one, but not later than [`LATEST`] after
/// the first, it is worth a look.
const QUIET: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_secs(1);

/// Changes of the packet filter, ours too, from the moment this value was made.
pub struct Changes(TokioSocket);

impl Changes {
    /// In the namespace of the calling thread, which must be in a tokio runtime.
    pub fn watch() -> Result<Self, Error> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
            socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
            socket.socket_mut().add_membership(GROUP)?;
            io::Result::Ok(Self(socket))
        };
        open().map_err(Error::Watch)
    }

    /// Waits for the next change, and for the quiet after it.
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
            // More was said than the socket holds: something has changed.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => Ok(()),
            Err(error) => Err(Error::Watch(error)),
            Ok(_) => Ok(()),
        }
    }
}
