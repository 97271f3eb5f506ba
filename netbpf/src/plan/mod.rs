//! What must be done so that the kernel is as the model says: desired against observed gives a list of actions, each
//! with its undo. Pure: no I/O, no clock. Start, recovery and every single change come through [`diff`]; a change
//! passes only the part of the world that it is about, so that its cost does not grow with the rest.

mod action;
mod closed;
mod device;
mod ports;
mod route;
mod rules;
mod wiring;

pub use action::Action;
pub use closed::Closed;
pub use device::{Device, Mend};
pub use ports::{HostPort, NoAddress, Wanted, port_changes, ports_to_keep, wanted};
pub use route::{
    DefaultRoute, Gateway, Gateways, default_gateway, default_gateway_ipv6, default_gateways, rank,
};
pub use rules::{Inbound, NetworkRules, Source, Way};
pub use wiring::{Desired, NetworkWiring, Observed, PortWiring, Seen};

/// The actions that turn `observed` into `desired`: what is too much goes first, so that names, addresses and numbers
/// are free for what comes.
pub fn diff(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let mut actions = Vec::new();
    for (number, seen) in &observed.ports {
        if !desired.ports.get(number).is_some_and(|port| seen.is_of_port(port)) {
            remove_port(*number, seen, &mut actions);
        }
    }
    for (number, seen) in &observed.networks {
        if !desired.networks.get(number).is_some_and(|network| seen.is_of_network(network)) {
            remove_network(*number, seen, &mut actions);
        }
    }
    let mut added = Vec::new();
    let nothing = Seen::default();
    for network in desired.networks.values() {
        let seen = observed.networks.get(&network.number).filter(|seen| seen.is_of_network(network));
        add_network(network, desired.group, seen.unwrap_or(&nothing), &mut added);
    }
    let nothing = Seen::default();
    for port in desired.ports.values() {
        let seen = observed.ports.get(&port.number).filter(|seen| seen.is_of_port(port));
        add_port(port, desired.group, seen.unwrap_or(&nothing), &mut added);
    }
    // A program that is attached finds everybody, also where all are written anew behind an older version's programs.
    let is_entry = |action: &Action| matches!(action, Action::WriteNetwork(_) | Action::WritePort(_));
    let (entries, others): (Vec<_>, Vec<_>) = added.into_iter().partition(is_entry);
    actions.extend(entries);
    actions.extend(others);
    actions
}

/// Link before map entry: an interface is never without its program.
fn remove_port(number: u32, seen: &Seen<PortWiring>, actions: &mut Vec<Action>) {
    let interface = seen.interface.clone();
    if let Some(interface) = interface.clone() {
        actions.push(Action::DeleteLink { ifindex: netbpf_common::endpoint::ifindex_of(number), interface });
    }
    if seen.entry.is_some() || seen.attached {
        actions.push(Action::ClearPort { number, interface });
    }
}

fn remove_network(number: u32, seen: &Seen<NetworkWiring>, actions: &mut Vec<Action>) {
    let interface = seen.interface.clone();
    if let Some(interface) = interface.clone() {
        actions.push(Action::DeleteLink { ifindex: netbpf_common::network::ifindex_of(number), interface });
    }
    if seen.entry.is_some() || seen.attached {
        actions.push(Action::ClearNetwork { number, interface });
    }
}

/// Map entry before link, so that the undo of both is in the order of a removal.
fn add_network(network: &NetworkWiring, group: u32, seen: &Seen<NetworkWiring>, actions: &mut Vec<Action>) {
    if !seen.entry.as_ref().is_some_and(|entry| entry.same_entry(network)) {
        actions.push(Action::WriteNetwork(network.clone()));
    }
    if seen.interface.is_none() {
        actions.push(Action::AddHostDevice(network.clone()));
    } else if let Some(mend) = seen.mend(&Device::of_network(network, group)) {
        actions.push(Action::MendDevice {
            ifindex: netbpf_common::network::ifindex_of(network.number),
            interface: network.device.clone(),
            mend,
        });
    }
    if seen.interface.is_none() || !seen.attached {
        actions.push(Action::AttachHostDevice { number: network.number, interface: network.device.clone() });
    }
    if seen.interface.is_some() && !seen.up {
        actions.push(Action::SetUp {
            ifindex: netbpf_common::network::ifindex_of(network.number),
            interface: network.device.clone(),
        });
    }
}

/// Map entry and program before traffic can come.
fn add_port(port: &PortWiring, group: u32, seen: &Seen<PortWiring>, actions: &mut Vec<Action>) {
    // A new link has no program and is down, whatever was seen of the old one.
    let (attached, up) = match seen.interface {
        Some(_) => (seen.attached, seen.up),
        None => (false, false),
    };
    if !seen.entry.as_ref().is_some_and(|entry| entry.same_entry(port)) {
        actions.push(Action::WritePort(port.clone()));
    }
    if seen.interface.is_none() {
        actions.push(Action::AddEndpointLink(port.clone()));
    } else if let Some(mend) = seen.mend(&Device::of_port(port, group)) {
        actions.push(Action::MendDevice {
            ifindex: netbpf_common::endpoint::ifindex_of(port.number),
            interface: port.host_interface.clone(),
            mend,
        });
    }
    if !attached {
        actions.push(Action::AttachPort { number: port.number, interface: port.host_interface.clone() });
    }
    if !up {
        actions.push(Action::SetUp {
            ifindex: netbpf_common::endpoint::ifindex_of(port.number),
            interface: port.host_interface.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::model::{Mac, Namespace};

    fn network(number: u32) -> NetworkWiring {
        NetworkWiring {
            number,
            device: format!("nb-{number}"),
            peer: format!("nbp{number}"),
            mac: "02:42:0a:00:00:01".parse().unwrap(),
            ipv4: Some("10.0.0.1/24".parse().unwrap()),
            ipv6: Some("fd00::1/64".parse().unwrap()),
            default_gateway: None,
            default_gateway_ipv6: None,
            inhibit: false,
            mtu: 1500,
            gso_max_size: None,
            icc: true,
            flood_copies: 0,
            closed: Closed::default(),
        }
    }

    fn port(number: u32, address: &str) -> PortWiring {
        let address: ipnet::Ipv4Net = address.parse().unwrap();
        PortWiring {
            number,
            network: 0,
            host_interface: format!("veth{number}"),
            interface: "eth0".into(),
            mac: Mac::of(address.addr()),
            ipv4: Some(address),
            ipv6: Some("fd00::2/64".parse().unwrap()),
            mtu: 1500,
            gso_max_size: None,
            icc: true,
            owner: None,
            sysctls: Vec::new(),
            namespace: Some(Namespace::Path(PathBuf::from("/run/netns/blue"))),
        }
    }

    fn desired(networks: &[NetworkWiring], ports: &[PortWiring]) -> Desired {
        Desired {
            group: 0,
            networks: networks.iter().map(|network| (network.number, network.clone())).collect(),
            ports: ports.iter().map(|port| (port.number, port.clone())).collect(),
        }
    }

    fn observed(desired: &Desired) -> Observed {
        Observed {
            networks: desired
                .networks
                .iter()
                .map(|(number, network)| (*number, Seen::whole(&network.device, network.clone())))
                .collect(),
            ports: desired
                .ports
                .iter()
                .map(|(number, port)| (*number, Seen::whole(&port.host_interface, port.clone())))
                .collect(),
        }
    }

    fn names(actions: &[Action]) -> Vec<String> {
        actions
            .iter()
            .map(|action| format!("{action:?}").split([' ', '(']).next().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn what_is_as_it_should_be_is_left_alone() {
        let world = desired(&[network(0)], &[port(0, "10.0.0.2/24"), port(1, "10.0.0.3/24")]);
        assert_eq!(diff(&world, &observed(&world)), []);
    }

    #[test]
    fn a_program_is_attached_before_the_port_comes_up() {
        let actions = diff(&desired(&[network(0)], &[port(0, "10.0.0.2/24")]), &Observed::default());
        assert_eq!(
            names(&actions),
            [
                "WriteNetwork",
                "WritePort",
                "AddHostDevice",
                "AttachHostDevice",
                "AddEndpointLink",
                "AttachPort",
                "SetUp"
            ]
        );
    }

    #[test]
    fn what_is_too_much_goes_before_anything_comes() {
        let before = observed(&desired(&[network(0)], &[port(0, "10.0.0.2/24")]));
        let after = desired(&[network(0)], &[port(1, "10.0.0.2/24")]);
        assert_eq!(
            names(&diff(&after, &before)),
            ["DeleteLink", "ClearPort", "WritePort", "AddEndpointLink", "AttachPort", "SetUp"]
        );
    }

    #[test]
    fn a_number_that_means_another_interface_now_is_made_anew() {
        let mut before = observed(&desired(&[], &[port(0, "10.0.0.2/24")]));
        let seen = before.ports.get_mut(&0).unwrap();
        seen.interface = Some("vethold".into());
        seen.entry.as_mut().unwrap().mac = "02:42:0a:00:00:09".parse().unwrap();
        let actions = diff(&desired(&[], &[port(0, "10.0.0.2/24")]), &before);
        assert_eq!(names(&actions)[..4], ["DeleteLink", "ClearPort", "WritePort", "AddEndpointLink"]);
    }

    #[test]
    fn a_lost_program_entry_or_state_is_restored_without_touching_the_link() {
        let world = desired(&[], &[port(0, "10.0.0.2/24")]);
        let seen = |change: fn(&mut Seen<PortWiring>)| {
            let mut observed = observed(&world);
            change(observed.ports.get_mut(&0).unwrap());
            names(&diff(&world, &observed))
        };
        assert_eq!(seen(|port| port.attached = false), ["AttachPort"]);
        assert_eq!(seen(|port| port.up = false), ["SetUp"]);
        assert_eq!(seen(|port| port.entry = None), ["WritePort"]);
        assert_eq!(seen(|port| port.interface = None), ["AddEndpointLink", "AttachPort", "SetUp"]);
    }

    #[test]
    fn a_network_that_is_opened_is_written_again() {
        let closed = Closed { ipv4: Some("10.0.0.0/24".parse().unwrap()), ipv6: None, internal: false };
        let before = observed(&desired(&[NetworkWiring { closed, ..network(0) }], &[]));
        assert_eq!(names(&diff(&desired(&[network(0)], &[]), &before)), ["WriteNetwork"]);
    }

    #[test]
    fn undoing_what_was_added_leaves_nothing() {
        let added = diff(&desired(&[network(0)], &[port(0, "10.0.0.2/24")]), &Observed::default());
        let undone: Vec<_> = added.iter().rev().filter_map(Action::undo).collect();
        assert_eq!(names(&undone), ["DeleteLink", "DeleteLink", "ClearPort", "ClearNetwork"]);
    }
}
