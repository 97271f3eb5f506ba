//! The daemon's state, in memory and on disk. Must not touch the kernel.

pub(in crate::daemon) mod locks;
mod look;
pub(in crate::daemon) mod numbers;
mod pools;
pub(in crate::daemon) mod world;

pub(in crate::daemon) use look::{check_further, refuse};

use crate::store::{Records, Store};
use locks::{ContainerLocks, DataLock, Rank, TaskLock};
use world::World;

/// What the daemon knows, in memory and on disk, with the locks of those who change it.
pub struct State {
    pub(super) world: DataLock<World>,
    pub(super) store: DataLock<Store>,
    pub(super) container_locks: ContainerLocks,
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
}
