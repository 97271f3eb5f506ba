//! `setup` and `teardown`: a container joins a network, or leaves it.

use std::{collections::BTreeMap, fs, net::IpAddr, os::unix::fs::MetadataExt as _, path::Path};

use serde_json::{Map, Value, json};

use super::{
    Error, LIMITS, is_name_of_option,
    message::{Join, PortMapping},
};
use crate::{
    api::{
        blocking,
        types::{
            Attach, Attached, AttachmentKey, Detach, EndpointIpam, EndpointSettings, NetworkAttachment,
            PortBinding,
        },
    },
    detached::{Detached, FOLDER},
};

/// podman's option for the name of the host's side, which netbpf chooses.
const HOST_INTERFACE: &str = "host_interface_name";
/// The kind of runtime for the daemon.
const RUNTIME: &str = "podman";

/// Attaches a container. Returns the interface, as podman shows it.
///
/// # Errors
/// [`Error::Message`], [`Error::Unsupported`] for ports that do not exist; [`Error::Daemon`].
pub fn setup(socket: &Path, namespace: &str, input: &[u8]) -> Result<Value, Error> {
    let join: Join = serde_json::from_slice(input)?;
    let mut request = request(&join, namespace)?;
    request.namespace_inode = fs::metadata(namespace).map_or(0, |metadata| metadata.ino());
    let attached: Attached = blocking::post(socket, "/attachments/attach", &request)?;
    Ok(answer(&attached))
}

/// Detaches a container. A daemon that does not run is told when it starts.
///
/// # Errors
/// [`Error::Message`], [`Error::Note`] or [`Error::Daemon`].
pub fn teardown(socket: &Path, namespace: &str, input: &[u8]) -> Result<(), Error> {
    let key = key(&serde_json::from_slice(input)?);
    let request = Detach { key: key.clone(), namespace: namespace.to_owned() };
    let AttachmentKey { runtime, container, configuration, interface } = key;
    let noted = Detached { runtime, container, configuration, interface };
    let detach = || Ok(blocking::submit(socket, "/attachments/detach", &request)?);
    let is_away = |error: &Error| {
        matches!(error, Error::Daemon(blocking::Error::Unreachable { .. } | blocking::Error::Lost { .. }))
    };
    noted.or_note(&socket.with_file_name(FOLDER), detach, is_away)
}

/// The message for the daemon.
pub fn request(join: &Join, namespace: &str) -> Result<Attach, Error> {
    let options = &join.network_options;
    let mut addresses = EndpointIpam::default();
    for address in &options.static_ips {
        let of_family = match address {
            IpAddr::V4(_) => &mut addresses.ipv4_address,
            IpAddr::V6(_) => &mut addresses.ipv6_address,
        };
        if !of_family.is_empty() {
            let message =
                format!("{of_family} and {address}: a container has one address of each family in a network");
            return Err(Error::Unsupported(message));
        }
        *of_family = address.to_string();
    }
    let endpoint_config = EndpointSettings {
        ipam_config: Some(addresses),
        mac_address: options.static_mac.clone(),
        aliases: Some(options.aliases.clone()),
        driver_opts: Some(driver_options(&options.options)?),
        ..EndpointSettings::default()
    };
    Ok(Attach {
        key: key(join),
        name: join.container_name.clone(),
        is_pod: false,
        namespace: namespace.to_owned(),
        namespace_inode: 0,
        networks: vec![NetworkAttachment { network: join.network.name.clone(), endpoint_config }],
        port_bindings: bindings(&join.port_mappings)?,
        reserves_ports: true,
        dns: join.network.network_dns_servers.iter().map(IpAddr::to_string).collect(),
    })
}

/// Options by netbpf's or Docker's names. A limit may be typed without the prefix.
fn driver_options(typed: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Error> {
    let options = typed.iter().filter(|(key, _)| *key != HOST_INTERFACE).map(|(key, value)| {
        let limit = LIMITS.into_iter().find(|(short, _)| short == key);
        match limit {
            Some((_, name)) => Ok((name.to_owned(), value.clone())),
            None if is_name_of_option(key) => Ok((key.clone(), value.clone())),
            None => {
                let known = LIMITS.map(|(short, _)| short).join(", ");
                Err(Error::Unsupported(format!(
                    "netbpf does not know the option {} of a container: expected {known}, or one of netbpf's",
                    key.escape_debug()
                )))
            }
        }
    });
    options.collect()
}

fn key(join: &Join) -> AttachmentKey {
    AttachmentKey {
        runtime: RUNTIME.to_owned(),
        container: join.container_id.clone(),
        configuration: join.network.name.clone(),
        interface: join.network_options.interface_name.clone(),
    }
}

/// The ports to publish, by container port. podman names ranges, and may name several protocols.
fn bindings(mappings: &[PortMapping]) -> Result<BTreeMap<String, Vec<PortBinding>>, Error> {
    let mut bindings: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for mapping in mappings {
        let protocols = if mapping.protocol.is_empty() { "tcp" } else { &mapping.protocol };
        for protocol in protocols.split(',') {
            for offset in 0..mapping.range.max(1) {
                let [container, host] =
                    [mapping.container_port, mapping.host_port].map(|port| port.checked_add(offset));
                let (Some(container @ 1..), Some(host @ 1..)) = (container, host) else {
                    let PortMapping { container_port, host_port, range, .. } = mapping;
                    return Err(Error::Unsupported(format!(
                        "no such ports: {range} from {host_port} of the host and {container_port} of the container"
                    )));
                };
                bindings
                    .entry(format!("{container}/{}", protocol.trim()))
                    .or_default()
                    .push(PortBinding { host_ip: mapping.host_ip.clone(), host_port: host.to_string() });
            }
        }
    }
    Ok(bindings)
}

/// The answer to `setup`.
pub fn answer(attached: &Attached) -> Value {
    let interfaces = attached.interfaces.iter().map(|interface| {
        let subnets = interface.addresses.iter().map(|address| {
            let mut subnet = json!({ "ipnet": address.address });
            if !address.gateway.is_empty() {
                subnet["gateway"] = address.gateway.clone().into();
            }
            subnet
        });
        let shown = json!({ "mac_address": interface.mac_address, "subnets": subnets.collect::<Vec<_>>() });
        (interface.name.clone(), shown)
    });
    let servers: Vec<&str> =
        [attached.resolver.as_str()].into_iter().filter(|text| !text.is_empty()).collect();
    json!({
        "dns_search_domains": [],
        "dns_server_ips": servers,
        "interfaces": interfaces.collect::<Map<_, _>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{AttachedAddress, AttachedInterface};

    #[test]
    fn a_container_is_asked_for_as_podman_describes_it() {
        let text = r#"{"container_id":"4978","container_name":"web","port_mappings":[
            {"container_port":80,"host_port":8080,"host_ip":"","protocol":"tcp,udp","range":2}],
            "network":{"name":"mynet","network_dns_servers":["10.0.0.53"],"subnets":null},
            "network_options":{"aliases":["a","4978"],"interface_name":"eth0","static_ips":["10.1.0.5","fd00::5"],
            "static_mac":"02:42:0a:01:00:05","options":{"host_interface_name":"x","ingress_rate":"10mbit","netbpf.egress_rate":"5mbit"}}}"#;
        let join: Join = serde_json::from_str(text).unwrap();
        let request = request(&join, "/run/netns/x").unwrap();
        assert_eq!((request.name.as_str(), request.key.configuration.as_str()), ("web", "mynet"));
        assert_eq!(request.key.runtime, "podman");
        let endpoint = &request.networks[0].endpoint_config;
        let asked = endpoint.ipam_config.as_ref().unwrap();
        assert_eq!((asked.ipv4_address.as_str(), asked.ipv6_address.as_str()), ("10.1.0.5", "fd00::5"));
        let options = endpoint.driver_opts.as_ref().unwrap();
        let options: Vec<_> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(options, ["netbpf.egress_rate=5mbit", "netbpf.ingress_rate=10mbit"]);
        assert_eq!(request.dns, ["10.0.0.53"]);
        driver_options(&[("rate".to_owned(), "5m".to_owned())].into()).expect_err("no such option");
        let ports: Vec<_> = request
            .port_bindings
            .iter()
            .map(|(port, to)| (port.as_str(), to[0].host_port.as_str()))
            .collect();
        assert_eq!(ports, [("80/tcp", "8080"), ("80/udp", "8080"), ("81/tcp", "8081"), ("81/udp", "8081")]);
        for (container_port, host_port, range) in [(0, 1, 1), (1, 0, 1), (65535, 1, 2), (1, 65535, 2)] {
            let mapping = PortMapping { container_port, host_port, range, ..PortMapping::default() };
            bindings(&[mapping]).expect_err("no such port");
        }
    }

    #[test]
    fn the_answer_has_podmans_keys() {
        let attached = Attached {
            interfaces: vec![AttachedInterface {
                name: "eth0".to_owned(),
                mac_address: "02:42:0a:01:00:05".to_owned(),
                addresses: vec![AttachedAddress {
                    address: "10.1.0.5/24".to_owned(),
                    gateway: "10.1.0.1".to_owned(),
                }],
                ..AttachedInterface::default()
            }],
            resolver: "127.0.0.11".to_owned(),
        };
        let expected = json!({
            "dns_search_domains": [],
            "dns_server_ips": ["127.0.0.11"],
            "interfaces": { "eth0": {
                "mac_address": "02:42:0a:01:00:05",
                "subnets": [{ "ipnet": "10.1.0.5/24", "gateway": "10.1.0.1" }],
            } },
        });
        assert_eq!(answer(&attached), expected);
    }
}
