//! ICMP errors of containers about flows of others.

use netbpf_tests::lab::eventually;

use super::outside::Neighbourhood;

/// A Python program that sends ICMP errors (port unreachable) about datagrams between other hosts. Its arguments,
/// repeated: source address and port, destination address and port of the datagram.
const QUOTE: &str = r"
import socket, struct, sys
words = iter(sys.argv[1:])
for source, source_port, to, port in zip(words, words, words, words):
    family = socket.AF_INET6 if ':' in source else socket.AF_INET
    pton = lambda text: socket.inet_pton(family, text)
    quoted = struct.pack('!HHHH', int(source_port), int(port), 9, 0)
    if family == socket.AF_INET:
        quoted = struct.pack('!BBHHHBBH', 0x45, 0, 29, 1, 0, 64, 17, 0) + pton(source) + pton(to) + quoted
        error = struct.pack('!BBHI', 3, 3, 0, 0) + quoted
        total = sum(struct.unpack('!%dH' % (len(error) // 2), error))
        while total >> 16: total = (total & 0xffff) + (total >> 16)
        error = error[:2] + struct.pack('!H', ~total & 0xffff) + error[4:]
        socket.socket(family, socket.SOCK_RAW, 1).sendto(error, (source, 0))
    else:
        quoted = struct.pack('!IHBB', 0x60000000, 9, 17, 64) + pton(source) + pton(to) + quoted
        # The kernel makes the checksum.
        error = struct.pack('!BBHI', 1, 4, 0, 0) + quoted
        socket.socket(family, socket.SOCK_RAW, 58).sendto(error, (source, 0))
";

/// conntrack takes an error for a part of the quoted flow, whoever sends it, and translates its addresses.
#[test]
fn icmp_errors_of_a_container_do_not_reach_flows_of_another_network() {
    let lab = Neighbourhood::start();
    lab.network("red", "--ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64");
    lab.network("blue", "--ipv6 --subnet 10.2.0.0/24 --subnet fd00:2::/64");
    lab.run("red01", "--net red");
    lab.run("blue01", "--net blue -p 9000:9000/udp");
    let blue = lab.station("blue01", "eth0");
    for address in ["192.0.2.2", "[2001:db8:1::2]"] {
        let word = format!("echo x | socat -u - UDP:{address}:4001,sourceport=4000");
        lab.exec_script("blue01", &word).ok();
    }
    lab.on("far", "echo x | socat -u - UDP:192.0.2.1:9000,sourceport=5000").ok();
    // Nobody listens at these ports. The errors of the neighbour itself must arrive.
    let errors_from = |source: &[u8]| {
        let is_error = |frame: &&Vec<u8>| match frame.get(12..14) {
            Some([0x08, 0x00]) => frame[23] == 1 && frame[34] == 3 && frame[26..].starts_with(source),
            Some([0x86, 0xdd]) => frame[20] == 58 && frame[54] == 1 && frame[22..].starts_with(source),
            _ => false,
        };
        blue.heard().iter().filter(is_error).count()
    };
    eventually("an error of the neighbour's", || (errors_from(&[192, 0, 2, 2]) == 1).then_some(()));

    let before = lab.reasons();
    let flows =
        "192.0.2.1 4000 192.0.2.2 4001 2001:db8:1::1 4000 2001:db8:1::2 4001 192.0.2.1 9000 192.0.2.2 5000";
    lab.netbpf(["exec", "red01", "python3", "-c", QUOTE].into_iter().chain(flows.split(' '))).ok();
    // Frames stay in order, so everything sent before this ping has arrived after it.
    lab.exec("red01", "ping -c1 10.1.0.1").ok();
    assert_eq!(lab.drops_since(&before), [("isolated".to_owned(), 3)].into());
    assert_eq!(errors_from(&[]), 0);
}
