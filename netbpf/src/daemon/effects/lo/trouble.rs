//! What could not be done for the filters at `lo`, and is tried again. Must not know how.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{daemon::effects::host::Host, model::Id};

/// The last failure of each container.
#[derive(Default)]
pub struct Trouble(Mutex<BTreeMap<Id, String>>);

impl Trouble {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Id, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host {
    /// Notes what could not be done for a container, or that all is done. Returns whether it is new: a container may have
    /// something in the way for as long as it runs.
    pub fn note_trouble_at_lo(&self, container: Id, trouble: Option<&str>) -> bool {
        let mut all = self.fast_names.trouble.all();
        let before = match trouble {
            None => all.remove(&container),
            Some(trouble) => all.insert(container, trouble.to_owned()),
        };
        trouble.is_some() && before.as_deref() != trouble
    }

    /// Forgets the containers that have no filter any more.
    pub fn forget_trouble_at_lo(&self, has_filter: impl Fn(&Id) -> bool) {
        self.fast_names.trouble.all().retain(|container, _| has_filter(container));
    }

    /// What could not be done for each container.
    pub fn trouble_at_lo(&self) -> Vec<(Id, String)> {
        self.fast_names
            .trouble
            .all()
            .iter()
            .map(|(container, trouble)| (*container, trouble.clone()))
            .collect()
    }
}
