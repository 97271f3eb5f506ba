//! Reads what the programs counted. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use netbpf_common::{
    drops::{DropKey, Drops},
    endpoint::MAX_ENDPOINTS,
    reason::Reason,
    stats::{Counter, EndpointStats},
};

use super::{Datapath, Error, entries::Claim, in_range, layouts};

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// Its name.
    pub map: &'static str,
    /// How many of its entries are in use.
    pub entries: usize,
    /// How many there can be. A map whose size depends on the room is smaller until it must be larger.
    pub capacity: u32,
}

impl Datapath {
    /// How full the maps are of which there is a copy in memory, and `DROPS`, which the kernel keeps full.
    ///
    /// # Errors
    /// [`Error::Failed`] if the map `DROPS` cannot be read.
    pub fn fill(&self) -> Result<Vec<MapFill>, Error> {
        let further = self.further.values().map(BTreeSet::len).sum();
        let macs = self.claims.keys().filter(|claim| matches!(claim, Claim::Mac(_))).count();
        let entries = [
            ("NETWORKS", self.networks.len()),
            ("ENDPOINTS", self.endpoints.len()),
            ("FDB", macs),
            ("NEIGHBOURS", self.claims.len() - macs),
            ("OWNED", self.owned.len()),
            ("ALLOWED", self.allowed.len()),
            ("FURTHER", further),
            ("DROPS", self.tables.drops()?.len()),
        ];
        let fill = |(map, entries)| Some(MapFill { map, entries, capacity: layouts::capacity(map)? });
        Ok(entries.into_iter().filter_map(fill).collect())
    }

    /// The number of frames by reason.
    ///
    /// # Errors
    /// [`Error::Failed`] if the map `REASONS` cannot be read.
    pub fn reasons(&self) -> Result<Vec<(Reason, Counter)>, Error> {
        self.tables.reasons()
    }

    /// What was dropped, by kind: the last 1,024 or so.
    ///
    /// # Errors
    /// [`Error::Failed`] if the map `DROPS` cannot be read.
    pub fn drops(&self) -> Result<BTreeMap<DropKey, Drops>, Error> {
        self.tables.drops()
    }

    /// An endpoint's counters.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; [`Error::Failed`] if the map `ENDPOINT_STATS` cannot be read.
    pub fn endpoint_stats(&self, number: u32) -> Result<EndpointStats, Error> {
        in_range("endpoint", number, MAX_ENDPOINTS)?;
        self.tables.endpoint_stats(number)
    }
}
