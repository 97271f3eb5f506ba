//! Containers that netbpf runs itself: creation, start, stop, restart, and output.

pub(in crate::daemon) mod containers;
pub(in crate::daemon) mod ends;
mod lifecycle;
pub(in crate::daemon) mod logs;
mod rename;
mod restarts;

use crate::{
    daemon::Error,
    model::{Container, Sandbox},
};

/// The sandbox that a command is for. An error for a container that netbpf did not start.
fn own_sandbox(container: &Container) -> Result<&Sandbox, Error> {
    container.sandbox().ok_or_else(|| Error::Foreign(container.name.clone()))
}
