//! What the maps hold of open endpoints: their further subnets, the MACs that the programs learnt of them, and the
//! byte of their network that leads frames to unknown stations to them. Must not know the programs' rules.

use std::collections::BTreeSet;

use ipnet::IpNet;
use netbpf_common::{
    access::{ENDPOINT_BITS, Further as FurtherValue, FurtherKey, OPEN, UNGUARDED},
    endpoint::Endpoint,
    network::Network,
};

use super::{Datapath, Error, entries::Entries, programs::OF_OPEN, tables::Further, warn};

impl Datapath {
    /// Changes the container of an endpoint, or what it may send. No frame is lost: entries are added before the guard is
    /// on, and removed after it is off.
    pub(super) fn change_endpoint(
        &mut self,
        number: u32,
        present: Endpoint,
        changed: Endpoint,
    ) -> Result<(), Error> {
        let (before, after) = (Entries::of_endpoint(&present), Entries::of_endpoint(&changed));
        if changed.access & OPEN != 0 {
            self.begin_open(changed.network)?;
        }
        if before.owned != after.owned {
            self.disown(&before)?;
        }
        self.enter(&after)?;
        self.set_endpoint(number, changed)?;
        let kept: BTreeSet<_> = after.claims().collect();
        for claim in before.claims().filter(|claim| !kept.contains(claim)) {
            self.remove_claim(claim, before.station)?;
        }
        if changed.access & UNGUARDED == 0 {
            self.forget_learnt(number, &present)?;
        }
        self.settle_open(changed.network)
    }

    /// Replaces the further subnets of an endpoint. If that fails, what was changed is undone.
    pub(super) fn exchange_further(
        &mut self,
        number: u32,
        before: &BTreeSet<IpNet>,
        after: &BTreeSet<IpNet>,
    ) -> Result<(), Error> {
        // The old ones first: the map may be full.
        self.try_exchange_further(number, before, after)
            .inspect_err(|_| warn(self.try_exchange_further(number, after, before)))
    }

    fn try_exchange_further(
        &mut self,
        number: u32,
        before: &BTreeSet<IpNet>,
        after: &BTreeSet<IpNet>,
    ) -> Result<(), Error> {
        for subnet in before.difference(after) {
            self.tables.remove_further(key(number, *subnet))?;
        }
        for subnet in after.difference(before) {
            let family = if subnet.addr().is_ipv4() { 4 } else { 6 };
            self.tables.add_further(key(number, *subnet), FurtherValue { family })?;
        }
        match after.is_empty() {
            true => self.further.remove(&number),
            false => self.further.insert(number, after.clone()),
        };
        Ok(())
    }

    /// The further subnets of an endpoint.
    pub(super) fn further_of(&self, number: u32) -> BTreeSet<IpNet> {
        self.further.get(&number).cloned().unwrap_or_default()
    }

    /// Notes whether an endpoint is open.
    pub(super) fn note_open(&mut self, number: u32, endpoint: &Endpoint) {
        let members = self.open.entry(endpoint.network).or_default();
        match endpoint.access & OPEN {
            0 => members.remove(&number),
            _ => members.insert(number),
        };
    }

    /// Leads frames to unknown stations of a network to its open members, from now on. Loads the programs for them.
    pub(super) fn begin_open(&mut self, network: u32) -> Result<(), Error> {
        self.programs.need(&OF_OPEN)?;
        self.set_open(network, 1)
    }

    /// Turns this on if the network has open members, else off.
    pub(super) fn settle_open(&mut self, network: u32) -> Result<(), Error> {
        let has_some = self.open.get(&network).is_some_and(|members| !members.is_empty());
        self.set_open(network, u8::from(has_some))?;
        self.settle_open_programs()
    }

    /// Releases the programs of open endpoints if there are none.
    pub(super) fn settle_open_programs(&mut self) -> Result<(), Error> {
        match self.open.values().any(|members| !members.is_empty()) {
            true => Ok(()),
            false => self.programs.release(&OF_OPEN),
        }
    }

    fn set_open(&mut self, number: u32, open: u8) -> Result<(), Error> {
        match self.networks.get(&number).copied() {
            Some(network) if network.open != open => self.set_network(number, Network { open, ..network }),
            Some(_) | None => Ok(()),
        }
    }

    /// Removes the MACs that were learnt of an endpoint, if it had no guard.
    pub(super) fn forget_learnt(&mut self, number: u32, endpoint: &Endpoint) -> Result<(), Error> {
        match endpoint.access & UNGUARDED {
            0 => Ok(()),
            _ => self.tables.forget_learnt(number, endpoint.network),
        }
    }

    /// Removes further subnets and learnt MACs of endpoints that do not exist any more, and repairs the bytes of the
    /// networks.
    pub(super) fn mend_open(&mut self) -> Result<(), Error> {
        if self.open.values().any(|members| !members.is_empty()) {
            self.programs.need(&OF_OPEN)?;
        }
        let lost: Vec<_> =
            self.further.keys().filter(|number| !self.endpoints.contains_key(number)).copied().collect();
        for number in lost {
            self.exchange_further(number, &self.further_of(number), &BTreeSet::new())?;
        }
        let endpoints = &self.endpoints;
        self.tables.keep_learnt(|number, network| {
            endpoints.get(&number).is_some_and(|endpoint| {
                endpoint.access & UNGUARDED != 0 && network.is_none_or(|network| network == endpoint.network)
            })
        })?;
        let networks: Vec<_> = self.networks.keys().copied().collect();
        networks.into_iter().try_for_each(|network| self.settle_open(network))
    }
}

/// The key of a subnet in the map `FURTHER`.
fn key(endpoint: u32, subnet: IpNet) -> Further {
    let (address, bits) = match subnet {
        IpNet::V4(net) => (net.network().to_ipv6_mapped(), 96 + u32::from(net.prefix_len())),
        IpNet::V6(net) => (net.network(), u32::from(net.prefix_len())),
    };
    Further::new(ENDPOINT_BITS + bits, FurtherKey { endpoint, address: address.octets() })
}

/// The endpoint and the subnet of a key in the map `FURTHER`.
pub fn further(key: &Further) -> (u32, Option<IpNet>) {
    let FurtherKey { endpoint, address } = key.data();
    let bits = key.prefix_len().saturating_sub(ENDPOINT_BITS) as u8;
    let address = std::net::Ipv6Addr::from(address);
    let subnet = match address.to_ipv4_mapped().filter(|_| bits >= 96) {
        Some(address) => IpNet::new(address.into(), bits - 96),
        None => IpNet::new(address.into(), bits),
    };
    (endpoint, subnet.ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_and_its_key_convert_into_each_other() {
        for subnet in ["10.5.0.100/32", "10.244.0.0/16", "0.0.0.0/0", "::/0", "2001:db8::/64", "fe80::1/128"]
        {
            let subnet: IpNet = subnet.parse().expect("a subnet");
            assert_eq!(further(&key(7, subnet)), (7, Some(subnet)));
        }
    }
}
