//! Refuses what a network or a container's owner does not permit.

use crate::{
    daemon::Error,
    model::{AccessOptions, Container, Namespace, Network},
    plan::HEADERS,
};

/// Refuses options of an endpoint or a network that cannot be in the network.
pub(in crate::daemon) fn check_options(access: &AccessOptions, network: &Network) -> Result<(), Error> {
    check_bursts(access, network)?;
    check_further(access, network)
}

/// Refuses further addresses that no member can have: the host's or the gateway's, and the ends of its subnets
/// ([`Block::ends`](crate::model::Block::ends)). (Whether a member leases one:
/// [`World::check_access`](super::world::World::check_access).)
fn check_further(access: &AccessOptions, network: &Network) -> Result<(), Error> {
    let Some(bridge) = network.bridge() else { return Ok(()) };
    for address in access.single_addresses() {
        let network = || network.name.clone();
        if bridge.is_of_host(address) {
            return Err(Error::FurtherInUse { address, by: "the gateway".to_owned(), network: network() });
        }
        if bridge.is_an_end(address) {
            return Err(Error::FurtherIsEnd { address, network: network() });
        }
    }
    Ok(())
}

/// Refuses bursts in which no frame of the network fits: nothing would pass.
fn check_bursts(access: &AccessOptions, network: &Network) -> Result<(), Error> {
    let Some(bridge) = network.bridge() else { return Ok(()) };
    let frame = bridge.options.mtu + HEADERS;
    match access.limits().bursts().find(|(_, burst)| burst.bytes() < frame) {
        Some((option, burst)) => Err(Error::Invalid(format!(
            "{option}: a burst of {} bytes is too small: frames of network {} have up to {frame} bytes",
            burst.bytes(),
            network.name
        ))),
        None => Ok(()),
    }
}

/// Refuses changes of a container that only its owner's commands change. `command` is the name that the command has
/// here and there.
pub(in crate::daemon) fn refuse(container: &Container, command: &'static str) -> Result<(), Error> {
    let Some(manager) = container.owner().manager() else { return Ok(()) };
    let (_, name) = container.shown();
    Err(Error::Managed { what: "container", name: name.to_owned(), manager, command })
}

/// The same with `force`: as long as the owner's container exists. What the owner has left behind may be changed.
pub(in crate::daemon) fn refuse_forced(
    container: &Container,
    command: &'static str,
    is_alive: impl FnOnce(&Namespace) -> bool,
) -> Result<(), Error> {
    let namespace = container.namespace().or_else(|| container.moved_to());
    match namespace.is_some_and(|namespace| is_alive(&namespace)) {
        true => refuse(container, command),
        false => Ok(()),
    }
}
