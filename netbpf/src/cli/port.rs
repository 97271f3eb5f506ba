//! `port`, and the port column of `ps`. The texts are Docker's.

use std::collections::BTreeMap;

use super::{Error, console::Console};
use crate::api::{
    client::Client,
    types::{PortBinding, PortSummary},
};

/// `port`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  netbpf port web\n  netbpf port web 80/tcp")]
pub struct Port {
    /// Name or ID
    container: String,
    /// Only this port; the default protocol is tcp
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

impl Port {
    /// Runs the command.
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Error> {
        let published = client.container(&self.container).await?.network_settings.ports;
        let mut lines = Vec::new();
        match self.port {
            None => {
                for (port, bindings) in in_order(&published) {
                    lines.extend(bindings.iter().map(|binding| format!("{port} -> {}", address_of(binding))));
                }
            }
            Some(port) => {
                let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
                if number.parse::<u16>().is_err() {
                    return Err(Error::BadPort(number.to_owned()));
                }
                let key = format!("{number}/{protocol}");
                let bindings = published.get(&key).into_iter().flatten().flatten();
                lines.extend(bindings.filter(is_on_host).map(address_of));
                if lines.is_empty() {
                    return Err(Error::NoPublicPort { port, container: self.container });
                }
            }
        }
        for line in lines {
            writeln!(console.out, "{line}")?;
        }
        Ok(0)
    }
}

/// The published ports by number and protocol; `80/tcp` comes before `443/tcp`.
fn in_order(published: &BTreeMap<String, Option<Vec<PortBinding>>>) -> Vec<(&str, Vec<&PortBinding>)> {
    let mut ports: Vec<_> = published
        .iter()
        .map(|(port, bindings)| (port.as_str(), bindings.iter().flatten().filter(is_on_host).collect()))
        .collect();
    ports.sort_by_key(|(port, _)| {
        let (number, protocol) = port.split_once('/').unwrap_or((port, ""));
        (number.parse::<u16>().unwrap_or_default(), protocol)
    });
    ports
}

/// Whether the port is published on the host. An open port of a routed network is not.
fn is_on_host(binding: &&PortBinding) -> bool {
    !binding.host_port.is_empty()
}

fn address_of(binding: &PortBinding) -> String {
    join(&binding.host_ip, &binding.host_port)
}

/// Go's `net.JoinHostPort`.
fn join(host: &str, port: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// The column of `ps`: consecutive ports with the same number on the host are joined to ranges.
pub fn column(mut ports: Vec<PortSummary>) -> String {
    ports.sort_by(|a, b| {
        (a.private_port, &a.ip, a.public_port, &a.kind).cmp(&(b.private_port, &b.ip, b.public_port, &b.kind))
    });
    // In the order of their first port.
    let mut groups: Vec<Group> = Vec::new();
    let (mut ended, mut others) = (Vec::new(), Vec::new());
    for PortSummary { ip, private_port, public_port, kind } in ports {
        if !ip.is_empty() && public_port != private_port {
            others.push(format!("{}->{private_port}/{kind}", join(&ip, &public_port.to_string())));
            continue;
        }
        match groups.iter_mut().find(|group| group.ip == ip && group.kind == kind) {
            Some(group) if group.last.checked_add(1) == Some(private_port) => group.last = private_port,
            Some(group) => {
                ended.push(group.text());
                (group.first, group.last) = (private_port, private_port);
            }
            None => groups.push(Group { ip, kind, first: private_port, last: private_port }),
        }
    }
    ended.into_iter().chain(groups.iter().map(Group::text)).chain(others).collect::<Vec<_>>().join(", ")
}

/// Consecutive ports of one protocol and address.
struct Group {
    ip: String,
    kind: String,
    first: u16,
    last: u16,
}

impl Group {
    fn text(&self) -> String {
        let Self { ip, kind, first, last } = self;
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        match ip.as_str() {
            "" => format!("{range}/{kind}"),
            ip => format!("{}->{range}/{kind}", join(ip, &range)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(text: &str) -> PortSummary {
        let (host, container) = text.split_once("->").unwrap_or(("", text));
        let (private_port, kind) = container.split_once('/').unwrap();
        let (ip, public_port) = host.rsplit_once(':').unwrap_or(("", "0"));
        PortSummary {
            ip: ip.into(),
            private_port: private_port.parse().unwrap(),
            public_port: public_port.parse().unwrap(),
            kind: kind.into(),
        }
    }

    #[test]
    fn ports_are_joined_to_ranges_as_in_docker() {
        for (ports, text) in [
            (vec![], ""),
            (vec!["80/tcp"], "80/tcp"),
            (vec!["0.0.0.0:8080->80/tcp"], "0.0.0.0:8080->80/tcp"),
            (vec![":::8080->80/tcp"], "[::]:8080->80/tcp"),
            (vec!["0.0.0.0:80->80/tcp", "0.0.0.0:81->81/tcp"], "0.0.0.0:80-81->80-81/tcp"),
            (vec!["81/tcp", "80/tcp", "83/tcp", "80/udp"], "80-81/tcp, 83/tcp, 80/udp"),
            (
                vec!["0.0.0.0:9000->80/tcp", "443/tcp", "0.0.0.0:22->22/tcp"],
                "0.0.0.0:22->22/tcp, 443/tcp, 0.0.0.0:9000->80/tcp",
            ),
            (
                vec!["0.0.0.0:8000->80/tcp", "0.0.0.0:8001->81/tcp"],
                "0.0.0.0:8000->80/tcp, 0.0.0.0:8001->81/tcp",
            ),
            (vec!["65535/tcp", "65535/udp"], "65535/tcp, 65535/udp"),
        ] {
            assert_eq!(column(ports.iter().map(|text| port(text)).collect()), text);
        }
    }
}
