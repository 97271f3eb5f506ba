//! What was dropped is told afterwards: from whom, to whom, why, and what would help.

use netbpf_tests::lab::{
    Lab, eventually,
    station::{ethernet, ipv4},
};
use serde_json::Value;

use super::{
    outside::ask,
    uplink::{networks_of_each_kind, restart_with},
};

/// The lines of `drops --format json`.
#[track_caller]
fn drops(lab: &Lab, options: &[&str]) -> Vec<Value> {
    let printed = lab.netbpf(["drops", "--format", "json"].iter().chain(options)).ok().stdout;
    printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The only kind of drops with a reason.
#[track_caller]
fn the_one(lab: &Lab, reason: &str) -> Value {
    let mut all = drops(lab, &[]);
    all.retain(|dropped| dropped["Reason"] == reason && dropped["Source"] != Value::Null);
    assert_eq!(all.len(), 1, "{reason}: {all:?}");
    all.remove(0)
}

/// `web (mynet) → 10.1.0.3: WHY`.
fn told(dropped: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let party = |party: &Value| match party["Kind"].as_str() {
        Some("container") => format!("{} ({})", text(&party["Name"]), text(&party["Network"])),
        Some("host") => "host".to_owned(),
        _ => text(&party["Address"]),
    };
    let (from, to) = (party(&dropped["Source"]), party(&dropped["Destination"]));
    format!("{from} → {to}, {}: {}", text(&dropped["Protocol"]), text(&dropped["Why"]))
}

#[test]
fn nothing_was_dropped() {
    let lab = Lab::start();
    lab.network("quiet", "--subnet 10.1.0.0/24");
    lab.run("one", "--net quiet");
    lab.run("two", "--net quiet");
    lab.exec("one", "ping -c1 10.1.0.3").ok();
    let printed = lab.netbpf(["drops"]).ok();
    // An interface that has just come up may announce itself to nobody.
    if lab.drops_since(&Default::default()).is_empty() {
        assert_eq!(printed.text(), "Nothing was dropped since netbpf's programs were loaded.");
        assert_eq!(drops(&lab, &[]), Vec::<Value>::new());
    }
    assert_eq!(lab.netbpf(["drops", "one"]).ok().text(), "Nothing of this is remembered as dropped.");
    lab.netbpf(["drops", "nobody"]).fails_with(1, "No such container: nobody");
}

#[test]
fn a_packet_to_another_network_is_told_with_the_command_that_helps() {
    let lab = Lab::start();
    lab.network("red", "--subnet 10.1.0.0/24");
    lab.netbpf(["network", "create", "--subnet", "10.2.0.0/24", "the 'blue' one"]).ok();
    lab.run("one", "--net red");
    lab.netbpf(["run", "-d", "--name", "two", "--net", "the 'blue' one", "--", "sleep", "infinity"]).ok();
    // The packet filter drops such packets before the programs do, and only counts them.
    assert!(!lab.exec("one", "ping -c1 -W1 10.2.0.2").status.success());
    let filtered = drops(&lab, &[]);
    assert!(filtered.iter().any(|dropped| dropped["By"] == "packet filter"), "{filtered:?}");
    // Without it, and without the daemon, the programs do, and remember more.
    let pid = lab.pid("one").to_string();
    lab.kill_daemon();
    lab.host(["nft", "delete", "table", "inet", "netbpf"]).ok();
    let ping = ["nsenter", "-t", &pid, "-n", "ping", "-c2", "-i0.2", "-W1", "10.2.0.2"];
    assert!(!lab.host(ping).status.success());
    lab.start_daemon();
    let isolated = the_one(&lab, "isolated");
    assert_eq!((&isolated["Frames"], &isolated["Network"]), (&2.into(), &"the 'blue' one".into()));
    assert_eq!(
        told(&isolated),
        "one (red) → two (the 'blue' one), icmp: red and the 'blue' one are apart: \
         netbpf connect \"the 'blue' one\" one, or use a published port"
    );
    // The command helps.
    lab.netbpf(["connect", "the 'blue' one", "one"]).ok();
    lab.exec("one", "ping -c1 -W1 10.2.0.2").ok();
    // It is remembered, also of a container that is gone.
    assert_eq!(drops(&lab, &["two"]).len(), 1);
    lab.netbpf(["rm", "-f", "one"]).ok();
    assert_eq!(the_one(&lab, "isolated")["Source"]["Address"], "10.1.0.2");
    // A table, which shows a long time as a short one.
    let table = lab.netbpf(["drops", "two"]).ok().stdout;
    let line = table.lines().last().expect("a line");
    assert!(line.contains("two") && line.contains("isolated") && line.contains("are apart"), "{table}");
}

#[test]
fn false_senders_and_what_members_may_not_do_are_told() {
    let lab = Lab::start();
    lab.network("apart", "--subnet 10.1.0.0/24 -o com.docker.network.bridge.enable_icc=false");
    lab.run("one", "--net apart");
    lab.run("two", "--net apart");
    assert!(!lab.exec("one", "ping -c1 -W1 10.1.0.3").status.success());
    assert_eq!(
        told(&the_one(&lab, "no-icc")),
        "one (apart) → two (apart), icmp: members of apart may not talk to each other (enable_icc=false): \
         use --link, or a published port of two"
    );
    let one = lab.station("one", "eth0");
    let host = lab.host_station(&lab.device("apart"));
    let spoofed = ethernet(host.mac(), one.mac(), 0x0800, &ipv4([10, 9, 9, 9], [10, 1, 0, 1], b"spoofed"));
    for _ in 0..3 {
        one.send(&spoofed);
    }
    let spoofed = eventually("all three are remembered", || {
        let found = the_one(&lab, "spoofed-ipv4");
        (found["Frames"] == 3).then_some(found)
    });
    assert!(
        told(&spoofed).ends_with(
            ": not one's address (10.1.0.2): \
             netbpf update --network apart --driver-opt netbpf.addresses=…,10.9.9.9 one allows it"
        ),
        "{}",
        told(&spoofed)
    );
    assert_eq!(
        (&spoofed["Source"]["Name"], &spoofed["Destination"]["Kind"]),
        (&"one".into(), &"host".into())
    );
    let before = lab.host(["date", "+%s.%N"]).ok();
    assert!(!lab.exec("one", "ping -c1 -W1 10.1.0.77").status.success());
    let unknown = the_one(&lab, "unknown-address");
    assert!(told(&unknown).contains("nobody in apart has 10.1.0.77"), "{}", told(&unknown));
    assert_eq!(unknown["Protocol"], "arp");
    // The command that was named is one.
    lab.netbpf(["update", "--network", "apart", "--driver-opt", "netbpf.addresses=10.9.9.9", "one"]).ok();
    // By time, and the last ones only.
    let since = drops(&lab, &["--since", before.text()]);
    assert!(since.iter().any(|dropped| dropped["Reason"] == "unknown-address"), "{since:?}");
    assert!(!since.iter().any(|dropped| dropped["Reason"] == "spoofed-ipv4"), "{since:?}");
    assert_eq!(drops(&lab, &["-n", "1"]).len(), 1);
    assert_eq!(drops(&lab, &["-n", "0"]).len(), 0);
    assert!(drops(&lab, &["two"]).iter().all(|dropped| dropped["Destination"]["Name"] == "two"));
}

#[test]
fn drops_of_the_packet_filter_and_of_an_uplink_are_told() {
    let lab = networks_of_each_kind();
    assert!(!lab.on("far", &ask("10.1.0.2:80")).status.success());
    let filtered = drops(&lab, &[]);
    let filtered = filtered.iter().find(|dropped| dropped["By"] == "packet filter").expect("counted");
    assert_eq!((&filtered["Reason"], &filtered["Time"]), (&"unpublished".into(), &Value::Null));
    let table = lab.netbpf(["drops"]).ok().stdout;
    assert!(table.lines().any(|line| line.starts_with("-         packet filter ")), "{table}");
    assert!(drops(&lab, &["web"]).iter().all(|dropped| dropped["By"] == "programs"), "nobody knows whose");

    restart_with(&lab, "--xdp uplink");
    assert!(!lab.on("far", &ask("10.1.0.2:80")).status.success());
    let dropped = the_one(&lab, "unpublished");
    assert_eq!(
        told(&dropped),
        "192.0.2.2 → web (nat), tcp: other hosts and networks may not reach web directly: \
         publish the port (-p) and use an address of this host, or connect the sender to nat"
    );
    assert_eq!((&dropped["Interface"], &dropped["Destination"]["Port"]), (&"uplink".into(), &80.into()));
}
