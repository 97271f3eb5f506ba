//! Traffic to other hosts is either masqueraded or dropped.

use netbpf_tests::lab::{eventually, station::Station};

use super::outside::Neighbourhood;

/// A Python program that sends packets that conntrack does not translate: TCP of no connection, wrong checksums, ICMP
/// errors about no flow, and unknown protocols. Arguments: own address, address of the other host, and both for IPv6.
const SEND: &str = r"
import socket, struct, sys
own, other, own6, other6 = sys.argv[1:]

def sum16(data):
    data += b'\0' * (len(data) % 2)
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff

def pseudo(family, protocol, length):
    pton = lambda text: socket.inet_pton(family, text)
    if family == socket.AF_INET: return pton(own) + pton(other) + struct.pack('!BBH', 0, protocol, length)
    return pton(own6) + pton(other6) + struct.pack('!II', length, protocol)

def send(family, protocol, data):
    socket.socket(family, socket.SOCK_RAW, protocol).sendto(data, (other if family == socket.AF_INET else other6, 0))

for family in (socket.AF_INET, socket.AF_INET6):
    for flags in (0x04, 0x11, 0x00, 0x12, 0x3f): # RST, FIN and ACK, none, SYN and ACK, all
        segment = struct.pack('!HHIIBBHHH', 40000, 80, 1, 1, 0x50, flags, 1024, 0, 0)
        checksum = sum16(pseudo(family, 6, len(segment)) + segment)
        send(family, 6, segment) # with a checksum that is wrong
        send(family, 6, segment[:16] + struct.pack('!H', checksum) + segment[18:])
    # UDP-Lite whose checksum covers less than its header (RFC 3828 3.1), SCTP with an INIT beside another chunk (RFC 9260 6.10)
    send(family, 136, struct.pack('!HHHH', 40000, 80, 3, 1) + b'netbpf')
    send(family, 132, struct.pack('!HHII', 40000, 80, 0, 0) + struct.pack('!BBHIIHHI', 1, 0, 20, 1, 1500, 1, 1, 1) * 2)

    # IGMP, IPIP, IPv6, GRE, ESP, nothing (59), OSPF, PIM, VRRP, L2TP, HIP, for experiments
    for protocol in (2, 4, 41, 47, 50, 59, 89, 103, 112, 115, 139, 253):
        send(family, protocol, b'netbpf' * 8)

inner = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 28, 1, 0, 64, 17, 0, socket.inet_aton('192.0.2.7'), socket.inet_aton('192.0.2.8')) + bytes(8)
error = struct.pack('!BBHI', 3, 3, 0, 0) + inner
send(socket.AF_INET, 1, error[:2] + struct.pack('!H', sum16(error)) + error[4:])
# The kernel makes the checksum of ICMPv6.
send(socket.AF_INET6, 58, struct.pack('!BBHI', 1, 4, 0, 0) + bytes(48))
";

const OWN_IPV4: [u8; 4] = [10, 1, 0, 2];
const OWN_IPV6: &str = "fd00:1::2";

/// The number of frames with the container's own address as their source.
fn untranslated(far: &Station) -> usize {
    let ipv6: std::net::Ipv6Addr = OWN_IPV6.parse().expect("an address");
    let is_own = |frame: &&Vec<u8>| match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(26..30) == Some(&OWN_IPV4),
        Some([0x86, 0xdd]) => frame.get(22..38) == Some(&ipv6.octets()),
        _ => false,
    };
    far.heard().iter().filter(is_own).count()
}

#[test]
fn no_packet_leaves_a_network_with_the_container_s_own_address() {
    let lab = Neighbourhood::start();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.run("web", "--net red");
    lab.exec("web", "ping -c1 -W2 192.0.2.2").ok();
    lab.exec("web", "ping -c1 -W2 2001:db8:1::2").ok();
    let far = lab.station_in("/run/netns/far", "eth0");
    let send = || {
        let words = ["10.1.0.2", "192.0.2.2", OWN_IPV6, "2001:db8:1::2"];
        lab.netbpf(["exec", "web", "python3", "-c", SEND].into_iter().chain(words)).ok();
        // Frames stay in order, so everything sent before these pings has arrived after them.
        lab.exec("web", "ping -c1 -W2 192.0.2.2").ok();
        lab.exec("web", "ping -c1 -W2 2001:db8:1::2").ok();
    };
    let before = lab.reasons();
    send();
    assert_eq!(untranslated(&far), 0);
    let drops = lab.drops_since(&before);
    assert_eq!(drops.keys().collect::<Vec<_>>(), ["untranslated"]);
    assert!(drops["untranslated"] >= 20, "{drops:?}");

    // The administrator exempts packets from tracking, so they are not translated either.
    let notrack = "add table inet own; \
                   add chain inet own raw { type filter hook prerouting priority -300; policy accept; }; \
                   add rule inet own raw udp dport 4000 notrack";
    lab.host(["nft", notrack]).ok();
    let before = lab.reasons();
    for address in ["192.0.2.2", "[2001:db8:1::2]"] {
        lab.exec_script("web", &format!("echo x | socat - UDP:{address}:4000")).ok();
    }
    send();
    assert_eq!(untranslated(&far), 0);
    assert!(lab.drops_since(&before)["untranslated"] >= 22);
    lab.host(["nft", "delete", "table", "inet", "own"]).ok();
}

#[test]
fn networks_without_masquerade_may_send_any_packet() {
    let lab = Neighbourhood::start();
    let kept = "-o com.docker.network.bridge.enable_ip_masquerade=false";
    lab.network("red", &format!("--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 {kept}"));
    lab.run("web", "--net red");
    let far = lab.station_in("/run/netns/far", "eth0");
    let before = lab.reasons();
    let words = ["10.1.0.2", "192.0.2.2", OWN_IPV6, "2001:db8:1::2"];
    lab.netbpf(["exec", "web", "python3", "-c", SEND].into_iter().chain(words)).ok();
    eventually("they come", || (untranslated(&far) > 0).then_some(()));
    assert_eq!(lab.drops_since(&before).get("untranslated"), None);
}
