//! Tests of published ports, in networks of one family and of both.

use std::collections::BTreeMap as Map;

use super::*;
use crate::model::{
    Attachment, Bridge, DockerEndpoint, Driver, EndpointRequest, InterfaceName, Mac, Mode, Options, Protocol,
    Sandbox, State, Subject, Subnet, parse_expose, parse_publish,
};

fn network(name: &str, internal: bool, options: Options) -> Network {
    let subnet = Subnet {
        net: "10.0.0.0/24".parse().unwrap(),
        range: None,
        gateway: "10.0.0.1".parse().ok(),
        auxiliary: Map::new(),
    };
    Network {
        id: Id::random(),
        name: name.into(),
        created: Default::default(),
        driver: Driver::Bridge(Bridge {
            number: 0,
            device: "nb".parse().unwrap(),
            peer: "nbp".parse().unwrap(),
            ipv4: Some(subnet),
            ipv6: None,
            options,
        }),
        internal,
        attachable: false,
        options: Map::new(),
        labels: Map::new(),
        origin: Default::default(),
    }
}

/// The same with IPv6, and without IPv4 if `only`.
fn six(name: &str, only: bool, options: Options) -> Network {
    let mut network = network(name, false, options);
    let Driver::Bridge(bridge) = &mut network.driver else { unreachable!() };
    bridge.ipv6 = Some(Subnet {
        net: "fd00::/64".parse().unwrap(),
        range: None,
        gateway: "fd00::1".parse().ok(),
        auxiliary: Map::new(),
    });
    if only {
        bridge.ipv4 = None;
    }
    network
}

/// A container in `networks`, with 10.0.0.2 and fd00::2 in the first, 10.0.0.3 and fd00::3 in the second, …
fn container(networks: &[&Network], publish: &[&str], expose: &[&str]) -> Container {
    let attachment = |(last, network): (u8, &&Network)| Attachment {
        endpoint: Some(Endpoint {
            id: Id::random(),
            number: last.into(),
            ipv4: network.bridge().unwrap().ipv4.as_ref().map(|_| [10, 0, 0, last].into()),
            ipv6: network
                .bridge()
                .unwrap()
                .ipv6
                .as_ref()
                .map(|_| [0xfd00, 0, 0, 0, 0, 0, 0, last.into()].into()),
            mac: Mac::of([10, 0, 0, last].into()),
            host_interface: InterfaceName::made_of("veth", &last.to_string()),
            interface: "eth0".parse().unwrap(),
            sysctls: Vec::new(),
        }),
        ..Attachment::new(network, EndpointRequest::default())
    };
    Container {
        id: Id::random(),
        name: "web".into(),
        created: Default::default(),
        subject: Subject::Sandbox(Box::new(Sandbox {
            command: vec!["sh".into()],
            env: Vec::new(),
            working_dir: "/".into(),
            hostname: "web".into(),
            rootfs: None,
            auto_remove: false,
            mode: Mode::Networks,
            created_in: String::new(),
            extra_hosts: Vec::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            publish: publish.iter().flat_map(|text| parse_publish(text).unwrap()).collect(),
            exposed: expose.iter().flat_map(|text| parse_expose(text).unwrap()).collect(),
            publish_all: !expose.is_empty(),
            no_new_privileges: false,
            restart: Default::default(),
        })),
        state: State::Created { error: String::new() },
        attachments: (2..).zip(networks).map(attachment).collect(),
        labels: Map::new(),
        mappings: Vec::new(),
    }
}

/// On a host without IPv6.
fn shown(container: &Container, networks: &[&Network]) -> Result<Vec<String>, String> {
    shown_on(container, networks, false)
}

fn shown_on(container: &Container, networks: &[&Network], has_ipv6: bool) -> Result<Vec<String>, String> {
    let find = |id: &Id| networks.iter().find(|network| network.id == *id).copied();
    let line = |Wanted { port, addresses, host_port, .. }: Wanted| {
        let at: Vec<_> = addresses.iter().map(|(host, own)| format!("{host}->{own}")).collect();
        format!("{port} {host_port:?} {}", at.join(" "))
    };
    match wanted(container, find, || has_ipv6) {
        (wanted, missing) if missing.is_empty() => Ok(wanted.into_iter().map(line).collect()),
        (_, missing) => Err(missing[0].to_string()),
    }
}

fn of(network: &Network, publish: &[&str], expose: &[&str]) -> Result<Vec<String>, String> {
    shown(&container(&[network], publish, expose), &[network])
}

#[test]
fn ports_are_published_on_all_addresses_or_the_networks_own() {
    let plain = network("plain", false, Options::default());
    assert_eq!(of(&plain, &["8080:80"], &[]), Ok(vec!["80/tcp Exact(8080) 0.0.0.0->10.0.0.2".into()]));
    assert_eq!(of(&plain, &["127.0.0.1::80"], &[]), Ok(vec!["80/tcp Any 127.0.0.1->10.0.0.2".into()]));
    let host_binding = Some("192.0.2.1".parse().unwrap());
    let bound = network("bound", false, Options { host_binding, ..Options::default() });
    assert_eq!(of(&bound, &["80"], &[]), Ok(vec!["80/tcp Any 192.0.2.1->10.0.0.2".into()]));
    assert_eq!(of(&bound, &["0.0.0.0::80"], &[]), Ok(vec!["80/tcp Any 0.0.0.0->10.0.0.2".into()]));
    assert_eq!(
        of(&plain, &["[::1]:8080:80"], &[]).unwrap_err(),
        "cannot publish 80/tcp on ::1: the container has no IPv6 address"
    );
}

#[test]
fn a_container_without_ipv6_is_published_at_the_hosts_ipv6_addresses() {
    let of = |network: &Network, publish: &[&str]| {
        shown_on(&container(&[network], publish, &[]), &[network], true)
    };
    let plain = network("plain", false, Options::default());
    assert_eq!(
        of(&plain, &["8080:80"]),
        Ok(vec!["80/tcp Exact(8080) 0.0.0.0->10.0.0.2 ::->10.0.0.2".into()])
    );
    assert_eq!(of(&plain, &["[::1]::80/udp"]), Ok(vec!["80/udp Any ::1->10.0.0.2".into()]));
    assert_eq!(of(&plain, &["127.0.0.1::80"]), Ok(vec!["80/tcp Any 127.0.0.1->10.0.0.2".into()]));
    assert_eq!(of(&plain, &["80/sctp"]), Ok(vec!["80/sctp Any 0.0.0.0->10.0.0.2".into()]));
    let with = |options| network("with", false, options);
    let host_binding = Some("192.0.2.1".parse().unwrap());
    assert_eq!(
        of(&with(Options { host_binding, ..Options::default() }), &["80"]),
        Ok(vec!["80/tcp Any 192.0.2.1->10.0.0.2".into()])
    );
    let gateway_mode_ipv4 = GatewayMode::Routed;
    assert_eq!(
        of(&with(Options { gateway_mode_ipv4, ..Options::default() }), &["8080:80"]),
        Ok(vec!["80/tcp Routed 0.0.0.0->10.0.0.2".into()])
    );
    // A container with IPv6 only is not published at IPv4 addresses.
    let only = six("only", true, Options::default());
    assert_eq!(of(&only, &["80"]), Ok(vec!["80/tcp Any ::->fd00::2".into()]));
    assert_eq!(
        of(&six("both", false, Options::default()), &["80"]),
        Ok(vec!["80/tcp Any 0.0.0.0->10.0.0.2 ::->fd00::2".into()])
    );
}

#[test]
fn both_families_have_the_same_host_port() {
    let both = six("both", false, Options::default());
    assert_eq!(
        of(&both, &["8080:80"], &[]),
        Ok(vec!["80/tcp Exact(8080) 0.0.0.0->10.0.0.2 ::->fd00::2".into()])
    );
    assert_eq!(of(&both, &["0.0.0.0::80"], &[]), Ok(vec!["80/tcp Any 0.0.0.0->10.0.0.2".into()]));
    assert_eq!(of(&both, &["[::]::80"], &[]), Ok(vec!["80/tcp Any ::->fd00::2".into()]));
    assert_eq!(of(&both, &["[2001:db8::1]::80"], &[]), Ok(vec!["80/tcp Any 2001:db8::1->fd00::2".into()]));
    let only = six("only", true, Options::default());
    assert_eq!(of(&only, &["80"], &[]), Ok(vec!["80/tcp Any ::->fd00::2".into()]));
    assert_eq!(
        of(&only, &["192.0.2.1::80"], &[]).unwrap_err(),
        "cannot publish 80/tcp on 192.0.2.1: the container has no IPv4 address"
    );
}

#[test]
fn a_networks_binding_to_one_address_is_for_one_family() {
    let bound = |binding: &str| {
        let host_binding = Some(binding.parse().unwrap());
        of(&six("bound", false, Options { host_binding, ..Options::default() }), &["80"], &[])
    };
    assert_eq!(bound("192.0.2.1"), Ok(vec!["80/tcp Any 192.0.2.1->10.0.0.2".into()]));
    assert_eq!(bound("0.0.0.0"), Ok(vec!["80/tcp Any 0.0.0.0->10.0.0.2 ::->fd00::2".into()]));
    assert_eq!(bound("::"), Ok(vec!["80/tcp Any ::->fd00::2".into()]));
    assert_eq!(bound("2001:db8::1"), Ok(vec!["80/tcp Any 2001:db8::1->fd00::2".into()]));
}

#[test]
fn each_family_is_published_at_its_default_route() {
    let (four, only) = (network("four", false, Options::default()), six("only", true, Options::default()));
    let both = six("both", false, Options::default());
    let of = |networks: &[&Network]| shown(&container(networks, &["8080:80"], &[]), networks);
    assert_eq!(of(&[&four, &only]), Ok(vec!["80/tcp Exact(8080) 0.0.0.0->10.0.0.2 ::->fd00::3".into()]));
    assert_eq!(of(&[&four, &both]), Ok(vec!["80/tcp Exact(8080) 0.0.0.0->10.0.0.3 ::->fd00::3".into()]));
    assert_eq!(of(&[&both, &only]), Ok(vec!["80/tcp Exact(8080) 0.0.0.0->10.0.0.2 ::->fd00::2".into()]));
}

#[test]
fn one_family_can_be_routed_and_the_other_translated() {
    let routed = GatewayMode::Routed;
    let mixed = |options| six("mixed", false, options);
    let six_routed = mixed(Options { gateway_mode_ipv6: routed, ..Options::default() });
    assert_eq!(
        of(&six_routed, &["8080:80"], &[]),
        Ok(vec!["80/tcp Exact(8080) 0.0.0.0->10.0.0.2".into(), "80/tcp Routed ::->fd00::2".into()])
    );
    assert_eq!(of(&six_routed, &["[::1]:1:80"], &[]), Ok(vec!["80/tcp Routed ::->fd00::2".into()]));
    assert_eq!(of(&six_routed, &["1.1.1.1::80"], &[]), Ok(vec!["80/tcp Any 1.1.1.1->10.0.0.2".into()]));
    let both_routed =
        mixed(Options { gateway_mode_ipv4: routed, gateway_mode_ipv6: routed, ..Options::default() });
    assert_eq!(
        of(&both_routed, &["8080:80"], &[]),
        Ok(vec!["80/tcp Routed 0.0.0.0->10.0.0.2 ::->fd00::2".into()])
    );
}

#[test]
fn all_exposed_ports_are_published_once() {
    let plain = network("plain", false, Options::default());
    assert_eq!(
        of(&plain, &["8080:80"], &["80-81", "53/udp"]),
        Ok(vec![
            "80/tcp Exact(8080) 0.0.0.0->10.0.0.2".into(),
            "53/udp Any 0.0.0.0->10.0.0.2".into(),
            "81/tcp Any 0.0.0.0->10.0.0.2".into(),
        ])
    );
}

#[test]
fn exact_ports_come_before_searches() {
    let plain = network("plain", false, Options::default());
    let ports = of(&plain, &["80", "8000-8001:81", "8000:82"], &[]).unwrap();
    let order: Vec<_> = ports.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(order, ["82/tcp", "81/tcp", "80/tcp"]);
}

#[test]
fn the_default_gateways_endpoint_has_the_ports() {
    let [a, b] = ["a", "b"].map(|name| network(name, false, Options::default()));
    let internal = network("0", true, Options::default());
    let networks = [&internal, &b, &a];
    let container = container(&networks, &["8080:80"], &[]);
    assert_eq!(shown(&container, &networks), Ok(vec!["80/tcp Exact(8080) 0.0.0.0->10.0.0.4".into()]));
    assert_eq!(of(&internal, &["8080:80"], &[]), Ok(vec![]), "nothing is published in internal networks");
}

#[test]
fn a_routed_network_opens_ports_at_the_containers_address() {
    let gateway_mode_ipv4 = GatewayMode::Routed;
    let routed = network("routed", false, Options { gateway_mode_ipv4, ..Options::default() });
    let plain = network("plain", false, Options::default());
    let own = "80/tcp Routed 0.0.0.0->10.0.0.2".to_owned();
    assert_eq!(of(&routed, &["8080:80", "8081:80"], &[]), Ok(vec![own.clone()]));
    // Its name comes behind the other's, so the gateway is the other network's.
    let networks = [&routed, &plain];
    let both = shown(&container(&networks, &["8080:80"], &[]), &networks);
    assert_eq!(both, Ok(vec!["80/tcp Exact(8080) 0.0.0.0->10.0.0.3".into(), own]));
}

fn mapping(host: &str, host_port: u16, container: &str, container_port: u16) -> Mapping {
    let [host, container] = [host, container].map(|address| address.parse().unwrap());
    Mapping { protocol: Protocol::Tcp, host, host_port, container, container_port }
}

#[test]
fn a_port_keeps_its_number_when_it_moves() {
    let plain = network("plain", false, Options::default());
    let find = |id: &Id| (*id == plain.id).then_some(&plain);
    let container = container(&[&plain], &["80", "8000-8001:81", "8080:82", "127.0.0.1::83"], &[]);
    let (wanted, _) = wanted(&container, find, || true);
    let order: Vec<_> = wanted.iter().map(|wanted| wanted.port.number).collect();
    assert_eq!(order, [82, 81, 80, 83]);
    let before = [
        mapping("0.0.0.0", 32768, "172.17.0.2", 80),
        mapping("0.0.0.0", 8001, "172.17.0.2", 81),
        mapping("0.0.0.0", 9999, "172.17.0.2", 82),
        mapping("192.0.2.1", 32769, "172.17.0.2", 83),
    ];
    assert_eq!(ports_to_keep(&wanted, &before), [None, Some(8001), Some(32768), Some(32769)]);
    assert_eq!(ports_to_keep(&wanted, &[]), [None; 4]);
}

#[test]
fn a_container_port_keeps_all_its_host_ports() {
    let plain = network("plain", false, Options::default());
    let find = |id: &Id| (*id == plain.id).then_some(&plain);
    let container = container(&[&plain], &["80", "127.0.0.1::80"], &[]);
    let (wanted, _) = wanted(&container, find, || true);
    let before = [mapping("0.0.0.0", 32769, "172.17.0.2", 80), mapping("127.0.0.1", 32768, "172.17.0.2", 80)];
    assert_eq!(ports_to_keep(&wanted, &before), [Some(32769), Some(32768)]);
}

#[test]
fn nothing_is_relayed_where_another_endpoint_has_ipv6() {
    let plain = network("plain", false, Options::default());
    let asked = container(&[&plain], &["8080:80"], &[]);
    let of_docker = |without_relay| {
        let docker =
            DockerEndpoint { publish: asked.owner().publishes(), without_relay, ..Default::default() };
        let subject = Subject::Docker(Box::new(docker));
        shown_on(&Container { subject, ..asked.clone() }, &[&plain], true).unwrap()
    };
    assert_eq!(of_docker(true), ["80/tcp Exact(8080) 0.0.0.0->10.0.0.2"]);
    assert_eq!(of_docker(false), ["80/tcp Exact(8080) 0.0.0.0->10.0.0.2 ::->10.0.0.2"]);
}

#[test]
fn only_differences_are_withdrawn_and_published() {
    let [a, b, c] = [1, 2, 3].map(|port| mapping("0.0.0.0", port, "10.0.0.2", port));
    let leaving = vec![a.container];
    let withdraw = |leaving| Action::Withdraw { mappings: vec![a], leaving };
    assert_eq!(port_changes(&[a, b], &[b, c], &leaving), [withdraw(leaving), Action::Publish(vec![c])]);
    assert_eq!(port_changes(&[a, b], &[b, a], &[]), []);
    assert_eq!(Action::Publish(vec![a]).undo(), Some(withdraw(Vec::new())));
}
