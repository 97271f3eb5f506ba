//! Frequent queries of the state. The answers are copies, valid at this moment.

use crate::{
    daemon::{Error, state::State},
    model::{self, Container, Id, Mapping, Namespace, Network},
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
