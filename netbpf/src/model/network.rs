//! Networks: what a user makes, and the bridge that it is on the host. Knows no kernel and no map.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Block, Id, InterfaceName, Mac, Options, lookup::Named};

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
    /// Who made it.
    #[serde(default, skip_serializing_if = "Origin::is_own")]
    pub origin: Origin,
}

/// Who made a network, and so who removes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// netbpf's own commands, or netbpf itself.
    #[default]
    Netbpf,
    /// Docker, whose network driver netbpf is. Addresses in it are Docker's to give away.
    Docker,
}

impl Origin {
    /// Whether it is netbpf's own.
    pub fn is_own(&self) -> bool {
        *self == Self::Netbpf
    }
}

impl Named for Network {
    fn id(&self) -> Id {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }
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

    /// What it is listed as made of: Docker knows its own by the name of this driver.
    pub fn driver_name(&self) -> &'static str {
        match self.origin {
            Origin::Netbpf => self.driver.name(),
            Origin::Docker => "netbpf",
        }
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
    pub device: InterfaceName,
    /// The other end of the host device's veth pair: `nbp` and 12 digits of the ID. It only lends the host device its
    /// carrier; no frame reaches it.
    pub peer: InterfaceName,
    /// Its IPv4 addresses; absent in a network of IPv6 only.
    #[serde(rename = "subnet", default)]
    pub ipv4: Option<Subnet<Ipv4Net>>,
    /// Its IPv6 addresses; absent in a network of IPv4 only. It has at least one of the two.
    #[serde(rename = "subnet_ipv6", default)]
    pub ipv6: Option<Subnet<Ipv6Net>>,
    /// How it behaves.
    #[serde(flatten)]
    pub options: Options,
}

impl Bridge {
    /// MAC of the host device.
    pub fn mac(&self) -> Mac {
        match (&self.ipv4, &self.ipv6) {
            (Some(subnet), _) => Mac::of(subnet.gateway),
            (None, Some(subnet)) => Mac::of_ipv6(subnet.gateway),
            (None, None) => Mac::of([0; 4].into()),
        }
    }

    /// Its subnets, IPv4 first.
    pub fn nets(&self) -> impl Iterator<Item = IpNet> {
        let ipv4 = self.ipv4.as_ref().map(|subnet| subnet.net.into());
        ipv4.into_iter().chain(self.ipv6.as_ref().map(|subnet| subnet.net.into()))
    }
}

/// A subnet of one family and what is not given away in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Subnet<Net: Block> {
    /// No host bits set.
    pub net: Net,
    /// Where addresses are taken from when none is asked for; the whole subnet if absent.
    pub range: Option<Net>,
    /// Within `net`; what the host device carries.
    pub gateway: Net::Address,
    /// `--aux-address`: reserved, by name.
    pub auxiliary: BTreeMap<String, Net::Address>,
}

/// What Docker's name of the auxiliary address begins with that containers take for their gateway, in the place of the
/// host device's; the family follows.
const DEFAULT_GATEWAY: &str = "DefaultGateway";

impl<Net: Block> Subnet<Net> {
    /// What a container's default route leads through.
    pub fn default_gateway(&self) -> Net::Address {
        let named = |name: &str| name.strip_prefix(DEFAULT_GATEWAY) == Some(Net::FAMILY);
        let asked = self.auxiliary.iter().find(|(name, _)| named(name));
        asked.map_or(self.gateway, |(_, address)| *address)
    }
}
