//! The limits of what endpoints send, in the map `LIMITS`. Must not know the queueing disciplines in front of them.

use netbpf_common::limit::EgressLimit;

use super::{Datapath, Error};

impl Datapath {
    /// The limit of an endpoint, with nothing used; the default value is none.
    pub(super) fn limit_of(&self, number: u32) -> EgressLimit {
        self.limits.get(&number).copied().unwrap_or_default()
    }

    /// Replaces the limit of an endpoint. Nothing of a new one is used.
    pub(super) fn set_limit(&mut self, number: u32, limit: EgressLimit) -> Result<(), Error> {
        if limit == self.limit_of(number) {
            return Ok(());
        }
        self.tables.set_limit(number, limit)?;
        match limit == EgressLimit::default() {
            true => self.limits.remove(&number),
            false => self.limits.insert(number, limit),
        };
        Ok(())
    }

    /// Removes limits of endpoints that do not exist any more.
    pub(super) fn mend_limits(&mut self) -> Result<(), Error> {
        let lost: Vec<_> =
            self.limits.keys().filter(|number| !self.endpoints.contains_key(number)).copied().collect();
        lost.into_iter().try_for_each(|number| self.set_limit(number, EgressLimit::default()))
    }
}
