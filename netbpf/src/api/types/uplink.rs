//! What `info` and `doctor` show of an interface to other hosts.

use serde::{Deserialize, Serialize};

/// An interface at which the daemon was told to drop early what nobody may send to containers (`--xdp`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Uplink {
    /// Its name.
    pub interface: String,
    /// `native` or `generic`.
    pub mode: String,
    /// Why the program is not attached, and what to do; empty where it is.
    pub trouble: String,
}
