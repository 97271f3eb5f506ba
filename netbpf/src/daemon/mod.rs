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
mod ports;
mod service;
mod state;
mod tell;

use std::sync::Arc;

pub use error::Error;
pub use owners::docker::{DockerEndpointRequest, DockerNetwork, Joined};
pub use service::{BPFFS, Inherited, Options, run};
pub use tell::info::version;

use crate::{
    datapath::Datapath,
    dns::Feed,
    engine::Engine,
    firewall::Firewall,
    link::Links,
    model::Id,
    relay::Relay,
    sandbox::SealedProgram,
    store::{Change, Store},
};
use effects::contest::Contests;
use effects::grace::GracePeriods;
use effects::pins::PinFolder;
use effects::settings::Settings;
use effects::uplinks::Uplinks;
use owners::gone::Folders;
use owners::sandbox::ends::Ends;
use owners::sandbox::logs::Followers;
use ports::held::Held;
use state::locks::{self, ContainerLocks, DataLock, LockedContainer, TaskLock};
use state::world::World;
use tell::events::{Events, Happened};

/// A running daemon.
pub struct Daemon {
    options: Options,
    /// This program, to start supervisors from.
    program: Arc<SealedProgram>,
    /// The group of all links of this daemon, by which it recognizes them.
    group: u32,
    world: DataLock<World>,
    store: DataLock<Store>,
    links: Links,
    /// Changed settings of the host, to be restored.
    settings: Settings,
    datapath: DataLock<Datapath>,
    grace: GracePeriods,
    feed: Feed,
    firewall: Firewall,
    held: DataLock<Held>,
    relay: Relay,
    container_locks: ContainerLocks,
    network_changes: TaskLock<()>,
    ends: Ends,
    events: Events,
    followers: Followers,
    folders: Folders,
    engine: Engine,
    /// Notified when there is something of the engine to follow.
    followed: tokio::sync::Notify,
    /// Recent requests of the engine, whose results it may not list yet.
    recent: owners::docker::Recent,
    engine_queries: ContainerLocks,
    pruning: TaskLock<()>,
    uplinks: TaskLock<Uplinks>,
    /// Links that somebody else changes again and again.
    contests: Contests,
    /// The directory of pins.
    pins: Arc<PinFolder>,
}

impl Daemon {
    /// The state in memory; never locked across an await.
    fn world(&self) -> locks::Held<'_, World> {
        self.world.lock()
    }

    fn datapath(&self) -> locks::Held<'_, Datapath> {
        self.datapath.lock()
    }

    /// Store changes, all or none.
    fn commit(&self, changes: &[Change]) -> Result<(), Error> {
        let mut store = self.store.lock();
        fault::before("commit")?;
        tokio::task::block_in_place(|| store.commit(changes))?;
        fault::after("commit");
        Ok(())
    }

    /// Lock a container: wait for other requests on it.
    async fn lock_container(&self, container: Id) -> LockedContainer {
        self.container_locks.lock(container).await
    }
}
