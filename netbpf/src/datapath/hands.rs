//! What other people's hands do to the datapath: a program that they took away, an address that they gave to a host
//! device.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

use netbpf_common::{
    endpoint::{Neighbour, NeighbourKey},
    network::ifindex_of,
};

use super::{Datapath, Error, NetworkEntry, PortEntry, entries::Claim, programs::Role};

impl Datapath {
    /// Where a name that goes means a program that went (tcx only).
    pub fn links_folder(&self) -> PathBuf {
        self.pins.links()
    }

    /// What the maps say of a network.
    pub fn network_entry(&self, number: u32) -> Option<NetworkEntry> {
        let network = self.networks.get(&number)?;
        Some(NetworkEntry::of(network, self.closed(number)))
    }

    /// What the maps say of a port.
    pub fn port_entry(&self, number: u32) -> Option<PortEntry> {
        self.ports.get(&number).map(PortEntry::from)
    }

    /// Whether the kernel has the program at a network's host device, whose right name this is.
    pub fn is_host_device_attached(&mut self, interface: &str, right: &str) -> Result<bool, Error> {
        self.is_attached(Role::HostDevice, interface, right)
    }

    /// The same of a port's host side.
    pub fn is_port_attached(&mut self, interface: &str, right: &str) -> Result<bool, Error> {
        self.is_attached(Role::Port, interface, right)
    }

    /// Somebody took filters from an interface: ours may be one of them.
    pub fn may_be_detached(&mut self, interface: &str) {
        self.attached.remove(interface);
    }

    /// Makes a network's host device answer for addresses that somebody else gave it, and for no others of that kind. An
    /// address that a member has is the member's.
    pub fn answer_for(&mut self, number: u32, addresses: &BTreeSet<IpAddr>) -> Result<(), Error> {
        let Some(network) = self.networks.get(&number).copied() else { return Ok(()) };
        let neighbour = Neighbour { mac: network.mac, reserved: [0; 2] };
        let before = self.given.remove(&number).unwrap_or_default();
        let mut given = BTreeSet::new();
        for address in before.difference(addresses) {
            let key = key(number, *address);
            self.tables.remove_neighbour(key)?;
            self.claims.remove(&Claim::Address(key));
        }
        for address in addresses {
            let key = key(number, *address);
            match self.claims.get(&Claim::Address(key)) {
                Some(owner) if *owner != ifindex_of(number) => {
                    tracing::warn!(%address, "a host device has the address of a member, who keeps it");
                    continue;
                }
                Some(_) => {}
                None => {
                    self.tables.set_neighbour(key, neighbour)?;
                    self.claims.insert(Claim::Address(key), ifindex_of(number));
                }
            }
            given.insert(*address);
        }
        if !given.is_empty() {
            self.given.insert(number, given);
        }
        Ok(())
    }

    fn is_attached(&mut self, role: Role, interface: &str, right: &str) -> Result<bool, Error> {
        if !self.programs.is_attached(role, interface, right)? {
            self.attached.remove(right);
        }
        Ok(self.attached.contains(right))
    }
}

fn key(network: u32, address: IpAddr) -> NeighbourKey {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    NeighbourKey { network, address: address.octets() }
}
