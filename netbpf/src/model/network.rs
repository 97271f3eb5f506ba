//! Networks: what a user makes, and the bridge that it is on the host. Knows no kernel and no map.

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Id, Mac, Options};

/// A network as the user made it, or one of the three that exist from the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// What refers to it.
    pub id: Id,
    /// Unique among networks.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it is made of.
    pub driver: Driver,
    /// No way out.
    pub internal: bool,
    /// Stored for `inspect`, as Docker does.
    pub attachable: bool,
    /// `-o key=value`.
    pub options: BTreeMap<String, String>,
    /// `--label key=value`.
    pub labels: BTreeMap<String, String>,
}

impl Network {
    /// Name of the default network.
    pub const DEFAULT: &'static str = "bridge";

    /// Whether it exists from the start and cannot be removed.
    pub fn is_predefined(&self) -> bool {
        matches!(self.name.as_str(), "bridge" | "host" | "none")
    }

    /// Whether its containers find each other by name: all but the default one, as with docker0.
    pub fn has_names(&self) -> bool {
        matches!(self.driver, Driver::Bridge(_)) && self.name != Self::DEFAULT
    }

    /// Its bridge; `host` and `none` have none.
    pub fn bridge(&self) -> Option<&Bridge> {
        match &self.driver {
            Driver::Bridge(bridge) => Some(bridge),
            Driver::Host | Driver::Null => None,
        }
    }
}

/// What a network is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "all but two networks are bridges")]
pub enum Driver {
    /// Ports, a host device, programs that forward between them.
    Bridge(Bridge),
    /// The host's own network namespace.
    Host,
    /// Nothing but `lo`.
    Null,
}

impl Driver {
    /// Docker's name of it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bridge(_) => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// The part of a network that exists on the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bridge {
    /// Index in the map `NETWORKS`; the host device has ifindex `NETWORK_IFINDEX + number`.
    pub number: u32,
    /// The host device that carries the gateway address: `netbpf0`, else `nb-` and 12 digits of the ID.
    pub device: String,
    /// The other end of the host device's veth pair: `nbp` and 12 digits of the ID. It only lends the host device its
    /// carrier; no frame reaches it.
    pub peer: String,
    /// Its addresses.
    pub subnet: Subnet,
    /// How it behaves.
    #[serde(flatten)]
    pub options: Options,
}

impl Bridge {
    /// MAC of the host device.
    pub fn mac(&self) -> Mac {
        Mac::of(self.subnet.gateway)
    }
}

/// An IPv4 subnet and what is not given away in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// No host bits set.
    pub net: Ipv4Net,
    /// Where addresses are taken from when none is asked for; the whole subnet if absent.
    pub range: Option<Ipv4Net>,
    /// Within `net`; what the host device carries.
    pub gateway: Ipv4Addr,
    /// `--aux-address`: reserved, by name.
    pub auxiliary: BTreeMap<String, Ipv4Addr>,
}

/// Docker's name of the auxiliary address that containers take for their gateway, in the place of the host device's.
const DEFAULT_GATEWAY: &str = "DefaultGatewayIPv4";

impl Subnet {
    /// What a container's default route leads through.
    pub fn default_gateway(&self) -> Ipv4Addr {
        self.auxiliary.get(DEFAULT_GATEWAY).copied().unwrap_or(self.gateway)
    }
}
