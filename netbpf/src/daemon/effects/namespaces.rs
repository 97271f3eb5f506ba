//! Opens the network namespaces that records of containers name.

use crate::{daemon::Error, link, model::Namespace};

/// Opens a container's network namespace.
///
/// # Errors
/// If there is no such file, or the process has ended.
pub fn open(namespace: &Namespace) -> Result<link::Namespace, Error> {
    Ok(match namespace {
        Namespace::Path(path) => link::Namespace::open_path(path)?,
        Namespace::Process { pid, start_time } => link::Namespace::open_process(*pid, *start_time)?,
    })
}
