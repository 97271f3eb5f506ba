//! Looks at the filters at `lo`: adds one again that somebody removed, leads queries to port 53 where another filter has its
//! place, and removes what is left of those of containers that are gone.

use std::time::Duration;

use anyhow::anyhow;
use futures::FutureExt as _;
use tokio::time::{MissedTickBehavior, interval};

use super::{Names, record::asking_of};
use crate::{
    daemon::{effects::lo::Found, state::namespace_of},
    model::Id,
};

/// Interval of checks, and the number of containers for each: a visit of a namespace is a thread.
const INTERVAL: Duration = Duration::from_secs(5);
const CHECKED: usize = 64;

/// Guards the filters at `lo`.
pub struct LoGuard {
    names: Names,
    /// The container that was checked last, if others follow.
    last: Option<Id>,
}

impl LoGuard {
    /// Nothing is checked yet.
    pub fn new(names: Names) -> Self {
        Self { names, last: None }
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

    /// Checks the next containers. Returns what could not be done, if it is new.
    pub(in crate::daemon) async fn check_some(&mut self) -> Vec<(Id, String)> {
        let Names { state, host } = &self.names;
        let all = host.at_lo();
        host.forget_trouble_at_lo(|id| all.binary_search(id).is_ok());
        let next: Vec<Id> = all.into_iter().filter(|id| Some(*id) > self.last).take(CHECKED).collect();
        self.last = next.last().copied().filter(|_| next.len() == CHECKED);
        let mut new = Vec::new();
        for id in next {
            // One that is changed at the moment is checked the next time: others need not wait for it.
            let Some(_locked) = state.lock_container(id).now_or_never() else { continue };
            let trouble = self.check(id).await.err().map(|error| error.to_string());
            if host.note_trouble_at_lo(id, trouble.as_deref()) {
                new.extend(trouble.map(|trouble| (id, trouble)));
            }
        }
        new
    }

    async fn check(&self, id: Id) -> anyhow::Result<()> {
        let Names { state, host } = &self.names;
        let container = state.container(&id);
        if host.finish_at_lo(id).await? {
            if container.is_err() {
                host.folders.remove(&id);
            }
            return Ok(());
        }
        let name = container.as_ref().map_or_else(|_| id.short(), |container| container.name.clone());
        match host.restore_at_lo(id).await? {
            Found::Good => {}
            Found::Restored => host
                .repairs
                .note(format!("somebody took netbpf's filter from lo of {name}: it is added again")),
            Found::Barred(reason) => {
                let container = container?;
                let namespace = namespace_of(&container)?;
                let asking = self.names.record_of(&container).zip(asking_of(&container, &namespace, true));
                if let Some((record, asking)) = asking {
                    let fallen = host.fall_back(record, &asking, &reason).await;
                    fallen.map_err(|error| anyhow!("{reason}; {error}"))?;
                }
            }
        }
        Ok(())
    }
}
