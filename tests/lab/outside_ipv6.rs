//! Traffic from containers to other hosts over IPv6, and from other hosts to containers.

use netbpf_tests::lab::eventually;

use super::outside::{Neighbourhood, ask, run_server};

/// An option of `network create`.
fn option(name: &str, value: &str) -> String {
    format!("-o com.docker.network.{name}={value}")
}

#[test]
fn containers_reach_other_hosts_with_the_host_s_ipv6_address() {
    let lab = Neighbourhood::start();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.run("web", "--net red");
    let (_far, _side) = (lab.serve("far", 80), lab.serve("side", 80));
    lab.exec("web", "ping -c1 -W2 2001:db8:1::2").ok();
    let seen = |server: &str| lab.exec_script("web", &ask(server)).ok().stdout;
    assert_eq!(seen("[2001:db8:1::2]:80"), "2001:db8:1::1");
    assert_eq!(seen("[2001:db8:3::2]:80"), "2001:db8:3::1");
    assert_eq!(seen("192.0.2.2:80"), "192.0.2.1");
    // Whatever the host's own rules are.
    let drop = "add table ip6 filter; \
                add chain ip6 filter FORWARD { type filter hook forward priority 0; policy drop; }; \
                add rule ip6 filter FORWARD reject";
    lab.host(["nft", drop]).ok();
    eventually("netbpf has seen it", || {
        let asked = lab.exec_script("web", &ask("[2001:db8:1::2]:80"));
        (asked.stdout == "2001:db8:1::1").then_some(())
    });
    lab.host(["nft", "delete", "table", "ip6", "filter"]).ok();
}

#[test]
fn a_network_of_ipv6_only_reaches_other_hosts() {
    let lab = Neighbourhood::start();
    lab.network("six", "--ipv4=false --ipv6");
    lab.run("web", "--net six");
    let _far = lab.serve("far", 80);
    assert_eq!(lab.exec_script("web", &ask("[2001:db8:1::2]:80")).ok().text(), "2001:db8:1::1");
}

#[test]
fn an_ipv6_source_address_can_be_chosen_or_kept() {
    let lab = Neighbourhood::start();
    lab.host(["ip", "addr", "add", "2001:db8:1::77/64", "dev", "uplink", "nodad"]).ok();
    let _far = lab.serve("far", 80);
    for (number, name, options, address) in [
        (1, "kept", option("bridge.enable_ip_masquerade", "false"), "fd00:1::2"),
        (2, "chosen", option("host_ipv6", "2001:db8:1::77"), "2001:db8:1::77"),
        (3, "routed", option("bridge.gateway_mode_ipv6", "routed"), "fd00:3::2"),
    ] {
        lab.network(
            name,
            &format!("--ipv6 --subnet 10.{number}.0.0/24 --subnet fd00:{number}::/64 {options}"),
        );
        lab.run(name, &format!("--net {name}"));
        assert_eq!(lab.exec_script(name, &ask("[2001:db8:1::2]:80")).ok().text(), address, "{name}");
    }
}

/// A Python program that sends a datagram of 1400 bytes twice and prints the result. Argument: the address.
const SEND_LARGE: &str = "
import socket, sys, time
client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
client.setsockopt(socket.IPPROTO_IPV6, 23, 2) # IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO
client.connect((sys.argv[1], 8080))
client.settimeout(5)
client.send(bytes(1400))
try:
    client.recv(1)
except OSError as error:
    print(error.strerror, client.getsockopt(socket.IPPROTO_IPV6, 24)) # IPV6_MTU
";

#[test]
fn icmpv6_errors_and_the_path_mtu_reach_the_container() {
    let lab = Neighbourhood::start();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.run("web", "--net red");
    let closed =
        lab.exec_script("web", "echo x | socat -T2 - UDP6:[2001:db8:1::2]:9,connect-timeout=2; sleep 0.2");
    assert!(closed.stderr.contains("Connection refused"), "{closed:?}");
    let asked = lab.exec("web", "ping -c1 -W2 -M do -s 1452 2001:db8:2::2");
    assert!(asked.stdout.contains("Packet too big: mtu=1400"), "{asked:?}");
    let route = lab.exec("web", "ip -6 route get 2001:db8:2::2").ok();
    assert!(route.text().contains("mtu 1400"), "{route}");
    // TCP uses the path MTU that the first packet discovered.
    let server =
        lab.spawn(["ip", "netns", "exec", "beyond", "sh", "-c", "socat -u TCP6-LISTEN:80 - | md5sum"]);
    eventually("the server listens", || {
        lab.on("beyond", "ss -Hltn").ok().stdout.contains(":80 ").then_some(())
    });
    lab.exec_script("web", "head -c 3000000 /dev/zero | socat -u - TCP6:[2001:db8:2::2]:80").ok();
    let expected = lab.host(["sh", "-c", "head -c 3000000 /dev/zero | md5sum"]).ok().stdout;
    assert_eq!(server.output().ok().stdout, expected);
}

#[test]
fn a_sender_of_large_packets_to_a_container_gets_packet_too_big() {
    let lab = Neighbourhood::start();
    let mtu = option("driver.mtu", "1300");
    let (routed, of_routed) = (option("bridge.gateway_mode_ipv6", "routed"), "--subnet fd00:2::/64");
    lab.network("small", &format!("--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 {mtu}"));
    lab.network("open", &format!("--ipv6 --subnet 10.2.0.0/24 {of_routed} {mtu} {routed}"));
    lab.run("web", "--net small -p 8080:5300/udp");
    lab.run("routed", "--net open");
    // Through a published port, the error comes from the address that the client sent to.
    let told = lab.on("far", &format!("python3 -c '{SEND_LARGE}' 2001:db8:1::1")).ok();
    assert_eq!(told.text(), "Message too long 1300");
    let asked = lab.on("side", "ping -c1 -W2 -M do -s 1452 fd00:2::2");
    assert!(asked.stdout.contains("Packet too big: mtu=1300"), "{asked:?}");
    lab.on("side", "ping -c1 -W2 -M do -s 1252 fd00:2::2").ok();
    // A published port at which nobody listens.
    let closed = lab.on("far", "echo x | socat -T2 - UDP6:[2001:db8:1::1]:8080; sleep 0.2");
    assert!(closed.stderr.contains("Connection refused"), "{closed:?}");
}

#[test]
fn other_hosts_reach_no_container_directly_over_ipv6() {
    let lab = Neighbourhood::start();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    run_server(&lab, "web", "red");
    let server = ask("[fd00:1::2]:80");
    assert_eq!(lab.host(["sh", "-c", &server]).ok().text(), "reached");
    let before = unpublished(&lab);
    assert!(!lab.on("far", "ping -c1 -W1 fd00:1::2").status.success());
    assert!(!lab.on("far", &server).status.success());
    assert!(unpublished(&lab) > before);
}

/// The number of packets dropped because their port is not published.
#[track_caller]
fn unpublished(lab: &Neighbourhood) -> u64 {
    let counter = lab.host(["nft", "-j", "list", "counter", "inet", "netbpf", "unpublished"]).ok().json();
    counter["nftables"][1]["counter"]["packets"].as_u64().expect("a number of packets")
}

#[test]
fn internal_networks_reach_nobody_over_ipv6_and_nobody_reaches_them() {
    let lab = Neighbourhood::start();
    lab.network("inner", "--internal --ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.run("web", "--net inner");
    let out = lab.exec("web", "ping -c1 -W1 2001:db8:1::2");
    assert!(out.stderr.contains("Network is unreachable"), "{out:?}");
    lab.exec("web", "ping -c1 -W1 fd00:1::1").ok();
    lab.host(["ping", "-c1", "-W1", "fd00:1::2"]).ok();
    assert!(!lab.on("far", "ping -c1 -W1 fd00:1::2").status.success());
    // A route added in the container does not help.
    lab.in_network_of("web", "ip -6 route add default via fd00:1::1").ok();
    assert!(!lab.exec("web", "ping -c1 -W1 2001:db8:1::2").status.success());
    let counted = lab.host(["nft", "list", "counter", "inet", "netbpf", "internal"]).ok();
    assert!(!counted.stdout.contains("packets 0 "), "{counted:?}");
}

#[test]
fn the_ipv6_gateway_mode_determines_inbound_traffic() {
    let lab = Neighbourhood::start();
    let nets =
        [("open", 1, "nat-unprotected", true), ("routed", 2, "routed", true), ("nat", 3, "nat", false)];
    for (name, number, mode, answers) in nets {
        let options = option("bridge.gateway_mode_ipv6", mode);
        lab.network(
            name,
            &format!("--ipv6 --subnet 10.{number}.0.0/24 --subnet fd00:{number}::/64 {options}"),
        );
        run_server(&lab, name, name);
        let ping = lab.on("far", &format!("ping -c1 -W1 fd00:{number}::2"));
        assert_eq!(ping.status.success(), answers, "{name}: {ping:?}");
        let asked = lab.on("far", &ask(&format!("[fd00:{number}::2]:80")));
        assert_eq!(asked.status.success(), name == "open", "{name}: {asked:?}");
        // The other family has a mode of its own.
        assert!(!lab.on("far", &format!("ping -c1 -W1 10.{number}.0.2")).status.success(), "{name}");
    }
    // For other networks the same rules apply as for other hosts, in both directions.
    lab.exec("nat", "ping -c1 -W1 fd00:1::2").ok();
    lab.exec("nat", "ping -c1 -W1 fd00:2::2").ok();
    assert!(!lab.exec("open", "ping -c1 -W1 fd00:3::2").status.success());
    assert!(!lab.exec("routed", "ping -c1 -W1 fd00:3::2").status.success());
}

#[test]
fn ipv6_flows_of_a_removed_container_do_not_reach_its_successor() {
    let lab = Neighbourhood::start();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.run("first", "--net red");
    let _echo =
        lab.spawn(["ip", "netns", "exec", "far", "socat", "UDP6-RECVFROM:5000,reuseaddr", "EXEC:cat"]);
    eventually("the server listens", || {
        lab.on("far", "ss -Hlun").ok().stdout.contains(":5000 ").then_some(())
    });
    let asked = "echo early | socat -T1 - UDP6:[2001:db8:1::2]:5000,sourceport=6000";
    assert_eq!(lab.exec_script("first", asked).ok().text(), "early");
    lab.netbpf(["rm", "-f", "first"]).ok();
    lab.run("second", "--net red");
    let addresses = lab.in_network_of("second", "ip -6 -o address show dev eth0 scope global").ok();
    assert!(addresses.text().contains("fd00:1::2/64"), "{addresses}");
    let pid = lab.pid("second").to_string();
    let listener =
        lab.spawn(["nsenter", "-t", &pid, "-n", "timeout", "2", "socat", "-u", "UDP6-RECV:6000", "-"]);
    eventually("the successor listens", || {
        lab.in_network_of("second", "ss -Hlun").ok().stdout.contains(":6000 ").then_some(())
    });
    let late = "echo late | socat -u - UDP6:[2001:db8:1::1]:6000,sourceport=5000,reuseaddr";
    lab.on("far", late).ok();
    assert_eq!(listener.output().stdout, "");
}
