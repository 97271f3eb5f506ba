//! Fuzz target: messages of Docker's network and IPAM driver protocols. What is converted has Docker's own values in it;
//! what is refused is named in one line.

use std::fmt::Display;

use serde::de::DeserializeOwned;

use super::{
    convert::{self, InvalidMessage},
    ipam, wire,
};
use crate::daemon::{DockerEndpointRequest, DockerNetwork};

/// Checks a JSON body as each message that it may be.
pub(crate) fn check_messages(body: &[u8]) {
    if let Some(message) = read::<wire::CreateNetwork>(body) {
        let id = message.network_id.to_lowercase();
        let families = (!message.ipv4_data.is_empty(), !message.ipv6_data.is_empty());
        match DockerNetwork::try_from(message) {
            Ok(DockerNetwork { id: parsed, subnets, .. }) => {
                assert_eq!(parsed.to_string(), id);
                assert_eq!((subnets.has_ipv4(), subnets.has_ipv6()), families);
                assert!(subnets.nets().iter().all(|net| *net == net.trunc()));
            }
            Err(error) => assert_lines(&error),
        }
    }
    if let Some(message) = read::<wire::CreateEndpoint>(body) {
        let asked = message.interface.clone();
        match DockerEndpointRequest::try_from(message) {
            Ok(DockerEndpointRequest { ipv4, ipv6, mac, exposed, .. }) => {
                let given =
                    [&asked.address, &asked.address_ipv6, &asked.mac_address].map(|text| !text.is_empty());
                assert_eq!([ipv4.is_some(), ipv6.is_some(), mac.is_some()], given);
                assert!(exposed.iter().all(|port| port.number != 0));
            }
            Err(error) => assert_one_line(&error),
        }
    }
    if let Some(message) = read::<wire::ProgramExternalConnectivity>(body) {
        match convert::ports(&message.options) {
            Ok(ports) => assert!(ports.publish.iter().all(|publish| {
                publish.container.number != 0 && publish.host_ports.is_none_or(|ports| ports.count() > 0)
            })),
            Err(error) => assert_one_line(&error),
        }
    }
    if let Some(message) = read::<wire::OfEndpoint>(body) {
        convert::network_id(&message.network_id).err().iter().for_each(assert_one_line);
        convert::endpoint_id(&message.endpoint_id).err().iter().for_each(assert_one_line);
    }
    if let Some(message) = read::<wire::GwAllocCheck>(body) {
        convert::skipped_gateways(&message).err().iter().for_each(assert_one_line);
    }
    read::<wire::Join>(body);
    read::<wire::OfNetwork>(body);
    ipam::check_messages(body).iter().for_each(assert_lines);
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).inspect_err(assert_one_line).ok()
}

/// Faults of subnets have a line each; everything else has one.
#[track_caller]
fn assert_lines(error: &InvalidMessage) {
    match error {
        InvalidMessage::Ipam(error) => error.to_string().lines().for_each(|line| assert_one_line(&line)),
        error => assert_one_line(error),
    }
}

/// A message is a line of a log and of a terminal.
#[track_caller]
fn assert_one_line(message: &impl Display) {
    let text = message.to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
}

/// Messages of all kinds.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    let id = "e9c48caad9a3d790516aa17823c64108a54aa1d2f47cc901dc63140a379432fc";
    [
        r#"{"NetworkID":"ID","Options":{"com.docker.network.enable_ipv6":false,"com.docker.network.generic":{"a":"b"},
            "com.docker.network.internal":true},"IPv4Data":[{"AddressSpace":"x","Gateway":"10.77.0.1/16",
            "Pool":"10.77.0.0/16","AuxAddresses":{"p":"10.77.0.9/16"}}],"IPv6Data":null}"#,
        r#"{"Options":{"com.docker.network.enable_ipv4":true,"com.docker.network.generic":{
            "com.docker.network.bridge.gateway_mode_ipv4":"isolated"},"com.docker.network.internal":true}}"#,
        r#"{"NetworkID":"ID","EndpointID":"ID","Interface":{"Address":"10.77.0.2/16","AddressIPv6":"fd00::2/64",
            "MacAddress":"02:42:ac:11:00:02"},"Options":{"com.docker.network.endpoint.exposedports":[{"Proto":6,"Port":80}],
            "com.docker.network.endpoint.ifname":"lan0","k":"v"}}"#,
        r#"{"NetworkID":"ID","EndpointID":"ID","Options":{"com.docker.network.portmap":[{"Proto":17,"IP":"","Port":80,
            "HostIP":"127.0.0.1","HostPort":8080,"HostPortEnd":8090}],"com.docker.network.driver.private.no_proxy_6to4":true}}"#,
        r#"{"NetworkID":"ID","EndpointID":"ID","SandboxKey":"/var/run/docker/netns/1"}"#,
        r#"{"PoolID":"10.1.0.0/24","Address":"10.1.0.5","Options":null}"#,
        r#"{"AddressSpace":"netbpf","Pool":"10.1.0.0/24","SubPool":"10.1.0.0/25","Options":{},"V6":false}"#,
    ]
    .map(|text| text.replace("ID\":\"ID", &format!("ID\":\"{id}")).into_bytes())
    .into()
}
