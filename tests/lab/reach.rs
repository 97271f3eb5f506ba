//! Who reaches a published port by which address, and which source address the server sees: Docker's behaviour as a
//! table, for TCP and UDP.

use netbpf_tests::lab::eventually;

use super::outside::Neighbourhood;

/// A Python server that tells each client its source address, on TCP port 80 and UDP port 5300, in both families.
const SERVER: &str = "
import select, socket
tcp = socket.create_server(('', 80), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
udp.bind(('', 5300))
def address(peer): return peer[0].removeprefix('::ffff:').encode()
while True:
    for ready in select.select([tcp, udp], [], [])[0]:
        if ready is tcp:
            connection, peer = tcp.accept()
            connection.sendall(address(peer))
            connection.close()
        else:
            peer = udp.recvfrom(9)[1]
            udp.sendto(address(peer), peer)
";

/// A Python client that prints the server's answer, if any. Arguments: protocol, address, port, source port.
const CLIENT: &str = "
import socket, sys
kind = socket.SOCK_STREAM if sys.argv[1] == 'TCP' else socket.SOCK_DGRAM
client = socket.socket(socket.AF_INET6 if ':' in sys.argv[2] else socket.AF_INET, kind)
client.settimeout(1.5)
client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
client.bind(('', int(sys.argv[4])))
try:
    client.connect((sys.argv[2], int(sys.argv[3])))
    if sys.argv[1] == 'UDP': client.send(b'x')
    print(client.recv(99).decode())
except OSError:
    pass
";

/// The protocols. TCP goes to port 80 of the container, UDP to port 5300.
pub const KINDS: [&str; 2] = ["TCP", "UDP"];

/// The client.
#[derive(Clone, Copy)]
pub enum Asker {
    Host,
    Container(&'static str),
    Neighbour(&'static str),
}

impl Asker {
    /// The source address that the server sees; `None` without an answer.
    pub fn ask(self, lab: &Neighbourhood, kind: &str, address: &str, port: u16) -> Option<String> {
        self.ask_from(lab, kind, address, port, 0)
    }

    /// The same, from a fixed source port.
    pub fn ask_from(
        self,
        lab: &Neighbourhood,
        kind: &str,
        address: &str,
        port: u16,
        own: u16,
    ) -> Option<String> {
        let (port, own) = (port.to_string(), own.to_string());
        let client = ["python3", "-c", CLIENT, kind, address, &port, &own];
        let output = match self {
            Self::Host => lab.host(client),
            Self::Container(name) => lab.netbpf(["exec", name].into_iter().chain(client)),
            Self::Neighbour(name) => lab.host(["ip", "netns", "exec", name].into_iter().chain(client)),
        };
        let output = output.ok();
        (!output.text().is_empty()).then(|| output.text().to_owned())
    }
}

/// Starts the server in a container and waits for it.
#[track_caller]
pub fn serve(lab: &Neighbourhood, name: &str, options: &str) {
    let before = ["run", "-d", "--name", name].into_iter().chain(options.split_whitespace());
    lab.netbpf(before.chain(["--", "python3", "-c", SERVER])).ok();
    eventually("the server listens", || {
        let sockets = lab.in_network_of(name, "ss -Hltun").ok().stdout;
        (sockets.contains(":80 ") && sockets.contains(":5300 ")).then_some(())
    });
}

/// `web` in `red`, published on all addresses of the host (8080), on 127.0.0.1 (8081) and on one address (8082).
fn world() -> Neighbourhood {
    let lab = Neighbourhood::start();
    people(&lab);
    lab
}

/// Starts the containers of [`world`].
pub fn people(lab: &Neighbourhood) {
    lab.network("red", "--subnet 10.1.0.0/24");
    lab.network("blue", "--subnet 10.2.0.0/24");
    let publish = |host: &str| format!("-p {host}:80 -p {host}:5300/udp");
    let published = ["8080", "127.0.0.1:8081", "192.0.2.1:8082"].map(publish).join(" ");
    serve(lab, "web", &format!("--net red {published}"));
    lab.run("red02", "--net red");
    lab.run("blue01", "--net blue");
    lab.run("plain", "");
}

/// A description, the client, the address and port, and the source address that the server sees. Port 0 is the
/// container's own port.
pub type Row<'a> = (&'a str, Asker, &'a str, u16, Option<&'a str>);

/// Every row must hold whatever the host's own rules are.
pub fn each_row(lab: &Neighbourhood) {
    let far = Asker::Neighbour("far");
    let side = Asker::Neighbour("side");
    let other = Asker::Container("blue01");
    let default = Asker::Container("plain");
    let same = Asker::Container("red02");
    let itself = Asker::Container("web");
    let rows: &[Row] = &[
        ("another host, its address is kept", far, "192.0.2.1", 8080, Some("192.0.2.2")),
        ("another host, by another uplink", side, "203.0.113.1", 8080, Some("203.0.113.2")),
        ("another host, at one address", far, "192.0.2.1", 8082, Some("192.0.2.2")),
        ("another host, at an address it is not published on", side, "203.0.113.1", 8082, None),
        ("another host, at what is published on loopback", far, "192.0.2.1", 8081, None),
        ("another host, by the container's address", far, "10.1.0.2", 80, None),
        ("the host, by 127.0.0.1", Asker::Host, "127.0.0.1", 8080, Some("10.1.0.1")),
        ("the host, at what is published on loopback", Asker::Host, "127.0.0.1", 8081, Some("10.1.0.1")),
        ("the host, by its address", Asker::Host, "192.0.2.1", 8080, Some("192.0.2.1")),
        ("the host, by the gateway's address", Asker::Host, "10.1.0.1", 8080, Some("10.1.0.1")),
        ("the host, by the container's address", Asker::Host, "10.1.0.2", 0, Some("10.1.0.1")),
        ("another network, by the host's address", other, "192.0.2.1", 8080, Some("10.1.0.1")),
        ("another network, by its own gateway", other, "10.2.0.1", 8080, Some("10.1.0.1")),
        ("another network, by the container's gateway", other, "10.1.0.1", 8080, Some("10.1.0.1")),
        ("another network, by the container's address", other, "10.1.0.2", 0, None),
        ("the default network, by the host's address", default, "192.0.2.1", 8080, Some("10.1.0.1")),
        ("the same network, by the host's address", same, "192.0.2.1", 8080, Some("10.1.0.1")),
        ("the same network, by the gateway", same, "10.1.0.1", 8080, Some("10.1.0.1")),
        ("the same network, by the container's address", same, "10.1.0.2", 0, Some("10.1.0.3")),
        ("itself, by the host's address", itself, "192.0.2.1", 8080, Some("10.1.0.1")),
        ("itself, by the gateway", itself, "10.1.0.1", 8080, Some("10.1.0.1")),
    ];
    are_true(lab, rows);
}

/// Checks each row for both protocols.
#[track_caller]
pub fn are_true(lab: &Neighbourhood, rows: &[Row]) {
    for (says, asker, address, port, sees) in rows {
        for kind in KINDS {
            let port = match (port, kind) {
                (0 | 80, "TCP") => 80,
                (0 | 80, _) => 5300,
                (port, _) => *port,
            };
            let seen = asker.ask(lab, kind, address, port);
            assert_eq!(seen.as_deref(), *sees, "{says}: {kind} {address}:{port}");
        }
    }
}

#[test]
fn a_published_port_is_reachable_as_in_docker() {
    each_row(&world());
}

#[test]
fn a_host_that_forwards_nothing_changes_nothing() {
    let lab = world();
    let drop = "add table ip filter; \
                add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; \
                add table inet own; add chain inet own f { type filter hook forward priority 10; policy drop; }";
    lab.host(["nft", drop]).ok();
    eventually("netbpf has seen it", || {
        let rules = lab.host(["nft", "list", "chain", "inet", "own", "f"]).ok().stdout;
        rules.contains("netbpf").then_some(())
    });
    each_row(&lab);
    lab.host(["nft", "delete table ip filter; delete table inet own"]).ok();
}

#[test]
fn loopback_addresses_are_distinct_and_reachable_from_the_host_only() {
    let lab = Neighbourhood::start();
    for (name, address) in [("two", "127.0.1.2"), ("three", "127.0.1.3")] {
        lab.netbpf(
            ["run", "-d", "--name", name, "-p", &format!("{address}:8080:80"), "--"].into_iter().chain([
                "socat",
                "TCP-LISTEN:80,fork,reuseaddr",
                &format!("SYSTEM:echo {name}"),
            ]),
        )
        .ok();
    }
    for (name, address) in [("two", "127.0.1.2"), ("three", "127.0.1.3")] {
        eventually("the server listens", || {
            lab.in_network_of(name, "ss -Hltn").ok().stdout.contains(":80 ").then_some(())
        });
        assert!(Asker::Host.ask(&lab, "TCP", address, 8080).is_some(), "{name} at {address}");
    }
    assert_eq!(Asker::Host.ask(&lab, "TCP", "127.0.0.1", 8080), None);
    // Even if a host accepts 127.0.0.0/8 from outside, and a neighbour sends it there.
    let open = "sysctl -qw net.ipv4.conf.all.route_localnet=1; \
                ip netns exec side sysctl -qw net.ipv4.conf.all.route_localnet=1; \
                ip -n side route del local 127.0.0.0/8 dev lo table local || true; \
                ip -n side route add 127.0.0.0/8 via 203.0.113.1";
    lab.host(["sh", "-ec", open]).ok();
    assert_eq!(Asker::Neighbour("side").ask(&lab, "TCP", "127.0.1.2", 8080), None);
    lab.host(["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=0"]).ok();
}

#[test]
fn a_udp_flow_of_a_removed_container_does_not_reach_its_successor() {
    a_flow_ends_with_its_container(&world(), "192.0.2.1", "192.0.2.2");
}

/// Checks that a UDP flow to `host` ends with its container `web`: the next container with its address sees `client`.
#[track_caller]
pub fn a_flow_ends_with_its_container(lab: &Neighbourhood, host: &str, client: &str) {
    // A client that keeps sending from one port keeps its conntrack entry alive.
    let ask = || Asker::Neighbour("far").ask_from(lab, "UDP", host, 8080, 7000);
    assert_eq!(ask().as_deref(), Some(client));
    lab.netbpf(["rm", "-f", "web"]).ok();
    serve(lab, "next", "--net red");
    assert_eq!(lab.address("next", "red"), "10.1.0.2");
    assert_eq!(ask(), None, "nothing is published");
    lab.netbpf(["rm", "-f", "next"]).ok();
    serve(lab, "third", "--net blue -p 8080:5300/udp");
    assert_eq!(ask().as_deref(), Some(client), "the new one has the port");
}

#[test]
fn the_host_reaches_a_port_by_the_gateway_address_of_another_network() {
    let lab = Neighbourhood::start();
    lab.network("apple", "--subnet 10.1.0.0/24");
    lab.network("melon", "--subnet 10.2.0.0/24");
    serve(&lab, "web", "--net melon -p 8080:80 -p 8080:5300/udp");
    lab.netbpf(["connect", "apple", "web"]).ok();
    for kind in KINDS {
        // The network with the first name has the default gateway and the ports.
        for gateway in ["10.1.0.1", "10.2.0.1", "172.17.0.1", "127.0.0.1"] {
            assert_eq!(
                Asker::Host.ask(&lab, kind, gateway, 8080).as_deref(),
                Some("10.1.0.1"),
                "{kind} {gateway}"
            );
        }
    }
}

#[test]
fn a_routed_network_has_its_ports_at_its_own_addresses() {
    let lab = Neighbourhood::start();
    let routed = "com.docker.network.bridge.gateway_mode_ipv4=routed";
    lab.network("routed", &format!("--subnet 10.1.0.0/24 -o {routed}"));
    lab.network("nat", "--subnet 10.2.0.0/24");
    serve(&lab, "web", "--net routed -p 8080:80 -p 5300:5300/udp");
    lab.run("client", "--net nat");
    let far = Asker::Neighbour("far");
    for kind in KINDS {
        let port = if kind == "TCP" { 80 } else { 5300 };
        assert_eq!(far.ask(&lab, kind, "10.1.0.2", port).as_deref(), Some("192.0.2.2"), "{kind}");
        assert!(Asker::Container("client").ask(&lab, kind, "10.1.0.2", port).is_some(), "{kind}");
        assert_eq!(far.ask(&lab, kind, "192.0.2.1", 8080), None, "{kind}: nothing is on the host's ports");
    }
    lab.in_network_of("web", "socat TCP-LISTEN:81,fork SYSTEM:'echo closed' >/dev/null 2>&1 &").ok();
    assert_eq!(far.ask(&lab, "TCP", "10.1.0.2", 81), None, "what is not published is closed");
    lab.host(["pkill", "-f", "TCP-LISTEN:81"]).ok();
}

#[test]
fn a_trusted_interface_lets_its_neighbours_use_open_ports() {
    let lab = Neighbourhood::start();
    let trusted = "com.docker.network.bridge.trusted_host_interfaces=second";
    lab.network("red", &format!("--subnet 10.1.0.0/24 -o {trusted}"));
    serve(&lab, "web", "--net red -p 8080:80");
    assert_eq!(Asker::Neighbour("side").ask(&lab, "TCP", "10.1.0.2", 80).as_deref(), Some("203.0.113.2"));
    assert_eq!(Asker::Neighbour("side").ask(&lab, "UDP", "10.1.0.2", 5300), None, "what is not published");
    assert_eq!(Asker::Neighbour("far").ask(&lab, "TCP", "10.1.0.2", 80), None, "by another interface");
}
