//! Networks: the user's settings, and the names and numbers that a network has on the host. Must not know how these
//! are used there. Its serde attributes are the format on the disk.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AccessOptions, Block, DOCKER, Id, InterfaceName, Mac, Manager, Options, lookup::Named};

/// A network that a user created, or one of the three predefined ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Its ID.
    pub id: Id,
    /// Unique among networks.
    pub name: String,
    /// Time of its creation.
    pub created: Timestamp,
    /// Its driver.
    pub driver: Driver,
    /// Whether traffic can neither leave nor enter it.
    pub internal: bool,
    /// Stored for `inspect`, as Docker does.
    pub attachable: bool,
    /// `-o key=value`.
    pub options: BTreeMap<String, String>,
    /// `--label key=value`.
    pub labels: BTreeMap<String, String>,
    /// Who created it.
    #[serde(default, skip_serializing_if = "Origin::is_own")]
    pub origin: Origin,
}

/// Who created a network, and may remove it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// netbpf's own commands, or netbpf itself.
    #[default]
    Netbpf,
    /// Docker, with netbpf as its network driver. Docker leases the addresses.
    Docker,
}

impl Origin {
    /// The program whose commands change its networks; none if netbpf's do.
    pub fn manager(&self) -> Option<Manager> {
        match self {
            Self::Netbpf => None,
            Self::Docker => Some(DOCKER),
        }
    }

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

    /// Whether it is predefined and cannot be removed.
    pub fn is_predefined(&self) -> bool {
        matches!(self.name.as_str(), "bridge" | "host" | "none")
    }

    /// Whether its containers resolve each other's names: in all networks except the default one, as with
    /// docker0.
    pub fn has_names(&self) -> bool {
        matches!(self.driver, Driver::Bridge(_)) && self.name != Self::DEFAULT
    }

    /// The driver's name in lists: `netbpf` for networks of Docker, where that is the driver's name.
    pub fn driver_name(&self) -> &'static str {
        match self.origin {
            Origin::Netbpf => self.driver.name(),
            Origin::Docker => "netbpf",
        }
    }

    /// The same network with other options of what its members may send.
    pub fn with_access(mut self, access: AccessOptions) -> Self {
        if let Driver::Bridge(bridge) = &mut self.driver {
            self.options.retain(|key, _| !AccessOptions::KEYS.contains(&key.as_str()));
            self.options.extend(access.given());
            bridge.options.access = access;
        }
        self
    }

    /// Its bridge; `host` and `none` have none.
    pub fn bridge(&self) -> Option<&Bridge> {
        match &self.driver {
            Driver::Bridge(bridge) => Some(bridge),
            Driver::Host | Driver::Null => None,
        }
    }
}

/// Driver of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "all but two networks are bridges")]
pub enum Driver {
    /// Endpoints, a host device, and programs that forward between them.
    Bridge(Bridge),
    /// The host's own network namespace.
    Host,
    /// A namespace with `lo` only.
    Null,
}

impl Driver {
    /// Its name in Docker.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bridge(_) => "bridge",
            Self::Host => "host",
            Self::Null => "null",
        }
    }
}

/// The part of a network on the host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bridge {
    /// Index in the map `NETWORKS`; the host device has ifindex `NETWORK_IFINDEX + number`.
    pub number: u32,
    /// The host device, which has the gateway address: `netbpf0`, or `nb-` and 12 digits of the ID.
    pub device: InterfaceName,
    /// The other end of the host device's veth pair: `nbp` and 12 digits of the ID. It only gives the host
    /// device a carrier; no frame reaches it.
    pub peer: InterfaceName,
    /// Its IPv4 subnet; absent in a network of IPv6 only.
    #[serde(rename = "subnet", default)]
    pub ipv4: Option<Subnet<Ipv4Net>>,
    /// Its IPv6 subnet; absent in a network of IPv4 only. There is at least one of the two.
    #[serde(rename = "subnet_ipv6", default)]
    pub ipv6: Option<Subnet<Ipv6Net>>,
    /// Driver options.
    #[serde(flatten)]
    pub options: Options,
}

impl Bridge {
    /// MAC of the host device.
    pub fn mac(&self) -> Mac {
        match (&self.ipv4, &self.ipv6) {
            (Some(subnet), _) => Mac::of(subnet.host()),
            (None, Some(subnet)) => Mac::of_ipv6(subnet.host()),
            (None, None) => Mac::of([0; 4].into()),
        }
    }

    /// Whether an address is the host's or the gateway's in this network.
    pub fn is_of_host(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.ipv4.as_ref().is_some_and(|subnet| subnet.is_of_host(address)),
            IpAddr::V6(address) => self
                .ipv6
                .as_ref()
                .is_some_and(|subnet| subnet.is_of_host(address) || address == self.mac().link_local()),
        }
    }

    /// The gateways and the auxiliary addresses of its subnets.
    pub fn reserved(&self) -> impl Iterator<Item = IpAddr> {
        let ipv4 = self.ipv4.iter().flat_map(Subnet::reserved);
        ipv4.chain(self.ipv6.iter().flat_map(Subnet::reserved))
    }

    /// Whether an address is one that no host may have, at an end of a subnet ([`Block::ends`]).
    pub fn is_an_end(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(ipv4) => self.ipv4.as_ref().is_some_and(|subnet| subnet.net.ends().contains(&ipv4)),
            IpAddr::V6(ipv6) => self.ipv6.as_ref().is_some_and(|subnet| subnet.net.ends().contains(&ipv6)),
        }
    }

    /// Its subnets, IPv4 first.
    pub fn nets(&self) -> impl Iterator<Item = IpNet> {
        let ipv4 = self.ipv4.as_ref().map(|subnet| subnet.net.into());
        ipv4.into_iter().chain(self.ipv6.as_ref().map(|subnet| subnet.net.into()))
    }
}

/// The families in which a network needs no gateway address: the host would not have it, and containers would have no
/// default route to it (Docker's rule from 28 on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NeedlessGateways {
    pub ipv4: bool,
    pub ipv6: bool,
}

impl NeedlessGateways {
    /// Those of a network with these options.
    pub fn of(options: &Options, internal: bool) -> Self {
        Self { ipv4: internal && !options.host_has_ipv4(), ipv6: !options.host_has_ipv6() }
    }
}

/// A subnet of one family, with its reserved addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "", try_from = "Unchecked<Net>")]
pub struct Subnet<Net: Block> {
    /// The subnet, without host bits.
    pub net: Net,
    /// The range for addresses that the user does not choose; the whole subnet if absent.
    pub range: Option<Net>,
    /// The host device's address, in `net`; absent in networks that need none.
    pub gateway: Option<Net::Address>,
    /// `--aux-address`: reserved addresses by name.
    pub auxiliary: BTreeMap<String, Net::Address>,
}

/// A subnet as it is stored.
#[derive(Deserialize)]
#[serde(bound = "")]
struct Unchecked<Net: Block> {
    net: Net,
    range: Option<Net>,
    gateway: Option<Net::Address>,
    auxiliary: BTreeMap<String, Net::Address>,
}

impl<Net: Block> TryFrom<Unchecked<Net>> for Subnet<Net> {
    type Error = String;

    fn try_from(stored: Unchecked<Net>) -> Result<Self, String> {
        let Unchecked { net, range, gateway, auxiliary } = stored;
        let outside = auxiliary.values().chain(&gateway).find(|address| !net.holds(**address)).copied();
        if net != net.trunc() || range.is_some_and(|range| !net.covers(range)) {
            return Err(format!("{net} is no subnet, or its range is not in it"));
        }
        match outside {
            Some(outside) => Err(format!("{outside} is not in {net}")),
            None => Ok(Self { net, range, gateway, auxiliary }),
        }
    }
}

/// Prefix of Docker's name for the auxiliary address that containers use as gateway, instead of the host
/// device's; the family follows.
const DEFAULT_GATEWAY: &str = "DefaultGateway";

impl<Net: Block> Subnet<Net> {
    /// Whether an address is the host's or that of the containers' gateway, for which the host answers.
    fn is_of_host(&self, address: Net::Address) -> bool {
        Some(address) == self.gateway || Some(address) == self.default_gateway()
    }

    /// The gateway's address; without one, the network's address, which no container has.
    fn host(&self) -> Net::Address {
        self.gateway.unwrap_or_else(|| self.net.first())
    }

    /// The gateway and the auxiliary addresses.
    pub fn reserved(&self) -> impl Iterator<Item = IpAddr> {
        self.gateway.into_iter().chain(self.auxiliary.values().copied()).map(Into::into)
    }

    /// The gateway of a container's default route; none without a gateway.
    pub fn default_gateway(&self) -> Option<Net::Address> {
        let named = |name: &str| name.strip_prefix(DEFAULT_GATEWAY) == Some(Net::FAMILY);
        let asked = self.auxiliary.iter().find(|(name, _)| named(name));
        asked.map(|(_, address)| *address).or(self.gateway)
    }
}
