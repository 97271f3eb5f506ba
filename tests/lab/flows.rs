//! The conntrack flows of one container: their limit, and their end with the container.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    time::{Duration, Instant},
};

use netbpf_tests::lab::Lab;

/// Opens a flow to each of that many ports.
#[track_caller]
fn begin(lab: &Lab, container: &str, address: &str, count: u16) {
    begin_in(lab, lab.pid(container), address, count);
}

/// The same in the network namespace of a process.
#[track_caller]
fn begin_in(lab: &Lab, pid: u64, address: &str, count: u16) {
    let address: IpAddr = address.parse().expect("an address");
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    lab.in_namespace(&format!("/proc/{pid}/ns/net"), || {
        let socket = UdpSocket::bind((any, 0)).expect("a socket");
        for port in (10_000..).take(count.into()) {
            socket.send_to(b"x", (address, port)).expect("a datagram");
        }
    });
}

#[test]
fn a_container_opens_no_more_flows_than_its_network_allows() {
    let lab = Lab::start();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 -o netbpf.max_flows=20");
    lab.network("blue", "--subnet 10.2.0.0/24");
    for (name, network) in [("greedy", "red"), ("modest", "red"), ("free", "blue")] {
        lab.run(name, &format!("--net {network}"));
    }
    let flows = |word: &str| lab.drops_since(&[].into()).get(word).copied().unwrap_or_default();
    // Flows of both families count together.
    begin(&lab, "greedy", "10.1.0.1", 15);
    assert_eq!(flows("flows"), 0);
    begin(&lab, "greedy", "fd00:1::1", 15);
    assert_eq!(flows("flows"), 10);
    begin(&lab, "modest", "10.1.0.1", 15);
    begin(&lab, "free", "10.2.0.1", 500);
    assert_eq!(flows("flows"), 10);
    // The limit is also in the table that the next daemon loads, and is removed with the network.
    lab.restart_daemon();
    begin(&lab, "modest", "10.1.0.1", 15);
    assert_eq!(flows("flows"), 0, "it counts anew");
    begin(&lab, "modest", "fd00:1::1", 25);
    assert!(flows("flows") > 0);
    lab.netbpf(["rm", "-f", "greedy", "modest"]).ok();
    lab.netbpf(["network", "rm", "red"]).ok();
    let table = lab.host(["nft", "list", "table", "inet", "netbpf"]).ok();
    assert!(!table.stdout.contains("flows-"), "{table}");
}

#[test]
fn all_flows_of_a_disconnected_container_end_and_no_others() {
    let lab = Lab::start();
    let took = flows_end_with_a_container(&lab, 50_000);
    println!("disconnected a container with 50000 flows in {} ms", took.as_millis());
}

/// The file with the order that the daemon follows at its fault points.
const ORDER: &str = "/run/fault";

#[test]
fn flows_of_a_removed_container_end_although_the_daemon_was_killed_before() {
    let lab = Lab::without_daemon();
    lab.start_daemons_by(&["env", &format!("NETBPF_FAULT={ORDER}")]);
    let order = lab.path(ORDER);
    let give = |text: &str| fs::write(&order, text).expect("an order");
    give("");
    lab.start_daemon();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    for name in ["leaves", "stays"] {
        lab.run(name, "--net red");
    }
    let stays = lab.pid("stays");
    for point in 1.. {
        begin(&lab, "leaves", "10.1.0.1", 200);
        begin(&lab, "leaves", "fd00:1::1", 100);
        give(&format!("kill step {point}"));
        let _ = lab.netbpf(["network", "disconnect", "red", "leaves"]);
        let hit = fs::read_to_string(&order).expect("the order");
        give("");
        assert!(hit.starts_with("killed "), "no kill before ForgetFlows: {hit}");
        lab.await_daemon_end();
        if hit.trim_end().ends_with(" before ForgetFlows") {
            break;
        }
        lab.start_daemon();
        // It is still connected if the kill came before the commit.
        let _ = lab.netbpf(["network", "connect", "red", "leaves"]);
    }
    // No daemon runs, which could tell the container's process.
    begin_in(&lab, stays, "10.1.0.1", 200);
    begin_in(&lab, stays, "fd00:1::1", 100);
    // No container has this address, but the host has it, on another device.
    lab.host(["ip", "address", "add", "10.1.0.77/32", "dev", "lo"]).ok();
    let sends = "for port in $(seq 20000 20099); do echo x > /dev/udp/10.1.0.77/$port; done";
    lab.host(["bash", "-c", sends]).ok();
    let before = count(&lab);
    assert!(before >= 700, "{before}");
    lab.start_daemon();
    let left = count(&lab);
    // The host itself may have a few.
    assert!((400..500).contains(&left), "{left} of {before} flows are left");
    lab.host(["ip", "address", "del", "10.1.0.77/32", "dev", "lo"]).ok();
    fs::remove_file(&order).expect("the order");
}

/// The number of flows in the host's table.
#[track_caller]
fn count(lab: &Lab) -> u32 {
    let count = lab.host(["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]).ok();
    count.text().parse().expect("a number of flows")
}

/// A container with that many flows is disconnected. Returns how long that took.
#[track_caller]
pub fn flows_end_with_a_container(lab: &Lab, flows: u16) -> Duration {
    lab.network("full", "--subnet 10.8.0.0/24");
    for name in ["busy", "calm"] {
        lab.run(name, "--net full");
    }
    // Half of the second thousand is in a zone of its own, where the same address may mean somebody else.
    let zoned = "add table ip zoned; add chain ip zoned enter { type filter hook prerouting priority raw; };
        add rule ip zoned enter udp dport 11000-11499 ct zone set 7";
    lab.host(["nft", zoned]).ok();
    begin(lab, "busy", "10.8.0.1", flows);
    begin(lab, "calm", "10.8.0.1", 500);
    let all = count(lab);
    assert!(all >= u32::from(flows) + 500, "{all}");
    let begun = Instant::now();
    lab.netbpf(["disconnect", "full", "busy"]).ok();
    let took = begun.elapsed();
    let left = count(lab);
    // The host itself may have a few.
    assert!((1_000..1_100).contains(&left), "{left} of {all} flows are left");
    lab.host(["nft", "delete", "table", "ip", "zoned"]).ok();
    took
}
