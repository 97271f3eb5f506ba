//! What must be done so that the kernel is as the model says: desired against observed gives a list of actions, each
//! with its undo. Pure: no I/O, no clock. Start, recovery and every single change come through [`diff`]; a change
//! passes only the part of the world that it is about, so that its cost does not grow with the rest.

mod action;
mod route;
mod wiring;

pub use action::Action;
pub use route::default_gateway;
pub use wiring::{Desired, NetworkWiring, Observed, PortWiring, Seen};

/// The actions that turn `observed` into `desired`: what is too much goes first, so that names, addresses and numbers
/// are free for what comes.
pub fn diff(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let mut actions = Vec::new();
    for (number, seen) in &observed.ports {
        if !desired.ports.get(number).is_some_and(|port| seen.is_at_home(&port.host_interface)) {
            remove_port(*number, seen, &mut actions);
        }
    }
    for (number, seen) in &observed.networks {
        if !desired.networks.get(number).is_some_and(|network| seen.is_at_home(&network.device)) {
            remove_network(*number, seen, &mut actions);
        }
    }
    let nothing = Seen::default();
    for network in desired.networks.values() {
        let seen = observed.networks.get(&network.number).filter(|seen| seen.is_at_home(&network.device));
        add_network(network, seen.unwrap_or(&nothing), &mut actions);
    }
    let nothing = Seen::default();
    for port in desired.ports.values() {
        let seen = observed.ports.get(&port.number).filter(|seen| seen.is_at_home(&port.host_interface));
        add_port(port, seen.unwrap_or(&nothing), &mut actions);
    }
    actions
}

/// Map entry before link: a frame that still comes finds no port and is dropped, never misdelivered.
fn remove_port(number: u32, seen: &Seen<PortWiring>, actions: &mut Vec<Action>) {
    let interface = seen.interface.clone();
    if seen.entry.is_some() || seen.attached {
        actions.push(Action::ClearPort { number, interface: interface.clone(), entry: seen.entry.clone() });
    }
    if let Some(interface) = interface {
        actions.push(Action::DeleteLink { ifindex: netbpf_common::endpoint::ifindex_of(number), interface });
    }
}

fn remove_network(number: u32, seen: &Seen<NetworkWiring>, actions: &mut Vec<Action>) {
    let interface = seen.interface.clone();
    if seen.entry.is_some() || seen.attached {
        actions.push(Action::ClearNetwork { number, interface: interface.clone(), entry: seen.entry.clone() });
    }
    if let Some(interface) = interface {
        actions.push(Action::DeleteLink { ifindex: netbpf_common::network::ifindex_of(number), interface });
    }
}

/// Map entry and program before traffic can come.
fn add_network(network: &NetworkWiring, seen: &Seen<NetworkWiring>, actions: &mut Vec<Action>) {
    if seen.interface.is_none() {
        actions.push(Action::AddHostDevice(network.clone()));
    }
    if !seen.entry.as_ref().is_some_and(|entry| entry.same_entry(network)) {
        actions.push(Action::WriteNetwork(network.clone()));
    }
    if !seen.attached {
        actions.push(Action::AttachHostDevice { number: network.number, interface: network.device.clone() });
    }
    if !seen.up {
        actions.push(Action::SetUp {
            ifindex: netbpf_common::network::ifindex_of(network.number),
            interface: network.device.clone(),
        });
    }
}

fn add_port(port: &PortWiring, seen: &Seen<PortWiring>, actions: &mut Vec<Action>) {
    if seen.interface.is_none() {
        actions.push(Action::AddEndpointLink(port.clone()));
    }
    if !seen.entry.as_ref().is_some_and(|entry| entry.same_entry(port)) {
        actions.push(Action::WritePort(port.clone()));
    }
    if !seen.attached {
        actions.push(Action::AttachPort { number: port.number, interface: port.host_interface.clone() });
    }
    if !seen.up {
        actions.push(Action::SetUp {
            ifindex: netbpf_common::endpoint::ifindex_of(port.number),
            interface: port.host_interface.clone(),
        });
    }
}
