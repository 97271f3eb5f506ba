//! `wait`: waits for a sandbox's end, as netbpf's own clients do, and in Docker's three ways.

use std::sync::Arc;

use super::ends::Mark;
use crate::{
    daemon::{Daemon, Error},
    model::{Id, State},
};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Its end, also if it was not started yet.
    Ended,
    /// That it does not run: at once if it was not started yet.
    NotRunning,
    /// Its next end.
    NextExit,
    /// Its removal.
    Removed,
}

/// A wait that has begun.
struct Wait {
    id: Id,
    until: Until,
    begin: Mark,
    /// The exit code of its last run at that moment.
    known: Option<i32>,
}

impl Daemon {
    /// `wait`: the exit code. It misses nothing from here on, even before the returned future is polled. A removed
    /// container is found by its full ID.
    ///
    /// # Errors
    /// [`Error::NoContainer`], also later if it is removed before it was started; [`Error::Invalid`] if several match.
    pub fn wait_container(
        self: &Arc<Self>,
        key: &str,
        until: Until,
    ) -> Result<impl Future<Output = Result<i32, Error>> + Send + use<>, Error> {
        let ends = &self.owners.ends;
        let (mut news, begin) = (ends.subscribe(), ends.mark());
        let id = match self.find_subject(key) {
            Ok(id) => id,
            Err(error) => key.parse().map_err(|_| error)?,
        };
        let known = self.state.container(&id).ok().map(|container| match container.state {
            State::Exited { code, .. } => code,
            State::Created { .. } | State::Running { .. } => 0,
        });
        let wait = Wait { id, until, begin, known };
        if known.is_none()
            && let Some(Err(error)) = self.outcome_of(&wait)
        {
            return Err(error);
        }
        let (daemon, key) = (Arc::clone(self), key.to_owned());
        Ok(async move {
            loop {
                if let Some(outcome) = daemon.outcome_of(&wait) {
                    return outcome;
                }
                if news.changed().await.is_err() {
                    return Err(Error::NoContainer(key));
                }
            }
        })
    }

    /// How a wait ends; `None` if it goes on.
    fn outcome_of(&self, wait: &Wait) -> Option<Result<i32, Error>> {
        let ends = &self.owners.ends;
        match (wait.until, self.state.container(&wait.id).map(|container| container.state)) {
            (Until::Ended | Until::NotRunning, Ok(State::Exited { code, .. })) => Some(Ok(code)),
            (Until::NotRunning, Ok(State::Created { .. })) => Some(Ok(0)),
            (Until::NextExit, Ok(_)) => ends.code_after(&wait.id, wait.begin).map(Ok),
            (_, Ok(_)) => None,
            (Until::Ended | Until::NotRunning, Err(error)) => Some(ends.code(&wait.id).ok_or(error)),
            (Until::NextExit, Err(error)) => Some(ends.code_after(&wait.id, wait.begin).ok_or(error)),
            (Until::Removed, Err(error)) => {
                let code = ends.code_after(&wait.id, wait.begin).or(wait.known);
                Some(code.ok_or(error))
            }
        }
    }
}
