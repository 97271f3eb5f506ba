//! What must see each packet although flows may skip the stack, and that the doctor tells it.

use std::{
    io::{Read, Write},
    time::Duration,
};

use netbpf_tests::lab::{Lab, eventually};

use super::{Connection, SHORT, becomes_fast, is_slow, shortcuts, start};

#[test]
fn rules_of_others_are_obeyed_at_once() {
    let Some(lab) = start() else { return };
    lab.run("web", "-p 8080:80");
    let mut connection = Connection::published(&lab, "web");
    becomes_fast(&lab, || connection.talk());
    let rule = "add table ip foreign; add chain ip foreign f { type filter hook forward priority 0; }; \
                add rule ip foreign f ip saddr 192.0.2.2 counter drop";
    lab.host(["nft", rule]).ok();
    eventually("flows do not skip the rule", || {
        let doctor = lab.netbpf(["doctor"]).stdout;
        (doctor.contains("must see each packet: ip foreign f")).then_some(())
    });
    let before = shortcuts(&lab);
    connection.inside.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    connection.outside.write_all(b"late").expect("it is sent");
    assert!(connection.inside.read(&mut [0; 4]).is_err(), "the rule drops it");
    assert_eq!(shortcuts(&lab), before);
    lab.host(["nft", "delete table ip foreign"]).ok();
    connection.inside.set_read_timeout(Some(SHORT)).expect("a timeout");
    let mut late = [0; 4];
    connection.inside.read_exact(&mut late).expect("TCP sends it again");
    assert_eq!(&late, b"late");
    becomes_fast(&lab, || connection.talk());
    // So do rules of routing, programs at the uplink, and a table with netbpf's name.
    for (begin, end, word) in [
        ("ip rule add fwmark 7 lookup 100", "ip rule del fwmark 7 lookup 100", "ip rule"),
        ("tc qdisc add dev uplink clsact", "tc qdisc del dev uplink clsact", "at uplink"),
        (
            "nft 'add table ip netbpf; add chain ip netbpf f { type filter hook forward priority 0; }; \
             add rule ip netbpf f ip saddr 10.99.0.9 drop'",
            "nft delete table ip netbpf",
            "must see each packet: ip netbpf f",
        ),
        ("tc qdisc add dev netbpf0 root pfifo", "tc qdisc del dev netbpf0 root", "pfifo at netbpf0"),
    ] {
        lab.host(["sh", "-c", begin]).ok();
        eventually("doctor tells it", || lab.netbpf(["doctor"]).stdout.contains(word).then_some(()));
        eventually("no packet skips the stack", || {
            let before = shortcuts(&lab);
            connection.talk();
            (shortcuts(&lab) == before).then_some(())
        });
        is_slow(&lab, || connection.talk());
        lab.host(["sh", "-c", end]).ok();
        becomes_fast(&lab, || connection.talk());
    }
}

/// Nobody announces rules of iptables-legacy, and their table stays when they are gone.
#[test]
fn rules_of_iptables_legacy_are_obeyed() {
    let Some(lab) = start() else { return };
    lab.run("web", "-p 8080:80");
    let mut connection = Connection::published(&lab, "web");
    becomes_fast(&lab, || connection.talk());
    let rule = |verb: &str| {
        lab.host(["iptables-legacy", verb, "FORWARD", "-s", "192.0.2.2", "-j", "DROP"]).ok();
    };
    rule("-I");
    doctor_tells(&lab, "the table filter of iptables-legacy");
    connection.inside.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    connection.outside.write_all(b"late").expect("it is sent");
    assert!(connection.inside.read(&mut [0; 4]).is_err(), "the rule drops it");
    rule("-D");
    connection.inside.set_read_timeout(Some(SHORT)).expect("a timeout");
    let mut late = [0; 4];
    connection.inside.read_exact(&mut late).expect("TCP sends it again");
    assert_eq!(&late, b"late");
    is_slow(&lab, || connection.talk());
    lab.host(["rm", "-f", "/run/xtables.lock"]).ok();
}

/// Policies of IPsec are not announced either.
#[test]
fn policies_of_ipsec_are_obeyed() {
    let Some(lab) = start() else { return };
    lab.run("web", "-p 8080:80");
    let mut connection = Connection::published(&lab, "web");
    becomes_fast(&lab, || connection.talk());
    let policy = |verb: &str| {
        lab.host(["ip", "xfrm", "policy", verb, "src", "10.99.0.0/24", "dst", "10.98.0.0/24", "dir", "out"])
            .ok();
    };
    policy("add");
    doctor_tells(&lab, "policies of IPsec");
    is_slow(&lab, || connection.talk());
    policy("delete");
    becomes_fast(&lab, || connection.talk());
}

#[test]
fn the_doctor_tells_of_an_uplink_that_was_taken_before() {
    let Some(lab) = start() else { return };
    lab.host(["tc", "qdisc", "add", "dev", "uplink", "clsact"]).ok();
    lab.run("web", "-p 8080:80");
    let mut connection = Connection::published(&lab, "web");
    let doctor = || lab.netbpf(["doctor"]).stdout;
    let told = "in the way: other tc programs or an ingress discipline at uplink";
    eventually("it is told", || {
        is_slow(&lab, || connection.talk());
        doctor().contains(told).then_some(())
    });
    lab.host(["tc", "qdisc", "del", "dev", "uplink", "clsact"]).ok();
    becomes_fast(&lab, || connection.talk());
    eventually("it is not told any more", || (!doctor().contains("in the way")).then_some(()));
}

#[track_caller]
fn doctor_tells(lab: &Lab, words: &str) {
    eventually("the doctor tells it", || lab.netbpf(["doctor"]).stdout.contains(words).then_some(()));
}
