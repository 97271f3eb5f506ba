//! The daemon's options: paths and settings. All paths can be changed, so that several daemons can run on one
//! host.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::model::{HostInterface, XdpMode, fnv1a_32};

/// The default of [`Options::bpffs`].
pub const BPFFS: &str = "/sys/fs/bpf/netbpf";

/// Options of `netbpf daemon`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Records and the containers' files.
    pub state_dir: PathBuf,
    /// Sockets.
    pub run_dir: PathBuf,
    /// Pinned maps, programs and links.
    pub bpffs: PathBuf,
    /// Let traffic of others pass, even if the host forwards only because of netbpf.
    pub ip_forward_no_drop: bool,
    /// Docker's socket.
    pub docker_socket: PathBuf,
    /// Load the programs that log (aya-log).
    pub program_logs: bool,
    /// Whether queries for names are answered at `lo` of containers.
    pub fast_names: bool,
    /// Whether established flows skip the host's stack.
    pub fast_flows: bool,
    /// Whether members of the default network may talk to each other.
    pub icc: bool,
    /// The socket where Docker finds its network driver; none if Docker is not served.
    pub docker_plugin: Option<PathBuf>,
    /// Interfaces to other hosts with an XDP program, and its mode.
    pub uplinks: BTreeMap<HostInterface, XdpMode>,
}

impl Options {
    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("netbpf.sock")
    }

    /// The name of this daemon's table in the packet filter: `netbpf`, with the link group appended if the
    /// bpffs directory is not the default one.
    pub fn table(&self) -> String {
        if self.bpffs == Path::new(BPFFS) {
            "netbpf".to_owned()
        } else {
            format!("netbpf-{:08x}", self.group())
        }
    }

    /// The link group of this daemon: a hash of its bpffs directory, in 31 bits, because the kernel prints
    /// groups as signed numbers.
    pub fn group(&self) -> u32 {
        let hash = fnv1a_32(self.bpffs.as_os_str().as_encoded_bytes());
        (hash & 0x7fff_ffff).max(1)
    }
}
