//! Addresses: which subnet a network gets, which address an endpoint gets in it, which port of the host a published
//! port gets. Docker's pools, order and errors. Pure: it is told what exists, and knows neither the host, nor the store,
//! nor the API.

mod occupied;
mod pool;
mod ports;
mod request;

use std::{fmt, net::Ipv4Addr};

use ipnet::Ipv4Net;

pub use occupied::Occupied;
pub use pool::Pool;
pub use ports::{Ephemeral, PortError, Ports};
pub use request::Request;

use crate::model::{Id, Network, Refusal};

/// Why there is no address or subnet. The texts are Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// What the user typed is wrong in itself.
    #[error("invalid network config:\n{}", List(.0))]
    Config(Vec<Fault>),
    /// A range, gateway or auxiliary address without a subnet to be in.
    #[error("every ip-range or gateway must have a corresponding subnet")]
    NoSubnet,
    /// A network has one subnet.
    #[error("bridge driver doesn't support multiple subnets")]
    MultipleSubnets,
    /// The subnet is another network's, or the host has a route into it.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    Overlap,
    /// No subnet is left to choose.
    #[error("all predefined address pools have been fully subnetted")]
    NoSubnetLeft,
    /// The gateway asked for is the network's or the broadcast address.
    #[error("failed to allocate gateway ({0}): Address already in use")]
    GatewayInUse(Ipv4Addr),
    /// The range holds no address for a gateway.
    #[error("failed to allocate gateway (): no available addresses on this pool")]
    NoGatewayLeft,
    /// An auxiliary address is the gateway, another one, the network's or the broadcast address.
    #[error("failed to allocate secondary ip address ({name}:{address}): Address already in use")]
    AuxiliaryInUse {
        /// Its name.
        name: String,
        /// What is taken.
        address: Ipv4Addr,
    },
    /// The address asked for is leased or reserved.
    #[error("Address already in use")]
    InUse,
    /// The address asked for is not in the subnet.
    #[error("no configured subnet contains IP address {0}")]
    Outside(Ipv4Addr),
    /// Every address of the range is leased; see [`Error::in_network`].
    #[error("no available IPv4 addresses on this network's address pools")]
    NoAddressLeft,
    /// Every address of this network's range is leased.
    #[error("no available IPv4 addresses on this network's address pools: {name} ({id})")]
    Exhausted {
        /// The network's name.
        name: String,
        /// The network.
        id: Id,
    },
}

impl Error {
    /// Names the network that a [`Pool`] does not know it belongs to.
    pub fn in_network(self, network: &Network) -> Self {
        match self {
            Self::NoAddressLeft => Self::Exhausted { name: network.name.clone(), id: network.id },
            other => other,
        }
    }

    /// Its class.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Config(_) | Self::NoSubnet | Self::NoSubnetLeft | Self::Outside(_) => Refusal::Invalid,
            Self::MultipleSubnets
            | Self::Overlap
            | Self::GatewayInUse(_)
            | Self::AuxiliaryInUse { .. }
            | Self::InUse => Refusal::Forbidden,
            Self::NoGatewayLeft | Self::NoAddressLeft | Self::Exhausted { .. } => Refusal::Conflict,
        }
    }
}

/// One thing that is wrong in a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {subject}: {flaw}")]
pub struct Fault {
    /// What the user typed.
    pub subject: Subject,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// A part of a [`Request`], as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `--subnet`.
    Subnet(String),
    /// `--ip-range`.
    Range(String),
    /// `--gateway`.
    Gateway(String),
    /// The name in `--aux-address`.
    Auxiliary(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subnet(text) => write!(f, "subnet {text}"),
            Self::Range(text) => write!(f, "ip-range {text}"),
            Self::Gateway(text) => write!(f, "gateway {text}"),
            Self::Auxiliary(name) => write!(f, "auxiliary address {name}"),
        }
    }
}

/// What can be wrong with a [`Subject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Not `ADDRESS/LENGTH`.
    #[error("invalid CIDR block notation")]
    NotABlock,
    /// Not an address.
    #[error("invalid address")]
    NotAnAddress,
    /// Host bits are set.
    #[error("it should be {0}")]
    HostBits(Ipv4Net),
    /// An IPv6 subnet.
    #[error("IPv6 subnets are not supported yet")]
    Ipv6,
    /// IPv6 in an IPv4 subnet.
    #[error("parent subnet is an IPv4 block")]
    OtherFamily,
    /// Loopback, multicast, or the addresses that mean "this host".
    #[error("hosts have no addresses in {0}")]
    NoHosts(Ipv4Net),
    /// A range that is more than the subnet.
    #[error("CIDR block is bigger than its parent subnet {0}")]
    Bigger(Ipv4Net),
    /// A range elsewhere.
    #[error("parent subnet {0} doesn't contain ip-range")]
    RangeOutside(Ipv4Net),
    /// An address elsewhere.
    #[error("parent subnet {0} doesn't contain this address")]
    AddressOutside(Ipv4Net),
}

/// Docker's way to print several errors: one as it is, more with a star each.
struct List<'a>(&'a [Fault]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [only] => write!(f, "{only}"),
            faults => {
                let lines: Vec<_> = faults.iter().map(|fault| format!("* {fault}")).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}
