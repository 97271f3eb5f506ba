//! Notifications about changes of the packet filter. A firewall that reloads its rules may remove ours.

use std::time::Duration;

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use tokio::time::{Instant, timeout_at};

use super::Error;
use crate::multicast::Listener;

/// `NFNLGRP_NFTABLES`: all changes of tables, chains, rules and elements.
const GROUP: u32 = 7;

/// A reload makes many changes. [`FilterChanges::next`] returns this long after the last of them, but not later than
/// [`LATEST`] after the first.
const QUIET: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_secs(1);

/// Changes of the packet filter, our own included, since this value was made.
pub struct FilterChanges(Listener);

impl FilterChanges {
    /// Subscribes in the calling thread's namespace. The thread must be in a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Watch`] if the kernel gives no netlink socket (`EMFILE`), or refuses the notifications
    /// (`EPERM`).
    pub fn watch() -> Result<Self, Error> {
        Listener::open(NETLINK_NETFILTER, &[GROUP]).map(Self).map_err(Error::Watch)
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

    /// Waits for the next change, however many follow.
    ///
    /// # Errors
    /// [`Error::Watch`] if the socket is broken.
    pub async fn heard(&mut self) -> Result<(), Error> {
        // If some were lost, there were changes as well.
        self.0.next().await.map(drop).map_err(Error::Watch)
    }
}
