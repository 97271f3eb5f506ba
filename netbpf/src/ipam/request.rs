//! Turns the texts that a user typed into valid subnets. Checks them as Docker does and reports all faults at once.

use std::collections::BTreeMap;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Argument, Error, Fault, Flaw, Occupied};
use crate::model::{Block, NeedlessGateways, Subnet};

/// What a user requests of a subnet. An empty text requests nothing.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `192.168.0.0/16`; or `0.0.0.0/24`, `/24` or `::/64` for the next free subnet of that size.
    pub subnet: &'a str,
    /// `192.168.1.0/24`.
    pub range: &'a str,
    /// `192.168.0.1`.
    pub gateway: &'a str,
    /// Auxiliary addresses by name.
    pub auxiliary: &'a BTreeMap<String, String>,
}

/// The subnets that a network is to have: valid in themselves, and not yet compared with what exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    /// `None` if the network is to have no IPv4.
    ipv4: Option<Asked<Ipv4Net>>,
    /// `None` if the network is to have no IPv6.
    ipv6: Option<Asked<Ipv6Net>>,
}

/// The subnets of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// `None` if the network has no IPv4.
    pub ipv4: Option<Subnet<Ipv4Net>>,
    /// `None` if the network has no IPv6.
    pub ipv6: Option<Subnet<Ipv6Net>>,
}

impl Request<'_> {
    /// Parses the requests for a network that has IPv4, IPv6 or both. A family without a request gets the next free
    /// subnet.
    ///
    /// # Errors
    /// [`Error::Config`] with everything that is wrong in the texts; else [`Error::MultipleSubnets`] for more than one
    /// request of a family, or [`Error::NoSubnet`] for a request of a part of an unknown subnet.
    pub fn parse(requests: &[Request<'_>], ipv4: bool, ipv6: bool) -> Result<Requested, Error> {
        let mut faults = Vec::new();
        let (mut of_ipv4, mut of_ipv6) = (Vec::new(), Vec::new());
        // Without a family nothing else matters; `resolve` refuses it.
        for request in requests.iter().filter(|_| ipv4 || ipv6) {
            match request.subnet.contains(':') {
                true => of_ipv6.push(request.parse_family::<Ipv6Net>(ipv6, &mut faults)),
                false => of_ipv4.push(request.parse_family::<Ipv4Net>(ipv4, &mut faults)),
            }
        }
        if !faults.is_empty() {
            return Err(Error::Config(faults));
        }
        let ipv4 = ipv4.then(|| only(of_ipv4)).transpose()?;
        let ipv6 = ipv6.then(|| only(of_ipv6)).transpose()?;
        Ok(Requested { ipv4, ipv6 })
    }

    fn parse_family<Net: Family>(&self, is_on: bool, faults: &mut Vec<Fault>) -> Asked<Net> {
        let mut fault = |argument, flaw| faults.push(Fault { argument, flaw });
        let net = match parse_subnet(self.subnet) {
            Ok(_) if !is_on => Err(Flaw::FamilyOff(Net::FAMILY, Net::OPTION)),
            net => net,
        };
        let net = match net {
            Ok(net) => net,
            Err(flaw) => {
                fault(Argument::Subnet(self.subnet.to_owned()), flaw);
                return Asked::default();
            }
        };
        // Without a subnet there is nothing to compare with; `only` refuses such requests.
        let mut asked = Asked { net, ..Asked::default() };
        let parent = asked.net();
        if let Some(parent) = parent {
            for flaw in subnet_flaws(parent) {
                fault(Argument::Subnet(self.subnet.to_owned()), flaw);
            }
        }
        if !self.range.is_empty() {
            match parse_range(self.range, parent) {
                Ok(range) => asked.range = Some(range),
                Err(flaws) => {
                    flaws.into_iter().for_each(|flaw| fault(Argument::Range(self.range.to_owned()), flaw));
                }
            }
        }
        if !self.gateway.is_empty() {
            match parse_address(self.gateway, parent) {
                Ok(gateway) => asked.gateway = Some(gateway),
                Err(flaw) => fault(Argument::Gateway(self.gateway.to_owned()), flaw),
            }
        }
        for (name, text) in self.auxiliary {
            match parse_address(text, parent) {
                Ok(address) => asked.auxiliary.push((name.clone(), address)),
                Err(flaw) => fault(Argument::Auxiliary(name.clone()), flaw),
            }
        }
        asked
    }
}

impl Requested {
    /// The same without the gateways of these families, unless they are requested.
    pub fn without(mut self, gateways: NeedlessGateways) -> Self {
        self.ipv4.iter_mut().for_each(|asked| asked.without_gateway = gateways.ipv4);
        self.ipv6.iter_mut().for_each(|asked| asked.without_gateway = gateways.ipv6);
        self
    }

    /// Chooses the subnets. `ipv4` and `ipv6` list what is occupied, for each requested family.
    ///
    /// # Errors
    /// [`Error::NoFamily`] if no family is requested; else the first error of the choice.
    pub fn resolve(
        &self,
        ipv4: Option<&Occupied<Ipv4Net>>,
        ipv6: Option<&Occupied<Ipv6Net>>,
    ) -> Result<Resolved, Error> {
        if !self.has_ipv4() && !self.has_ipv6() {
            return Err(Error::NoFamily);
        }
        let ipv4 =
            self.ipv4.as_ref().zip(ipv4).map(|(asked, occupied)| asked.choose(occupied)).transpose()?;
        let ipv6 =
            self.ipv6.as_ref().zip(ipv6).map(|(asked, occupied)| asked.choose(occupied)).transpose()?;
        Ok(Resolved { ipv4, ipv6 })
    }

    /// Whether the network is to have IPv4.
    pub fn has_ipv4(&self) -> bool {
        self.ipv4.is_some()
    }

    /// Whether the network is to have IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.ipv6.is_some()
    }

    /// The requested blocks; none for a family that gets the next free one.
    pub fn nets(&self) -> Vec<IpNet> {
        let ipv4 = self.ipv4.as_ref().and_then(Asked::net).map(IpNet::V4);
        ipv4.into_iter().chain(self.ipv6.as_ref().and_then(Asked::net).map(IpNet::V6)).collect()
    }
}

/// The differences between the families.
trait Family: Block {
    /// The option that turns the family on.
    const OPTION: &'static str;

    /// The block, if it is of this family.
    fn of(block: IpNet) -> Option<Self>;

    /// Blocks in which no network can be.
    fn unusable() -> impl Iterator<Item = (Self, Flaw)>;
}

impl Family for Ipv4Net {
    const OPTION: &'static str = "--ipv4";

    fn of(block: IpNet) -> Option<Self> {
        match block {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        }
    }

    /// "This host", loopback, multicast.
    fn unusable() -> impl Iterator<Item = (Self, Flaw)> {
        [([0, 0, 0, 0], 8), ([127, 0, 0, 0], 8), ([224, 0, 0, 0], 4)].into_iter().map(
            |(octets, prefix_len)| {
                let net = Self::new_assert(octets.into(), prefix_len);
                (net, Flaw::NoHosts(net.into()))
            },
        )
    }
}

impl Family for Ipv6Net {
    const OPTION: &'static str = "--ipv6";

    fn of(block: IpNet) -> Option<Self> {
        match block {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some(net),
        }
    }

    /// Reserved by the IETF (RFC 4291 2.4: loopback, v4-mapped, translated), link-local, multicast.
    fn unusable() -> impl Iterator<Item = (Self, Flaw)> {
        [(0, 8), (0xfe80, 10), (0xff00, 8)].into_iter().map(|(first, prefix_len)| {
            let net = Self::new_assert([first, 0, 0, 0, 0, 0, 0, 0].into(), prefix_len);
            (net, if first == 0xfe80 { Flaw::LinkLocal } else { Flaw::NoHosts(net.into()) })
        })
    }
}

/// A request with valid texts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked<Net: Block> {
    net: Wanted<Net>,
    range: Option<Net>,
    gateway: Option<Net::Address>,
    /// Whether the subnet has no gateway unless one is requested.
    without_gateway: bool,
    auxiliary: Vec<(String, Net::Address)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted<Net> {
    /// The next free subnet, of this prefix length.
    Any(Option<u8>),
    This(Net),
}

impl<Net: Block> Default for Asked<Net> {
    fn default() -> Self {
        Self {
            net: Wanted::Any(None),
            range: None,
            gateway: None,
            without_gateway: false,
            auxiliary: Vec::new(),
        }
    }
}

/// The request for a family.
fn only<Net: Block>(mut asked: Vec<Asked<Net>>) -> Result<Asked<Net>, Error> {
    let last = asked.pop().unwrap_or_default();
    if !asked.is_empty() {
        return Err(Error::MultipleSubnets);
    }
    if last.net().is_none() && last.is_specific() {
        return Err(Error::NoSubnet);
    }
    Ok(last)
}

impl<Net: Block> Asked<Net> {
    fn net(&self) -> Option<Net> {
        match self.net {
            Wanted::Any(_) => None,
            Wanted::This(net) => Some(net),
        }
    }

    fn choose(&self, occupied: &Occupied<Net>) -> Result<Subnet<Net>, Error> {
        let net = match self.net {
            Wanted::Any(prefix_len) => occupied.choose(prefix_len)?,
            Wanted::This(net) => {
                occupied.check(net)?;
                net
            }
        };
        self.reserve(net)
    }

    fn is_specific(&self) -> bool {
        self.range.is_some() || self.gateway.is_some() || !self.auxiliary.is_empty()
    }

    /// Reserves the gateway first and then the auxiliary addresses, as Docker does. An address that is reserved already
    /// is an error.
    fn reserve(&self, net: Net) -> Result<Subnet<Net>, Error> {
        let mut reserved = net.ends();
        let gateway = match self.gateway {
            Some(gateway) if reserved.contains(&gateway) => return Err(Error::GatewayInUse(gateway.into())),
            Some(gateway) => Some(gateway),
            None if self.without_gateway => None,
            None => Some(first_free(self.range.unwrap_or(net), &reserved).ok_or(Error::NoGatewayLeft)?),
        };
        reserved.extend(gateway);
        for (name, address) in &self.auxiliary {
            if reserved.contains(address) {
                return Err(Error::AuxiliaryInUse { name: name.clone(), address: (*address).into() });
            }
            reserved.push(*address);
        }
        Ok(Subnet { net, range: self.range, gateway, auxiliary: self.auxiliary.iter().cloned().collect() })
    }
}

fn first_free<Net: Block>(range: Net, reserved: &[Net::Address]) -> Option<Net::Address> {
    (Net::number(range.first())..=Net::number(range.last()))
        .filter_map(Net::address)
        .find(|address| !reserved.contains(address))
}

fn parse_subnet<Net: Family>(text: &str) -> Result<Wanted<Net>, Flaw> {
    if text.is_empty() {
        return Ok(Wanted::Any(None));
    }
    let net = match text.strip_prefix('/') {
        Some(length) => format!("0.0.0.0/{length}").parse(),
        None => text.parse(),
    };
    let net = net.ok().and_then(Net::of).ok_or(Flaw::NotABlock)?;
    Ok(match net.into().addr().is_unspecified() {
        true => Wanted::Any(Some(net.prefix_len())),
        false => Wanted::This(net),
    })
}

fn subnet_flaws<Net: Family>(net: Net) -> impl Iterator<Item = Flaw> {
    let host_bits = (net != net.trunc()).then(|| Flaw::HostBits(net.trunc().into()));
    let unusable = Net::unusable().find_map(|(other, flaw)| other.overlaps(net).then_some(flaw));
    host_bits.into_iter().chain(unusable)
}

fn parse_range<Net: Family>(text: &str, parent: Option<Net>) -> Result<Net, Vec<Flaw>> {
    let range = match text.parse().map(Net::of) {
        Err(_) => return Err(vec![Flaw::NotABlock]),
        Ok(None) => return Err(vec![Flaw::OtherFamily(Net::FAMILY)]),
        Ok(Some(range)) => range,
    };
    let mut flaws = Vec::new();
    if let Some(parent) = parent.filter(|parent| range.prefix_len() < parent.prefix_len()) {
        flaws.push(Flaw::Bigger(parent.into()));
    }
    if range != range.trunc() {
        flaws.push(Flaw::HostBits(range.trunc().into()));
    }
    if let Some(parent) = parent.filter(|parent| !parent.covers(range) && !range.covers(*parent)) {
        flaws.push(Flaw::RangeOutside(parent.into()));
    }
    if flaws.is_empty() { Ok(range) } else { Err(flaws) }
}

fn parse_address<Net: Family>(text: &str, parent: Option<Net>) -> Result<Net::Address, Flaw> {
    let is_address = text.parse::<std::net::IpAddr>().is_ok();
    let address = match text.parse() {
        Ok(address) => address,
        Err(_) if is_address => return Err(Flaw::OtherFamily(Net::FAMILY)),
        Err(_) => return Err(Flaw::NotAnAddress),
    };
    match parent {
        Some(parent) if !parent.holds(address) => Err(Flaw::AddressOutside(parent.into())),
        _ => Ok(address),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
