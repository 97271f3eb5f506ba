//! Fuzz target: requests for subnets. A subnet that is chosen has its gateway, range and reserved addresses inside, all
//! different, and gives out no address twice.

use std::collections::{BTreeMap, BTreeSet};

use super::{Occupied, Pool, Request, Resolved, ipv4_pools, ipv6_pools};
use crate::model::{Block, Subnet};

/// How many addresses are leased from a subnet.
const LEASES: usize = 3;

/// Checks requests: lines of subnet, range, gateway and auxiliary addresses, the fields separated by commas.
pub(crate) fn check_subnets(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let lines: Vec<Vec<&str>> = text.split('\n').take(3).map(|line| line.split(',').collect()).collect();
    let auxiliary: Vec<BTreeMap<String, String>> = lines
        .iter()
        .map(|fields| {
            let named = fields.iter().skip(3).filter_map(|field| field.split_once('='));
            named.map(|(name, address)| (name.to_owned(), address.to_owned())).collect()
        })
        .collect();
    let requests: Vec<Request<'_>> = lines
        .iter()
        .zip(&auxiliary)
        .map(|(fields, auxiliary)| {
            let field = |index: usize| fields.get(index).copied().unwrap_or_default();
            Request { subnet: field(0), range: field(1), gateway: field(2), auxiliary }
        })
        .collect();
    let taken = "10.5.0.0/16".parse().expect("a block");
    let ipv4 = Occupied { networks: vec![], routes: vec![taken], resolvers: vec![], pools: ipv4_pools() };
    let ipv6 = Occupied { networks: vec![], routes: vec![], resolvers: vec![], pools: ipv6_pools("netbpf") };
    for (ipv4, ipv6) in [(Some(&ipv4), Some(&ipv6)), (Some(&ipv4), None), (None, Some(&ipv6))] {
        let requested = Request::parse(&requests, ipv4.is_some(), ipv6.is_some());
        match requested.and_then(|requested| requested.resolve(ipv4, ipv6)) {
            Ok(Resolved { ipv4: chosen, ipv6: other }) => {
                assert_eq!((chosen.is_some(), other.is_some()), (ipv4.is_some(), ipv6.is_some()));
                chosen.iter().for_each(|subnet| {
                    assert!(!subnet.net.overlaps(taken), "{} is taken", subnet.net);
                    check_subnet(subnet);
                });
                other.iter().for_each(check_subnet);
            }
            // One line for each fault, after the first.
            Err(error) => {
                let text = error.to_string();
                assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
            }
        }
    }
}

fn check_subnet<Net: Block>(subnet: &Subnet<Net>) {
    let Subnet { net, range, gateway, auxiliary } = subnet;
    assert!(*net == net.trunc(), "{net} has host bits");
    assert!(range.is_none_or(|range| net.covers(range)), "the range is not in {net}");
    let reserved: Vec<_> = gateway.iter().copied().chain(auxiliary.values().copied()).collect();
    assert!(reserved.iter().all(|address| net.holds(*address) && !net.ends().contains(address)));
    assert_eq!(reserved.iter().collect::<BTreeSet<_>>().len(), reserved.len(), "reserved twice");
    let text = serde_json::to_string(subnet).expect("a subnet has no failing serializer");
    assert_eq!(serde_json::from_str::<Subnet<Net>>(&text).ok().as_ref(), Some(subnet), "{text}");

    let mut pool = Pool::new(subnet);
    let mut leased = BTreeSet::new();
    for _ in 0..LEASES {
        let Ok(address) = pool.lease(None) else { break };
        assert!(net.holds(address) && range.is_none_or(|range| range.holds(address)));
        assert!(!reserved.contains(&address) && !net.ends().contains(&address), "{address} is reserved");
        assert!(leased.insert(address), "{address} is leased twice");
        assert!(pool.lease(Some(address)).is_err(), "{address} is leased twice");
    }
}

/// Requests of all kinds.
pub(crate) fn subnets() -> Vec<Vec<u8>> {
    [
        "10.1.0.0/24,10.1.0.128/25,10.1.0.1,printer=10.1.0.9",
        "fd00:1::/64,fd00:1::/80,fd00:1::1\n10.2.0.0/16",
        "/24\n::/64",
        "10.1.2.0/31",
        "10.1.2.3/32",
        "fd00::/127,,fd00::1,DefaultGatewayIPv6=fd00::",
        "0.0.0.0/0",
        "224.0.0.0/4,,10.0.0.1",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
