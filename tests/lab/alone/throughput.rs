//! Bulk traffic: TCP is as fast as through a kernel bridge, in packets larger than the MTU; and packets that cannot be
//! offloaded (checksums in software, fragments) pass as well.

use std::{
    thread,
    time::{Duration, Instant},
};

use netbpf_tests::{
    lab::{Lab, Process},
    rate::Server,
};
use serde_json::Value;

/// The tolerance: of two equally fast paths, one may be slower by this factor.
const NOISE: f64 = 0.95;

/// `server` and `client` on a netbpf network, and two namespaces on a kernel bridge beside it.
struct Ways {
    lab: Lab,
}

/// The server's address, and the namespaces of server and client.
const NETBPF: (&str, &str, &str) = ("10.60.0.2", "server", "client");
const BRIDGE: (&str, &str, &str) = ("10.61.0.1", "bridged1", "bridged2");

impl Ways {
    fn new() -> Self {
        Self::on(&[])
    }

    /// With a network created with these options.
    fn on(options: &[&str]) -> Self {
        let lab = Lab::start_alone();
        let words = [&["network", "create", "--subnet", "10.60.0.0/24"][..], options, &["fast"]].concat();
        lab.netbpf(words).ok();
        for name in ["server", "client"] {
            lab.host(["ip", "netns", "add", name]).ok();
            lab.host(["ip", "-n", name, "link", "set", "lo", "up"]).ok();
            lab.netbpf(["connect", "fast", &format!("netns:{name}")]).ok();
        }
        Self { lab }
    }

    fn with_bridge() -> Self {
        let ways = Self::new();
        let script = "set -e
            ip link add slow type bridge
            ip link set slow up
            for number in 1 2; do
                ip netns add bridged$number
                ip link add b$number type veth peer name eth0 netns bridged$number
                ip link set b$number master slow up
                ip -n bridged$number addr add 10.61.0.$number/24 dev eth0
                ip -n bridged$number link set eth0 up
                ip -n bridged$number link set lo up
            done";
        ways.lab.host(["sh", "-c", script]).ok();
        ways
    }

    fn command(namespace: &str, command: &[&str]) -> Vec<String> {
        ["ip", "netns", "exec", namespace].iter().chain(command).map(|word| (*word).to_owned()).collect()
    }

    fn wait(&self, namespace: &str, condition: &str, what: &str) {
        let give_up = Instant::now() + Duration::from_secs(10);
        while !self.lab.host(Self::command(namespace, &["sh", "-c", condition])).status.success() {
            assert!(Instant::now() < give_up, "{what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts a tcpdump and waits until it captures.
    fn capture(&self, count: &str, filter: &[&str]) -> Process {
        let words = [&["tcpdump", "-i", "eth0", "-Q", "in", "-nn", "-vv", "-c", count][..], filter].concat();
        let capture = self.lab.spawn(Self::command("server", &words));
        self.wait("server", "grep -q 0003 /proc/net/packet", "tcpdump listens");
        capture
    }

    /// What iperf3 tells at the end of a transfer.
    fn transfer(&self, (address, server, client): (&str, &str, &str), options: &str) -> Value {
        let [namespace, client] = [server, client].map(|name| format!("/run/netns/{name}"));
        Server { lab: &self.lab, namespace, address, port: 5201 }.end(&client, options)
    }

    /// The throughput of TCP in bits per second, measured at the server.
    fn tcp(&self, way: (&str, &str, &str)) -> f64 {
        self.transfer(way, "-t 1")["sum_received"]["bits_per_second"].as_f64().expect("a throughput")
    }
}

impl Drop for Ways {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let script = "for name in $(ip netns | cut -d' ' -f1); do ip netns del $name; done; ip link del slow 2>/dev/null; true";
        self.lab.host(["sh", "-c", script]).ok();
        let give_up = Instant::now() + Duration::from_secs(10);
        while !self.lab.netbpf(["ps", "-aq"]).ok().stdout.is_empty() {
            assert!(Instant::now() < give_up, "namespaces that have gone are forgotten");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Measures both in turns, because other processes use this machine, too. Adds rounds while the result is not clear.
#[test]
fn tcp_is_as_fast_as_through_a_kernel_bridge() {
    const ROUNDS: [usize; 3] = [5, 9, 15];
    let ways = Ways::with_bridge();
    let (mut netbpf, mut bridge) = (Vec::new(), Vec::new());
    for rounds in ROUNDS {
        while netbpf.len() < rounds {
            bridge.push(ways.tcp(BRIDGE));
            netbpf.push(ways.tcp(NETBPF));
        }
        let (ours, theirs) = (median(&netbpf), median(&bridge));
        println!("{:.1} Gbit/s, a kernel bridge {:.1} Gbit/s, {rounds} rounds", ours / 1e9, theirs / 1e9);
        if ours >= theirs * NOISE {
            return;
        }
    }
    panic!("slower than a kernel bridge: {netbpf:?} bit/s, the bridge {bridge:?}");
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn tcp_moves_packets_larger_than_the_mtu() {
    let ways = Ways::new();
    let capture = ways.capture("20", &["tcp", "and", "greater", "3000"]);
    ways.tcp(NETBPF);
    let seen = capture.output().ok();
    assert!(seen.stderr.contains("20 packets captured"), "{seen}");
}

/// BIG TCP (Linux 6.3): packets of an internal network, or of one with a certain option, need not fit an uplink.
#[test]
fn tcp_uses_packets_larger_than_64_kilobytes_without_an_uplink() {
    for options in [&["--internal"][..], &["-o", "netbpf.gso_max_size=262144"]] {
        let ways = Ways::on(options);
        let capture = ways.capture("5", &["tcp", "and", "greater", "66000"]);
        ways.tcp(NETBPF);
        let seen = capture.output().ok();
        assert!(seen.stderr.contains("5 packets captured"), "{seen}");
    }
}

#[test]
fn checksums_computed_in_software_are_correct() {
    let ways = Ways::new();
    for name in ["server", "client"] {
        ways.lab.host(Ways::command(name, &["ethtool", "-K", "eth0", "tx", "off"])).ok();
    }
    let capture = ways.capture("20", &["tcp", "and", "greater", "1000"]);
    ways.tcp(NETBPF);
    let seen = capture.output().ok();
    assert_eq!(seen.stdout.matches("(correct)").count(), 20, "{seen}");
    let capture = ways.capture("20", &["udp", "and", "greater", "1000"]);
    let end = ways.transfer(NETBPF, "-u -b 20M -l 1400 -t 1");
    assert_eq!(end["sum"]["lost_packets"], 0, "{end}");
    let seen = capture.output().ok();
    assert_eq!(seen.stdout.matches("[udp sum ok]").count(), 20, "{seen}");
}

#[test]
fn fragments_pass() {
    let ways = Ways::new();
    let capture = ways.capture("6", &["icmp"]);
    let words = ["ping", "-c", "3", "-i", "0.1", "-s", "8000", NETBPF.0];
    let ping = ways.lab.host(Ways::command("client", &words)).ok();
    assert!(ping.stdout.contains("3 received, 0% packet loss"), "{ping}");
    let seen = capture.output().ok();
    assert!(seen.stdout.contains("flags [+]"), "{seen}");
}
