//! The packet filter in memory, with the methods of the real one.

use std::{collections::BTreeMap, io, net::IpAddr};

use super::Machine;
use crate::{
    firewall::{Counted, Error, FilterChanges, Standing},
    model::Mapping,
    plan::{NetworkRules, Unleased},
};

/// See [`crate::firewall::Firewall`].
#[derive(Default)]
pub struct Firewall {
    pub machine: Machine,
}

fn by_device(networks: &[NetworkRules]) -> BTreeMap<String, NetworkRules> {
    networks.iter().map(|rules| (rules.device.to_string(), rules.clone())).collect()
}

fn refused(error: io::Error) -> Error {
    Error::Others(error)
}

impl Firewall {
    pub async fn open(_: String, _: u32) -> Result<Self, Error> {
        Ok(Self::default())
    }

    pub async fn replace(
        &self,
        networks: &[NetworkRules],
        mappings: impl IntoIterator<Item = Mapping>,
    ) -> Result<(), Error> {
        let (rules, published) = (by_device(networks), mappings.into_iter().collect());
        let replaced = self.machine.call("replace the filter", |state| {
            (state.rules, state.published) = (rules, published);
        });
        replaced.map_err(refused)
    }

    pub async fn restore(&self, networks: &[NetworkRules]) -> Result<(), Error> {
        let rules = by_device(networks);
        self.machine.call("restore the filter", |state| state.rules = rules).map_err(refused)
    }

    pub async fn is_whole(&self) -> Result<bool, Error> {
        Ok(true)
    }

    pub async fn admit(&self, _: &[NetworkRules]) {}

    pub async fn standing_in_others(&self) -> BTreeMap<String, Standing> {
        BTreeMap::new()
    }

    pub async fn watching_chains(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    pub async fn add_network(&self, network: &NetworkRules, all: &[NetworkRules]) -> Result<(), Error> {
        assert!(all.contains(network), "all rules contain the new ones");
        let (device, rules) = (network.device.to_string(), network.clone());
        self.machine.call("add rules", |state| drop(state.rules.insert(device, rules))).map_err(refused)
    }

    pub async fn remove_network(&self, network: &NetworkRules, _: &[NetworkRules]) -> Result<(), Error> {
        let removed = self.machine.call("remove rules", |state| drop(state.rules.remove(&*network.device)));
        removed.map_err(refused)
    }

    pub fn changes_by_others(&self) -> Result<FilterChanges, Error> {
        FilterChanges::watch()
    }

    pub async fn publish(&self, mappings: &[Mapping]) -> Result<(), Error> {
        self.machine.call("publish", |state| state.published.extend(mappings)).map_err(refused)
    }

    pub async fn withdraw(&self, mappings: &[Mapping], _: &[IpAddr]) -> Result<(), Error> {
        let withdrawn = self.machine.call("withdraw", |state| {
            state.published.retain(|mapping| !mappings.contains(mapping));
        });
        withdrawn.map_err(refused)
    }

    pub async fn forget(&self, addresses: impl IntoIterator<Item = IpAddr>) -> Result<(), Error> {
        let forgotten = self.machine.call("forget flows", |state| {
            for address in addresses {
                state.flows.remove(&address);
            }
        });
        forgotten.map_err(refused)
    }

    pub async fn forget_unleased(&self, unleased: &Unleased) -> Result<(), Error> {
        let forgotten = self.machine.call("forget unleased flows", |state| {
            state.flows.retain(|address| !unleased.contains(*address));
        });
        forgotten.map_err(refused)
    }

    pub async fn close_to_others(&self, is_ipv4: bool) -> Result<bool, Error> {
        self.machine.call("close to others", |state| state.closed.insert(is_ipv4)).map_err(refused)
    }

    pub async fn open_to_others(&self, is_ipv4: bool) -> Result<(), Error> {
        self.machine.call("open to others", |state| state.closed.remove(&is_ipv4)).map(drop).map_err(refused)
    }

    pub async fn of_other_daemons(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    pub async fn dropped(&self) -> Result<Vec<Counted>, Error> {
        Ok(Vec::new())
    }

    pub async fn clear(&self) -> Result<(), Error> {
        let cleared = self.machine.call("clear the filter", |state| {
            state.rules.clear();
            state.published.clear();
            state.closed.clear();
        });
        cleared.map_err(refused)
    }
}
