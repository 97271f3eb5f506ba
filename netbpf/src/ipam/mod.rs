//! Addresses: which subnet a network gets, which address an endpoint gets in it, which port of the host a published
//! port gets. Docker's pools, order and errors. Pure: it is told what exists, and knows neither the host, nor the store,
//! nor the API.

mod lent;
mod occupied;
mod pool;
mod ports;
mod request;

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

pub use lent::Lent;
pub use occupied::{Occupied, ipv4_pools, ipv6_pools};
pub use pool::Pool;
pub use ports::{Ephemeral, PortError, Ports};
pub use request::{Request, Resolved};

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
    /// A network has one subnet a family.
    #[error("bridge driver doesn't support multiple subnets")]
    MultipleSubnets,
    /// The subnet is another network's, or the host has a route into it.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    Overlap,
    /// A network without addresses.
    #[error("IPv4 or IPv6 must be enabled")]
    NoFamily,
    /// No subnet is left to choose.
    #[error("all predefined address pools have been fully subnetted")]
    NoSubnetLeft,
    /// The gateway asked for is the network's or the broadcast address.
    #[error("failed to allocate gateway ({0}): Address already in use")]
    GatewayInUse(IpAddr),
    /// The range holds no address for a gateway.
    #[error("failed to allocate gateway (): no available addresses on this pool")]
    NoGatewayLeft,
    /// An auxiliary address is the gateway, another one, the network's or the broadcast address.
    #[error("failed to allocate secondary ip address ({name}:{address}): Address already in use")]
    AuxiliaryInUse {
        /// Its name.
        name: String,
        /// What is taken.
        address: IpAddr,
    },
    /// The address asked for is leased or reserved.
    #[error("Address already in use")]
    InUse,
    /// The address asked for is not in the subnet.
    #[error("no configured subnet contains IP address {0}")]
    Outside(IpAddr),
    /// Every address of the range is leased; see [`Error::in_network`].
    #[error("no available {0} addresses on this network's address pools")]
    NoAddressLeft(&'static str),
    /// Every address of this network's range is leased.
    #[error("no available {family} addresses on this network's address pools: {name} ({id})")]
    Exhausted {
        /// Of which there are none.
        family: &'static str,
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
            Self::NoAddressLeft(family) => {
                Self::Exhausted { family, name: network.name.clone(), id: network.id }
            }
            other => other,
        }
    }

    /// Its class.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Config(_) | Self::NoSubnet | Self::NoFamily | Self::NoSubnetLeft | Self::Outside(_) => {
                Refusal::Invalid
            }
            Self::MultipleSubnets
            | Self::Overlap
            | Self::GatewayInUse(_)
            | Self::AuxiliaryInUse { .. }
            | Self::InUse => Refusal::Forbidden,
            Self::NoGatewayLeft | Self::NoAddressLeft(_) | Self::Exhausted { .. } => Refusal::Conflict,
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
    HostBits(IpNet),
    /// A subnet of a family that the network is not to have, where Docker is silent.
    #[error("the network has no {0} without {1}")]
    FamilyOff(&'static str, &'static str),
    /// An address of one family in a subnet of the other.
    #[error("parent subnet is an {0} block")]
    OtherFamily(&'static str),
    /// A block that every IPv6 interface has addresses in.
    #[error("link-local addresses are every interface's own")]
    LinkLocal,
    /// Loopback, multicast, or the addresses that mean "this host".
    #[error("hosts have no addresses in {0}")]
    NoHosts(IpNet),
    /// A range that is more than the subnet.
    #[error("CIDR block is bigger than its parent subnet {0}")]
    Bigger(IpNet),
    /// A range elsewhere.
    #[error("parent subnet {0} doesn't contain ip-range")]
    RangeOutside(IpNet),
    /// An address elsewhere.
    #[error("parent subnet {0} doesn't contain this address")]
    AddressOutside(IpNet),
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
