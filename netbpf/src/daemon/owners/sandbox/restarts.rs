//! Starts sandboxes again as their policies say. The rules are in the model; this file waits and starts.

use std::{sync::Arc, time::Duration};

use crate::{
    daemon::{Daemon, Error},
    model::{Container, Id, Mode, Restart, State, Subject},
    store::Change,
};

impl Daemon {
    /// Start an ended sandbox after a delay, unless a user starts, stops or removes it before.
    pub(in crate::daemon) fn restart_later(self: &Arc<Self>, id: Id, delay: Duration) {
        let Some(count) =
            self.state.container(&id).ok().and_then(|container| Some(container.owner().restart()?.count))
        else {
            return;
        };
        let daemon = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let is_due = |container: &Container| {
                container.owner().restart().is_some_and(|restart| restart.waiting && restart.count == count)
            };
            daemon.start_again(id, is_due).await;
        });
    }

    /// After the daemon's start, start the sandboxes that waited when the last daemon ended, and those whose
    /// policy says so. They start in sequence, and those that join the network of another last.
    pub(in crate::daemon) fn restart_after_start(self: &Arc<Self>) {
        let is_due = |container: &Container| {
            matches!(container.state, State::Exited { .. })
                && container.owner().restart().is_some_and(Restart::is_due_at_start)
        };
        let mut due: Vec<_> = self
            .state
            .world()
            .containers()
            .filter(|container| is_due(container))
            .map(|container| {
                let joins = matches!(container.owner().mode(), Some(Mode::Container(_)));
                (joins, container.created, container.id)
            })
            .collect();
        due.sort();
        let daemon = Arc::clone(self);
        tokio::spawn(async move {
            for (_, _, id) in due {
                daemon.start_again(id, is_due).await;
            }
        });
    }

    async fn start_again(self: &Arc<Self>, id: Id, is_due: impl Fn(&Container) -> bool) {
        let _locked = self.state.lock_container(id).await;
        let Ok(container) = self.state.container(&id) else { return };
        if !is_due(&container) {
            return;
        }
        let known = container.owner().restart().map(|restart| restart.error.as_str());
        if let Err(error) = self.start_locked(id, false).await
            && known != Some(error.to_string().as_str())
        {
            // Logged once, although each attempt fails with the same error.
            tracing::warn!(container = container.name, %error, "cannot start again yet");
        }
    }

    /// Change a sandbox's restart state, in memory and on disk. The caller must hold the container's lock.
    pub(in crate::daemon) fn note_restart(
        &self,
        id: Id,
        change: impl FnOnce(&mut Restart),
    ) -> Result<(), Error> {
        let before = self.state.container(&id)?;
        let after = with_restart(before.clone(), change);
        if after != before && before.owner().restart().is_some_and(|restart| !restart.is_default()) {
            self.state.commit(&[Change::PutContainer(after.clone())])?;
            self.state.world().put_container(after);
        }
        Ok(())
    }
}

/// A container with a changed restart state.
pub fn with_restart(mut container: Container, change: impl FnOnce(&mut Restart)) -> Container {
    if let Subject::Sandbox(sandbox) = &mut container.subject {
        change(&mut sandbox.restart);
    }
    container
}
