//! Chains of other programs in the host's packet filter.

use serde::{Deserialize, Serialize};

/// A foreign chain that drops packets of containers, or would without netbpf's rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ForeignChain {
    /// Its family, table and name.
    pub chain: String,
    /// Whether it drops container traffic.
    pub state: ForeignChainState,
    /// What it does, and how to change it.
    pub text: String,
}

/// Whether a foreign chain drops container traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForeignChainState {
    /// No: netbpf's rules in it accept the traffic.
    Answered,
    /// Yes: on purpose.
    Closed,
    /// Yes: netbpf's rules could not be added to it.
    Refused,
}
