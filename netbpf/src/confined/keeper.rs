//! The daemon's side: keeps a confined process alive and told. It holds the whole state, sockets included, so that a
//! process that dies is back with all of it at once. It must not know what the state says.

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
/// How long a process lives if its death is nothing that a pause would help against.
const HEALTHY: Duration = Duration::from_secs(2);

/// A confined process did not start, or does not obey.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{op} {kind} {}: {source}", path.display())]
pub struct Error {
    /// What was tried.
    pub(super) op: &'static str,
    /// Which one.
    pub(super) kind: &'static str,
    /// Its program or its control socket.
    pub(super) path: PathBuf,
    /// Why not.
    pub(super) source: Arc<io::Error>,
}

/// All that a process is told.
pub(crate) trait State {
    /// What a process says of a socket that it has.
    type Held: DeserializeOwned;

    /// Takes in what a process from before has.
    fn adopt(&mut self, held: Self::Held, sockets: &mut Received<Response<Self::Held>>) -> io::Result<()>;

    /// What a new process is to be told.
    fn everything(&self) -> Vec<Message<'_>>;
}

/// Owns the state and the process.
pub(crate) struct Keeper<S> {
    kind: &'static Kind,
    exe: PathBuf,
    /// The process's user number, which no account has; found when it is needed.
    user: Option<u32>,
    run_dir: PathBuf,
    /// Changed first, and told then: if the process fails, the next is told the state.
    pub(crate) state: S,
    process: Option<Process>,
    started: Instant,
    /// Deaths in a row that came soon after the start.
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

    /// Whether there is a process.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Whether an earlier daemon started it.
    pub(crate) fn is_adopted(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_adopted)
    }

    /// Returns when the process is to be started again.
    pub(crate) async fn lost(&mut self) {
        let pause = self.pause().max(Duration::from_millis(100));
        match &mut self.process {
            Some(process) => process.lost().await,
            None => sleep(pause).await,
        }
    }

    /// What follows [`Keeper::lost`].
    pub(crate) async fn restart(&mut self) {
        warn!("the {} is gone: starting it again", self.kind.name);
        if let Err(error) = self.revive().await {
            warn!(%error, "trying again soon");
        }
    }

    /// Sends requests and waits until they took effect, or has a new process told everything.
    pub(crate) async fn tell<'a>(
        &mut self,
        requests: impl IntoIterator<Item = Message<'a>>,
    ) -> Result<(), Error> {
        if let Some(process) = &mut self.process {
            let name = self.kind.name;
            match timeout(TIMEOUT, process.call(requests)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => warn!(%error, "the {name} does not obey: starting it again"),
                Err(_) => warn!("the {name} does not react: starting it again"),
            }
        }
        self.revive().await
    }

    /// A new process, told everything, in place of the old one.
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
        // The host's user databases may take their time.
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

    /// Ends the process, which is told `last`, and leaves nothing of it.
    pub(crate) async fn stop(&mut self, last: Message<'_>) {
        if let Some(mut process) = self.process.take() {
            // It ends in any case.
            let _ = timeout(TIMEOUT, process.call([last])).await;
            process.kill().await;
        }
        self.failures = 0;
        process::clean_up(self.kind, &self.run_dir);
    }

    /// Nothing at first, then longer and longer: what dies at once will do so again.
    fn pause(&self) -> Duration {
        match self.failures {
            0..=3 => Duration::ZERO,
            failures => Duration::from_millis(25 << failures.min(8)).min(Duration::from_secs(2)),
        }
    }
}
