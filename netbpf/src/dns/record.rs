//! What the daemon tells the responder of one container. Values only; it must not know sockets or messages.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::model::Id;

/// A running container: its names and addresses, and who answers what netbpf does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The container.
    pub container: Id,
    /// All its networks, in the order of their claim to the default route: an unqualified name is searched in this
    /// order. The default network is here too, without names, for a container that has it is not cut off.
    pub networks: Vec<NetworkRecord>,
    /// Who is asked for unknown names.
    pub servers: Servers,
}

/// A container's place in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// The network.
    pub id: Id,
    /// Its name: the last part of `name.network`.
    pub name: String,
    /// It has no way out.
    pub internal: bool,
    /// Its members may talk to each other (`enable_icc`); else only links open a way.
    pub icc: bool,
    /// What the container is called in it; the first is the answer to a reverse lookup.
    pub names: Vec<String>,
    /// Its addresses.
    pub ipv4: Vec<Ipv4Addr>,
    /// Its addresses.
    pub ipv6: Vec<Ipv6Addr>,
    /// Names that it alone knows, and whom they mean in this network: alias and name.
    pub links: Vec<(String, String)>,
}

/// Who is asked for unknown names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Servers {
    /// The host's resolvers, whichever they are at the time, asked from the host's network namespace.
    Host,
    /// Asked from the container's own network namespace, as Docker does: `--dns`, or whom an engine's container asked
    /// before. They may be where only the container comes: on its loopback, behind an interface of its own.
    Inside(Vec<SocketAddr>),
}

impl Record {
    /// The servers that may be asked for this container. One in internal networks only has no way to the host's; of
    /// its own it reaches those that its networks and routes lead to.
    pub(super) fn reachable_servers(&self) -> Servers {
        let confined = self.networks.iter().all(|network| network.internal);
        match &self.servers {
            Servers::Host if confined => Servers::Inside(Vec::new()),
            servers => servers.clone(),
        }
    }

    /// Whether servers are asked through sockets of the container's network namespace.
    pub(super) fn asks_inside(&self) -> bool {
        matches!(&self.servers, Servers::Inside(servers) if !servers.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_networks_only_leave_no_way_to_the_host_s_servers() {
        let record = |internal: &[bool]| Record {
            container: Id::random(),
            networks: internal
                .iter()
                .map(|&internal| NetworkRecord {
                    id: Id::random(),
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
