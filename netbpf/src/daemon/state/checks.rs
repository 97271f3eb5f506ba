//! Refuses what a network or a container's owner does not permit.

use crate::{
    daemon::Error,
    model::{AccessOptions, Container, Network},
};

/// Refuses further addresses that are the host's or the gateway's in the network. (Whether a member leases one:
/// [`World::check_access`](super::world::World::check_access).)
pub(in crate::daemon) fn check_further(access: &AccessOptions, network: &Network) -> Result<(), Error> {
    let Some(bridge) = network.bridge() else { return Ok(()) };
    match access.single_addresses().find(|address| bridge.is_of_host(*address)) {
        Some(address) => {
            Err(Error::FurtherInUse { address, by: "the gateway".to_owned(), network: network.name.clone() })
        }
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
