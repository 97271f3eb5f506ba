//! Containers in the API's messages: the part of Docker's that a network sandbox has, under Docker's keys.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Empty, EndpointSettings, HostConfig, PortBinding, PortSummary};

/// `run` and `create` of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerCreate {
    /// In `inspect`: the root file system, a directory or `host`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
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
    /// Always empty: volumes are a notion of engines.
    #[serde(default)]
    pub mounts: Vec<Empty>,
    /// `linux`.
    #[serde(default)]
    pub platform: String,
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
    /// Always false: netbpf pauses nobody.
    #[serde(default)]
    pub paused: bool,
    /// Always false: netbpf limits no memory.
    #[serde(rename = "OOMKilled", default)]
    pub oom_killed: bool,
    /// Always false: what is removed is gone.
    #[serde(default)]
    pub dead: bool,
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
    /// What it has in the default network; empty where it is not in it, as in Docker.
    #[serde(flatten)]
    pub default: DefaultEndpoint,
    /// By network name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// What Docker says of the default network once more, where it was before there were others.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DefaultEndpoint {
    /// The endpoint, 64 hex digits.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// The network's gateway address.
    pub gateway: String,
    /// Its IPv6 address.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Prefix length of `GlobalIPv6Address`.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// Its address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Prefix length of `IPAddress`.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// The network's IPv6 gateway.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// Its MAC.
    pub mac_address: String,
}

impl From<&EndpointSettings> for DefaultEndpoint {
    fn from(endpoint: &EndpointSettings) -> Self {
        let endpoint = endpoint.clone();
        Self {
            endpoint_id: endpoint.endpoint_id,
            gateway: endpoint.gateway,
            global_ipv6_address: endpoint.global_ipv6_address,
            global_ipv6_prefix_len: endpoint.global_ipv6_prefix_len,
            ip_address: endpoint.ip_address,
            ip_prefix_len: endpoint.ip_prefix_len,
            ipv6_gateway: endpoint.ipv6_gateway,
            mac_address: endpoint.mac_address,
        }
    }
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
