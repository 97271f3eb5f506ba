//! Valid and invalid requests of both families.

use proptest::prelude::*;

use super::*;
use crate::ipam::{ipv4_pools, ipv6_pools};

fn nothing() -> Occupied<Ipv4Net> {
    Occupied { networks: vec![], routes: vec![], resolvers: vec![], pools: ipv4_pools() }
}

fn nothing_ipv6() -> Occupied<Ipv6Net> {
    Occupied { networks: vec![], routes: vec![], resolvers: vec![], pools: ipv6_pools("netbpf") }
}

/// Resolves requests for a network with the families of which something is known.
fn resolve_all(
    requests: &[Request<'_>],
    ipv4: Option<&Occupied<Ipv4Net>>,
    ipv6: Option<&Occupied<Ipv6Net>>,
) -> Result<Resolved, Error> {
    Request::parse(requests, ipv4.is_some(), ipv6.is_some())?.resolve(ipv4, ipv6)
}

/// Resolves requests for a network with IPv6, and with IPv4 if `ipv4`. Returns subnet and gateway of each family.
fn dual(ipv4: bool, requests: &[Request<'_>]) -> Result<Vec<String>, String> {
    let resolved = resolve_all(requests, ipv4.then(nothing).as_ref(), Some(&nothing_ipv6()))
        .map_err(|error| error.to_string())?;
    let ipv4 = resolved.ipv4.map(|subnet| format!("{} {}", subnet.net, subnet.gateway.unwrap()));
    Ok(ipv4
        .into_iter()
        .chain(resolved.ipv6.map(|subnet| format!("{} {}", subnet.net, subnet.gateway.unwrap())))
        .collect())
}

fn resolve(
    subnet: &str,
    range: &str,
    gateway: &str,
    auxiliary: &[(&str, &str)],
) -> Result<Subnet<Ipv4Net>, String> {
    resolve_beside(&nothing(), subnet, range, gateway, auxiliary)
}

fn resolve_beside(
    occupied: &Occupied<Ipv4Net>,
    subnet: &str,
    range: &str,
    gateway: &str,
    auxiliary: &[(&str, &str)],
) -> Result<Subnet<Ipv4Net>, String> {
    let auxiliary = &auxiliary.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    let request = Request { subnet, range, gateway, auxiliary };
    let resolved = resolve_all(&[request], Some(occupied), None).map_err(|error| error.to_string())?;
    Ok(resolved.ipv4.expect("a subnet"))
}

fn gateway(subnet: &str, range: &str, gateway: &str) -> String {
    resolve(subnet, range, gateway, &[]).unwrap().gateway.unwrap().to_string()
}

/// The faults, without Docker's line in front of them.
fn faults(subnet: &str, range: &str, gateway: &str, auxiliary: &[(&str, &str)]) -> String {
    let error = resolve(subnet, range, gateway, auxiliary).unwrap_err();
    error.strip_prefix("invalid network config:\n").expect("a config error").to_owned()
}

#[test]
fn an_empty_request_gives_the_first_subnet_with_its_first_address_as_gateway() {
    let subnet = resolve_all(&[], Some(&nothing()), None).unwrap().ipv4.unwrap();
    assert_eq!(
        (subnet.net.to_string(), subnet.gateway.unwrap().to_string()),
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
fn a_prefix_length_alone_requests_the_next_free_subnet() {
    assert_eq!(resolve("0.0.0.0/24", "", "", &[]).unwrap().net.to_string(), "172.17.0.0/24");
    assert_eq!(resolve("/28", "", "", &[]).unwrap().net.to_string(), "172.17.0.0/28");
    assert_eq!(
        resolve("0.0.0.0/8", "", "", &[]),
        Err("all predefined address pools have been fully subnetted".to_owned())
    );
}

#[test]
fn invalid_subnets_are_refused() {
    for (text, flaw) in [
        ("foobar", "invalid CIDR block notation"),
        ("10.0.0.0", "invalid CIDR block notation"),
        ("10.0.0.0/33", "invalid CIDR block notation"),
        ("/", "invalid CIDR block notation"),
        ("10.0.0.1/24", "it should be 10.0.0.0/24"),
        ("fd00::/64", "the network has no IPv6 without --ipv6"),
        ("127.1.0.0/16", "hosts have no addresses in 127.0.0.0/8"),
        ("224.0.0.0/24", "hosts have no addresses in 224.0.0.0/4"),
    ] {
        assert_eq!(faults(text, "", "", &[]), format!("invalid subnet {text}: {flaw}"));
    }
}

#[test]
fn ranges_gateways_and_auxiliary_addresses_must_be_in_the_subnet() {
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
fn a_gateway_or_range_without_a_subnet_is_refused() {
    let message = Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    assert_eq!(resolve("", "", "10.0.0.1", &[]), message);
    assert_eq!(resolve("0.0.0.0/24", "10.0.0.0/24", "", &[]), message);
}

#[test]
fn two_subnets_of_one_family_are_refused() {
    let none = BTreeMap::new();
    let request = |subnet| Request { subnet, range: "", gateway: "", auxiliary: &none };
    for pair in [["10.0.0.0/24", "10.0.1.0/24"], ["fd00::/64", "fd01::/64"]] {
        let error = dual(true, &pair.map(request)).unwrap_err();
        assert_eq!(error, "bridge driver doesn't support multiple subnets");
    }
    assert_eq!(
        dual(true, &["fd00:7::/64", "10.0.0.0/24"].map(request)).unwrap(),
        ["10.0.0.0/24 10.0.0.1", "fd00:7::/64 fd00:7::1"]
    );
}

#[test]
fn a_family_without_a_request_gets_the_first_free_subnet() {
    let none = BTreeMap::new();
    let request = |subnet, range, gateway| Request { subnet, range, gateway, auxiliary: &none };
    let both = ["172.17.0.0/16 172.17.0.1", "fda3:2dc2:1560::/64 fda3:2dc2:1560::1"];
    assert_eq!(dual(true, &[]).unwrap(), both);
    assert_eq!(dual(false, &[]).unwrap(), both[1..]);
    assert_eq!(dual(true, &[request("fd00::/64", "", "fd00::ff")]).unwrap(), [both[0], "fd00::/64 fd00::ff"]);
    assert_eq!(dual(false, &[request("::/80", "", "")]).unwrap(), ["fda3:2dc2:1560::/80 fda3:2dc2:1560::1"]);
    assert_eq!(dual(false, &[request("fd00::/64", "fd00::100/120", "")]).unwrap(), ["fd00::/64 fd00::100"]);
    assert_eq!(resolve_all(&[], None, None), Err(Error::NoFamily));
}

#[test]
fn ipv6_requests_are_checked_like_ipv4_requests() {
    let config = |flaw: &str| Err(format!("invalid network config:\n{flaw}"));
    let none = BTreeMap::new();
    for (subnet, range, gateway, flaw) in [
        ("fd00::1/64", "", "", "invalid subnet fd00::1/64: it should be fd00::/64"),
        ("fd00::/129", "", "", "invalid subnet fd00::/129: invalid CIDR block notation"),
        ("fe80::/64", "", "", "invalid subnet fe80::/64: link-local addresses are every interface's own"),
        ("ff02::/64", "", "", "invalid subnet ff02::/64: hosts have no addresses in ff00::/8"),
        ("::1/128", "", "", "invalid subnet ::1/128: hosts have no addresses in ::/8"),
        ("fd00::/64", "10.0.0.0/24", "", "invalid ip-range 10.0.0.0/24: parent subnet is an IPv6 block"),
        ("fd00::/64", "", "10.0.0.1", "invalid gateway 10.0.0.1: parent subnet is an IPv6 block"),
        (
            "fd00::/64",
            "",
            "fd01::1",
            "invalid gateway fd01::1: parent subnet fd00::/64 doesn't contain this address",
        ),
        ("10.0.0.0/24", "", "", "invalid subnet 10.0.0.0/24: the network has no IPv4 without --ipv4"),
    ] {
        let request = Request { subnet, range, gateway, auxiliary: &none };
        assert_eq!(dual(false, &[request]), config(flaw));
    }
    let request = Request { subnet: "fd00::/64", range: "", gateway: "fd00::", auxiliary: &none };
    assert_eq!(
        dual(false, &[request]),
        Err("failed to allocate gateway (fd00::): Address already in use".to_owned())
    );
}

#[test]
fn a_reserved_address_cannot_be_reserved_again() {
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
fn a_subnet_that_overlaps_a_network_or_a_route_is_refused_even_with_a_range() {
    let occupied = Occupied {
        networks: vec!["10.1.0.0/16".parse().unwrap()],
        routes: vec!["10.2.3.0/24".parse().unwrap()],
        ..nothing()
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
    fn every_resolved_subnet_is_valid(
        subnet in "(|/|1[0-9]\\.0\\.[0-8]\\.[0-9]{1,3}/)(2[0-9]|3[0-3]|x)?",
        range in "(|10\\.0\\.[0-8]\\.[0-9]{1,3}/(2[0-9]|3[0-3]))",
        gateway in "(|1[0-9]\\.0\\.[0-8]\\.[0-9]{1,3})",
        auxiliary in prop::collection::btree_map("[a-c]", "10\\.0\\.[0-8]\\.[0-9]{1,3}", 0..3),
    ) {
        let request = Request { subnet: &subnet, range: &range, gateway: &gateway, auxiliary: &auxiliary };
        if let Ok(Resolved { ipv4: Some(subnet), .. }) = resolve_all(&[request], Some(&nothing()), None) {
            prop_assert_eq!(subnet.net, subnet.net.trunc());
            prop_assert!(subnet.range.is_none_or(|range| range == range.trunc() && subnet.net.contains(&range)));
            let mut seen = subnet.net.ends();
            for address in subnet.gateway.iter().chain(subnet.auxiliary.values()) {
                prop_assert!(subnet.net.contains(address) && !seen.contains(address));
                seen.push(*address);
            }
        }
    }
}
