//! Output of sandboxes for clients. A client may follow a container before its start, and then misses
//! nothing, not even the output of a container that is removed at its end.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, PoisonError},
};

use futures::{Stream, stream};
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::{
    daemon::{
        Daemon, Error,
        owners::sandbox::{own_sandbox, supervisor_of},
        state::refuse,
    },
    model::{Container, Id, State},
    sandbox::{
        self, Supervisor,
        logs::{self, Logs, Record},
    },
};

/// Clients that wait for the start of a container.
#[derive(Default)]
pub struct Followers(Mutex<HashMap<Id, Vec<oneshot::Sender<Logs>>>>);

impl Followers {
    /// The output of a container, once it starts.
    fn wait(&self, container: Id) -> oneshot::Receiver<Logs> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(container).or_default().push(sender);
        receiver
    }

    /// Opens the output for waiting clients, before the container writes any.
    pub fn connect(
        &self,
        container: &Id,
        path: &Path,
        supervisor: &Supervisor,
    ) -> Result<(), sandbox::Error> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
        for follower in waiting.into_iter().flatten() {
            // An error means that the client is gone.
            let _ = follower.send(logs::read(path, Some(0), Some(supervisor))?);
        }
        Ok(())
    }

    /// Ends the wait of clients, because the container did not start.
    pub fn stop_waiting_for(&self, container: &Id) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }
}

impl Daemon {
    /// `logs`: the last `tail` lines or all; with `follow` until the container ends.
    ///
    /// # Errors
    /// [`Error::NoContainer`], [`Error::Managed`] or [`Error::Foreign`]; [`Error::Sandbox`] if the log
    /// cannot be read. An error of a later reading ends the stream.
    pub async fn logs(
        &self,
        key: &str,
        follow: bool,
        tail: Option<usize>,
        since: Option<Timestamp>,
    ) -> Result<impl Stream<Item = Result<Record, sandbox::Error>> + use<>, Error> {
        let container = self.logged(key)?;
        let path = self.host.folders.log_of(&container.id);
        let source = match container.state {
            State::Created { .. } if follow => Source::Waiting(self.owners.followers.wait(container.id)),
            State::Created { .. } | State::Running { .. } | State::Exited { .. } => {
                let supervisor = supervisor_of(&container, &self.host.folders).ok().filter(|_| follow);
                Source::Open(Box::new(logs::read(&path, tail, supervisor.as_ref())?))
            }
        };
        Ok(stream::try_unfold(source, move |source| next(source, since)))
    }

    /// `attach`: the output from now on, until the container ends. One that does not run is followed from its next start
    /// on. With `past`, also the earlier output of one that runs.
    ///
    /// # Errors
    /// As of [`Daemon::logs`].
    pub fn attach_to_output(
        &self,
        key: &str,
        past: bool,
    ) -> Result<impl Stream<Item = Result<Record, sandbox::Error>> + use<>, Error> {
        let container = self.logged(key)?;
        let source = match supervisor_of(&container, &self.host.folders) {
            Ok(supervisor) => {
                let tail = if past { None } else { Some(0) };
                let path = self.host.folders.log_of(&container.id);
                Source::Open(Box::new(logs::read(&path, tail, Some(&supervisor))?))
            }
            Err(_) => Source::Waiting(self.owners.followers.wait(container.id)),
        };
        Ok(stream::try_unfold(source, |source| next(source, None)))
    }

    /// A container that has a log.
    fn logged(&self, key: &str) -> Result<Container, Error> {
        let container = self.state.container(&self.find_subject(key)?)?;
        refuse(&container, "logs")?;
        own_sandbox(&container)?;
        Ok(container)
    }
}

enum Source {
    Waiting(oneshot::Receiver<Logs>),
    Open(Box<Logs>),
}

async fn next(source: Source, since: Option<Timestamp>) -> Result<Option<(Record, Source)>, sandbox::Error> {
    let mut logs = match source {
        Source::Open(logs) => logs,
        Source::Waiting(start) => match start.await {
            Ok(logs) => Box::new(logs),
            Err(_) => return Ok(None),
        },
    };
    while let Some(line) = logs.next().await? {
        if since.is_none_or(|since| line.time.parse::<Timestamp>().is_ok_and(|time| time >= since)) {
            return Ok(Some((line, Source::Open(logs))));
        }
    }
    Ok(None)
}
