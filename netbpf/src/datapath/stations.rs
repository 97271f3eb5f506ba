//! Writes and removes the map entries of host devices and endpoints: where a MAC is, who has an address. Keeps two
//! stations of a network from having the same.

use netbpf_common::endpoint::{self, Owned, Station};

use super::{
    Datapath, Error,
    entries::{Claim, Entries},
};

impl Datapath {
    pub(super) fn all_entries(&self) -> impl Iterator<Item = Entries> {
        let networks = self.networks.iter().map(|(number, network)| Entries::of_network(*number, network));
        networks.chain(self.endpoints.values().map(Entries::of_endpoint))
    }

    /// Fails if another station of the network has the MAC or an address.
    pub(super) fn not_taken(&self, network: u32, entries: &Entries) -> Result<(), Error> {
        let is_others =
            |claim: &Claim| self.claims.get(claim).is_some_and(|owner| *owner != entries.station.ifindex);
        match entries.claims().find(is_others) {
            Some(claim) => Err(Error::Taken { address: claim.to_string(), network }),
            None => Ok(()),
        }
    }

    /// Adds a station's map entries.
    pub(super) fn enter(&mut self, entries: &Entries) -> Result<(), Error> {
        for claim in entries.claims() {
            match claim {
                Claim::Mac(key) => self.tables.set_station(key, entries.station)?,
                Claim::Address(key) => self.tables.set_neighbour(key, entries.neighbour)?,
            }
            self.claims.insert(claim, entries.station.ifindex);
        }
        if let Some(endpoint) = endpoint::number_of(entries.station.ifindex) {
            for key in &entries.owned {
                self.tables.set_owned(*key, Owned { endpoint })?;
                self.owned.insert(*key, endpoint);
            }
        }
        Ok(())
    }

    /// Removes the map entries of a station.
    pub(super) fn forget(&mut self, entries: &Entries) -> Result<(), Error> {
        for claim in entries.claims() {
            self.remove_claim(claim, entries.station)?;
        }
        self.disown(entries)
    }

    pub(super) fn remove_claim(&mut self, claim: Claim, station: Station) -> Result<(), Error> {
        match claim {
            Claim::Mac(key) => self.tables.remove_station(key, station)?,
            Claim::Address(key) => self.tables.remove_neighbour(key)?,
        }
        self.claims.remove(&claim);
        Ok(())
    }

    /// Removes the container's addresses of this endpoint. An address that the container has in two networks
    /// may be entered for another endpoint.
    pub(super) fn disown(&mut self, entries: &Entries) -> Result<(), Error> {
        let Some(endpoint) = endpoint::number_of(entries.station.ifindex) else { return Ok(()) };
        for key in &entries.owned {
            if self.owned.get(key) == Some(&endpoint) {
                self.tables.remove_owned(*key, endpoint)?;
                self.owned.remove(key);
            }
        }
        Ok(())
    }
}
