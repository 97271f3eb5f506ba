//! Adds filters at `lo` again that somebody removed, and removes those of containers that are gone. Must not know names.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::FutureExt as _;
use tokio::{
    task::block_in_place,
    time::{MissedTickBehavior, interval},
};

use super::{Note, askers::Way};
use crate::{
    daemon::{Error, effects::host::Host, state::State},
    link::FilterAtLo,
    model::Id,
};

/// Interval of checks, and the number of containers for each: a visit of a namespace is a thread.
const INTERVAL: Duration = Duration::from_secs(5);
const CHECKED: usize = 64;

/// Guards the filters at `lo`.
pub struct LoGuard {
    state: Arc<State>,
    host: Arc<Host>,
    /// The container that was checked last, if others follow.
    last: Option<Id>,
    /// What could not be done for each container. It is told once.
    trouble: HashMap<Id, String>,
}

impl LoGuard {
    /// Nothing is checked yet.
    pub fn new(state: Arc<State>, host: Arc<Host>) -> Self {
        Self { state, host, last: None, trouble: HashMap::new() }
    }

    /// Guards the filters as long as the daemon runs.
    pub async fn run(mut self) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (container, error) in self.check_some().await {
                tracing::warn!(container = %container.short(), error, "the filter at lo cannot be checked");
            }
        }
    }

    /// Checks the next containers. Returns what could not be done, if it is new: a container may have something in the
    /// filter's place for as long as it runs.
    pub(in crate::daemon) async fn check_some(&mut self) -> Vec<(Id, String)> {
        let mut all = self.host.datapath().resolvers();
        // Those whose class is gone already, but not their place.
        let ways = self.host.fast_names.askers.ways().into_iter();
        all.extend(ways.filter(|(_, way)| *way == Way::None).map(|(id, _)| id));
        all.sort_unstable();
        all.dedup();
        self.trouble.retain(|id, _| all.binary_search(id).is_ok());
        let next: Vec<Id> = all.into_iter().filter(|id| Some(*id) > self.last).take(CHECKED).collect();
        self.last = next.last().copied().filter(|_| next.len() == CHECKED);
        let mut new = Vec::new();
        for id in next {
            // One that is changed at the moment is checked the next time: others need not wait for it.
            let Some(_locked) = self.state.lock_container(id).now_or_never() else { continue };
            match self.check(id).await {
                Ok(()) => drop(self.trouble.remove(&id)),
                Err(error) => {
                    let error = error.to_string();
                    if self.trouble.get(&id) != Some(&error) {
                        self.trouble.insert(id, error.clone());
                        new.push((id, error));
                    }
                }
            }
        }
        new
    }

    async fn check(&self, id: Id) -> Result<(), Error> {
        let container = self.state.container(&id);
        if self.host.fast_names.askers.way_of(id) == Way::None {
            // It could not be removed when the container left.
            self.host.leave_lo(id).await?;
            if container.is_err() {
                self.host.folders.remove(&id);
            }
        } else if self.host.restore_at_lo(id).await? {
            let name = container.map_or_else(|_| id.short(), |container| container.name);
            self.host
                .repairs
                .note(format!("somebody took netbpf's filter from lo of {name}: it is added again"));
        }
        Ok(())
    }
}

impl Host {
    /// Adds a container's filter again if somebody removed it; returns whether that was so.
    async fn restore_at_lo(&self, container: Id) -> Result<bool, Error> {
        let Some(Note { namespace: named, class, .. }) = self.note_at_lo(container)? else {
            return Ok(false);
        };
        let Some(namespace) = self.fast_names.askers.namespace_of(container) else { return Ok(false) };
        let program = block_in_place(|| self.datapath().program_at_lo())?;
        let wanted = FilterAtLo { class, program: program.id };
        if self.links.lo(&namespace).await?.filter().await? == Some(wanted) {
            return Ok(false);
        }
        self.add_filter(container, &namespace, named, class).await?;
        Ok(true)
    }
}
