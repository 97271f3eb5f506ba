//! What is asked of the world most often. Each answer is of this moment and held by nothing.

use crate::{
    daemon::{Daemon, Error},
    model::{Container, Id, Namespace},
};

impl Daemon {
    /// A container by ID, as it is now.
    pub(in crate::daemon) fn container(&self, id: &Id) -> Result<Container, Error> {
        self.world().container(id).cloned().ok_or_else(|| Error::NoContainer(id.to_string()))
    }

    /// Where a running container's interfaces are.
    pub(in crate::daemon) fn namespace_of(&self, container: &Container) -> Result<Namespace, Error> {
        container.namespace().ok_or_else(|| Error::NotRunning(container.id.to_string()))
    }

    /// Whether any network has IPv6.
    pub(in crate::daemon) fn has_ipv6(&self) -> bool {
        self.world().networks().any(|network| network.bridge().is_some_and(|bridge| bridge.ipv6.is_some()))
    }
}

/// What Docker has made is changed by Docker's commands, else Docker would not know of it.
pub(in crate::daemon) fn refuse(container: &Container, command: &'static str) -> Result<(), Error> {
    if !container.owner().refuses_changes() {
        return Ok(());
    }
    let (_, name) = container.shown();
    Err(Error::OfDocker { what: "container", name: name.to_owned(), use_: command })
}
