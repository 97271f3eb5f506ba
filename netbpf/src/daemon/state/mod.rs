//! The daemon's state, in memory and on disk. Must not touch the kernel.

mod checks;
pub(in crate::daemon) mod locks;
mod look;
pub(in crate::daemon) mod numbers;
mod pools;
mod wanted;
pub(in crate::daemon) mod world;

pub(in crate::daemon) use checks::{check_options, refuse, refuse_forced};
pub(in crate::daemon) use look::namespace_of;

use crate::{
    daemon::{Error, fault},
    model::Id,
    store::{Change, Records, Store},
};
use locks::{ContainerLocks, DataLock, Held, LockedContainer, Rank, TaskLock};
use world::World;

/// What the daemon knows, in memory and on disk, with the locks of those who change it.
pub struct State {
    world: DataLock<World>,
    store: DataLock<Store>,
    container_locks: ContainerLocks,
    pub(super) network_changes: TaskLock<()>,
    pub(super) pruning: TaskLock<()>,
    pub(super) updates: TaskLock<()>,
}

impl State {
    /// With what is stored.
    pub fn new(store: Store, Records { networks, containers, lent }: Records) -> Self {
        Self {
            world: DataLock::new(Rank::World, World::new(networks, containers, lent)),
            store: DataLock::new(Rank::Store, store),
            container_locks: ContainerLocks::new(Rank::Container),
            network_changes: TaskLock::new(Rank::Networks, ()),
            pruning: TaskLock::new(Rank::Prune, ()),
            updates: TaskLock::new(Rank::Updates, ()),
        }
    }

    /// The state in memory; never locked across an await.
    pub fn world(&self) -> Held<'_, World> {
        self.world.lock()
    }

    /// Lock a container: wait for other requests on it.
    pub async fn lock_container(&self, container: Id) -> LockedContainer {
        self.container_locks.lock(container).await
    }

    /// Store changes, all or none. Whoever changes a container has its lock, from before others can find it until the
    /// state in memory and that on disk agree again: unit tests check this.
    ///
    /// # Errors
    /// [`Error::Store`]: nothing is stored.
    pub fn commit(&self, changes: &[Change]) -> Result<(), Error> {
        #[cfg(test)]
        assert!(
            changes.iter().filter_map(Change::container).all(|id| self.container_locks.is_locked(&id)),
            "a container is stored or removed without its lock: {changes:?}"
        );
        let mut store = self.store.lock();
        fault::before("commit")?;
        tokio::task::block_in_place(|| store.commit(changes))?;
        fault::after("commit");
        Ok(())
    }

    /// Close the store: another daemon may open it.
    pub fn close(&self) {
        self.store.lock().close();
    }
}
