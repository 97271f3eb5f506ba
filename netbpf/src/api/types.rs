//! The API's messages. Networks have the keys, order and nesting of Docker's Engine API, so that `network inspect`
//! prints what Docker users know; containers have the part of Docker's that a network sandbox has.
//!
//! | request | body → answer |
//! |---|---|
//! | `GET /version`, `GET /info` | → [`Version`], [`Info`] |
//! | `GET /networks?filters=JSON` | → `[NetworkResource]`, by name |
//! | `POST /networks/create` | [`NetworkCreate`] → [`NetworkCreated`] |
//! | `GET /networks/N` | → [`NetworkResource`] |
//! | `DELETE /networks/N` | → nothing |
//! | `POST /networks/N/connect` | [`NetworkConnect`] → [`NetworkConnected`] |
//! | `POST /networks/N/disconnect` | [`NetworkDisconnect`] → nothing |
//! | `POST /networks/prune?filters=JSON` | → [`NetworksPruned`] |
//! | `GET /containers/json?all=B&filters=JSON` | → `[ContainerSummary]`, newest first |
//! | `POST /containers/create?name=S` | [`ContainerCreate`] → [`Created`] |
//! | `GET /containers/C/json` | → [`ContainerResource`] |
//! | `POST /containers/C/start` | → nothing; a command that cannot start: [`Error`] with `ExitCode` 126 or 127 |
//! | `POST /containers/C/stop?t=SECONDS&signal=S`, `…/restart?t=SECONDS`, `…/kill?signal=S` | → nothing; stop of a stopped and start of a running one: 304 |
//! | `POST /containers/C/rename?name=S` | → nothing |
//! | `POST /containers/C/wait` | → [`ContainerWait`], when it has ended |
//! | `DELETE /containers/C?force=B` | → nothing |
//! | `GET /containers/C/logs?follow=B&tail=N\|all&since=RFC3339` | → a stream of [`LogLine`], one JSON text a line |
//! | `GET /stats?containers=A,B` | → [`Stats`] |
//! | `GET /events?since=RFC3339&until=RFC3339&filters=JSON` | → a stream of [`Event`](super::events::Event), one JSON text a line |
//!
//! `N` and `C` are a full ID, a full name or an unambiguous ID prefix, in this order. `filters` is Docker's JSON, a map
//! of key to list of values. Any error is an [`Error`] with Docker's status code: 400 bad input, 403 forbidden, 404, 409
//! conflict, 500. The daemon streams nothing but logs and events: what is followed from before the first start on
//! misses nothing, for the head of the answer comes at once. `wait` by full ID also tells of a container that is removed already.

mod container;
mod foreign;
mod network;
mod ports;
mod stats;
mod uplink;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use container::{
    ContainerCreate, ContainerResource, ContainerState, ContainerSummary, ContainerWait, DefaultEndpoint,
    LogLine, NetworkAttachment, NetworkSettings, RestartPolicy,
};
pub use foreign::{ForeignChain, ForeignChainState};
pub use network::{
    ConfigFrom, EndpointIpam, EndpointSettings, Ipam, IpamConfig, NetworkConnect, NetworkConnected,
    NetworkContainer, NetworkCreate, NetworkCreated, NetworkDisconnect, NetworkResource, NetworksPruned,
};
pub use ports::{Empty, HostConfig, PortBinding, PortSummary};
pub use stats::{EndpointStats, ReasonStats, Stats};
pub use uplink::Uplink;

/// Any failed request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Error {
    /// Docker's text where Docker has one.
    pub message: String,
    /// For `start` and `exec`: what the command line exits with (125, 126, 127).
    #[serde(rename = "exitCode", default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
}

/// What a create request made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Created {
    /// 64 hex digits.
    pub id: String,
    /// For the user to read.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// `netbpf version`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    /// Of the daemon.
    pub version: String,
    /// The layout of the pinned maps.
    pub layout: u32,
    /// Of the running kernel.
    pub kernel_version: String,
    /// `x86_64`, …
    pub arch: String,
}

/// `netbpf info`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// All containers.
    pub containers: usize,
    /// Of these, running.
    pub containers_running: usize,
    /// Of these, stopped or never started.
    pub containers_stopped: usize,
    /// All networks, predefined ones included.
    pub networks: usize,
    /// Endpoints in the datapath.
    pub ports: usize,
    /// `tcx` or `clsact`.
    pub attachment: String,
    /// Interfaces to other hosts that the daemon was told of, by name.
    #[serde(default)]
    pub uplinks: Vec<Uplink>,
    /// Chains of others that drop what they have no rule for, by name.
    #[serde(default)]
    pub foreign_chains: Vec<ForeignChain>,
    /// Queueing disciplines that somebody gave to links of netbpf's among the host's: `tbf at netbpf0`.
    #[serde(default)]
    pub disciplines: Vec<String>,
    /// Where maps and links are pinned.
    pub bpffs: PathBuf,
    /// Where the daemon keeps its records.
    pub state_dir: PathBuf,
    /// Sockets and locks.
    pub run_dir: PathBuf,
    /// The running kernel.
    pub kernel_version: String,
    /// The host's name.
    pub name: String,
    /// The daemon's version.
    pub server_version: String,
}
