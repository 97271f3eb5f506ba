//! Containers that netbpf runs itself: creation, start, stop, restart, output, and programs in them.

mod containers;
pub(in crate::daemon) mod ends;
mod exec;
mod lifecycle;
pub(in crate::daemon) mod logs;
mod rename;
pub(in crate::daemon) mod request;
mod restarts;
mod spec;
pub(in crate::daemon) mod wait;

use crate::{
    daemon::{Error, effects::folders::Folders},
    model::{Container, Sandbox, State},
    sandbox::Supervisor,
};

/// The sandbox that a command is for. An error for a container that netbpf did not start.
fn own_sandbox(container: &Container) -> Result<&Sandbox, Error> {
    container.sandbox().ok_or_else(|| Error::Foreign(container.name.clone()))
}

/// A running sandbox's supervisor.
fn supervisor_of(container: &Container, folders: &Folders) -> Result<Supervisor, Error> {
    let State::Running { supervisor: Some((pid, start_time)), .. } = container.state else {
        return Err(Error::NotRunning(container.id.to_string()));
    };
    Supervisor::find(&folders.of_supervisor(&container.id), pid, start_time)
        .ok_or_else(|| Error::NotRunning(container.id.to_string()))
}
