//! The map entries of a network and of an endpoint. Pure.

use netbpf_common::{
    endpoint::{self, Endpoint, NO_ENDPOINT},
    network::{self, Network},
};

use super::{
    closed::Closed,
    wiring::{EndpointWiring, NetworkWiring},
};
use crate::model::OwnerNumber;

/// The map entries of a network, without its list of members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkEntry {
    /// The value of `NETWORKS`, with an empty list.
    pub network: Network,
    /// Its entries in `CLOSED_SUBNETS`.
    pub closed: Closed,
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
            reserved: [0; 3],
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

    /// The value of `ENDPOINTS`, as the last member of its network.
    pub fn entry(&self) -> Endpoint {
        let link_local = self.ipv6.map(|_| self.mac.link_local());
        Endpoint {
            ifindex: self.ifindex(),
            network: self.network,
            next: NO_ENDPOINT,
            mac: self.mac.octets(),
            icc_off: u8::from(!self.icc),
            reserved: 0,
            ipv4: self.ipv4.map_or([0; 4], |net| net.addr().octets()),
            ipv6: self.ipv6.map_or([0; 16], |net| net.addr().octets()),
            ipv6_link_local: link_local.map_or([0; 16], |address| address.octets()),
            owner: self.owner.map_or(0, OwnerNumber::number),
        }
    }
}
