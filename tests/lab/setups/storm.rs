//! A loop: two containers that bridge the same two networks. A broadcast goes round for ever, as behind a kernel bridge,
//! until it has used up their share of copies.

use std::{thread, time::Duration};

use netbpf_tests::lab::{
    Lab, eventually,
    station::{BROADCAST, ethernet},
};

#[test]
fn a_storm_ends_and_is_told_by_name() {
    storm_ends("-o netbpf.max_flood_copies=2000");
}

/// Two CPUs cannot reach the default limit of copies.
#[test]
fn a_storm_ends_with_the_default_limit() {
    storm_ends("");
}

#[track_caller]
fn storm_ends(limit: &str) {
    let lab = Lab::start();
    for (network, subnet) in [("one", "10.1.0.0/24"), ("other", "10.2.0.0/24")] {
        lab.network(network, &format!("--subnet {subnet} -o netbpf.guard=off {limit}"));
    }
    for (name, network) in [("client", "one"), ("neighbour", "one"), ("stranger", "other")] {
        lab.run(name, &format!("--net {network}"));
    }
    for name in ["left", "right"] {
        lab.run(name, "--net one");
        lab.netbpf(["network", "connect", "other", name]).ok();
        let script = "ip link add br0 type bridge mcast_snooping 0 && ip address flush dev eth0 && \
                      ip address flush dev eth1 && ip link set eth0 master br0 && ip link set eth1 master br0 && \
                      ip link set br0 up";
        lab.in_network_of(name, script).ok();
    }
    let before = lab.reasons();
    let client = lab.station("client", "eth0");
    client.send(&ethernet(BROADCAST, client.mac(), 0x88b5, b"round and round"));
    eventually("the storm is told of", || {
        let log = lab.daemon_log();
        let mut lines = log.lines().filter(|line| line.contains("drop broadcasts"));
        let is_one = |line: &str| {
            ["left", "right"].iter().any(|name| line.contains(&format!("container={name} ")))
                && ["one", "other"].iter().any(|network| line.contains(&format!("network={network}")))
        };
        lines.any(is_one).then_some(())
    });
    // A frame that is dropped goes round no more.
    eventually("the storm has ended", || {
        let flooded = || lab.reasons()["flooded"];
        let earlier = flooded();
        thread::sleep(Duration::from_millis(300));
        (flooded() == earlier).then_some(())
    });
    let drops = lab.drops_since(&before);
    assert!(drops["flood-limit"] >= 1, "{drops:?}");
    // Without the loop, MACs move to where they are used, and all is as before.
    lab.in_network_of("right", "ip link delete br0").ok();
    for address in ["10.1.0.3", "10.1.0.1"] {
        eventually("the client reaches others", || {
            let pinged = lab.in_network_of("client", &format!("ping -c1 -W1 {address}"));
            pinged.status.success().then_some(())
        });
    }
}
