//! How names of containers are answered.

use serde::{Deserialize, Serialize};

/// How names of containers are answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Names {
    /// By whom.
    pub state: NamesState,
    /// For how many containers a program at `lo` answers.
    pub containers: usize,
    /// What the kernel lacks.
    pub text: String,
    /// The names of containers whose queries only the responder answers, although the kernel answers those of others, with
    /// the reason.
    #[serde(default)]
    pub without_filter: Vec<String>,
}

/// By whom names of containers are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamesState {
    /// By programs, where the responder need not be asked.
    #[default]
    Kernel,
    /// By the responder, as the user wants.
    Off,
    /// By the responder: the kernel lacks something.
    Lacking,
}
