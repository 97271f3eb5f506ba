//! Containers as routers of others: a VPN client, a transparent proxy, two ways to one place, subnets behind nodes.

use std::net::{IpAddr, SocketAddr};

use netbpf_tests::lab::{Lab, Output, Process, eventually};

use super::{Setup, host_reaches, reaches, remove, spawn_in, stop, update, write};

pub const ROUTERS: Setup = Setup {
    network: "",
    members: &[("vpn", ANY_ADDRESS), ("proxy", ANY_ADDRESS), ("client", "")],
    try_it: routers_are_used,
};
pub const NODES: Setup = Setup {
    network: "",
    members: &[
        ("one", "--driver-opt netbpf.addresses=10.244.0.0/24,fd00:244::/64"),
        ("two", "--driver-opt netbpf.addresses=10.244.1.0/24,fd00:244:1::/64"),
    ],
    try_it: nodes_reach_each_other,
};
const ANY_ADDRESS: &str = "--driver-opt netbpf.addresses=0.0.0.0/0,::/0";

#[test]
fn containers_route_for_others() {
    ROUTERS.run();
}

#[test]
fn subnets_behind_containers_reach_each_other() {
    NODES.run();
}

#[track_caller]
fn routers_are_used(lab: &Lab) {
    for name in ["vpn", "proxy"] {
        let forward =
            "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
        lab.in_network_of(name, forward).ok();
    }
    a_vpn_client_is_the_way_out(lab);
    a_proxy_answers_for_every_address(lab);
    two_routers_share_the_flows(lab);
}

/// A host `world` behind an uplink, and what is reached through a tunnel to it only.
const WORLD: &str = "
    ip netns add world; ip link add uplink type veth peer name eth0 netns world
    ip addr add 192.0.2.1/24 dev uplink; ip link set uplink up
    ip -n world addr add 192.0.2.2/24 dev eth0; ip -n world link set eth0 up; ip -n world link set lo up
    ip -n world addr add 198.18.0.2/32 dev lo; ip -n world addr add 2001:db8:18::2/128 dev lo";

/// OpenVPN in a container, whose tunnel is the default route of another one. It translates what it passes on.
#[track_caller]
fn a_vpn_client_is_the_way_out(lab: &Lab) {
    lab.host(["sh", "-ec", WORLD]).ok();
    let openvpn = |own: u8, other: u8, more: &str| {
        format!(
            "openvpn --dev tun0 --cipher none --auth none --port 1194 --ifconfig 172.29.0.{own} 172.29.0.{other} \
             --ifconfig-ipv6 fd29::{own}/64 fd29::{other} {more}"
        )
    };
    let server = lab.spawn(format!("ip netns exec world {}", openvpn(1, 2, "")).split_whitespace());
    let tunnel = spawn_in(lab, "vpn", &openvpn(2, 1, "--remote 192.0.2.2"));
    let translate = "nft 'table inet vpn { chain out { type nat hook postrouting priority 100; \
                     oifname { tun0, eth0 } masquerade; }; }'";
    lab.in_network_of("vpn", translate).ok();
    eventually("the tunnel is there", || {
        let script = "ping -c1 -W1 172.29.0.1 && ping -c1 -W1 fd29::1";
        lab.in_network_of("vpn", script).status.success().then_some(())
    });
    let routes = "ip route add 198.18.0.0/15 dev tun0; ip -6 route add 2001:db8:18::/64 dev tun0";
    lab.in_network_of("vpn", routes).ok();
    lab.in_network_of(
        "client",
        "ip route replace default via 10.5.0.2; ip -6 route replace default via fd00:5::2",
    )
    .ok();
    // Through the tunnel, and back out of the network by the host.
    for address in ["198.18.0.2", "2001:db8:18::2", "192.0.2.2"] {
        reaches(lab, "client", address);
    }
    // Only with the option.
    update(lab, "netbpf.addresses=", "vpn");
    for address in ["198.18.0.2", "2001:db8:18::2"] {
        lab.in_network_of("client", &format!("ping -c1 -W0.5 {address}")).fails_with(1, "");
    }
    update(lab, "netbpf.addresses=0.0.0.0/0,::/0", "vpn");
    reaches(lab, "client", "198.18.0.2");
    [tunnel, server].into_iter().for_each(stop);
    lab.host(["ip", "netns", "delete", "world"]).ok();
}

/// With `IP_TRANSPARENT`, a proxy accepts connections to any address, and answers from there.
#[track_caller]
fn a_proxy_answers_for_every_address(lab: &Lab) {
    let proxies = transparent_proxies(lab);
    let divert = "
        ip rule add fwmark 1 lookup 100; ip route add local default dev lo table 100
        ip -6 rule add fwmark 1 lookup 100; ip -6 route add local default dev lo table 100
        nft 'table inet proxy { chain in { type filter hook prerouting priority -150;
            meta nfproto ipv4 tcp dport 80 tproxy ip to :3128 meta mark set 1 accept;
            meta nfproto ipv6 tcp dport 80 tproxy ip6 to :3128 meta mark set 1 accept; }; }'";
    lab.in_network_of("proxy", divert).ok();
    eventually("the proxy listens", || {
        let listening = lab.in_network_of("proxy", "ss -Hltn").ok().stdout;
        (listening.matches(":3128 ").count() == 2).then_some(())
    });
    let routes = "ip route replace default via 10.5.0.3; ip -6 route replace default via fd00:5::3";
    lab.in_network_of("client", routes).ok();
    for (client, server) in [("10.5.0.4", "203.0.113.9"), ("fd00:5::4", "2001:db8:99::9")] {
        let server: IpAddr = server.parse().expect("an address");
        let address = SocketAddr::from((server, 80));
        let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | socat -T5 -,ignoreeof TCP:{address}");
        let said = lab.in_network_of("client", &ask).ok();
        let ends = said.text().lines().last().and_then(|line| line.split_once(" to "));
        let address = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        let ends = ends.map(|(client, server)| [address(client), address(server)]);
        assert_eq!(ends, Some([address(client), Some(server)]), "{said}");
    }
    proxies.into_iter().for_each(stop);
    remove(lab, &["/run/proxy"]);
}

/// Proxies for both families at port 3128. They answer with the addresses of the client and of the server.
#[track_caller]
fn transparent_proxies(lab: &Lab) -> Vec<Process> {
    // Debian's HAProxy needs the instruction cmpxchg16b. That of QEMU is faulty, so emulated processors have none.
    if std::fs::read_to_string("/proc/cpuinfo").expect("the processor's features").contains(" cx16 ") {
        let config = "defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n\
                      frontend all\n bind 0.0.0.0:3128 transparent\n bind [::]:3128 v6only transparent\n \
                      http-request return status 200 content-type text/plain lf-string \"%[src] to %[dst]\"\n";
        write(lab, "/run/proxy", config);
        return vec![spawn_in(lab, "proxy", "haproxy -db -f /run/proxy")];
    }
    // After the request's last line, which is empty but for its carriage return.
    let answer = r#"while read -r line && [ "${line%?}" ]; do :; done
                    printf 'HTTP/1.0 200 OK\r\n\r\n%s to %s\n' "$SOCAT_PEERADDR" "$SOCAT_SOCKADDR""#;
    write(lab, "/run/proxy", answer);
    let pid = lab.pid("proxy").to_string();
    let proxy = |listener: &str| {
        let listener = format!("{listener},ip-transparent,fork");
        lab.spawn(["nsenter", "-t", &pid, "-n", "socat", "-t0", &listener, "EXEC:sh /run/proxy"])
    };
    vec![proxy("TCP4-LISTEN:3128"), proxy("TCP6-LISTEN:3128,ipv6only")]
}

/// Routes with two next hops, of a member and of the host: each router gets some of the flows, and all are answered.
#[track_caller]
fn two_routers_share_the_flows(lab: &Lab) {
    let place = "ip route add local 198.19.0.0/24 dev lo; ip -6 route add local 2001:db8:19::/64 dev lo";
    ["vpn", "proxy"].iter().for_each(|name| drop(lab.in_network_of(name, place).ok()));
    let routes = "ip route add 198.19.0.0/24 nexthop via 10.5.0.2 nexthop via 10.5.0.3
                  ip -6 route add 2001:db8:19::/64 nexthop via fd00:5::2 nexthop via fd00:5::3";
    lab.in_network_of("client", routes).ok();
    lab.host(["sh", "-ec", routes]).ok();
    let routers = ["vpn", "proxy"].map(|name| lab.station(name, "eth0"));
    for prefix in ["198.19.0.", "2001:db8:19::"] {
        // The pings end with this byte.
        let pings = format!(
            "for number in $(seq 24); do ping -q -c1 -W2 -p 6e -s 24 {prefix}$number || echo lost & done; wait"
        );
        let script = format!("({pings}) | grep lost");
        let ask: [&dyn Fn() -> Output; 2] =
            [&|| lab.in_network_of("client", &script), &|| lab.host(["sh", "-c", &script])];
        for ask in ask {
            let _none_lost = ask().fails_with(1, "");
            let heard = routers.each_ref().map(|router| router.heard_ending_in(&[0x6e; 8]));
            assert_eq!(heard.iter().sum::<usize>(), 24, "{heard:?}");
            assert!(heard.iter().all(|count| *count > 0), "{heard:?}");
        }
    }
}

/// As in kind: each node has pods, and routes to those of the others.
#[track_caller]
fn nodes_reach_each_other(lab: &Lab) {
    let node = |name: &str, own: u8, other: u8, via: &str, via_ipv6: &str| {
        let (own6, other6) = if own == 0 { ("", ":1") } else { (":1", "") };
        let script = format!(
            "ip address add 10.244.{own}.5/32 dev lo && ip address add fd00:244{own6}::5/128 dev lo && \
             ip route add 10.244.{other}.0/24 via {via} && ip route add fd00:244{other6}::/64 via {via_ipv6}"
        );
        lab.in_network_of(name, &script).ok();
    };
    node("one", 0, 1, "10.5.0.3", "fd00:5::3");
    node("two", 1, 0, "10.5.0.2", "fd00:5::2");
    lab.in_network_of("one", "ping -c1 -W2 -I 10.244.0.5 10.244.1.5").ok();
    lab.in_network_of("two", "ping -c1 -W2 -I 10.244.1.5 10.244.0.5").ok();
    lab.in_network_of("one", "ping -6 -c1 -W2 -I fd00:244::5 fd00:244:1::5").ok();
    lab.host(["ip", "route", "add", "10.244.0.0/24", "via", "10.5.0.2"]).ok();
    lab.host(["ip", "route", "add", "fd00:244::/64", "via", "fd00:5::2"]).ok();
    host_reaches(lab, "10.244.0.5");
    host_reaches(lab, "fd00:244::5");
    lab.in_network_of("one", "ping -c1 -W2 -I 10.244.0.5 10.5.0.1").ok();
    lab.in_network_of("one", "ping -c1 -W2 -I fd00:244::5 fd00:5::1").ok();
}
