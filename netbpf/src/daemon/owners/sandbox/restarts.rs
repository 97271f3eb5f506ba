//! Sandboxes that end are started again where their policy says so. The rules are the model's; here is the waiting.

use std::{sync::Arc, time::Duration};

use crate::{
    daemon::{Daemon, Error},
    model::{Container, Id, Mode, Restart, State, Subject},
    store::Change,
};

impl Daemon {
    /// Start a sandbox that has ended after a while, unless somebody does something about it until then.
    pub(in crate::daemon) fn restart_later(self: &Arc<Self>, id: Id, delay: Duration) {
        let Some(count) =
            self.container(&id).ok().and_then(|container| Some(container.owner().restart()?.count))
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

    /// After a start of the daemon: those that waited when the last one ended, and those whose policy says so. One
    /// after another, and who joins another's network after all that may be that other.
    pub(in crate::daemon) fn restart_after_start(self: &Arc<Self>) {
        let is_due = |container: &Container| {
            matches!(container.state, State::Exited { .. })
                && container.owner().restart().is_some_and(Restart::is_due_at_start)
        };
        let mut due: Vec<_> = self
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
        let _busy = self.busy(id).await;
        let Ok(container) = self.container(&id) else { return };
        if !is_due(&container) {
            return;
        }
        let known = container.owner().restart().map(|restart| restart.error.as_str());
        if let Err(error) = self.start_busy(id, false).await
            && known != Some(error.to_string().as_str())
        {
            // Said once: it is tried for as long as the error stays.
            tracing::warn!(container = container.name, %error, "cannot start again yet");
        }
    }

    /// Change where a sandbox is with its policy, in memory and on disk. The caller has the container for itself.
    pub(in crate::daemon) fn note_restart(
        &self,
        id: Id,
        change: impl FnOnce(&mut Restart),
    ) -> Result<(), Error> {
        let before = self.container(&id)?;
        let after = with_restart(before.clone(), change);
        if after != before && before.owner().restart().is_some_and(|restart| !restart.is_default()) {
            self.commit(&[Change::PutContainer(after.clone())])?;
            self.world().put_container(after);
        }
        Ok(())
    }
}

/// The container with that changed.
pub fn with_restart(mut container: Container, change: impl FnOnce(&mut Restart)) -> Container {
    if let Subject::Sandbox(sandbox) = &mut container.subject {
        change(&mut sandbox.restart);
    }
    container
}
