//! The kernel objects of a network (host device) and of an endpoint (veth pair): the desired state and the
//! observed one. These are the only descriptions that `link` and `datapath` get.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};

use super::{
    closed::Closed,
    device::{Device, Mend},
    entry::{EndpointEntry, NetworkEntry},
    shaper::Shapers,
};
use crate::model::{
    Access, Attachment, Block, Bridge, Container, GSO_LEGACY_MAX_SIZE, Mac, Namespace, Network, OwnerNumber,
    Subnet, Sysctl,
};

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
    /// The IPv4 gateway address with the subnet's prefix length; none in networks without one.
    pub ipv4: Option<Ipv4Net>,
    /// The IPv6 gateway address with the subnet's prefix length. With it the device has the link-local address of its
    /// MAC.
    pub ipv6: Option<Ipv6Net>,
    /// A different default gateway of the containers; the host device answers for it too.
    pub default_gateway: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub default_gateway_ipv6: Option<Ipv6Addr>,
    /// Whether the device has no IPv4 address, although containers use it as gateway.
    pub inhibit: bool,
    /// In bytes.
    pub mtu: u32,
    /// The largest packet in bytes that is passed on in one piece; the limit of the uplinks if absent. It is
    /// not observed.
    pub gso_max_size: Option<u32>,
    /// Whether members talk to each other.
    pub icc: bool,
    /// How many copies of a member's broadcasts are sent per second at most; 0 for no limit.
    pub flood_copies: u32,
    /// Subnets that other hosts may not reach directly.
    pub closed: Closed,
}

impl NetworkWiring {
    /// The desired state of a network; `host` and `none` have none.
    pub fn of(network: &Network) -> Option<Self> {
        let bridge = network.bridge()?;
        let ipv6 = bridge.ipv6.as_ref().filter(|_| bridge.options.host_has_ipv6());
        Some(Self {
            number: bridge.number,
            device: bridge.device.to_string(),
            peer: bridge.peer.to_string(),
            mac: bridge.mac(),
            ipv4: bridge.ipv4.as_ref().and_then(gateway),
            ipv6: ipv6.and_then(gateway),
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
    /// Index in `ENDPOINTS`; the host side has ifindex `ENDPOINT_IFINDEX + number`.
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
    /// MTU of both ends, in bytes.
    pub mtu: u32,
    /// As [`NetworkWiring::gso_max_size`].
    pub gso_max_size: Option<u32>,
    /// Whether it may talk to other members.
    pub icc: bool,
    /// What it may send beyond its lease, and how frames reach it.
    pub access: Access,
    /// Whether the programs answer its queries for names of containers.
    pub asks: bool,
    /// The container.
    pub owner: Option<OwnerNumber>,
    /// Settings of the container's side.
    pub sysctls: Vec<Sysctl>,
    /// The network namespace of the container's side. None if that side stays in the host's namespace, for
    /// Docker to move.
    pub namespace: Option<Namespace>,
    /// The network namespace to which an engine moves the container's side, once it has said so.
    pub moved_to: Option<Namespace>,
}

impl EndpointWiring {
    /// The desired state of an endpoint of a container; none without an endpoint.
    pub fn of(
        attachment: &Attachment,
        bridge: &Bridge,
        container: &Container,
        namespace: Option<Namespace>,
    ) -> Option<Self> {
        let endpoint = attachment.endpoint.as_ref()?;
        let access = attachment.access(bridge);
        // Larger packets would be cut before they pass a queueing discipline.
        let small = access.limits.is_some().then_some(GSO_LEGACY_MAX_SIZE);
        Some(Self {
            number: endpoint.number,
            network: bridge.number,
            host_interface: endpoint.host_interface.to_string(),
            interface: endpoint.interface.to_string(),
            mac: endpoint.mac,
            ipv4: address(endpoint.ipv4, &bridge.ipv4),
            ipv6: address(endpoint.ipv6, &bridge.ipv6),
            mtu: bridge.options.mtu,
            gso_max_size: small.or(bridge.options.gso_max_size),
            icc: bridge.options.icc,
            access,
            asks: bridge.options.dns_intercept && container.owner().asks_elsewhere(),
            owner: container.owner_number(),
            sysctls: endpoint.sysctls.clone(),
            namespace,
            moved_to: container.moved_to(),
        })
    }

    /// The network namespace where the container's side is in the end.
    pub fn inside(&self) -> Option<&Namespace> {
        self.namespace.as_ref().or(self.moved_to.as_ref())
    }
}

/// A gateway with the prefix length of its subnet.
fn gateway<Net: Block>(subnet: &Subnet<Net>) -> Option<Net> {
    Some(subnet.net.with_host(subnet.gateway?))
}

/// The containers' default gateway, if it is not the host device's own address.
fn other_gateway<Net: Block>(subnet: &Subnet<Net>) -> Option<Net::Address> {
    subnet.default_gateway().filter(|address| Some(*address) != subnet.gateway)
}

/// An endpoint's address with the prefix length of the subnet that it is in.
fn address<Net: Block>(address: Option<Net::Address>, subnet: &Option<Subnet<Net>>) -> Option<Net> {
    Some(subnet.as_ref()?.net.with_host(address?))
}

/// The desired state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The group of all links, which identifies the owner.
    pub group: u32,
    /// By network number.
    pub networks: BTreeMap<u32, NetworkWiring>,
    /// By endpoint number.
    pub endpoints: BTreeMap<u32, EndpointWiring>,
}

/// The observed state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// By network number.
    pub networks: BTreeMap<u32, Seen<NetworkEntry>>,
    /// By endpoint number.
    pub endpoints: BTreeMap<u32, Seen<EndpointEntry>>,
}

impl Observed {
    /// What is observed if nothing of this is missing.
    pub fn of(desired: &Desired) -> Self {
        let networks = desired.networks.iter();
        let endpoints = desired.endpoints.iter();
        Self {
            networks: networks
                .map(|(number, network)| (*number, Seen::whole(&network.device, network.entry())))
                .collect(),
            endpoints: endpoints
                .map(|(number, endpoint)| (*number, Seen::whole(&endpoint.host_interface, endpoint.entry())))
                .collect(),
        }
    }
}

/// The observed state of a network or an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<Entry> {
    /// The name of the interface with its ifindex, if netbpf owns one.
    pub interface: Option<String>,
    /// Whether the interface is up.
    pub up: bool,
    /// Whether a program is attached to it.
    pub attached: bool,
    /// The configuration of the interface, if it was read.
    pub device: Option<Device>,
    /// The queueing disciplines of an endpoint, if they were read.
    pub shapers: Option<Shapers>,
    /// Its map entries.
    pub entry: Option<Entry>,
}

impl<Entry> Default for Seen<Entry> {
    fn default() -> Self {
        Self { interface: None, up: false, attached: false, device: None, shapers: None, entry: None }
    }
}

impl<Entry> Seen<Entry> {
    /// An interface with this configuration, if there is one, and these map entries.
    pub fn of(device: Option<Device>, attached: bool, entry: Option<Entry>) -> Self {
        let interface = device.as_ref().map(|device| device.name.clone());
        let up = device.as_ref().is_some_and(|device| device.up);
        Self { interface, up, attached, device, shapers: None, entry }
    }

    /// A complete network or endpoint with these map entries.
    fn whole(interface: &str, entry: Entry) -> Self {
        Self {
            interface: Some(interface.to_owned()),
            up: true,
            attached: true,
            device: None,
            shapers: None,
            entry: Some(entry),
        }
    }

    /// Whether the interface has this name or does not exist.
    fn has_name_or_none(&self, name: &str) -> bool {
        self.interface.as_deref().is_none_or(|interface| interface == name)
    }
    /// The configuration to restore.
    pub(super) fn mend(&self, desired: &Device) -> Option<Mend> {
        desired.mend(self.device.as_ref()?)
    }
}

impl Seen<NetworkEntry> {
    /// Whether it is this network's: it has the name, or it was renamed.
    pub(super) fn is_of_network(&self, network: &NetworkWiring) -> bool {
        self.has_name_or_none(&network.device) || self.entry == Some(network.entry())
    }
}

impl Seen<EndpointEntry> {
    /// The same for an endpoint.
    pub(super) fn is_of_endpoint(&self, endpoint: &EndpointWiring) -> bool {
        self.has_name_or_none(&endpoint.host_interface) || self.entry == Some(endpoint.entry())
    }
}
