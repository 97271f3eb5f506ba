//! Names of containers, which the programs answer on the way to a name server that netbpf did not choose.

use serde_json::json;

use super::{
    lab,
    plugin::{call, conf},
};

#[test]
fn names_are_answered_on_the_way_to_any_server_unless_the_network_says_no() {
    let lab = lab(&["aa", "bb"]);
    lab.network("six", "--ipv6 --subnet 10.6.0.0/24 --subnet fd00:6::/64");
    lab.network("off", "--subnet 10.7.0.0/24 -o netbpf.dns_intercept=false");
    lab.run("six-one", "--net six");
    lab.run("off-one", "--net off");
    for (container, network) in [("aa", "six"), ("bb", "off")] {
        call("ADD", container, conf("1.0.0", json!({ "network": network }))).run(&lab).ok();
    }
    let ask = |namespace: &str, server: &str, name: &str, kind: &str| {
        let options = ["+short", "+tries=1", "+time=1", server, name, kind];
        lab.host(["ip", "netns", "exec", namespace, "dig"].into_iter().chain(options))
    };
    let is_silent = |namespace: &str, server: &str, name: &str| {
        let said = ask(namespace, server, name, "A");
        assert!(said.text().contains("no servers could be reached"), "{said}");
    };
    // What the container's own stack gets: it checks lengths and checksums.
    for server in ["@192.0.2.53", "@2001:db8:9::53"] {
        for (kind, answer) in [("A", "10.6.0.2"), ("AAAA", "fd00:6::2")] {
            for name in ["six-one", "Six-One.six"] {
                assert_eq!(ask("aa", server, name, kind).ok().text(), answer, "{name} {kind} {server}");
            }
        }
        is_silent("aa", server, "off-one");
    }
    // Without the kernel's offloads, the checksums are complete.
    lab.host(["ip", "netns", "exec", "aa", "ethtool", "-K", "eth0", "tx", "off"]).ok();
    for server in ["@192.0.2.53", "@2001:db8:9::53"] {
        assert_eq!(ask("aa", server, "six-one", "AAAA").ok().text(), "fd00:6::2", "{server}");
    }
    // They go on without daemon and responder, and follow the containers.
    lab.kill_daemon();
    assert_eq!(ask("aa", "@192.0.2.53", "six-one", "A").ok().text(), "10.6.0.2");
    lab.start_daemon();
    lab.netbpf(["rename", "six-one", "six-two"]).ok();
    assert_eq!(ask("aa", "@192.0.2.53", "six-two", "A").ok().text(), "10.6.0.2");
    is_silent("aa", "@192.0.2.53", "six-one");
    lab.netbpf(["rm", "-f", "six-two"]).ok();
    is_silent("aa", "@192.0.2.53", "six-two");

    is_silent("bb", "@192.0.2.53", "off-one");
    assert_eq!(ask("bb", "@127.0.0.11", "off-one", "A").ok().text(), "10.7.0.2");
    for name in ["aa", "bb"] {
        lab.host(["ip", "netns", "del", name]).ok();
    }
}
