//! From the texts a user typed to a subnet that is right. Judges as Docker does, and reports all faults at once.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};

use super::{Error, Fault, Flaw, Occupied, Subject, pool::ends};
use crate::model::Subnet;

/// Where no host has an address: "this host", loopback, multicast.
const NO_HOSTS: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4),
];

/// What a user asks of a subnet; empty texts ask for nothing.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `192.168.0.0/16`; `0.0.0.0/24` and `/24` ask for the next free one of this size.
    pub subnet: &'a str,
    /// `192.168.1.0/24`.
    pub range: &'a str,
    /// `192.168.0.1`.
    pub gateway: &'a str,
    /// Name to address.
    pub auxiliary: &'a BTreeMap<String, String>,
}

impl Request<'_> {
    /// The subnet for a network with these requests. No request means any subnet; more than one is one too many.
    pub fn resolve(requests: &[Request<'_>], occupied: &Occupied) -> Result<Subnet, Error> {
        let mut faults = Vec::new();
        let asked: Vec<_> = requests.iter().map(|request| request.parse(&mut faults)).collect();
        if !faults.is_empty() {
            return Err(Error::Config(faults));
        }
        let asked = match asked.as_slice() {
            [] => &Asked::default(),
            [asked] => asked,
            _ => return Err(Error::MultipleSubnets),
        };
        let net = match asked.net {
            Wanted::This(net) => {
                occupied.check(net)?;
                net
            }
            Wanted::Any(_) if asked.is_specific() => return Err(Error::NoSubnet),
            Wanted::Any(prefix_len) => occupied.choose(prefix_len)?,
        };
        asked.reserve(net)
    }

    fn parse(&self, faults: &mut Vec<Fault>) -> Asked {
        let mut fault = |subject, flaw| faults.push(Fault { subject, flaw });
        let net = match parse_subnet(self.subnet) {
            Ok(net) => net,
            Err(flaw) => {
                fault(Subject::Subnet(self.subnet.to_owned()), flaw);
                return Asked::default();
            }
        };
        // Without a subnet nothing is outside of it; resolve() refuses these.
        let parent = match net {
            Wanted::Any(_) => None,
            Wanted::This(net) => Some(net),
        };
        if let Some(parent) = parent {
            for flaw in subnet_flaws(parent) {
                fault(Subject::Subnet(self.subnet.to_owned()), flaw);
            }
        }
        let mut asked = Asked { net, ..Asked::default() };
        if !self.range.is_empty() {
            match parse_range(self.range, parent) {
                Ok(range) => asked.range = Some(range),
                Err(flaws) => {
                    flaws.into_iter().for_each(|flaw| fault(Subject::Range(self.range.to_owned()), flaw));
                }
            }
        }
        if !self.gateway.is_empty() {
            match parse_address(self.gateway, parent) {
                Ok(gateway) => asked.gateway = Some(gateway),
                Err(flaw) => fault(Subject::Gateway(self.gateway.to_owned()), flaw),
            }
        }
        for (name, text) in self.auxiliary {
            match parse_address(text, parent) {
                Ok(address) => asked.auxiliary.push((name.clone(), address)),
                Err(flaw) => fault(Subject::Auxiliary(name.clone()), flaw),
            }
        }
        asked
    }
}

/// A request whose texts are right.
#[derive(Default)]
struct Asked {
    net: Wanted,
    range: Option<Ipv4Net>,
    gateway: Option<Ipv4Addr>,
    auxiliary: Vec<(String, Ipv4Addr)>,
}

enum Wanted {
    /// The next free subnet, of this prefix length.
    Any(Option<u8>),
    This(Ipv4Net),
}

impl Default for Wanted {
    fn default() -> Self {
        Self::Any(None)
    }
}

impl Asked {
    fn is_specific(&self) -> bool {
        self.range.is_some() || self.gateway.is_some() || !self.auxiliary.is_empty()
    }

    /// The gateway first, then the auxiliary addresses, as Docker does: one that meets another is in use.
    fn reserve(&self, net: Ipv4Net) -> Result<Subnet, Error> {
        let mut reserved: Vec<_> = ends(net).into_iter().flatten().collect();
        let gateway = match self.gateway {
            Some(gateway) if reserved.contains(&gateway) => return Err(Error::GatewayInUse(gateway)),
            Some(gateway) => gateway,
            None => first_free(self.range.unwrap_or(net), &reserved).ok_or(Error::NoGatewayLeft)?,
        };
        reserved.push(gateway);
        for (name, address) in &self.auxiliary {
            if reserved.contains(address) {
                return Err(Error::AuxiliaryInUse { name: name.clone(), address: *address });
            }
            reserved.push(*address);
        }
        Ok(Subnet { net, range: self.range, gateway, auxiliary: self.auxiliary.iter().cloned().collect() })
    }
}

fn first_free(range: Ipv4Net, reserved: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    (u32::from(range.network())..=u32::from(range.broadcast()))
        .map(Ipv4Addr::from)
        .find(|address| !reserved.contains(address))
}

fn parse_subnet(text: &str) -> Result<Wanted, Flaw> {
    if text.is_empty() {
        return Ok(Wanted::Any(None));
    }
    let net = match text.strip_prefix('/') {
        Some(length) => format!("0.0.0.0/{length}").parse(),
        None => text.parse(),
    };
    match net.map_err(|_| Flaw::NotABlock)? {
        IpNet::V6(_) => Err(Flaw::Ipv6),
        IpNet::V4(net) if net.addr().is_unspecified() => Ok(Wanted::Any(Some(net.prefix_len()))),
        IpNet::V4(net) => Ok(Wanted::This(net)),
    }
}

fn subnet_flaws(net: Ipv4Net) -> impl Iterator<Item = Flaw> {
    let host_bits = (net != net.trunc()).then_some(Flaw::HostBits(net.trunc()));
    let no_hosts = NO_HOSTS.into_iter().find(|other| other.contains(&net.network()) || net.contains(other));
    host_bits.into_iter().chain(no_hosts.map(Flaw::NoHosts))
}

fn parse_range(text: &str, parent: Option<Ipv4Net>) -> Result<Ipv4Net, Vec<Flaw>> {
    let range = match text.parse() {
        Err(_) => return Err(vec![Flaw::NotABlock]),
        Ok(IpNet::V6(_)) => return Err(vec![Flaw::OtherFamily]),
        Ok(IpNet::V4(range)) => range,
    };
    let mut flaws = Vec::new();
    if let Some(parent) = parent.filter(|parent| range.prefix_len() < parent.prefix_len()) {
        flaws.push(Flaw::Bigger(parent));
    }
    if range != range.trunc() {
        flaws.push(Flaw::HostBits(range.trunc()));
    }
    if let Some(parent) = parent.filter(|parent| !parent.contains(&range) && !range.contains(parent)) {
        flaws.push(Flaw::RangeOutside(parent));
    }
    if flaws.is_empty() { Ok(range) } else { Err(flaws) }
}

fn parse_address(text: &str, parent: Option<Ipv4Net>) -> Result<Ipv4Addr, Flaw> {
    let address = match text.parse() {
        Err(_) => return Err(Flaw::NotAnAddress),
        Ok(IpAddr::V6(_)) => return Err(Flaw::OtherFamily),
        Ok(IpAddr::V4(address)) => address,
    };
    match parent {
        Some(parent) if !parent.contains(&address) => Err(Flaw::AddressOutside(parent)),
        _ => Ok(address),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolve(
        subnet: &str,
        range: &str,
        gateway: &str,
        auxiliary: &[(&str, &str)],
    ) -> Result<Subnet, String> {
        resolve_beside(&Occupied::default(), subnet, range, gateway, auxiliary)
    }

    fn resolve_beside(
        occupied: &Occupied,
        subnet: &str,
        range: &str,
        gateway: &str,
        auxiliary: &[(&str, &str)],
    ) -> Result<Subnet, String> {
        let auxiliary = &auxiliary.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        let request = Request { subnet, range, gateway, auxiliary };
        Request::resolve(&[request], occupied).map_err(|error| error.to_string())
    }

    fn gateway(subnet: &str, range: &str, gateway: &str) -> String {
        resolve(subnet, range, gateway, &[]).unwrap().gateway.to_string()
    }

    /// What is wrong, without the line that Docker puts before it.
    fn faults(subnet: &str, range: &str, gateway: &str, auxiliary: &[(&str, &str)]) -> String {
        let error = resolve(subnet, range, gateway, auxiliary).unwrap_err();
        error.strip_prefix("invalid network config:\n").expect("a config error").to_owned()
    }

    #[test]
    fn nothing_asked_gives_the_first_subnet_and_its_first_address_as_gateway() {
        let subnet = Request::resolve(&[], &Occupied::default()).unwrap();
        assert_eq!(
            (subnet.net.to_string(), subnet.gateway.to_string()),
            ("172.17.0.0/16".into(), "172.17.0.1".into())
        );
        assert_eq!(resolve("", "", "", &[]), Ok(subnet));
    }

    #[test]
    fn the_gateway_is_the_first_address_of_the_range_unless_it_is_asked_for() {
        assert_eq!(gateway("192.168.0.0/16", "", ""), "192.168.0.1");
        assert_eq!(gateway("192.168.0.0/16", "192.168.0.0/24", ""), "192.168.0.1");
        assert_eq!(gateway("192.168.0.0/16", "192.168.5.0/24", ""), "192.168.5.0");
        assert_eq!(gateway("192.168.0.0/16", "192.168.5.0/24", "192.168.0.1"), "192.168.0.1");
        assert_eq!(gateway("10.0.0.0/31", "", ""), "10.0.0.0");
        assert_eq!(gateway("10.0.0.7/32", "", ""), "10.0.0.7");
    }

    #[test]
    fn a_size_alone_takes_the_next_free_subnet_of_it() {
        assert_eq!(resolve("0.0.0.0/24", "", "", &[]).unwrap().net.to_string(), "172.17.0.0/24");
        assert_eq!(resolve("/28", "", "", &[]).unwrap().net.to_string(), "172.17.0.0/28");
        assert_eq!(
            resolve("0.0.0.0/8", "", "", &[]),
            Err("all predefined address pools have been fully subnetted".to_owned())
        );
    }

    #[test]
    fn subnets_that_make_no_sense_are_refused() {
        for (text, flaw) in [
            ("foobar", "invalid CIDR block notation"),
            ("10.0.0.0", "invalid CIDR block notation"),
            ("10.0.0.0/33", "invalid CIDR block notation"),
            ("/", "invalid CIDR block notation"),
            ("10.0.0.1/24", "it should be 10.0.0.0/24"),
            ("fd00::/64", "IPv6 subnets are not supported yet"),
            ("127.1.0.0/16", "hosts have no addresses in 127.0.0.0/8"),
            ("224.0.0.0/24", "hosts have no addresses in 224.0.0.0/4"),
        ] {
            assert_eq!(faults(text, "", "", &[]), format!("invalid subnet {text}: {flaw}"));
        }
    }

    #[test]
    fn ranges_gateways_and_auxiliary_addresses_have_to_be_in_the_subnet() {
        assert_eq!(
            faults("10.0.0.0/8", "192.168.0.1/24", "192.168.0.1", &[("a", "192.168.0.1")]),
            "* invalid ip-range 192.168.0.1/24: it should be 192.168.0.0/24\n\
             * invalid ip-range 192.168.0.1/24: parent subnet 10.0.0.0/8 doesn't contain ip-range\n\
             * invalid gateway 192.168.0.1: parent subnet 10.0.0.0/8 doesn't contain this address\n\
             * invalid auxiliary address a: parent subnet 10.0.0.0/8 doesn't contain this address"
        );
        assert_eq!(
            faults("10.10.10.0/24", "10.0.0.0/8", "", &[]),
            "invalid ip-range 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.10.10.0/24"
        );
        assert_eq!(
            faults("10.10.10.0/24", "foobar", "1001.10.5.3", &[("a", "dummy"), ("b", "fd00::1")]),
            "* invalid ip-range foobar: invalid CIDR block notation\n\
             * invalid gateway 1001.10.5.3: invalid address\n\
             * invalid auxiliary address a: invalid address\n\
             * invalid auxiliary address b: parent subnet is an IPv4 block"
        );
    }

    #[test]
    fn addresses_without_a_subnet_are_refused() {
        let message = Err("every ip-range or gateway must have a corresponding subnet".to_owned());
        assert_eq!(resolve("", "", "10.0.0.1", &[]), message);
        assert_eq!(resolve("0.0.0.0/24", "10.0.0.0/24", "", &[]), message);
    }

    #[test]
    fn two_subnets_are_one_too_many() {
        let none = BTreeMap::new();
        let request = |subnet| Request { subnet, range: "", gateway: "", auxiliary: &none };
        let error = Request::resolve(&[request("10.0.0.0/24"), request("10.0.1.0/24")], &Occupied::default())
            .unwrap_err();
        assert_eq!(error.to_string(), "bridge driver doesn't support multiple subnets");
    }

    #[test]
    fn reserved_addresses_that_meet_are_in_use() {
        for gateway in ["10.0.0.0", "10.0.0.255"] {
            assert_eq!(
                resolve("10.0.0.0/24", "", gateway, &[]),
                Err(format!("failed to allocate gateway ({gateway}): Address already in use"))
            );
        }
        for auxiliary in
            [vec![("k", "10.0.0.1")], vec![("k", "10.0.0.255")], vec![("j", "10.0.0.9"), ("k", "10.0.0.9")]]
        {
            let taken = auxiliary.last().unwrap().1;
            assert_eq!(
                resolve("10.0.0.0/24", "", "", &auxiliary),
                Err(format!("failed to allocate secondary ip address (k:{taken}): Address already in use"))
            );
        }
        assert_eq!(
            resolve("10.0.0.0/24", "10.0.0.255/32", "", &[]),
            Err("failed to allocate gateway (): no available addresses on this pool".to_owned())
        );
    }

    #[test]
    fn a_subnet_of_another_network_or_a_route_of_the_host_is_refused_even_with_a_range() {
        let occupied = Occupied {
            networks: vec!["10.1.0.0/16".parse().unwrap()],
            routes: vec!["10.2.3.0/24".parse().unwrap()],
            ..Occupied::default()
        };
        for (subnet, range) in [("10.1.2.0/24", ""), ("10.0.0.0/8", "10.5.0.0/16"), ("10.2.0.0/16", "")] {
            assert_eq!(
                resolve_beside(&occupied, subnet, range, "", &[]),
                Err("invalid pool request: Pool overlaps with other one on this address space".to_owned())
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_resolved_is_right(
            subnet in "(|/|1[0-9]\\.0\\.[0-8]\\.[0-9]{1,3}/)(2[0-9]|3[0-3]|x)?",
            range in "(|10\\.0\\.[0-8]\\.[0-9]{1,3}/(2[0-9]|3[0-3]))",
            gateway in "(|1[0-9]\\.0\\.[0-8]\\.[0-9]{1,3})",
            auxiliary in prop::collection::btree_map("[a-c]", "10\\.0\\.[0-8]\\.[0-9]{1,3}", 0..3),
        ) {
            let request = Request { subnet: &subnet, range: &range, gateway: &gateway, auxiliary: &auxiliary };
            if let Ok(subnet) = Request::resolve(&[request], &Occupied::default()) {
                prop_assert_eq!(subnet.net, subnet.net.trunc());
                prop_assert!(subnet.range.is_none_or(|range| range == range.trunc() && subnet.net.contains(&range)));
                let mut seen: Vec<_> = ends(subnet.net).into_iter().flatten().collect();
                for address in [subnet.gateway].iter().chain(subnet.auxiliary.values()) {
                    prop_assert!(subnet.net.contains(address) && !seen.contains(address));
                    seen.push(*address);
                }
            }
        }
    }
}
