//! `enable_icc=false`: members of the network reach the host, and no other members except exposed ports of those that
//! they are linked to.

use netbpf_tests::lab::{
    Lab, eventually,
    station::{Arp, BROADCAST, arp, ethernet, ipv4, tagged},
};

use super::pins::pin;

const MARK: &[u8] = b"netbpf icc is off!";

const OFF: &str = "-o com.docker.network.bridge.enable_icc=false";

/// Starts a container that answers with its name on ports 80 and 81.
#[track_caller]
fn serve(lab: &Lab, name: &str, options: &str) {
    let before = ["run", "-d", "--name", name].into_iter().chain(options.split_whitespace());
    let listen = |port: u16| format!("socat TCP-LISTEN:{port},fork,reuseaddr SYSTEM:'echo {name}'");
    let script = format!("{} & exec {}", listen(80), listen(81));
    lab.netbpf(before.chain(["--", "sh", "-c", script.as_str()])).ok();
    eventually("two servers listen", || {
        let sockets = lab.exec(name, "ss -H -ltn").ok().stdout;
        (sockets.contains(":80 ") && sockets.contains(":81 ")).then_some(())
    });
}

/// The answer to a client in a container; `None` without one.
#[track_caller]
fn said(lab: &Lab, container: &str, address: &str) -> Option<String> {
    let output = lab.exec(container, &format!("timeout 5 socat -t5 -T2 - TCP:{address},connect-timeout=1"));
    output.status.success().then(|| output.text().to_owned())
}

#[track_caller]
fn pings(lab: &Lab, container: &str, address: &str) -> bool {
    lab.exec(container, &format!("ping -c1 -W1 {address}")).status.success()
}

#[test]
fn members_reach_the_host_but_not_each_other() {
    let lab = Lab::start();
    lab.network("apart", &format!("--subnet 10.1.0.0/24 {OFF}"));
    lab.run("one", "--net apart");
    serve(&lab, "two", "--net apart -p 8080:80");
    for (from, to) in [("one", "10.1.0.1"), ("two", "10.1.0.1")] {
        assert!(pings(&lab, from, to), "{from} pings {to}");
        lab.host(["ping", "-c1", "-W1", &lab.address(from, "apart")]).ok();
    }
    let before = lab.reasons();
    assert!(!pings(&lab, "one", "10.1.0.3"));
    assert!(!pings(&lab, "two", "one"));
    assert_eq!(said(&lab, "one", "10.1.0.3:80"), None);
    assert!(lab.drops_since(&before)["no-icc"] >= 3);
    // A route through the host does not help, except for published ports.
    lab.in_network_of("one", "ip route add 10.1.0.3/32 via 10.1.0.1").ok();
    assert!(!pings(&lab, "one", "10.1.0.3"));
    lab.in_network_of("one", "ip route del 10.1.0.3/32").ok();
    assert_eq!(said(&lab, "one", "10.1.0.1:8080").as_deref(), Some("two"));
    assert_eq!(said(&lab, "two", "10.1.0.1:8080").as_deref(), Some("two"));

    // Other networks are not affected, and the setting also applies after a restart of the daemon.
    lab.network("together", "--subnet 10.2.0.0/24");
    lab.netbpf(["connect", "together", "one"]).ok();
    lab.netbpf(["connect", "together", "two"]).ok();
    assert!(pings(&lab, "one", "10.2.0.3"));
    lab.restart_daemon();
    assert!(!pings(&lab, "one", "10.1.0.3"));
    assert!(pings(&lab, "one", "10.2.0.3"));
}

#[test]
fn frames_of_no_protocol_pass_between_members() {
    let lab = Lab::start();
    lab.network("apart", &format!("--subnet 10.1.0.0/24 {OFF}"));
    lab.run("one", "--net apart");
    lab.run("two", "--net apart");
    let (one, two) = (lab.station("one", "eth0"), lab.station("two", "eth0"));
    let host = lab.host_station(&lab.device("apart"));
    let (from, to) = ([10, 1, 0, 2], [10, 1, 0, 3]);
    let reply = arp(Arp::Reply, (one.mac(), from), (two.mac(), to));
    for (what, frame) in [
        ("IPv4", ethernet(two.mac(), one.mac(), 0x0800, &ipv4(from, to, MARK))),
        ("ARP", ethernet(two.mac(), one.mac(), 0x0806, &[&reply[..], MARK].concat())),
        ("another protocol", ethernet(two.mac(), one.mac(), 0x88b5, MARK)),
        ("a VLAN", ethernet(two.mac(), one.mac(), 0x8100, &tagged(5, 0x0800, &ipv4(from, to, MARK)))),
    ] {
        let before = lab.reasons();
        one.send(&frame);
        assert_eq!(lab.drops_since(&before), [("no-icc".to_owned(), 1)].into(), "{what}");
        assert_eq!((two.heard_ending_in(MARK), host.heard_ending_in(MARK)), (0, 0), "{what}");
    }
    let announcement = arp(Arp::Request, (one.mac(), from), ([0; 6], from));
    for (what, group, ethertype, payload) in [
        ("a broadcast", BROADCAST, 0x0800, ipv4(from, [255; 4], MARK)),
        ("a multicast", [1, 0, 0x5e, 0, 0, 0xfb], 0x0800, ipv4(from, [224, 0, 0, 251], MARK)),
        ("a raw multicast", [0x33, 0x33, 0, 0, 0, 1], 0x88b5, MARK.to_vec()),
        ("an announcement", BROADCAST, 0x0806, [&announcement[..], MARK].concat()),
    ] {
        one.send(&ethernet(group, one.mac(), ethertype, &payload));
        assert_eq!(host.heard_ending_in(MARK), 1, "the host hears {what}");
        assert_eq!(two.heard_ending_in(MARK), 0, "two hears {what}");
    }
    host.send(&ethernet(BROADCAST, host.mac(), 0x88b5, MARK));
    assert_eq!((one.heard_ending_in(MARK), two.heard_ending_in(MARK)), (1, 1), "the host is heard");
}

#[test]
fn a_link_opens_only_the_exposed_ports() {
    let lab = Lab::without_daemon();
    lab.tell_daemons("--icc=false");
    lab.start_daemon();
    serve(&lab, "db", "--expose 80");
    serve(&lab, "app", "--link db --expose 81");
    serve(&lab, "stranger", "");
    assert_eq!(said(&lab, "app", "db:80").as_deref(), Some("db"));
    assert_eq!(said(&lab, "app", "db:81"), None, "it is not exposed");
    assert_eq!(said(&lab, "db", "172.17.0.3:81"), None, "a link is one-way");
    assert_eq!(said(&lab, "stranger", "172.17.0.2:80"), None, "the link is another's");
    assert!(!pings(&lab, "app", "db"), "no port of ping is exposed");

    // Another container gets the target's address and port number.
    lab.netbpf(["stop", "-t", "0", "db"]).ok();
    serve(&lab, "squatter", "--expose 80");
    assert_eq!(lab.address("squatter", "bridge"), "172.17.0.2");
    assert_eq!(said(&lab, "app", "172.17.0.2:80"), None);
    lab.netbpf(["start", "db"]).ok();
    eventually("it serves again", || said(&lab, "app", "db:80").filter(|name| name == "db"));
    assert_eq!(said(&lab, "app", "172.17.0.2:80"), None);
    lab.restart_daemon();
    assert_eq!(said(&lab, "app", "db:80").as_deref(), Some("db"));
    assert_eq!(said(&lab, "stranger", "db:80"), None);

    // The daemon's option also applies to running containers.
    lab.tell_daemons("");
    lab.restart_daemon();
    assert!(pings(&lab, "app", "db") && pings(&lab, "stranger", "172.17.0.2"));
    lab.tell_daemons("--icc=false");
    lab.restart_daemon();
    assert!(!pings(&lab, "app", "db"));
    assert_eq!(said(&lab, "app", "db:80").as_deref(), Some("db"));
}

#[test]
fn links_open_ports_in_networks_with_names_too() {
    let lab = Lab::start();
    lab.network("apart", &format!("--subnet 10.1.0.0/24 {OFF}"));
    // The link is made before there is a container of that name.
    lab.run("app", "--net apart --link store:db");
    serve(&lab, "store", "--net apart --expose 80 --expose 9000/udp");
    assert_eq!(said(&lab, "app", "db:80").as_deref(), Some("store"));
    assert_eq!(said(&lab, "app", "db:81"), None);
    // Larger than a frame: only the first fragment has a port number.
    let received = lab.spawn_netbpf(["exec", "store", "socat", "-u", "-T3", "UDP-RECV:9000", "-"]);
    eventually("it listens", || lab.exec("store", "ss -H -lun").ok().stdout.contains(":9000 ").then_some(()));
    let script = "head -c 5000 /dev/zero | tr '\\0' x | socat -u -b 5000 - UDP:db:9000";
    lab.exec_script("app", script).ok();
    assert_eq!(received.output().ok().stdout.len(), 5000);
    lab.netbpf(["rename", "store", "other"]).ok();
    assert_eq!(said(&lab, "app", "10.1.0.3:80"), None, "a link is to a name");
    lab.netbpf(["rename", "other", "store"]).ok();
    assert_eq!(said(&lab, "app", "db:80").as_deref(), Some("store"));
    let links = || {
        let map = &pin("maps/ALLOWED");
        lab.host(["bpftool", "-j", "map", "dump", "pinned", map])
            .ok()
            .json()
            .as_array()
            .expect("a list")
            .len()
    };
    assert_eq!(links(), 4, "two ports, and the fragments of two protocols");
    lab.netbpf(["rm", "-f", "store"]).ok();
    assert_eq!(links(), 0);
}

#[test]
fn icc_and_links_apply_to_ipv6() {
    let lab = Lab::start();
    lab.network("apart", &format!("--ipv6 --subnet 10.1.0.0/24 --subnet fd00:9::/64 {OFF}"));
    lab.run("app", "--net apart --link db");
    lab.netbpf([
        "run",
        "-d",
        "--name",
        "db",
        "--net",
        "apart",
        "--expose",
        "80",
        "--",
        "sh",
        "-c",
        "socat TCP6-LISTEN:80,fork SYSTEM:'echo six' & exec socat TCP6-LISTEN:81,fork SYSTEM:'echo six'",
    ])
    .ok();
    let networks = lab.inspect("db")["NetworkSettings"]["Networks"].take();
    let db = networks["apart"]["GlobalIPv6Address"].as_str().expect("an address").to_owned();
    eventually("it serves", || said(&lab, "app", &format!("[{db}]:80")).filter(|word| word == "six"));
    assert_eq!(said(&lab, "app", &format!("[{db}]:81")), None);
    let before = lab.reasons();
    assert!(!pings(&lab, "app", &db));
    assert!(!pings(&lab, "db", "fd00:9::2"));
    assert_eq!(lab.drops_since(&before).keys().collect::<Vec<_>>(), ["no-icc"]);
    assert!(pings(&lab, "app", "fd00:9::1"));
    lab.host(["ping", "-c1", "-W1", &db]).ok();
}
