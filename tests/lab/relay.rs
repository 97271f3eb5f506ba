//! Traffic to a published port that is relayed instead of translated: IPv6 to a container with only IPv4, and
//! broadcasts.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use netbpf_tests::lab::{Lab, datagram_server, eventually};

use super::{
    names::is_confined,
    outside::Neighbourhood,
    reach::{Asker, are_true, people},
};

/// The client address that the container sees for relayed traffic.
const GATEWAY: Option<&str> = Some("10.1.0.1");

/// The PIDs of the relay processes.
fn relays(lab: &Lab) -> Vec<u32> {
    lab.processes("netbpf relay")
}

/// A container that echoes TCP data, published at port 8080 of the host.
#[track_caller]
fn echo(lab: &Lab) {
    let server = ["socat", "TCP-LISTEN:80,fork,reuseaddr", "EXEC:cat"];
    lab.netbpf(["run", "-d", "--name", "echo", "-p", "8080:80", "--"].into_iter().chain(server)).ok();
    eventually("the server listens", || {
        lab.in_network_of("echo", "ss -Hltn").ok().stdout.contains(":80 ").then_some(())
    });
}

/// A connection through the relay, as soon as it accepts one.
#[track_caller]
fn connect(lab: &Lab) -> TcpStream {
    let connect = || TcpStream::connect("[::1]:8080").ok();
    let stream = eventually("a connection", || lab.on_host(connect));
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    stream
}

/// The echo of a few bytes; `None` if the connection has ended.
fn said(stream: &mut TcpStream) -> Option<[u8; 4]> {
    let mut answer = *b"    ";
    stream.write_all(b"ping").ok()?;
    stream.read_exact(&mut answer).ok().map(|()| answer)
}

#[test]
fn a_container_without_ipv6_is_reachable_over_ipv6() {
    let lab = Neighbourhood::start();
    people(&lab);
    lab.netbpf(["rm", "-f", "red02"]).ok();
    lab.network("six", "--ipv6 --subnet 10.6.0.0/24 --subnet fd00:6::/64");
    lab.network("inner", "--internal --ipv6 --subnet 10.7.0.0/24 --subnet fd00:7::/64");
    lab.run("six01", "--net six");
    lab.run("inner01", "--net inner");
    let (far, side) = (Asker::Neighbour("far"), Asker::Neighbour("side"));
    let (other, inner) = (Asker::Container("six01"), Asker::Container("inner01"));
    are_true(
        &lab,
        &[
            ("the host, by ::1", Asker::Host, "::1", 8080, GATEWAY),
            ("the host, by its address", Asker::Host, "2001:db8:1::1", 8080, GATEWAY),
            ("another host", far, "2001:db8:1::1", 8080, GATEWAY),
            ("another host, by another uplink", side, "2001:db8:3::1", 8080, GATEWAY),
            ("another host, by an address that it is not next to", far, "2001:db8:3::1", 8080, GATEWAY),
            ("another network, by its own gateway", other, "fd00:6::1", 8080, GATEWAY),
            ("another network, by the host's address", other, "2001:db8:1::1", 8080, GATEWAY),
            ("an internal network, as over IPv4", inner, "10.7.0.1", 8080, None),
            ("an internal network", inner, "fd00:7::1", 8080, None),
            ("what is published on loopback of IPv4", Asker::Host, "::1", 8081, None),
            ("what is published at one address of IPv4", far, "2001:db8:1::1", 8082, None),
            ("another host, over IPv4, as before", far, "192.0.2.1", 8080, Some("192.0.2.2")),
        ],
    );
    let counted = lab.host(["nft", "list", "counter", "inet", "netbpf", "internal"]).ok();
    assert!(!counted.stdout.contains("packets 0 "), "{counted:?}");
}

#[test]
fn a_port_at_one_ipv6_address_is_at_no_other() {
    let lab = Neighbourhood::start();
    super::reach::serve(&lab, "web", "-p [::1]:8080:80 -p [::1]:8080:5300/udp");
    assert_eq!(lab.netbpf(["port", "web"]).ok().stdout, "80/tcp -> [::1]:8080\n5300/udp -> [::1]:8080\n");
    let far = Asker::Neighbour("far");
    are_true(
        &lab,
        &[
            ("the host, by ::1", Asker::Host, "::1", 8080, Some("172.17.0.1")),
            ("the host, by another address", Asker::Host, "2001:db8:1::1", 8080, None),
            ("the host, over IPv4", Asker::Host, "127.0.0.1", 8080, None),
            ("another host", far, "2001:db8:1::1", 8080, None),
        ],
    );
}

/// A Python program that sends a broadcast twice, then a datagram to the address that answered; prints the answers with
/// their sources. Arguments: address, port. The later datagrams belong to the flow of the first one.
const ASK: &str = r"
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0')
client.settimeout(1.5)
address = sys.argv[1]
for to in [address, address, None]:
    if to is None:
        to = server[0]
    client.sendto(b'who is there?', (to, int(sys.argv[2])))
    try:
        answer, server = client.recvfrom(100)
        print(answer.decode(), *server)
    except OSError:
        print('nobody')
        break
";

#[test]
fn a_broadcast_reaches_a_published_port_which_answers_from_the_host_s_address() {
    let lab = Neighbourhood::start();
    let server = datagram_server(9000, "here");
    let ports = ["-p", "9000:9000/udp", "-p", "192.0.2.1:9200:9000/udp"];
    let words = ["run", "-d", "--name", "game"].into_iter().chain(ports).chain(["--"]);
    lab.netbpf(words.chain(server.iter().map(String::as_str))).ok();
    eventually("the server listens", || {
        lab.in_network_of("game", "ss -Hlun").ok().stdout.contains(":9000 ").then_some(())
    });
    lab.run("neighbour", "");
    let ask = |address: &str, port: &str| {
        lab.host(["ip", "netns", "exec", "far", "python3", "-c", ASK, address, port]).ok().stdout
    };
    for address in ["192.0.2.1", "192.0.2.255", "255.255.255.255"] {
        assert_eq!(ask(address, "9000"), "here 192.0.2.1 9000\n".repeat(3), "{address}");
    }
    // A port at one address does not receive broadcasts, nor does a port that is not published.
    for port in ["9200", "9300"] {
        assert_eq!(ask("192.0.2.255", port), "nobody\n", "{port}");
    }
    // A container's broadcast stays in its network and is not relayed: only the server itself answers.
    let asked = lab.netbpf(["exec", "neighbour", "python3", "-c", ASK, "172.17.255.255", "9000"]).ok();
    assert_eq!(asked.stdout, "here 172.17.0.2 9000\n".repeat(3));
    lab.netbpf(["rm", "-f", "game"]).ok();
    assert_eq!(ask("192.0.2.255", "9000"), "nobody\n");
}

/// A Python program that sends data, closes its side, and receives all data back. Arguments: address, number of bytes.
const TRANSFER: &str = r"
import os, socket, sys, threading
client = socket.create_connection((sys.argv[1], 8080), 30)
data = os.urandom(int(sys.argv[2]))
def send():
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
back = bytearray()
while piece := client.recv(1 << 20): back += piece
print(back == data)
";

#[test]
fn bulk_data_arrives_unchanged_and_half_close_works() {
    let lab = Neighbourhood::start();
    echo(&lab);
    let transfer = ["python3", "-c", TRANSFER, "2001:db8:1::1", "20000000"];
    let done = lab.host(["ip", "netns", "exec", "far"].into_iter().chain(transfer)).ok();
    assert_eq!(done.text(), "True");
}

#[test]
fn connections_outlive_the_daemon() {
    let lab = Lab::start();
    echo(&lab);
    let mut stream = connect(&lab);
    assert_eq!(said(&mut stream), Some(*b"ping"));
    let before = relays(&lab);
    assert_eq!(before.len(), 1);
    lab.kill_daemon();
    assert_eq!(said(&mut stream), Some(*b"ping"));
    assert_eq!(said(&mut connect(&lab)), Some(*b"ping"), "new ones too");
    lab.start_daemon();
    assert_eq!(said(&mut stream), Some(*b"ping"));
    assert_eq!(relays(&lab), before);
    // The next daemon knows the port, and can close it.
    lab.netbpf(["run", "-d", "-p", "[::]:8080:80", "--", "true"])
        .fails_with(125, "Bind for [::]:8080 failed: port is already allocated");
    lab.restart_daemon();
    assert_eq!(said(&mut stream), Some(*b"ping"));
    lab.netbpf(["stop", "-t", "0", "echo"]).ok();
    assert_eq!(said(&mut stream), None);
}

#[test]
fn a_port_of_a_container_that_ended_while_no_daemon_ran_is_closed_by_the_next() {
    let lab = Lab::start();
    echo(&lab);
    lab.run("other", "-p 8081:80");
    let mut stream = connect(&lab);
    assert_eq!(said(&mut stream), Some(*b"ping"));
    let pid = lab.pid("echo").to_string();
    lab.kill_daemon();
    lab.host(["kill", "-9", &pid]).ok();
    lab.start_daemon();
    eventually("it has ended", || {
        let state = lab.netbpf(["ps", "-a", "--filter", "name=echo", "--format", "{{.State}}"]).ok();
        (state.text() == "exited").then_some(())
    });
    assert_eq!(said(&mut stream), None);
    lab.run("next", "-p [::]:8080:80");
    assert_eq!(relays(&lab).len(), 1);
}

#[test]
fn a_killed_relay_is_back_at_once() {
    let lab = Lab::start();
    echo(&lab);
    for _ in 0..2 {
        let mut stream = connect(&lab);
        assert_eq!(said(&mut stream), Some(*b"ping"));
        let [relay] = relays(&lab)[..] else { panic!("one relay") };
        lab.host(["kill", "-9", &relay.to_string()]).ok();
        assert_eq!(said(&mut stream), None);
        // No client is refused: it waits in the listening socket, which the daemon holds.
        let again = lab.on_host(|| TcpStream::connect("[::1]:8080")).expect("a connection");
        again.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut again = again;
        assert_eq!(said(&mut again), Some(*b"ping"));
        assert!(!relays(&lab).contains(&relay));
    }
}

#[test]
fn the_relay_ends_soon_after_its_last_port() {
    let lab = Lab::start();
    lab.run("local", "-p 127.0.0.1:8080:80 -p 127.0.0.1:8080:80/udp");
    assert!(relays(&lab).is_empty());
    lab.run("web", "-p 8081:80");
    lab.run("more", "-p 8082:80");
    let [relay] = relays(&lab)[..] else { panic!("one relay") };
    lab.netbpf(["rm", "-f", "web"]).ok();
    assert_eq!(relays(&lab), [relay]);
    for _ in 0..2 {
        lab.netbpf(["network", "disconnect", "bridge", "more"]).ok();
        lab.netbpf(["network", "connect", "bridge", "more"]).ok();
        assert_eq!(relays(&lab), [relay], "it was needed again soon");
    }
    lab.netbpf(["network", "disconnect", "bridge", "more"]).ok();
    eventually("the relay has ended", || relays(&lab).is_empty().then_some(()));
    lab.netbpf(["network", "connect", "bridge", "more"]).ok();
    assert_eq!(relays(&lab).len(), 1);
    // One that has nothing to do is not started again.
    lab.netbpf(["rm", "-f", "more"]).ok();
    let [idle] = relays(&lab)[..] else { panic!("one relay") };
    lab.host(["kill", "-9", &idle.to_string()]).ok();
    eventually("the relay has ended", || relays(&lab).is_empty().then_some(()));
}

#[test]
fn the_relay_has_its_own_user_and_no_files_or_privileges() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    echo(&lab);
    lab.run("asks", "--net mynet");
    let [relay] = relays(&lab)[..] else { panic!("one relay") };
    let [responder] = lab.processes("netbpf responder")[..] else { panic!("one responder") };
    assert_ne!(is_confined(&lab, relay), is_confined(&lab, responder), "each is another user");
    assert_eq!(said(&mut connect(&lab)), Some(*b"ping"));
    assert_eq!(relays(&lab), [relay]);
}
