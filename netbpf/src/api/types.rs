//! The messages of the API. Networks have the keys, order and nesting of Docker's Engine API, so `network inspect`
//! prints what Docker users know; containers have the part of Docker's that applies to a network sandbox.
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
//! | `POST /networks/N/update` | [`NetworkUpdate`] → nothing |
//! | `POST /networks/prune?filters=JSON` | → [`NetworksPruned`] |
//! | `GET /containers/json?all=B&limit=N&filters=JSON` | → `[ContainerSummary]`, newest first |
//! | `POST /containers/create?name=S` | [`ContainerCreate`] → [`Created`] |
//! | `GET /containers/C/json` | → [`ContainerResource`] |
//! | `POST /containers/C/start` | → nothing; a command that cannot start: [`Error`] with `ExitCode` 126 or 127 |
//! | `POST /containers/C/stop?t=SECONDS&signal=S`, `…/restart?t=SECONDS`, `…/kill?signal=S` | → nothing; stop of a stopped and start of a running one: 304 |
//! | `POST /containers/C/rename?name=S` | → nothing |
//! | `POST /containers/C/update` | [`ContainerUpdate`] → nothing |
//! | `POST /containers/C/wait` | → [`ContainerWait`], when it has ended |
//! | `DELETE /containers/C?force=B` | → nothing |
//! | `GET /containers/C/logs?follow=B&tail=N\|all&since=RFC3339` | → a stream of [`LogLine`], one JSON text a line |
//! | `POST /attachments/attach` | [`Attach`] → [`Attached`] |
//! | `POST /attachments/detach` | [`Detach`] → nothing |
//! | `POST /attachments/check` | [`CheckAttached`] → [`Attached`] |
//! | `POST /attachments/collect` | [`CollectAttached`] → nothing |
//! | `GET /attachments/status?network=N` | → nothing; an error if no container can be attached |
//! | `GET /stats?containers=A,B` | → [`Stats`] |
//! | `GET /explain?from=A&to=B&what=PROTO/PORT` | → `[Explanation]` |
//! | `GET /drops?containers=A,B&since=RFC3339&tail=N\|all` | → a stream of [`Dropped`], one JSON text a line |
//! | `GET /events?since=RFC3339&until=RFC3339&filters=JSON` | → a stream of [`Event`](super::events::Event), one JSON text a line |
//!
//! `N` and `C` are a full ID, a full name or an unambiguous ID prefix, in this order. `filters` is Docker's JSON: a map
//! of keys to lists of values. Every error is an [`Error`] with Docker's status code: 400 bad input, 403 forbidden, 404
//! not found, 409 conflict, 500. Only logs and events are streamed. The head of such a response comes at once, so a
//! client that follows a container from before its first start misses nothing. `wait` with a full ID also works for a
//! container that has been removed. Docker's clients, whose paths begin with a version, get some answers in another form.

mod attachment;
mod container;
mod drops;
mod explain;
mod flows;
mod foreign;
mod names;
mod network;
mod ports;
mod repair;
mod stats;
mod uplink;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use attachment::{
    Attach, Attached, AttachedAddress, AttachedInterface, AttachmentKey, CheckAttached, CollectAttached,
    Detach, KeptAttachment,
};
pub use container::{
    ContainerCreate, ContainerResource, ContainerState, ContainerSummary, ContainerUpdate, ContainerWait,
    DefaultEndpoint, LogLine, NetworkAttachment, NetworkEndpoints, NetworkMode, NetworkSettings,
    RestartPolicy,
};
pub use drops::{DropParty, Dropped};
pub use explain::{Explanation, Hop, Party};
pub use flows::{Flows, FlowsState};
pub use foreign::{ForeignChain, ForeignChainState};
pub use names::{Names, NamesState};
pub use network::{
    ConfigFrom, EndpointIpam, EndpointSettings, Ipam, IpamConfig, NetworkConnect, NetworkConnected,
    NetworkContainer, NetworkCreate, NetworkCreated, NetworkDisconnect, NetworkResource, NetworkUpdate,
    NetworksPruned,
};
pub use ports::{Empty, HostConfig, PortBinding, PortSummary};
pub use repair::Repair;
pub use stats::{EndpointStats, ReasonStats, Stats};
pub use uplink::Uplink;

/// The body of a failed request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Error {
    /// The message, which is Docker's if Docker has one.
    pub message: String,
    /// For `start` and `exec`: the exit code for the command line (125, 126, 127).
    #[serde(rename = "exitCode", default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
}

/// The answer to a create request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Created {
    /// The new ID, 64 hex digits.
    pub id: String,
    /// Warnings for the user.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// `netbpf version`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    /// The version of the daemon.
    pub version: String,
    /// The newest version of Docker's API that it serves, for Docker's clients.
    #[serde(rename = "ApiVersion", default)]
    pub api_version: String,
    /// The oldest one.
    #[serde(rename = "MinAPIVersion", default)]
    pub min_api_version: String,
    /// The layout version of the pinned maps.
    pub layout: u32,
    /// The version of the running kernel.
    pub kernel_version: String,
    /// `x86_64`, …
    pub arch: String,
}

/// `netbpf info`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// The number of containers.
    pub containers: usize,
    /// The number of running ones.
    pub containers_running: usize,
    /// The number of stopped ones, including those that were never started.
    pub containers_stopped: usize,
    /// The number of networks, predefined ones included.
    pub networks: usize,
    /// Endpoints in the datapath.
    pub endpoints: usize,
    /// `tcx` or `clsact`.
    pub attachment: String,
    /// The uplinks of the option `--xdp`, by name.
    #[serde(default)]
    pub uplinks: Vec<Uplink>,
    /// Foreign chains that drop packets of containers, or would without netbpf's rules; by name.
    #[serde(default)]
    pub foreign_chains: Vec<ForeignChain>,
    /// Queueing disciplines that others gave to netbpf's links on the host, such as `tbf at netbpf0`.
    #[serde(default)]
    pub disciplines: Vec<String>,
    /// Changes by others that the daemon could not undo, or does not for a while.
    #[serde(default)]
    pub contested: Vec<String>,
    /// Networks and endpoints that may use more than their leases, and what: `web in mynet (guard off)`.
    #[serde(default)]
    pub open: Vec<String>,
    /// How names of containers are answered.
    #[serde(default)]
    pub names: Names,
    /// Whether established flows skip the host's stack.
    #[serde(default)]
    pub flows: Flows,
    /// The last 64 different repairs, the latest last.
    #[serde(default)]
    pub repairs: Vec<Repair>,
    /// The directory of pinned maps and links.
    pub bpffs: PathBuf,
    /// The directory of the daemon's records.
    pub state_dir: PathBuf,
    /// The directory of sockets and locks.
    pub run_dir: PathBuf,
    /// The version of the running kernel.
    pub kernel_version: String,
    /// The host name.
    pub name: String,
    /// The daemon's version.
    pub server_version: String,
}
