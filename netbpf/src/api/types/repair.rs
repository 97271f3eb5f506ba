//! Repairs in `doctor`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A repair of what somebody changed on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Repair {
    /// What somebody changed, and what netbpf did.
    pub text: String,
    /// How often.
    pub count: u64,
    /// When for the last time.
    pub last: Timestamp,
}
