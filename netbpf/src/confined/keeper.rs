//! The daemon's side: keeps a confined process running and informed. Holds its whole state, sockets included, so that a
//! new process has all of it at once when one dies. Must not know what the state means.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::{
    Kind,
    channel::{Message, Received, Response},
    privileges,
    process::{self, Process},
};

/// How long a request may take before the process counts as dead.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A process that lives this long is restarted without a pause.
const HEALTHY: Duration = Duration::from_secs(2);

/// A confined process did not start or does not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{op} {kind} {}: {source}", path.display())]
pub struct Error {
    /// The operation that failed.
    pub(super) op: &'static str,
    /// The kind of process.
    pub(super) kind: &'static str,
    /// The path of its program or of its control socket.
    pub(super) path: PathBuf,
    /// The cause.
    pub(super) source: Arc<io::Error>,
}

/// The full state of a process.
pub(crate) trait State {
    /// How a process describes a socket that it has.
    type Held: DeserializeOwned;

    /// Adds a socket of a process that was taken over.
    fn adopt(&mut self, held: Self::Held, sockets: &mut Received<Response<Self::Held>>) -> io::Result<()>;

    /// The messages that inform a new process of the full state.
    fn everything(&self) -> Vec<Message<'_>>;
}

/// Owns the state and the process.
pub(crate) struct Keeper<S> {
    kind: &'static Kind,
    exe: PathBuf,
    /// The UID of the process, which belongs to no account. Chosen when it is needed.
    user: Option<u32>,
    run_dir: PathBuf,
    /// Change it before telling the process: if that fails, a new process gets the state as it is here.
    pub(crate) state: S,
    process: Option<Process>,
    started: Instant,
    /// How many times in a row the process died soon after its start.
    failures: u32,
}

impl<S: State> Keeper<S> {
    /// Takes over the process that runs for this folder, if there is one.
    pub(crate) async fn adopt(kind: &'static Kind, exe: &Path, run_dir: &Path, mut state: S) -> Self {
        let take = |held, received: &mut _| state.adopt(held, received);
        let process = Process::adopt::<S::Held>(kind, run_dir, take).await;
        if process.is_some() {
            info!("took over the running {}", kind.name);
        }
        Self {
            kind,
            exe: exe.to_owned(),
            user: None,
            run_dir: run_dir.to_owned(),
            state,
            process,
            started: Instant::now(),
            failures: 0,
        }
    }

    /// The name of this kind of process.
    pub(crate) fn name(&self) -> &'static str {
        self.kind.name
    }

    /// Whether there is a process.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Whether an earlier daemon started the process.
    pub(crate) fn is_adopted(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_adopted)
    }

    /// Returns when the process has died, or when it is time for another attempt to start it.
    pub(crate) async fn lost(&mut self) {
        let pause = self.pause().max(Duration::from_millis(100));
        match &mut self.process {
            Some(process) => process.lost().await,
            None => sleep(pause).await,
        }
    }

    /// Starts the process again after [`Keeper::lost`].
    pub(crate) async fn restart(&mut self) {
        warn!("the {} has ended: starting it again", self.kind.name);
        if let Err(error) = self.revive().await {
            warn!(%error, "trying again soon");
        }
    }

    /// Sends requests and waits until they took effect. If that fails, starts a new process with the full state.
    pub(crate) async fn tell<'a>(
        &mut self,
        requests: impl IntoIterator<Item = Message<'a>>,
    ) -> Result<(), Error> {
        if let Some(process) = &mut self.process {
            let name = self.kind.name;
            match timeout(TIMEOUT, process.call(requests)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => warn!(%error, "the {name} does not answer: starting it again"),
                Err(_) => warn!("the {name} does not answer in time: starting it again"),
            }
        }
        self.revive().await
    }

    /// Replaces the process by a new one and sends it the full state.
    pub(crate) async fn revive(&mut self) -> Result<(), Error> {
        if let Some(process) = self.process.take() {
            process.kill().await;
            self.failures = if self.started.elapsed() < HEALTHY { self.failures + 1 } else { 1 };
        }
        sleep(self.pause()).await;
        self.started = Instant::now();
        let revived = self.spawn().await;
        self.failures += u32::from(revived.is_err());
        self.process = Some(revived?);
        Ok(())
    }

    async fn spawn(&mut self) -> Result<Process, Error> {
        let user = self.user().await?;
        let mut process = Process::spawn(self.kind, &self.exe, user, &self.run_dir).await?;
        let told = timeout(TIMEOUT, process.call(self.state.everything())).await;
        if let Err(error) = told.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            process.kill().await;
            return Err(Error {
                op: "feed",
                kind: self.kind.name,
                path: process::socket_path(self.kind, &self.run_dir),
                source: error.into(),
            });
        }
        Ok(process)
    }

    async fn user(&mut self) -> Result<u32, Error> {
        if let Some(user) = self.user {
            return Ok(user);
        }
        let rank = self.kind.rank;
        // A look-up in the host's user databases may take long.
        let user = tokio::task::spawn_blocking(move || privileges::unused_user(rank)).await;
        let user = user.map_err(io::Error::other).and_then(|user| user).map_err(|source| Error {
            op: "find a user for",
            kind: self.kind.name,
            path: self.exe.clone(),
            source: source.into(),
        })?;
        self.user = Some(user);
        Ok(user)
    }

    /// Ends the process with the request `last`, and removes its files.
    pub(crate) async fn stop(&mut self, last: Message<'_>) {
        if let Some(mut process) = self.process.take() {
            // It is killed in any case.
            let _ = timeout(TIMEOUT, process.call([last])).await;
            process.kill().await;
        }
        self.failures = 0;
        process::clean_up(self.kind, &self.run_dir);
    }

    /// The pause before the next start: none at first, then longer and longer for a process that keeps dying.
    fn pause(&self) -> Duration {
        match self.failures {
            0..=3 => Duration::ZERO,
            failures => Duration::from_millis(25 << failures.min(8)).min(Duration::from_secs(2)),
        }
    }
}
