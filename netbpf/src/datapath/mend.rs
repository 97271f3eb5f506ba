//! Makes the maps consistent, after a daemon died in the middle of a change: completes the lists of members,
//! and keeps only MACs and addresses of existing networks and endpoints. Must not know interfaces.

use std::collections::BTreeSet;

use super::{Datapath, Error, members};

impl Datapath {
    /// Writes missing entries and removes those without a network or endpoint.
    pub(super) fn mend(&mut self) -> Result<(), Error> {
        let lost: Vec<_> = self
            .endpoints
            .iter()
            .filter(|(_, endpoint)| !self.networks.contains_key(&endpoint.network))
            .map(|(number, _)| *number)
            .collect();
        for number in lost {
            self.vacate_endpoint(number)?;
        }
        let changes = members::repair(&self.networks, &self.endpoints);
        for (number, endpoint) in changes.endpoints {
            self.set_endpoint(number, endpoint)?;
        }
        for (number, network) in changes.networks {
            self.set_network(number, network)?;
        }
        self.before = members::all_before(&self.networks, &self.endpoints);
        let all: Vec<_> = self.all_entries().collect();
        for entries in &all {
            self.enter(entries)?;
        }
        let macs: BTreeSet<_> =
            all.iter().filter_map(|entries| entries.mac).map(|mac| (mac.network, mac.mac)).collect();
        for (key, station) in self.tables.fdb()? {
            if !macs.contains(&(key.network, key.mac)) {
                self.tables.remove_station(key, station)?;
            }
        }
        let addresses: BTreeSet<_> =
            all.iter().flat_map(|entries| &entries.addresses).map(|key| (key.network, key.address)).collect();
        for (key, _) in self.tables.neighbours()? {
            if !addresses.contains(&(key.network, key.address)) {
                self.tables.remove_neighbour(key)?;
            }
        }
        for (key, owned) in self.tables.owned()? {
            if !self.owned.contains_key(&key) {
                self.tables.remove_owned(key, owned.endpoint)?;
            }
        }
        self.mend_names()?;
        self.mend_limits()?;
        self.mend_open()?;
        self.mend_closed()
    }
}
