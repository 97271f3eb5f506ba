//! The record of a container, as the daemon sends it to the responder. Values only; must not know sockets or messages.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::model::Id;

/// A running container: its names and addresses, and the servers for other names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The container.
    pub container: Id,
    /// All its networks in order of priority for the default route, which is also the search order for unqualified
    /// names. Includes the default network, without names, because it gives the container a way to the host's servers.
    pub networks: Vec<NetworkRecord>,
    /// The servers for names that netbpf does not know.
    pub servers: Servers,
}

/// A container's endpoint in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// The ID of the network.
    pub id: Id,
    /// Its number in the eBPF maps. The responder does not get it.
    #[serde(skip)]
    pub number: u32,
    /// The name of the network: the last part of `name.network`.
    pub name: String,
    /// Whether the network is internal, without a way out.
    pub internal: bool,
    /// Whether members may talk to each other (`enable_icc`); else only links permit it.
    pub icc: bool,
    /// The container's names in this network. The first one answers reverse lookups.
    pub names: Vec<String>,
    /// Its IPv4 addresses.
    pub ipv4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses.
    pub ipv6: Vec<Ipv6Addr>,
    /// Its links in this network: alias and target name. Only this container can resolve the alias.
    pub links: Vec<(String, String)>,
}

/// The servers for names that netbpf does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Servers {
    /// The host's resolvers at the time of the query, asked from the host's network namespace.
    Host,
    /// Servers asked from the container's network namespace, as Docker does: those of `--dns`, or those that an
    /// engine's container used before. They may be reachable only from there: on its loopback interface, or behind an
    /// interface of its own.
    Inside(Vec<SocketAddr>),
}

impl NetworkRecord {
    /// The name of the container's addresses, `container.network`: with the first name that DNS permits.
    pub fn full_name(&self) -> Option<String> {
        let permitted = |label: &str| (1..64).contains(&label.len());
        let full = self.names.iter().map(|name| format!("{name}.{}", self.name));
        full.into_iter().find(|full| full.len() < 254 && full.split('.').all(permitted))
    }
}

impl Record {
    /// The servers that this container can reach. A container with only internal networks has no way to the host's
    /// servers; servers of its own are asked from its namespace, with its routes.
    pub(super) fn reachable_servers(&self) -> Servers {
        let confined = self.networks.iter().all(|network| network.internal);
        match &self.servers {
            Servers::Host if confined => Servers::Inside(Vec::new()),
            servers => servers.clone(),
        }
    }

    /// Whether servers are asked from the container's network namespace.
    pub(super) fn asks_inside(&self) -> bool {
        matches!(&self.servers, Servers::Inside(servers) if !servers.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_with_only_internal_networks_cannot_ask_the_host_s_servers() {
        let record = |internal: &[bool]| Record {
            container: Id::random(),
            networks: internal
                .iter()
                .map(|&internal| NetworkRecord {
                    id: Id::random(),
                    number: 0,
                    name: "n".into(),
                    internal,
                    icc: true,
                    names: vec![],
                    ipv4: vec![],
                    ipv6: vec![],
                    links: vec![],
                })
                .collect(),
            servers: Servers::Host,
        };
        assert_eq!(record(&[true, false]).reachable_servers(), Servers::Host);
        assert_eq!(record(&[true, true]).reachable_servers(), Servers::Inside(vec![]));
    }
}
