//! Restores the packet filter if others' changes removed a part of it.

use std::{sync::Arc, time::Duration};

use super::host::Host;
use crate::{
    daemon::{Error, state::State},
    firewall::FilterChanges,
};

/// Pause between attempts to restore the filter, which somebody else may be changing at the moment.
const TIMEOUT: Duration = Duration::from_secs(1);

impl Host {
    /// Guard the packet filter as long as the daemon runs: a reloaded firewall, or an engine that starts
    /// later, must not cut containers off.
    pub async fn guard_filter(self: Arc<Self>, state: Arc<State>) {
        let mut changes = match FilterChanges::watch() {
            Ok(changes) => changes,
            Err(error) => {
                return tracing::error!(%error, "changes of the packet filter are not detected: restart netbpf");
            }
        };
        loop {
            if let Err(error) = changes.next().await {
                return tracing::error!(%error, "changes of the packet filter are no longer detected: restart netbpf");
            }
            while let Err(error) = self.restore_filter(&state).await {
                tracing::warn!(%error, "restore the packet filter");
                tokio::time::sleep(TIMEOUT).await;
            }
        }
    }

    async fn restore_filter(&self, state: &State) -> Result<(), Error> {
        // While a network is created or removed, filter and state differ.
        let _nobody_else = state.network_changes.lock().await;
        let rules = state.world().rules();
        if self.firewall.is_whole().await? {
            self.firewall.admit(&rules).await;
            return Ok(());
        }
        self.firewall.restore(&rules).await?;
        let text = "somebody changed the packet filter: netbpf's part is put in place again";
        self.repairs.note(text.to_owned());
        Ok(())
    }
}
