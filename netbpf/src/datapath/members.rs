//! The lists that broadcasts walk: pure reading and repairing of them. A list starts at a network's `first`, goes on
//! by its ports' `next`, and holds each of the network's ports once.

use std::collections::{BTreeMap, HashMap};

use netbpf_common::{
    endpoint::{NO_PORT, Port},
    network::Network,
};

/// What leads to a port in its network's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// The network: the port is the first.
    Network(u32),
    /// Another port.
    Port(u32),
}

/// What leads to each port that something leads to.
pub fn all_before(networks: &BTreeMap<u32, Network>, ports: &BTreeMap<u32, Port>) -> HashMap<u32, Before> {
    let of_networks = networks.iter().map(|(number, network)| (network.first, Before::Network(*number)));
    let of_ports = ports.iter().map(|(number, port)| (port.next, Before::Port(*number)));
    of_networks.chain(of_ports).filter(|(number, _)| *number != NO_PORT).collect()
}

/// Values that have to be written anew.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Networks with another `first`.
    pub networks: Vec<(u32, Network)>,
    /// Ports with another `next`.
    pub ports: Vec<(u32, Port)>,
}

/// The changes that make whole lists of whatever is there. A list that is whole stays as it is.
pub fn repair(networks: &BTreeMap<u32, Network>, ports: &BTreeMap<u32, Port>) -> Changes {
    let mut changes = Changes::default();
    for (&number, network) in networks {
        let members = || ports.iter().filter(move |(_, port)| port.network == number);
        if is_whole(number, network, ports, members().count()) {
            continue;
        }
        let mut next = NO_PORT;
        for (&member, port) in members().rev() {
            if port.next != next {
                changes.ports.push((member, Port { next, ..*port }));
            }
            next = member;
        }
        if network.first != next {
            changes.networks.push((number, Network { first: next, ..*network }));
        }
    }
    changes
}

/// Whether a network's list has an end and `count` ports before it, all of the network. A list that runs in a circle
/// has more than any count.
fn is_whole(number: u32, network: &Network, ports: &BTreeMap<u32, Port>, count: usize) -> bool {
    let mut next = network.first;
    for _ in 0..count {
        match ports.get(&next) {
            Some(port) if port.network == number => next = port.next,
            Some(_) | None => return false,
        }
    }
    next == NO_PORT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(first: u32) -> Network {
        Network { ifindex: 1, first, ..Network::default() }
    }

    fn port(network: u32, next: u32) -> Port {
        Port { ifindex: 1, network, next, ..Port::default() }
    }

    fn repaired(networks: &mut BTreeMap<u32, Network>, ports: &mut BTreeMap<u32, Port>) {
        let changes = repair(networks, ports);
        networks.extend(changes.networks);
        ports.extend(changes.ports);
    }

    fn walk(number: u32, networks: &BTreeMap<u32, Network>, ports: &BTreeMap<u32, Port>) -> Vec<u32> {
        let mut next = networks[&number].first;
        let mut walked = Vec::new();
        while next != NO_PORT {
            assert!(walked.len() < ports.len(), "{walked:?} runs in a circle");
            walked.push(next);
            next = ports[&next].next;
        }
        walked
    }

    #[test]
    fn whole_lists_stay_as_they_are() {
        let networks = BTreeMap::from([(0, network(5)), (1, network(NO_PORT))]);
        let ports = BTreeMap::from([(2, port(0, NO_PORT)), (5, port(0, 2))]);
        assert_eq!(repair(&networks, &ports), Changes::default());
    }

    #[test]
    fn every_broken_list_becomes_whole() {
        let rings = BTreeMap::from([(1, port(0, 2)), (2, port(0, 1)), (3, port(0, 3))]);
        let strays = BTreeMap::from([(1, port(0, 9)), (2, port(0, NO_PORT)), (3, port(0, NO_PORT))]);
        let foreign =
            BTreeMap::from([(1, port(0, 4)), (2, port(0, 3)), (3, port(0, NO_PORT)), (4, port(1, 2))]);
        for ports in [rings, strays, foreign] {
            for first in [1, 2, 4, 9, NO_PORT] {
                let mut networks = BTreeMap::from([(0, network(first)), (1, network(NO_PORT))]);
                let mut ports = ports.clone();
                repaired(&mut networks, &mut ports);
                let mut members = walk(0, &networks, &ports);
                members.sort_unstable();
                assert_eq!(members, [1, 2, 3]);
                assert!(walk(1, &networks, &ports).iter().all(|member| *member == 4));
            }
        }
    }

    #[test]
    fn what_leads_to_a_port_is_its_network_or_another_port() {
        let networks = BTreeMap::from([(0, network(5))]);
        let ports = BTreeMap::from([(2, port(0, NO_PORT)), (5, port(0, 2)), (6, port(0, NO_PORT))]);
        let before = all_before(&networks, &ports);
        assert_eq!(before, HashMap::from([(5, Before::Network(0)), (2, Before::Port(5))]));
    }
}
