//! Setups that people bring from a kernel bridge and that need more than leases: real programs, and the option of
//! netbpf that each needs.

use netbpf_tests::lab::{Lab, Process, eventually};
use nix::sys::signal::Signal;

/// A network `mynet`, 10.5.0.0/24, with members from 10.5.0.2 on; each with options.
fn town(network: &str, members: &[(&str, &str)]) -> Lab {
    let lab = Lab::start();
    lab.network("mynet", &format!("--subnet 10.5.0.0/24 {network}"));
    for (name, options) in members {
        lab.run(name, &format!("--net mynet {options}"));
    }
    lab
}

/// Starts a command in a container's network namespace, with all privileges of the host.
fn spawn_in(lab: &Lab, container: &str, command: &str) -> Process {
    let pid = lab.pid(container).to_string();
    lab.spawn(["nsenter", "-t", &pid, "-n"].into_iter().chain(command.split_whitespace()))
}

#[track_caller]
fn reaches(lab: &Lab, from: &str, address: &str) {
    lab.in_network_of(from, &format!("ping -c1 -W2 {address}")).ok();
}

#[track_caller]
fn host_reaches(lab: &Lab, address: &str) {
    lab.host(["ping", "-c1", "-W2", address]).ok();
}

fn write(lab: &Lab, path: &str, text: &str) {
    std::fs::write(lab.path(path), text).expect("a file of the lab's host");
}

fn remove(lab: &Lab, paths: &[&str]) {
    paths.iter().for_each(|path| std::fs::remove_file(lab.path(path)).expect("a file of the lab's host"));
}

/// keepalived in two containers: when the first ends, the second takes the address, for members and host alike.
#[test]
fn a_floating_address_moves_to_another_container() {
    let further = "--driver-opt netbpf.addresses=10.5.0.100";
    let lab = town("", &[("first", further), ("second", further), ("client", "")]);
    let start = |name: &str, priority: u32| {
        let config = format!(
            "vrrp_instance V {{\n interface eth0\n virtual_router_id 51\n priority {priority}\n advert_int 1\n \
             virtual_ipaddress {{\n  10.5.0.100/24\n }}\n}}\n"
        );
        write(&lab, &format!("/run/{name}.conf"), &config);
        let files = format!("-f /run/{name}.conf -p /run/{name}.pid -r /run/{name}.vrrp");
        spawn_in(&lab, name, &format!("keepalived -n -P -l {files}"))
    };
    let has_it = |name: &str| {
        lab.in_network_of(name, "ip -4 -brief address show eth0").ok().text().contains("10.5.0.100")
    };
    let first = start("first", 150);
    eventually("the first has the address", || has_it("first").then_some(()));
    let second = start("second", 100);
    reaches(&lab, "client", "10.5.0.100");
    host_reaches(&lab, "10.5.0.100");
    // For a second, Linux keeps a new neighbour's MAC whatever is announced (`locktime`).
    lab.in_network_of("client", "ping -i 0.5 -c 4 -W1 10.5.0.100").ok();
    let pings = spawn_in(&lab, "client", "ping -i 0.5 -c 14 -W1 10.5.0.100");
    let _stopped = first.interrupt();
    eventually("the second has the address", || has_it("second").then_some(()));
    let pinged = pings.output().stdout;
    let received = pinged.split(", ").find_map(|part| part.strip_suffix(" received"));
    let lost = 14 - received.and_then(|count| count.parse::<u32>().ok()).expect("a count");
    assert!(lost <= 2, "{lost} lost:\n{pinged}");
    host_reaches(&lab, "10.5.0.100");
    let _stopped = second.interrupt();
    remove(&lab, &["/run/first.conf", "/run/second.conf"]);
    // Others do not get it.
    let before = lab.reasons();
    lab.in_network_of("client", "ip address add 10.5.0.100/24 dev eth0").ok();
    let _unanswered = lab.in_network_of("client", "arping -c1 -w1 -U -I eth0 10.5.0.100");
    assert_eq!(lab.drops_since(&before), [("spoofed-arp".to_owned(), 1)].into());
}

/// A container as the way out of others, like a VPN client.
#[test]
fn a_container_routes_for_others() {
    let lab = town("", &[("router", "--driver-opt netbpf.addresses=0.0.0.0/0"), ("client", "")]);
    lab.host(["ip", "netns", "add", "world"]).ok();
    let script = "ip link add out type veth peer name in netns world && ip address add 198.18.0.1/24 dev out && \
                  ip link set out up && echo 1 > /proc/sys/net/ipv4/ip_forward";
    lab.in_network_of("router", script).ok();
    lab.host(["ip", "-n", "world", "address", "add", "198.18.0.2/24", "dev", "in"]).ok();
    lab.host(["ip", "-n", "world", "link", "set", "in", "up"]).ok();
    lab.host(["ip", "-n", "world", "route", "add", "10.5.0.0/24", "via", "198.18.0.1"]).ok();
    lab.in_network_of("client", "ip route add 198.18.0.0/15 via 10.5.0.2").ok();
    reaches(&lab, "client", "198.18.0.2");
    lab.netbpf(["update", "--network", "mynet", "--driver-opt", "netbpf.addresses=", "router"]).ok();
    lab.in_network_of("client", "ping -c1 -W1 198.18.0.2").fails_with(1, "");
    lab.host(["ip", "netns", "delete", "world"]).ok();
}

/// As in kind: each node has pods, and routes to those of the others.
#[test]
fn subnets_behind_containers_reach_each_other() {
    let option = "--driver-opt netbpf.addresses=";
    let lab = town(
        "--ipv6 --subnet fd00:5::/64",
        &[
            ("one", &format!("{option}10.244.0.0/24,fd00:244::/64")),
            ("two", &format!("{option}10.244.1.0/24,fd00:244:1::/64")),
        ],
    );
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
    host_reaches(&lab, "10.244.0.5");
    lab.in_network_of("one", "ping -c1 -W2 -I 10.244.0.5 10.5.0.1").ok();
}

#[test]
fn a_dhcp_server_leases_addresses() {
    let lab = town("-o netbpf.guard=off", &[("server", ""), ("client", "")]);
    let server = spawn_in(
        &lab,
        "server",
        "dnsmasq -k -u root -p 0 -C /dev/null --dhcp-range=10.5.0.200,10.5.0.210 --interface=eth0 \
         --dhcp-leasefile=/run/leases -x /run/dnsmasq.pid",
    );
    eventually("the server is there", || lab.path("/run/dnsmasq.pid").exists().then_some(()));
    let asked = lab.in_network_of("client", "busybox udhcpc -n -q -t5 -i eth0 -s /bin/true 2>&1").ok();
    assert!(asked.stdout.contains("lease of 10.5.0.2"), "{}", asked.stdout);
    server.signal(Signal::SIGTERM);
    let _stopped = server.output();
    remove(&lab, &["/run/leases"]);
}

#[test]
fn macvlan_and_a_machine_behind_a_bridge_inside_are_reached() {
    let lab = town("-o netbpf.guard=off", &[("one", ""), ("two", "")]);
    let script = "ip link add mv0 link eth0 type macvlan mode bridge && ip address add 10.5.0.50/24 dev mv0 && \
                  ip link set mv0 up";
    lab.in_network_of("one", script).ok();
    for address in ["10.5.0.1", "10.5.0.3"] {
        lab.in_network_of("one", &format!("ping -c1 -W2 -I mv0 {address}")).ok();
    }
    reaches(&lab, "two", "10.5.0.50");
    host_reaches(&lab, "10.5.0.50");
    lab.host(["ip", "netns", "add", "machine"]).ok();
    let script = "ip link add br0 type bridge && ip link add port type veth peer name eth0 netns machine && \
                  ip link set port master br0 && ip link set port up && ip link set br0 up && \
                  ip address flush dev eth0 && ip link set eth0 master br0 && ip address add 10.5.0.3/24 dev br0";
    lab.in_network_of("two", script).ok();
    lab.host(["ip", "-n", "machine", "address", "add", "10.5.0.60/24", "dev", "eth0"]).ok();
    lab.host(["ip", "-n", "machine", "link", "set", "eth0", "up"]).ok();
    eventually("the machine is reached", || {
        let pinged = lab.in_network_of("one", "ping -c1 -W1 -I eth0 10.5.0.60");
        pinged.stdout.contains(" 1 received").then_some(())
    });
    host_reaches(&lab, "10.5.0.60");
    lab.host(["ip", "netns", "exec", "machine", "ping", "-c1", "-W2", "10.5.0.1"]).ok();
    lab.host(["ip", "netns", "delete", "machine"]).ok();
}

/// A router in a container announces a prefix; members without guard configure addresses of it, guarded ones do not.
#[test]
fn a_router_in_a_container_advertises_a_prefix() {
    let open = "--driver-opt netbpf.guard=off";
    let lab = town("--ipv6 --subnet fd00:5::/64", &[("router", open), ("open", open), ("guarded", "")]);
    let config = "interface eth0 {\n AdvSendAdvert on;\n MinRtrAdvInterval 3;\n MaxRtrAdvInterval 4;\n \
                  prefix 2001:db8:99::/64 {\n };\n};\n";
    write(&lab, "/run/radvd.conf", config);
    let accept =
        "echo 2 > /proc/sys/net/ipv6/conf/eth0/accept_ra; echo 1 > /proc/sys/net/ipv6/conf/eth0/autoconf";
    for name in ["open", "guarded"] {
        lab.in_network_of(name, accept).ok();
    }
    let script =
        "ip address add 2001:db8:99::1/64 dev eth0 nodad; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
    lab.in_network_of("router", script).ok();
    let router = spawn_in(&lab, "router", "radvd -n -m stderr -C /run/radvd.conf -p /run/radvd.pid -u root");
    let addresses = |name: &str| lab.in_network_of(name, "ip -6 address show dev eth0").ok().stdout;
    let is_ready = |text: &str| text.contains("2001:db8:99:") && !text.contains("tentative");
    eventually("the open member has an address", || is_ready(&addresses("open")).then_some(()));
    reaches(&lab, "open", "2001:db8:99::1");
    assert!(!addresses("guarded").contains("2001:db8:99:"), "{}", addresses("guarded"));
    router.signal(Signal::SIGTERM);
    let _stopped = router.output();
    remove(&lab, &["/run/radvd.conf"]);
}

/// A queueing discipline or a capture at the host side sees frames of members only with plain redirects.
#[test]
fn with_plain_redirects_the_host_side_sees_all_frames() {
    let lab = town("", &[("one", ""), ("two", "")]);
    let inside = lab.in_network_of("two", "ip -j link show eth0").ok().json();
    let link = &inside[0]["link_index"];
    let sent = || -> u64 {
        let links = lab.host(["ip", "-s", "-j", "link", "show"]).ok().json();
        let links = links.as_array().expect("links").clone();
        let own = links.iter().find(|one| one["ifindex"] == *link).expect("the host side");
        own["stats64"]["tx"]["packets"].as_u64().expect("a count")
    };
    let before = sent();
    lab.in_network_of("one", "ping -c3 -i 0.2 10.5.0.3").ok();
    assert!(sent() - before < 3);
    lab.netbpf(["update", "--network", "mynet", "--driver-opt", "netbpf.redirect=plain", "two"]).ok();
    let before = sent();
    lab.in_network_of("one", "ping -c3 -i 0.2 10.5.0.3").ok();
    assert!(sent() - before >= 3);
}
