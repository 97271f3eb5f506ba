//! The control plane. Requests change the world in memory, the kernel and the store, in this order of steps: lease
//! (quick, under a lock), do (undoable steps), commit, answer. A removal is committed first and carried out after. So
//! a daemon that is killed at any instruction leaves either the old state, or one that the next start brings to the
//! stored one. Requests on one container wait for each other; requests on different ones do not.

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
use effects::grace::GracePeriods;
use effects::settings::Settings;
use effects::uplinks::Uplinks;
use owners::gone::Folders;
use owners::sandbox::ends::Ends;
use owners::sandbox::logs::Followers;
use ports::held::Held;
use state::world::World;
use tell::events::{Events, Happened};

/// Who has to wait for whom, by container.
type Turns = Mutex<HashMap<Id, Arc<tokio::sync::Mutex<()>>>>;

/// A running daemon.
pub struct Daemon {
    options: Options,
    /// This program, to start supervisors from.
    program: Arc<SealedProgram>,
    /// What all links of this daemon carry as group, so that it knows its own.
    group: u32,
    world: Mutex<World>,
    store: Mutex<Store>,
    links: Links,
    /// What was changed on the host, to be put back.
    settings: Settings,
    datapath: Mutex<Datapath>,
    grace: GracePeriods,
    feed: Feed,
    firewall: Firewall,
    held: Mutex<Held>,
    relay: Relay,
    /// One at a time on each container.
    busy: Turns,
    /// One network is made or removed at a time: each looks at all subnets.
    networks_busy: tokio::sync::Mutex<()>,
    ends: Ends,
    events: Events,
    followers: Followers,
    folders: Folders,
    engine: Engine,
    /// There is something of the engine's to follow.
    followed: tokio::sync::Notify,
    /// What the engine may not know yet that it has.
    recent: owners::docker::Recent,
    /// The engine is asked of one container at a time, so that its answers come in their order.
    engine_turns: Turns,
    pruning: tokio::sync::Mutex<()>,
    /// How it stands with the ways to other hosts; one change at a time.
    uplinks: tokio::sync::Mutex<Uplinks>,
}

impl Daemon {
    /// The world; never held across an await.
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn datapath(&self) -> MutexGuard<'_, Datapath> {
        self.datapath.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Make changes durable, all or none.
    fn commit(&self, changes: &[Change]) -> Result<(), Error> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        fault::before("commit")?;
        tokio::task::block_in_place(|| store.commit(changes))?;
        fault::after("commit");
        Ok(())
    }

    /// Wait for other requests on the same container.
    async fn busy(&self, container: Id) -> tokio::sync::OwnedMutexGuard<()> {
        turn(&self.busy, container).await
    }
}

/// Wait for one's turn with a container.
async fn turn(turns: &Turns, container: Id) -> tokio::sync::OwnedMutexGuard<()> {
    let lock = {
        let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|id, lock| *id == container || Arc::strong_count(lock) > 1);
        turns.entry(container).or_default().clone()
    };
    lock.lock_owned().await
}
