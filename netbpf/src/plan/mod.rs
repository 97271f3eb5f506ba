//! Compares the desired state with the observed one, and returns the actions that make the kernel match the
//! model, each with its undo. Pure: no I/O, no clock. Start, recovery and every single change use [`diff`]. A
//! change passes only the networks and endpoints that it affects, so its cost does not grow with the others.

mod action;
mod closed;
mod device;
mod entry;
pub mod explain;
mod ports;
mod route;
mod rules;
mod shaper;
mod unleased;
mod wiring;

pub use action::Action;
pub use closed::Closed;
pub use device::{Device, Mend};
pub use entry::{EndpointEntry, NetworkEntry};
pub use ports::{HostPort, NoAddress, Wanted, port_changes, ports_to_keep, wanted};
pub use route::{
    DefaultRoute, Gateway, Gateways, default_gateway, default_gateway_ipv6, default_gateways, rank,
};
pub use rules::{Inbound, NetworkRules, Source, Way};
pub use shaper::{HEADERS, Shaper, Shapers};
pub use unleased::Unleased;
pub use wiring::{Desired, EndpointWiring, NetworkWiring, Observed, Seen};

use netbpf_common::endpoint;

/// The actions that turn `observed` into `desired`. Removals come first, so that names, addresses and numbers
/// are free for additions.
pub fn diff(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let mut actions = Vec::new();
    for (number, seen) in &observed.endpoints {
        if !desired.endpoints.get(number).is_some_and(|endpoint| seen.is_of_endpoint(endpoint)) {
            remove_endpoint(*number, seen, &mut actions);
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
    for endpoint in desired.endpoints.values() {
        let seen = observed.endpoints.get(&endpoint.number).filter(|seen| seen.is_of_endpoint(endpoint));
        add_endpoint(endpoint, desired.group, seen.unwrap_or(&nothing), &mut added);
    }
    // Entries first, so that a program has all of them when it is attached, also if all are rewritten after
    // an upgrade while the older version's programs still run.
    let is_entry = |action: &Action| matches!(action, Action::WriteNetwork(_) | Action::WriteEndpoint(_));
    let (entries, others): (Vec<_>, Vec<_>) = added.into_iter().partition(is_entry);
    actions.extend(entries);
    actions.extend(others);
    actions
}

/// The actions that remove networks and endpoints of which nothing is missing.
pub fn removal(removed: &Desired) -> Vec<Action> {
    diff(&Desired::default(), &Observed::of(removed))
}

/// Link before map entry, so that an interface is never without its program.
fn remove_endpoint(number: u32, seen: &Seen<EndpointEntry>, actions: &mut Vec<Action>) {
    let interface = seen.interface.clone();
    if let Some(interface) = interface.clone() {
        actions.push(Action::DeleteLink { ifindex: endpoint::ifindex_of(number), interface });
    }
    if seen.entry.is_some() || seen.attached {
        actions.push(Action::ClearEndpoint { number, interface });
    }
}

fn remove_network(number: u32, seen: &Seen<NetworkEntry>, actions: &mut Vec<Action>) {
    let interface = seen.interface.clone();
    if let Some(interface) = interface.clone() {
        actions.push(Action::DeleteLink { ifindex: netbpf_common::network::ifindex_of(number), interface });
    }
    if seen.entry.is_some() || seen.attached {
        actions.push(Action::ClearNetwork { number, interface });
    }
}

/// Map entry before link, so that the undo of both is in the order of a removal.
fn add_network(network: &NetworkWiring, group: u32, seen: &Seen<NetworkEntry>, actions: &mut Vec<Action>) {
    if seen.entry != Some(network.entry()) {
        actions.push(Action::WriteNetwork(network.clone()));
    }
    if seen.interface.is_none() {
        actions.push(Action::AddHostDevice(network.clone()));
    } else if let Some(mend) = seen.mend(&Device::of_network(network, group)) {
        actions.push(Action::MendDevice {
            ifindex: network.ifindex(),
            interface: network.device.clone(),
            mend,
        });
    }
    if seen.interface.is_none() || !seen.attached {
        actions.push(Action::AttachHostDevice { number: network.number, interface: network.device.clone() });
    }
    if seen.interface.is_some() && !seen.up {
        actions.push(Action::SetUp { ifindex: network.ifindex(), interface: network.device.clone() });
    }
}

/// Map entry and program before the interface is up.
fn add_endpoint(
    endpoint: &EndpointWiring,
    group: u32,
    seen: &Seen<EndpointEntry>,
    actions: &mut Vec<Action>,
) {
    // A new link has no program and is down, whatever was seen of the old one.
    let (attached, up) = match seen.interface {
        Some(_) => (seen.attached, seen.up),
        None => (false, false),
    };
    if seen.entry != Some(endpoint.entry()) {
        actions.push(Action::WriteEndpoint(endpoint.clone()));
    }
    if seen.interface.is_none() {
        actions.push(Action::AddEndpointLink(endpoint.clone()));
    } else if let Some(mend) = seen.mend(&Device::of_endpoint(endpoint, group)) {
        actions.push(Action::MendDevice {
            ifindex: endpoint.ifindex(),
            interface: endpoint.host_interface.clone(),
            mend,
        });
    }
    if !attached {
        actions.push(Action::AttachEndpoint {
            number: endpoint.number,
            interface: endpoint.host_interface.clone(),
        });
    }
    if !is_shaped(endpoint, seen) {
        actions.push(Action::ShapeEndpoint { before: None, after: endpoint.clone() });
    }
    if !up {
        actions
            .push(Action::SetUp { ifindex: endpoint.ifindex(), interface: endpoint.host_interface.clone() });
    }
}

/// Whether an endpoint has its queueing disciplines. A new link has none. If they may have been changed together with the
/// limit in the map, they count as others.
fn is_shaped(endpoint: &EndpointWiring, seen: &Seen<EndpointEntry>) -> bool {
    let wanted = endpoint.shapers();
    match (&seen.interface, seen.shapers) {
        (None, _) => wanted == Shapers::default(),
        (Some(_), None) => true,
        (Some(_), Some(shapers)) => {
            let is_other = |entry: &EndpointEntry| entry.limit != endpoint.egress_limit();
            shapers == wanted && !seen.entry.as_ref().is_some_and(is_other)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::model::{Access, AccessOptions, Mac, Namespace};

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

    fn endpoint(number: u32, address: &str) -> EndpointWiring {
        let address: ipnet::Ipv4Net = address.parse().unwrap();
        EndpointWiring {
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
            access: Access::default(),
            asks: false,
            owner: None,
            sysctls: Vec::new(),
            namespace: Some(Namespace::Path(PathBuf::from("/run/netns/blue"))),
            moved_to: None,
        }
    }

    fn desired(networks: &[NetworkWiring], endpoints: &[EndpointWiring]) -> Desired {
        Desired {
            group: 0,
            networks: networks.iter().map(|network| (network.number, network.clone())).collect(),
            endpoints: endpoints.iter().map(|endpoint| (endpoint.number, endpoint.clone())).collect(),
        }
    }

    fn names(actions: &[Action]) -> Vec<String> {
        actions
            .iter()
            .map(|action| format!("{action:?}").split([' ', '(']).next().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn a_correct_state_needs_no_actions() {
        let world = desired(&[network(0)], &[endpoint(0, "10.0.0.2/24"), endpoint(1, "10.0.0.3/24")]);
        assert_eq!(diff(&world, &Observed::of(&world)), []);
    }

    #[test]
    fn a_program_is_attached_before_the_interface_is_up() {
        let actions = diff(&desired(&[network(0)], &[endpoint(0, "10.0.0.2/24")]), &Observed::default());
        assert_eq!(
            names(&actions),
            [
                "WriteNetwork",
                "WriteEndpoint",
                "AddHostDevice",
                "AttachHostDevice",
                "AddEndpointLink",
                "AttachEndpoint",
                "SetUp"
            ]
        );
    }

    #[test]
    fn removals_come_before_additions() {
        let before = Observed::of(&desired(&[network(0)], &[endpoint(0, "10.0.0.2/24")]));
        let after = desired(&[network(0)], &[endpoint(1, "10.0.0.2/24")]);
        assert_eq!(
            names(&diff(&after, &before)),
            ["DeleteLink", "ClearEndpoint", "WriteEndpoint", "AddEndpointLink", "AttachEndpoint", "SetUp"]
        );
    }

    #[test]
    fn an_interface_with_another_name_is_replaced() {
        let mut before = Observed::of(&desired(&[], &[endpoint(0, "10.0.0.2/24")]));
        let seen = before.endpoints.get_mut(&0).unwrap();
        seen.interface = Some("vethold".into());
        seen.entry.as_mut().unwrap().endpoint.mac[5] = 9;
        let actions = diff(&desired(&[], &[endpoint(0, "10.0.0.2/24")]), &before);
        assert_eq!(names(&actions)[..4], ["DeleteLink", "ClearEndpoint", "WriteEndpoint", "AddEndpointLink"]);
    }

    #[test]
    fn a_lost_program_entry_or_state_is_restored_without_touching_the_link() {
        let world = desired(&[], &[endpoint(0, "10.0.0.2/24")]);
        let seen = |change: fn(&mut Seen<EndpointEntry>)| {
            let mut observed = Observed::of(&world);
            change(observed.endpoints.get_mut(&0).unwrap());
            names(&diff(&world, &observed))
        };
        assert_eq!(seen(|endpoint| endpoint.attached = false), ["AttachEndpoint"]);
        assert_eq!(seen(|endpoint| endpoint.up = false), ["SetUp"]);
        assert_eq!(seen(|endpoint| endpoint.entry = None), ["WriteEndpoint"]);
        assert_eq!(
            seen(|endpoint| endpoint.interface = None),
            ["AddEndpointLink", "AttachEndpoint", "SetUp"]
        );
    }

    #[test]
    fn a_limited_endpoint_is_shaped_before_it_is_up_and_again_if_it_is_not() {
        let mut options = AccessOptions::default();
        for key in ["netbpf.ingress_rate", "netbpf.egress_rate"] {
            options.set(key, "10mbit").unwrap();
        }
        let limited = EndpointWiring {
            access: options.within(&AccessOptions::default()),
            ..endpoint(0, "10.0.0.2/24")
        };
        let world = desired(&[], std::slice::from_ref(&limited));
        assert_eq!(
            names(&diff(&world, &Observed::default())),
            ["WriteEndpoint", "AddEndpointLink", "AttachEndpoint", "ShapeEndpoint", "SetUp"]
        );
        let seen = |shapers, change: fn(&mut EndpointEntry)| {
            let mut observed = Observed::of(&world);
            let seen = observed.endpoints.get_mut(&0).unwrap();
            seen.shapers = shapers;
            change(seen.entry.as_mut().unwrap());
            names(&diff(&world, &observed))
        };
        assert_eq!(seen(Some(limited.shapers()), |_| ()), [""; 0]);
        for lost in [
            Shapers::default(),
            Shapers { outer: None, ..limited.shapers() },
            Shapers { inner: None, ..limited.shapers() },
        ] {
            assert_eq!(seen(Some(lost), |_| ()), ["ShapeEndpoint"]);
        }
        // A daemon was killed when it had begun to remove the limit.
        let changed = seen(Some(limited.shapers()), |entry| entry.limit = Default::default());
        assert_eq!(changed, ["WriteEndpoint", "ShapeEndpoint"]);
    }

    #[test]
    fn a_network_that_is_opened_is_written_again() {
        let closed = Closed { ipv4: Some("10.0.0.0/24".parse().unwrap()), ipv6: None, internal: false };
        let before = Observed::of(&desired(&[NetworkWiring { closed, ..network(0) }], &[]));
        assert_eq!(names(&diff(&desired(&[network(0)], &[]), &before)), ["WriteNetwork"]);
    }

    #[test]
    fn undoing_all_additions_leaves_nothing() {
        let added = diff(&desired(&[network(0)], &[endpoint(0, "10.0.0.2/24")]), &Observed::default());
        let undone: Vec<_> = added.iter().rev().filter_map(Action::undo).collect();
        assert_eq!(names(&undone), ["DeleteLink", "DeleteLink", "ClearEndpoint", "ClearNetwork"]);
    }
}
