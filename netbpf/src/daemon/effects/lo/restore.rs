//! Adds a container's filter at `lo` again that somebody removed, and tells whose filters must be looked at. Must not know
//! names.

use tokio::task::block_in_place;

use super::{Note, askers::Way};
use crate::{
    daemon::{Error, effects::host::Host},
    link::FilterAtLo,
    model::Id,
};

/// What became of a container's filter.
pub enum Found {
    /// It is there.
    Good,
    /// It was missing, and is there again.
    Restored,
    /// There can be none, because of this: another one has its place.
    Barred(String),
}

impl Host {
    /// The containers that have a filter, and those with something left of one.
    pub fn at_lo(&self) -> Vec<Id> {
        let mut all = self.datapath().resolvers();
        // Those whose class is gone already, but not their place.
        let ways = self.fast_names.askers.ways().into_iter();
        all.extend(ways.filter(|(_, way)| *way == Way::None).map(|(id, _)| id));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Removes what is left of a container's filter, if it is to have none. Returns whether that is so.
    ///
    /// # Errors
    /// As of [`Host::leave_lo`].
    pub async fn finish_at_lo(&self, container: Id) -> Result<bool, Error> {
        match self.fast_names.askers.way_of(container) {
            Way::None => self.leave_lo(container).await?,
            Way::Port(reason) => self.do_without_lo(container, reason).await?,
            Way::Filter => return Ok(false),
        }
        Ok(true)
    }

    /// Adds a container's filter again if somebody removed it.
    ///
    /// # Errors
    /// [`Error::Link`], [`Error::Datapath`] or [`Error::File`]: call it again.
    pub async fn restore_at_lo(&self, container: Id) -> Result<Found, Error> {
        let Some(Note { namespace: named, class, .. }) = self.note_at_lo(container)? else {
            return Ok(Found::Good);
        };
        let Some(namespace) = self.fast_names.askers.namespace_of(container) else { return Ok(Found::Good) };
        let program = block_in_place(|| self.datapath().program_at_lo())?;
        let wanted = FilterAtLo { class, program: program.id };
        if self.links.lo(&namespace).await?.filter().await? == Some(wanted) {
            return Ok(Found::Good);
        }
        match self.add_filter(container, &namespace, named, class).await {
            Err(Error::Link(error)) if error.is_unsupported() => Ok(Found::Barred(error.to_string())),
            added => added.map(|()| Found::Restored),
        }
    }
}
