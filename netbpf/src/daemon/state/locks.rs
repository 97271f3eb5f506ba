//! The daemon's locks, and the only order in which one task takes them: [`Rank`]. Debug builds check the order at
//! each lock, so that a test finds a possible deadlock even if it does not happen.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{self, Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard, OwnedMutexGuard, TryLockError};

use crate::model::Id;

/// A lock's place: a task that holds a lock takes only those below it in this list. The first six may be held across
/// awaits. The others protect data: they are held briefly, never across an await.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// One prune at a time.
    Prune,
    /// One change of the options of networks with members at a time.
    Updates,
    /// One query of the engine for each container, so that answers arrive in order.
    EngineQuery,
    /// One change of a container at a time. A task may hold several: those of a container and of its links' targets,
    /// or of a container and of others that it replaces. Neither can form a cycle, so no deadlock is possible.
    Container,
    /// One network is created or removed at a time, because each check looks at all subnets.
    Networks,
    /// One change of the uplinks' programs at a time.
    Uplinks,
    /// The reserved host ports.
    HostPorts,
    /// Programs and maps.
    Datapath,
    /// Networks and containers in memory.
    World,
    /// The disk.
    Store,
}

/// A lock that is held.
pub struct Locked<Guard> {
    guard: Guard,
    _place: order::Place,
}

impl<Guard: Deref> Deref for Locked<Guard> {
    type Target = Guard::Target;

    fn deref(&self) -> &Self::Target {
        &self.guard
    }
}

impl<Guard: DerefMut> DerefMut for Locked<Guard> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.guard
    }
}

/// Data that is locked for moments, never across an await.
pub struct DataLock<T> {
    rank: Rank,
    data: Mutex<T>,
}

/// A held [`DataLock`].
pub type Held<'a, T> = Locked<sync::MutexGuard<'a, T>>;

impl<T> DataLock<T> {
    /// An open lock.
    pub fn new(rank: Rank, data: T) -> Self {
        Self { rank, data: Mutex::new(data) }
    }

    /// Locks it. A panic of another holder does not matter: each change of the data is complete.
    pub fn lock(&self) -> Held<'_, T> {
        let place = order::enter(self.rank);
        Locked { guard: self.data.lock().unwrap_or_else(PoisonError::into_inner), _place: place }
    }
}

/// A lock that is held across awaits.
pub struct TaskLock<T> {
    rank: Rank,
    data: AsyncMutex<T>,
}

impl<T> TaskLock<T> {
    /// An open lock.
    pub fn new(rank: Rank, data: T) -> Self {
        Self { rank, data: AsyncMutex::new(data) }
    }

    /// Waits for it.
    pub async fn lock(&self) -> Locked<MutexGuard<'_, T>> {
        let place = order::enter(self.rank);
        Locked { guard: self.data.lock().await, _place: place }
    }

    /// Takes it if nobody has it.
    ///
    /// # Errors
    /// If somebody has it.
    pub fn try_lock(&self) -> Result<Locked<MutexGuard<'_, T>>, TryLockError> {
        Ok(Locked { guard: self.data.try_lock()?, _place: order::enter(self.rank) })
    }
}

/// A lock for each container. Containers that nobody locks cost nothing.
pub struct ContainerLocks {
    rank: Rank,
    locks: Mutex<HashMap<Id, Arc<AsyncMutex<()>>>>,
}

/// The held lock of one container.
pub type LockedContainer = Locked<OwnedMutexGuard<()>>;

impl ContainerLocks {
    /// Nothing is locked.
    pub fn new(rank: Rank) -> Self {
        Self { rank, locks: Mutex::default() }
    }

    /// Waits for a container's lock.
    pub async fn lock(&self, container: Id) -> LockedContainer {
        let place = order::enter(self.rank);
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|id, lock| *id == container || Arc::strong_count(lock) > 1);
            locks.entry(container).or_default().clone()
        };
        Locked { guard: lock.lock_owned().await, _place: place }
    }

    /// Whether some task has a container's lock.
    #[cfg(test)]
    pub fn is_locked(&self, container: &Id) -> bool {
        let locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.get(container).is_some_and(|lock| lock.try_lock().is_err())
    }
}

/// Release builds do not check the order.
#[cfg(not(debug_assertions))]
mod order {
    use super::Rank;

    pub struct Place;

    #[inline(always)]
    pub fn enter(_: Rank) -> Place {
        Place
    }
}

#[cfg(debug_assertions)]
mod order {
    use std::{
        collections::HashMap,
        sync::{LazyLock, Mutex, PoisonError},
        thread::{self, ThreadId},
    };

    use super::Rank;

    /// Who holds a lock: a task, or a thread outside of tasks.
    #[derive(Clone, Copy, PartialEq, Eq, Hash)]
    enum Holder {
        Task(tokio::task::Id),
        Thread(ThreadId),
    }

    static HELD: LazyLock<Mutex<HashMap<Holder, Vec<Rank>>>> = LazyLock::new(Mutex::default);

    /// A rank that a holder has, until this is dropped.
    pub struct Place {
        holder: Holder,
        rank: Rank,
    }

    /// Notes that this task is about to take a lock.
    ///
    /// # Panics
    /// If it holds a lock that comes later in the order.
    pub fn enter(rank: Rank) -> Place {
        let holder =
            tokio::task::try_id().map_or_else(|| Holder::Thread(thread::current().id()), Holder::Task);
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        let ranks = held.entry(holder).or_default();
        let is_allowed = |other: &Rank| *other < rank || (*other == rank && rank == Rank::Container);
        let wrong = ranks.iter().copied().find(|other| !is_allowed(other));
        ranks.push(rank);
        drop(held);
        let place = Place { holder, rank };
        if let Some(wrong) = wrong {
            panic!("a task that holds the lock {wrong:?} takes the lock {rank:?}: a deadlock is possible");
        }
        place
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(ranks) = held.get_mut(&self.holder) else { return };
            if let Some(index) = ranks.iter().rposition(|rank| *rank == self.rank) {
                ranks.remove(index);
            }
            if ranks.is_empty() {
                held.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn locks_are_taken_in_their_order() {
        let (networks, world) = (TaskLock::new(Rank::Networks, ()), DataLock::new(Rank::World, 7));
        let containers = ContainerLocks::new(Rank::Container);
        let _one = containers.lock(Id::random()).await;
        let _other = containers.lock(Id::random()).await;
        let _networks = networks.lock().await;
        assert_eq!(*world.lock(), 7);
        assert_eq!(*world.lock(), 7);
    }

    #[tokio::test]
    #[should_panic(expected = "a task that holds the lock World takes the lock Networks")]
    async fn another_order_is_refused() {
        let (networks, world) = (TaskLock::new(Rank::Networks, ()), DataLock::new(Rank::World, ()));
        let _world = world.lock();
        let _networks = networks.try_lock();
    }

    #[tokio::test]
    #[should_panic(expected = "a task that holds the lock World takes the lock World")]
    async fn a_lock_is_not_taken_twice() {
        let (world, other) = (DataLock::new(Rank::World, ()), DataLock::new(Rank::World, ()));
        let _world = world.lock();
        let _other = other.lock();
    }

    #[tokio::test]
    async fn tasks_do_not_disturb_each_other() {
        let world = Arc::new(DataLock::new(Rank::World, ()));
        let containers = Arc::new(ContainerLocks::new(Rank::Container));
        let container = Id::random();
        let held = containers.lock(container).await;
        let other = tokio::spawn({
            let (world, containers) = (Arc::clone(&world), Arc::clone(&containers));
            async move {
                drop(world.lock());
                drop(containers.lock(container).await);
            }
        });
        tokio::task::yield_now().await;
        drop(held);
        drop(world.lock());
        other.await.expect("no panic");
    }
}
