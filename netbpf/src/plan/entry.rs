//! The map entries of a network and of an endpoint. Pure.

use std::collections::BTreeSet;

use ipnet::IpNet;
use netbpf_common::{
    access::{ASKS, FURTHER, LIMITED, PLAIN, UNGUARDED},
    endpoint::{self, Endpoint, NO_ENDPOINT},
    limit::EgressLimit,
    network::{self, Network},
};

use super::{
    closed::Closed,
    wiring::{EndpointWiring, NetworkWiring},
};
use crate::model::{Access, OwnerNumber};

/// The map entries of a network, without what follows from its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkEntry {
    /// The value of `NETWORKS`, with an empty list.
    pub network: Network,
    /// Its entries in `CLOSED_SUBNETS`.
    pub closed: Closed,
}

/// The map entries of an endpoint, without its place in the list of members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointEntry {
    /// The value of `ENDPOINTS`, as the last member of its network.
    pub endpoint: Endpoint,
    /// Its subnets in `FURTHER`.
    pub further: BTreeSet<IpNet>,
    /// The value of `LIMITS`, with nothing used.
    pub limit: EgressLimit,
}

impl From<&Endpoint> for EndpointEntry {
    fn from(endpoint: &Endpoint) -> Self {
        Self { endpoint: *endpoint, ..Self::default() }
    }
}

impl NetworkWiring {
    /// The ifindex of the host device.
    pub fn ifindex(&self) -> u32 {
        network::ifindex_of(self.number)
    }

    /// Its map entries.
    pub fn entry(&self) -> NetworkEntry {
        let link_local = self.ipv6.map(|_| self.mac.link_local());
        let network = Network {
            ifindex: self.ifindex(),
            first: NO_ENDPOINT,
            mac: self.mac.octets(),
            icc_off: u8::from(!self.icc),
            prefix: self.ipv4.map_or(0, |net| net.prefix_len()),
            gateway: self.ipv4.map_or([0; 4], |net| net.addr().octets()),
            gateway_ipv6: self.ipv6.map_or([0; 16], |net| net.addr().octets()),
            ipv6_link_local: link_local.map_or([0; 16], |address| address.octets()),
            default_gateway: self.default_gateway.map_or([0; 4], |address| address.octets()),
            default_gateway_ipv6: self.default_gateway_ipv6.map_or([0; 16], |address| address.octets()),
            prefix_ipv6: self.ipv6.map_or(0, |net| net.prefix_len()),
            open: 0,
            inhibited: u8::from(self.inhibit),
            reserved: 0,
            flood_copies: self.flood_copies,
        };
        NetworkEntry { network, closed: self.closed }
    }
}

impl EndpointWiring {
    /// The ifindex of the host side.
    pub fn ifindex(&self) -> u32 {
        endpoint::ifindex_of(self.number)
    }

    /// Its map entries.
    pub fn entry(&self) -> EndpointEntry {
        let link_local = self.ipv6.map(|_| self.mac.link_local());
        let endpoint = Endpoint {
            ifindex: self.ifindex(),
            network: self.network,
            next: NO_ENDPOINT,
            mac: self.mac.octets(),
            icc_off: u8::from(!self.icc),
            access: self.access_bits(),
            ipv4: self.ipv4.map_or([0; 4], |net| net.addr().octets()),
            ipv6: self.ipv6.map_or([0; 16], |net| net.addr().octets()),
            ipv6_link_local: link_local.map_or([0; 16], |address| address.octets()),
            owner: self.owner.map_or(0, OwnerNumber::number),
        };
        EndpointEntry {
            endpoint,
            further: self.access.addresses.iter().copied().collect(),
            limit: self.egress_limit(),
        }
    }

    /// The bits of `Endpoint::access`. A frame that is redirected to the container's side passes no queueing discipline.
    fn access_bits(&self) -> u8 {
        let Access { guard, addresses, plain, limits } = &self.access;
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        bit(!guard, UNGUARDED)
            | bit(!addresses.is_empty(), FURTHER)
            | bit(*plain || limits.ingress.is_some(), PLAIN)
            | bit(limits.egress.is_some(), LIMITED)
            | bit(self.asks, ASKS)
    }
}
