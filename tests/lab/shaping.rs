//! `netbpf.ingress_rate`, `netbpf.egress_rate` and their bursts: words, messages, where they are shown, what others change.

use netbpf_tests::lab::{Lab, eventually};

use crate::world::World;

/// A lab with the network `mynet` and two members.
fn town(options: &str) -> Lab {
    let lab = Lab::start();
    lab.network("mynet", &format!("--internal --subnet 10.1.0.0/24 {options}"));
    lab.run("web", "--net mynet");
    lab.run("db", "--net mynet");
    lab
}

fn update(lab: &Lab, options: &[&str], container: &str) {
    let options = options.iter().flat_map(|option| ["--driver-opt", option]);
    lab.netbpf(["update", "--network", "mynet"].into_iter().chain(options).chain([container])).ok();
}

/// The host side of a container in `mynet`.
fn host_side(lab: &Lab, container: &str) -> String {
    let inner = lab.in_network_of(container, "ip -j link show eth0").ok().json();
    let links = lab.host(["ip", "-j", "link"]).ok().json();
    let mut links = links.as_array().expect("links").iter();
    let outer = links.find(|link| link["ifindex"] == inner[0]["link_index"]).expect("a host side");
    outer["ifname"].as_str().expect("a name").to_owned()
}

/// The rates towards a container and from it, as `tc` shows them.
fn rates(lab: &Lab, container: &str) -> [Option<String>; 2] {
    let outer = lab.host(["tc", "qdisc", "show", "dev", &host_side(lab, container)]).ok();
    let inner = lab.in_network_of(container, "tc qdisc show dev eth0").ok();
    [outer, inner].map(|shown| {
        let tbf = shown.stdout.lines().find(|line| line.starts_with("qdisc tbf 6e62: root"))?;
        tbf.split(" rate ").nth(1)?.split(' ').next().map(str::to_owned)
    })
}

fn rate(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn limits_are_shown_kept_and_removed() {
    let lab = town("-o netbpf.ingress_rate=10mbit");
    update(&lab, &["netbpf.egress_rate=1mbps", "netbpf.egress_burst=64k"], "web");
    assert_eq!(rates(&lab, "web"), [rate("10Mbit"), rate("8Mbit")]);
    assert_eq!(rates(&lab, "db"), [rate("10Mbit"), None]);
    let shown = |lab: &Lab| {
        assert_eq!(lab.inspect("mynet")["Options"]["netbpf.ingress_rate"], "10mbit");
        let options = lab.inspect("web")["NetworkSettings"]["Networks"]["mynet"]["DriverOpts"].take();
        let own = serde_json::json!({ "netbpf.egress_rate": "8mbit", "netbpf.egress_burst": "64k" });
        assert_eq!(options, own);
        let format = "{{.Name}} {{.Interface}}";
        let listed = lab.netbpf(["stats", "--no-stream", "--format", format]).ok().stdout;
        assert_eq!(listed, "db eth0 (10mbit in)\nweb eth0 (10mbit in, 8mbit out)\n");
        let checked = lab.netbpf(["doctor"]).stdout;
        assert!(!checked.contains("shaping"), "{checked}");
    };
    shown(&lab);
    lab.kill_daemon();
    lab.start_daemon();
    shown(&lab);
    lab.netbpf(["restart", "-t", "0", "web"]).ok();
    assert_eq!(rates(&lab, "web"), [rate("10Mbit"), rate("8Mbit")]);
    lab.exec("web", "ping -c1 -W2 db").ok();
    update(&lab, &["netbpf.ingress_rate=unlimited", "netbpf.egress_rate="], "web");
    assert_eq!(rates(&lab, "web"), [None, None]);
    lab.netbpf(["network", "update", "-o", "netbpf.ingress_rate=1gbit", "mynet"]).ok();
    assert_eq!([rates(&lab, "web"), rates(&lab, "db")], [[None, None], [rate("1Gbit"), None]]);
    lab.netbpf(["network", "update", "-o", "netbpf.ingress_rate=", "mynet"]).ok();
    assert_eq!(rates(&lab, "db"), [None, None]);
    lab.exec("web", "ping -c1 -W2 db").ok();

    // None of these changes was taken for somebody else's.
    let web = host_side(&lab, "web");
    lab.host(["ip", "link", "set", &web, "down"]).ok();
    let said = format!("somebody set {web} down");
    eventually("the log says so", || lab.daemon_log().contains(&said).then_some(()));
    assert_eq!(lab.daemon_log().matches("somebody").count(), 1, "{}", lab.daemon_log());
}

/// BIG TCP, on kernels that have it.
#[test]
fn only_limited_containers_give_up_large_packets() {
    let lab = town("");
    let size = |container: &str| {
        let link = lab.in_network_of(container, "ip -d -j link show eth0").ok().json();
        link[0]["gso_max_size"].as_u64()
    };
    let large = size("db");
    update(&lab, &["netbpf.egress_rate=1gbit"], "web");
    assert_eq!((size("web"), size("db")), (Some(65536), large));
    update(&lab, &["netbpf.egress_rate="], "web");
    assert_eq!(size("web"), large);
}

#[test]
fn a_discipline_of_the_host_side_that_somebody_removes_is_restored() {
    let lab = town("-o netbpf.ingress_rate=10mbit");
    let name = host_side(&lab, "web");
    for harm in [
        format!("tc qdisc del dev {name} root"),
        format!("tc qdisc replace dev {name} root handle 7: pfifo limit 9"),
    ] {
        lab.forget_daemon_log();
        lab.host(["sh", "-c", &harm]).ok();
        eventually("the limit is restored", || (rates(&lab, "web")[0] == rate("10Mbit")).then_some(()));
        let said = format!("somebody changed the queueing discipline of {name}: it is set again");
        eventually("the log says so", || lab.daemon_log().contains(&said).then_some(()));
    }
    let checked = lab.netbpf(["doctor"]).stdout;
    assert!(checked.contains("somebody changed the queueing discipline of"), "{checked}");
}

#[test]
fn bad_limits_are_refused_and_change_nothing() {
    let lab = town("");
    let rate = "expected a rate such as 500kbit, 10mbit or 1gbit, or unlimited";
    let range = "expected 1kbit to 1tbit";
    for (option, reason) in [
        ("netbpf.ingress_rate=0", range),
        ("netbpf.egress_rate=10tbit", range),
        ("netbpf.egress_rate=-5mbit", rate),
        ("netbpf.ingress_rate=fast", rate),
        ("netbpf.egress_burst=0", "expected at least a frame"),
        ("netbpf.egress_burst=4g", "expected less than 4g"),
        (
            "netbpf.ingress_burst=1000",
            "netbpf.ingress_burst: a burst of 1000 bytes is too small: frames of network",
        ),
    ] {
        for command in [
            format!("network create -o {option} new"),
            format!("network update -o {option} mynet"),
            format!("update --network mynet --driver-opt {option} web"),
            format!("run -d --name new --net mynet --driver-opt {option} -- sleep infinity"),
        ] {
            let world = World::of(&lab);
            let refused = lab.netbpf(command.split(' '));
            assert!(!refused.status.success() && refused.stderr.contains(reason), "{command}: {refused}");
            world.assert_unchanged(&lab, &command);
        }
    }
}
