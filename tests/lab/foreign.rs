//! Network namespaces that netbpf did not create are containers as long as they are connected.

use netbpf_tests::lab::{Lab, eventually};

/// A network with one container of netbpf at 10.1.0.2.
fn lab() -> Lab {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("tomcat01", "--net mynet");
    lab
}

#[track_caller]
fn members(lab: &Lab) -> Vec<String> {
    let network = lab.inspect("mynet");
    let containers = network["Containers"].as_object().expect("containers");
    let mut names: Vec<_> =
        containers.values().map(|member| member["Name"].as_str().unwrap_or_default().to_owned()).collect();
    names.sort();
    names
}

#[track_caller]
fn veths(lab: &Lab) -> usize {
    let links = lab.host(["ip", "-o", "link"]).ok();
    links.text().lines().filter(|line| line.contains(": veth")).count()
}

/// A process in its own network namespace that only sleeps, and its PID.
#[track_caller]
fn process(lab: &Lab) -> (netbpf_tests::lab::Process, u32) {
    let process = lab.spawn(["unshare", "-n", "sh", "-c", "ip link set lo up; exec sleep 1234567"]);
    let pid = eventually("a process of its own", || lab.processes("sleep 1234567").first().copied());
    (process, pid)
}

#[test]
fn a_named_namespace_is_connected_reached_and_disconnected() {
    let lab = lab();
    lab.host(["ip", "netns", "add", "blue"]).ok();
    lab.netbpf(["connect", "--alias", "sky", "mynet", "netns:blue"]).ok();
    assert_eq!(members(&lab), ["netns:blue", "tomcat01"]);
    let address = lab.host(["ip", "-n", "blue", "-o", "-4", "address", "show", "eth0"]).ok();
    assert!(address.text().contains("10.1.0.3/24"), "{address}");
    lab.host(["ping", "-c1", "10.1.0.3"]).ok();
    lab.host(["nsenter", "--net=/run/netns/blue", "ping", "-c1", "10.1.0.2"]).ok();
    for name in ["blue", "sky", "blue.mynet"] {
        lab.exec("tomcat01", &format!("ping -c1 {name}")).ok();
    }
    let asked =
        lab.host(["nsenter", "--net=/run/netns/blue", "dig", "+short", "@127.0.0.11", "tomcat01"]).ok();
    assert_eq!(asked.text(), "10.1.0.2");
    lab.netbpf(["connect", "mynet", "netns:blue"]).fails_with(1, "already exists in network mynet");
    lab.netbpf(["connect", "mynet", "netns:/run/netns/blue"])
        .fails_with(1, "already exists in network mynet");

    lab.netbpf(["disconnect", "mynet", "netns:blue"]).ok();
    assert_eq!(members(&lab), ["tomcat01"]);
    let links = lab.host(["ip", "-n", "blue", "-o", "link"]).ok();
    assert_eq!(links.text().lines().count(), 1, "{links}");
    assert_eq!(veths(&lab), 1);
    assert!(!lab.netbpf(["inspect", "netns:blue"]).status.success());
    lab.host(["ip", "netns", "del", "blue"]).ok();
}

#[test]
fn a_namespace_keeps_its_own_interfaces_and_routes() {
    let lab = lab();
    lab.network("other", "--subnet 10.2.0.0/24");
    lab.host(["ip", "netns", "add", "blue"]).ok();
    lab.host(["ip", "-n", "blue", "link", "add", "eth0", "type", "veth", "peer", "name", "far"]).ok();
    lab.host(["ip", "-n", "blue", "address", "add", "10.7.0.1/24", "dev", "eth0"]).ok();
    lab.host(["ip", "-n", "blue", "link", "set", "eth0", "up"]).ok();
    lab.host(["ip", "-n", "blue", "route", "add", "default", "via", "10.7.0.2"]).ok();
    lab.netbpf(["connect", "mynet", "netns:blue"]).ok();
    lab.netbpf(["connect", "other", "netns:blue"]).ok();
    let addresses = lab.host(["ip", "-n", "blue", "-o", "-4", "address"]).ok();
    for expected in ["eth0    inet 10.7.0.1/24", "eth1    inet 10.1.0.3/24", "eth2    inet 10.2.0.2/24"] {
        assert!(addresses.text().contains(expected), "{expected}\n{addresses}");
    }
    let route = lab.host(["ip", "-n", "blue", "route", "show", "default"]).ok();
    assert!(route.text().starts_with("default via 10.7.0.2"), "{route}");
    lab.netbpf(["disconnect", "mynet", "netns:blue"]).ok();
    lab.netbpf(["disconnect", "other", "netns:blue"]).ok();
    let route = lab.host(["ip", "-n", "blue", "route", "show", "default"]).ok();
    assert!(route.text().starts_with("default via 10.7.0.2"), "{route}");
    lab.host(["ip", "netns", "del", "blue"]).ok();
}

#[test]
fn a_namespace_that_is_deleted_is_disconnected() {
    let lab = lab();
    lab.host(["ip", "netns", "add", "blue"]).ok();
    lab.netbpf(["connect", "mynet", "netns:blue"]).ok();
    lab.host(["ip", "netns", "del", "blue"]).ok();
    eventually("blue is gone", || (members(&lab) == ["tomcat01"]).then_some(()));
    eventually("its interface is gone", || (veths(&lab) == 1).then_some(()));
    lab.run("tomcat02", "--net mynet");
    assert_eq!(lab.address("tomcat02", "mynet"), "10.1.0.3", "the address is free again");
}

#[test]
fn a_namespace_deleted_while_no_daemon_runs_is_disconnected_at_the_next_start() {
    let lab = lab();
    lab.host(["ip", "netns", "add", "blue"]).ok();
    lab.netbpf(["connect", "mynet", "netns:blue"]).ok();
    lab.restart_daemon();
    assert_eq!(members(&lab), ["netns:blue", "tomcat01"]);
    lab.host(["ping", "-c1", "10.1.0.3"]).ok();
    lab.stop_daemon();
    lab.host(["ip", "netns", "del", "blue"]).ok();
    lab.start_daemon();
    assert_eq!(members(&lab), ["tomcat01"]);
    eventually("its interface is gone", || (veths(&lab) == 1).then_some(()));
}

#[test]
fn a_process_is_connected_until_it_ends() {
    let lab = lab();
    let (process, pid) = process(&lab);
    let name = format!("pid:{pid}");
    lab.netbpf(["connect", "--ip", "10.1.0.77", "mynet", &name]).ok();
    assert_eq!(members(&lab), [name.as_str(), "tomcat01"]);
    lab.host(["ping", "-c1", "10.1.0.77"]).ok();
    lab.exec("tomcat01", "ping -c1 10.1.0.77").ok();
    lab.host(["nsenter", "-t", &pid.to_string(), "-n", "ping", "-c1", "10.1.0.2"]).ok();
    drop(process);
    eventually("the process is gone", || (members(&lab) == ["tomcat01"]).then_some(()));
    eventually("its interface is gone", || (veths(&lab) == 1).then_some(()));
}

#[test]
fn a_path_names_a_namespace_too() {
    let lab = lab();
    let (process, pid) = process(&lab);
    let name = format!("netns:/proc/{pid}/ns/net");
    lab.netbpf(["connect", "mynet", &name]).ok();
    lab.host(["ping", "-c1", "10.1.0.3"]).ok();
    lab.netbpf(["disconnect", "mynet", &name]).ok();
    assert_eq!((members(&lab), veths(&lab)), (vec!["tomcat01".to_owned()], 1));
    drop(process);
}

#[test]
fn the_host_s_own_namespace_and_missing_ones_are_refused() {
    let lab = lab();
    for own in ["pid:1", "netns:/proc/1/ns/net"] {
        lab.netbpf(["connect", "mynet", own]).fails_with(1, "the host's own network namespace");
    }
    lab.netbpf(["connect", "mynet", "pid:4000000"]).fails_with(1, "no such process: 4000000");
    lab.netbpf(["connect", "mynet", "netns:nobody"]).fails_with(1, "nobody");
    lab.netbpf(["connect", "mynet", "pid:x"]).fails_with(1, "expected pid:NUMBER");
    assert_eq!((members(&lab), veths(&lab)), (vec!["tomcat01".to_owned()], 1));
}
