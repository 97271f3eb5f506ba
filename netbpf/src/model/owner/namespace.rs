//! Network namespaces of others: `netns:NAME` and `pid:N`. Must not know what runs in them.

use std::{borrow::Cow, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::Owner;
use crate::model::State;

/// A network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// The namespace of a file (`netns:NAME` is `/run/netns/NAME`).
    Path(PathBuf),
    /// The namespace of a process. `start_time` (field 22 of `/proc/N/stat`) distinguishes it from a later
    /// process with the same PID.
    Process {
        /// The PID.
        pid: u32,
        /// Clock ticks since boot.
        start_time: u64,
    },
}

impl Owner for Namespace {
    fn image(&self) -> Cow<'_, str> {
        "-".into()
    }

    fn namespace(&self, _: &State) -> Option<Namespace> {
        Some(self.clone())
    }

    /// Others have written its `resolv.conf`.
    fn asks_elsewhere(&self) -> bool {
        true
    }

    /// `blue` for `netns:blue`, `pid-7` for `pid:7`: a name must not contain a colon.
    fn name_in_networks<'a>(&'a self, _: &'a str) -> Cow<'a, str> {
        match self {
            Self::Path(path) => path.file_name().unwrap_or_default().to_string_lossy(),
            Self::Process { pid, .. } => format!("pid-{pid}").into(),
        }
    }
}
