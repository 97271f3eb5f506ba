//! Addresses that move between containers: by keepalived, and by announcements alone.

use netbpf_tests::lab::{
    Lab, Process, eventually,
    station::{Arp, BROADCAST, Mac, arp, ethernet, icmpv6},
};

use serde_json::Value;

use super::{Setup, host_reaches, reaches, remove, spawn_in, update, write};

pub const SETUP: Setup = Setup {
    network: "",
    members: &[("first", FURTHER), ("second", FURTHER), ("client", "")],
    try_it: addresses_move,
};

/// Both may be used.
const FURTHER: &str = "--driver-opt netbpf.addresses=10.5.0.100,fd00:5::100";
const ADDRESSES: [&str; 2] = ["10.5.0.100", "fd00:5::100"];

/// For a second, Linux keeps a new neighbour's MAC whatever is announced. This ends that.
const NO_LOCK: &str = "echo 0 > /proc/sys/net/ipv4/neigh/eth0/locktime";

#[test]
fn addresses_move_to_another_container() {
    SETUP.run();
}

#[track_caller]
fn addresses_move(lab: &Lab) {
    lab.in_network_of("client", NO_LOCK).ok();
    fail_over(lab, "");
    events_tell_of_each_move(lab);
    others_do_not_get_it(lab);
    announcements_take_over_at_once(lab);
    for name in ["first", "second"] {
        update(lab, "netbpf.guard=off", name);
    }
    // With a MAC that moves, too.
    fail_over(lab, "use_vmac");
}

/// keepalived in two containers: when the first ends, the second takes the addresses, for members and host alike.
#[track_caller]
fn fail_over(lab: &Lab, option: &str) {
    let has_them = |name: &str| {
        let shown = lab.in_network_of(name, "ip -brief address show").ok();
        ADDRESSES.iter().all(|address| shown.text().contains(address))
    };
    let first = keepalived(lab, "first", 250, option);
    eventually("the first has the addresses", || has_them("first").then_some(()));
    let second = keepalived(lab, "second", 200, option);
    eventually("the second hears the first", || {
        // VRRP is IP's protocol 112.
        let hears = "grep -q :0070 /proc/net/raw && grep -q :0070 /proc/net/raw6";
        lab.in_network_of("second", hears).status.success().then_some(())
    });
    for address in ADDRESSES {
        eventually("the address is reached", || {
            let pinged = lab.in_network_of("client", &format!("ping -c1 -W1 {address}"));
            pinged.status.success().then_some(())
        });
        host_reaches(lab, address);
    }
    let pings = ping_both(lab, "-c 6");
    let before = sent_by_own_macs(lab, "second");
    assert_eq!(before.len(), if option == "use_vmac" { 2 } else { 0 });
    let _stopped = first.interrupt();
    eventually("the second has the addresses", || has_them("second").then_some(()));
    eventually("the second has sent by each of its MACs", || {
        let now = sent_by_own_macs(lab, "second");
        now.iter().zip(&before).all(|(now, before)| now > before).then_some(())
    });
    // How long keepalived takes depends on the machine. From here on it depends on the bridge.
    let pings_of_second = ping_both(lab, "-c 10 -i 0.1");
    for (pings, sent, may_be_lost) in [(pings_of_second, 10, 1), (pings, 6, 2)] {
        for pings in pings {
            let pinged = pings.output().stdout;
            let received = pinged.split(", ").find_map(|part| part.strip_suffix(" received"));
            let lost = sent - received.and_then(|count| count.parse::<u32>().ok()).expect("a count");
            assert!(lost <= may_be_lost, "{lost} lost {option}:\n{pinged}");
        }
    }
    ADDRESSES.iter().for_each(|address| host_reaches(lab, address));
    let _stopped = second.interrupt();
    remove(lab, &["/run/first.conf", "/run/second.conf"]);
}

/// How many frames a container has sent by each MAC that keepalived uses, with an interface for each.
#[track_caller]
fn sent_by_own_macs(lab: &Lab, name: &str) -> Vec<u64> {
    let links = lab.in_network_of(name, "ip -s -j link show type macvlan").ok().json();
    let links = links.as_array().into_iter().flatten();
    links.filter_map(|link| link["stats64"]["tx"]["packets"].as_u64()).collect()
}

fn ping_both(lab: &Lab, options: &str) -> [Process; 2] {
    ADDRESSES.map(|address| spawn_in(lab, "client", &format!("ping {options} -W1 {address}")))
}

/// VRRP version 2 for IPv4, and version 3 for IPv6, which may send messages more than once a second.
fn keepalived(lab: &Lab, name: &str, priority: u32, option: &str) -> Process {
    let instance = |number: u32, version: u32, seconds: f32, address: &str| {
        format!(
            "vrrp_instance V{number} {{\n interface eth0\n virtual_router_id {number}\n version {version}\n \
             priority {priority}\n advert_int {seconds}\n {option}\n virtual_ipaddress {{\n  {address}\n }}\n}}\n"
        )
    };
    let [ipv4, ipv6] = ADDRESSES;
    let config = instance(51, 2, 1.0, &format!("{ipv4}/24")) + &instance(52, 3, 0.2, &format!("{ipv6}/64"));
    write(lab, &format!("/run/{name}.conf"), &config);
    let files = format!("-f /run/{name}.conf -p /run/{name}.pid -r /run/{name}.vrrp");
    spawn_in(lab, name, &format!("keepalived -n -P -l {files}"))
}

/// The first had the addresses after nobody, and the second has them after the first. On a busy machine, the second takes
/// the first for gone for a moment, so there may be moves between.
#[track_caller]
fn events_tell_of_each_move(lab: &Lab) {
    let moves = ["events", "--since", "10m", "--until", "0s", "--filter", "event=move", "--format", "json"];
    let [first, second] = ["first", "second"].map(|name| lab.inspect(name)["Id"].take());
    for address in ADDRESSES {
        eventually("events tell of both moves", || {
            let events = lab.netbpf(moves).ok();
            let events = events.text().lines().map(|line| line.parse::<Value>().expect("JSON"));
            let mut attributes: Vec<Value> =
                events.map(|mut event| event["Actor"]["Attributes"].take()).collect();
            attributes.retain(|attributes| attributes["address"] == address);
            let told: Vec<_> = attributes.iter().map(|it| (&it["from"], &it["container"])).collect();
            let each_after_the_other = told.windows(2).all(|moves| moves[0].1 == moves[1].0);
            let ends =
                [told.first(), told.last()] == [Some(&(&Value::Null, &first)), Some(&(&first, &second))];
            (each_after_the_other && ends).then_some(())
        });
    }
}

#[track_caller]
fn others_do_not_get_it(lab: &Lab) {
    let before = lab.reasons();
    lab.in_network_of("client", "ip address add 10.5.0.100/24 dev eth0").ok();
    let _unanswered = lab.in_network_of("client", "arping -c1 -w1 -U -I eth0 10.5.0.100");
    assert_eq!(lab.drops_since(&before), [("spoofed-arp".to_owned(), 1)].into());
    lab.in_network_of("client", "ip address del 10.5.0.100/24 dev eth0").ok();
}

/// As MetalLB in layer 2 mode: one gratuitous ARP and one unsolicited advertisement, and nothing else.
#[track_caller]
fn announcements_take_over_at_once(lab: &Lab) {
    for name in ["first", "second", "first"] {
        let script = "ip address add 10.5.0.100/32 dev eth0; ip address add fd00:5::100/128 dev eth0 nodad";
        lab.in_network_of(name, script).ok();
        let station = lab.station(name, "eth0");
        announcements(station.mac()).iter().for_each(|frame| station.send(frame));
        for address in ADDRESSES {
            reaches(lab, "client", address);
            host_reaches(lab, address);
        }
        let script = "ip address del 10.5.0.100/32 dev eth0; ip address del fd00:5::100/128 dev eth0";
        lab.in_network_of(name, script).ok();
    }
}

fn announcements(mac: Mac) -> [Vec<u8>; 2] {
    const ADDRESS: [u8; 4] = [10, 5, 0, 100];
    const ADDRESS_IPV6: [u8; 16] = [0xfd, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let gratuitous = arp(Arp::Request, (mac, ADDRESS), (BROADCAST, ADDRESS));
    // Override, and the target's MAC (RFC 4861 sections 4.4 and 4.6.1).
    let message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &ADDRESS_IPV6, &[2, 1], &mac].concat();
    [
        ethernet(BROADCAST, mac, 0x0806, &gratuitous),
        ethernet([0x33, 0x33, 0, 0, 0, 1], mac, 0x86dd, &icmpv6(ADDRESS_IPV6, ALL_NODES, &message)),
    ]
}
