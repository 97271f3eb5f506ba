//! The same commands once with `-d bridge` and once with `-d netbpf`: users must see the same. The steps are in
//! [`steps`], permitted differences in [`texts`]; this file runs and compares.

mod steps;
mod texts;

use std::{fmt::Write, thread};

use netbpf_tests::lab::{Lab, Process, eventually};

use crate::engine::{Engine, NAME_SERVER, netbpf, search_path};
use steps::{STEPS, Step, WORDS};

/// Another host, `far`, at 192.0.2.2 behind the host's `uplink`. It has routes to all containers.
const NEIGHBOUR: &str = "
    ip netns add far
    ip link add uplink type veth peer name eth0 netns far
    sysctl -qw net.ipv6.conf.uplink.accept_dad=0
    ip netns exec far sysctl -qw net.ipv6.conf.eth0.accept_dad=0
    ip addr add 192.0.2.1/24 dev uplink; ip addr add 2001:db8:1::1/64 dev uplink; ip link set uplink up
    ip -n far addr add 192.0.2.2/24 dev eth0; ip -n far addr add 2001:db8:1::2/64 dev eth0
    ip -n far link set eth0 up; ip -n far link set lo up
    ip route add default via 192.0.2.2; ip -n far route add default via 192.0.2.1
    ip -6 route add default via 2001:db8:1::2; ip -n far -6 route add default via 2001:db8:1::1
    echo nameserver 192.0.2.2 > /run/resolv.conf
    busybox mount -o bind /run/resolv.conf /etc/resolv.conf
";

const NO_NEIGHBOUR: &str = "
    busybox umount /etc/resolv.conf; rm /run/resolv.conf; ip netns del far; ip route flush root 0/0 || true
";

/// The result of a step.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Seen {
    fn text(&self) -> String {
        let Self { code, stdout, stderr } = self;
        let code = code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        format!("{stdout}{stderr}exit code {code}\n")
    }
}

/// Runs all steps on a new host with netbpf, an engine and a neighbour. Returns the engine's major version, too.
fn play(driver: &str) -> (u32, Vec<Seen>) {
    let lab = Lab::without_daemon();
    // If netbpf turned forwarding on, it would forward for its own networks only. Docker's bridge, as it is without
    // netbpf, needs a host that forwards by itself.
    lab.host(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]).ok();
    lab.start_daemon();
    lab.host(["sh", "-ec", NEIGHBOUR]).ok();
    let engine = Engine::start(&lab);
    let name_server: Process =
        lab.spawn(["ip", "netns", "exec", "far", "python3", "-c", NAME_SERVER, "192.0.2.2"]);
    eventually("a name server", || {
        let known = lab.host(["dig", "+short", "+tries=1", "+time=1", "known.example"]);
        (known.text() == "203.0.113.9").then_some(())
    });
    let port = match driver {
        "netbpf" => format!("{} port", netbpf()),
        _ => "docker port".to_owned(),
    };
    let words = format!("DRIVER={driver}; port='{port}'; PATH={}\n{WORDS}", search_path());
    let version = engine.version();
    let seen = STEPS.iter().map(|step| see(&lab, &words, step, version)).collect();
    drop(engine);
    drop(name_server);
    lab.host(["sh", "-c", NO_NEIGHBOUR]).ok();
    (version, seen)
}

fn see(lab: &Lab, words: &str, step: &Step, version: u32) -> Seen {
    let output = lab.host(["sh", "-c", &format!("{words}\n{}", step.command)]);
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| texts::normal(text, version));
    Seen { code: output.status.code(), stdout, stderr }
}

#[test]
fn users_see_the_same_with_the_bridge_driver_and_with_netbpf() {
    let [(version, bridge), (_, netbpf)] = thread::scope(|scope| {
        ["bridge", "netbpf"]
            .map(|driver| scope.spawn(move || play(driver)))
            .map(|play| play.join().expect("a play without a failure of its own"))
    });
    let mut wrong = String::new();
    for ((step, bridge), netbpf) in STEPS.iter().zip(&bridge).zip(&netbpf) {
        let Step { says, command, .. } = step;
        let (code, differs) = step.expected(version);
        let as_said = match differs {
            None => bridge == netbpf,
            // If a difference has disappeared, its reason must be removed.
            Some(_) => bridge != netbpf,
        };
        let worked = bridge.code == Some(code);
        if !as_said || !worked {
            let expected = differs.unwrap_or("no difference");
            let _ = write!(
                wrong,
                "\n{says}\n$ {command}\nexpected: exit code {code}, {expected}\n-- bridge\n{}-- netbpf\n{}",
                bridge.text(),
                netbpf.text()
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
