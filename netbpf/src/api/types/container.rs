//! Container messages: the part of Docker's that applies to a network sandbox, with Docker's keys.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Empty, EndpointSettings, HostConfig, PortBinding, PortSummary};

/// A request to create a container (`run`, `create`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerCreate {
    /// In `inspect`: the root file system, a directory or `host`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The command and its arguments.
    pub cmd: Vec<String>,
    /// `KEY=VALUE`, added to a few default variables.
    pub env: Vec<String>,
    /// The directory where the command starts; empty for `/`.
    pub working_dir: String,
    /// `--hostname`; empty for the short ID.
    pub hostname: String,
    /// `--rootfs`; absent for the host's file system.
    pub rootfs: Option<PathBuf>,
    /// `--rm`.
    pub auto_remove: bool,
    /// `--net`: `bridge`, `default`, `none`, `host`, `container:C` or a network; empty for `bridge`.
    pub network_mode: String,
    /// `--ip`, `--mac-address` and `--network-alias` for that network.
    pub endpoint_config: EndpointSettings,
    /// Further networks in the order of connecting. If there are any, all networks must be user-defined, the first included.
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
    /// `--expose` and the published ports, such as `80/tcp`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// Settings that concern the host. `inspect` has them in a separate object.
    #[serde(skip_serializing_if = "HostConfig::is_default")]
    pub host_config: HostConfig,
}

/// A network of a new container, and the requests for its endpoint there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkAttachment {
    /// Name or ID.
    pub network: String,
    /// The requests for the endpoint, as in `connect`.
    pub endpoint_config: EndpointSettings,
}

/// `--restart`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped` or `on-failure`; empty is `no`.
    pub name: String,
    /// For `on-failure`; 0 for no limit.
    pub maximum_retry_count: i64,
}

/// `ps`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSummary {
    /// 64 hex digits.
    pub id: String,
    /// With a leading slash, as in Docker.
    pub names: Vec<String>,
    /// The root file system: a directory, or `host`.
    pub image: String,
    /// The same.
    #[serde(rename = "ImageID", default)]
    pub image_id: String,
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
    /// Exposed and published ports of a running container.
    #[serde(default)]
    pub ports: Vec<PortSummary>,
    /// Its network mode, as in `inspect`.
    #[serde(default)]
    pub host_config: NetworkMode,
    /// Its endpoints.
    #[serde(default)]
    pub network_settings: NetworkEndpoints,
    /// Always empty: netbpf has no volumes.
    #[serde(default)]
    pub mounts: Vec<Empty>,
}

/// The part of Docker's `HostConfig` in [`ContainerSummary`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkMode {
    /// `default`, a network, `host`, `none` or `container:ID`.
    pub network_mode: String,
}

/// The part of Docker's `NetworkSettings` in [`ContainerSummary`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkEndpoints {
    /// Endpoints by network name.
    pub networks: BTreeMap<String, EndpointSettings>,
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
    /// Its state.
    pub state: ContainerState,
    /// The root file system: a directory, or `host`.
    pub image: String,
    /// The path of its `/etc/resolv.conf` on the host.
    pub resolv_conf_path: String,
    /// The path of its `/etc/hostname` on the host.
    pub hostname_path: String,
    /// The path of its `/etc/hosts` on the host.
    pub hosts_path: String,
    /// The path of its log.
    pub log_path: String,
    /// With a leading slash.
    pub name: String,
    /// Settings that concern the host.
    pub host_config: HostConfig,
    /// How often the restart policy has started it since a user did.
    #[serde(default)]
    pub restart_count: u32,
    /// Always empty: netbpf has no volumes.
    #[serde(default)]
    pub mounts: Vec<Empty>,
    /// `linux`.
    #[serde(default)]
    pub platform: String,
    /// The request that created it.
    pub config: ContainerCreate,
    /// Its networks, addresses and ports.
    pub network_settings: NetworkSettings,
}

/// Docker's `State`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerState {
    /// `created`, `running`, `restarting` or `exited`.
    pub status: String,
    /// Whether it is running, or waits for its next start.
    pub running: bool,
    /// Whether it waits for its next start.
    #[serde(default)]
    pub restarting: bool,
    /// Always false: netbpf cannot pause containers.
    #[serde(default)]
    pub paused: bool,
    /// Always false: netbpf limits no memory.
    #[serde(rename = "OOMKilled", default)]
    pub oom_killed: bool,
    /// Always false: a removed container is gone.
    #[serde(default)]
    pub dead: bool,
    /// The PID of its first process on the host; 0 while not running.
    pub pid: u32,
    /// The exit code of its last run.
    pub exit_code: i32,
    /// Why it could not be started.
    pub error: String,
    /// RFC 3339; year 1 if it was never started.
    pub started_at: String,
    /// RFC 3339; year 1 if it has not ended.
    pub finished_at: String,
}

/// Docker's `NetworkSettings`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSettings {
    /// The path of its network namespace; empty while not running.
    pub sandbox_key: String,
    /// The bindings by container port (`80/tcp`) while running; null for a port that is only exposed.
    #[serde(default)]
    pub ports: BTreeMap<String, Option<Vec<PortBinding>>>,
    /// Its endpoint in the default network; empty fields if it is not in it, as in Docker.
    #[serde(flatten)]
    pub default: DefaultEndpoint,
    /// Its endpoints, by network name.
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// The endpoint in the default network, repeated where Docker had it before it had other networks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DefaultEndpoint {
    /// The ID of the endpoint, 64 hex digits.
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
    /// Its IPv4 address.
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

/// `update`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerUpdate {
    /// Name or ID of the network that has the endpoint.
    pub network: String,
    /// `--driver-opt key=value`; an empty value removes the option.
    pub driver_opts: BTreeMap<String, String>,
}

/// The answer to `wait`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerWait {
    /// Its exit code; 128 + n after signal n.
    pub status_code: i32,
}

/// One line of output, in the log file and in streams.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogLine {
    /// The text, with its newline if it had one. Invalid UTF-8 is replaced.
    pub log: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// RFC 3339, with nanoseconds.
    pub time: String,
}
