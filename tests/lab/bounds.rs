//! Limits on what one container can take of resources that the whole host shares: the neighbour table, and the time for
//! copies of broadcasts.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use netbpf_tests::lab::{
    Lab, eventually,
    station::{Mac, Station, ethernet, ipv4, ipv6},
};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// A host with one network of both families and one container.
fn lab() -> Lab {
    let lab = Lab::start();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/16 --subnet fd00:1::/64");
    lab.run("one", "--net red");
    lab
}

/// Sends a packet from `own` to each of `count` addresses from `first` on, through a router.
#[track_caller]
fn sweep(station: &Station, router: Mac, own: &str, first: &str, count: u8) {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let (own, first) = (address(own), address(first));
    for number in 0..count {
        let (kind, packet) = match (own, first) {
            (IpAddr::V4(own), IpAddr::V4(first)) => {
                let mut to = first.octets();
                to[3] += number;
                (IPV4, ipv4(own.octets(), to, b"sweep"))
            }
            (IpAddr::V6(own), IpAddr::V6(first)) => {
                let mut to = first.octets();
                to[15] += number;
                (IPV6, ipv6(own.octets(), to, b"sweep"))
            }
            _ => panic!("addresses of two families"),
        };
        station.send(&ethernet(router, station.mac(), kind, &packet));
    }
}

/// The addresses in the host's neighbour table on the network's device, in any state.
#[track_caller]
fn neighbours(lab: &Lab) -> Vec<String> {
    let table =
        lab.host(["ip", "-j", "neighbour", "show", "nud", "all", "dev", &lab.device("red")]).ok().json();
    let entries = table.as_array().into_iter().flatten();
    // Multicast addresses have entries without resolution, which do not count.
    let entries = entries.filter(|entry| entry["state"][0] != "NOARP");
    entries.filter_map(|entry| Some(entry["dst"].as_str()?.to_owned())).collect()
}

/// Packets to unused addresses would fill a table that the host and all containers share.
#[test]
fn containers_cannot_fill_the_host_s_neighbour_table() {
    let lab = lab();
    // The neighbour entries of these two do not count below.
    lab.exec("one", "ping -c1 -W2 10.1.0.1").ok();
    lab.exec("one", "ping -c1 -W2 fd00:1::1").ok();
    let (one, router) = (lab.station("one", "eth0"), lab.host_station(&lab.device("red")).mac());
    for (what, own, first) in [
        ("IPv4", "10.1.0.2", "10.1.77.0"),
        ("IPv6", "fd00:1::2", "fd00:1::dead:0"),
        ("link-local addresses", "fd00:1::2", "fe80::dead:0"),
        ("IPv6 from a link-local address", "fe80::42:aff:fe01:2", "fd00:1::dead:0"),
    ] {
        let before = lab.reasons();
        sweep(&one, router, own, first, 150);
        assert_eq!(lab.drops_since(&before), [("unknown-address".to_owned(), 150)].into(), "{what}");
        let strangers: Vec<_> = neighbours(&lab)
            .into_iter()
            .filter(|address| address.contains("dead") || address.starts_with("10.1.77."))
            .collect();
        assert_eq!(strangers, [""; 0], "{what}");
    }
    // The host itself may resolve any address.
    lab.host(["ping", "-c1", "-W1", "10.1.77.1"]).fails_with(1, "");
    assert!(neighbours(&lab).contains(&"10.1.77.1".to_owned()));
}

#[test]
fn containers_reach_a_host_that_the_administrator_put_into_the_subnet() {
    let lab = lab();
    lab.run("router", "--net red");
    let script = "
        set -e
        ip netns add far
        ip link add near type veth peer name far netns far
        ip address add 10.1.200.1/24 dev near
        ip address add fd00:1::c8:1/112 dev near nodad
        ip link set near up
        ip -n far address add 10.1.200.2/24 dev far
        ip -n far address add fd00:1::c8:2/112 dev far nodad
        ip -n far link set far up
        ip -n far link set lo up
        ip -n far route add default via 10.1.200.1
        ip -n far -6 route add default via fd00:1::c8:1
        ip address add 10.1.9.9/16 dev DEVICE
        ip address add 10.1.9.10/32 dev lo
        ip route add 10.1.64.0/18 via 10.1.0.3
        ip -6 route add fd00:1::64:0/112 via fd00:1::3";
    lab.host(["sh", "-c", &script.replace("DEVICE", &lab.device("red"))]).ok();
    // The container routes some packets through the host although the addresses are in its own subnet.
    let routes = "
        set -e
        for address in 10.1.200.2 10.1.9.10 10.1.64.9; do ip route add $address via 10.1.0.1; done
        for address in fd00:1::c8:2 fd00:1::64:9; do ip -6 route add $address via fd00:1::1; done";
    lab.in_network_of("one", routes).ok();
    for address in ["10.1.0.1", "10.1.9.9", "10.1.9.10", "10.1.200.2", "fd00:1::c8:2"] {
        eventually(&format!("one reaches {address}"), || {
            lab.exec("one", &format!("ping -c1 -W1 {address}")).status.success().then_some(())
        });
    }
    // A member answers only for its own address, so look for the request.
    let router = lab.station("router", "eth0");
    for address in ["10.1.64.9", "fd00:1::64:9"] {
        let is_for_it = |frame: &Vec<u8>| match address.parse() {
            Ok(IpAddr::V4(address)) => frame.get(14 + 16..14 + 20) == Some(&address.octets()),
            Ok(IpAddr::V6(address)) => frame.get(14 + 24..14 + 40) == Some(&address.octets()),
            Err(_) => false,
        };
        eventually(&format!("the member that is the router to {address} is asked"), || {
            let _ = lab.exec("one", &format!("ping -c1 -W1 {address}"));
            router.heard().iter().any(is_for_it).then_some(())
        });
    }
    lab.host([
        "sh",
        "-c",
        "ip netns del far; ip link del near 2>/dev/null; ip address del 10.1.9.10/32 dev lo",
    ])
    .ok();
}

/// A broadcast is copied to every other member, so endless broadcasts would keep all CPUs busy.
#[test]
fn only_the_container_that_floods_is_limited() {
    let begun = Instant::now();
    let lab = Lab::start();
    // There are three other members, so a hundred frames use the limit of one second.
    lab.network("red", "--subnet 10.1.0.0/24 -o netbpf.max_flood_copies=300");
    lab.network("blue", "--subnet 10.2.0.0/24 -o netbpf.max_flood_copies=0");
    for name in ["mallory", "alice", "bob", "carol"] {
        lab.run(name, "--net red");
        lab.netbpf(["connect", "blue", name]).ok();
    }
    let limit = lab.inspect("red")["Options"]["netbpf.max_flood_copies"].take();
    assert_eq!(limit, "300");
    let mallory = lab.station("mallory", "eth0");
    let (alice, bob) = (lab.station("alice", "eth0"), lab.station("bob", "eth0"));
    let to_all = |station: &Station, own: [u8; 4], mark: &[u8]| {
        let group = ([1, 0, 0x5e, 0, 0, 0xfb], [224, 0, 0, 251]);
        station.send(&ethernet(group.0, station.mac(), IPV4, &ipv4(own, group.1, mark)));
    };
    let before = lab.reasons();
    let mut heard = 0;
    for _ in 0..1000 {
        to_all(&mallory, [10, 1, 0, 2], b"flood");
        // Read at once, or the socket's buffer would overflow on a slow machine.
        heard += alice.heard_ending_in(b"flood") as u64;
    }
    let dropped = lab.drops_since(&before);
    let limited = dropped["flood-limit"];
    assert_eq!(dropped.len(), 1, "{dropped:?}");
    eventually("alice has heard the rest", || {
        heard += alice.heard_ending_in(b"flood") as u64;
        (heard + limited == 1000).then_some(())
    });
    assert!(heard >= 100, "a second's share passes: {heard}");
    // Others are not affected, and neither are mallory's unicast frames.
    lab.in_network_of("alice", "ip neigh flush dev eth0").ok();
    lab.exec("alice", "ping -c1 -W2 10.1.0.4").ok();
    lab.exec("mallory", "ping -c1 -W2 10.1.0.4").ok();
    to_all(&alice, [10, 1, 0, 3], b"music");
    assert!(bob.hears(b"music", Duration::from_secs(10)));
    let elsewhere = (lab.station("mallory", "eth1"), lab.station("bob", "eth1"));
    let before = lab.reasons();
    for _ in 0..1000 {
        to_all(&elsewhere.0, [10, 2, 0, 2], b"flood");
    }
    assert_eq!(lab.drops_since(&before), [].into(), "a network without a limit");
    // The limit is per second, so later frames pass again.
    eventually("mallory is heard again", || {
        to_all(&mallory, [10, 1, 0, 2], b"sorry");
        bob.hears(b"sorry", Duration::from_millis(100)).then_some(())
    });
    let told = lab.daemon_log().matches("drop broadcasts: more copies a second than").count() as u64;
    let minutes = begun.elapsed().as_secs() / 60;
    assert!((1..=minutes + 1).contains(&told), "{told} times in {minutes} min: {}", lab.daemon_log());
    assert!(lab.daemon_log().contains("container=mallory network=red"), "{}", lab.daemon_log());
    // The limit also applies after a restart of the daemon.
    lab.restart_daemon();
    let before = lab.reasons();
    for _ in 0..1000 {
        to_all(&mallory, [10, 1, 0, 2], b"flood");
    }
    assert!(lab.drops_since(&before).contains_key("flood-limit"));
}
