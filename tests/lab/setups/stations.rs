//! Stations that no lease tells: DHCP clients, macvlan, a machine behind a bridge inside, addresses of a prefix that a
//! container advertises.

use netbpf_tests::lab::{Lab, eventually};

use super::{Setup, host_reaches, reaches, remove, spawn_in, stop, write};

pub const DHCP: Setup = Setup {
    network: "-o netbpf.guard=off",
    members: &[("server", ""), ("client", "")],
    try_it: a_server_leases_addresses,
};
pub const STATIONS_INSIDE: Setup = Setup {
    network: "-o netbpf.guard=off",
    members: &[("one", ""), ("two", "")],
    try_it: stations_inside_are_reached,
};
pub const ADVERTISED_PREFIX: Setup = Setup {
    network: "",
    members: &[
        ("router", "--driver-opt netbpf.guard=off"),
        ("open", "--driver-opt netbpf.guard=off"),
        ("guarded", ""),
    ],
    try_it: a_router_advertises_a_prefix,
};

#[test]
fn a_dhcp_server_leases_addresses() {
    DHCP.run();
}

#[test]
fn macvlan_and_a_machine_behind_a_bridge_inside_are_reached() {
    STATIONS_INSIDE.run();
}

#[test]
fn a_router_in_a_container_advertises_a_prefix() {
    ADVERTISED_PREFIX.run();
}

#[track_caller]
fn a_server_leases_addresses(lab: &Lab) {
    let server = spawn_in(
        lab,
        "server",
        "dnsmasq -k -u root -p 0 -C /dev/null --dhcp-range=10.5.0.200,10.5.0.210 --interface=eth0 \
         --dhcp-leasefile=/run/leases -x /run/dnsmasq.pid",
    );
    eventually("the server is there", || lab.path("/run/dnsmasq.pid").exists().then_some(()));
    let asked = lab.in_network_of("client", "busybox udhcpc -n -q -t5 -i eth0 -s /bin/true 2>&1").ok();
    assert!(asked.stdout.contains("lease of 10.5.0.2"), "{}", asked.stdout);
    stop(server);
    remove(lab, &["/run/leases"]);
}

#[track_caller]
fn stations_inside_are_reached(lab: &Lab) {
    let script = "ip link add mv0 link eth0 type macvlan mode bridge && ip address add 10.5.0.50/24 dev mv0 && \
                  ip address add fd00:5::50/64 dev mv0 nodad && ip link set mv0 up";
    lab.in_network_of("one", script).ok();
    for address in ["10.5.0.1", "10.5.0.3", "fd00:5::1", "fd00:5::3"] {
        lab.in_network_of("one", &format!("ping -c1 -W2 -I mv0 {address}")).ok();
    }
    for address in ["10.5.0.50", "fd00:5::50"] {
        reaches(lab, "two", address);
        host_reaches(lab, address);
    }
    lab.host(["ip", "netns", "add", "machine"]).ok();
    let script = "ip link add br0 type bridge && ip link add port type veth peer name eth0 netns machine && \
                  ip link set port master br0 && ip link set port up && ip link set br0 up && \
                  ip address flush dev eth0 && ip link set eth0 master br0 && ip address add 10.5.0.3/24 dev br0";
    lab.in_network_of("two", script).ok();
    let script = "ip -n machine address add 10.5.0.60/24 dev eth0 && \
                  ip -n machine address add fd00:5::60/64 dev eth0 nodad && ip -n machine link set eth0 up";
    lab.host(["sh", "-c", script]).ok();
    for (address, gateway) in [("10.5.0.60", "10.5.0.1"), ("fd00:5::60", "fd00:5::1")] {
        eventually("the machine is reached", || {
            let pinged = lab.in_network_of("one", &format!("ping -c1 -W1 -I eth0 {address}"));
            pinged.stdout.contains(" 1 received").then_some(())
        });
        host_reaches(lab, address);
        lab.host(["ip", "netns", "exec", "machine", "ping", "-c1", "-W2", gateway]).ok();
    }
    lab.host(["ip", "netns", "delete", "machine"]).ok();
}

/// A router in a container announces a prefix; members without guard configure addresses of it, guarded ones do not.
#[track_caller]
fn a_router_advertises_a_prefix(lab: &Lab) {
    let config = "interface eth0 {\n AdvSendAdvert on;\n MinRtrAdvInterval 3;\n MaxRtrAdvInterval 4;\n \
                  prefix 2001:db8:99::/64 {\n };\n};\n";
    write(lab, "/run/radvd.conf", config);
    let accept =
        "echo 2 > /proc/sys/net/ipv6/conf/eth0/accept_ra; echo 1 > /proc/sys/net/ipv6/conf/eth0/autoconf";
    for name in ["open", "guarded"] {
        lab.in_network_of(name, accept).ok();
    }
    let script =
        "ip address add 2001:db8:99::1/64 dev eth0 nodad; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
    lab.in_network_of("router", script).ok();
    let router = spawn_in(lab, "router", "radvd -n -m stderr -C /run/radvd.conf -p /run/radvd.pid -u root");
    let addresses = |name: &str| lab.in_network_of(name, "ip -6 address show dev eth0").ok().stdout;
    let is_ready = |text: &str| text.contains("2001:db8:99:") && !text.contains("tentative");
    eventually("the open member has an address", || is_ready(&addresses("open")).then_some(()));
    reaches(lab, "open", "2001:db8:99::1");
    assert!(!addresses("guarded").contains("2001:db8:99:"), "{}", addresses("guarded"));
    stop(router);
    remove(lab, &["/run/radvd.conf"]);
}
