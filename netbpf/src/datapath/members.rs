//! The lists that broadcasts walk: pure reading and repairing of them. A list starts at a network's `first`, goes on
//! by its endpoints' `next`, and holds each of the network's endpoints once.

use std::collections::{BTreeMap, HashMap};

use netbpf_common::{
    endpoint::{Endpoint, NO_ENDPOINT},
    network::Network,
};

/// What leads to an endpoint in its network's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// The network: the endpoint is the first.
    Network(u32),
    /// Another endpoint.
    Endpoint(u32),
}

/// What leads to each endpoint that something leads to.
pub fn all_before(
    networks: &BTreeMap<u32, Network>,
    endpoints: &BTreeMap<u32, Endpoint>,
) -> HashMap<u32, Before> {
    let of_networks = networks.iter().map(|(number, network)| (network.first, Before::Network(*number)));
    let of_ports = endpoints.iter().map(|(number, endpoint)| (endpoint.next, Before::Endpoint(*number)));
    of_networks.chain(of_ports).filter(|(number, _)| *number != NO_ENDPOINT).collect()
}

/// Values that have to be written anew.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Networks with another `first`.
    pub networks: Vec<(u32, Network)>,
    /// Endpoints with another `next`.
    pub endpoints: Vec<(u32, Endpoint)>,
}

/// The changes that make whole lists of whatever is there. A list that is whole stays as it is.
pub fn repair(networks: &BTreeMap<u32, Network>, endpoints: &BTreeMap<u32, Endpoint>) -> Changes {
    let mut changes = Changes::default();
    for (&number, network) in networks {
        let members = || endpoints.iter().filter(move |(_, endpoint)| endpoint.network == number);
        if is_whole(number, network, endpoints, members().count()) {
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

/// Whether a network's list has an end and `count` endpoints before it, all of the network. A list that runs in a circle
/// has more than any count.
fn is_whole(number: u32, network: &Network, endpoints: &BTreeMap<u32, Endpoint>, count: usize) -> bool {
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
            assert!(walked.len() < endpoints.len(), "{walked:?} runs in a circle");
            walked.push(next);
            next = endpoints[&next].next;
        }
        walked
    }

    #[test]
    fn whole_lists_stay_as_they_are() {
        let networks = BTreeMap::from([(0, network(5)), (1, network(NO_ENDPOINT))]);
        let endpoints = BTreeMap::from([(2, endpoint(0, NO_ENDPOINT)), (5, endpoint(0, 2))]);
        assert_eq!(repair(&networks, &endpoints), Changes::default());
    }

    #[test]
    fn every_broken_list_becomes_whole() {
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
    fn what_leads_to_a_port_is_its_network_or_another_port() {
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
