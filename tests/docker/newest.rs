//! What only engines from 28 on have: networks without gateways or without IPv4, default routes of two networks, and
//! default routes that move on request.

use netbpf_tests::lab::{Lab, eventually};

use crate::engine::Engine;

const SERVE: &str = "box:1 httpd -f -p 80 -h /www";

/// What a web server at an address of the host says.
fn page(lab: &Lab, address: &str) -> String {
    lab.host(["timeout", "3", "busybox", "wget", "-q", "-O-", &format!("http://{address}/")])
        .text()
        .to_owned()
}

/// Asserts that a server answers there.
#[track_caller]
fn answers(lab: &Lab, address: &str) {
    eventually(&format!("a server at {address}"), || (page(lab, address) == "hello").then_some(()));
}

/// The published ports of a container, as netbpf shows them.
#[track_caller]
fn ports(lab: &Lab, engine: &Engine<'_>, container: &str) -> Vec<String> {
    let inspected = engine.docker(&format!("inspect {container}")).ok().json();
    let id = inspected[0]["Id"].as_str().expect("an ID");
    let networks = inspected[0]["NetworkSettings"]["Networks"].as_object().expect("networks").len();
    let all = eventually("what Docker calls them", || {
        let all = lab.netbpf(["ps", "--no-trunc", "--format", "{{.ID}} {{.Networks}} {{.Ports}}"]).ok();
        let named = all.text().lines().filter(|line| line.starts_with(id)).count();
        (named == networks).then(|| all.text().to_owned())
    });
    let mut ports: Vec<String> = all
        .lines()
        .filter_map(|line| line.strip_prefix(id))
        .map(|line| line.trim().to_owned())
        .filter(|line| line.contains("->"))
        .collect();
    ports.sort();
    ports
}

/// Docker's `GwAllocCheck`: netbpf answers as Docker's bridge driver does.
#[test]
fn a_network_without_a_gateway_leases_its_first_address_to_a_container() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    let option = "-o com.docker.network.bridge";
    for (name, driver, subnets) in [
        ("theirs", "bridge", "--subnet 10.7.0.0/24 --subnet fd00:7::/64"),
        ("ours", "netbpf", "--subnet 10.8.0.0/24 --subnet fd00:8::/64"),
    ] {
        let options = format!("{option}.gateway_mode_ipv4=isolated {option}.gateway_mode_ipv6=isolated");
        engine
            .docker(&format!("network create -d {driver} --internal --ipv6 {subnets} {options} {name}"))
            .ok();
        engine.run(&format!("one-{name}"), &format!("--net {name}"));
        engine.run(&format!("two-{name}"), &format!("--net {name}"));
    }
    let addresses = |name: &str, network: &str| {
        let endpoint = engine.endpoint(name, network);
        let text = |key: &str| endpoint[key].as_str().unwrap_or_default().to_owned();
        (text("IPAddress"), text("GlobalIPv6Address"), text("Gateway"), text("IPv6Gateway"))
    };
    let theirs = addresses("one-theirs", "theirs");
    assert_eq!(theirs, ("10.7.0.1".into(), "fd00:7::1".into(), String::new(), String::new()));
    let ours = addresses("one-ours", "ours");
    assert_eq!(ours, ("10.8.0.1".into(), "fd00:8::1".into(), String::new(), String::new()));
    for address in ["10.8.0.1", "fd00:8::1"] {
        engine.exec("two-ours", &format!("ping -c1 -W2 {address}")).ok();
    }
    assert_eq!(
        engine.exec("one-ours", "ip route").ok().text(),
        "10.8.0.0/24 dev eth0 scope link  src 10.8.0.1"
    );
    lab.host(["ping", "-c1", "-W1", "10.8.0.1"]).fails_with(2, "");

    // Only with both options, containers have no route to the gateway's address either.
    engine
        .docker(&format!(
            "network create -d netbpf --internal --subnet 10.9.0.0/24 {option}.inhibit_ipv4=true inhibited"
        ))
        .ok();
    engine
        .docker(&format!("network create -d netbpf --subnet 10.10.0.0/24 {option}.inhibit_ipv4=true open"))
        .ok();
    engine.docker("network create -d netbpf --internal --subnet 10.11.0.0/24 internal").ok();
    for (network, address) in [("inhibited", "10.9.0.1"), ("open", "10.10.0.2"), ("internal", "10.11.0.2")] {
        engine.run(network, &format!("--net {network}"));
        assert_eq!(engine.endpoint(network, network)["IPAddress"], address);
    }
    engine
        .docker(&format!("network create -d netbpf {option}.gateway_mode_ipv4=isolated late"))
        .fails_with(1, "gateway mode 'isolated' can only be used for an internal network");

    lab.restart_daemon();
    engine.stop();
    engine.start_again();
    engine.docker("start one-ours two-ours").ok();
    engine.exec("two-ours", "ping -c1 -W2 10.8.0.1").ok();
}

#[test]
fn a_network_may_have_ipv6_only() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --ipv4=false --ipv6 --subnet fd00:6::/64 six").ok();
    engine.docker(&format!("run -d --name web --net six -p 8080:80 -p 127.0.0.1:8081:80 {SERVE}")).ok();
    engine.run("client", "--net six");
    let endpoint = engine.endpoint("web", "six");
    assert_eq!(
        (&endpoint["IPAddress"], &endpoint["GlobalIPv6Address"], &endpoint["IPv6Gateway"]),
        (&"".into(), &"fd00:6::2".into(), &"fd00:6::1".into())
    );
    let links = engine.exec("web", "ls /sys/class/net").ok();
    assert_eq!(
        links.text().split_whitespace().collect::<Vec<_>>(),
        ["eth0", "lo"],
        "no bridge of Docker's beside it"
    );
    engine.exec("client", "ping -c1 -W2 web").ok();
    answers(&lab, "[::1]:8080");
    // As with Docker's bridge, a port of a family that a network does not have is left out.
    assert_eq!(ports(&lab, &engine, "web"), ["six [::]:8080->80/tcp"]);
    assert_eq!(page(&lab, "127.0.0.1:8081"), "");
}

/// Docker leases no IPv6 address for it, and netbpf must not choose one.
#[test]
fn a_container_whose_settings_turn_ipv6_off_has_no_ipv6_address() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    for (driver, number) in [("bridge", 7), ("netbpf", 8)] {
        let subnets = format!("--subnet 10.{number}.0.0/24 --subnet fd00:{number}::/64");
        engine.docker(&format!("network create -d {driver} --ipv6 {subnets} {driver}-net")).ok();
        let setting = "--sysctl net.ipv6.conf.all.disable_ipv6=1";
        let publish = format!("-p 80{number}0:80");
        engine.docker(&format!("run -d --name {driver} {setting} --net {driver}-net {publish} {SERVE}")).ok();
        assert_eq!(engine.exec(driver, "ip -6 address").ok().text(), "");
        let endpoint = engine.endpoint(driver, &format!("{driver}-net"));
        assert_eq!(
            (&endpoint["IPAddress"], &endpoint["GlobalIPv6Address"], &endpoint["IPv6Gateway"]),
            (&format!("10.{number}.0.2").into(), &"".into(), &"".into())
        );
        for host in ["127.0.0.1", "[::1]"] {
            answers(&lab, &format!("{host}:80{number}0"));
        }
    }
    engine.run("other", "--net netbpf-net");
    engine.exec("other", "ping -c1 -W2 netbpf").ok();
    engine.docker("restart -t 0 netbpf").ok();
    assert_eq!(engine.exec("netbpf", "ip -6 address").ok().text(), "");
}

/// Docker asks for the ports at both networks, and says to one that the other has the IPv6 default route
/// (`no_proxy_6to4`).
#[test]
fn two_networks_may_have_the_default_route_of_a_family_each() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 10.8.0.0/24 four").ok();
    engine.docker("network create -d netbpf --ipv4=false --ipv6 --subnet fd00:6::/64 six").ok();
    let relayed = ["four 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"];
    let split = ["four 0.0.0.0:8080->80/tcp", "six [::]:8080->80/tcp"];
    let publish = "-p 8080:80 -p 127.0.0.1:8081:80 -p [::1]:8082:80";
    engine.docker(&format!("run -d --name web --net four -p 8080:80 {SERVE}")).ok();
    assert_eq!(ports(&lab, &engine, "web"), relayed);
    answers(&lab, "[::1]:8080");
    engine.docker("network connect six web").ok();
    assert_eq!(ports(&lab, &engine, "web"), split);
    for address in ["127.0.0.1:8080", "[::1]:8080"] {
        answers(&lab, address);
    }
    lab.restart_daemon();
    assert_eq!(ports(&lab, &engine, "web"), split);
    engine.docker("restart -t 0 web").ok();
    assert_eq!(ports(&lab, &engine, "web"), split);
    engine.docker("network disconnect six web").ok();
    assert_eq!(ports(&lab, &engine, "web"), relayed);
    answers(&lab, "[::1]:8080");
    engine.docker("rm -f web").ok();

    // Each network leaves out the ports of the family that it does not have, whichever is joined first.
    for (first, second) in [("four", "six"), ("six", "four")] {
        let networks = format!("--network name={first},gw-priority=1 --network {second}");
        engine.docker(&format!("run -d --name web {networks} {publish} {SERVE}")).ok();
        for address in ["127.0.0.1:8080", "[::1]:8080", "127.0.0.1:8081", "[::1]:8082"] {
            answers(&lab, address);
        }
        engine.docker("rm -f web").ok();
    }
}

/// Docker revokes the ports at the network that loses the default route, and requests them at the other.
#[test]
fn a_gateway_moves_to_the_network_of_the_highest_priority() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    for (name, subnet) in [("one", "10.1.0.0/24"), ("two", "10.2.0.0/24"), ("three", "10.3.0.0/24")] {
        engine.docker(&format!("network create -d netbpf --subnet {subnet} {name}")).ok();
    }
    engine.docker(&format!("run -d --name web --net one -p 8080:80 -p 9000-9009:80 {SERVE}")).ok();
    engine.docker(&format!("run -d --name other --net one -p 9000-9009:80 {SERVE}")).ok();
    let is_at = |network: &str, gateway: &str| {
        let route = engine.exec("web", "ip route show default").ok();
        assert!(route.text().contains(&format!("default via {gateway} ")), "{route}");
        let ports = ports(&lab, &engine, "web");
        assert!(matches!(&ports[..], [port] if port.starts_with(&format!("{network} "))), "{ports:?}");
        answers(&lab, "127.0.0.1:8080");
        // As with Docker's bridge, it is the next free one of the range after each move.
        let (_, after) = ports[0].split_once("0.0.0.0:90").expect("a port of the range");
        answers(&lab, &format!("127.0.0.1:90{}", &after[..2]));
    };
    is_at("one", "10.1.0.1");
    answers(&lab, "127.0.0.1:9001");
    engine.docker("network connect two web").ok();
    is_at("one", "10.1.0.1");
    engine.docker("network connect --gw-priority 1 three web").ok();
    is_at("three", "10.3.0.1");
    engine.docker("restart -t 0 web").ok();
    is_at("three", "10.3.0.1");
    engine.docker("network disconnect three web").ok();
    is_at("one", "10.1.0.1");
    engine.docker("network disconnect one web").ok();
    is_at("two", "10.2.0.1");
    // The ports that Docker revoked are free for others.
    engine.docker("network connect --gw-priority 1 one web").ok();
    engine.docker("rm -f web").ok();
    engine
        .docker(&format!("run -d --name late --net two -p 8080:80 -p 9000:80 -p 9002-9009:80 {SERVE}"))
        .ok();
    answers(&lab, "127.0.0.1:9000");
}

/// From 26 on, Docker tells the container's namespace when it exists.
#[test]
fn netbpf_shows_the_sandbox_key_of_docker() {
    let lab = Lab::start();
    let engine = Engine::start(&lab);
    engine.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    engine.docker("network create -d netbpf --subnet 10.9.0.0/24 other").ok();
    engine.run("one", "--net mynet");
    engine.docker("network connect other one").ok();
    let key = engine.docker("inspect -f {{.NetworkSettings.SandboxKey}} one").ok();
    let known = eventually("both endpoints", || {
        let known = lab.netbpf(["ps", "-q", "--no-trunc"]).ok();
        (known.text().lines().count() == 2).then_some(known)
    });
    for endpoint in known.text().lines() {
        let shown = lab.netbpf(["inspect", "--format", "{{.NetworkSettings.SandboxKey}}", endpoint]).ok();
        assert_eq!(shown.text(), key.text());
    }
}
