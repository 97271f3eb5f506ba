//! MAC addresses of endpoints: which one an endpoint gets, and how neighbours learn about a change.

use netbpf_tests::lab::{Lab, eventually};

const NETWORK: &str = "--subnet 10.5.0.0/24";

fn mac(lab: &Lab, container: &str) -> String {
    lab.exec(container, "cat /sys/class/net/eth0/address").ok().text().to_owned()
}

#[test]
fn an_endpoint_whose_default_mac_is_taken_gets_another() {
    let lab = Lab::start();
    lab.network("m", NETWORK);
    lab.run("chooser", "--net m --mac-address 02:42:0a:05:00:03");
    for (name, address) in [("one", "10.5.0.3"), ("two", "10.5.0.4")] {
        lab.run(name, "--net m");
        assert_eq!(lab.address(name, "m"), address);
    }
    assert_eq!(mac(&lab, "one"), "06:42:0a:05:00:03");
    assert_eq!(mac(&lab, "two"), "02:42:0a:05:00:04", "the next one keeps the MAC of its address");
    for (from, to) in [("chooser", "one"), ("one", "two"), ("two", "chooser")] {
        lab.exec(from, &format!("ping -c1 -W1 {to}")).ok();
    }
    lab.host(["ping", "-c1", "-W1", "10.5.0.3"]).ok();

    lab.restart_daemon();
    lab.netbpf(["restart", "-t0", "one"]).ok();
    assert_eq!(mac(&lab, "one"), "06:42:0a:05:00:03", "after a restart");
    lab.exec("chooser", "ping -c1 -W1 one").ok();
}

#[test]
fn a_requested_mac_does_not_take_a_stopped_container_s_address() {
    let lab = Lab::start();
    lab.network("m", NETWORK);
    lab.run("sleeper", "--net m --ip 10.5.0.9");
    lab.netbpf(["stop", "-t0", "sleeper"]).ok();
    lab.run("chooser", "--net m --mac-address 02:42:0a:05:00:09");
    lab.netbpf(["start", "sleeper"]).ok();
    lab.exec("chooser", "ping -c1 -W1 10.5.0.9").ok();
}

#[test]
fn the_default_mac_of_an_ipv6_address_may_be_taken_as_well() {
    let lab = Lab::start();
    lab.network("six", "--ipv6 --ipv4=false --subnet fd00:5::/64");
    lab.run("first", "--net six --ip6 fd00:5::3");
    let derived = mac(&lab, "first");
    lab.netbpf(["rm", "-f", "first"]).ok();
    lab.run("chooser", &format!("--net six --mac-address {derived}"));
    lab.run("second", "--net six --ip6 fd00:5::3");
    assert_ne!(mac(&lab, "second"), derived);
    lab.exec("chooser", "ping -c1 -W1 fd00:5::3").ok();
}

#[test]
fn a_requested_mac_that_is_in_use_is_refused() {
    let lab = Lab::start();
    lab.network("m", NETWORK);
    lab.run("one", "--net m");
    for taken in ["02:42:0a:05:00:01", "02:42:0a:05:00:02"] {
        let options = ["run", "--rm", "--net", "m", "--mac-address", taken, "--", "true"];
        lab.netbpf(options).fails_with(125, "is already in use");
    }
}

#[test]
fn an_address_that_comes_back_with_another_mac_loses_no_packet() {
    let lab = Lab::start();
    lab.network("m", "--subnet 10.5.0.0/24 --ipv6 --subnet fd00:5::/64");
    lab.run("peer", "--net m");
    let peer = lab.address("peer", "m");
    let address = "--ip 10.5.0.10 --ip6 fd00:5::10";
    for mac in ["--mac-address 02:52:1a:16:9f:75", "", "--mac-address 02:52:1a:16:9f:76"] {
        lab.run("member", &format!("--net m {address} {mac}"));
        for address in ["10.5.0.10", "fd00:5::10"] {
            // All pings within a second, before any neighbour entry becomes stale.
            let ping = format!("ping -c3 -i0.2 -W1 {address}");
            for output in [lab.exec("peer", &ping), lab.host(ping.split(' '))] {
                let output = output.ok();
                assert!(output.text().contains("3 packets transmitted, 3 received"), "{mac}: {output}");
            }
        }
        for address in [&peer, "10.5.0.1", "fd00:5::1"] {
            let output = lab.exec("member", &format!("ping -c3 -i0.2 -W1 {address}")).ok();
            assert!(output.text().contains("3 packets transmitted, 3 received"), "{mac}: {output}");
        }
        lab.netbpf(["rm", "-f", "member"]).ok();
    }
}

/// A neighbour with the old entry would send to the container that has this MAC address now.
#[test]
fn an_address_that_comes_back_with_another_mac_is_announced() {
    let lab = Lab::start();
    lab.network("m", "--subnet 10.5.0.0/24 --ipv6 --subnet fd00:5::/64");
    lab.run("peer", "--net m");
    let addresses = ["10.5.0.10", "fd00:5::10"];
    let is_reached = |what: &str| {
        for address in addresses {
            let ping = format!("ping -c3 -i0.2 -W1 {address}");
            for output in [lab.exec("peer", &ping), lab.host(ping.split(' '))] {
                let output = output.ok();
                assert!(output.text().contains("3 packets transmitted, 3 received"), "{what}: {output}");
            }
        }
    };
    let [mut before, options] =
        ["--mac-address 02:52:1a:16:9f:75", "--net m --ip 10.5.0.10 --ip6 fd00:5::10"];
    lab.run("member", &format!("{options} {before}"));
    for (what, now) in [
        ("the one of the address", ""),
        ("another chosen one", "--mac-address 02:52:1a:16:9f:76"),
        ("the one of the address again", ""),
    ] {
        is_reached(what);
        let mac = if before.is_empty() { "--mac-address 02:42:0a:05:00:0a" } else { before };
        lab.netbpf(["rm", "-f", "member"]).ok();
        lab.run("thief", &format!("--net m {mac}"));
        lab.run("member", &format!("{options} {now}"));
        is_reached(what);
        for to in [&lab.address("peer", "m"), "10.5.0.1", "fd00:5::1"] {
            let output = lab.exec("member", &format!("ping -c3 -i0.2 -W1 {to}")).ok();
            assert!(output.text().contains("3 packets transmitted, 3 received"), "{what}: {output}");
        }
        lab.netbpf(["rm", "-f", "thief"]).ok();
        before = now;
    }
}

#[test]
fn an_unchanged_mac_is_announced_only_on_request() {
    let lab = Lab::start();
    let advertise =
        "-o com.docker.network.advertise_addr_nmsgs=2 -o com.docker.network.advertise_addr_ms=100";
    for (name, number, options, announced) in [
        ("silent", 1, "", false),
        ("never", 2, "-o com.docker.network.advertise_addr_nmsgs=0", false),
        ("twice", 3, advertise, true),
    ] {
        lab.network(
            name,
            &format!("--ipv6 --subnet 10.{number}.0.0/24 --subnet fd00:{number}::/64 {options}"),
        );
        let member = format!("{name}-member");
        lab.run(&member, &format!("--net {name}"));
        let station = lab.station(&member, "eth0");
        let mac = if name == "never" { "--mac-address 02:52:1a:16:9f:75" } else { "" };
        lab.run(&format!("{name}-new"), &format!("--net {name} {mac}"));
        let is_arp = |frame: &&Vec<u8>| frame[12..14] == [0x08, 0x06];
        let is_advertisement =
            |frame: &&Vec<u8>| frame[12..14] == [0x86, 0xdd] && frame.get(54) == Some(&136);
        let mut heard = station.heard();
        if announced {
            eventually("the second announcement", || {
                heard.extend(station.heard());
                (heard.iter().filter(is_arp).count() == 2
                    && heard.iter().filter(is_advertisement).count() == 2)
                    .then_some(())
            });
        }
        let expected = if announced { 2 } else { 0 };
        assert_eq!(heard.iter().filter(is_arp).count(), expected, "{name}: {heard:02x?}");
        assert_eq!(heard.iter().filter(is_advertisement).count(), expected, "{name}: {heard:02x?}");
    }
}

#[test]
fn the_host_can_detect_free_addresses() {
    let lab = Lab::start();
    lab.network("m", NETWORK);
    lab.run("one", "--net m");
    let device = lab.device("m");
    let probe = |address| lab.host(["arping", "-D", "-c2", "-w2", "-I", &device, address]);
    probe("10.5.0.77").ok();
    probe("10.5.0.2").fails_with(1, "");
}
