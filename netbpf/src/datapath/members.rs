//! Reads and repairs the lists of members, which broadcasts walk. Pure. A list starts at a network's `first`,
//! continues with the `next` of each endpoint, and contains each endpoint of the network once.

use std::collections::{BTreeMap, HashMap};

use netbpf_common::{
    endpoint::{Endpoint, NO_ENDPOINT},
    network::Network,
};

/// The predecessor of an endpoint in its network's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// The endpoint is the first of this network.
    Network(u32),
    /// Another endpoint.
    Endpoint(u32),
}

/// The predecessor of each endpoint that is in a list.
pub fn all_before(
    networks: &BTreeMap<u32, Network>,
    endpoints: &BTreeMap<u32, Endpoint>,
) -> HashMap<u32, Before> {
    let of_networks = networks.iter().map(|(number, network)| (network.first, Before::Network(*number)));
    let of_endpoints = endpoints.iter().map(|(number, endpoint)| (endpoint.next, Before::Endpoint(*number)));
    of_networks.chain(of_endpoints).filter(|(number, _)| *number != NO_ENDPOINT).collect()
}

/// Entries to write.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Networks with another `first`.
    pub networks: Vec<(u32, Network)>,
    /// Endpoints with another `next`.
    pub endpoints: Vec<(u32, Endpoint)>,
}

/// The changes that make all lists complete. A complete list stays as it is.
pub fn repair(networks: &BTreeMap<u32, Network>, endpoints: &BTreeMap<u32, Endpoint>) -> Changes {
    let mut changes = Changes::default();
    for (&number, network) in networks {
        let members = || endpoints.iter().filter(move |(_, endpoint)| endpoint.network == number);
        if is_complete(number, network, endpoints, members().count()) {
            continue;
        }
        let mut next = NO_ENDPOINT;
        for (&member, endpoint) in members().rev() {
            if endpoint.next != next {
                changes.endpoints.push((member, Endpoint { next, ..*endpoint }));
            }
            next = member;
        }
        if network.first != next {
            changes.networks.push((number, Network { first: next, ..*network }));
        }
    }
    changes
}

/// Whether a network's list contains exactly `count` endpoints, all of the network. A circular list has no
/// end.
fn is_complete(number: u32, network: &Network, endpoints: &BTreeMap<u32, Endpoint>, count: usize) -> bool {
    let mut next = network.first;
    for _ in 0..count {
        match endpoints.get(&next) {
            Some(endpoint) if endpoint.network == number => next = endpoint.next,
            Some(_) | None => return false,
        }
    }
    next == NO_ENDPOINT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(first: u32) -> Network {
        Network { ifindex: 1, first, ..Network::default() }
    }

    fn endpoint(network: u32, next: u32) -> Endpoint {
        Endpoint { ifindex: 1, network, next, ..Endpoint::default() }
    }

    fn repaired(networks: &mut BTreeMap<u32, Network>, endpoints: &mut BTreeMap<u32, Endpoint>) {
        let changes = repair(networks, endpoints);
        networks.extend(changes.networks);
        endpoints.extend(changes.endpoints);
    }

    fn walk(number: u32, networks: &BTreeMap<u32, Network>, endpoints: &BTreeMap<u32, Endpoint>) -> Vec<u32> {
        let mut next = networks[&number].first;
        let mut walked = Vec::new();
        while next != NO_ENDPOINT {
            assert!(walked.len() < endpoints.len(), "{walked:?} is circular");
            walked.push(next);
            next = endpoints[&next].next;
        }
        walked
    }

    #[test]
    fn complete_lists_stay_as_they_are() {
        let networks = BTreeMap::from([(0, network(5)), (1, network(NO_ENDPOINT))]);
        let endpoints = BTreeMap::from([(2, endpoint(0, NO_ENDPOINT)), (5, endpoint(0, 2))]);
        assert_eq!(repair(&networks, &endpoints), Changes::default());
    }

    #[test]
    fn every_broken_list_becomes_complete() {
        let rings = BTreeMap::from([(1, endpoint(0, 2)), (2, endpoint(0, 1)), (3, endpoint(0, 3))]);
        let strays = BTreeMap::from([
            (1, endpoint(0, 9)),
            (2, endpoint(0, NO_ENDPOINT)),
            (3, endpoint(0, NO_ENDPOINT)),
        ]);
        let foreign = BTreeMap::from([
            (1, endpoint(0, 4)),
            (2, endpoint(0, 3)),
            (3, endpoint(0, NO_ENDPOINT)),
            (4, endpoint(1, 2)),
        ]);
        for endpoints in [rings, strays, foreign] {
            for first in [1, 2, 4, 9, NO_ENDPOINT] {
                let mut networks = BTreeMap::from([(0, network(first)), (1, network(NO_ENDPOINT))]);
                let mut endpoints = endpoints.clone();
                repaired(&mut networks, &mut endpoints);
                let mut members = walk(0, &networks, &endpoints);
                members.sort_unstable();
                assert_eq!(members, [1, 2, 3]);
                assert!(walk(1, &networks, &endpoints).iter().all(|member| *member == 4));
            }
        }
    }

    #[test]
    fn the_predecessor_is_the_network_or_another_endpoint() {
        let networks = BTreeMap::from([(0, network(5))]);
        let endpoints = BTreeMap::from([
            (2, endpoint(0, NO_ENDPOINT)),
            (5, endpoint(0, 2)),
            (6, endpoint(0, NO_ENDPOINT)),
        ]);
        let before = all_before(&networks, &endpoints);
        assert_eq!(before, HashMap::from([(5, Before::Network(0)), (2, Before::Endpoint(5))]));
    }
}
