//! The messages of `stats` and `monitor`.

use serde::{Deserialize, Serialize};

/// `netbpf stats`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Stats {
    /// Frames and bytes by reason, summed over all CPUs, in the order of the reasons.
    pub reasons: Vec<ReasonStats>,
    /// One entry for each endpoint, by container name.
    pub endpoints: Vec<EndpointStats>,
}

/// One reason's counters.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReasonStats {
    /// [`netbpf_common::reason::Reason::name`].
    pub reason: String,
    /// Whether the frames counted here were dropped.
    pub drop: bool,
    /// Number of frames.
    pub packets: u64,
    /// Number of bytes.
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
    /// Whether it may use more than its leases (`netbpf.guard`, `netbpf.addresses`).
    #[serde(default)]
    pub open: bool,
    /// How fast it may receive, such as `10mbit`; empty for no limit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ingress_rate: String,
    /// How fast it may send; empty for no limit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub egress_rate: String,
    /// Number of frames received.
    pub rx_packets: u64,
    /// Number of bytes received.
    pub rx_bytes: u64,
    /// Of these, frames of the host, and of other hosts; the others are of members of the network.
    #[serde(default)]
    pub rx_host_packets: u64,
    /// Their bytes.
    #[serde(default)]
    pub rx_host_bytes: u64,
    /// Number of frames sent.
    pub tx_packets: u64,
    /// Number of bytes sent.
    pub tx_bytes: u64,
    /// Of these, frames to the host, and to other hosts; the others went to members, or the programs answered or dropped
    /// them.
    #[serde(default)]
    pub tx_host_packets: u64,
    /// Their bytes.
    #[serde(default)]
    pub tx_host_bytes: u64,
    /// Number of sent frames that the programs dropped.
    pub dropped_packets: u64,
}
