//! netbpf's error messages to Docker, and to other clients of its socket.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use netbpf_tests::lab::Lab;
use serde_json::{Value, json};

use crate::engine::Engine;

const NETWORK: &str = "e9c48caad9a3d790516aa17823c64108a54aa1d2f47cc901dc63140a379432fc";
const ENDPOINT: &str = "974fa9f73cdab61fca24f86e69a4be569a02c2a5ff59a196fd2f79f3fa064dd7";
const OTHER: &str = "79a6ff56b7369322536a2df58691dbfeacca6ea20170fad50b23691a5472efb7";

/// The driver's answer to a message.
#[track_caller]
fn ask(lab: &Lab, method: &str, body: &str) -> Value {
    let mut stream =
        UnixStream::connect(lab.path("/run/docker/plugins/netbpf.sock")).expect("netbpf serves Docker");
    let length = body.len();
    write!(
        stream,
        "POST /{method} HTTP/1.1\r\nHost: plugin.moby.localhost\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{method}: {error}: {answer}"))
}

#[track_caller]
fn refusal(lab: &Lab, method: &str, message: Value) -> String {
    let answer = ask(lab, &format!("NetworkDriver.{method}"), &message.to_string());
    answer["Err"].as_str().unwrap_or_else(|| panic!("{method} is refused: {answer}")).to_owned()
}

#[track_caller]
fn done(lab: &Lab, method: &str, message: Value) -> Value {
    let answer = ask(lab, &format!("NetworkDriver.{method}"), &message.to_string());
    assert_eq!(answer["Err"], Value::Null, "{method}");
    answer
}

fn of(endpoint: &str) -> Value {
    json!({"NetworkID": NETWORK, "EndpointID": endpoint})
}

fn endpoint(id: &str, address: &str) -> Value {
    json!({"NetworkID": NETWORK, "EndpointID": id, "Interface": {"Address": address}})
}

#[test]
fn every_message_may_come_twice_and_removals_are_idempotent() {
    let lab = Lab::start();
    let network = json!({
        "NetworkID": NETWORK,
        "Options": {"com.docker.network.generic": {}},
        "IPv4Data": [{"Pool": "10.8.0.0/24", "Gateway": "10.8.0.1/24"}]
    });
    let join = json!({"NetworkID": NETWORK, "EndpointID": ENDPOINT, "SandboxKey": "/run/docker/netns/0"});
    let program = json!({
        "NetworkID": NETWORK,
        "EndpointID": ENDPOINT,
        "Options": {"com.docker.network.portmap": [{"Proto": 6, "Port": 80, "HostPort": 8080}]}
    });
    assert_eq!(ask(&lab, "Plugin.Activate", "")["Implements"][0], "NetworkDriver");
    let capabilities = ask(&lab, "NetworkDriver.GetCapabilities", "");
    assert_eq!((&capabilities["Scope"], &capabilities["GwAllocChecker"]), (&"local".into(), &true.into()));
    for _ in 0..2 {
        let answer = done(&lab, "GwAllocCheck", json!({"Options": {"com.docker.network.generic": {}}}));
        assert_eq!(answer, json!({"SkipIPv4": false, "SkipIPv6": false}));
    }
    for _ in 0..2 {
        done(&lab, "CreateNetwork", network.clone());
    }
    for _ in 0..2 {
        let created = done(&lab, "CreateEndpoint", endpoint(ENDPOINT, "10.8.0.2/24"));
        assert_eq!(created["Interface"], json!({"MacAddress": "02:42:0a:08:00:02"}));
    }
    for _ in 0..2 {
        let joined = done(&lab, "Join", join.clone());
        assert_eq!(
            (&joined["InterfaceName"]["DstPrefix"], &joined["Gateway"]),
            (&"eth".into(), &"10.8.0.1".into())
        );
        let interface = joined["InterfaceName"]["SrcName"].as_str().expect("a name").to_owned();
        lab.host(["ip", "link", "show", &interface]).ok();
    }
    for _ in 0..2 {
        done(&lab, "ProgramExternalConnectivity", program.clone());
    }
    assert_eq!(done(&lab, "EndpointOperInfo", of(ENDPOINT))["Value"], json!({}));
    for method in ["RevokeExternalConnectivity", "Leave", "DeleteEndpoint", "DeleteNetwork"] {
        for _ in 0..2 {
            done(&lab, method, of(ENDPOINT));
        }
    }
}

#[test]
fn refusals_name_the_fault_and_leave_nothing() {
    let lab = Lab::start();
    let network = |pool: &str, options: Value| json!({"NetworkID": NETWORK, "Options": {"com.docker.network.generic": options}, "IPv4Data": [{"Pool": pool}]});
    assert!(
        refusal(&lab, "CreateNetwork", network("10.8.0.0/24", json!({"netbpf.foo": "bar"})))
            .contains("unknown driver option netbpf.foo")
    );
    assert_eq!(refusal(&lab, "CreateNetwork", json!({"NetworkID": NETWORK})), "IPv4 or IPv6 must be enabled");
    let isolated = json!({"com.docker.network.bridge.gateway_mode_ipv4": "isolated"});
    assert_eq!(
        refusal(&lab, "GwAllocCheck", json!({"Options": {"com.docker.network.generic": isolated}})),
        "gateway mode 'isolated' can only be used for an internal network"
    );
    let default = lab.inspect("bridge")["IPAM"]["Config"][0]["Subnet"].as_str().expect("a subnet").to_owned();
    assert!(
        refusal(&lab, "CreateNetwork", network(&default, json!({}))).contains("Pool overlaps with other one")
    );
    assert!(
        ask(&lab, "NetworkDriver.CreateNetwork", "{")["Err"].as_str().unwrap().starts_with("invalid JSON: ")
    );
    assert!(refusal(&lab, "CreateNetwork", json!({})).contains("missing field `NetworkID`"));
    assert_eq!(refusal(&lab, "NoSuchThing", json!({})), "unknown method NetworkDriver.NoSuchThing");
    assert_eq!(
        refusal(&lab, "CreateEndpoint", endpoint(ENDPOINT, "10.8.0.2/24")),
        format!("network {NETWORK} not found")
    );
    let mine = lab.inspect("bridge")["Id"].clone();
    let in_mine = json!({"NetworkID": mine, "EndpointID": ENDPOINT});
    assert!(refusal(&lab, "CreateEndpoint", in_mine).ends_with("not found"), "netbpf's own are not Docker's");

    done(&lab, "CreateNetwork", network("10.8.0.0/24", json!({})));
    done(&lab, "CreateEndpoint", endpoint(ENDPOINT, "10.8.0.2/24"));
    assert_eq!(
        refusal(&lab, "Join", json!({"NetworkID": NETWORK, "EndpointID": OTHER, "SandboxKey": "/x"})),
        format!("endpoint {OTHER} not found")
    );
    assert_eq!(refusal(&lab, "EndpointOperInfo", of(OTHER)), format!("endpoint {OTHER} not found"));
    assert!(
        refusal(&lab, "CreateEndpoint", endpoint(OTHER, "10.9.0.2/24"))
            .contains("no configured subnet contains IP address 10.9.0.2")
    );
    assert_eq!(refusal(&lab, "CreateEndpoint", endpoint(OTHER, "10.8.0.1/24")), "Address already in use");
    let taken = lab.on_host(|| std::net::TcpListener::bind("0.0.0.0:8080").expect("a port"));
    let program = json!({
        "NetworkID": NETWORK,
        "EndpointID": ENDPOINT,
        "Options": {"com.docker.network.portmap": [{"Proto": 6, "Port": 80, "HostPort": 8080}]}
    });
    assert_eq!(
        refusal(&lab, "ProgramExternalConnectivity", program),
        "failed to bind host port 0.0.0.0:8080/tcp: address already in use"
    );
    drop(taken);
    // Docker reuses an address only after it has forgotten the endpoint.
    done(&lab, "CreateEndpoint", endpoint(OTHER, "10.8.0.2/24"));
    done(&lab, "DeleteNetwork", of(OTHER));
}

#[test]
fn docker_prints_netbpf_s_error_message() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine
        .docker("network create -d netbpf -o netbpf.foo=bar mynet")
        .fails_with(1, "unknown driver option netbpf.foo: known are ");
    engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    lab.netbpf(["network", "create", "--subnet", "10.7.0.0/24", "other"]).ok();
    engine
        .docker("network create -d netbpf --subnet 10.7.0.0/24 third")
        .fails_with(1, "Pool overlaps with other one");
    engine.run("one", "--network mynet --ip 10.8.0.9");
    engine
        .docker("run -d --name two --network mynet --ip 10.8.0.9 box:1 sleep 1000000")
        .fails_with(125, "Address already in use");
}
