//! Uplinks in `info` and `doctor`.

use serde::{Deserialize, Serialize};

/// An uplink where an XDP program drops traffic to unpublished ports of containers (option `--xdp`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Uplink {
    /// The name of the interface.
    pub interface: String,
    /// `native` or `generic`.
    pub mode: String,
    /// Why the program is not attached, and what to do; empty if it is attached.
    pub trouble: String,
}
