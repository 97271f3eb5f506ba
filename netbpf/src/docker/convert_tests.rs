//! Messages as an engine sends them, and invalid ones.

use serde_json::json;

use super::*;
use crate::ipam::{Occupied, ipv4_pools, ipv6_pools};

const ID: &str = "e9c48caad9a3d790516aa17823c64108a54aa1d2f47cc901dc63140a379432fc";

fn network(message: Value) -> Result<DockerNetwork, String> {
    let message: wire::CreateNetwork = serde_json::from_value(message).map_err(|error| error.to_string())?;
    message.try_into().map_err(|error: InvalidMessage| error.to_string())
}

fn endpoint(message: Value) -> Result<DockerEndpointRequest, String> {
    let message: wire::CreateEndpoint = serde_json::from_value(message).map_err(|error| error.to_string())?;
    message.try_into().map_err(|error: InvalidMessage| error.to_string())
}

#[test]
fn a_network_as_docker_20_10_sends_it() {
    let made = network(json!({
        "NetworkID": ID,
        "Options": {"com.docker.network.enable_ipv6": false, "com.docker.network.generic": {"foo": "bar"}},
        "IPv4Data": [{"AddressSpace": "LocalDefault", "Gateway": "10.77.0.1/16", "Pool": "10.77.0.0/16",
                      "AuxAddresses": {"printer": "10.77.0.9/16"}}],
        "IPv6Data": null
    }))
    .unwrap();
    assert_eq!(made.id.to_string(), ID);
    assert_eq!((made.internal, made.given), (false, [("foo".to_owned(), "bar".to_owned())].into()));
    assert!(!made.subnets.has_ipv6());
    let nothing = Occupied { networks: vec![], routes: vec![], resolvers: vec![], pools: ipv4_pools() };
    let subnet = made.subnets.resolve(Some(&nothing), None).unwrap().ipv4.expect("a subnet");
    assert_eq!(
        (subnet.net.to_string(), subnet.gateway.unwrap().to_string()),
        ("10.77.0.0/16".into(), "10.77.0.1".into())
    );
    assert_eq!(subnet.auxiliary["printer"].to_string(), "10.77.0.9");
}

/// moby's rule (`GetSkipGwAlloc` of its bridge driver).
#[test]
fn networks_whose_gateway_nobody_would_have_need_none() {
    const MODE: &str = "com.docker.network.bridge.gateway_mode_ipv";
    let isolated = |families: &str| -> Value {
        families.chars().map(|family| (format!("{MODE}{family}"), "isolated")).collect()
    };
    let inhibited = json!({"com.docker.network.bridge.inhibit_ipv4": "true"});
    for (internal, given, needless) in [
        (false, json!({}), (false, false)),
        (true, json!({}), (false, false)),
        (false, inhibited.clone(), (false, false)),
        (true, inhibited, (true, false)),
        (true, isolated("4"), (true, false)),
        (true, isolated("6"), (false, true)),
        (true, isolated("46"), (true, true)),
    ] {
        let options = json!({GENERIC: given, INTERNAL: internal});
        let check: wire::GwAllocCheck = serde_json::from_value(json!({"Options": options})).unwrap();
        let skipped = skipped_gateways(&check).unwrap();
        assert_eq!((skipped.ipv4, skipped.ipv6), needless, "{options}");
        let made = network(json!({
            "NetworkID": ID,
            "Options": options,
            "IPv4Data": [{"Pool": "10.77.0.0/16"}],
            "IPv6Data": [{"Pool": "fd00:77::/64"}]
        }))
        .unwrap();
        let ipv4 = Occupied { networks: vec![], routes: vec![], resolvers: vec![], pools: ipv4_pools() };
        let ipv6 = Occupied { networks: vec![], routes: vec![], resolvers: vec![], pools: ipv6_pools("x") };
        let subnets = made.subnets.resolve(Some(&ipv4), Some(&ipv6)).unwrap();
        let gateways = (subnets.ipv4.unwrap().gateway, subnets.ipv6.unwrap().gateway);
        assert_eq!((gateways.0.is_none(), gateways.1.is_none()), needless, "{options}");
    }
    let wrong: wire::GwAllocCheck =
        serde_json::from_value(json!({"Options": {GENERIC: isolated("4")}})).unwrap();
    assert_eq!(
        skipped_gateways(&wrong).unwrap_err().to_string(),
        "gateway mode 'isolated' can only be used for an internal network"
    );
}

#[test]
fn an_option_makes_a_network_internal() {
    let internal = |value: Value| {
        network(json!({"NetworkID": ID, "Options": {INTERNAL: value}, "IPv4Data": []}))
            .map(|made| made.internal)
    };
    assert_eq!(internal(json!(true)), Ok(true));
    assert_eq!(internal(json!(false)), Ok(false));
    assert_eq!(internal(json!("yes")), Err(format!("invalid {INTERNAL}: \"yes\"")));
}

#[test]
fn an_endpoint_has_docker_s_addresses_and_the_user_s_options() {
    let made = endpoint(json!({
        "NetworkID": ID,
        "EndpointID": ID,
        "Interface": {"Address": "10.77.0.2/16", "AddressIPv6": "", "MacAddress": ""},
        "Options": {
            EXPOSED: [{"Proto": 6, "Port": 80}, {"Proto": 17, "Port": 53}],
            PORTMAP: [{"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": 8080, "HostPortEnd": 8080}],
            "com.docker.network.endpoint.dnsservers": [],
            "com.docker.network.endpoint.ifname": "lan0"
        }
    }))
    .unwrap();
    assert_eq!(made.ipv4, "10.77.0.2/16".parse().ok());
    assert_eq!((made.ipv6, made.mac), (None, None));
    assert_eq!(made.options.interface.as_deref(), Some("lan0"));
    let exposed: Vec<String> = made.exposed.iter().map(ToString::to_string).collect();
    assert_eq!(exposed, ["53/udp", "80/tcp"]);
}

#[test]
fn errors_name_the_invalid_field() {
    assert_eq!(network(json!({"NetworkID": "12"})).unwrap_err(), "invalid NetworkID: 12");
    assert_eq!(network(json!({})).unwrap_err(), "missing field `NetworkID`");
    let pool = |pool: &str| network(json!({"NetworkID": ID, "IPv4Data": [{"Pool": pool}]})).unwrap_err();
    assert_eq!(pool("10.0.0.0"), "invalid Pool: 10.0.0.0");
    let subnet = json!({"Pool": "10.0.0.0/24", "Gateway": "10.0.0.1"});
    let of = |subnets: Value| network(json!({"NetworkID": ID, "IPv4Data": subnets})).unwrap_err();
    assert_eq!(of(json!([subnet])), "invalid Gateway: 10.0.0.1");
    assert_eq!(of(json!([subnet, subnet])), "bridge driver doesn't support multiple subnets");
    let with = |interface: Value, options: Value| {
        endpoint(json!({"NetworkID": ID, "EndpointID": ID, "Interface": interface, "Options": options}))
            .unwrap_err()
    };
    assert_eq!(with(json!({"Address": "10.0.0"}), json!({})), "invalid Address: 10.0.0");
    assert_eq!(with(json!({"MacAddress": "x"}), json!({})), "invalid MacAddress: x");
    assert_eq!(with(json!({}), json!({EXPOSED: [{"Proto": 1, "Port": 80}]})), "invalid Proto: 1");
    assert_eq!(
        with(json!({}), json!({"netbpf.foo": "bar"})),
        "unknown endpoint option netbpf.foo: known are netbpf.addresses, netbpf.guard, netbpf.redirect, \
             netbpf.ingress_rate, netbpf.ingress_burst, netbpf.egress_rate, netbpf.egress_burst"
    );
}

#[test]
fn port_bindings_become_published_ports() {
    let publish = |binding: Value| {
        let options = json!({PORTMAP: [binding]});
        let published = ports(options.as_object().unwrap()).map_err(|error| error.to_string());
        published.map(|published| published.publish[0].clone())
    };
    let container = "80/tcp".parse().unwrap();
    let asked = |host: Option<&str>, ports: Option<(u16, u16)>| {
        let host_ports = ports.map(|(first, last)| PortRange::new(first, last).unwrap());
        Ok(Publish { container, host: host.map(|host| host.parse().unwrap()), host_ports })
    };
    assert_eq!(publish(json!({"Proto": 6, "Port": 80})), asked(None, None));
    assert_eq!(
        publish(
            json!({"Proto": 6, "Port": 80, "HostIP": "127.0.0.1", "HostPort": 8080, "HostPortEnd": 8090})
        ),
        asked(Some("127.0.0.1"), Some((8080, 8090)))
    );
    assert_eq!(publish(json!({"Proto": 6, "Port": 80, "HostPort": 8080})), asked(None, Some((8080, 8080))));
    assert_eq!(publish(json!({"Proto": 6, "Port": 0})), Err("invalid Port: 0".into()));
    assert_eq!(
        publish(json!({"Proto": 6, "Port": 80, "HostIP": "here"})),
        Err("invalid HostIP: here".into())
    );
}

#[test]
fn the_answer_contains_only_what_docker_left_open() {
    let endpoint = Endpoint {
        id: ID.parse().unwrap(),
        number: 0,
        ipv4: "10.77.0.2".parse().ok(),
        ipv6: None,
        mac: "02:42:0a:4d:00:02".parse().unwrap(),
        host_interface: "veth0".parse().unwrap(),
        interface: "nbd0".parse().unwrap(),
        sysctls: Vec::new(),
    };
    let answer =
        |asked: &wire::Interface| serde_json::to_value(chosen(&endpoint, (Some(16), None), asked)).unwrap();
    let address = wire::Interface { address: "10.77.0.2/16".into(), ..Default::default() };
    assert_eq!(answer(&address), json!({"MacAddress": "02:42:0a:4d:00:02"}));
    let mac = wire::Interface { mac_address: "02:42:0a:4d:00:02".into(), ..Default::default() };
    assert_eq!(answer(&mac), json!({"Address": "10.77.0.2/16"}));
}

#[test]
fn docker_never_adds_a_way_out_of_its_own() {
    let joined = |gateway: Option<&str>, internal| {
        wire::Joined::from(Joined {
            interface: "nbd0".parse().unwrap(),
            prefix: "eth".into(),
            name: None,
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            gateway_ipv6: None,
            internal,
        })
    };
    let usual = serde_json::to_value(joined(Some("10.77.0.1"), false)).unwrap();
    let name = json!({"SrcName": "nbd0", "DstPrefix": "eth"});
    assert_eq!(usual, json!({"InterfaceName": name, "Gateway": "10.77.0.1"}));
    assert!(joined(None, false).disable_gateway_service, "a network of IPv6 only");
    assert!(!joined(None, true).disable_gateway_service, "an internal one needs none");
}
