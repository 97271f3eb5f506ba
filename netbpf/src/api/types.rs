//! The API's messages. Networks have the keys, order and nesting of Docker's Engine API, so that `network inspect`
//! prints what Docker users know; containers have the part of Docker's that a network sandbox has.
//!
//! | request | body → answer |
//! |---|---|
//! | `GET /version`, `GET /info` | → [`Version`], [`Info`] |
//! | `GET /networks?filters=JSON` | → `[NetworkResource]`, by name |
//! | `POST /networks/create` | [`NetworkCreate`] → [`Created`] |
//! | `GET /networks/N` | → [`NetworkResource`] |
//! | `DELETE /networks/N` | → nothing |
//! | `POST /networks/N/connect`, `…/disconnect` | [`NetworkConnect`], [`NetworkDisconnect`] → nothing |
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
//!
//! Long because it is one list, which a client reads as a whole.

mod ports;
mod stats;
mod uplink;

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

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

/// Docker's `IPAM` object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// `default`.
    pub driver: String,
    /// `--ipam-opt`.
    pub options: Option<BTreeMap<String, String>>,
    /// One entry a subnet.
    pub config: Vec<IpamConfig>,
}

/// One subnet of a network; texts as the user typed them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamConfig {
    /// `192.168.0.0/16`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subnet: String,
    /// `192.168.1.0/24`.
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub ip_range: String,
    /// `192.168.0.1`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Name to address.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary_addresses: BTreeMap<String, String>,
}

/// `network create`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkCreate {
    /// The new network's name.
    pub name: String,
    /// `bridge` or `netbpf`; empty means `bridge`.
    pub driver: String,
    /// `local` or empty.
    pub scope: String,
    /// No way out.
    pub internal: bool,
    /// Stored, as Docker does for local networks.
    pub attachable: bool,
    /// `--ipv4`; absent means true.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: Option<bool>,
    /// `--ipv6`.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: Option<bool>,
    /// Subnets.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// `-o key=value`.
    pub options: BTreeMap<String, String>,
    /// `--label key=value`.
    pub labels: BTreeMap<String, String>,
}

/// `network inspect`: Docker's keys in Docker's order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkResource {
    /// Unique.
    pub name: String,
    /// 64 hex digits.
    pub id: String,
    /// RFC 3339, nanoseconds, UTC.
    pub created: String,
    /// `local`.
    pub scope: String,
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// Has IPv4.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: bool,
    /// Has IPv6.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: bool,
    /// Subnets.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// No way out.
    pub internal: bool,
    /// As created.
    pub attachable: bool,
    /// Always false: a swarm notion.
    pub ingress: bool,
    /// Always empty: a swarm notion.
    pub config_from: ConfigFrom,
    /// Always false: a swarm notion.
    pub config_only: bool,
    /// Running containers by ID.
    pub containers: BTreeMap<String, NetworkContainer>,
    /// `-o`.
    pub options: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
}

/// Docker's `ConfigFrom`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConfigFrom {
    /// Always empty.
    pub network: String,
}

/// A running container in [`NetworkResource`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkContainer {
    /// The container's name.
    pub name: String,
    /// 64 hex digits.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Lower case, colons.
    pub mac_address: String,
    /// With prefix length, or empty.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// With prefix length, or empty.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
}

/// `network connect`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkConnect {
    /// Name, ID, `netns:NAME`, `netns:/PATH` or `pid:N`.
    pub container: String,
    /// What the endpoint shall be.
    pub endpoint_config: EndpointSettings,
}

/// What a user asks of an endpoint, and what it got.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// `--ip`, `--ip6`.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpam>,
    /// `--link`; issue of the default network and of user-defined ones.
    pub links: Option<Vec<String>>,
    /// `--alias`.
    pub aliases: Option<Vec<String>>,
    /// `--mac-address`, or what it got.
    pub mac_address: String,
    /// `--driver-opt`.
    pub driver_opts: Option<BTreeMap<String, String>>,
    /// `--gw-priority`.
    pub gw_priority: i64,
    /// The network, 64 hex digits.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// The endpoint, 64 hex digits; empty while not running.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// The network's gateway address.
    pub gateway: String,
    /// The address it got.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Prefix length of `IPAddress`.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// The network's IPv6 gateway.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// The IPv6 address it got.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Prefix length of `GlobalIPv6Address`.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// The names that others in the network find it by.
    #[serde(rename = "DNSNames")]
    pub dns_names: Option<Vec<String>>,
}

/// Addresses that a user asks for; texts as typed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointIpam {
    /// `--ip`.
    #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
    pub ipv4_address: String,
    /// `--ip6`.
    #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
    pub ipv6_address: String,
}

/// `network disconnect`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkDisconnect {
    /// As in [`NetworkConnect`].
    pub container: String,
    /// Also when the container is gone.
    pub force: bool,
}

/// `network prune`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworksPruned {
    /// Names.
    pub networks_deleted: Vec<String>,
}

/// `run` and `create` of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerCreate {
    /// The command and its arguments.
    pub cmd: Vec<String>,
    /// `KEY=VALUE`; what is not named comes from a small default.
    pub env: Vec<String>,
    /// Where the command starts; empty is `/`.
    pub working_dir: String,
    /// `--hostname`; empty is the short ID.
    pub hostname: String,
    /// `--rootfs`; absent is the host's file system.
    pub rootfs: Option<PathBuf>,
    /// `--rm`.
    pub auto_remove: bool,
    /// `--net`: `bridge`, `default`, `none`, `host`, `container:C` or a network; empty is `bridge`.
    pub network_mode: String,
    /// `--ip`, `--mac-address`, `--network-alias` for that network.
    pub endpoint_config: EndpointSettings,
    /// More networks, in the order of connecting: all of them, and the first, are the user's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkAttachment>,
    /// `--add-host`, `name:address`.
    pub extra_hosts: Vec<String>,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--dns-option`.
    pub dns_options: Vec<String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--expose` and what is published: `80/tcp`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// What concerns the host. `inspect` has it in a place of its own.
    #[serde(skip_serializing_if = "HostConfig::is_default")]
    pub host_config: HostConfig,
}

/// A network of a container that is made, and what is asked of its endpoint there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkAttachment {
    /// Name or ID.
    pub network: String,
    /// As for `connect`.
    pub endpoint_config: EndpointSettings,
}

/// `--restart`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped` or `on-failure`; empty is `no`.
    pub name: String,
    /// Of `on-failure`; 0 for no limit.
    pub maximum_retry_count: i64,
}

/// `ps`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSummary {
    /// 64 hex digits.
    pub id: String,
    /// With a leading slash, as Docker has it.
    pub names: Vec<String>,
    /// The root file system: a directory, or `host`.
    pub image: String,
    /// The command as one line.
    pub command: String,
    /// Seconds since the epoch.
    pub created: i64,
    /// `created`, `running`, `restarting` or `exited`.
    pub state: String,
    /// `Up 3 minutes`, `Exited (0) 2 seconds ago`, `Created`.
    pub status: String,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// Names of its networks.
    pub networks: Vec<String>,
    /// What is exposed and published, while it runs.
    #[serde(default)]
    pub ports: Vec<PortSummary>,
}

/// `inspect` of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerResource {
    /// 64 hex digits.
    pub id: String,
    /// RFC 3339.
    pub created: String,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it does now.
    pub state: ContainerState,
    /// The root file system: a directory, or `host`.
    pub image: String,
    /// Its `/etc/resolv.conf`.
    pub resolv_conf_path: String,
    /// Its `/etc/hostname`.
    pub hostname_path: String,
    /// Its `/etc/hosts`.
    pub hosts_path: String,
    /// Its output.
    pub log_path: String,
    /// With a leading slash.
    pub name: String,
    /// What of the host it was given.
    pub host_config: HostConfig,
    /// How often its restart policy started it since a user did.
    #[serde(default)]
    pub restart_count: u32,
    /// How it was asked for.
    pub config: ContainerCreate,
    /// What it got.
    pub network_settings: NetworkSettings,
}

/// Docker's `State`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerState {
    /// `created`, `running`, `restarting` or `exited`.
    pub status: String,
    /// Whether it runs, or will soon.
    pub running: bool,
    /// Whether it waits for its next start.
    #[serde(default)]
    pub restarting: bool,
    /// Its first process in the host's numbering; 0 while not running.
    pub pid: u32,
    /// Of its last run.
    pub exit_code: i32,
    /// Why it could not start.
    pub error: String,
    /// RFC 3339, or year 1.
    pub started_at: String,
    /// RFC 3339, or year 1.
    pub finished_at: String,
}

/// Docker's `NetworkSettings`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSettings {
    /// Its network namespace; empty while not running.
    pub sandbox_key: String,
    /// While it runs, by container port (`80/tcp`): where it is published; null where it is only exposed.
    #[serde(default)]
    pub ports: BTreeMap<String, Option<Vec<PortBinding>>>,
    /// By network name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// How a container ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerWait {
    /// Its exit code; 128 + n after signal n.
    pub status_code: i32,
}

/// One line of output, in the log file and in the stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// The text, its newline included where it had one; bytes that are no UTF-8 are replaced.
    pub log: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// RFC 3339, nanoseconds.
    pub time: String,
}
