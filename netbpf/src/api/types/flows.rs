//! Whether established flows skip the host's stack.

use serde::{Deserialize, Serialize};

/// Whether established flows skip the host's stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Flows {
    /// Whether they do.
    pub state: FlowsState,
    /// How many do at present.
    pub count: usize,
    /// What keeps them from it.
    #[serde(default)]
    pub hindrances: Vec<String>,
}

/// Whether established flows skip the host's stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowsState {
    /// They do not, as the user wants.
    #[default]
    Off,
    /// They do.
    Fast,
    /// Some or all do not, because of the host.
    Hindered,
}
