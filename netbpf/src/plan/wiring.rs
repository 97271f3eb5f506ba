//! The two things that netbpf keeps in the kernel, a network's host device and an endpoint's port: as they should be,
//! and as they were seen.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};

use super::{
    closed::Closed,
    device::{Device, Mend},
};
use crate::model::{Block, Bridge, Endpoint, Mac, Namespace, Network, Owner, Subnet, Sysctl};

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
    /// The IPv4 gateway address with the subnet's prefix length.
    pub ipv4: Option<Ipv4Net>,
    /// The IPv6 gateway address with the subnet's prefix length. With it the device has the link-local address of its
    /// MAC.
    pub ipv6: Option<Ipv6Net>,
    /// Another address that containers take for their gateway: the device answers for it too.
    pub default_gateway: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub default_gateway_ipv6: Option<Ipv6Addr>,
    /// Whether the device has no IPv4 address, though containers take it for their gateway.
    pub inhibit: bool,
    /// In bytes.
    pub mtu: u32,
    /// The largest packet in bytes that is handed over in one piece; what uplinks take if absent. Nothing reads it back.
    pub gso_max_size: Option<u32>,
    /// Whether members talk to each other.
    pub icc: bool,
    /// How many copies a second of its frames to all a member may have made; 0 for any number.
    pub flood_copies: u32,
    /// What other hosts may not send to.
    pub closed: Closed,
}

impl NetworkWiring {
    /// How a network should be in the kernel; `host` and `none` are not there.
    pub fn of(network: &Network) -> Option<Self> {
        let bridge = network.bridge()?;
        let ipv6 = bridge.ipv6.as_ref().filter(|_| bridge.options.host_has_ipv6());
        Some(Self {
            number: bridge.number,
            device: bridge.device.to_string(),
            peer: bridge.peer.to_string(),
            mac: bridge.mac(),
            ipv4: bridge.ipv4.as_ref().map(gateway),
            ipv6: ipv6.map(gateway),
            default_gateway: bridge.ipv4.as_ref().and_then(other_gateway),
            default_gateway_ipv6: ipv6.and_then(other_gateway),
            inhibit: !bridge.options.host_has_ipv4(),
            mtu: bridge.options.mtu,
            gso_max_size: bridge.options.gso_max_size,
            icc: bridge.options.icc,
            flood_copies: bridge.options.flood_copies(),
            closed: Closed::of(network),
        })
    }

    /// Whether the map entry would be the same.
    pub fn same_entry(&self, other: &Self) -> bool {
        self.mac == other.mac
            && self.ipv4 == other.ipv4
            && self.ipv6 == other.ipv6
            && self.default_gateway == other.default_gateway
            && self.default_gateway_ipv6 == other.default_gateway_ipv6
            && self.icc == other.icc
            && self.flood_copies == other.flood_copies
            && self.closed == other.closed
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
    /// Its IPv4 address with the subnet's prefix length.
    pub ipv4: Option<Ipv4Net>,
    /// Its IPv6 address with the subnet's prefix length. With it the interface has the link-local address of its MAC.
    pub ipv6: Option<Ipv6Net>,
    /// Of both ends, in bytes.
    pub mtu: u32,
    /// As that of the network.
    pub gso_max_size: Option<u32>,
    /// Whether it talks to other members.
    pub icc: bool,
    /// The container.
    pub owner: Option<Owner>,
    /// Settings of the container's side. Nothing reads them back: an observed port has none.
    pub sysctls: Vec<Sysctl>,
    /// Where the container's side is made; none where it is made among the host's own links, for Docker to take. Nothing
    /// reads it back from the kernel: an observed port has none.
    pub namespace: Option<Namespace>,
}

impl PortWiring {
    /// How an endpoint of `owner` should be in the kernel.
    pub fn of(
        endpoint: &Endpoint,
        bridge: &Bridge,
        owner: Option<Owner>,
        namespace: Option<Namespace>,
    ) -> Self {
        Self {
            number: endpoint.port,
            network: bridge.number,
            host_interface: endpoint.host_interface.to_string(),
            interface: endpoint.interface.to_string(),
            mac: endpoint.mac,
            ipv4: address(endpoint.ipv4, &bridge.ipv4),
            ipv6: address(endpoint.ipv6, &bridge.ipv6),
            mtu: bridge.options.mtu,
            gso_max_size: bridge.options.gso_max_size,
            icc: bridge.options.icc,
            owner,
            sysctls: endpoint.sysctls.clone(),
            namespace,
        }
    }

    /// Whether the map entries would be the same.
    pub fn same_entry(&self, other: &Self) -> bool {
        self.network == other.network
            && self.mac == other.mac
            && same(self.ipv4, other.ipv4)
            && same(self.ipv6, other.ipv6)
            && self.icc == other.icc
            && self.owner == other.owner
    }
}

/// A gateway with the prefix length of its subnet.
fn gateway<Net: Block>(subnet: &Subnet<Net>) -> Net {
    subnet.net.with_host(subnet.gateway)
}

/// What containers take for their gateway, where that is not the host device's own address.
fn other_gateway<Net: Block>(subnet: &Subnet<Net>) -> Option<Net::Address> {
    Some(subnet.default_gateway()).filter(|address| *address != subnet.gateway)
}

/// An endpoint's address with the prefix length of the subnet that it is in.
fn address<Net: Block>(address: Option<Net::Address>, subnet: &Option<Subnet<Net>>) -> Option<Net> {
    Some(subnet.as_ref()?.net.with_host(address?))
}

/// Whether the addresses are the same; prefix lengths are not in the map `PORTS`.
fn same<Net: Block>(one: Option<Net>, other: Option<Net>) -> bool {
    one.map(|net| net.host()) == other.map(|net| net.host())
}

/// What should be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Of all links: whose they are.
    pub group: u32,
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
    /// What was read of it, if it was looked at.
    pub device: Option<Device>,
    /// What its map entries say.
    pub entry: Option<Entry>,
}

impl<Entry> Default for Seen<Entry> {
    fn default() -> Self {
        Self { interface: None, up: false, attached: false, device: None, entry: None }
    }
}

impl<Entry> Seen<Entry> {
    /// All there, as `entry` says.
    pub fn whole(interface: &str, entry: Entry) -> Self {
        Self {
            interface: Some(interface.to_owned()),
            up: true,
            attached: true,
            device: None,
            entry: Some(entry),
        }
    }

    /// Whether what was seen can be kept for an interface of this name: it has that name, or there is none.
    fn is_at_home(&self, name: &str) -> bool {
        self.interface.as_deref().is_none_or(|interface| interface == name)
    }
    /// What has to be put back of it.
    pub(super) fn mend(&self, desired: &Device) -> Option<Mend> {
        desired.mend(self.device.as_ref()?)
    }
}

impl Seen<NetworkWiring> {
    /// Whether it can be kept: it has the name, or it was renamed.
    pub(super) fn is_of_network(&self, network: &NetworkWiring) -> bool {
        self.is_at_home(&network.device) || self.entry.as_ref().is_some_and(|entry| entry.same_entry(network))
    }
}

impl Seen<PortWiring> {
    /// The same for a port.
    pub(super) fn is_of_port(&self, port: &PortWiring) -> bool {
        self.is_at_home(&port.host_interface)
            || self.entry.as_ref().is_some_and(|entry| entry.same_entry(port))
    }
}
