//! Runs programs in sandboxes for clients of the API, and finds the processes of a sandbox. The command line does not
//! need this for `exec`: it talks to the supervisor.

use super::{own_sandbox, supervisor_of};
use crate::{
    daemon::{Daemon, Error, state::refuse},
    model::Id,
    process,
    sandbox::{
        self, Supervisor,
        exec::Command,
        session::{Session, Streams},
    },
};

impl Daemon {
    /// The ID of a sandbox in which programs can be run now.
    ///
    /// # Errors
    /// [`Error::NoContainer`], [`Error::Managed`], [`Error::Foreign`] or [`Error::NotRunning`].
    pub fn check_exec(&self, key: &str) -> Result<Id, Error> {
        self.running_sandbox(key).map(|(id, _)| id)
    }

    /// `exec`.
    ///
    /// # Errors
    /// As of [`Daemon::check_exec`]; [`Error::CommandFailed`] if the program cannot be started; [`Error::Sandbox`].
    pub async fn exec(&self, key: &str, command: Command, streams: Streams) -> Result<Session, Error> {
        let (id, supervisor) = self.running_sandbox(key)?;
        supervisor.exec(command, streams).await.map_err(|error| match error {
            sandbox::Error::Start { exit_code, message } => Error::CommandFailed { message, exit_code },
            sandbox::Error::Gone => Error::NotRunning(id.to_string()),
            error => Error::Sandbox(error),
        })
    }

    /// The PIDs of a sandbox's processes on the host, the first one first.
    ///
    /// # Errors
    /// As of [`Daemon::check_exec`].
    pub fn processes(&self, key: &str) -> Result<Vec<u32>, Error> {
        let (_, supervisor) = self.running_sandbox(key)?;
        // All of them descend from the supervisor: in the sandbox, orphans get its first process as their parent.
        Ok(process::descendants(supervisor.pid()))
    }

    fn running_sandbox(&self, key: &str) -> Result<(Id, Supervisor), Error> {
        let container = self.state.container(&self.find_subject(key)?)?;
        refuse(&container, "exec")?;
        own_sandbox(&container)?;
        Ok((container.id, supervisor_of(&container, &self.host.folders)?))
    }
}
