//! Notifications about changes of the packet filter. A firewall that reloads its rules may remove ours.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

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

/// Length of netlink's header, and where it has the length of the message and the number of the socket that asked for it.
const HEADER: usize = 16;
const LENGTH: usize = 0;
const PORT: usize = 12;

/// Changes of the packet filter since this value was made.
pub struct FilterChanges {
    listener: Listener,
    /// The number of a socket whose changes are not told; 0 if all are.
    but: Arc<AtomicU32>,
}

impl FilterChanges {
    /// Subscribes in the calling thread's namespace. The thread must be in a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Watch`] if the kernel gives no netlink socket (`EMFILE`), or refuses the notifications
    /// (`EPERM`).
    pub fn watch() -> Result<Self, Error> {
        Self::watch_all_but(Arc::default())
    }

    /// The same without the changes by the socket of this number, which may become another one.
    ///
    /// # Errors
    /// As of [`FilterChanges::watch`].
    pub(super) fn watch_all_but(but: Arc<AtomicU32>) -> Result<Self, Error> {
        let listener = Listener::open(NETLINK_NETFILTER, &[GROUP]).map_err(Error::Watch)?;
        Ok(Self { listener, but })
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
        loop {
            let announced = self.listener.next().await.map_err(Error::Watch)?;
            // If some were lost, there were changes as well.
            if announced.is_none_or(|datagram| !is_all_by(self.but.load(Ordering::Relaxed), &datagram)) {
                return Ok(());
            }
        }
    }
}

/// Whether all messages of a datagram are about changes by the socket of this number.
fn is_all_by(port: u32, datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while !rest.is_empty() {
        let word = |at: usize| Some(u32::from_ne_bytes(*rest.get(at..)?.first_chunk()?));
        let (Some(length), Some(by)) = (word(LENGTH), word(PORT)) else { return false };
        if port == 0 || by != port || (length as usize) < HEADER {
            return false;
        }
        // Messages are aligned to four bytes.
        rest = rest.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(by: u32, content: usize) -> Vec<u8> {
        let mut message = vec![0; HEADER + content];
        message[LENGTH..][..4].copy_from_slice(&((HEADER + content) as u32).to_ne_bytes());
        message[PORT..][..4].copy_from_slice(&by.to_ne_bytes());
        message
    }

    #[test]
    fn a_change_is_told_unless_all_of_it_is_by_that_socket() {
        let own = [message(7, 8), message(7, 0)].concat();
        assert!(is_all_by(7, &own));
        assert!(!is_all_by(8, &own));
        assert!(!is_all_by(7, &[message(7, 4), message(8, 4)].concat()));
        assert!(!is_all_by(0, &message(0, 4)), "no socket");
        assert!(!is_all_by(7, &[7; 15]), "no message");
        assert!(!is_all_by(7, &[&message(7, 4)[..], &[0; 16]].concat()), "a message without end");
    }
}
