//! Handles start, end and renaming of containers, in a file or directory for each kind of owner: `sandbox`, a
//! process that netbpf starts; `namespace`, a network namespace of others; `engine`, an engine's container that netbpf
//! connects; `docker`, an endpoint for which netbpf is Docker's network driver; `plugin`, a container of a runtime that
//! executes netbpf as its plugin. Two of them use another: `namespace`
//! asks `engine` for a name that is unknown here, and `engine` runs `docker`'s comparison with Docker's lists when its
//! connection is restored. Properties of a container that follow from its owner are in `model/owner`.

mod commands;
pub(in crate::daemon) mod docker;
mod engine;
pub(in crate::daemon) mod gone;
mod namespace;
pub(in crate::daemon) mod plugin;
pub(in crate::daemon) mod sandbox;

use std::{io, path::Path, sync::Arc};

use tokio::sync::Notify;

use crate::{
    daemon::{
        Daemon, Error,
        state::locks::{ContainerLocks, Rank},
    },
    engine::Engine,
    model::{Container, Subject},
    sandbox::Supervisor,
};
use gone::WatchedFolders;
use sandbox::{ends::Ends, logs::Followers};

/// What is needed to follow containers of each kind.
pub struct Owners {
    ends: Ends,
    followers: Followers,
    folders: WatchedFolders,
    engine: Engine,
    engine_queries: ContainerLocks,
    /// Notified when there is something of the engine to follow.
    followed: Notify,
    /// Recent requests of the engine, whose results it may not list yet.
    recent: docker::Recent,
}

impl Owners {
    /// Asks nobody yet. `engine_socket` is Docker's.
    ///
    /// # Errors
    /// If the kernel gives no inotify instance.
    pub fn new(engine_socket: &Path) -> io::Result<Self> {
        Ok(Self {
            ends: Ends::new(),
            followers: Followers::default(),
            folders: WatchedFolders::new()?,
            engine: Engine::new(engine_socket),
            engine_queries: ContainerLocks::new(Rank::EngineQuery),
            followed: Notify::new(),
            recent: docker::Recent::new(),
        })
    }
}

impl Daemon {
    /// Follow a container after its first connection, until it ends.
    fn follow_adopted(self: &Arc<Self>, container: &Container) {
        match &container.subject {
            Subject::Namespace(namespace) => self.watch_namespace(container.id, namespace.clone()),
            Subject::Engine(_) => self.follow(container),
            // Followed since it was started or created.
            Subject::Sandbox(_) | Subject::Docker(_) | Subject::Plugin(_) => {}
        }
    }

    /// Check a stored container after the daemon's start. If it runs, it is followed; if it has ended, its
    /// endpoints are removed. Returns the supervisor of a running sandbox, which the caller must follow.
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
            Subject::Plugin(plugin) => {
                self.find_namespace_again(&container, &plugin.namespace).await.map(|()| None)
            }
            // Docker is asked for all of its endpoints at once.
            Subject::Docker(_) => Ok(None),
        }
    }
}
