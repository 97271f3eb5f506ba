//! Frames other than plain packets of 1500 bytes: with a VLAN tag, and larger ones.

use netbpf_tests::lab::{Lab, Process, eventually};

/// A VLAN interface in user space (Python), for kernels without 802.1Q: a tap device whose frames are sent on eth0 with
/// a tag, and that receives frames with this tag. Arguments: name, VLAN ID.
const VLAN: &str = r"
import fcntl, select, socket, struct, sys
name, vid = sys.argv[1], int(sys.argv[2])
tap = open('/dev/net/tun', 'r+b', buffering=0)
fcntl.ioctl(tap, 0x400454ca, struct.pack('16sH', name.encode(), 0x1002)) # TUNSETIFF, IFF_TAP | IFF_NO_PI
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.setsockopt(263, 8, 1) # SOL_PACKET, PACKET_AUXDATA
wire.bind(('eth0', 0))
while True:
    for ready in select.select([tap, wire], [], [])[0]:
        if ready is tap:
            frame = tap.read(65536)
            wire.send(frame[:12] + struct.pack('!HH', 0x8100, vid) + frame[12:])
            continue
        frame, beside, _, sender = wire.recvmsg(65536, 64)
        status, tag = next((struct.unpack_from('I12xH', data) for _, kind, data in beside if kind == 8), (0, 0))
        if sender[2] != 4 and status & 16 and tag & 4095 == vid: # PACKET_OUTGOING, TP_STATUS_VLAN_VALID
            try: tap.write(frame)
            except OSError: pass # the interface is down
";

/// Adds a container to a VLAN. The interface disappears when the process ends.
#[track_caller]
fn join_vlan(lab: &Lab, container: &str, vid: u16, number: u8) -> Process {
    let pid = lab.pid(container).to_string();
    let name = format!("eth0.{vid}");
    let process = lab.spawn(["nsenter", "-t", &pid, "-n", "python3", "-c", VLAN, &name, &vid.to_string()]);
    eventually("the interface is there", || {
        lab.in_network_of(container, &format!("ip link show dev {name}")).status.success().then_some(())
    });
    let mac = link(lab, container, "eth0")["address"].as_str().expect("a MAC").to_owned();
    let script = format!(
        "set -e
        ip link set {name} address {mac}
        ip address add 192.168.{vid}.{number}/24 dev {name}
        ip -6 address add fd07:{vid}::{number}/64 dev {name} nodad
        ip link set {name} up"
    );
    lab.in_network_of(container, &script).ok();
    process
}

#[test]
fn tagged_frames_pass_untouched() {
    let lab = Lab::start();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.network("blue", "--subnet 10.2.0.0/24");
    for (name, network) in [("one", "red"), ("two", "red"), ("other", "blue")] {
        lab.run(name, &format!("--net {network}"));
    }
    // netbpf does not know these addresses: within a VLAN they are no concern of it.
    let _one = join_vlan(&lab, "one", 7, 1);
    let two = join_vlan(&lab, "two", 7, 2);
    let _other = join_vlan(&lab, "other", 7, 3);
    let before = lab.reasons();
    for (address, size) in [("192.168.7.2", 1472), ("fd07:7::2", 1452)] {
        lab.exec("one", &format!("ping -c2 -W2 {address}")).ok();
        // With its tag the frame is longer than the MTU, as on any wire.
        lab.exec("one", &format!("ping -c1 -W2 -M do -s {size} {address}")).ok();
    }
    assert_eq!(lab.drops_since(&before), [].into());
    // A tagged frame reaches no other network and no other VLAN.
    assert!(!lab.exec("one", "ping -c1 -W1 192.168.7.3").status.success());
    drop(two);
    let _two = join_vlan(&lab, "two", 8, 2);
    lab.in_network_of("two", "ip address add 192.168.7.2/24 dev eth0.8").ok();
    assert!(!lab.exec("one", "ping -c1 -W1 192.168.7.2").status.success());
    lab.exec("one", "ping -c1 two").ok();
}

fn link(lab: &Lab, container: &str, name: &str) -> serde_json::Value {
    lab.in_network_of(container, &format!("ip -j link show dev {name}")).ok().json()[0].take()
}

#[test]
fn jumbo_frames_pass_between_containers_and_to_the_host() {
    let lab = Lab::start();
    let mtu = "-o com.docker.network.driver.mtu=9000";
    lab.network("jumbo", &format!("--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 {mtu}"));
    lab.network("plain", "--subnet 10.2.0.0/24");
    lab.run("one", "--net jumbo");
    lab.run("two", "--net jumbo");
    lab.netbpf(["connect", "plain", "one"]).ok();
    let of = |name: &str| lab.host(["ip", "-j", "link", "show", "dev", name]).ok().json()[0]["mtu"].clone();
    assert_eq!(link(&lab, "one", "eth0")["mtu"], 9000);
    assert_eq!(link(&lab, "one", "eth1")["mtu"], 1500);
    assert_eq!((of(&lab.device("jumbo")), of(&lab.device("plain"))), (9000.into(), 1500.into()));
    let veths = lab.host(["ip", "-j", "link", "show", "type", "veth"]).ok().json();
    let mut mtus: Vec<_> = veths
        .as_array()
        .into_iter()
        .flatten()
        .filter(|link| link["ifname"].as_str().is_some_and(|name| name.starts_with("veth")))
        .map(|link| link["mtu"].as_u64().unwrap_or_default())
        .collect();
    mtus.sort_unstable();
    assert_eq!(mtus, [1500, 9000, 9000], "the host's sides");

    let before = lab.reasons();
    // With 8 bytes of ICMP header and an IPv4 or IPv6 header, the frame is exactly as long as the MTU permits.
    for (size, of_two, gateway, own) in
        [(8972, "10.1.0.3", "10.1.0.1", "10.1.0.2"), (8952, "fd00:1::3", "fd00:1::1", "fd00:1::2")]
    {
        lab.exec("one", &format!("ping -c2 -W2 -M do -s {size} {of_two}")).ok();
        lab.exec("one", &format!("ping -c2 -W2 -M do -s {size} {gateway}")).ok();
        lab.host(["ping", "-c2", "-W2", "-M", "do", "-s", &size.to_string(), own]).ok();
        let larger = lab.exec("one", &format!("ping -c1 -W1 -M do -s {} {of_two}", size + 1));
        assert!(!larger.status.success(), "{larger:?}");
        // Larger packets are fragmented.
        lab.exec("one", &format!("ping -c1 -W2 -M dont -s 20000 {of_two}")).ok();
    }
    assert_eq!(lab.drops_since(&before), [].into());
}
