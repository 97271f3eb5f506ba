//! What can differ by kernel. `cargo xtask test` runs this module, and no other module of the lab, on every kernel that it
//! boots. A daemon's start takes seconds on these emulated machines, so each test here runs the tests of several modules
//! on one host.
//!
//! | what differs by kernel | tested by |
//! |---|---|
//! | the verifier and BTF | a daemon with program logs, and one without |
//! | tcx or clsact, and how a program replaces another | a daemon that starts after another was killed |
//! | changes of links that are up, and the events that report changes | a renamed device, a detached program |
//! | the path of a frame through veth: `bpf_redirect_peer`, offloads, BIG TCP, VLAN tags in the frame or outside it | the story, isolation, spoofing, open endpoints |
//! | hashes that programs write, timestamps, neighbour entries that announcements change | open endpoints |
//! | macvlan, bridges and tunnels in containers, IPv6 autoconfiguration, routes with two next hops, transparent sockets, XDP in a container | setups of a kernel bridge |
//! | filters of `lo` and their classes, what a program may change there | names answered in the kernel |
//! | namespaces, mounts, seccomp, inherited sockets | containers, the name responder, the relay |
//! | nf_tables, conntrack and NAT of both families | published ports, masquerading, limits of flows, removal of flows |
//! | the helpers of established flows: routes, neighbours, MTU, checksums of partial and whole packets | established flows |
//! | running a program on a frame that nobody sends, and what the kernel tells of routes | explanations |
//! | XDP in the driver and in the stack, and its links | uplinks |
//!
//! The other modules test netbpf's own logic: what commands print, which addresses are given, what is stored, what Docker
//! is answered. They use no other kernel interfaces than these, so they run on this machine's kernel only.

mod one_by_one;

use std::io::Write;

use aya::programs::ProgramInfo;
use netbpf_tests::lab::{Lab, eventually, kernel_version};

use super::{
    bridge, explain, fast_flows, flows, hands, isolation, limits, lo, names,
    outside::{self, Neighbourhood, ask},
    pins::pin,
    spoofing, story, uplink,
};

/// The first Linux version with tcx.
const TCX: [u32; 2] = [6, 6];

#[test]
fn programs_are_verified_attached_and_replaced() {
    let lab = Lab::without_daemon();
    lab.host(["ip", "link", "add", "dev", "up", "type", "veth", "peer", "name", "down"]).ok();
    lab.tell_daemons("--program-logs --xdp up=generic");
    lab.start_daemon();
    assert_eq!(lab.netbpf(["info", "--format", "{{.Attachment}}"]).ok().text(), expected_attachment());
    lab.run("one", "");
    // Now all programs are needed.
    lab.run("open", "--driver-opt netbpf.guard=off");
    lab.network("named", "");
    lab.run("named", "--net named");
    let with_logs = verified_instructions(&lab);
    lab.host(["ping", "-c1", "-W2", "172.17.0.2"]).ok();
    eventually("the programs' log", || {
        lab.daemon_log().contains("98 bytes at 1100000: forwarded").then_some(())
    });

    // The next daemon finds the pins of a killed one, and replaces its programs by other ones.
    lab.kill_daemon();
    lab.host(["ping", "-c1", "-W2", "172.17.0.2"]).ok();
    lab.tell_daemons("--xdp up=generic");
    lab.start_daemon();
    let logged = lab.daemon_log().matches(" bytes at ").count();
    let without_logs = verified_instructions(&lab);
    lab.host(["ping", "-c1", "-W2", "172.17.0.2"]).ok();
    lab.exec("one", "ping -c1 -W2 172.17.0.1").ok();
    assert_eq!(lab.daemon_log().matches(" bytes at ").count(), logged, "{}", lab.daemon_log());

    lab.netbpf(["rm", "-f", "open", "named"]).ok();
    lab.host(["ip", "link", "del", "dev", "up"]).ok();
    hands::a_program_is_attached_again(&lab);
    hands::a_device_is_restored(&lab);
    // Not with println, whose output the test runner keeps: `cargo xtask test` has this line in its report.
    let told = match (without_logs, with_logs) {
        (Some(without), Some(with)) => format!("{without} instructions, {with} with logs"),
        _ => "- (known since Linux 5.16)".to_owned(),
    };
    writeln!(std::io::stdout(), "the verifier processed {told}").expect("standard output");
}

#[test]
fn containers_reach_their_networks_and_nothing_else() {
    let lab = Lab::start();
    story::the_default_network(&lab);
    story::a_network_of_ones_own(&lab);
    remove_all(&lab);
    // BIG TCP, if the kernel has it.
    story::bulk_arrives_unchanged(&lab, "-o netbpf.gso_max_size=262144");
    remove_all(&lab);
    isolation::networks_are_isolated(&lab);
    spoofing::spoofing_is_prevented(&lab);
    remove_all(&lab);
    bridge::members_receive_what_a_kernel_bridge_sends_them(&lab);
}

#[test]
fn other_hosts_reach_published_ports_and_nothing_else() {
    let lab = uplink::networks_of_each_kind();
    uplink::reaches_what_it_may(&lab);
    // Through the relay, because the container has no IPv6.
    relay_answers(&lab);
    for (uplinks, mode) in [("--xdp uplink", "native"), ("--xdp uplink=generic", "generic")] {
        uplink::restart_with(&lab, uplinks);
        assert_eq!(uplink::mode_at(&lab, "uplink"), Some(mode), "{}", lab.daemon_log());
        uplink::reaches_what_it_may(&lab);
    }
    uplink::restart_with(&lab, "");
    eventually("the program is detached", || uplink::mode_at(&lab, "uplink").is_none().then_some(()));
    outside::a_successor_hears_nothing(&lab);
    flows_are_limited(&lab);
    flows::flows_end_with_a_container(&lab, 3_000);
}

#[track_caller]
fn relay_answers(lab: &Neighbourhood) {
    eventually("the relay answers", || {
        lab.on("far", &ask("[2001:db8:1::1]:8085")).stdout.starts_with("reached").then_some(())
    });
}

#[test]
fn maps_are_replaced_by_larger_ones() {
    limits::maps_grow_and_shrink();
}

#[test]
fn names_are_answered_in_the_kernel() {
    lo::names_are_answered_at_lo(&names::with_mynet(Lab::start()));
}

#[test]
fn packets_are_explained() {
    explain::pings_are_explained(&Lab::start());
}

#[test]
fn established_flows_skip_the_stack() {
    if let Some(lab) = fast_flows::start() {
        fast_flows::they_carry_the_same_bytes(&lab);
    }
}

/// Each ping is a flow.
#[track_caller]
fn flows_are_limited(lab: &Lab) {
    lab.network("few", "--subnet 10.7.0.0/24 -o netbpf.max_flows=2");
    lab.run("greedy", "--net few");
    let before = lab.reasons();
    for number in 1..=3 {
        let ping = lab.exec("greedy", "ping -c1 -W1 10.7.0.1");
        assert_eq!(ping.status.success(), number <= 2, "flow {number}: {ping}");
    }
    assert_eq!(lab.drops_since(&before), [("flows".to_owned(), 1)].into());
}

/// Removes all containers and all user-defined networks.
fn remove_all(lab: &Lab) {
    let containers = lab.netbpf(["ps", "-aq"]).ok();
    if !containers.text().is_empty() {
        lab.netbpf(["rm", "-f"].into_iter().chain(containers.text().lines())).ok();
    }
    lab.netbpf(["network", "prune", "-f"]).ok();
}

/// The number of instructions of all loaded programs that the verifier processed; none before Linux 5.16.
fn verified_instructions(lab: &Lab) -> Option<u32> {
    let pinned = std::fs::read_dir(lab.path(pin("programs"))).expect("a folder of programs");
    pinned
        .map(|program| {
            let path = program.expect("a program").path();
            ProgramInfo::from_pin(path).expect("a program that is loaded").verified_instruction_count()
        })
        .sum()
}

fn expected_attachment() -> &'static str {
    if kernel_version() >= TCX { "tcx" } else { "clsact" }
}
