//! Packets of established flows, which skip the host's stack: how they are rewritten, and which do not skip it.

mod room;

use std::fs;

use netbpf::datapath::Shortcut;
use netbpf_common::{
    access::PLAIN,
    endpoint::{self, Endpoint},
    flow::{FlowKey, Way},
    reason::Reason,
};
use nix::time::{ClockId, clock_gettime};

use super::{
    bench::{ANNE, BERT, Bench, DORA, GATEWAY, Outcome, REDIRECT, Station, bench, endpoint_entry, run, veth},
    dns::ones_complement,
    frame::Frame,
};

/// `TC_ACT_UNSPEC`: the host goes on with the packet.
const GOES_ON: u32 = u32::MAX;

/// The uplink, and the host's address there.
const UPLINK: Station = Station { ifindex: 50, ip: [198, 51, 100, 1] };
/// A host there.
const PEER: [u8; 4] = [198, 51, 100, 7];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

const PEER_PORT: u16 = 443;
const PORT: u16 = 8080;
/// The port that stands for Anne's at the host's address.
const HOST_PORT: u16 = 40_001;

const TCP: u8 = 6;
const UDP: u8 = 17;

const NETWORK: usize = 14;
const TRANSPORT: usize = 34;
/// Offsets in the frame.
const FLAGS: usize = TRANSPORT + 13;
const TTL: usize = NETWORK + 8;
const FRAGMENT: usize = NETWORK + 6;

const ACK: u8 = 0x10;

fn text_of(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

fn seconds() -> u32 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock").tv_sec() as u32
}

/// A segment or datagram with valid checksums.
fn packet(protocol: u8, from: ([u8; 4], u16), to: ([u8; 4], u16), content: &[u8]) -> Frame {
    let ports = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    let header = match protocol {
        TCP => [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 2, 0x50, ACK, 0xff, 0xff, 0, 0, 0, 0]].concat(),
        _ => [&ports[..], &(8 + content.len() as u16).to_be_bytes(), &[0, 0]].concat(),
    };
    let length = (20 + header.len() + content.len()) as u16;
    let ip =
        [&[0x45, 0][..], &length.to_be_bytes(), &[0x12, 0x34, 0x40, 0, 64, protocol, 0, 0], &from.0, &to.0];
    let frame = Frame::ethernet([0; 6], [0; 6], 0x0800).then(&ip.concat()).then(&header).then(content);
    with_checksums(frame)
}

fn checksum_at(frame: &Frame) -> usize {
    TRANSPORT + if frame.0[NETWORK + 9] == TCP { 16 } else { 6 }
}

/// The sum of a segment or datagram with its pseudo-header: 0xffff if its checksum is right.
fn sum(frame: &Frame) -> u16 {
    let content = &frame.0[TRANSPORT..];
    let length = (content.len() as u16).to_be_bytes();
    ones_complement(&[&frame.0[26..34], &[0, frame.0[NETWORK + 9]], &length, content])
}

fn with_checksums(frame: Frame) -> Frame {
    let at = checksum_at(&frame);
    let frame = frame.with(NETWORK + 10, &[0, 0]).with(at, &[0, 0]);
    let of_header = (!ones_complement(&[&frame.0[NETWORK..TRANSPORT]])).to_be_bytes();
    let frame = frame.with(NETWORK + 10, &of_header);
    let of_content = (!sum(&frame)).to_be_bytes();
    frame.with(at, &of_content)
}

fn with_macs(frame: Frame, source: [u8; 6], destination: [u8; 6]) -> Frame {
    frame.with(0, &destination).with(6, &source)
}

/// Anne's packet to the peer, as she sends it.
fn out(protocol: u8, content: &[u8]) -> Frame {
    with_macs(packet(protocol, (ANNE.ip, PORT), (PEER, PEER_PORT), content), ANNE.mac(), GATEWAY.mac())
}

/// The same as it leaves the host.
fn sent(protocol: u8, content: &[u8]) -> Frame {
    let frame = packet(protocol, (UPLINK.ip, HOST_PORT), (PEER, PEER_PORT), content).with(TTL, &[63]);
    with_macs(with_checksums(frame), UPLINK.mac(), PEER_MAC)
}

/// The peer's packet to the host.
fn back(protocol: u8, content: &[u8]) -> Frame {
    with_macs(packet(protocol, (PEER, PEER_PORT), (UPLINK.ip, HOST_PORT), content), PEER_MAC, UPLINK.mac())
}

/// The same as Anne gets it.
fn received(protocol: u8, content: &[u8]) -> Frame {
    let frame = packet(protocol, (PEER, PEER_PORT), (ANNE.ip, PORT), content).with(TTL, &[63]);
    with_macs(with_checksums(frame), GATEWAY.mac(), ANNE.mac())
}

fn way(ifindex: u32, protocol: u8, from: ([u8; 4], u16), to: ([u8; 4], u16), now: ([u8; 4], u16)) -> Way {
    let key = FlowKey {
        ifindex,
        source: from.0,
        destination: to.0,
        source_port: from.1.to_be_bytes(),
        destination_port: to.1.to_be_bytes(),
        protocol: protocol.into(),
    };
    Way { key, address: now.0, port: now.1.to_be_bytes(), reserved: [0; 2] }
}

/// Anne's flow with the peer.
fn flow(protocol: u8) -> Shortcut {
    let (anne, host, peer) = ((ANNE.ip, PORT), (UPLINK.ip, HOST_PORT), (PEER, PEER_PORT));
    Shortcut {
        endpoint: ANNE.number().expect("a container"),
        uplink: UPLINK.ifindex,
        out: way(ANNE.ifindex, protocol, anne, peer, host),
        back: way(UPLINK.ifindex, protocol, peer, host, anne),
    }
}

/// Makes an uplink and a peer behind it, and enters Anne's flows. False: the kernel has no tcx.
fn begin(bench: &mut Bench) -> bool {
    if !bench.datapath.can_shortcut() {
        return false;
    }
    bench.datapath.load_flow_programs().expect("the programs load");
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a setting of our own namespace");
    veth("eth1", UPLINK.ifindex);
    run(&format!("ip link set eth1 address {}", text_of(UPLINK.mac())));
    run("ip address add 198.51.100.1/24 dev eth1");
    run(&format!("ip neighbour add 198.51.100.7 lladdr {} dev eth1", text_of(PEER_MAC)));
    for (name, station) in [("red", GATEWAY), ("blue", DORA)] {
        run(&format!("ip link set {name} address {}", text_of(station.mac())));
    }
    run("ip address add 172.17.0.1/16 dev red");
    bench.datapath.attach_flow_back("eth1", UPLINK.ifindex).expect("an uplink");
    bench.datapath.admit_flows(seconds() + 600).expect("FLOW_STATE");
    enter(bench);
    true
}

/// Enters Anne's flows as soon as there is room.
fn enter(bench: &mut Bench) {
    for protocol in [TCP, UDP] {
        while bench
            .datapath
            .add_flow(bench.datapath.flow_changes(), &flow(protocol), seconds())
            .expect("a flow")
            .is_none()
        {
            std::thread::yield_now();
        }
    }
}

fn at_uplink(bench: &Bench, frame: &Frame) -> Outcome {
    bench.at_uplink(UPLINK.ifindex).frame(frame)
}

fn shortcut(frame: Frame, received: &[Station]) -> Outcome {
    let received = received.iter().filter_map(|station| station.number()).collect();
    Outcome { verdict: REDIRECT, reasons: vec![Reason::Shortcut], received, dropped: vec![], frame }
}

/// Asserts that both packets go through the stack.
fn is_slow(bench: &Bench, says: &str, out: &Frame, back: &Frame) {
    bench.from(ANNE).passes(says, out, Reason::Delivered, &[]);
    let goes_on =
        Outcome { verdict: GOES_ON, reasons: vec![], received: vec![], dropped: vec![], frame: back.clone() };
    assert_eq!(at_uplink(bench, back), goes_on, "{says}");
}

fn is_fast(bench: &Bench, says: &str, protocol: u8, content: &[u8]) {
    assert_eq!(
        bench.from(ANNE).frame(&out(protocol, content)),
        shortcut(sent(protocol, content), &[]),
        "{says}"
    );
    let expected = shortcut(received(protocol, content), &[ANNE]);
    assert_eq!(at_uplink(bench, &back(protocol, content)), expected, "{says}");
}

#[test]
fn packets_of_a_flow_are_rewritten_and_redirected() {
    bench(|bench| {
        if !begin(bench) {
            return;
        }
        let all: Vec<u8> = (0..=255).cycle().take(1400).collect();
        for protocol in [TCP, UDP] {
            for length in [1, 2, 3, 64, 1399, 1400] {
                is_fast(bench, &format!("{length} bytes"), protocol, &all[..length]);
            }
        }
        // Many checksums, those that become zero among them.
        for number in 0..=u16::MAX {
            if number % 64 == 0 {
                is_fast(bench, "a number", UDP, &number.to_be_bytes());
            }
        }
    });
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    bench(|bench| {
        if !begin(bench) {
            return;
        }
        for protocol in [TCP, UDP] {
            let right = back(protocol, b"hello");
            let at = checksum_at(&right);
            let wrong = right.0[at] ^ 1;
            let outcome = at_uplink(bench, &right.with(at, &[wrong]));
            assert_eq!(outcome.reasons, [Reason::Shortcut]);
            assert_ne!(sum(&outcome.frame), 0xffff);
        }
    });
}

#[test]
fn what_the_stack_may_have_to_answer_does_not_skip_it() {
    bench(|bench| {
        if !begin(bench) {
            return;
        }
        let changed = |says: &str, protocol, change: &dyn Fn(Frame) -> Frame| {
            let content = [7; 32];
            let change = |frame| with_checksums(change(frame));
            is_slow(bench, says, &change(out(protocol, &content)), &change(back(protocol, &content)));
        };
        changed("the last hop", TCP, &|frame| frame.with(TTL, &[1]));
        changed("the end of its life", TCP, &|frame| frame.with(TTL, &[0]));
        changed("a first fragment", UDP, &|frame| frame.with(FRAGMENT, &[0x20, 0]));
        changed("a last fragment", UDP, &|frame| frame.with(FRAGMENT, &[0, 4]));
        changed("options", TCP, &|frame| frame.with(NETWORK, &[0x46]));
        changed("another protocol", TCP, &|frame| frame.with(NETWORK + 9, &[132]));
        changed("another port of the container or the host", TCP, &|frame| {
            let ports = (frame.0[TRANSPORT + 1], frame.0[TRANSPORT + 3]);
            frame.with(TRANSPORT + 1, &[ports.0 ^ 1]).with(TRANSPORT + 3, &[ports.1 ^ 1])
        });
        let unchecked = |frame: Frame| frame.with(TRANSPORT + 6, &[0, 0]);
        is_slow(bench, "no checksum", &unchecked(out(UDP, b"x")), &unchecked(back(UDP, b"x")));
        let large = [0; 1500];
        is_slow(bench, "larger than the MTU", &out(UDP, &large), &back(UDP, &large));
        let tagged = |frame: &Frame| {
            let (macs, rest) = frame.0.split_at(12);
            Frame([macs, &[0x81, 0, 0, 0], rest].concat())
        };
        is_slow(bench, "a priority tag", &tagged(&out(TCP, b"x")), &tagged(&back(TCP, b"x")));
        let foreign = back(TCP, b"x").with(0, &[2, 0, 0, 0, 0, 9]);
        assert_eq!(at_uplink(bench, &foreign).verdict, GOES_ON, "for another host");
        let cut = |frame: Frame| frame.cut(TRANSPORT + 8);
        is_slow(bench, "a header that is cut", &cut(out(TCP, b"")), &cut(back(TCP, b"")));
        is_fast(bench, "all the same", TCP, b"x");
        is_fast(bench, "all the same", UDP, b"x");
    });
}

#[test]
fn a_segment_that_begins_or_ends_a_connection_ends_the_flow() {
    for flags in [0x01, 0x02, 0x04, 0x11, 0x12, 0x14, 0x19] {
        for is_back in [false, true] {
            bench(|bench| {
                if !begin(bench) {
                    return;
                }
                is_fast(bench, "before", TCP, b"x");
                let with_flags = |frame: Frame| with_checksums(frame.with(FLAGS, &[flags]));
                if is_back {
                    assert_eq!(at_uplink(bench, &with_flags(back(TCP, b""))).verdict, GOES_ON);
                } else {
                    let end = with_flags(out(TCP, b""));
                    bench.from(ANNE).passes("the end", &end, Reason::Delivered, &[]);
                }
                is_slow(bench, "after", &out(TCP, b"x"), &back(TCP, b"x"));
                is_fast(bench, "another flow", UDP, b"x");
            });
        }
    }
}

#[test]
fn an_entry_counts_while_nothing_has_changed_and_the_daemon_lives() {
    bench(|bench| {
        if !begin(bench) {
            return;
        }
        let all_slow = |bench: &Bench, says: &str| {
            is_slow(bench, says, &out(TCP, b"x"), &back(TCP, b"x"));
            is_slow(bench, says, &out(UDP, b"x"), &back(UDP, b"x"));
        };
        bench.datapath.admit_flows(seconds()).expect("FLOW_STATE");
        all_slow(bench, "a daemon that does not answer");
        bench.datapath.admit_flows(seconds() + 600).expect("FLOW_STATE");
        is_fast(bench, "a daemon that answers again", TCP, b"x");

        let changes = bench.datapath.flow_changes();
        bench.datapath.end_flows().expect("FLOW_STATE");
        all_slow(bench, "another epoch");
        for index in bench.datapath.flows().expect("FLOWS").into_keys() {
            bench.datapath.remove_flow(index).expect("removed");
        }
        let added = bench.datapath.add_flow(changes, &flow(TCP), seconds()).expect("no error");
        assert_eq!(added, None, "found before a change");
        enter(bench);
        is_fast(bench, "entered again", TCP, b"x");
        bench.datapath.end_flows().expect("FLOW_STATE");
        is_fast_again(bench, "entered again in the same place");
        bench.datapath.end_flows_of(&[BERT.ip.into()].into()).expect("FLOW_WAYS");
        is_fast(bench, "flows of another container have ended", TCP, b"x");
        bench.datapath.end_flows_of(&[ANNE.ip.into()].into()).expect("FLOW_WAYS");
        all_slow(bench, "flows of this container have ended");
        assert_eq!(bench.datapath.flows().expect("FLOWS").len(), 0);
        enter(bench);
        is_fast(bench, "entered once more", TCP, b"x");

        // What happens to others, or to the list of members, ends nothing.
        let other = Station { ifindex: endpoint::ifindex_of(90), ip: [172, 17, 0, 90] };
        bench.datapath.write_endpoint(90, &endpoint_entry(0, other)).expect("an endpoint");
        is_fast(bench, "a container has come", UDP, b"x");
        bench.datapath.remove_endpoint(90, None).expect("removed");
        is_fast(bench, "and has gone", UDP, b"x");

        // Somebody else gets Anne's number, address and MAC.
        let anne = ANNE.number().expect("a container");
        let entry = endpoint_entry(0, ANNE);
        bench.datapath.remove_endpoint(anne, None).expect("removed");
        let unknown = at_uplink(bench, &back(TCP, b"x"));
        assert_eq!((unknown.verdict, unknown.reasons), (GOES_ON, vec![]), "a container that is gone");
        bench.datapath.write_endpoint(anne, &entry).expect("an endpoint");
        all_slow(bench, "another container with its address");
        enter_again(bench);
        is_fast(bench, "entered for it", TCP, b"x");
        bench.datapath.write_endpoint(anne, &Endpoint { access: PLAIN, ..entry }).expect("an endpoint");
        all_slow(bench, "one that gets frames through its veth pair");
        let added =
            bench.datapath.add_flow(bench.datapath.flow_changes(), &flow(TCP), seconds()).expect("no error");
        assert_eq!(added, None, "for one that gets frames through its veth pair");

        bench.datapath.stop_flows().expect("stopped");
        assert_eq!(bench.datapath.flows().expect("FLOWS").len(), 0);
        bench.from(ANNE).passes("stopped", &out(TCP, b"x"), Reason::Delivered, &[]);
    });
}

/// No place of a removed flow could be used again so soon.
fn is_fast_again(bench: &mut Bench, says: &str) {
    let changes = bench.datapath.flow_changes();
    for protocol in [TCP, UDP] {
        let before = bench.datapath.flows().expect("FLOWS");
        let added = bench.datapath.add_flow(changes, &flow(protocol), seconds()).expect("no error");
        assert!(added.is_some_and(|index| before.contains_key(&index)), "{says}");
        is_fast(bench, says, protocol, b"x");
    }
    let added = bench.datapath.add_flow(changes, &flow(TCP), seconds()).expect("no error");
    assert_eq!(added, None, "it counts already");
}

fn enter_again(bench: &mut Bench) {
    for index in bench.datapath.flows().expect("FLOWS").into_keys() {
        bench.datapath.remove_flow(index).expect("removed");
    }
    enter(bench);
}

#[test]
fn a_flow_is_that_of_one_container_and_one_uplink() {
    bench(|bench| {
        if !begin(bench) {
            return;
        }
        let as_bert =
            with_macs(packet(TCP, (BERT.ip, PORT), (PEER, PEER_PORT), b"x"), BERT.mac(), GATEWAY.mac());
        bench.from(BERT).passes("another container", &as_bert, Reason::Delivered, &[]);
        let spoofed = out(TCP, b"x").with(6, &BERT.mac());
        bench.from(BERT).is_dropped("another container with its address", &spoofed, Reason::SpoofedIpv4);
        let other = bench.at_uplink(GATEWAY.ifindex).frame(&back(TCP, b"x").with(0, &GATEWAY.mac()));
        assert_eq!(other.verdict, GOES_ON, "another interface");

        // The host's routes decide.
        run("ip route add 198.51.100.7/32 dev blue");
        bench.from(ANNE).passes("a route to elsewhere", &out(TCP, b"x"), Reason::Delivered, &[]);
        run("ip route del 198.51.100.7/32 dev blue");
        is_fast(bench, "the route of before", TCP, b"x");
        run("ip neighbour change 198.51.100.7 lladdr 02:00:00:00:00:08 dev eth1");
        let outcome = bench.from(ANNE).frame(&out(TCP, b"x"));
        assert_eq!(outcome, shortcut(sent(TCP, b"x").with(0, &[2, 0, 0, 0, 0, 8]), &[]), "another MAC");
        run("ip neighbour del 198.51.100.7 dev eth1");
        bench.from(ANNE).passes("no MAC", &out(TCP, b"x"), Reason::Delivered, &[]);
        run(&format!("ip neighbour add 198.51.100.7 lladdr {} dev eth1", text_of(PEER_MAC)));
        run("ip route add 198.51.100.7/32 dev eth1 mtu lock 576");
        bench.from(ANNE).passes("larger than the route", &out(UDP, &[0; 600]), Reason::Delivered, &[]);
        is_fast(bench, "not larger than the route", UDP, &[0; 500]);
        run("ip route add prohibit 172.17.0.2/32");
        let goes_on = at_uplink(bench, &back(TCP, b"x"));
        assert_eq!((goes_on.verdict, goes_on.reasons), (GOES_ON, vec![]), "a container that is cut off");
        run("ip route del prohibit 172.17.0.2/32");
        is_fast(bench, "a container that is not", TCP, b"x");
        for (setting, says) in [("conf/eth1/forwarding", "the uplink's"), ("ip_forward", "the host's")] {
            let setting = format!("/proc/sys/net/ipv4/{setting}");
            fs::write(&setting, "0").expect("a setting of our own namespace");
            let goes_on = at_uplink(bench, &back(TCP, b"x"));
            assert_eq!((goes_on.verdict, goes_on.reasons), (GOES_ON, vec![]), "no forwarding: {says}");
        }
        bench.from(ANNE).passes("a host that does not forward", &out(TCP, b"x"), Reason::Delivered, &[]);
    });
}

/// Routers that know connections drop what another one began.
#[test]
fn a_flow_keeps_the_router_that_the_stack_chose() {
    const FAR: [u8; 4] = [203, 0, 113, 7];
    bench(|bench| {
        if !begin(bench) {
            return;
        }
        fs::write("/proc/sys/net/ipv4/fib_multipath_hash_policy", "1")
            .expect("a setting of our own namespace");
        for last in [8, 9] {
            run(&format!("ip neighbour add 198.51.100.{last} lladdr 02:00:00:00:00:0{last} dev eth1"));
        }
        run("ip route add 203.0.113.0/24 nexthop via 198.51.100.8 nexthop via 198.51.100.9");
        let mut chosen = std::collections::BTreeSet::new();
        for port in 1000..1032 {
            let (anne, host, far) = ((ANNE.ip, PORT), (UPLINK.ip, HOST_PORT), (FAR, port));
            let flow = Shortcut {
                out: way(ANNE.ifindex, TCP, anne, far, host),
                back: way(UPLINK.ifindex, TCP, far, host, anne),
                ..flow(TCP)
            };
            let changes = bench.datapath.flow_changes();
            bench.datapath.add_flow(changes, &flow, seconds()).expect("a flow").expect("there is room");
            let frame = with_macs(packet(TCP, anne, far, b"x"), ANNE.mac(), GATEWAY.mac());
            let outcome = bench.from(ANNE).frame(&frame);
            assert_eq!(outcome.reasons, [Reason::Shortcut], "port {port}");
            let route = run(&format!(
                "ip route get 203.0.113.7 from 172.17.0.2 iif red ipproto tcp sport {PORT} dport {port}"
            ));
            let router = outcome.frame.0[5];
            assert!(
                route.contains(&format!("via 198.51.100.{router} ")),
                "port {port}: {router}, not {route}"
            );
            chosen.insert(router);
        }
        assert_eq!(chosen.len(), 2, "both routers have flows");
    });
}
