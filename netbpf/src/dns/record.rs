//! What the daemon tells the responder of one container. Values only; it must not know sockets or messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
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
    /// Its subnets.
    pub subnets: Vec<IpNet>,
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
    /// The host's resolvers, whichever they are at the time.
    Host,
    /// `--dns`.
    Own(Vec<SocketAddr>),
    /// Whom the container asked before, through sockets of its own network namespace: an engine's resolver on its
    /// loopback, or servers on the engine's networks.
    Inside(Vec<SocketAddr>),
}

impl Record {
    /// The servers that may be asked for this container. Those of the first two kinds are asked from the host's network namespace, so that a
    /// container with internal networks only reaches none but its own ones within these networks, and an own one on
    /// the container's loopback is out of reach.
    pub(super) fn reachable_servers(&self) -> Servers {
        let confined = self.networks.iter().all(|network| network.internal);
        let within = |address: IpAddr| {
            self.networks.iter().flat_map(|network| &network.subnets).any(|subnet| subnet.contains(&address))
        };
        match &self.servers {
            Servers::Host if confined => Servers::Own(Vec::new()),
            Servers::Host => Servers::Host,
            Servers::Inside(servers) => Servers::Inside(servers.clone()),
            Servers::Own(servers) => Servers::Own(
                servers
                    .iter()
                    .filter(|server| !server.ip().is_loopback() && (!confined || within(server.ip())))
                    .copied()
                    .collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(internal: &[bool], servers: Servers) -> Record {
        let networks = internal
            .iter()
            .map(|&internal| NetworkRecord {
                id: Id::random(),
                name: "n".into(),
                internal,
                subnets: vec!["10.1.0.0/16".parse().expect("a subnet")],
                names: vec![],
                ipv4: vec![],
                ipv6: vec![],
                links: vec![],
            })
            .collect();
        Record { container: Id::random(), networks, servers }
    }

    fn own(servers: &[&str]) -> Servers {
        Servers::Own(servers.iter().map(|server| server.parse().expect("an address")).collect())
    }

    #[test]
    fn internal_networks_only_leave_no_way_to_the_host_s_servers() {
        assert_eq!(record(&[true, false], Servers::Host).reachable_servers(), Servers::Host);
        assert_eq!(record(&[true, true], Servers::Host).reachable_servers(), own(&[]));
    }

    #[test]
    fn a_server_of_its_own_is_asked_where_the_container_could_reach_it() {
        let servers = own(&["8.8.8.8:53", "10.1.0.9:53", "127.0.0.1:53"]);
        assert_eq!(
            record(&[false], servers.clone()).reachable_servers(),
            own(&["8.8.8.8:53", "10.1.0.9:53"])
        );
        assert_eq!(record(&[true], servers).reachable_servers(), own(&["10.1.0.9:53"]));
    }
}
