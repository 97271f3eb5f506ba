//! The packet filter as the world wants it: put in place at start, changed with networks and published ports, put in
//! place again when somebody else's change took it along.

use std::{sync::Arc, time::Duration};

use crate::{
    api::types::{ForeignChain, ForeignChainState},
    daemon::{Daemon, Error},
    firewall::{Changes, Standing, State},
    model::Mapping,
    plan::NetworkRules,
};

/// Between two attempts to restore what somebody else may be changing at the moment.
const TIMEOUT: Duration = Duration::from_secs(1);

impl Daemon {
    /// The rules of all networks, and of one that is not among them yet.
    pub(in crate::daemon) fn rules(&self, new: Option<&NetworkRules>) -> Vec<NetworkRules> {
        let mut rules: Vec<_> = self.world().networks().filter_map(NetworkRules::of).collect();
        rules.extend(new.cloned());
        rules
    }

    /// Put the whole packet filter in place.
    pub(in crate::daemon) async fn replace_filter(&self) -> Result<(), Error> {
        let rules = self.rules(None);
        let mappings: Vec<Mapping> =
            self.world().containers().flat_map(|container| container.mappings.clone()).collect();
        Ok(self.firewall.replace(&rules, mappings).await?)
    }

    /// Look after the packet filter for as long as the daemon runs: a firewall that is reloaded, or an engine that starts
    /// later, must not cut containers off.
    pub(in crate::daemon) async fn guard_filter(self: Arc<Self>) {
        let mut changes = match Changes::watch() {
            Ok(changes) => changes,
            Err(error) => return tracing::error!(%error, "the packet filter is not looked after"),
        };
        loop {
            if let Err(error) = changes.next().await {
                return tracing::error!(%error, "the packet filter is not looked after any more");
            }
            while let Err(error) = self.restore_filter().await {
                tracing::warn!(%error, "restore the packet filter");
                tokio::time::sleep(TIMEOUT).await;
            }
        }
    }

    /// How containers fare in the chains of others, for whoever asks.
    pub(in crate::daemon) async fn standing_in_others(&self) -> Vec<ForeignChain> {
        let standing = self.firewall.standing_in_others().await;
        let word = |state| match state {
            State::Answered => ForeignChainState::Answered,
            State::Closed => ForeignChainState::Closed,
            State::Refused => ForeignChainState::Refused,
        };
        standing
            .into_iter()
            .map(|(chain, Standing { state, text })| ForeignChain { chain, state: word(state), text })
            .collect()
    }

    async fn restore_filter(&self) -> Result<(), Error> {
        // A network that is being made or removed is in the filter and not in the world, or the other way round.
        let _nobody_else = self.networks_busy.lock().await;
        if self.firewall.is_whole().await? {
            self.firewall.admit(&self.rules(None)).await;
            return Ok(());
        }
        tracing::info!("somebody changed the packet filter: netbpf's part is put in place again");
        Ok(self.firewall.restore(&self.rules(None)).await?)
    }
}
