//! Fuzz target: podman's messages. What is accepted can be asked of the daemon.

use super::{
    attach,
    message::{Join, Network},
};

/// Checks standard input as each message that it may be.
pub(crate) fn check_messages(bytes: &[u8]) {
    if let Ok(join) = serde_json::from_slice::<Join>(bytes) {
        match attach::request(&join, "/run/netns/x") {
            Ok(request) => {
                let is_port = |port: &String| !port.starts_with("0/");
                assert!(request.port_bindings.keys().all(is_port) && request.networks.len() == 1);
            }
            Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
        }
    }
    if let Ok(network) = serde_json::from_slice::<Network>(bytes)
        && let Err(error) = super::create::request(&network)
    {
        assert!(error.to_string().lines().count() <= 1, "{error}");
    }
}

/// Messages of all kinds.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    [
        r#"{"name":"wsub","id":"59d3","driver":"netbpf","subnets":[{"subnet":"10.88.11.0/24","gateway":"10.88.11.1",
            "lease_range":{"start_ip":"10.88.11.128","end_ip":"10.88.11.255"}}],"ipv6_enabled":false,"internal":false,
            "dns_enabled":true,"options":{"mtu":"1400"}}"#,
        r#"{"container_id":"4978","container_name":"web","port_mappings":[{"container_port":80,"host_port":8080,
            "host_ip":"","protocol":"tcp,udp","range":2}],"network":{"name":"mynet","subnets":null},"network_options":
            {"aliases":["a"],"interface_name":"eth0","static_ips":["10.1.0.5"],"static_mac":null,"options":null}}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
