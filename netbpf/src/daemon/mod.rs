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

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

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
use state::world::World;
use tell::events::{Events, Happened};

/// A lock for each container.
type Turns = Mutex<HashMap<Id, Arc<tokio::sync::Mutex<()>>>>;

/// A running daemon.
pub struct Daemon {
    options: Options,
    /// This program, to start supervisors from.
    program: Arc<SealedProgram>,
    /// The group of all links of this daemon, by which it recognizes them.
    group: u32,
    world: Mutex<World>,
    store: Mutex<Store>,
    links: Links,
    /// Changed settings of the host, to be restored.
    settings: Settings,
    datapath: Mutex<Datapath>,
    grace: GracePeriods,
    feed: Feed,
    firewall: Firewall,
    held: Mutex<Held>,
    relay: Relay,
    /// A lock for each container: one request at a time.
    busy: Turns,
    /// Only one network is created or removed at a time, because each check looks at all subnets.
    networks_busy: tokio::sync::Mutex<()>,
    ends: Ends,
    events: Events,
    followers: Followers,
    folders: Folders,
    engine: Engine,
    /// Notified when there is something of the engine to follow.
    followed: tokio::sync::Notify,
    /// Recent requests of the engine, whose results it may not list yet.
    recent: owners::docker::Recent,
    /// A lock for each container: the engine gets one query about it at a time, so that answers arrive in
    /// order.
    engine_turns: Turns,
    pruning: tokio::sync::Mutex<()>,
    /// State of the uplinks; one change at a time.
    uplinks: tokio::sync::Mutex<Uplinks>,
    /// Links that somebody else changes again and again.
    contests: Contests,
    /// The directory of pins.
    pins: Arc<PinFolder>,
}

impl Daemon {
    /// The state in memory; never locked across an await.
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn datapath(&self) -> MutexGuard<'_, Datapath> {
        self.datapath.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Store changes, all or none.
    fn commit(&self, changes: &[Change]) -> Result<(), Error> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        fault::before("commit")?;
        tokio::task::block_in_place(|| store.commit(changes))?;
        fault::after("commit");
        Ok(())
    }

    /// Lock a container: wait for other requests on it.
    async fn busy(&self, container: Id) -> tokio::sync::OwnedMutexGuard<()> {
        turn(&self.busy, container).await
    }
}

/// Take the lock of a container.
async fn turn(turns: &Turns, container: Id) -> tokio::sync::OwnedMutexGuard<()> {
    let lock = {
        let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|id, lock| *id == container || Arc::strong_count(lock) > 1);
        turns.entry(container).or_default().clone()
    };
    lock.lock_owned().await
}
