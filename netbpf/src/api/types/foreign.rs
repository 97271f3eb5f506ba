//! Chains of others in the host's packet filter.

use serde::{Deserialize, Serialize};

/// A chain of somebody else's that drops what it has no rule for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ForeignChain {
    /// Its family, table and name.
    pub chain: String,
    /// Whether containers are cut off.
    pub state: ForeignChainState,
    /// What it does, and what there is to do.
    pub text: String,
}

/// How containers fare in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForeignChainState {
    /// netbpf's rules let them pass.
    Answered,
    /// They are cut off, because somebody means it.
    Closed,
    /// They are cut off, because netbpf's rules could not be put there.
    Refused,
}
