//! Established flows that skip the host's stack (`--fast-flows=on`): that they do, that nothing is different otherwise, and
//! that no packet reaches another container than through the stack.

mod others;
mod reuse;

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use aya::programs::{SchedClassifier, TcAttachType};
use netbpf_tests::lab::{Lab, accept, connect, eventually, kernel_version, meanwhile};
use nix::sys::socket::{setsockopt, sockopt::Linger};

use super::outside::Neighbourhood;

/// How long a packet may take.
const SHORT: Duration = Duration::from_secs(5);

/// Round trips of one [`talk`]: more than the programs count before they report a flow.
const ROUND_TRIPS: usize = 50;

/// Deletes all conntrack entries, as `conntrack -F` does: a request of nfnetlink without attributes.
const FLUSH: &str = "
import socket, struct
kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
kernel.send(struct.pack('=IHHIIBBH', 20, 1 << 8 | 2, 1 | 4, 1, 0, 0, 0, 0))
assert struct.unpack_from('=i', kernel.recv(4096), 16) == (0,)
";

/// A neighbourhood whose daemon lets flows skip the stack; none on a kernel where it cannot.
pub fn start() -> Option<Neighbourhood> {
    start_around(Lab::without_daemon())
}

/// The same around a host without a daemon.
pub fn start_around(lab: Lab) -> Option<Neighbourhood> {
    lab.tell_daemons("--fast-flows=on");
    lab.start_daemon();
    let lab = Neighbourhood::around(lab);
    if kernel_version() < [6, 6] {
        lab.run("web", "");
        eventually("doctor tells why not", || lab.netbpf(["doctor"]).stdout.contains("no tcx").then_some(()));
        return None;
    }
    Some(lab)
}

/// A connection: its ends in a container and on another host.
pub struct Connection {
    inside: TcpStream,
    outside: TcpStream,
}

impl Connection {
    fn of(inside: TcpStream, outside: TcpStream) -> Self {
        for end in [&inside, &outside] {
            end.set_read_timeout(Some(SHORT)).expect("a timeout");
            end.set_write_timeout(Some(SHORT)).expect("a timeout");
            end.set_nodelay(true).expect("no delay");
        }
        Self { inside, outside }
    }

    /// From `far` to a published port.
    #[track_caller]
    pub fn published(lab: &Lab, container: &str) -> Self {
        let listener = lab.inside(container, || TcpListener::bind("0.0.0.0:80").expect("a free port"));
        let outside = far(lab, || connect(address("192.0.2.1:8080")));
        Self::of(accept(&listener), outside)
    }

    /// From a container to `far`.
    #[track_caller]
    fn masqueraded(lab: &Lab, container: &str) -> Self {
        let listener = far(lab, || TcpListener::bind("0.0.0.0:80").expect("a free port"));
        let inside = lab.inside(container, || connect(address("192.0.2.2:80")));
        Self::of(inside, accept(&listener))
    }

    /// Sends bytes there and back again and again.
    #[track_caller]
    pub fn talk(&mut self) {
        for number in 0..ROUND_TRIPS {
            let sent = [number as u8; 64];
            let mut got = [0; 64];
            self.outside.write_all(&sent).expect("a request");
            self.inside.read_exact(&mut got).expect("the request arrives");
            assert_eq!(got, sent);
            self.inside.write_all(&got).expect("an answer");
            self.outside.read_exact(&mut got).expect("the answer arrives");
            assert_eq!(got, sent);
        }
    }

    /// The container speaks first, and the host answers.
    #[track_caller]
    fn talk_from_inside(&mut self) {
        std::mem::swap(&mut self.inside, &mut self.outside);
        self.talk();
        std::mem::swap(&mut self.inside, &mut self.outside);
    }

    /// Sends megabytes in both directions at once, and compares them.
    #[track_caller]
    fn exchange(&self) {
        let bytes: Vec<u8> =
            (0..8_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let bytes = &bytes;
        thread::scope(|scope| {
            for (mut from, mut to) in [(&self.inside, &self.outside), (&self.outside, &self.inside)] {
                scope.spawn(move || from.write_all(bytes).expect("all are sent"));
                scope.spawn(move || {
                    let mut got = vec![0; bytes.len()];
                    to.read_exact(&mut got).expect("all arrive");
                    assert!(got == *bytes, "they are the same");
                });
            }
        });
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// Runs a closure in the namespace of `far`.
#[track_caller]
fn far<T: Send>(lab: &Lab, work: impl FnOnce() -> T + Send) -> T {
    lab.in_namespace("/run/netns/far", work)
}

/// The number of packets that have skipped the stack.
fn shortcuts(lab: &Lab) -> u64 {
    lab.reasons()["shortcut"]
}

/// Talks until all packets of a talk skip the stack.
#[track_caller]
pub fn becomes_fast(lab: &Lab, mut talk: impl FnMut()) {
    eventually("its packets skip the stack", || {
        let before = shortcuts(lab);
        talk();
        (shortcuts(lab) - before >= 2 * ROUND_TRIPS as u64).then_some(())
    });
}

/// Waits until all that a container sent is acknowledged: the last acknowledgement of a talk comes late.
#[track_caller]
fn all_is_acknowledged(lab: &Lab, container: &str) {
    eventually("all is acknowledged", || {
        let sockets = lab.in_network_of(container, "ss -Htn state established").ok().stdout;
        sockets.lines().all(|line| line.split_whitespace().nth(1) == Some("0")).then_some(())
    });
}

/// Talks, of which nothing skips the stack.
#[track_caller]
pub fn is_slow(lab: &Lab, talk: impl FnOnce()) {
    let before = shortcuts(lab);
    talk();
    assert_eq!(shortcuts(lab), before);
}

/// The number of flows with an entry, as the daemon saw them last.
fn entries(lab: &Lab) -> Option<u64> {
    lab.ask("/info")["Flows"]["Count"].as_u64()
}

/// UDP between `far` and the published port of a container.
struct Datagrams {
    inside: UdpSocket,
    outside: UdpSocket,
}

impl Datagrams {
    #[track_caller]
    fn published(lab: &Lab, container: &str) -> Self {
        let inside = lab.inside(container, || UdpSocket::bind("0.0.0.0:80").expect("a free port"));
        let outside = far(lab, || UdpSocket::bind("0.0.0.0:0").expect("a port"));
        outside.connect("192.0.2.1:8080").expect("a peer");
        for end in [&inside, &outside] {
            end.set_read_timeout(Some(SHORT)).expect("a timeout");
        }
        Self { inside, outside }
    }

    #[track_caller]
    fn talk(&self) {
        for number in 0..ROUND_TRIPS {
            let sent = [number as u8; 64];
            let mut got = [0; 100];
            self.outside.send(&sent).expect("a request");
            let (length, peer) = self.inside.recv_from(&mut got).expect("the request arrives");
            assert_eq!(got[..length], sent);
            self.inside.send_to(&sent, peer).expect("an answer");
            let length = self.outside.recv(&mut got).expect("the answer arrives");
            assert_eq!(got[..length], sent);
        }
    }
}

#[test]
fn flows_skip_the_stack_and_carry_the_same_bytes() {
    if let Some(lab) = start() {
        they_carry_the_same_bytes(&lab);
    }
}

/// Bytes of TCP and UDP arrive as they were sent, and each end hears of the other's end.
#[track_caller]
pub fn they_carry_the_same_bytes(lab: &Lab) {
    lab.run("web", "-p 8080:80 -p 8080:80/udp");
    for begin in [Connection::published, Connection::masqueraded] {
        let mut connection = begin(lab, "web");
        becomes_fast(lab, || connection.talk());
        connection.exchange();
        becomes_fast(lab, || connection.talk_from_inside());
        // Each end closes, and hears that the other one did.
        let Connection { mut inside, mut outside } = connection;
        let mut rest = Vec::new();
        drop(outside.shutdown(std::net::Shutdown::Write));
        inside.read_to_end(&mut rest).expect("the end arrives");
        inside.write_all(b"bye").expect("the other direction goes on");
        drop(inside);
        outside.read_to_end(&mut rest).expect("the other end arrives");
        assert_eq!(rest, b"bye");
        eventually("its entry is gone", || (entries(lab) == Some(0)).then_some(()));
    }
    let datagrams = Datagrams::published(lab, "web");
    becomes_fast(lab, || datagrams.talk());
    eventually("it has an entry", || (entries(lab) == Some(1)).then_some(()));
    let doctor = lab.netbpf(["doctor"]).stdout;
    assert!(doctor.contains("skip the host's stack"), "{doctor}");
}

#[test]
fn a_reset_reaches_the_other_end() {
    let Some(lab) = start() else { return };
    lab.run("web", "-p 8080:80");
    for is_inside in [true, false] {
        let mut connection = Connection::published(&lab, "web");
        becomes_fast(&lab, || connection.talk());
        let Connection { inside, outside } = connection;
        let (closing, other) = if is_inside { (inside, outside) } else { (outside, inside) };
        is_reset(closing, other);
    }
}

/// Closes one end by a RST, of which the other end hears.
#[track_caller]
fn is_reset(closing: TcpStream, mut other: TcpStream) {
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&closing, Linger, &at_once).expect("an option");
    drop(closing);
    let error = other.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// The kernel takes no RST from before the last acknowledgement that it saw, and compares numbers of 32 bits.
#[test]
fn a_reset_is_heard_after_gigabytes() {
    let Some(lab) = start() else { return };
    lab.run("web", "-p 8080:80");
    let mut connection = Connection::published(&lab, "web");
    becomes_fast(&lab, || connection.talk());
    let Connection { mut inside, mut outside } = connection;
    let megabyte = &vec![7; 1 << 20];
    thread::scope(|scope| {
        scope.spawn(|| (0..2500).for_each(|_| inside.write_all(megabyte).expect("all are sent")));
        scope.spawn(|| {
            let mut got = vec![0; 1 << 20];
            (0..2500).for_each(|_| outside.read_exact(&mut got).expect("all arrive"));
        });
    });
    is_reset(inside, outside);
}

#[test]
fn a_container_of_the_same_network_is_no_other_host() {
    let Some(lab) = start() else { return };
    lab.run("web", "-p 8080:80");
    lab.run("client", "");
    let listener = lab.inside("web", || TcpListener::bind("0.0.0.0:80").expect("a free port"));
    let outside = lab.inside("client", || connect(address("192.0.2.1:8080")));
    let mut hairpin = Connection::of(accept(&listener), outside);
    drop(listener);
    let mut other = Connection::published(&lab, "web");
    // When one flow has an entry, the other one would have one, too.
    is_slow(&lab, || hairpin.talk());
    becomes_fast(&lab, || other.talk());
    all_is_acknowledged(&lab, "web");
    is_slow(&lab, || hairpin.talk());
    let count = |interface: &str| {
        let found = lab.on_host(|| SchedClassifier::query_tcx(interface, TcAttachType::Ingress));
        found.expect("tcx programs").1.len()
    };
    assert_eq!((count("uplink"), count("netbpf0")), (1, 0));
    drop(other);
    eventually("the uplink's packets pay for nothing", || (count("uplink") == 0).then_some(()));
}

#[test]
fn a_smaller_mtu_on_the_way_is_discovered() {
    let Some(lab) = start() else { return };
    lab.network("small", "--subnet 10.1.0.0/24 -o com.docker.network.driver.mtu=1300");
    lab.run("web", "--net small -p 8080:80");
    let mut connection = Connection::published(&lab, "web");
    becomes_fast(&lab, || connection.talk());
    connection.exchange();
    // Behind `far`, a link has an MTU of 1400.
    lab.run("other", "");
    let listener = lab.in_namespace("/run/netns/beyond", || TcpListener::bind("0.0.0.0:80").expect("a port"));
    let inside = lab.inside("other", || connect(address("198.51.100.2:80")));
    let mut connection = Connection::of(inside, accept(&listener));
    becomes_fast(&lab, || connection.talk());
    connection.exchange();
    // The uplink's becomes smaller.
    lab.host(["ip", "link", "set", "uplink", "mtu", "1280"]).ok();
    lab.on("far", "ip link set eth0 mtu 1280").ok();
    connection.exchange();
}

#[test]
fn flows_go_on_without_a_daemon_and_with_the_next_one() {
    let Some(lab) = start() else { return };
    lab.run("web", "-p 8080:80 -p 8080:80/udp");
    let mut connections = [Connection::published(&lab, "web"), Connection::masqueraded(&lab, "web")];
    let datagrams = Datagrams::published(&lab, "web");
    let mut talk = || {
        connections.iter_mut().for_each(Connection::talk);
        datagrams.talk();
    };
    becomes_fast(&lab, &mut talk);
    lab.kill_daemon();
    talk();
    lab.start_daemon();
    becomes_fast(&lab, &mut talk);
    // A daemon without the option lets all go through the stack.
    lab.stop_daemon();
    talk();
    lab.tell_daemons("");
    lab.start_daemon();
    is_slow(&lab, &mut talk);
    connections.iter_mut().for_each(Connection::talk_from_inside);
    let programs = lab.host(["sh", "-c", "ls /sys/fs/bpf/netbpf/v*/programs"]).ok().stdout;
    assert!(!programs.contains("flow_"), "{programs}");
}

#[test]
fn a_flow_goes_on_when_its_conntrack_entry_or_route_is_gone_and_comes_back() {
    let Some(lab) = start() else { return };
    lab.run("web", "-p 8080:80/udp");
    let mut connection = Connection::masqueraded(&lab, "web");
    let datagrams = Datagrams::published(&lab, "web");
    let mut talk = || {
        connection.talk();
        datagrams.talk();
    };
    becomes_fast(&lab, &mut talk);
    eventually("both have entries", || {
        talk();
        (entries(&lab) == Some(2)).then_some(())
    });
    // Without an entry of conntrack, the host answers the other host's segments with RST.
    all_is_acknowledged(&lab, "web");
    lab.host(["python3", "-c", FLUSH]).ok();
    eventually("the daemon sees it", || (entries(&lab) == Some(0)).then_some(()));
    connection.talk_from_inside();
    becomes_fast(&lab, || {
        connection.talk();
        datagrams.talk();
    });
    // A route by another uplink, and back.
    lab.host(["ip", "route", "add", "192.0.2.2/32", "via", "203.0.113.2", "dev", "second"]).ok();
    let before = shortcuts(&lab);
    connection.outside.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    connection.inside.write_all(b"lost").expect("it is sent");
    assert!(connection.outside.read(&mut [0; 4]).is_err(), "it leaves by the other uplink");
    assert_eq!(shortcuts(&lab), before);
    lab.host(["ip", "route", "del", "192.0.2.2/32"]).ok();
    connection.outside.set_read_timeout(Some(SHORT)).expect("a timeout");
    let mut late = [0; 4];
    connection.outside.read_exact(&mut late).expect("TCP sends it again");
    assert_eq!(&late, b"lost");
    becomes_fast(&lab, || connection.talk());
}

/// A client goes on sending to a port while its container is removed and another one gets its address. That one must hear
/// nothing: its port is not published.
#[test]
fn no_packet_reaches_the_next_container_with_the_address() {
    let Some(lab) = start() else { return };
    lab.network("red", "--subnet 10.1.0.0/24");
    for round in 0..10 {
        lab.run("old", "--net red --ip 10.1.0.9 -p 8080:80 -p 8080:80/udp");
        let datagrams = Datagrams::published(&lab, "old");
        let mut connection = Connection::published(&lab, "old");
        becomes_fast(&lab, || {
            datagrams.talk();
            connection.talk();
        });
        let Datagrams { inside, outside } = datagrams;
        let send = || {
            let _refused = outside.send(&[9; 64]);
            let _closed = connection.outside.write(&[9; 64]);
            thread::sleep(Duration::from_micros(100));
        };
        meanwhile([send], || {
            drop(inside);
            lab.netbpf(["rm", "-f", "old"]).ok();
            let other_port = if round % 2 == 0 { "" } else { "-p 8081:80/udp" };
            lab.run("new", &format!("--net red --ip 10.1.0.9 {other_port}"));
            let heard = lab.inside("new", || UdpSocket::bind("0.0.0.0:80").expect("a free port"));
            heard.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
            let got = heard.recv_from(&mut [0; 64]);
            assert!(got.is_err(), "round {round}: {got:?}");
        });
        let resets = "nstat -az TcpOutRsts | awk '/TcpOutRsts/ { print $2 }'";
        assert_eq!(
            lab.in_network_of("new", resets).ok().text(),
            "0",
            "round {round}: segments of the old connection"
        );
        lab.netbpf(["rm", "-f", "new"]).ok();
    }
}

/// The same for two containers that take turns to have a published port.
#[test]
fn a_published_port_leads_to_the_container_that_has_it_now() {
    let Some(lab) = start() else { return };
    let outside = far(&lab, || UdpSocket::bind("0.0.0.0:0").expect("a port"));
    outside.connect("192.0.2.1:8080").expect("a peer");
    outside.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    for round in 0..10u8 {
        let name = format!("web{round}");
        lab.run(&name, "-p 8080:80/udp");
        let inside = lab.inside(&name, || UdpSocket::bind("0.0.0.0:80").expect("a free port"));
        inside.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let answer = || {
            if let Ok((_, peer)) = inside.recv_from(&mut [0; 64]) {
                inside.send_to(&[round], peer).expect("an answer");
            }
        };
        meanwhile([answer], || {
            eventually("its packets skip the stack", || {
                let before = shortcuts(&lab);
                let mut answer = [0];
                for _ in 0..ROUND_TRIPS {
                    outside.send(b"x").ok()?;
                    // Before the port is published, nobody answers.
                    outside.recv(&mut answer).ok()?;
                    assert_eq!(answer, [round], "another container answers");
                }
                (shortcuts(&lab) - before >= 2 * ROUND_TRIPS as u64).then_some(())
            });
        });
        lab.netbpf(["rm", "-f", &name]).ok();
    }
}
