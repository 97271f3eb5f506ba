//! Keeps the packet filter in the state of the model: installs it at start, updates it with networks and
//! published ports, and restores it if others' changes removed it.

use std::{sync::Arc, time::Duration};

use crate::{
    daemon::{Daemon, Error},
    firewall::FilterChanges,
    model::Mapping,
    plan::NetworkRules,
};

/// Pause between attempts to restore the filter, which somebody else may be changing at the moment.
const TIMEOUT: Duration = Duration::from_secs(1);

impl Daemon {
    /// The rules of all networks, and of a new one.
    pub(in crate::daemon) fn rules(&self, new: Option<&NetworkRules>) -> Vec<NetworkRules> {
        let mut rules: Vec<_> = self.world().networks().filter_map(NetworkRules::of).collect();
        rules.extend(new.cloned());
        rules
    }

    /// Install the whole packet filter.
    pub(in crate::daemon) async fn replace_filter(&self) -> Result<(), Error> {
        let rules = self.rules(None);
        let mappings: Vec<Mapping> =
            self.world().containers().flat_map(|container| container.mappings.clone()).collect();
        Ok(self.host.firewall.replace(&rules, mappings).await?)
    }

    /// Guard the packet filter as long as the daemon runs: a reloaded firewall, or an engine that starts
    /// later, must not cut containers off.
    pub(in crate::daemon) async fn guard_filter(self: Arc<Self>) {
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
            while let Err(error) = self.restore_filter().await {
                tracing::warn!(%error, "restore the packet filter");
                tokio::time::sleep(TIMEOUT).await;
            }
        }
    }

    async fn restore_filter(&self) -> Result<(), Error> {
        // While a network is created or removed, filter and state differ.
        let _nobody_else = self.state.network_changes.lock().await;
        if self.host.firewall.is_whole().await? {
            self.host.firewall.admit(&self.rules(None)).await;
            return Ok(());
        }
        let text = "somebody changed the packet filter: netbpf's part is put in place again";
        self.host.repairs.note(text.to_owned());
        Ok(self.host.firewall.restore(&self.rules(None)).await?)
    }
}
