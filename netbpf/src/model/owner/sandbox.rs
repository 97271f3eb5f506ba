//! Sandboxes: containers that netbpf starts and stops. Contains their configuration; must not know how they
//! are started.

use std::{borrow::Cow, collections::BTreeSet, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{CannotJoin, Files, Owner};
use crate::model::{ContainerPort, Id, Publish, Restart, State};

/// The configuration of a sandbox, and its restart state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// Working directory of the command.
    pub working_dir: PathBuf,
    /// Its UTS host name.
    pub hostname: String,
    /// Its root file system; the host's if absent.
    pub rootfs: Option<PathBuf>,
    /// Whether it is removed when it exits.
    pub auto_remove: bool,
    /// Restart policy and its state.
    #[serde(default, skip_serializing_if = "Restart::is_default")]
    pub restart: Restart,
    /// Its network mode.
    pub mode: Mode,
    /// The name of the network that it was created in. As in Docker (`HostConfig.NetworkMode`), it stays when
    /// the container leaves that network. Records of earlier versions have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created_in: String,
    /// `--add-host` lines, name to address.
    pub extra_hosts: Vec<(String, IpAddr)>,
    /// `--dns`; the host's servers if empty.
    pub dns: Vec<IpAddr>,
    /// `--dns-search`; the host's if empty, none if `.`.
    pub dns_search: Vec<String>,
    /// `--dns-option`.
    pub dns_options: Vec<String>,
    /// `-p`: one entry for each container port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// `--expose`, and the published ports.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed: BTreeSet<ContainerPort>,
    /// `-P`: whether all exposed ports are published.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub publish_all: bool,
    /// `--security-opt no-new-privileges`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_new_privileges: bool,
}

/// Network mode of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Its own namespace, attached to networks.
    Networks,
    /// Its own namespace, with `lo` only.
    None,
    /// The host's namespace.
    Host,
    /// The namespace of another sandbox.
    Container(Id),
}

impl Owner for Sandbox {
    /// The root file system: a directory, or `host`.
    fn image(&self) -> Cow<'_, str> {
        self.rootfs.as_ref().map_or("host".into(), |rootfs| rootfs.to_string_lossy())
    }

    fn command(&self) -> &[String] {
        &self.command
    }

    fn hostname(&self) -> Option<&str> {
        Some(&self.hostname)
    }

    fn mode(&self) -> Option<&Mode> {
        Some(&self.mode)
    }

    fn restart(&self) -> Option<&Restart> {
        Some(&self.restart)
    }

    fn may_join(&self, is_none: bool) -> Result<(), CannotJoin> {
        match self.mode {
            Mode::Host | Mode::Container(_) => Err(CannotJoin::SharedNamespace),
            Mode::None => Err(CannotJoin::Private),
            Mode::Networks if is_none => Err(CannotJoin::Private),
            Mode::Networks => Ok(()),
        }
    }

    fn outlives_networks(&self) -> bool {
        true
    }

    fn has_our_default_routes(&self) -> bool {
        true
    }

    fn name_servers(&self) -> Option<&[IpAddr]> {
        Some(self.dns.as_slice()).filter(|servers| !servers.is_empty())
    }

    fn files(&self) -> Files<'_> {
        Files::Own(self)
    }

    fn publishes(&self) -> Vec<Publish> {
        let mut publishes = self.publish.clone();
        if self.publish_all {
            let published: BTreeSet<ContainerPort> =
                publishes.iter().map(|publish| publish.container).collect();
            let others = self.exposed.iter().filter(|port| !published.contains(port));
            publishes.extend(others.map(|port| Publish { container: *port, host: None, host_ports: None }));
        }
        publishes
    }

    /// As in Docker, those of a running container that has networks of its own.
    fn exposed(&self, state: &State) -> BTreeSet<ContainerPort> {
        match (state, &self.mode) {
            (State::Running { .. }, Mode::Networks) => self.exposed.clone(),
            _ => BTreeSet::new(),
        }
    }
}
