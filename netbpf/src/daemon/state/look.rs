//! What is asked of the world most often. Each answer is of this moment and held by nothing.

use crate::{
    daemon::{Daemon, Error},
    model::{Container, Id, Namespace, State, Subject},
};

impl Daemon {
    /// A container by ID, as it is now.
    pub(in crate::daemon) fn container(&self, id: &Id) -> Result<Container, Error> {
        self.world().container(id).cloned().ok_or_else(|| Error::NoContainer(id.to_string()))
    }

    /// Where a running container's interfaces are.
    pub(in crate::daemon) fn namespace_of(&self, container: &Container) -> Result<Namespace, Error> {
        match (&container.subject, &container.state) {
            (Subject::Foreign(namespace), _) => Ok(namespace.clone()),
            (_, State::Running { supervisor: Some((pid, start_time)), .. }) => {
                Ok(Namespace::Process { pid: *pid, start_time: *start_time })
            }
            (Subject::Sandbox(_) | Subject::Engine(_) | Subject::Docker(_), _) => {
                Err(Error::NotRunning(container.id.to_string()))
            }
        }
    }

    /// Whether any network has IPv6.
    pub(in crate::daemon) fn has_ipv6(&self) -> bool {
        self.world().networks().any(|network| network.bridge().is_some_and(|bridge| bridge.ipv6.is_some()))
    }
}

/// What Docker has made is changed by Docker's commands, else Docker would not know of it.
pub(in crate::daemon) fn refuse(container: &Container, command: &'static str) -> Result<(), Error> {
    match &container.subject {
        Subject::Docker(_) => {
            let (_, name) = container.shown();
            Err(Error::OfDocker { what: "container", name: name.to_owned(), use_: command })
        }
        Subject::Sandbox(_) | Subject::Foreign(_) | Subject::Engine(_) => Ok(()),
    }
}
