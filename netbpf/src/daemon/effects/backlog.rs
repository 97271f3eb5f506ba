//! The limit of the queue in which each CPU has frames that devices receive. A broadcast puts a copy for each member of its
//! network there at once, and what is beyond the limit is lost. Must not know which networks there are.

use netbpf_common::endpoint::MAX_MEMBERS;

use super::host::Host;
use crate::daemon::Error;

/// The setting, which only the host's first network namespace has.
const SETTING: &str = "net/core/netdev_max_backlog";

/// The kernel's limit, if nobody changes it.
const USUAL: usize = 1000;

/// Room for a broadcast in the largest network, and for as many other frames.
const ENOUGH: &str = "16384";
const _: () = assert!(MAX_MEMBERS == 8192);

impl Host {
    /// Raises the limit if a broadcast to so many members would take more than half of it. If the host does not let it, that
    /// is logged: some members may miss broadcasts.
    pub fn raise_backlog(&self, members: usize) {
        if members <= USUAL / 2 {
            return;
        }
        let Some(limit) = self.settings.read(SETTING).ok().and_then(|limit| limit.parse::<usize>().ok())
        else {
            return;
        };
        if members > limit / 2
            && let Err(error) = self.settings.change(SETTING, ENOUGH)
        {
            tracing::warn!(%error, "some members of large networks may miss broadcasts");
        }
    }

    /// Restores the limit.
    ///
    /// # Errors
    /// [`Error::Link`] or [`Error::File`]: the next attempt restores it.
    pub fn restore_backlog(&self) -> Result<(), Error> {
        self.settings.restore(SETTING)
    }
}
