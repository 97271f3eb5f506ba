//! What the host's packet filter does with packets of open endpoints, whose sources may be outside of their network.

use std::collections::BTreeMap;

use netbpf_tests::lab::eventually;

use crate::outside::Neighbourhood;

/// Two networks on a host with neighbours: `red01` in `red` has these options; `blue01` in `blue` has published ports.
fn town(options: &str) -> Neighbourhood {
    let lab = Neighbourhood::start();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.network("blue", "--ipv6 --subnet 10.2.0.0/24 --subnet fd00:2::/64");
    lab.run("red01", &format!("--net red --driver-opt {options}"));
    lab.run("blue01", "--net blue -p 9000:9000/udp -p 9001:9001");
    lab
}

const ROUTER: &str = "netbpf.addresses=0.0.0.0/0,::/0";
const UNGUARDED: &str = "netbpf.guard=off";

/// The flows of a subnet behind a router in `red` are its own: a router in `blue` cannot speak as one that it talks to,
/// as itself, or as the subnet.
#[test]
fn a_subnet_behind_a_container_is_reached_by_its_own_network_only() {
    let lab = Neighbourhood::start();
    for (name, number) in [("red", 1), ("blue", 2)] {
        lab.network(name, &format!("--ipv6 --subnet 10.{number}.0.0/24 --subnet fd00:{number}::/64"));
        lab.run(&format!("{name}01"), &format!("--net {name} --driver-opt {ROUTER}"));
    }
    let subnet = "ip addr add 10.244.1.5/32 dev lo; ip addr add fd00:244:1::5/128 dev lo nodad";
    lab.in_network_of("red01", subnet).ok();
    lab.host(["ip", "route", "add", "10.244.1.0/24", "via", "10.1.0.2"]).ok();
    lab.host(["ip", "route", "add", "fd00:244:1::/64", "via", "fd00:1::2"]).ok();
    let [red, blue] = ["red01", "blue01"].map(|name| lab.station(name, "eth0"));
    let say = |word: &str, ends: [(&str, &str); 2]| {
        let lines = ends.map(|(from, to)| format!("echo {word} | timeout 5 socat -u - UDP:{to},bind={from}"));
        lines.join("\n")
    };

    // The subnet's flow with a neighbour, which answers.
    let begin = [("10.244.1.5:4000", "192.0.2.2:4001"), ("[fd00:244:1::5]:4000", "[2001:db8:1::2]:4001")];
    lab.in_network_of("red01", &say("begin", begin)).ok();
    let back = [("192.0.2.2:4001", "192.0.2.1:4000"), ("[2001:db8:1::2]:4001", "[2001:db8:1::1]:4000")];
    lab.on("far", &say("answer", back)).ok();
    let mut heard = 0;
    eventually("the answers", || {
        heard += red.heard_ending_in(b"answer\n");
        (heard == 2).then_some(())
    });

    let neighbour = "ip addr add 192.0.2.2/32 dev lo; ip addr add 2001:db8:1::2/128 dev lo nodad";
    let (to_subnet, to_host) = (["10.244.1.5:9", "[fd00:244:1::5]:9"], ["192.0.2.1:9", "[2001:db8:1::1]:9"]);
    let (itself, inside) = (["10.2.0.2", "[fd00:2::2]"], ["10.244.1.5", "[fd00:244:1::5]"]);
    let pairs = |from: [&'static str; 2], to: [&'static str; 2]| [(from[0], to[0]), (from[1], to[1])];
    let (unpublished, spoofed) = (["unpublished", "unpublished"], ["spoofed-ipv4", "spoofed-ipv6"]);
    for (from, number, first, ends, reasons) in [
        ("blue01", 2, neighbour, back, unpublished),
        ("blue01", 2, "", pairs(itself, to_subnet), unpublished),
        ("blue01", 2, subnet, pairs(inside, to_host), spoofed),
        ("red01", 1, "", pairs(inside, ["10.2.0.2:9", "[fd00:2::2]:9"]), unpublished),
    ] {
        let mut expected = BTreeMap::new();
        reasons.iter().for_each(|reason| *expected.entry((*reason).to_owned()).or_default() += 1);
        let before = lab.reasons();
        lab.in_network_of(from, &format!("{first}\n{}", say("lie", ends))).ok();
        lab.exec(from, &format!("ping -c1 -W2 10.{number}.0.1")).ok();
        assert_eq!(lab.drops_since(&before), expected, "from {from}: {ends:?}");
        let lies = [&red, &blue].map(|station| station.heard_ending_in(b"lie\n"));
        assert_eq!(lies, [0, 0], "from {from}: {ends:?}");
    }
    for address in ["10.244.1.5", "fd00:244:1::5"] {
        lab.host(["ping", "-c1", "-W2", address]).ok();
    }
}

/// conntrack finds a flow by addresses and ports only, from whichever interface a packet comes.
#[test]
fn a_packet_of_an_open_endpoint_does_not_enter_a_flow_of_another_network() {
    for options in [ROUTER, UNGUARDED] {
        let lab = town(options);
        let blue = lab.station("blue01", "eth0");
        for address in ["192.0.2.2", "[2001:db8:1::2]"] {
            let word = format!("echo x | socat -u - UDP:{address}:4001,sourceport=4000");
            lab.exec_script("blue01", &word).ok();
        }
        for address in ["192.0.2.1", "[2001:db8:1::1]"] {
            let word = format!("echo first | socat -u - UDP:{address}:9000,sourceport=5000");
            lab.on("far", &word).ok();
        }
        let mut heard = 0;
        eventually("the packets of the neighbour", || {
            heard += blue.heard_ending_in(b"first\n");
            (heard == 2).then_some(())
        });

        let lie = "
            ip addr add 192.0.2.2/32 dev lo; ip addr add 2001:db8:1::2/128 dev lo nodad
            for ports in 4000,sourceport=4001 9000,sourceport=5000; do
                echo lie | socat -u - UDP:192.0.2.1:$ports,bind=192.0.2.2
                echo lie | socat -u - UDP6:[2001:db8:1::1]:$ports,bind=[2001:db8:1::2]
            done";
        let before = lab.reasons();
        lab.in_network_of("red01", lie).ok();
        lab.exec("red01", "ping -c1 -W2 10.1.0.1").ok();
        assert_eq!(lab.drops_since(&before), [("unpublished".to_owned(), 4)].into(), "{options}");
        assert_eq!(blue.heard_ending_in(b"lie\n"), 0, "{options}");
    }
}
