//! bpftool as a user interface: maps read like tables, and programs and their attachments have names.

use std::{
    thread,
    time::{Duration, Instant},
};

use netbpf_common::reason::Reason;
use netbpf_tests::lab::{
    Lab, Output, STATE_DIR, eventually,
    station::{ethernet, ipv4},
};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::pins::pin;

/// The first version of bpftool that shows tcx attachments.
const KNOWS_TCX: (u32, u32) = (7, 3);

/// A container `web` that has pinged its gateway.
fn furnish(lab: &Lab) {
    lab.netbpf(["network", "create", "--subnet", "10.0.0.0/24", "mynet"]).ok();
    lab.netbpf(["run", "-d", "--name", "web", "--net", "mynet", "--", "sleep", "infinity"]).ok();
    lab.netbpf(["exec", "web", "ping", "-c1", "-W2", "10.0.0.1"]).ok();
}

fn dump(lab: &Lab, map: &str) -> Output {
    let dump = lab.host(["bpftool", "map", "dump", "pinned", &pin(&format!("maps/{map}"))]).ok();
    assert_eq!(dump.stderr, "", "{map}");
    dump
}

#[test]
fn maps_have_named_fields() {
    let lab = Lab::start();
    furnish(&lab);
    let pinned = lab.host(["ls", &pin("maps")]).ok();
    assert_eq!(
        pinned.text(),
        "ALLOWED\nBUSY_FLOWS\nCLOSED_SUBNETS\nDROPPING\nDROPS\nDROP_TICKS\nENDPOINTS\nENDPOINT_STATS\nFDB\nFDB_SLOTS\nFLOODS\nFLOWS\nFLOW_STATE\nFLOW_WAYS\nFURTHER\nLEARNING\nLEARNT\nLEARNT_OF\nLIMITS\nNAMES\nNEIGHBOURS\nNETWORKS\nNOTICED\nNOTICES\nOWNED\nPOINTERS\nREASONS\nRESOLVERS\nSENDERS\nTAIL_CALLS\nUPLINKS\nVIEWS"
    );
    let fdb = dump(&lab, "FDB").json();
    let web = serde_json::json!({
        "key": { "network": 1, "mac": [2, 66, 10, 0, 0, 2], "reserved": [0, 0] },
        "value": { "ifindex": 1_000_000, "access": 0, "reserved": [0, 0, 0] }
    });
    assert!(fdb.as_array().is_some_and(|entries| entries.contains(&web)), "{fdb}");
    let neighbours = dump(&lab, "NEIGHBOURS").json();
    let web = serde_json::json!({
        "key": { "network": 1, "address": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 2] },
        "value": { "mac": [2, 66, 10, 0, 0, 2], "reserved": [0, 0] }
    });
    assert!(neighbours.as_array().is_some_and(|entries| entries.contains(&web)), "{neighbours}");
    let owned = &dump(&lab, "OWNED").json()[0];
    assert_eq!(
        owned["key"]["address"],
        serde_json::json!([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 2])
    );
    assert_eq!(owned["value"]["endpoint"], 0);
    let network = &dump(&lab, "NETWORKS").json()[1]["value"];
    assert_eq!(network["ifindex"], 1_100_001);
    assert_eq!(network["gateway"], serde_json::json!([10, 0, 0, 1]));
    let reasons = &dump(&lab, "REASONS").json()[0]["values"];
    let delivered: u64 = reasons
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|values| values["value"]["delivered"]["packets"].as_u64())
        .sum();
    assert!(delivered > 0, "{reasons}");
    // These two have long entries.
    for (map, fields) in [
        ("ENDPOINTS", &["ifindex", "network", "next", "mac", "ipv4", "ipv6", "ipv6_link_local"][..]),
        ("ENDPOINT_STATS", &["from_members", "from_host", "to_host", "dropped", "packets", "bytes"]),
    ] {
        let text = dump(&lab, map).stdout;
        for field in fields {
            assert!(text.contains(&format!("\"{field}\": ")), "{map}: {field}");
        }
    }
    // Of the programs that others continue in, those for open endpoints and for names are not needed here: there are
    // those for the long way, floods and drops.
    assert_eq!(dump(&lab, "TAIL_CALLS").json().as_array().map(Vec::len), Some(3));
    let web = lab.station("web", "eth0");
    let host = lab.host_station(&lab.device("mynet"));
    web.send(&ethernet(host.mac(), web.mac(), 0x0800, &ipv4([10, 9, 9, 9], [10, 0, 0, 1], b"spoofed")));
    let drops = eventually("the frame is dropped", || {
        let drops = dump(&lab, "DROPS").json();
        drops.as_array().is_some_and(|drops| !drops.is_empty()).then_some(drops)
    });
    let drops = drops.as_array().into_iter().flatten();
    let spoofed = drops.filter(|entry| entry["key"]["reason"] == Reason::SpoofedIpv4 as u32);
    let spoofed: Vec<_> = spoofed.collect();
    assert_eq!(spoofed.len(), 1, "{spoofed:?}");
    assert_eq!(spoofed[0]["key"]["ifindex"], 1_000_000);
    assert_eq!(spoofed[0]["value"]["frames"], 1);
    assert_eq!(spoofed[0]["value"]["last"]["source"][15], 9);
}

#[test]
fn programs_and_attachments_have_names() {
    let lab = Lab::start();
    furnish(&lab);
    let programs = lab.host(["bpftool", "-j", "prog"]).ok().json();
    let name = |id: &Value| {
        let program = programs.as_array().into_iter().flatten().find(|program| program["id"] == *id);
        program.map(|program| program["name"].as_str().unwrap_or_default().to_owned())
    };
    for program in ["flood", "from_container", "from_host", "long_way", "remember"] {
        let pin = pin(&format!("programs/{program}"));
        let shown = lab.host(["bpftool", "-j", "prog", "show", "pinned", &pin]).ok().json();
        assert_eq!((&shown["name"], &shown["type"]), (&program.into(), &"sched_cls".into()));
    }
    let version = lab.host(["bpftool", "version"]).ok();
    let mut numbers = version.stdout.split(['v', '.', '\n']).filter_map(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let attachment = lab.netbpf(["info", "--format", "{{.Attachment}}"]).ok().text().to_owned();
    if attachment == "tcx" {
        for (link, program) in [("netbpf0", "from_host"), (&port_of(&lab), "from_container")] {
            let pin = pin(&format!("links/{link}"));
            let shown = lab.host(["bpftool", "-j", "link", "show", "pinned", &pin]).ok().json();
            assert_eq!(name(&shown["prog_id"]).as_deref(), Some(program), "{shown}");
        }
    }
    let net = lab.host(["bpftool", "net"]).ok();
    if attachment != "tcx" || version >= KNOWS_TCX {
        for (link, program) in [("netbpf0", "from_host"), (&port_of(&lab), "from_container")] {
            let is_shown = |line: &str| line.starts_with(&format!("{link}(")) && line.contains(program);
            assert!(net.stdout.lines().any(is_shown), "{link} {program}: {net}");
        }
    }
}

/// The host side of the only endpoint.
fn port_of(lab: &Lab) -> String {
    let links = lab.host(["ip", "-br", "link"]).ok();
    let name = links.stdout.lines().find_map(|line| line.strip_prefix("veth")?.split(['@', ' ']).next());
    format!("veth{}", name.expect("an endpoint"))
}

#[test]
fn programs_log_frames_on_request() {
    let lab = Lab::without_daemon();
    let daemon = lab.spawn_netbpf(["daemon", "--state-dir", STATE_DIR, "--program-logs"]);
    let give_up = Instant::now() + Duration::from_secs(20);
    while !lab.netbpf(["version"]).status.success() {
        assert!(Instant::now() < give_up, "the daemon answers");
        thread::sleep(Duration::from_millis(20));
    }
    furnish(&lab);
    lab.netbpf(["rm", "-f", "web"]).ok();
    lab.netbpf(["network", "rm", "mynet"]).ok();
    daemon.signal(Signal::SIGTERM);
    let log = daemon.output().ok().stderr;
    for line in [
        "98 bytes at 1000000: delivered",
        "42 bytes at 1000000: answered-arp",
        "98 bytes at 1100001: forwarded",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    std::fs::remove_dir_all(lab.path(STATE_DIR)).expect("the state directory");
    // Without the option the programs log nothing.
    lab.start_daemon();
    furnish(&lab);
    assert!(!lab.daemon_log().contains(" bytes at "), "{}", lab.daemon_log());
}
