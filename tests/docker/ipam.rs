//! Docker's networks with addresses from netbpf (`--ipam-driver netbpf`).

use netbpf_tests::lab::Lab;

use crate::engine::Engine;

/// The subnet and gateway of a network, as Docker shows them.
#[track_caller]
fn subnet(engine: &Engine<'_>, network: &str) -> (String, String) {
    let inspected = engine.docker(&format!("network inspect {network}")).ok().json();
    let config = &inspected[0]["IPAM"]["Config"][0];
    let text = |key: &str| config[key].as_str().unwrap_or_default().to_owned();
    (text("Subnet"), text("Gateway"))
}

#[track_caller]
fn address(engine: &Engine<'_>, container: &str, network: &str) -> String {
    engine.endpoint(container, network)["IPAddress"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn docker_and_netbpf_share_subnets_and_addresses() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    let id = engine.docker("network create -d netbpf --ipam-driver netbpf mynet").ok();
    engine.docker("network create -d bridge --ipam-driver netbpf theirs").ok();
    // netbpf's default network has the first pool, the engine's default network the second.
    assert_eq!(subnet(&engine, "mynet"), ("172.19.0.0/16".into(), "172.19.0.1".into()));
    assert_eq!(subnet(&engine, "theirs"), ("172.20.0.0/16".into(), "172.20.0.1".into()));
    lab.netbpf(["network", "create", "--subnet", "172.20.1.0/24", "mine"])
        .fails_with(1, "Pool overlaps with other one on this address space");

    engine.run("one", "--network mynet");
    engine.run("two", "--network mynet");
    lab.run("mine", &format!("--net {}", id.text()));
    engine.run("three", "--network mynet");
    let addresses = ["one", "two", "three"].map(|container| address(&engine, container, "mynet"));
    assert_eq!(addresses, ["172.19.0.2", "172.19.0.3", "172.19.0.5"]);
    lab.exec("mine", "ping -c1 -W2 172.19.0.2").ok();

    lab.restart_daemon();
    engine.docker("rm -f one").ok();
    engine.run("four", "--network mynet");
    assert_eq!(address(&engine, "four", "mynet"), "172.19.0.2");

    lab.netbpf(["rm", "-f", "mine"]).ok();
    engine.remove_containers();
    engine.docker("network rm mynet theirs").ok();
    lab.netbpf(["network", "create", "--subnet", "172.20.1.0/24", "mine"]).ok();
}

#[test]
fn an_invalid_range_or_address_is_refused() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    let create = |options: &str| {
        engine.docker(&format!("network create -d netbpf --ipam-driver netbpf {options} mynet"))
    };
    create("--subnet 10.1.0.0/24 --ip-range 10.2.0.0/25").fails_with(1, "");
    create("--ipam-opt foo=bar").fails_with(1, "unknown IPAM option foo");
    create("--subnet 10.1.0.0/24 --ip-range 10.1.0.128/25 --gateway 10.1.0.1").ok();
    engine.run("one", "--network mynet");
    assert_eq!(address(&engine, "one", "mynet"), "10.1.0.128");
    engine.run("two", "--network mynet --ip 10.1.0.9");
    for taken in ["10.1.0.1", "10.1.0.9", "10.1.0.128"] {
        engine
            .docker(&format!("run -d --network mynet --ip {taken} box:1 sleep 1000000"))
            .fails_with(125, "Address already in use");
    }
}
