//! Traffic from containers to other hosts, and from other hosts to containers.

use netbpf_tests::lab::{Lab, Output, Process, eventually};

/// Two hosts behind two uplinks, and a third behind the first host, reached over a link with a smaller MTU. `far` and
/// `beyond` have routes to all containers, so only netbpf can keep them out.
///
/// | | IPv4 address | IPv6 address | reached by |
/// |---|---|---|---|
/// | the host | 192.0.2.1, 203.0.113.1 | 2001:db8:1::1, 2001:db8:3::1 | |
/// | `far` | 192.0.2.2 | 2001:db8:1::2 | `uplink` |
/// | `beyond` | 198.51.100.2 | 2001:db8:2::2 | `far`, MTU 1400 |
/// | `side` | 203.0.113.2 | 2001:db8:3::2 | `second` |
///
/// Duplicate address detection is off, because it takes a second.
const NEIGHBOURHOOD: &str = "
    ip netns add far; ip netns add beyond; ip netns add side
    ip link add uplink type veth peer name eth0 netns far
    ip link add second type veth peer name eth0 netns side
    ip -n far link add eth1 mtu 1400 type veth peer name eth0 mtu 1400 netns beyond
    for name in uplink second; do sysctl -qw net.ipv6.conf.$name.accept_dad=0; done
    for name in far beyond side; do ip netns exec $name sysctl -qw net.ipv6.conf.eth0.accept_dad=0; done
    ip netns exec far sysctl -qw net.ipv6.conf.eth1.accept_dad=0 net.ipv6.conf.all.forwarding=1
    ip addr add 192.0.2.1/24 dev uplink; ip link set uplink up
    ip addr add 203.0.113.1/24 dev second; ip link set second up
    ip -n far addr add 192.0.2.2/24 dev eth0; ip -n far link set eth0 up; ip -n far link set lo up
    ip -n far addr add 198.51.100.1/24 dev eth1; ip -n far link set eth1 up
    ip -n beyond addr add 198.51.100.2/24 dev eth0; ip -n beyond link set eth0 up
    ip -n side addr add 203.0.113.2/24 dev eth0; ip -n side link set eth0 up
    ip route add default via 192.0.2.2
    ip -n far route add default via 192.0.2.1
    ip -n beyond route add default via 198.51.100.1
    ip -n side route add default via 203.0.113.1
    ip netns exec far sysctl -qw net.ipv4.ip_forward=1
    ip addr add 2001:db8:1::1/64 dev uplink; ip addr add 2001:db8:3::1/64 dev second
    ip -n far addr add 2001:db8:1::2/64 dev eth0; ip -n far addr add 2001:db8:2::1/64 dev eth1
    ip -n beyond addr add 2001:db8:2::2/64 dev eth0; ip -n side addr add 2001:db8:3::2/64 dev eth0
    ip -6 route add default via 2001:db8:1::2
    ip -n far -6 route add default via 2001:db8:1::1
    ip -n beyond -6 route add default via 2001:db8:2::1
    ip -n side -6 route add default via 2001:db8:3::1
";

/// A Python server that tells each client its source address, in both families. Argument: the port.
const SERVER: &str = "
import socket, sys
server = socket.create_server(('', int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    connection, peer = server.accept()
    connection.sendall(peer[0].removeprefix('::ffff:').encode())
    connection.close()
";

/// A lab with neighbour hosts.
pub struct Neighbourhood {
    lab: Lab,
}

impl std::ops::Deref for Neighbourhood {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Neighbourhood {
    pub fn start() -> Self {
        Self::around(Lab::start())
    }

    /// A neighbourhood while no other test runs.
    pub fn start_alone() -> Self {
        Self::around(Lab::start_alone())
    }

    /// A neighbourhood on a host without a daemon.
    pub fn without_daemon() -> Self {
        Self::around(Lab::without_daemon())
    }

    /// A neighbourhood around a host.
    pub fn around(lab: Lab) -> Self {
        lab.host(["sh", "-ec", NEIGHBOURHOOD]).ok();
        Self { lab }
    }

    /// Runs a shell script on a neighbour.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn on(&self, neighbour: &str, script: &str) -> Output {
        self.lab.host(["ip", "netns", "exec", neighbour, "sh", "-c", script])
    }

    /// Starts a TCP server on a neighbour that tells each client its source address.
    #[track_caller]
    pub fn serve(&self, neighbour: &str, port: u16) -> Process {
        let port_text = port.to_string();
        let server = ["ip", "netns", "exec", neighbour, "python3", "-c", SERVER, &port_text];
        let process = self.lab.spawn(server);
        eventually("the server listens", || {
            let listening = self.on(neighbour, "ss -Hltn").ok().stdout;
            listening.contains(&format!(":{port} ")).then_some(())
        });
        process
    }
}

impl Drop for Neighbourhood {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let script =
                "for name in far beyond side; do ip netns del $name; done; ip route flush root 0/0 || true";
            self.lab.host(["sh", "-ec", script]).ok();
        }
    }
}

/// A command that asks a server of [`Neighbourhood::serve`].
pub fn ask(address: &str) -> String {
    format!("timeout 3 socat -t3 -T2 - TCP:{address} </dev/null")
}

#[test]
fn containers_reach_other_hosts_with_the_host_s_address() {
    let lab = Neighbourhood::start();
    lab.run("web", "");
    let _far = lab.serve("far", 80);
    let _side = lab.serve("side", 80);
    lab.exec("web", "ping -c1 -W2 192.0.2.2").ok();
    assert_eq!(lab.exec_script("web", &ask("192.0.2.2:80")).ok().text(), "192.0.2.1");
    assert_eq!(lab.exec_script("web", &ask("203.0.113.2:80")).ok().text(), "203.0.113.1");
}

#[test]
fn a_source_address_can_be_chosen_or_kept() {
    let lab = Neighbourhood::start();
    lab.host(["ip", "addr", "add", "192.0.2.77/24", "dev", "uplink"]).ok();
    lab.network("kept", "--subnet 10.1.0.0/24 -o com.docker.network.bridge.enable_ip_masquerade=false");
    lab.network("chosen", "--subnet 10.2.0.0/24 -o com.docker.network.host_ipv4=192.0.2.77");
    lab.network("routed", "--subnet 10.3.0.0/24 -o com.docker.network.bridge.gateway_mode_ipv4=routed");
    let _far = lab.serve("far", 80);
    for (network, address) in [("kept", "10.1.0.2"), ("chosen", "192.0.2.77"), ("routed", "10.3.0.2")] {
        lab.run(network, &format!("--net {network}"));
        assert_eq!(lab.exec_script(network, &ask("192.0.2.2:80")).ok().text(), address);
    }
}

#[test]
fn icmp_errors_and_the_path_mtu_reach_the_container() {
    let lab = Neighbourhood::start();
    lab.run("web", "");
    let closed = lab.exec_script("web", "echo x | socat -T2 - UDP:192.0.2.2:9,connect-timeout=2; sleep 0.2");
    assert!(closed.stderr.contains("Connection refused"), "{closed:?}");
    let asked = lab.exec("web", "ping -c1 -W2 -M do -s 1472 198.51.100.2");
    assert!(asked.stdout.contains("Frag needed and DF set (mtu = 1400)"), "{asked:?}");
    // TCP uses the path MTU that the first packet discovered.
    let server =
        lab.spawn(["ip", "netns", "exec", "beyond", "sh", "-c", "socat -u TCP-LISTEN:80 - | md5sum"]);
    eventually("the server listens", || {
        lab.on("beyond", "ss -Hltn").ok().stdout.contains(":80 ").then_some(())
    });
    lab.exec_script("web", "head -c 3000000 /dev/zero | socat -u - TCP:198.51.100.2:80").ok();
    let expected = lab.host(["sh", "-c", "head -c 3000000 /dev/zero | md5sum"]).ok().stdout;
    assert_eq!(server.output().ok().stdout, expected);
}

#[test]
fn other_hosts_discover_the_mtu_of_a_network() {
    let lab = Neighbourhood::start();
    lab.network("small", "--subnet 10.1.0.0/24 -o com.docker.network.driver.mtu=1300");
    let sum = ["sh", "-c", "socat -u TCP-LISTEN:80 - | md5sum; exec sleep infinity"];
    lab.netbpf(
        ["run", "-d", "--name", "web", "--net", "small", "-p", "8080:80", "-p", "8080:80/udp", "--"]
            .into_iter()
            .chain(sum),
    )
    .ok();
    eventually("the server listens", || {
        lab.in_network_of("web", "ss -Hltn").ok().stdout.contains(":80 ").then_some(())
    });
    lab.on("far", "head -c 3000000 /dev/zero | timeout 20 socat -u - TCP:192.0.2.1:8080").ok();
    let expected = lab.host(["sh", "-c", "head -c 3000000 /dev/zero | md5sum"]).ok().stdout;
    eventually("all of it came", || (lab.netbpf(["logs", "web"]).ok().stdout == expected).then_some(()));
    // TCP learns the peer's segment size from the handshake; a datagram that must not be fragmented gets an ICMP error.
    lab.on("far", "head -c 1400 /dev/zero | socat -u - UDP:192.0.2.1:8080,mtudiscover=2").ok();
    eventually("the way is known to be narrow", || {
        lab.on("far", "ip route get 192.0.2.1").ok().stdout.contains("mtu 1300").then_some(())
    });
}

#[test]
fn other_hosts_reach_no_container_directly() {
    let lab = Neighbourhood::start();
    run_server(&lab, "web", "bridge");
    let address = lab.address("web", "bridge");
    assert_eq!(lab.host(["sh", "-c", &ask(&format!("{address}:80"))]).ok().text(), "reached");
    assert!(!lab.on("far", &format!("ping -c1 -W1 {address}")).status.success());
    assert!(!lab.on("far", &ask(&format!("{address}:80"))).status.success());
    // Even if the host accepts all forwarded traffic.
    lab.host([
        "nft",
        "add table inet open; add chain inet open f { type filter hook forward priority 0; policy accept; }",
    ])
    .ok();
    assert!(!lab.on("far", &ask(&format!("{address}:80"))).status.success());
    lab.host(["nft", "delete", "table", "inet", "open"]).ok();
    let counted = lab.host(["nft", "list", "counter", "inet", "netbpf", "unpublished"]).ok();
    assert!(!counted.stdout.contains("packets 0 "), "{counted:?}");
}

#[test]
fn internal_networks_reach_nobody_and_nobody_reaches_them() {
    let lab = Neighbourhood::start();
    lab.network("inner", "--subnet 10.1.0.0/24 --internal");
    lab.run("web", "--net inner");
    let out = lab.exec("web", "ping -c1 -W1 192.0.2.2");
    assert!(out.stderr.contains("Network is unreachable"), "{out:?}");
    lab.exec("web", "ping -c1 -W1 10.1.0.1").ok();
    lab.host(["ping", "-c1", "-W1", "10.1.0.2"]).ok();
    assert!(!lab.on("far", "ping -c1 -W1 10.1.0.2").status.success());
    // A route added in the container does not help.
    lab.in_network_of("web", "ip route add default via 10.1.0.1").ok();
    assert!(!lab.exec("web", "ping -c1 -W1 192.0.2.2").status.success());
    let counted = lab.host(["nft", "list", "counter", "inet", "netbpf", "internal"]).ok();
    assert!(!counted.stdout.contains("packets 0 "), "{counted:?}");
}

#[test]
fn an_isolated_network_does_not_reach_the_host_either() {
    let lab = Neighbourhood::start();
    let isolated = "com.docker.network.bridge.gateway_mode_ipv4=isolated";
    lab.network("alone", &format!("--subnet 10.1.0.0/24 --internal -o {isolated}"));
    lab.run("one", "--net alone");
    lab.run("two", "--net alone");
    lab.exec("one", "ping -c1 -W2 two").ok();
    // Nobody would have a gateway's address, so a container has the first one, as with Docker from 28 on.
    assert_eq!(lab.inspect("alone")["IPAM"]["Config"], serde_json::json!([{"Subnet": "10.1.0.0/24"}]));
    assert_eq!(
        (lab.address("one", "alone"), lab.address("two", "alone")),
        ("10.1.0.1".into(), "10.1.0.2".into())
    );
    lab.restart_daemon();
    lab.exec("two", "ping -c1 -W2 10.1.0.1").ok();
    assert!(!lab.exec("one", "ping -c1 -W1 10.1.0.3").status.success());
    assert!(!lab.host(["ping", "-c1", "-W1", &lab.address("one", "alone")]).status.success());
    let device = lab.host(["ip", "-4", "-o", "address", "show", &lab.device("alone")]).ok();
    assert_eq!(device.stdout, "");
}

#[test]
fn the_gateway_mode_determines_inbound_traffic() {
    let lab = Neighbourhood::start();
    let mode = |mode| format!("-o com.docker.network.bridge.gateway_mode_ipv4={mode}");
    lab.network("open", &format!("--subnet 10.1.0.0/24 {}", mode("nat-unprotected")));
    lab.network("routed", &format!("--subnet 10.2.0.0/24 {}", mode("routed")));
    lab.network("nat", &format!("--subnet 10.3.0.0/24 {}", mode("nat")));
    for (network, answers) in [("open", true), ("routed", true), ("nat", false)] {
        run_server(&lab, network, network);
        let address = lab.address(network, network);
        let ping = lab.on("far", &format!("ping -c1 -W1 {address}"));
        assert_eq!(ping.status.success(), answers, "{network}: {ping:?}");
        let asked = lab.on("far", &ask(&format!("{address}:80")));
        assert_eq!(asked.status.success(), network == "open", "{network}: {asked:?}");
    }
    // For other networks the same rules apply as for other hosts, in both directions.
    lab.exec("nat", "ping -c1 -W1 10.1.0.2").ok();
    lab.exec("nat", "ping -c1 -W1 10.2.0.2").ok();
    assert!(!lab.exec("open", "ping -c1 -W1 10.3.0.2").status.success());
    assert!(!lab.exec("routed", "ping -c1 -W1 10.3.0.2").status.success());
}

#[test]
fn containers_reach_other_hosts_in_spite_of_foreign_drop_policies() {
    let lab = Neighbourhood::start();
    lab.run("web", "");
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("db", "--net mynet");
    let reaches = |what: &str| {
        eventually(what, || {
            let all =
                ["web", "db"].iter().all(|name| lab.exec(name, "ping -c1 -W1 192.0.2.2").status.success());
            all.then_some(())
        });
    };
    reaches("without a policy");
    lab.host(["nft", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }"]).ok();
    reaches("iptables drops");
    lab.host(["nft", "add rule ip filter FORWARD reject"]).ok();
    reaches("iptables rejects");
    lab.host([
        "nft",
        "add table inet other; add chain inet other f { type filter hook forward priority 5; policy drop; }",
    ])
    .ok();
    reaches("another table drops");
    lab.host(["nft", "flush", "chain", "inet", "other", "f"]).ok();
    reaches("its rules are loaded anew");
    lab.host(["nft", "flush", "ruleset"]).ok();
    eventually("the table is back", || {
        lab.host(["nft", "list", "table", "inet", "netbpf"]).status.success().then_some(())
    });
    reaches("all rules are loaded anew");
    // In a chain with policy `accept`, a rule of the administrator about containers applies.
    lab.host(["nft", "add table inet own; add chain inet own f { type filter hook forward priority 5; policy accept; }; add rule inet own f ip saddr 10.1.0.2 drop"]).ok();
    reaches_not(&lab);
    lab.host(["nft", "delete", "table", "inet", "own"]).ok();
    reaches("the word is taken back");
}

/// Starts a container that answers at port 80.
#[track_caller]
pub fn run_server(lab: &Lab, name: &str, network: &str) {
    let server = ["socat", "TCP6-LISTEN:80,fork,ipv6only=0", "SYSTEM:echo reached"];
    lab.netbpf(["run", "-d", "--name", name, "--net", network, "--"].into_iter().chain(server)).ok();
    eventually("the server listens", || {
        lab.in_network_of(name, "ss -Hltn").ok().stdout.contains(":80 ").then_some(())
    });
}

#[track_caller]
fn reaches_not(lab: &Lab) {
    assert!(!lab.exec("db", "ping -c1 -W1 192.0.2.2").status.success());
    lab.exec("web", "ping -c1 -W1 192.0.2.2").ok();
}

#[test]
fn flows_of_a_removed_container_do_not_reach_its_successor() {
    let lab = Neighbourhood::start();
    a_successor_hears_nothing(&lab);
}

/// With more flows, the kernel is asked in another way.
#[test]
fn flows_of_a_removed_container_are_found_among_thousands() {
    let lab = Neighbourhood::start();
    let send = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(10000, 13000): s.sendto(b'x', ('192.0.2.2', port))";
    lab.host(["python3", "-c", send]).ok();
    let count = lab.host(["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]).ok();
    assert!(count.text().parse().is_ok_and(|count: u32| count >= 3000), "{count}");
    a_successor_hears_nothing(&lab);
}

/// Checks that a container gets no packets of a UDP flow of the container that had its address before.
#[track_caller]
pub fn a_successor_hears_nothing(lab: &Neighbourhood) {
    lab.run("first", "");
    let address = lab.address("first", "bridge");
    // For one datagram. Not in Python, which booted kernels do not have.
    let _echo = lab.spawn(["ip", "netns", "exec", "far", "socat", "UDP-RECVFROM:5000,reuseaddr", "EXEC:cat"]);
    eventually("the server listens", || {
        lab.on("far", "ss -Hlun").ok().stdout.contains(":5000 ").then_some(())
    });
    let asked = "echo early | socat -T1 - UDP:192.0.2.2:5000,sourceport=6000";
    assert_eq!(lab.exec_script("first", asked).ok().text(), "early");
    lab.netbpf(["rm", "-f", "first"]).ok();
    lab.run("second", "");
    assert_eq!(lab.address("second", "bridge"), address);
    let pid = lab.pid("second").to_string();
    let listener =
        lab.spawn(["nsenter", "-t", &pid, "-n", "timeout", "2", "socat", "-u", "UDP-RECV:6000", "-"]);
    eventually("the successor listens", || {
        lab.in_network_of("second", "ss -Hlun").ok().stdout.contains(":6000 ").then_some(())
    });
    lab.on("far", "echo late | socat -u - UDP:192.0.2.1:6000,sourceport=5000,reuseaddr").ok();
    assert_eq!(listener.output().stdout, "");
}
