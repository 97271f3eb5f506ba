//! `netbpf daemon`: what it can be told. It runs in the foreground.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{ArgAction, ValueEnum};

/// Where the daemon of a host has its sockets.
const RUN_DIR: &str = "/run/netbpf";
/// Where Docker looks for a network driver called netbpf.
const DOCKER_PLUGIN: &str = "/run/docker/plugins/netbpf.sock";

/// Where a daemon keeps its things, and what it says. With folders of its own, one more daemon runs beside others.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:\n  netbpf daemon\n  \
                        netbpf daemon --state-dir /tmp/n/state --run-dir /tmp/n/run --bpffs /sys/fs/bpf/n")]
pub struct Options {
    /// Records, and the containers' files and output
    #[arg(long, value_name = "DIR", default_value = "/var/lib/netbpf")]
    pub state_dir: PathBuf,
    /// Sockets; the API's is netbpf.sock in it
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    pub run_dir: PathBuf,
    /// Pinned maps, programs and links
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/netbpf")]
    pub bpffs: PathBuf,
    /// Where a Docker engine listens, if there is one
    #[arg(long, value_name = "PATH", default_value = "/var/run/docker.sock")]
    pub docker_socket: PathBuf,
    /// Load the programs that log each frame (slow)
    #[arg(long)]
    pub program_logs: bool,
    /// Whether containers of the default network talk to each other
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true, num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pub icc: bool,
    /// Where the daemon turns forwarding on: let also pass what neither enters nor leaves netbpf's networks
    #[arg(long)]
    pub ip_forward_no_drop: bool,
    /// Socket of Docker's network driver netbpf; '' for none [default: /run/docker/plugins/netbpf.sock, none for a daemon
    /// with another --run-dir]
    #[arg(long, value_name = "PATH")]
    pub docker_plugin: Option<OsString>,
    /// Drop what nobody may send to containers as soon as this interface to other hosts receives it, in its driver, or
    /// with =generic in the stack; more than once for more interfaces
    #[arg(long, value_name = "INTERFACE[=generic]", value_parser = Uplink::parse)]
    pub xdp: Vec<Uplink>,
    /// How much the daemon says
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
}

impl Options {
    /// Where Docker is served, if it is: by one daemon of a host.
    pub fn docker_plugin(&self) -> Option<PathBuf> {
        match &self.docker_plugin {
            Some(path) => Some(PathBuf::from(path)).filter(|path| !path.as_os_str().is_empty()),
            None => (self.run_dir == Path::new(RUN_DIR)).then(|| DOCKER_PLUGIN.into()),
        }
    }
}

/// An interface to other hosts, and where its XDP program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its name, as typed.
    pub interface: String,
    /// In the stack, not in its driver.
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

/// How much the daemon says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what may.
    Warn,
    /// And what is done.
    Info,
    /// And each step of it.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Its name.
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
    fn an_uplink_is_native_unless_it_is_asked_to_be_generic() {
        let uplink = |interface: &str, generic| Ok(Uplink { interface: interface.to_owned(), generic });
        assert_eq!(Uplink::parse("eth0"), uplink("eth0", false));
        assert_eq!(Uplink::parse("eth0.5=native"), uplink("eth0.5", false));
        assert_eq!(Uplink::parse("eth0=generic"), uplink("eth0", true));
        let said = Uplink::parse("eth0=offload").unwrap_err();
        assert_eq!(said, "expected eth0, eth0=native or eth0=generic");
    }
}
