//! `netbpf daemon`: its options. The daemon runs in the foreground.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{ArgAction, ValueEnum};

/// The daemon's default directory for sockets.
const RUN_DIR: &str = "/run/netbpf";
/// The socket where Docker looks for a network driver named netbpf.
const DOCKER_PLUGIN: &str = "/run/docker/plugins/netbpf.sock";

/// The options of the daemon. With directories of its own, another daemon can run on the same host.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  netbpf daemon\n  \
                        netbpf daemon --state-dir /tmp/n/state --run-dir /tmp/n/run --bpffs /sys/fs/bpf/n")]
pub struct Options {
    /// Directory for records, and for the containers' files and logs
    #[arg(long, value_name = "DIR", default_value = "/var/lib/netbpf")]
    pub state_dir: PathBuf,
    /// Directory for sockets; that of the API is netbpf.sock
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    pub run_dir: PathBuf,
    /// Directory for pinned maps, programs and links
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/netbpf")]
    pub bpffs: PathBuf,
    /// Socket of the Docker engine, if there is one
    #[arg(long, value_name = "PATH", default_value = "/var/run/docker.sock")]
    pub docker_socket: PathBuf,
    /// Load programs that log each frame (slow)
    #[arg(long)]
    pub program_logs: bool,
    /// Whether containers in the default network may talk to each other
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pub icc: bool,
    /// Whether programs at lo of containers answer queries for known names; otherwise the responder does, at port 53
    #[arg(long, value_name = "on|off", value_enum, default_value_t = Switch::On, hide_possible_values = true)]
    pub fast_names: Switch,
    /// Whether packets of established flows with other hosts skip the host's stack, where nobody else must see them
    #[arg(long, value_name = "on|off", value_enum, default_value_t = Switch::Off, hide_possible_values = true)]
    pub fast_flows: Switch,
    /// If the daemon turns on forwarding: do not drop traffic that neither enters nor leaves netbpf's networks
    #[arg(long)]
    pub ip_forward_no_drop: bool,
    /// Socket of Docker's network driver netbpf; '' for none [default: /run/docker/plugins/netbpf.sock, or none with
    /// another --run-dir]
    #[arg(long, value_name = "PATH")]
    pub docker_plugin: Option<OsString>,
    /// Drop traffic to unpublished ports of containers with XDP at this uplink, in its driver or, with =generic, in the
    /// network stack; may be repeated
    #[arg(long, value_name = "INTERFACE[=generic]", value_parser = Uplink::parse)]
    pub xdp: Vec<Uplink>,
    /// Log level
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
}

impl Options {
    /// Whether queries for names are answered at `lo` of containers.
    pub fn fast_names(&self) -> bool {
        self.fast_names == Switch::On
    }

    /// Whether established flows skip the host's stack.
    pub fn fast_flows(&self) -> bool {
        self.fast_flows == Switch::On
    }

    /// The socket for Docker. By default only the daemon with the default run directory has one.
    pub fn docker_plugin(&self) -> Option<PathBuf> {
        match &self.docker_plugin {
            Some(path) => Some(PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty()),
            None => (self.run_dir == Path::new(RUN_DIR)).then(|| DOCKER_PLUGIN.into()),
        }
    }
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// An uplink, and where its XDP program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// The name of the interface, as typed.
    pub interface: String,
    /// Whether to run in the network stack instead of the driver.
    pub generic: bool,
}

impl Uplink {
    fn parse(text: &str) -> Result<Self, String> {
        let (interface, mode) = text.split_once('=').unwrap_or((text, "native"));
        let generic = match mode {
            "native" => false,
            "generic" => true,
            _ => return Err(format!("expected {interface}, {interface}=native or {interface}=generic")),
        };
        Ok(Self { interface: interface.to_owned(), generic })
    }
}

/// The log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Log failures.
    Error,
    /// Also log warnings.
    Warn,
    /// Also log actions.
    Info,
    /// Also log the steps of actions.
    Debug,
    /// Log everything.
    Trace,
}

impl LogLevel {
    /// The level's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uplink_is_native_by_default() {
        let uplink = |interface: &str, generic| Ok(Uplink { interface: interface.to_owned(), generic });
        assert_eq!(Uplink::parse("eth0"), uplink("eth0", false));
        assert_eq!(Uplink::parse("eth0.5=native"), uplink("eth0.5", false));
        assert_eq!(Uplink::parse("eth0=generic"), uplink("eth0", true));
        let said = Uplink::parse("eth0=offload").unwrap_err();
        assert_eq!(said, "expected eth0, eth0=native or eth0=generic");
    }
}
