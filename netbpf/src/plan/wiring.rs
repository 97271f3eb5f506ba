//! The two things that netbpf keeps in the kernel, a network's host device and an endpoint's port: as they should be,
//! and as they were seen.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::model::{Bridge, Endpoint, Mac, Namespace, Sysctl};

/// A network's host device and its entry in the map `NETWORKS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkWiring {
    /// Index in `NETWORKS`.
    pub number: u32,
    /// The host device.
    pub device: String,
    /// The other end of its veth pair.
    pub peer: String,
    /// The host device's MAC.
    pub mac: Mac,
    /// The gateway address with the subnet's prefix length.
    pub address: Ipv4Net,
    /// Whether the device has no address, though containers take it for their gateway.
    pub inhibit: bool,
    /// In bytes.
    pub mtu: u32,
    /// Whether members talk to each other.
    pub icc: bool,
}

impl NetworkWiring {
    /// How a bridge should be in the kernel.
    pub fn of(bridge: &Bridge) -> Self {
        Self {
            number: bridge.number,
            device: bridge.device.clone(),
            peer: bridge.peer.clone(),
            mac: bridge.mac(),
            address: with_prefix(bridge.subnet.gateway, bridge.subnet.net),
            inhibit: !bridge.options.host_has_ipv4(),
            mtu: bridge.options.mtu,
            icc: bridge.options.icc,
        }
    }

    /// Whether the map entry would be the same.
    pub fn same_entry(&self, other: &Self) -> bool {
        self.mac == other.mac && self.address.addr() == other.address.addr() && self.icc == other.icc
    }
}

/// An endpoint's veth pair and its entries in the maps `PORTS`, `FDB` and `NEIGHBOURS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortWiring {
    /// Index in `PORTS`.
    pub number: u32,
    /// Index in `NETWORKS`.
    pub network: u32,
    /// The host side of the veth pair.
    pub host_interface: String,
    /// The container's side.
    pub interface: String,
    /// The container's MAC.
    pub mac: Mac,
    /// Its address with the subnet's prefix length.
    pub address: Ipv4Net,
    /// Of both ends, in bytes.
    pub mtu: u32,
    /// Whether it talks to other members.
    pub icc: bool,
    /// Settings of the container's side. Nothing reads them back: an observed port has none.
    pub sysctls: Vec<Sysctl>,
    /// Where the container's side is. Nothing reads it back from the kernel: an observed port has none.
    pub namespace: Option<Namespace>,
}

impl PortWiring {
    /// How an endpoint should be in the kernel.
    pub fn of(endpoint: &Endpoint, bridge: &Bridge, namespace: Namespace) -> Self {
        Self {
            number: endpoint.port,
            network: bridge.number,
            host_interface: endpoint.host_interface.clone(),
            interface: endpoint.interface.clone(),
            mac: endpoint.mac,
            address: with_prefix(endpoint.ipv4, bridge.subnet.net),
            mtu: bridge.options.mtu,
            icc: bridge.options.icc,
            sysctls: endpoint.sysctls.clone(),
            namespace: Some(namespace),
        }
    }

    /// Whether the map entries would be the same.
    pub fn same_entry(&self, other: &Self) -> bool {
        self.network == other.network
            && self.mac == other.mac
            && self.address.addr() == other.address.addr()
            && self.icc == other.icc
    }
}

/// `address` with the prefix length of the subnet that it is in.
fn with_prefix(address: Ipv4Addr, net: Ipv4Net) -> Ipv4Net {
    Ipv4Net::new_assert(address, net.prefix_len())
}

/// What should be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// By network number.
    pub networks: BTreeMap<u32, NetworkWiring>,
    /// By port number.
    pub ports: BTreeMap<u32, PortWiring>,
}

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// By network number.
    pub networks: BTreeMap<u32, Seen<NetworkWiring>>,
    /// By port number.
    pub ports: BTreeMap<u32, Seen<PortWiring>>,
}

/// What was seen of a network or a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<Entry> {
    /// The interface of its ifindex, if there is one of ours.
    pub interface: Option<String>,
    /// Whether that is up.
    pub up: bool,
    /// Whether a program is attached to it.
    pub attached: bool,
    /// What its map entries say.
    pub entry: Option<Entry>,
}

impl<Entry> Default for Seen<Entry> {
    fn default() -> Self {
        Self { interface: None, up: false, attached: false, entry: None }
    }
}

impl<Entry> Seen<Entry> {
    /// All there, as `entry` says.
    pub fn whole(interface: &str, entry: Entry) -> Self {
        Self { interface: Some(interface.to_owned()), up: true, attached: true, entry: Some(entry) }
    }

    /// Whether what was seen can be kept for an interface of this name: it has that name, or there is none.
    pub(super) fn is_at_home(&self, name: &str) -> bool {
        self.interface.as_deref().is_none_or(|interface| interface == name)
    }
}
