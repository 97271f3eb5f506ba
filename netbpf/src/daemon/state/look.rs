//! Frequent queries of the state. The answers are copies, valid at this moment.

use crate::{
    daemon::{Error, state::State},
    model::{self, AccessOptions, Container, Id, Mapping, Namespace, Network},
};

impl State {
    /// A copy of a container, by ID.
    pub fn container(&self, id: &Id) -> Result<Container, Error> {
        self.world().container(id).cloned().ok_or_else(|| Error::NoContainer(id.to_string()))
    }

    /// Copies of all containers.
    pub fn containers(&self) -> Vec<Container> {
        self.world().containers().cloned().collect()
    }

    /// The published ports of all containers.
    pub fn mappings(&self) -> Vec<Mapping> {
        self.world().containers().flat_map(|container| container.mappings.clone()).collect()
    }

    /// Whether only predefined networks exist and no container runs: then a daemon that stops removes its
    /// datapath.
    pub fn is_empty(&self) -> bool {
        let world = self.world();
        world.networks().all(Network::is_predefined)
            && !world.containers().any(|container| matches!(container.state, model::State::Running { .. }))
    }

    /// Whether any network has IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.world().networks().any(|network| network.bridge().is_some_and(|bridge| bridge.ipv6.is_some()))
    }
}

/// The network namespace of a running container.
pub(in crate::daemon) fn namespace_of(container: &Container) -> Result<Namespace, Error> {
    container.namespace().ok_or_else(|| Error::NotRunning(container.id.to_string()))
}

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
