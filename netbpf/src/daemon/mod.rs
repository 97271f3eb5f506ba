//! The control plane. A request changes the state in memory, the kernel and the store, in these steps: lease
//! (fast, under a lock), do (steps with undo), commit, answer. A removal is committed first and carried out
//! afterwards. So a daemon that is killed at any point leaves either the old state, or one that the next
//! start completes to the stored one. Requests on one container wait for each other; requests on different
//! ones do not.

mod effects;
mod error;
mod fault;
mod membership;
mod names;
mod owners;
mod parts;
mod ports;
mod service;
mod state;
mod tell;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use error::Error;
pub use membership::networks::NetworkRequest;
pub use owners::docker::{DockerEndpointRequest, DockerNetwork, Joined};
pub use owners::sandbox::containers::{NetworkMode, SandboxRequest};
pub use service::{BPFFS, Inherited, Options, run};
pub use tell::{
    events::{Event, EventKind},
    info::{Info, Repair, Standing, StandingState, Stats, Uplink, kernel},
    view::{AttachmentView, ContainerView, MemberView, NetworkView},
};

pub use crate::sandbox::logs::Record;

use crate::{model::Id, sandbox::SealedProgram, store::Change};
use effects::host::Host;
use owners::Owners;
use parts::Datapath;
use ports::Ports;
use state::{
    State,
    locks::{self, LockedContainer},
    world::World,
};
use tell::events::{Events, Happened};

/// A running daemon: a struct for each module that keeps something.
pub struct Daemon {
    options: Options,
    /// This program, to start supervisors from.
    program: Arc<SealedProgram>,
    state: State,
    host: Host,
    ports: Ports,
    owners: Owners,
    events: Events,
}

impl Daemon {
    /// The state in memory; never locked across an await.
    fn world(&self) -> locks::Held<'_, World> {
        self.state.world.lock()
    }

    fn datapath(&self) -> locks::Held<'_, Datapath> {
        self.host.datapath.lock()
    }

    /// Store changes, all or none.
    fn commit(&self, changes: &[Change]) -> Result<(), Error> {
        let mut store = self.state.store.lock();
        fault::before("commit")?;
        tokio::task::block_in_place(|| store.commit(changes))?;
        fault::after("commit");
        Ok(())
    }

    /// Lock a container: wait for other requests on it.
    async fn lock_container(&self, container: Id) -> LockedContainer {
        self.state.container_locks.lock(container).await
    }
}
