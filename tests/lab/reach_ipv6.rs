//! Who reaches a published port over IPv6 by which address, and which source address the server sees: Docker's
//! behaviour as a table.

use netbpf_tests::lab::eventually;

use super::{
    outside::Neighbourhood,
    reach::{Asker, KINDS, a_flow_ends_with_its_container, are_true, serve},
};

/// `web` in `red`, published on all addresses of the host (8080), on ::1 (8081) and on one address (8082).
fn world() -> Neighbourhood {
    let lab = Neighbourhood::start();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.network("blue", "--ipv6 --subnet 10.2.0.0/24 --subnet fd00:2::/64");
    let publish = |host: &str| format!("-p {host}:80 -p {host}:5300/udp");
    let published = ["8080", "[::1]:8081", "[2001:db8:1::1]:8082"].map(publish).join(" ");
    serve(&lab, "web", &format!("--net red {published}"));
    lab.run("red02", "--net red");
    lab.run("blue01", "--net blue");
    lab
}

/// Every row must hold whatever the host's own rules are.
fn each_row(lab: &Neighbourhood) {
    let (far, side) = (Asker::Neighbour("far"), Asker::Neighbour("side"));
    let (other, same, itself) =
        (Asker::Container("blue01"), Asker::Container("red02"), Asker::Container("web"));
    let gateway = Some("fd00:1::1");
    are_true(
        lab,
        &[
            ("another host, its address is kept", far, "2001:db8:1::1", 8080, Some("2001:db8:1::2")),
            ("another host, by another uplink", side, "2001:db8:3::1", 8080, Some("2001:db8:3::2")),
            ("another host, at one address", far, "2001:db8:1::1", 8082, Some("2001:db8:1::2")),
            ("another host, at an address it is not published on", side, "2001:db8:3::1", 8082, None),
            ("another host, at what is published on loopback", far, "2001:db8:1::1", 8081, None),
            ("another host, by the container's address", far, "fd00:1::2", 0, None),
            ("another host, over IPv4", far, "192.0.2.1", 8080, Some("192.0.2.2")),
            ("the host, by ::1", Asker::Host, "::1", 8080, gateway),
            ("the host, at what is published on loopback", Asker::Host, "::1", 8081, gateway),
            ("the host, by 127.0.0.1", Asker::Host, "127.0.0.1", 8080, Some("10.1.0.1")),
            ("the host, by its address", Asker::Host, "2001:db8:1::1", 8080, Some("2001:db8:1::1")),
            ("the host, by the gateway's address", Asker::Host, "fd00:1::1", 8080, gateway),
            ("the host, by another network's gateway", Asker::Host, "fd00:2::1", 8080, gateway),
            ("the host, by the container's address", Asker::Host, "fd00:1::2", 0, gateway),
            ("another network, by the host's address", other, "2001:db8:1::1", 8080, gateway),
            ("another network, by its own gateway", other, "fd00:2::1", 8080, gateway),
            ("another network, by the container's gateway", other, "fd00:1::1", 8080, gateway),
            ("another network, by the container's address", other, "fd00:1::2", 0, None),
            ("the same network, by the host's address", same, "2001:db8:1::1", 8080, gateway),
            ("the same network, by the gateway", same, "fd00:1::1", 8080, gateway),
            ("the same network, by the container's address", same, "fd00:1::2", 0, Some("fd00:1::3")),
            ("itself, by the host's address", itself, "2001:db8:1::1", 8080, gateway),
            ("itself, by the gateway", itself, "fd00:1::1", 8080, gateway),
        ],
    );
}

#[test]
fn a_published_port_is_reachable_over_ipv6() {
    let lab = world();
    each_row(&lab);
    // Also without a daemon, and with the next one.
    let ask = || Asker::Neighbour("far").ask(&lab, "TCP", "2001:db8:1::1", 8080);
    lab.kill_daemon();
    assert_eq!(ask().as_deref(), Some("2001:db8:1::2"));
    lab.start_daemon();
    assert_eq!(ask().as_deref(), Some("2001:db8:1::2"));
}

#[test]
fn a_client_with_a_link_local_address_is_seen_as_the_host() {
    let lab = world();
    let connect =
        "import socket, sys; print(socket.create_connection((sys.argv[1], 8080), 5).recv(99).decode())";
    let shown = lab.host(["ip", "-o", "-6", "address", "show", "dev", "uplink", "scope", "link"]).ok();
    let own = shown.text().split_whitespace().find_map(|word| word.strip_suffix("/64"));
    let own = own.expect("a link-local address");
    let from_far = lab.on("far", &format!("python3 -c '{connect}' {own}%eth0"));
    assert_eq!(from_far.ok().text(), "fd00:1::1");
    let gateway = "fe80::42:aff:fe01:1%eth0";
    assert_eq!(lab.netbpf(["exec", "red02", "python3", "-c", connect, gateway]).ok().text(), "fd00:1::1");
}

#[test]
fn a_host_that_forwards_no_ipv6_changes_nothing() {
    let lab = world();
    let drop = "add table ip6 filter; \
                add chain ip6 filter FORWARD { type filter hook forward priority 0; policy drop; }; \
                add table inet own; add chain inet own f { type filter hook forward priority 10; policy drop; }";
    lab.host(["nft", drop]).ok();
    for chain in [["ip6", "filter", "FORWARD"], ["inet", "own", "f"]] {
        eventually("netbpf has seen it", || {
            let rules = lab.host(["nft", "list", "chain"].into_iter().chain(chain)).ok().stdout;
            rules.contains("netbpf").then_some(())
        });
    }
    each_row(&lab);
    lab.host(["nft", "delete table ip6 filter; delete table inet own"]).ok();
}

#[test]
fn a_container_of_ipv6_only_is_reached_by_ipv6_only() {
    let lab = Neighbourhood::start();
    lab.network("six", "--ipv4=false --ipv6 --subnet fd00:6::/64");
    serve(&lab, "only", "--net six -p 9090:80");
    assert_eq!(lab.netbpf(["port", "only"]).ok().text(), "80/tcp -> [::]:9090");
    for (address, sees) in
        [("::1", Some("fd00:6::1")), ("127.0.0.1", None), ("2001:db8:1::1", Some("2001:db8:1::1"))]
    {
        assert_eq!(Asker::Host.ask(&lab, "TCP", address, 9090).as_deref(), sees, "{address}");
    }
    let far = Asker::Neighbour("far");
    assert_eq!(far.ask(&lab, "TCP", "2001:db8:1::1", 9090).as_deref(), Some("2001:db8:1::2"));
    assert_eq!(far.ask(&lab, "TCP", "192.0.2.1", 9090), None);
}

#[test]
fn an_ipv6_udp_flow_of_a_removed_container_does_not_reach_its_successor() {
    a_flow_ends_with_its_container(&world(), "2001:db8:1::1", "2001:db8:1::2");
}

#[test]
fn a_family_that_is_routed_has_its_ports_at_the_containers_address() {
    let lab = Neighbourhood::start();
    let routed = "com.docker.network.bridge.gateway_mode_ipv6=routed";
    lab.network("routed", &format!("--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 -o {routed}"));
    lab.network("nat", "--ipv6 --subnet 10.2.0.0/24 --subnet fd00:2::/64");
    serve(&lab, "web", "--net routed -p 8080:80 -p 5300:5300/udp");
    lab.run("client", "--net nat");
    let far = Asker::Neighbour("far");
    for (kind, port, on_host) in [("TCP", 80, 8080), ("UDP", 5300, 5300)] {
        assert_eq!(far.ask(&lab, kind, "fd00:1::2", port).as_deref(), Some("2001:db8:1::2"), "{kind}");
        assert!(Asker::Container("client").ask(&lab, kind, "fd00:1::2", port).is_some(), "{kind}");
        assert_eq!(far.ask(&lab, kind, "2001:db8:1::1", on_host), None, "{kind}: on no port of the host");
        assert_eq!(far.ask(&lab, kind, "192.0.2.1", on_host).as_deref(), Some("192.0.2.2"), "{kind}");
        assert_eq!(far.ask(&lab, kind, "10.1.0.2", port), None, "{kind}: the other family is translated");
    }
    assert_eq!(lab.netbpf(["port", "web"]).ok().stdout, "80/tcp -> 0.0.0.0:8080\n5300/udp -> 0.0.0.0:5300\n");
    lab.on("far", "ping -c1 -W2 fd00:1::2").ok();
}

#[test]
fn a_family_that_is_translated_is_not_open_because_the_other_is_routed() {
    let lab = Neighbourhood::start();
    let routed = "com.docker.network.bridge.gateway_mode_ipv4=routed";
    lab.network("routed", &format!("--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 -o {routed}"));
    serve(&lab, "web", "--net routed -p 8080:80 -p 8080:5300/udp");
    let far = Asker::Neighbour("far");
    for (kind, port) in [("TCP", 80), ("UDP", 5300)] {
        assert_eq!(far.ask(&lab, kind, "10.1.0.2", port).as_deref(), Some("192.0.2.2"), "{kind}");
        assert_eq!(far.ask(&lab, kind, "2001:db8:1::1", 8080).as_deref(), Some("2001:db8:1::2"), "{kind}");
        assert_eq!(far.ask(&lab, kind, "fd00:1::2", port), None, "{kind}");
    }
    assert!(!lab.on("far", "ping -c1 -W1 fd00:1::2").status.success());
}

#[test]
fn a_trusted_interface_lets_its_neighbours_use_open_ports_over_ipv6() {
    let lab = Neighbourhood::start();
    let trusted = "com.docker.network.bridge.trusted_host_interfaces=second";
    lab.network("red", &format!("--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 -o {trusted}"));
    serve(&lab, "web", "--net red -p 8080:80");
    let side = Asker::Neighbour("side");
    assert_eq!(side.ask(&lab, "TCP", "fd00:1::2", 80).as_deref(), Some("2001:db8:3::2"));
    assert_eq!(side.ask(&lab, "UDP", "fd00:1::2", 5300), None, "what is not published");
    assert_eq!(Asker::Neighbour("far").ask(&lab, "TCP", "fd00:1::2", 80), None, "by another interface");
}

#[test]
fn each_family_is_published_where_its_default_route_leads() {
    let lab = Neighbourhood::start();
    lab.network("four", "--subnet 10.4.0.0/24");
    lab.network("six", "--ipv4=false --ipv6 --subnet fd00:6::/64");
    lab.network("both", "--ipv6 --subnet 10.7.0.0/24 --subnet fd00:7::/64");
    serve(&lab, "web", "--net four -p 8080:80 -p 8080:5300/udp");
    let far = Asker::Neighbour("far");
    let reached = |ipv4: &str, ipv6: Option<&str>| {
        let filter = lab.host(["nft", "list", "table", "inet", "netbpf"]).ok().stdout;
        // Without IPv6 in the container, the relay connects to it.
        let gateway = format!("{}.1", ipv4.rsplit_once('.').expect("an address").0);
        let sees = [
            ("192.0.2.1", "192.0.2.2"),
            ("2001:db8:1::1", ipv6.map_or(gateway.as_str(), |_| "2001:db8:1::2")),
        ];
        for (at, seen) in sees {
            for kind in KINDS {
                assert_eq!(far.ask(&lab, kind, at, 8080).as_deref(), Some(seen), "{kind} {at}");
            }
        }
        for container in [Some(ipv4), ipv6].into_iter().flatten() {
            assert!(filter.contains(&format!("8080 : {container} . 80")), "{container} in {filter}");
        }
        assert_eq!(lab.netbpf(["port", "web", "80"]).ok().stdout, "0.0.0.0:8080\n[::]:8080\n");
    };
    reached("10.4.0.2", None);
    lab.netbpf(["connect", "six", "web"]).ok();
    reached("10.4.0.2", Some("fd00:6::2"));
    // A network with both families takes precedence over one with a single family.
    lab.netbpf(["connect", "both", "web"]).ok();
    reached("10.7.0.2", Some("fd00:7::2"));
    lab.netbpf(["disconnect", "four", "web"]).ok();
    reached("10.7.0.2", Some("fd00:7::2"));
    lab.netbpf(["connect", "--gw-priority", "1", "four", "web"]).ok();
    reached("10.4.0.2", Some("fd00:7::2"));
    lab.netbpf(["disconnect", "both", "web"]).ok();
    reached("10.4.0.2", Some("fd00:6::2"));
    lab.netbpf(["disconnect", "six", "web"]).ok();
    reached("10.4.0.2", None);
}
