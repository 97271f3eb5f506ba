//! The two things that netbpf keeps in the kernel, a network's host device and an endpoint's veth pair: as they should
//! be, and as they were seen. These descriptions are what `link` and `datapath` are told; nobody else describes them.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};

use netbpf_common::endpoint::Endpoint;

use super::{
    closed::Closed,
    device::{Device, Mend},
    entry::NetworkEntry,
};
use crate::model::{self, Block, Bridge, Mac, Namespace, Network, Owner, Subnet, Sysctl};

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
}

/// An endpoint's veth pair and its entries in the maps `ENDPOINTS`, `FDB` and `NEIGHBOURS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointWiring {
    /// Its number: index in the map `ENDPOINTS`, and ifindex of the host side above a base.
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
    /// Settings of the container's side.
    pub sysctls: Vec<Sysctl>,
    /// The network namespace where the container's side is made; none where it is made among the host's own links, for
    /// Docker to take.
    pub namespace: Option<Namespace>,
}

impl EndpointWiring {
    /// How an endpoint of `owner` should be in the kernel.
    pub fn of(
        endpoint: &model::Endpoint,
        bridge: &Bridge,
        owner: Option<Owner>,
        namespace: Option<Namespace>,
    ) -> Self {
        Self {
            number: endpoint.number,
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

/// What should be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Of all links: whose they are.
    pub group: u32,
    /// By network number.
    pub networks: BTreeMap<u32, NetworkWiring>,
    /// By endpoint number.
    pub endpoints: BTreeMap<u32, EndpointWiring>,
}

/// What is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// By network number.
    pub networks: BTreeMap<u32, Seen<NetworkEntry>>,
    /// By endpoint number.
    pub endpoints: BTreeMap<u32, Seen<Endpoint>>,
}

/// What was seen of a network or an endpoint.
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

impl Seen<NetworkEntry> {
    /// Whether it can be kept: it has the name, or it was renamed.
    pub(super) fn is_of_network(&self, network: &NetworkWiring) -> bool {
        self.is_at_home(&network.device) || self.entry == Some(network.entry())
    }
}

impl Seen<Endpoint> {
    /// The same for an endpoint.
    pub(super) fn is_of_endpoint(&self, endpoint: &EndpointWiring) -> bool {
        self.is_at_home(&endpoint.host_interface) || self.entry == Some(endpoint.entry())
    }
}
