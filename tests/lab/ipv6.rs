//! Networks with IPv6: they behave as docker0's users know it from IPv4, and neighbour discovery is as safe as ARP.

use netbpf_tests::lab::{
    Lab, eventually,
    station::{Station, ethernet, icmpv6, ipv6},
};
use serde_json::Value;

/// The last bytes of every frame in the tests on spoofing.
const MARK: &[u8] = b"netbpf over six!";

const IPV6: u16 = 0x86dd;

/// A network of both families with two containers.
fn two(options: &str) -> Lab {
    let lab = Lab::start();
    lab.network("six", options);
    lab.run("alice", "--net six");
    lab.run("bob", "--net six --network-alias bobby");
    lab
}

const SIX: &str = "--ipv6 --subnet 10.6.0.0/24 --subnet fd00:6::/64";

/// A container's IPv6 address in a network.
#[track_caller]
fn address(lab: &Lab, container: &str, network: &str) -> String {
    let inspected = lab.inspect(container);
    inspected["NetworkSettings"]["Networks"][network]["GlobalIPv6Address"].as_str().unwrap_or_default().into()
}

/// The IPv6 addresses of an interface with their flags.
#[track_caller]
fn addresses(lab: &Lab, container: &str, interface: &str) -> Vec<String> {
    let link = lab.in_network_of(container, &format!("ip -j -6 address show dev {interface}")).ok().json();
    let text = |address: &Value| {
        let flag = |name: &&str| address[*name] == true;
        let flags = ["tentative", "dadfailed"].into_iter().filter(flag).map(|flag| format!(" {flag}"));
        format!("{}{}", address["local"].as_str().unwrap_or_default(), flags.collect::<String>())
    };
    link[0]["addr_info"].as_array().into_iter().flatten().map(text).collect()
}

#[test]
fn containers_reach_each_other_by_name_over_ipv6_and_the_host_reaches_them() {
    let lab = two(SIX);
    assert_eq!(addresses(&lab, "alice", "eth0"), ["fd00:6::2", "fe80::42:aff:fe06:2"]);
    assert_eq!([address(&lab, "alice", "six"), address(&lab, "bob", "six")], ["fd00:6::2", "fd00:6::3"]);

    let before = lab.reasons();
    let pinged = lab.exec("alice", "ping -6 -c1 bob").ok();
    assert!(pinged.stdout.contains("64 bytes from bob.six (fd00:6::3)"), "{pinged}");
    lab.exec("bob", "ping -6 -c1 alice.six").ok();
    lab.exec("alice", "ping -4 -c1 bob").ok();
    lab.exec("alice", "ping -c1 fd00:6::1").ok();
    lab.exec("alice", "ping -c1 fe80::42:aff:fe06:3%eth0").ok();
    lab.host(["ping", "-c1", "fd00:6::2"]).ok();
    lab.host(["ping", "-c1", &format!("fe80::42:aff:fe06:2%{}", lab.device("six"))]).ok();
    assert_eq!(lab.drops_since(&before), [].into());
    assert!(lab.reasons()["answered-nd"] > before["answered-nd"]);

    let route = lab.exec("alice", "ip -6 route show default").ok();
    assert!(route.text().starts_with("default via fd00:6::1 dev eth0"), "{route}");
    assert_eq!(lab.exec("alice", "dig +short AAAA bobby").ok().text(), "fd00:6::3");
    assert_eq!(lab.exec("alice", "dig +short -x fd00:6::3").ok().text(), "bob.six.");
    let hosts = lab.exec("alice", "cat /etc/hosts").ok();
    let own = |line: &str| line.split('\t').next().map(str::to_owned);
    let of_container: Vec<_> = hosts.text().lines().rev().take(2).filter_map(own).collect();
    assert_eq!(of_container, ["fd00:6::2", "10.6.0.2"], "{hosts}");
    assert!(hosts.text().contains("::1\tlocalhost ip6-localhost ip6-loopback"), "{hosts}");
    let nowhere = lab.in_network_of("alice", "cat /proc/sys/net/ipv6/conf/eth0/accept_ra").ok();
    assert_eq!(nowhere.text(), "0");
}

#[test]
fn inspect_and_ls_have_both_families() {
    let lab = two(
        "--ipv6 --subnet 10.6.0.0/24 --subnet fd00:6::/64 --gateway fd00:6::ff --ip-range fd00:6::100/120 --aux-address router=fd00:6::100",
    );
    let network = lab.inspect("six");
    assert_eq!((&network["EnableIPv4"], &network["EnableIPv6"]), (&true.into(), &true.into()));
    let config = &network["IPAM"]["Config"];
    assert_eq!(config[0]["Subnet"], "10.6.0.0/24");
    assert_eq!(config[1]["Subnet"], "fd00:6::/64");
    assert_eq!(config[1]["IPRange"], "fd00:6::100/120");
    assert_eq!(config[1]["Gateway"], "fd00:6::ff");
    assert_eq!(config[1]["AuxiliaryAddresses"]["router"], "fd00:6::100");
    let alice =
        network["Containers"].as_object().into_iter().flatten().find(|(_, one)| one["Name"] == "alice");
    assert_eq!(alice.expect("alice").1["IPv6Address"], "fd00:6::101/64");
    let settings = lab.inspect("alice")["NetworkSettings"]["Networks"]["six"].take();
    assert_eq!(settings["GlobalIPv6Address"], "fd00:6::101");
    assert_eq!(settings["GlobalIPv6PrefixLen"], 64);
    assert_eq!(settings["IPv6Gateway"], "fd00:6::ff");
    let listed = lab.netbpf(["network", "ls", "--format", "{{.Name}} {{.IPv4}} {{.IPv6}}"]).ok();
    assert!(listed.text().lines().any(|line| line == "six true true"), "{listed}");
    assert!(listed.text().lines().any(|line| line == "bridge true false"), "{listed}");
}

#[test]
fn the_default_subnet_is_one_of_the_host_s_own_block() {
    let lab = Lab::start();
    assert_eq!(lab.host(["cat", "/proc/sys/net/ipv6/conf/all/forwarding"]).ok().text(), "0");
    lab.network("first", "--ipv6");
    lab.network("second", "-o com.docker.network.enable_ipv6=true");
    assert_eq!(lab.host(["cat", "/proc/sys/net/ipv6/conf/all/forwarding"]).ok().text(), "1");
    assert!(lab.daemon_log().contains("net.ipv6.conf.all.forwarding to 1"), "{}", lab.daemon_log());
    let subnet = |name: &str| {
        let text = lab.inspect(name)["IPAM"]["Config"][1]["Subnet"].as_str().expect("a subnet").to_owned();
        let net = text.strip_suffix("/64").expect("a /64").parse::<std::net::Ipv6Addr>().expect("an address");
        u128::from(net)
    };
    let (first, second) = (subnet("first"), subnet("second"));
    assert_eq!(first >> 120, 0xfd, "unique local");
    assert_eq!((first >> 64) & 0xffff, 0, "the first of its /48");
    assert_eq!(second - first, 1 << 64, "the next one");
}

#[test]
fn a_network_of_ipv6_only_has_nothing_of_ipv4() {
    let lab = two("--ipv4=false --ipv6 --subnet fd00:6::/64");
    assert_eq!(lab.exec("alice", "ip -4 -o address show dev eth0").ok().text(), "");
    assert_eq!(lab.exec("alice", "ip -4 route").ok().text(), "");
    assert_eq!(
        (lab.address("alice", "six"), address(&lab, "alice", "six")),
        (String::new(), "fd00:6::2".into())
    );
    let pinged = lab.exec("alice", "ping -c1 bob").ok();
    assert!(pinged.stdout.contains("64 bytes from bob.six (fd00:6::3)"), "{pinged}");
    lab.host(["ping", "-c1", "fd00:6::2"]).ok();
    lab.exec("alice", "ping -c1 fd00:6::1").ok();
    assert_eq!(lab.exec("alice", "dig +short A bob").ok().text(), "");
    lab.run("carol", "");
    lab.netbpf(["connect", "six", "carol"]).ok();
    let routes = lab.exec("carol", "ip route show default").ok().stdout
        + &lab.exec("carol", "ip -6 route show default").ok().stdout;
    assert!(routes.starts_with("default via 172.17.0.1 dev eth0"), "{routes}");
    assert!(routes.contains("default via fd00:6::1 dev eth1"), "{routes}");
    lab.netbpf(["disconnect", "six", "carol"]).ok();
    assert_eq!(lab.exec("carol", "ip -6 route show default").ok().text(), "");
    lab.exec("carol", "ping -c1 172.17.0.1").ok();
}

#[test]
fn a_reused_address_is_reachable_at_once() {
    let lab = two(SIX);
    let alices = |lab: &Lab| {
        let table = lab.exec("bob", "ip -6 neigh show to fd00:6::2").ok();
        table.text().split_whitespace().nth(4).unwrap_or_default().to_owned()
    };
    lab.exec("bob", "ping -c1 fd00:6::2").ok();
    lab.host(["ping", "-c1", "fd00:6::2"]).ok();
    assert_eq!(alices(&lab), "02:42:0a:06:00:02");
    lab.netbpf(["rm", "-f", "alice"]).ok();
    lab.run("carol", "--net six --ip 10.6.0.50 --ip6 fd00:6::2");
    lab.exec("bob", "ping -c1 -W1 fd00:6::2").ok();
    lab.host(["ping", "-c1", "-W1", "fd00:6::2"]).ok();
    assert_eq!(alices(&lab), "02:42:0a:06:00:32");
}

#[test]
fn a_foreign_namespace_gets_ipv6_and_keeps_its_routes() {
    let lab = two(SIX);
    lab.host(["ip", "netns", "add", "blue"]).ok();
    let blue = |script: &str| lab.host(["nsenter", "--net=/run/netns/blue", "sh", "-c", script]);
    blue("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6").ok();
    lab.netbpf(["connect", "--ip6", "fd00:6::b1", "six", "netns:blue"]).ok();
    blue("ping -c1 fd00:6::2").ok();
    assert_eq!(blue("ip -6 route show default").ok().text(), "");
    let pinged = lab.exec("alice", "ping -6 -c1 blue").ok();
    assert!(pinged.stdout.contains("64 bytes from blue.six (fd00:6::b1)"), "{pinged}");
    lab.netbpf(["disconnect", "six", "netns:blue"]).ok();
    lab.host(["ip", "netns", "del", "blue"]).ok();
}

#[test]
fn the_default_route_uses_another_gateway_address_if_configured() {
    let lab = Lab::start();
    lab.network("six", &format!("{SIX} --aux-address DefaultGatewayIPv6=fd00:6::fe"));
    lab.host(["ip", "-6", "address", "add", "2001:db8:7::1/128", "dev", "lo"]).ok();
    lab.run("alice", "--net six");
    let route = lab.exec("alice", "ip -6 route show default").ok();
    assert!(route.text().starts_with("default via fd00:6::fe dev eth0"), "{route}");
    assert_eq!(lab.inspect("alice")["NetworkSettings"]["Networks"]["six"]["IPv6Gateway"], "fd00:6::fe");
    lab.exec("alice", "ping -c1 fd00:6::1").ok();
    lab.exec("alice", "ping -c1 2001:db8:7::1").ok();
}

#[test]
fn duplicate_address_detection_finds_another_container_s_address() {
    let lab = two(SIX);
    let added = |address: &str| {
        lab.in_network_of("bob", &format!("ip -6 address add {address}/64 dev eth0")).ok();
        eventually("detection of duplicates ends", || {
            let known =
                addresses(&lab, "bob", "eth0").into_iter().find(|known| known.starts_with(address))?;
            (known == address || known.contains("dadfailed")).then_some(known)
        })
    };
    assert!(added("fd00:6::2").contains("dadfailed"), "alice's");
    assert!(added("fd00:6::1").contains("dadfailed"), "the gateway's");
    lab.exec("alice", "ping -c1 fd00:6::1").ok();
    lab.in_network_of("bob", "ip -6 address del fd00:6::2/64 dev eth0").ok();
    lab.exec("bob", "ping -c1 fd00:6::2").ok();
    // Nobody has the address, but it is not bob's either.
    assert_eq!(added("fd00:6::77"), "fd00:6::77");
    let before = lab.reasons();
    lab.in_network_of("bob", "ping -c1 -W1 -I fd00:6::77 fd00:6::2").fails_with(1, "");
    assert!(lab.drops_since(&before).contains_key("spoofed-ipv6"));
    // The host's own detection fails, too.
    let device = lab.device("six");
    lab.host(["ip", "-6", "address", "add", "fd00:6::3/64", "dev", &device]).ok();
    eventually("the host's detection fails", || {
        let shown = lab.host(["ip", "-6", "address", "show", "dev", &device]).ok();
        shown.text().contains("dadfailed").then_some(())
    });
    lab.host(["ping", "-c1", "fd00:6::2"]).ok();
}

#[test]
fn requested_addresses_are_kept_or_refused_with_docker_s_message() {
    let lab = two(SIX);
    lab.run("carol", "--net six --ip 10.6.0.9 --ip6 fd00:6::9");
    lab.netbpf(["restart", "-t", "0", "carol"]).ok();
    assert_eq!(address(&lab, "carol", "six"), "fd00:6::9");
    lab.exec("alice", "ping -6 -c1 carol").ok();
    lab.network("four", "--subnet 10.4.0.0/24");
    lab.run("dave", "");
    let refused = |words: &[&str], message: &str| {
        let message = format!("Error response from daemon: {message}\n");
        let output = lab.netbpf(words);
        assert_eq!((output.status.code(), output.stderr.as_str()), (Some(1), message.as_str()), "{words:?}");
    };
    refused(&["connect", "--ip6", "fd00:6::9", "six", "dave"], "Address already in use");
    refused(&["connect", "--ip6", "fd00:6::1", "six", "dave"], "Address already in use");
    refused(
        &["connect", "--ip6", "fd00:7::9", "six", "dave"],
        "no configured subnet contains IP address fd00:7::9",
    );
    refused(
        &["connect", "--ip6", "fd00:6::9", "four", "dave"],
        "no configured subnet contains IP address fd00:6::9",
    );
    for text in ["10.6.0.7", "fd00::x"] {
        let message = format!("invalid endpoint settings:\ninvalid IPv6 address: {text}");
        refused(&["connect", "--ip6", text, "six", "dave"], &message);
    }
    lab.netbpf(["run", "-d", "--ip6", "fd00:6::9", "--", "true"])
        .fails_with(125, "user-specified IP address is supported on user-defined networks only");
    lab.netbpf(["run", "-d", "--net", "four", "--ip6", "fd00:6::9", "--", "true"])
        .fails_with(125, "no configured subnet contains IP address fd00:6::9");
    refused(&["network", "create", "--ipv4=false", "none-at-all"], "IPv4 or IPv6 must be enabled");
    refused(
        &["network", "create", "--ipv6", "--subnet", "fd00:8::/64", "--subnet", "fd00:9::/64", "twice"],
        "bridge driver doesn't support multiple subnets",
    );
    refused(
        &["network", "create", "--ipv6", "--subnet", "fd00:6::/80", "again"],
        "invalid pool request: Pool overlaps with other one on this address space",
    );
    refused(
        &["network", "create", "--subnet", "fd00:8::/64", "off"],
        "invalid network config:\ninvalid subnet fd00:8::/64: the network has no IPv6 without --ipv6",
    );
    refused(
        &["network", "create", "--ipv6", "-o", "com.docker.network.driver.mtu=1279", "narrow"],
        "invalid MTU number: 1279: IPv6 needs 1280",
    );
}

#[test]
fn bulk_traffic_over_ipv6_arrives_unchanged() {
    const MEGABYTES: usize = 8;
    let lab = two(SIX);
    let folder = lab.path("/run/served");
    std::fs::create_dir(&folder).expect("a folder");
    lab.host(["dd", "if=/dev/urandom", "of=/run/served/bulk", "bs=1048576", &format!("count={MEGABYTES}")])
        .ok();
    let serve = ["busybox", "httpd", "-f", "-p", "[::]:8080", "-h", "/run/served"];
    lab.netbpf(["run", "-d", "--name", "server", "--net", "six", "--"].into_iter().chain(serve)).ok();
    let server = address(&lab, "server", "six");
    eventually("the server answers", || {
        let answer =
            lab.host(["busybox", "wget", "-q", "-O", "/dev/null", &format!("http://[{server}]:8080/")]);
        (answer.status.success() || answer.stderr.contains("404")).then_some(())
    });
    let expected = lab.host(["busybox", "sha256sum", "/run/served/bulk"]).ok().text()[..64].to_owned();
    let fetch = format!("busybox wget -qO- http://[{server}]:8080/bulk | busybox sha256sum");
    let before = lab.reasons();
    assert_eq!(lab.exec_script("alice", &fetch).ok().text()[..64], expected);
    let frames = lab.reasons()["forwarded"] - before["forwarded"];
    assert!((frames as usize) < MEGABYTES * 1_048_576 / 1500, "{frames} frames: segments travel together");
    assert_eq!(lab.host(["sh", "-c", &fetch]).ok().text()[..64], expected);
    std::fs::remove_dir_all(folder).expect("the folder goes");
}

#[test]
fn the_host_routes_no_ipv6_between_networks() {
    let lab = two(SIX);
    lab.network("other", "--ipv6 --subnet 10.7.0.0/24 --subnet fd00:7::/64");
    lab.run("carol", "--net other");
    lab.exec("carol", "ping -c1 fd00:7::1").ok();
    lab.exec("carol", "ping -c1 fd00:6::1").ok();
    for (from, to) in [("carol", "fd00:6::2"), ("alice", "fd00:7::2")] {
        lab.exec(from, &format!("ping -c1 -W1 {to}")).fails_with(1, "");
    }
    let frame = |from: &Station, host: &Station| {
        let packet = ipv6(global(7, 2), global(6, 2), MARK);
        ethernet(host.mac(), from.mac(), IPV6, &packet)
    };
    let (carol, alice) = (lab.station("carol", "eth0"), lab.station("alice", "eth0"));
    let host = lab.host_station(&lab.device("other"));
    carol.send(&frame(&carol, &host));
    lab.reasons();
    assert_eq!((host.heard_ending_in(MARK), alice.heard_ending_in(MARK)), (1, 0));
    lab.netbpf(["connect", "six", "carol"]).ok();
    lab.exec("carol", "ping -6 -c1 alice").ok();
}

#[test]
fn an_isolated_network_has_no_host_over_ipv6() {
    let lab = two(&format!("{SIX} --internal -o com.docker.network.bridge.gateway_mode_ipv6=isolated"));
    lab.exec("alice", "ping -6 -c1 bob").ok();
    lab.exec("alice", "ping -c1 10.6.0.1").ok();
    assert_eq!(
        lab.exec("alice", "ip -6 -brief address show dev eth0 scope global")
            .ok()
            .text()
            .split_whitespace()
            .nth(2),
        Some("fd00:6::1/64")
    );
    lab.exec("alice", "ping -c1 -W1 fd00:6::3").fails_with(1, "");
    assert_eq!(lab.host(["ip", "-6", "address", "show", "dev", &lab.device("six")]).ok().text(), "");
    assert_eq!(lab.exec("alice", "ip -6 route show default").ok().text(), "");
}

#[test]
fn a_port_is_published_at_both_addresses() {
    let lab = two(SIX);
    let serve = ["socat", "TCP6-LISTEN:80,fork,reuseaddr", "SYSTEM:echo web"];
    lab.netbpf(
        ["run", "-d", "--name", "web", "--net", "six", "-p", "8080:80", "--"].into_iter().chain(serve),
    )
    .ok();
    assert_eq!(lab.netbpf(["port", "web"]).ok().stdout, "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n");
    lab.network("other", "--ipv6 --subnet 10.7.0.0/24 --subnet fd00:7::/64");
    lab.run("carol", "--net other");
    for address in ["TCP6:[fd00:7::1]:8080", "TCP4:10.7.0.1:8080", "TCP6:[fd00:6::1]:8080"] {
        eventually("the port answers", || {
            let said = lab.exec("carol", &format!("socat -t5 -T5 - {address},connect-timeout=5"));
            (said.status.success() && said.text() == "web").then_some(())
        });
        assert_eq!(
            lab.exec("alice", &format!("socat -t5 -T5 - {address},connect-timeout=5")).ok().text(),
            "web"
        );
        assert_eq!(
            lab.host(["socat", "-t5", "-T5", "-", &format!("{address},connect-timeout=5")]).ok().text(),
            "web"
        );
    }
}

fn global(network: u8, host: u8) -> [u8; 16] {
    [0xfd, 0, 0, network, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]
}

#[test]
fn spoofed_ipv6_frames_reach_nobody() {
    let lab = two(SIX);
    lab.run("mallory", "--net six");
    let [mallory, alice, bob] = ["mallory", "alice", "bob"].map(|name| lab.station(name, "eth0"));
    let host = lab.host_station(&lab.device("six"));
    let all_nodes = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x42, 0x0a, 0xff, 0xfe, 0x06, 0, 4];
    let own = global(6, 4);
    let option = |kind: u8, mac: [u8; 6]| [&[kind, 1][..], &mac].concat();
    let about = |kind: u8, flags: u8, target: [u8; 16], options: &[u8]| {
        [&[kind, 0, 0, 0, flags, 0, 0, 0], &target[..], options].concat()
    };
    let mac = mallory.mac();
    let advertisement = [&[134, 0, 0, 0, 64, 0, 7, 8][..], &[0; 8], &option(1, mac)].concat();
    let redirect = [&[137, 0, 0, 0, 0, 0, 0, 0][..], &own, &global(9, 9)].concat();
    let false_mac = about(136, 0x20, own, &option(2, bob.mac()));
    for (what, source, message, reason) in [
        ("bob's address", own, about(136, 0x20, global(6, 3), &option(2, mac)), "spoofed-nd"),
        ("the gateway's address", own, about(136, 0xa0, global(6, 1), &option(2, mac)), "spoofed-nd"),
        ("the own address at bob's MAC", own, false_mac, "spoofed-nd"),
        ("a question with bob's MAC", own, about(135, 0, global(6, 2), &option(1, bob.mac())), "spoofed-nd"),
        ("a router", link_local, advertisement, "spoofed-nd"),
        ("a better router", link_local, redirect, "spoofed-nd"),
        ("bob, in bob's name", global(6, 3), about(136, 0x20, global(6, 3), &option(2, mac)), "spoofed-ipv6"),
    ] {
        for (destination, to) in
            [(alice.mac(), global(6, 2)), (host.mac(), global(6, 1)), ([0x33, 0x33, 0, 0, 0, 1], all_nodes)]
        {
            // The mark is behind the packet, as padding: it identifies the frame, and no checksum covers it.
            let packet = [icmpv6(source, to, &message), MARK.to_vec()].concat();
            let before = lab.reasons();
            mallory.send(&ethernet(destination, mac, IPV6, &packet));
            assert_eq!(lab.drops_since(&before), [(reason.to_owned(), 1)].into(), "{what}");
            for (name, station) in [("alice", &alice), ("bob", &bob), ("the host", &host)] {
                assert_eq!(station.heard_ending_in(MARK), 0, "{name} hears of {what}");
            }
        }
    }
    let neighbours = |lab: &Lab| {
        lab.exec("alice", "ping -c1 fd00:6::3").ok();
        lab.exec("alice", "ping -c1 fd00:6::1").ok();
        let table = lab.exec("alice", "ip -6 neigh show to fd00:6::/64").ok();
        let mut macs: Vec<_> = table
            .text()
            .lines()
            .map(|line| line.split_whitespace().take(5).collect::<Vec<_>>().join(" "))
            .collect();
        macs.sort();
        macs
    };
    assert_eq!(
        neighbours(&lab),
        ["fd00:6::1 dev eth0 lladdr 02:42:0a:06:00:01", "fd00:6::3 dev eth0 lladdr 02:42:0a:06:00:03"]
    );
}

#[test]
fn networks_with_ipv6_live_on_without_a_daemon_and_come_back_with_it() {
    let lab = two(SIX);
    lab.stop_daemon();
    lab.start_daemon();
    lab.exec("alice", "ping -6 -c1 bob").ok();
    assert_eq!(address(&lab, "alice", "six"), "fd00:6::2");
    lab.run("carol", "--net six");
    assert_eq!(address(&lab, "carol", "six"), "fd00:6::4");
    lab.netbpf(["rm", "-f", "alice"]).ok();
    lab.run("dave", "--net six");
    assert_eq!(address(&lab, "dave", "six"), "fd00:6::2", "the lowest free one");
    // A deleted host device is created again with all its settings.
    lab.stop_daemon();
    lab.host(["ip", "link", "delete", &format!("nb-{}", &lab_id(&lab)[..12])]).ok();
    lab.start_daemon();
    lab.host(["ping", "-c1", "fd00:6::3"]).ok();
    lab.exec("bob", "ping -c1 fd00:6::1").ok();
}

/// The ID of the only user-defined network, found without the daemon.
fn lab_id(lab: &Lab) -> String {
    let links = lab.host(["ip", "-o", "link", "show", "type", "veth"]).ok();
    let device = links.text().split_whitespace().find_map(|word| word.strip_prefix("nb-")).expect("a device");
    device.split(['@', ':']).next().unwrap_or_default().to_owned()
}
