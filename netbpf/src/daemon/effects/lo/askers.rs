//! Which container asks from which namespace, and how. There is one in each, because all in a namespace share its `lo` and
//! its ports. Must not know filters or sockets.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{daemon::parts::Namespace, link, model::Id};

/// How the queries of a container come to the responder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Not yet, or no more. What is left of a filter must go.
    None,
    /// Through the filter at `lo`.
    Filter,
    /// At port 53, because of this.
    Port(String),
}

/// The containers that ask.
#[derive(Default)]
pub struct Askers(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    askers: HashMap<Id, Asker>,
    /// The container in each namespace, by its inode.
    inside: HashMap<u64, Id>,
}

struct Asker {
    /// Open: its filter can be removed even if nothing else names the namespace any more, as long as another container shares
    /// it. Until then, no other namespace has its inode.
    namespace: Arc<Namespace>,
    inode: u64,
    way: Way,
}

impl Askers {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a container have a namespace until it leaves. False if another one has it, or it has another one: nothing is
    /// changed.
    ///
    /// # Errors
    /// [`link::Error`] if the namespace cannot be looked at.
    pub fn enter(&self, container: Id, namespace: &Arc<Namespace>) -> Result<bool, link::Error> {
        let inode = namespace.inode()?;
        let mut inner = self.inner();
        if inner.inside.get(&inode).is_some_and(|other| *other != container) {
            return Ok(false);
        }
        if let Some(asker) = inner.askers.get(&container) {
            return Ok(asker.inode == inode);
        }
        inner.inside.insert(inode, container);
        inner.askers.insert(container, Asker { namespace: Arc::clone(namespace), inode, way: Way::None });
        Ok(true)
    }

    /// Forgets a container, and lets another one have its namespace.
    pub fn leave(&self, container: Id) {
        let mut inner = self.inner();
        if let Some(asker) = inner.askers.remove(&container) {
            inner.inside.remove(&asker.inode);
        }
    }

    /// The namespace that a container has.
    pub fn namespace_of(&self, container: Id) -> Option<Arc<Namespace>> {
        self.inner().askers.get(&container).map(|asker| Arc::clone(&asker.namespace))
    }

    /// The inode of that namespace.
    pub fn inode_of(&self, container: Id) -> Option<u64> {
        self.inner().askers.get(&container).map(|asker| asker.inode)
    }

    /// Notes how a container asks.
    pub fn set_way(&self, container: Id, way: Way) {
        if let Some(asker) = self.inner().askers.get_mut(&container) {
            asker.way = way;
        }
    }

    /// How a container asks.
    pub fn way_of(&self, container: Id) -> Way {
        self.inner().askers.get(&container).map_or(Way::None, |asker| asker.way.clone())
    }

    /// How each container asks.
    pub fn ways(&self) -> Vec<(Id, Way)> {
        self.inner().askers.iter().map(|(container, asker)| (*container, asker.way.clone())).collect()
    }
}
