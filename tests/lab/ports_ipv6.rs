//! Published ports over IPv6 from the host's own view: what users type and see, which ports are held, and what is left
//! after a failure or an end.

use netbpf_tests::lab::{Lab, eventually};

const SIX: &str = "--ipv6 --subnet 10.6.0.0/24 --subnet fd00:6::/64";

/// A Python program that tries to listen in one family only.
const LISTEN: &str = "
import socket, sys
kind = {'tcp': socket.SOCK_STREAM, 'udp': socket.SOCK_DGRAM}[sys.argv[1]]
server = socket.socket(socket.AF_INET6 if ':' in sys.argv[2] else socket.AF_INET, kind)
if ':' in sys.argv[2]: server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
if kind == socket.SOCK_STREAM: server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[2], int(sys.argv[3])))
";

/// Whether a process on the host gets EADDRINUSE.
#[track_caller]
fn is_held(lab: &Lab, protocol: &str, address: &str, port: u16) -> bool {
    let tried = lab.host(["python3", "-c", LISTEN, protocol, address, &port.to_string()]);
    match tried.status.success() {
        true => false,
        false => {
            tried.fails_with(1, "Address already in use");
            true
        }
    }
}

#[test]
fn both_addresses_are_shown_as_in_docker() {
    let lab = Lab::start();
    lab.network("six", SIX);
    lab.run("web", "--net six -p 8080:80 -p [::1]:81:80 -p 0.0.0.0:82:80 -p 443:443");
    assert_eq!(
        lab.netbpf(["port", "web"]).ok().stdout,
        "80/tcp -> 0.0.0.0:82\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n80/tcp -> [::1]:81\n\
         443/tcp -> 0.0.0.0:443\n443/tcp -> [::]:443\n"
    );
    assert_eq!(lab.netbpf(["port", "web", "443/tcp"]).ok().stdout, "0.0.0.0:443\n[::]:443\n");
    assert_eq!(
        lab.netbpf(["ps", "--format", "{{.Ports}}"]).ok().text(),
        "0.0.0.0:443->443/tcp, [::]:443->443/tcp, 0.0.0.0:82->80/tcp, 0.0.0.0:8080->80/tcp, \
         [::]:8080->80/tcp, [::1]:81->80/tcp"
    );
    let inspected = lab.inspect("web");
    assert_eq!(
        inspected["NetworkSettings"]["Ports"]["443/tcp"].to_string(),
        r#"[{"HostIp":"0.0.0.0","HostPort":"443"},{"HostIp":"::","HostPort":"443"}]"#
    );
}

#[test]
fn a_port_of_one_family_does_not_hold_the_other() {
    let lab = Lab::start();
    lab.network("six", SIX);
    lab.run("all", "--net six -p 8080:80 -p 8080:80/udp");
    lab.run("only", "--net six -p [::]:8081:80 -p [::]:8081:80/udp");
    lab.run("old", "-p 8082:80");
    for protocol in ["tcp", "udp"] {
        for (address, port, held) in [
            ("0.0.0.0", 8080, true),
            ("::", 8080, true),
            ("::1", 8080, true),
            ("0.0.0.0", 8081, false),
            ("127.0.0.1", 8081, false),
            ("::", 8081, true),
            ("fd00:6::1", 8081, true),
            ("0.0.0.0", 8082, true),
            ("::", 8082, true),
        ] {
            let says = format!("{protocol} {address} {port}");
            let is_udp_of_old = protocol == "udp" && port == 8082;
            assert_eq!(is_held(&lab, protocol, address, port), held && !is_udp_of_old, "{says}");
        }
    }
    lab.restart_daemon();
    assert!(is_held(&lab, "tcp", "::", 8081) && !is_held(&lab, "tcp", "0.0.0.0", 8081));
    lab.netbpf(["stop", "-t", "0", "all"]).ok();
    assert!(!is_held(&lab, "tcp", "::", 8080) && !is_held(&lab, "tcp", "0.0.0.0", 8080));
}

#[test]
fn a_port_taken_over_ipv6_gives_docker_s_error_and_leaves_nothing() {
    let lab = Lab::start();
    lab.network("six", SIX);
    lab.network("only", "--ipv4=false --ipv6 --subnet fd00:7::/64");
    lab.run("first", "--net six -p 8080:80");
    let process = lab.spawn(["socat", "TCP6-LISTEN:9090,bind=[::1],ipv6only=1", "-"]);
    eventually("a process listens", || {
        let sockets = lab.host(["ss", "-Hltn", "sport = :9090"]).ok().stdout;
        (!sockets.is_empty()).then_some(())
    });
    let rules = lab.host(["nft", "list", "ruleset"]).ok().stdout;
    for (network, publish, reason) in [
        ("six", "9090:80", "failed to bind host port [::]:9090/tcp: address already in use"),
        ("six", "[::1]:9090:80", "failed to bind host port [::1]:9090/tcp: address already in use"),
        ("only", "8080:80", "Bind for [::]:8080 failed: port is already allocated"),
        ("six", "[::1]:8080:80", "Bind for [::1]:8080 failed: port is already allocated"),
        (
            "six",
            "[2001:db8::1]:8081:80",
            "failed to bind host port [2001:db8::1]:8081/tcp: cannot assign requested address",
        ),
        ("bridge", "[::1]:8081:80/sctp", "cannot publish 80/sctp on ::1: the container has no IPv6 address"),
        (
            "only",
            "127.0.0.1:8081:80",
            "cannot publish 80/tcp on 127.0.0.1: the container has no IPv4 address",
        ),
    ] {
        lab.netbpf(["run", "-d", "--name", "web", "--net", network, "-p", publish, "--", "sleep", "9"])
            .fails_with(125, reason);
        assert_eq!(lab.host(["nft", "list", "ruleset"]).ok().stdout, rules, "{publish}");
        for address in ["0.0.0.0", "::"] {
            assert!(!is_held(&lab, "tcp", address, 8081), "{publish}");
        }
        assert!(!is_held(&lab, "tcp", "0.0.0.0", 9090), "{publish}: the other family is given back");
        lab.netbpf(["rm", "web"]).ok();
    }
    drop(process);
    lab.run("web", "--net six -p 9090:80");
}

#[test]
fn a_random_port_is_the_same_in_both_families() {
    let lab = Lab::start();
    for (setting, value) in [("port_range", "40000 40003"), ("reserved_ports", "")] {
        lab.host(["sh", "-c", &format!("echo {value} > /proc/sys/net/ipv4/ip_local_{setting}")]).ok();
    }
    lab.network("six", SIX);
    lab.run("one", "--net six -p [::]::80");
    lab.run("two", "--net six -p 80 -p 127.0.0.1::81");
    assert_eq!(lab.netbpf(["port", "one"]).ok().text(), "80/tcp -> [::]:40000");
    assert_eq!(
        lab.netbpf(["port", "two"]).ok().stdout,
        "80/tcp -> 0.0.0.0:40001\n80/tcp -> [::]:40001\n81/tcp -> 127.0.0.1:40002\n"
    );
}

#[test]
fn a_network_with_a_host_ipv4_address_publishes_on_that_one_only() {
    let lab = Lab::start();
    let binding = |address| format!("{SIX} -o com.docker.network.bridge.host_binding_ipv4={address}");
    for (address, shown) in [
        ("127.0.0.1", "80/tcp -> 127.0.0.1:8080"),
        ("0.0.0.0", "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080"),
        ("::", "80/tcp -> [::]:8080"),
    ] {
        lab.network("bound", &binding(address));
        lab.run("web", "--net bound -p 8080:80");
        assert_eq!(lab.netbpf(["port", "web"]).ok().text(), shown, "{address}");
        lab.netbpf(["rm", "-f", "web"]).ok();
        lab.netbpf(["network", "rm", "bound"]).ok();
    }
}

#[test]
fn losing_one_family_keeps_the_ports_of_the_other() {
    let lab = Lab::start();
    lab.network("only", "--ipv4=false --ipv6 --subnet fd00:4::/64");
    lab.network("six", SIX);
    lab.run("web", "--net six -p 8080:80 -p 127.0.0.1:81:80");
    lab.netbpf(["connect", "only", "web"]).ok();
    lab.netbpf(["disconnect", "six", "web"]).ok();
    assert_eq!(lab.netbpf(["port", "web"]).ok().text(), "80/tcp -> [::]:8080");
    assert!(!is_held(&lab, "tcp", "0.0.0.0", 8080) && !is_held(&lab, "tcp", "127.0.0.1", 81));
    // The next network's families change nothing for the other ports, and the port is back with its family.
    lab.network("another", "--ipv4=false --ipv6 --subnet fd00:5::/64");
    lab.netbpf(["connect", "another", "web"]).ok();
    lab.netbpf(["connect", "six", "web"]).ok();
    let both = "80/tcp -> 0.0.0.0:8080\n80/tcp -> 127.0.0.1:81\n80/tcp -> [::]:8080";
    assert_eq!(lab.netbpf(["port", "web"]).ok().text(), both);
    lab.netbpf(["disconnect", "six", "web"]).ok();
    lab.netbpf(["stop", "-t", "0", "web"]).ok();
    lab.netbpf(["start", "web"]).ok();
    assert_eq!(lab.netbpf(["port", "web"]).ok().text(), "80/tcp -> [::]:8080");
}
