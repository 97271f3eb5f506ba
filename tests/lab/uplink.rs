//! XDP at uplinks: with and without it, other hosts reach the same ports, and drops are counted in the same way.

use netbpf_tests::lab::{Lab, eventually};
use serde_json::Value;

use super::{
    outside::{Neighbourhood, ask, run_server},
    pins::pin,
};

/// The XDP program at an interface of the host: its name, ID and mode.
#[track_caller]
fn program_at(lab: &Lab, interface: &str) -> Option<(String, u64, &'static str)> {
    let shown = lab.host(["ip", "-j", "-d", "link", "show", interface]).ok().json();
    let xdp = &shown[0]["xdp"];
    let mode = if xdp["mode"].as_u64()? == 1 { "native" } else { "generic" };
    Some((xdp["prog"]["name"].as_str()?.to_owned(), xdp["prog"]["id"].as_u64()?, mode))
}

#[track_caller]
pub fn mode_at(lab: &Lab, interface: &str) -> Option<&'static str> {
    program_at(lab, interface).map(|(name, _, mode)| {
        assert_eq!(name, "from_uplink");
        mode
    })
}

/// The uplinks in `info`, by name.
#[track_caller]
fn standing(lab: &Lab) -> Vec<String> {
    let info = lab.netbpf(["info"]).ok();
    info.stdout.lines().filter(|line| line.starts_with("Uplink ")).map(str::to_owned).collect()
}

/// Restarts the daemon with other uplinks.
#[track_caller]
pub fn restart_with(lab: &Lab, uplinks: &str) {
    lab.stop_daemon();
    lab.tell_daemons(uplinks);
    lab.start_daemon();
}

/// The packets in a counter of the packet filter.
#[track_caller]
fn filtered(lab: &Lab, counter: &str) -> u64 {
    let counter = lab.host(["nft", "-j", "list", "counter", "inet", "netbpf", counter]).ok().json();
    counter["nftables"][1]["counter"]["packets"].as_u64().expect("a number of packets")
}

/// A neighbourhood with a container in a network of each kind; `web` has both families and a published port.
pub fn networks_of_each_kind() -> Neighbourhood {
    let lab = Neighbourhood::start();
    lab.network("nat", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    let server = ["socat", "TCP6-LISTEN:80,fork,ipv6only=0", "SYSTEM:echo reached"];
    let web = ["run", "-d", "--name", "web", "--net", "nat", "-p", "8080:80", "--"];
    lab.netbpf(web.into_iter().chain(server)).ok();
    let mode = |mode| format!("-o com.docker.network.bridge.gateway_mode_ipv4={mode}");
    lab.network("open", &format!("--subnet 10.2.0.0/24 {}", mode("nat-unprotected")));
    lab.network("routed", &format!("--subnet 10.3.0.0/24 {}", mode("routed")));
    lab.network("kept", "--subnet 10.4.0.0/24 -o com.docker.network.bridge.enable_ip_masquerade=false");
    lab.network(
        "trusting",
        "--subnet 10.5.0.0/24 -o com.docker.network.bridge.trusted_host_interfaces=uplink",
    );
    lab.network("inner", "--subnet 10.6.0.0/24 --internal");
    for name in ["open", "routed"] {
        run_server(&lab, name, name);
    }
    for name in ["kept", "inner"] {
        lab.run(name, &format!("--net {name}"));
    }
    let trusting = ["run", "-d", "--name", "trusting", "--net", "trusting", "-p", "8085:80", "--"];
    lab.netbpf(trusting.into_iter().chain(server)).ok();
    for name in ["web", "trusting"] {
        eventually("the server listens", || {
            lab.in_network_of(name, "ss -Hltn").ok().stdout.contains(":80 ").then_some(())
        });
    }
    lab
}

/// Checks which ports other hosts reach, and that drops are counted.
#[track_caller]
pub fn reaches_what_it_may(lab: &Neighbourhood) {
    let before = lab.reasons();
    for (address, answers) in [
        ("10.1.0.2", false),
        ("fd00:1::2", false),
        ("10.2.0.2", true),
        ("10.3.0.2", true),
        ("10.6.0.2", false),
    ] {
        let ping = lab.on("far", &format!("ping -c1 -W1 {address}"));
        assert_eq!(ping.status.success(), answers, "{address}: {ping:?}");
    }
    let expected = [("internal".to_owned(), 1), ("unpublished".to_owned(), 2)];
    assert_eq!(lab.drops_since(&before), expected.into());
    for (server, answers) in [
        ("192.0.2.1:8080", true),
        ("[2001:db8:1::1]:8080", true),
        ("10.1.0.1:8080", true),
        ("10.2.0.2:80", true),
        ("10.5.0.2:80", true),
        ("10.1.0.2:80", false),
    ] {
        if answers {
            // An emulated machine may take longer than a client waits.
            eventually(server, || lab.on("far", &ask(server)).stdout.starts_with("reached").then_some(()));
        } else {
            assert_eq!(lab.on("far", &ask(server)).text(), "", "{server}");
        }
    }
    for name in ["web", "open", "routed", "kept", "trusting"] {
        lab.exec(name, "ping -c1 -W2 192.0.2.2").ok();
    }
    lab.exec("web", "ping -6 -c1 -W2 2001:db8:1::2").ok();
}

#[test]
fn xdp_at_an_uplink_changes_only_the_cost() {
    let lab = networks_of_each_kind();
    assert_eq!(mode_at(&lab, "uplink"), None);
    reaches_what_it_may(&lab);
    assert!(filtered(&lab, "unpublished") > 0 && filtered(&lab, "internal") > 0);
    for (uplinks, mode) in [("--xdp uplink", "native"), ("--xdp uplink=generic", "generic")] {
        restart_with(&lab, uplinks);
        assert_eq!(mode_at(&lab, "uplink"), Some(mode), "{}", lab.daemon_log());
        reaches_what_it_may(&lab);
        // The table's counters start at zero with each daemon: no packet got that far.
        assert_eq!((filtered(&lab, "unpublished"), filtered(&lab, "internal")), (0, 0), "{mode}");
    }
    // The other uplink has no program; there the packet filter drops.
    let before = lab.reasons();
    assert!(!lab.on("side", "ping -c1 -W1 10.1.0.2").status.success());
    assert_eq!(lab.drops_since(&before), [("unpublished".to_owned(), 1)].into());
    assert_eq!(filtered(&lab, "unpublished"), 1);
    restart_with(&lab, "");
    eventually("the program is gone", || mode_at(&lab, "uplink").is_none().then_some(()));
    reaches_what_it_may(&lab);
}

#[test]
fn unpublished_traffic_is_dropped_even_without_the_daemon() {
    let lab = Neighbourhood::start();
    restart_with(&lab, "--xdp uplink");
    lab.run("web", "");
    let (_, first, _) = program_at(&lab, "uplink").expect("a program");
    let before = lab.reasons();
    lab.kill_daemon();
    lab.host(["nft", "flush", "ruleset"]).ok();
    assert!(!lab.on("far", "ping -c1 -W1 172.17.0.2").status.success());
    lab.start_daemon();
    assert_eq!(lab.drops_since(&before), [("unpublished".to_owned(), 1)].into());
    // The next daemon has replaced the program by its own.
    let (name, second, mode) = program_at(&lab, "uplink").expect("a program");
    assert_eq!((name.as_str(), mode), ("from_uplink", "native"));
    assert_ne!(first, second);
    assert!(!lab.on("far", "ping -c1 -W1 172.17.0.2").status.success());
    lab.exec("web", "ping -c1 -W2 192.0.2.2").ok();
    // Stopping the daemon keeps the program while there are containers, and removes it otherwise.
    lab.stop_daemon();
    assert_eq!(mode_at(&lab, "uplink"), Some("native"));
    lab.start_daemon();
    lab.netbpf(["rm", "-f", "web"]).ok();
    lab.stop_daemon();
    eventually("the program is gone", || mode_at(&lab, "uplink").is_none().then_some(()));
}

#[test]
fn the_program_follows_created_and_removed_networks() {
    let lab = Neighbourhood::start();
    restart_with(&lab, "--xdp uplink");
    let closed = || {
        let map = &pin("maps/CLOSED_SUBNETS");
        let dump = lab.host(["bpftool", "map", "dump", "pinned", map]).ok().json();
        let lengths = |entry: &Value| entry["key"]["prefix_len"].as_u64().expect("a length");
        let mut lengths: Vec<_> = dump.as_array().expect("entries").iter().map(lengths).collect();
        lengths.sort_unstable();
        lengths
    };
    assert_eq!(closed(), [96 + 16]);
    lab.network("six", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.network("routed", "--subnet 10.2.0.0/24 -o com.docker.network.bridge.gateway_mode_ipv4=routed");
    assert_eq!(closed(), [64, 96 + 16, 96 + 24]);
    lab.restart_daemon();
    assert_eq!(closed(), [64, 96 + 16, 96 + 24]);
    lab.netbpf(["network", "rm", "six"]).ok();
    assert_eq!(closed(), [96 + 16]);
    lab.netbpf(["network", "create", "--subnet", "10.1.0.0/16", "--subnet", "10.1.0.0/16", "twice"])
        .fails_with(1, "");
    assert_eq!(closed(), [96 + 16]);
}

#[test]
fn an_uplink_that_is_created_again_gets_its_program_again() {
    let lab = Lab::without_daemon();
    lab.tell_daemons("--xdp way.5 --xdp lo");
    lab.start_daemon();
    for said in [
        "uplink way.5 is not there: it gets its XDP program when it comes; or leave out --xdp way.5",
        "uplink lo is not an Ethernet interface; leave out --xdp lo",
    ] {
        assert!(lab.daemon_log().contains(said), "{said}: {}", lab.daemon_log());
    }
    assert_eq!(standing(&lab), ["Uplink lo: not attached", "Uplink way.5: not attached"]);
    for _ in 0..2 {
        lab.host(["ip", "link", "add", "way.5", "type", "veth", "peer", "name", "far"]).ok();
        eventually("it has its program", || (mode_at(&lab, "way.5") == Some("native")).then_some(()));
        eventually("that is known", || (standing(&lab)[1] == "Uplink way.5: native").then_some(()));
        lab.host(["ip", "link", "del", "way.5"]).ok();
        eventually("it is missed", || (standing(&lab)[1] == "Uplink way.5: not attached").then_some(()));
    }
    // Another interface gets the name.
    lab.host(["ip", "link", "add", "way.5", "type", "veth", "peer", "name", "far"]).ok();
    eventually("it has its program", || (mode_at(&lab, "way.5") == Some("native")).then_some(()));
    lab.host(["ip", "link", "set", "way.5", "name", "old"]).ok();
    eventually("that is known", || mode_at(&lab, "old").is_none().then_some(()));
    lab.host(["ip", "link", "set", "far", "name", "way.5"]).ok();
    eventually("the other has it", || (mode_at(&lab, "way.5") == Some("native")).then_some(()));
    lab.host(["ip", "link", "del", "way.5"]).ok();
    lab.stop_daemon();
    lab.tell_daemons("");
    lab.start_daemon();
    assert_eq!(lab.netbpf(["info", "--format", "{{json .Uplinks}}"]).ok().text(), "[]");
}

#[test]
fn an_uplink_without_xdp_support_is_reported_with_a_remedy() {
    let lab = Lab::without_daemon();
    // A page cannot hold a frame of this size and the driver's headroom for XDP.
    let pairs =
        "ip link add big type veth peer name far mtu 9000; ip link add taken type veth peer name other";
    lab.host(["sh", "-ec", pairs]).ok();
    lab.tell_daemons("--xdp big");
    lab.start_daemon();
    let refused = ["the driver of uplink big refuses native XDP", "or start with --xdp big=generic"];
    let log = lab.daemon_log();
    assert!(log.contains("ERROR") && refused.iter().all(|said| log.contains(said)), "{log}");
    let doctor = lab.netbpf(["doctor"]).fails_with(1, "");
    let line = doctor.stdout.lines().find(|line| line.starts_with("missing  xdp  ")).unwrap_or_default();
    assert!(refused.iter().all(|said| line.contains(said)), "{doctor}");
    restart_with(&lab, "--xdp big=generic --xdp taken");
    assert_eq!((mode_at(&lab, "big"), mode_at(&lab, "taken")), (Some("generic"), Some("native")));
    assert_eq!(standing(&lab), ["Uplink big: generic", "Uplink taken: native"]);
    // Somebody else's program stays.
    let pin = &pin("programs/from_uplink");
    restart_with(&lab, "--xdp big=generic");
    eventually("the program is gone", || mode_at(&lab, "taken").is_none().then_some(()));
    lab.host(["bpftool", "net", "attach", "xdpdrv", "pinned", pin, "dev", "taken"]).ok();
    let others = program_at(&lab, "taken");
    restart_with(&lab, "--xdp taken");
    let said = "uplink taken has another XDP program; take that off";
    assert!(lab.daemon_log().contains(said), "{}", lab.daemon_log());
    assert_eq!(program_at(&lab, "taken"), others);
    lab.host(["sh", "-ec", "ip link del big; ip link del taken"]).ok();
    restart_with(&lab, "");
}

#[test]
fn the_xdp_option_has_an_interface_and_a_mode() {
    let lab = Lab::start();
    lab.netbpf(["daemon", "--xdp", "eth0=offload"]).fails_with(1, "eth0=native or eth0=generic");
}
