//! Containers that come and go: no packet of a removed one's flow reaches the next one with its address, its port or its number,
//! and flows of others stay as they are.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use netbpf_tests::lab::{
    Lab, accept, connect, eventually, meanwhile,
    station::{Mac, Station, ethernet, ipv4_with},
    tell,
};

use super::{Connection, ROUND_TRIPS, SHORT, address, becomes_fast, far, shortcuts, start};

/// How long there are rounds, if their number is not given.
const TIME: Duration = Duration::from_secs(12);

const FAR: [u8; 4] = [192, 0, 2, 2];
const HOST: [u8; 4] = [192, 0, 2, 1];

const IPV4: u16 = 0x0800;
const TCP: u8 = 6;

/// The content of packets of a round, at their end.
fn mark(round: u64) -> [u8; 16] {
    format!("round {round:010}").into_bytes().try_into().expect("16 bytes")
}

/// A segment from `far` with an acknowledgement, as in the middle of a connection.
fn segment(uplink: Mac, source: Mac, ports: (u16, u16), content: &[u8]) -> Vec<u8> {
    let ports = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    let header = [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]].concat();
    let mut segment = [&header, content].concat();
    let length = (segment.len() as u16).to_be_bytes();
    let covered = [&FAR[..], &HOST, &[0, TCP], &length, &segment].concat();
    let sum: u32 = covered.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    ethernet(uplink, source, IPV4, &ipv4_with(TCP, FAR, HOST, &segment))
}

/// A container with an established flow through its published port, and one to another host.
struct Tenant {
    connections: [Connection; 2],
    /// All that it receives.
    station: Station,
}

impl Tenant {
    /// Begins where another one was: it has its address, and the port of the one before that.
    #[track_caller]
    fn begin(lab: &Lab, round: u64) -> Self {
        let port = host_port(round);
        lab.run("web", &format!("--net red --ip 10.1.0.9 -p {port}:80"));
        let station = lab.station("web", "eth0");
        let (received, listener) = lab.inside("web", || (segments(), TcpListener::bind("0.0.0.0:80")));
        assert_eq!(received, 0, "round {round}: segments before it had a connection");
        let outside = far(lab, || connect(address(&format!("192.0.2.1:{port}"))));
        let published = Connection::of(accept(&listener.expect("a free port")), outside);
        Self { connections: [published, Connection::masqueraded(lab, "web")], station }
    }

    /// Lets both flows skip the stack. Nothing of the round before is to be heard.
    #[track_caller]
    fn become_fast(&mut self, lab: &Lab, round: u64) {
        let is_old = |frame: &&Vec<u8>| frame.ends_with(&mark(round - 1));
        eventually("both flows skip the stack", || {
            let before = shortcuts(lab);
            for connection in &mut self.connections {
                connection.talk();
                // The socket does not hold much more.
                assert_eq!(self.station.heard().iter().find(is_old), None, "round {round}");
            }
            (shortcuts(lab) - before >= 4 * ROUND_TRIPS as u64).then_some(())
        });
    }

    /// Packets from another host that are for it.
    fn packets(&self, round: u64, uplink: Mac, source: Mac) -> Vec<Vec<u8>> {
        let ends = self.connections.iter().map(|Connection { outside, .. }| {
            let port = |end: std::io::Result<SocketAddr>| end.expect("an address").port();
            (port(outside.local_addr()), port(outside.peer_addr()))
        });
        ends.map(|ports| segment(uplink, source, ports, &mark(round))).collect()
    }
}

/// Two ports take turns.
fn host_port(round: u64) -> u64 {
    8080 + round % 2
}

/// How many segments of TCP the network namespace of this thread has received.
fn segments() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/snmp").expect("counters");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: ")).map(str::split_whitespace);
    let (names, numbers) = (lines.next().expect("names"), lines.next().expect("numbers"));
    let counted = names.zip(numbers).find(|(name, _)| *name == "InSegs");
    counted.and_then(|(_, number)| number.parse().ok()).expect("a number of segments")
}

/// `NETBPF_FLOW_ROUNDS` sets the number of rounds.
#[test]
fn no_packet_of_an_old_flow_reaches_another_container() {
    let Some(lab) = start() else { return };
    let rounds =
        env::var("NETBPF_FLOW_ROUNDS").ok().map(|text| text.parse::<u64>().expect("a number of rounds"));
    lab.network("red", "--subnet 10.1.0.0/24");
    let source = lab.station_in("/run/netns/far", "eth0");
    let uplink = lab.host_station("uplink").mac();
    let packets = Mutex::new(Vec::<Vec<u8>>::new());
    let present = || packets.lock().unwrap_or_else(PoisonError::into_inner);
    let send = || {
        let now = present().clone();
        now.iter().for_each(|packet| source.send(packet));
        thread::sleep(Duration::from_micros(100));
    };
    let (begun, mut round) = (Instant::now(), 0);
    meanwhile([send], || {
        while rounds.map_or(begun.elapsed() < TIME, |rounds| round < rounds) {
            round += 1;
            let mut tenant = Tenant::begin(&lab, round);
            tenant.become_fast(&lab, round);
            *present() = tenant.packets(round, uplink, source.mac());
            assert!(tenant.station.hears(&mark(round), SHORT), "round {round}: its own packets reach it");
            lab.netbpf(["rm", "-f", "web"]).ok();
        }
    });
    tell("containers replaced under traffic", round);
}

#[test]
fn containers_that_come_and_go_do_not_end_flows_of_others() {
    let Some(lab) = start() else { return };
    lab.run("web", "-p 8080:80");
    let mut connection = Connection::published(&lab, "web");
    becomes_fast(&lab, || connection.talk());
    let (before, mut talks) = (shortcuts(&lab), 0);
    let talk = || {
        connection.talk();
        talks += 1;
    };
    meanwhile([talk], || {
        for name in ["one", "other"] {
            lab.run(name, "-p 8081:80 -p 8082:80/udp");
            lab.netbpf(["rm", "-f", name]).ok();
        }
    });
    assert!(talks > 0);
    assert!(
        shortcuts(&lab) - before >= 2 * ROUND_TRIPS as u64 * talks,
        "all of {talks} talks skip the stack"
    );
}
