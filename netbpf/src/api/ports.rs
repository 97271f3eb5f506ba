//! Converts published ports between the API's texts, which are Docker's, and the model. Makes no decisions.

use std::collections::{BTreeMap, BTreeSet};

use super::types::{ContainerCreate, Empty, PortBinding, PortSummary};
use crate::model::{self, BadPublish, ContainerPort, Mapping, Publish, parse_host_ports};

/// The parsed value of `-p`.
#[derive(Clone, Debug)]
pub struct Published(Vec<Publish>);

/// The parsed value of `--expose`.
#[derive(Clone, Debug)]
pub struct Exposed(Vec<ContainerPort>);

/// Parses `-p`.
///
/// # Errors
/// [`BadPublish`] as of [`model::parse_publish`].
pub fn parse_publish(text: &str) -> Result<Published, BadPublish> {
    model::parse_publish(text).map(Published)
}

/// Parses `--expose`.
///
/// # Errors
/// [`BadPublish`] as of [`model::parse_expose`].
pub fn parse_expose(text: &str) -> Result<Exposed, BadPublish> {
    model::parse_expose(text).map(Exposed)
}

/// Adds the ports of the command line to a message. Published ports are also exposed.
pub fn ask(message: &mut ContainerCreate, published: Vec<Published>, exposed: Vec<Exposed>) {
    let published: Vec<Publish> = published.into_iter().flat_map(|Published(ports)| ports).collect();
    let exposed = exposed.into_iter().flat_map(|Exposed(ports)| ports);
    let all = published.iter().map(|publish| publish.container).chain(exposed);
    message.exposed_ports.extend(all.map(|port| (port.to_string(), Empty {})));
    for publish in &published {
        let bindings = message.host_config.port_bindings.entry(publish.container.to_string()).or_default();
        bindings.push(request(publish));
    }
}

/// A port binding for a message.
pub fn request(publish: &Publish) -> PortBinding {
    PortBinding {
        host_ip: publish.host.map(|host| host.to_string()).unwrap_or_default(),
        host_port: publish.host_ports.map(|ports| ports.to_string()).unwrap_or_default(),
    }
}

/// The published and the exposed ports of a message.
///
/// # Errors
/// [`BadPublish`] for the first port, host address or range of host ports that is invalid.
pub fn asked(message: &ContainerCreate) -> Result<(Vec<Publish>, BTreeSet<ContainerPort>), BadPublish> {
    let published = published(&message.host_config.port_bindings)?;
    let exposed = message.exposed_ports.keys().map(|port| port.parse());
    let mut exposed: BTreeSet<ContainerPort> = exposed.collect::<Result<_, _>>()?;
    exposed.extend(published.iter().map(|publish| publish.container));
    Ok((published, exposed))
}

/// The ports to publish, by container port.
///
/// # Errors
/// As of [`asked`].
pub fn published(bindings: &BTreeMap<String, Vec<PortBinding>>) -> Result<Vec<Publish>, BadPublish> {
    let mut published = Vec::new();
    for (port, bindings) in bindings {
        let container: ContainerPort = port.parse()?;
        for PortBinding { host_ip, host_port } in bindings {
            let host = (!host_ip.is_empty()).then(|| host_ip.parse()).transpose();
            published.push(Publish {
                container,
                host: host.map_err(|_| BadPublish::Address(host_ip.clone()))?,
                host_ports: parse_host_ports(host_port)?,
            });
        }
    }
    published.sort_unstable();
    Ok(published)
}

/// `NetworkSettings.Ports` of a running container. A port that is only exposed has no bindings.
pub fn bindings(
    exposed: &BTreeSet<ContainerPort>,
    mappings: &[Mapping],
) -> BTreeMap<String, Option<Vec<PortBinding>>> {
    let mut bindings: BTreeMap<String, Option<Vec<PortBinding>>> =
        exposed.iter().map(|port| (port.to_string(), None)).collect();
    for mapping in mappings {
        let of_port =
            bindings.entry(mapping.container_port().to_string()).or_default().get_or_insert_default();
        let binding = binding(mapping);
        // A routed port is open at an address of each family, but listed once.
        if !of_port.contains(&binding) {
            of_port.push(binding);
        }
    }
    bindings
}

fn binding(mapping: &Mapping) -> PortBinding {
    match mapping.host_port {
        // A routed port has no address of the host.
        0 => PortBinding::default(),
        port => PortBinding { host_ip: mapping.host.to_string(), host_port: port.to_string() },
    }
}

/// The ports for `ps`.
pub fn summaries(exposed: &BTreeSet<ContainerPort>, mappings: &[Mapping]) -> Vec<PortSummary> {
    let published: BTreeSet<ContainerPort> = mappings.iter().map(Mapping::container_port).collect();
    let summary = |port: ContainerPort, ip, public_port| PortSummary {
        ip,
        private_port: port.number,
        public_port,
        kind: port.protocol.to_string(),
    };
    let only_exposed = exposed.difference(&published).map(|port| summary(*port, String::new(), 0));
    // A routed port is open at an address of each family, but listed once.
    let open: BTreeSet<ContainerPort> =
        mappings.iter().filter(|mapping| mapping.host_port == 0).map(Mapping::container_port).collect();
    let open = open.into_iter().map(|port| summary(port, String::new(), 0));
    let on_host = mappings
        .iter()
        .filter(|mapping| mapping.host_port != 0)
        .map(|mapping| summary(mapping.container_port(), mapping.host.to_string(), mapping.host_port));
    only_exposed.chain(open).chain(on_host).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(publish: &[&str], expose: &[&str]) -> ContainerCreate {
        let mut message = ContainerCreate::default();
        let published = publish.iter().map(|text| parse_publish(text).unwrap()).collect();
        let exposed = expose.iter().map(|text| parse_expose(text).unwrap()).collect();
        ask(&mut message, published, exposed);
        message
    }

    #[test]
    fn ports_of_the_command_line_become_docker_s_json() {
        let message = message(&["127.0.0.1:8080:80", "8000-8010:80", "53/udp"], &["443"]);
        assert_eq!(
            serde_json::to_value(&message.host_config.port_bindings).unwrap(),
            serde_json::json!({
                "53/udp": [{ "HostIp": "", "HostPort": "" }],
                "80/tcp": [
                    { "HostIp": "127.0.0.1", "HostPort": "8080" },
                    { "HostIp": "", "HostPort": "8000-8010" },
                ],
            })
        );
        assert_eq!(
            serde_json::to_value(&message.exposed_ports).unwrap(),
            serde_json::json!({ "443/tcp": {}, "53/udp": {}, "80/tcp": {} })
        );
    }

    #[test]
    fn a_message_has_the_ports_of_the_command_line() {
        let (published, exposed) =
            asked(&message(&["8000-8010:80", "127.0.0.1:8080:80", "[::1]::81"], &["443"])).unwrap();
        let mut typed: Vec<Publish> = ["8000-8010:80", "127.0.0.1:8080:80", "[::1]::81"]
            .iter()
            .flat_map(|text| model::parse_publish(text).unwrap())
            .collect();
        typed.sort_unstable();
        assert_eq!(published, typed);
        assert_eq!(
            exposed.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["80/tcp", "81/tcp", "443/tcp"]
        );
    }

    #[test]
    fn invalid_ports_in_a_message_are_refused() {
        let bad = |port: &str, host_ip: &str, host_port: &str| {
            let mut message = ContainerCreate::default();
            let binding = PortBinding { host_ip: host_ip.into(), host_port: host_port.into() };
            message.host_config.port_bindings.insert(port.into(), vec![binding]);
            asked(&message).unwrap_err().to_string()
        };
        assert_eq!(bad("0/tcp", "", ""), "invalid containerPort: 0");
        assert_eq!(bad("80-81", "", ""), "invalid containerPort: 80-81");
        assert_eq!(bad("80/icmp", "", ""), "invalid proto: icmp");
        assert_eq!(bad("80", "x", ""), "invalid IP address: x");
        assert_eq!(bad("80", "", "65536"), "invalid hostPort: 65536");
    }
}
