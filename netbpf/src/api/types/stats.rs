//! What `stats` and `monitor` show.

use serde::{Deserialize, Serialize};

/// `netbpf stats`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Stats {
    /// Frames and bytes by reason, all CPUs, in the order of the reasons.
    pub reasons: Vec<ReasonStats>,
    /// One entry an endpoint, by container name.
    pub endpoints: Vec<EndpointStats>,
}

/// One reason's counters.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReasonStats {
    /// [`netbpf_common::reason::Reason::name`].
    pub reason: String,
    /// Whether frames counted here reached nobody.
    pub drop: bool,
    /// Frames.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One endpoint's counters.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct EndpointStats {
    /// Container name.
    pub container: String,
    /// Container ID.
    pub id: String,
    /// Network name.
    pub network: String,
    /// `eth0`.
    pub interface: String,
    /// What it received.
    pub rx_packets: u64,
    /// What it received.
    pub rx_bytes: u64,
    /// What it sent.
    pub tx_packets: u64,
    /// What it sent.
    pub tx_bytes: u64,
    /// What it sent and the programs dropped.
    pub dropped_packets: u64,
}
