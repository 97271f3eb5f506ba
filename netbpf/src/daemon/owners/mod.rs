//! Owners of containers: netbpf itself, somebody who made a namespace, an engine, Docker. What happens when a container of
//! theirs begins, ends or is renamed is in a folder or file for each; they do not know each other. What an owner answers
//! about a container without doing anything is in `model/owner`.

mod commands;
pub(in crate::daemon) mod docker;
mod engine;
pub(in crate::daemon) mod gone;
mod namespace;
pub(in crate::daemon) mod sandbox;

use std::sync::Arc;

use crate::{
    daemon::{Daemon, Error},
    model::{Container, Subject},
    sandbox::Supervisor,
};

impl Daemon {
    /// Follow a container that has just been connected for the first time, until it ends.
    fn follow_adopted(self: &Arc<Self>, container: &Container) {
        match &container.subject {
            Subject::Namespace(namespace) => self.watch_namespace(container.id, namespace.clone()),
            Subject::Engine(_) => self.follow(container),
            // Followed since it was started or created.
            Subject::Sandbox(_) | Subject::Docker(_) => {}
        }
    }

    /// Find a stored container after a start of the daemon. One that runs is followed; of one that has ended, the
    /// endpoints are removed. Returns the supervisor of a sandbox that runs, for the caller to follow.
    pub(in crate::daemon) async fn find_again(
        self: &Arc<Self>,
        container: Container,
    ) -> Result<Option<Supervisor>, Error> {
        match &container.subject {
            Subject::Sandbox(_) => self.find_sandbox_again(&container).await,
            Subject::Namespace(namespace) => {
                self.find_namespace_again(&container, namespace).await.map(|()| None)
            }
            Subject::Engine(_) => self.find_engine_container_again(container).await.map(|()| None),
            // Docker is asked for all of its endpoints at once.
            Subject::Docker(_) => Ok(None),
        }
    }
}
