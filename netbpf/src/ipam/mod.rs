//! Address management: chooses a network's subnet, an endpoint's address in it, and the host port of a published port.
//! Docker's pools, order and errors. Pure: callers say what exists; it knows neither the host, nor the store, nor the
//! API.

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod lent;
mod occupied;
mod pool;
mod ports;
mod request;

use std::{collections::BTreeMap, fmt, net::IpAddr};

use ipnet::IpNet;

pub use lent::Lent;
pub use occupied::{Occupied, ipv4_pools, ipv6_pools};
pub use pool::Pool;
pub use ports::{Ephemeral, PortError, Ports};
pub use request::{Request, Requested, Resolved};

use crate::model::{Id, Network, Refusal};

/// Why an address or a subnet cannot be given. The texts are Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The user's input is wrong in itself.
    #[error("invalid network config:\n{}", List(.0))]
    Config(Vec<Fault>),
    /// An option of `--ipam-opt`.
    #[error("unknown IPAM option {}: none is known", .0.escape_debug())]
    UnknownOption(String),
    /// A range, gateway or auxiliary address was given without a subnet.
    #[error("every ip-range or gateway must have a corresponding subnet")]
    NoSubnet,
    /// Two subnets of the same family were given.
    #[error("bridge driver doesn't support multiple subnets")]
    MultipleSubnets,
    /// The subnet overlaps that of another network or a route of the host.
    #[error("invalid pool request: Pool overlaps with other one on this address space")]
    Overlap,
    /// Both families are turned off.
    #[error("IPv4 or IPv6 must be enabled")]
    NoFamily,
    /// The default pools have no free subnet.
    #[error("all predefined address pools have been fully subnetted")]
    NoSubnetLeft,
    /// The requested gateway is the network or the broadcast address.
    #[error("failed to allocate gateway ({0}): Address already in use")]
    GatewayInUse(IpAddr),
    /// The range holds no address for a gateway.
    #[error("failed to allocate gateway (): no available addresses on this pool")]
    NoGatewayLeft,
    /// An auxiliary address is the gateway, another auxiliary address, the network or the broadcast address.
    #[error("failed to allocate secondary ip address ({}:{address}): Address already in use", .name.escape_debug())]
    AuxiliaryInUse {
        /// The name of the auxiliary address.
        name: String,
        /// The address.
        address: IpAddr,
    },
    /// The requested address is leased or reserved.
    #[error("Address already in use")]
    InUse,
    /// The requested address is outside the subnet.
    #[error("no configured subnet contains IP address {0}")]
    Outside(IpAddr),
    /// All addresses of the range are leased. [`Error::in_network`] adds the network's name.
    #[error("no available {0} addresses on this network's address pools")]
    NoAddressLeft(&'static str),
    /// All addresses of the network's range are leased.
    #[error("no available {family} addresses on this network's address pools: {name} ({id})")]
    Exhausted {
        /// The address family, `IPv4` or `IPv6`.
        family: &'static str,
        /// The name of the network.
        name: String,
        /// The ID of the network.
        id: Id,
    },
}

impl Error {
    /// Adds the network's name to [`Error::NoAddressLeft`], because a [`Pool`] does not know its network.
    pub fn in_network(self, network: &Network) -> Self {
        match self {
            Self::NoAddressLeft(family) => {
                Self::Exhausted { family, name: network.name.clone(), id: network.id }
            }
            other => other,
        }
    }

    /// The class of the refusal.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Config(_)
            | Self::UnknownOption(_)
            | Self::NoSubnet
            | Self::NoFamily
            | Self::NoSubnetLeft
            | Self::Outside(_) => Refusal::Invalid,
            Self::MultipleSubnets
            | Self::Overlap
            | Self::GatewayInUse(_)
            | Self::AuxiliaryInUse { .. }
            | Self::InUse => Refusal::Forbidden,
            Self::NoGatewayLeft | Self::NoAddressLeft(_) | Self::Exhausted { .. } => Refusal::Conflict,
        }
    }
}

/// Checks options of `--ipam-opt`: none is known.
///
/// # Errors
/// [`Error::UnknownOption`] for the first option.
pub fn check_options(options: &BTreeMap<String, String>) -> Result<(), Error> {
    match options.keys().next() {
        None => Ok(()),
        Some(option) => Err(Error::UnknownOption(option.clone())),
    }
}

/// One thing that is wrong in a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {argument}: {flaw}")]
pub struct Fault {
    /// The part of the request.
    pub argument: Argument,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// A part of a [`Request`], as the user typed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// `--subnet`.
    Subnet(String),
    /// `--ip-range`.
    Range(String),
    /// `--gateway`.
    Gateway(String),
    /// The name in `--aux-address`.
    Auxiliary(String),
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subnet(text) => write!(f, "subnet {}", text.escape_debug()),
            Self::Range(text) => write!(f, "ip-range {}", text.escape_debug()),
            Self::Gateway(text) => write!(f, "gateway {}", text.escape_debug()),
            Self::Auxiliary(name) => write!(f, "auxiliary address {}", name.escape_debug()),
        }
    }
}

/// What is wrong with an [`Argument`].
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
    /// The subnet's family is turned off in this network. Docker ignores such a subnet silently.
    #[error("the network has no {0} without {1}")]
    FamilyOff(&'static str, &'static str),
    /// An address of one family in a subnet of the other.
    #[error("parent subnet is an {0} block")]
    OtherFamily(&'static str),
    /// An IPv6 link-local block, which exists on every interface.
    #[error("link-local addresses are every interface's own")]
    LinkLocal,
    /// Loopback, multicast, or the addresses that mean "this host".
    #[error("hosts have no addresses in {0}")]
    NoHosts(IpNet),
    /// The range is larger than the subnet.
    #[error("CIDR block is bigger than its parent subnet {0}")]
    Bigger(IpNet),
    /// The range is outside the subnet.
    #[error("parent subnet {0} doesn't contain ip-range")]
    RangeOutside(IpNet),
    /// The address is outside the subnet.
    #[error("parent subnet {0} doesn't contain this address")]
    AddressOutside(IpNet),
}

/// Prints errors as Docker does: a single one as it is, several as a list with stars.
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
