//! Random frames, valid ones and ones that lie, through the real programs: each must end as the plain model says. So
//! nothing passes that a container may not send, and everything else arrives unchanged.
//!
//! The frames are the same in each run. `FUZZ_SECONDS` sends others for that long, `FUZZ_SEED` chooses which.

use std::{
    collections::BTreeSet,
    env, fs,
    time::{Duration, Instant},
};

use netbpf::plan::{EndpointEntry, NetworkEntry};
use netbpf_common::{
    access::LIMITED,
    allowed::AllowedKey,
    endpoint::{self, Endpoint},
    limit::EgressLimit,
    network::{self, Network},
    reason::Reason,
};
use netbpf_tests::lab::tell;
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};

use super::{
    bench::{
        ANNE, BERT, BLUE, BLUE_GATEWAY, Bench, CLEO, CLEO_IPV6, CLEO_LINK_LOCAL, DORA, DROP, GATEWAY,
        Outcome, RED, REDIRECT, Sent, Station, bench, endpoint_entry, network_entry, run, veth,
    },
    frame::{BROADCAST, Frame, icmpv6_checksum, solicited_node},
    headers::{Content, Headers},
    model::{Fate, Host, Member, Model, Origin, is_expected},
};

/// How many frames each run sends.
const FRAMES: u64 = 40_000;
const SEED: u64 = 12;

/// How frames of containers and of the host can end here: the limit of copies is off.
const REASONS: [Reason; 19] = [
    Reason::Forwarded,
    Reason::Flooded,
    Reason::Delivered,
    Reason::AnsweredArp,
    Reason::AnsweredNd,
    Reason::Malformed,
    Reason::UnknownDestination,
    Reason::UnknownAddress,
    Reason::SpoofedMac,
    Reason::SpoofedIpv4,
    Reason::SpoofedIpv6,
    Reason::SpoofedArp,
    Reason::SpoofedNd,
    Reason::Loopback,
    Reason::Hairpin,
    Reason::NoIcc,
    Reason::Isolated,
    Reason::Reserved,
    Reason::EgressLimit,
];

/// A network whose members may not talk to each other, except by a link: Eva reaches 80/tcp of Finn.
const GREEN: u32 = 2;
const GREEN_GATEWAY: Station = Station { ifindex: network::ifindex_of(GREEN), ip: [10, 7, 0, 1] };
const EVA: Station = Station { ifindex: endpoint::ifindex_of(6), ip: [10, 7, 0, 2] };
const FINN: Station = Station { ifindex: endpoint::ifindex_of(7), ip: [10, 7, 0, 3] };
/// Anne's place in the second network.
const ANNE_IN_BLUE: Station = Station { ifindex: endpoint::ifindex_of(5), ip: [192, 168, 0, 3] };

/// A member with a limit that it has used up. Anne has one that she never reaches.
const GREG: Station = Station { ifindex: endpoint::ifindex_of(8), ip: [172, 17, 0, 9] };

/// All members, with their network and their container.
const MEMBERS: [(Station, u32, u64); 8] = [
    (ANNE, RED, 1),
    (BERT, RED, 2),
    (CLEO, RED, 3),
    (DORA, BLUE, 4),
    (ANNE_IN_BLUE, BLUE, 1),
    (EVA, GREEN, 5),
    (FINN, GREEN, 6),
    (GREG, RED, 7),
];
const HOSTS: [(Station, u32); 3] = [(GATEWAY, RED), (BLUE_GATEWAY, BLUE), (GREEN_GATEWAY, GREEN)];

/// The IPv6 addresses of a member: Cleo, Anne in the second network and Eva have some.
fn ipv6_of(station: Station) -> Option<[[u8; 16]; 2]> {
    let own = |last| {
        let mut addresses = [CLEO_IPV6, CLEO_LINK_LOCAL];
        addresses.iter_mut().for_each(|address| address[15] = last);
        addresses
    };
    match station.ip {
        ip if ip == CLEO.ip => Some([CLEO_IPV6, CLEO_LINK_LOCAL]),
        ip if ip == ANNE_IN_BLUE.ip => Some(own(5)),
        ip if ip == EVA.ip => Some(own(6)),
        _ => None,
    }
}

/// What a member may send.
fn limit_of(station: Station) -> EgressLimit {
    match station.ifindex {
        ifindex if ifindex == GREG.ifindex => EgressLimit { rate: 1, burst: 0, spent_until: u64::MAX },
        ifindex if ifindex == ANNE.ifindex => EgressLimit::behind(1 << 30, 1 << 30),
        _ => EgressLimit::default(),
    }
}

#[test]
fn no_hostile_frame_passes() {
    bench(|bench| {
        set_up(bench);
        let model = model();
        let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
        let seed = number("FUZZ_SEED").unwrap_or(SEED);
        let until = number("FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut random = SmallRng::seed_from_u64(seed);
        let (mut sent, mut hostile, mut passed_on) = (0, 0, 0);
        let (mut wrong, mut seen) = (Vec::new(), Vec::new());
        while until.map_or(sent < FRAMES, |until| Instant::now() < until) {
            let (origin, frame) = sent_by_chance(&mut random);
            if goes_to_the_first_address(&frame) || is_too_short_for_a_test_run(&frame) {
                continue;
            }
            let expected = model.fate(origin, &frame);
            let outcome = sender(bench, origin).frame(&frame);
            sent += 1;
            if !seen.contains(&expected.reason) {
                seen.push(expected.reason);
            }
            if expected.reason.is_drop() {
                hostile += 1;
                passed_on += u64::from(outcome.reasons.iter().any(|reason| !reason.is_drop()));
            }
            wrong.extend(difference(origin, &frame, &expected, &outcome));
            if let Origin::Container(_) = origin {
                let long = sender(bench, origin).the_long_way().frame(&frame);
                wrong.extend((long != outcome).then(|| format!("{outcome:?}\n  and the long way {long:?}")));
            }
        }
        tell("hostile frames sent", hostile);
        tell("hostile frames passed on", passed_on);
        let shown = wrong.iter().take(5).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(
            wrong.is_empty(),
            "{} of {sent} frames of FUZZ_SEED={seed} end in another way:\n{shown}",
            wrong.len()
        );
        let unseen: Vec<_> = REASONS.iter().filter(|reason| !seen.contains(reason)).collect();
        assert!(unseen.is_empty(), "no frame ended as {unseen:?}");
    });
}

/// Frames that once ended in another way than the model says.
#[test]
fn frames_that_once_passed_do_not_pass() {
    const KEPT: &[(&str, Origin, &str)] = &[];
    bench(|bench| {
        set_up(bench);
        let model = model();
        for (says, origin, digits) in KEPT {
            let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
            let frame = Frame((0..digits.len()).step_by(2).map(digit).collect());
            let outcome = sender(bench, *origin).frame(&frame);
            assert_eq!(difference(*origin, &frame, &model.fate(*origin, &frame), &outcome), None, "{says}");
        }
    });
}

/// How a frame ended, if it is not as expected.
fn difference(origin: Origin, frame: &Frame, expected: &Fate, outcome: &Outcome) -> Option<String> {
    let from = match origin {
        Origin::Container(number) => Some(number),
        Origin::Host { .. } => None,
    };
    let is_drop = expected.reason.is_drop();
    // The host gets no error for a request that nobody answers.
    let is_silent = expected.reason == Reason::UnknownAddress && from.is_none();
    let verdict = if is_drop && !is_silent { DROP } else { REDIRECT };
    let dropped: Vec<u32> = from.filter(|_| is_drop).into_iter().collect();
    let is_as_expected = outcome.verdict == verdict
        && outcome.reasons == [expected.reason]
        && outcome.received == expected.received
        && outcome.dropped == dropped
        // Nobody receives a dropped frame.
        && (is_drop || is_expected(&outcome.frame, expected, frame));
    let digits: String = frame.0.iter().map(|byte| format!("{byte:02x}")).collect();
    (!is_as_expected).then(|| format!("{origin:?} {digits}:\n  {outcome:?}\n  and not {expected:?}"))
}

fn sender(bench: &Bench, origin: Origin) -> Sent<'_> {
    match origin {
        Origin::Container(number) => {
            let (station, ..) =
                MEMBERS.into_iter().find(|(station, ..)| station.number() == Some(number)).expect("a member");
            bench.from(station)
        }
        Origin::Host { network, received_from } => {
            let (station, _) = HOSTS[network as usize];
            bench.host(station).received_by(received_from.map_or(0, network::ifindex_of))
        }
    }
}

/// Kernels disagree whether a subnet's first address is one for all, and the model does not decide it.
fn goes_to_the_first_address(frame: &Frame) -> bool {
    let headers = Headers::of(frame);
    headers.is_some_and(
        |headers| matches!(headers.content, Content::Ipv4(ipv4) if ipv4.destination[2..] == [0, 0]),
    )
}

/// `BPF_PROG_TEST_RUN` refuses IP packets that are shorter than their header. Such frames are tested in `wire`.
fn is_too_short_for_a_test_run(frame: &Frame) -> bool {
    let needed = match frame.0[12..14] {
        [8, 0] => 14 + 20,
        [0x86, 0xdd] => 14 + 40,
        _ => 0,
    };
    frame.0.len() < needed
}

fn model() -> Model {
    let member = |(station, network, container): (Station, u32, u64)| Member {
        number: station.number().expect("a member"),
        network,
        container: container as u32,
        mac: station.mac(),
        ipv4: station.ip,
        ipv6: ipv6_of(station),
        exhausted: station.ifindex == GREG.ifindex,
    };
    let host = |(station, network): (Station, u32)| Host {
        network,
        mac: station.mac(),
        ipv4: station.ip,
        apart: network == GREEN,
    };
    let [eva, finn] = [EVA, FINN].map(|station| station.number().expect("a member"));
    Model {
        hosts: HOSTS.map(host).into(),
        members: MEMBERS.map(member).into(),
        links: vec![(eva, finn, 6, 80), (eva, finn, 6, 0)],
    }
}

/// Writes the maps as the model has it. The host forwards, and has its addresses.
fn set_up(bench: &mut Bench) {
    for (name, ifindex) in [
        ("green", GREEN_GATEWAY.ifindex),
        ("anne-blue", ANNE_IN_BLUE.ifindex),
        ("eva", EVA.ifindex),
        ("finn", FINN.ifindex),
        ("greg", GREG.ifindex),
    ] {
        veth(name, ifindex);
    }
    let entry = network_entry(GREEN_GATEWAY);
    let network = Network { icc_off: 1, ..entry.network };
    bench.datapath.write_network(GREEN, &NetworkEntry { network, ..entry }).expect("a network");
    for (station, network, owner) in MEMBERS {
        let [ipv6, ipv6_link_local] = ipv6_of(station).unwrap_or_default();
        let apart = u8::from(network == GREEN);
        let limit = limit_of(station);
        let access = if limit.rate == 0 { 0 } else { LIMITED };
        let entry = endpoint_entry(network, station);
        let endpoint = Endpoint { ipv6, ipv6_link_local, owner, access, icc_off: apart, ..entry };
        let entry = EndpointEntry { endpoint, limit, ..EndpointEntry::default() };
        bench.datapath.write_endpoint(station.number().expect("a member"), entry).expect("an endpoint");
    }
    let links = model().links.into_iter().map(|(from, to, protocol, port)| AllowedKey {
        from,
        to,
        protocol,
        reserved: 0,
        port: port.to_be_bytes(),
    });
    bench.datapath.set_allowed(&links.collect::<BTreeSet<_>>()).expect("links");
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("a setting of our own namespace");
    run("ip link set lo up");
    for (address, name) in [("172.17.0.1", "red"), ("192.168.0.1", "blue"), ("10.7.0.1", "green")] {
        run(&format!("ip address add {address}/16 broadcast + dev {name}"));
    }
}

/// A frame, mostly from its sender's own addresses to somebody who is there, with a few lies.
fn sent_by_chance(random: &mut SmallRng) -> (Origin, Frame) {
    let (origin, own, ipv6) = if random.random_ratio(1, 5) {
        let (station, network) = *HOSTS.choose(random).expect("some");
        let received_from = [None, None, Some(network), Some(RED)].choose(random).copied().flatten();
        (Origin::Host { network, received_from }, station, None)
    } else {
        let (station, ..) = *MEMBERS.choose(random).expect("some");
        (Origin::Container(station.number().expect("a member")), station, ipv6_of(station))
    };
    let source = if random.random_ratio(9, 10) { own.mac() } else { mac(random) };
    let to = station(random);
    let destination = match random.random_range(0..20) {
        0..12 => to.mac(),
        12..15 => BROADCAST,
        15 => [0x33, 0x33, 0, 0, 0, 1],
        16 => [1, 0x80, 0xc2, 0, 0, random.random_range(0..20)],
        _ => mac(random),
    };
    let mut frame = Frame::ethernet(source, destination, 0x0800);
    if random.random_ratio(1, 8) {
        let vid: u16 = if random.random_ratio(2, 3) { 0xe000 } else { random.random() };
        let kind = if random.random_ratio(4, 5) { 0x8100 } else { 0x88a8 };
        frame = Frame::ethernet(source, destination, kind).then(&vid.to_be_bytes()).then(&[8, 0]);
    }
    let at = frame.0.len() - 2;
    let (ethertype, content) = match random.random_range(0..20) {
        0..7 => (0x0800_u16, ipv4(random, own, to)),
        7..14 => (0x86dd, ipv6_packet(random, own, ipv6)),
        14..18 => (0x0806, arp(random, own, to)),
        18 => (0x8100, bytes(random, 60)),
        _ => (random.random(), bytes(random, 60)),
    };
    let frame = frame.with(at, &ethertype.to_be_bytes()).then(&content);
    (origin, changed(random, frame))
}

/// Sometimes with wrong bytes, cut off or with bytes behind it.
fn changed(random: &mut SmallRng, mut frame: Frame) -> Frame {
    if random.random_ratio(1, 4) {
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(6..frame.0.len());
            frame.0[at] = *[0, 1, 0xff, random.random(), frame.0[at] ^ 1].choose(random).expect("some");
        }
    }
    match random.random_range(0..12) {
        0 => {
            let length = random.random_range(14..=frame.0.len());
            frame.cut(length)
        }
        1 => {
            let more = bytes(random, 40);
            frame.then(&more)
        }
        _ => frame,
    }
}

fn ipv4(random: &mut SmallRng, own: Station, to: Station) -> Vec<u8> {
    let source = if random.random_ratio(8, 10) { own.ip } else { ip(random) };
    let destination = match random.random_range(0..10) {
        0..6 => to.ip,
        6 => [1, 1, 1, 1],
        7 => [127, 0, 0, random.random()],
        _ => ip(random),
    };
    let mut packet = super::frame::ipv4(source, destination);
    packet[9] = *[6, 6, 17, 1, 132, random.random()].choose(random).expect("some");
    if random.random_ratio(1, 10) {
        packet[6..8].copy_from_slice(&random.random::<[u8; 2]>());
    }
    let port: u16 = *[80, 80, 81, 0, random.random()].choose(random).expect("some");
    let ports = if random.random() { [40000, port] } else { [port, 40000] };
    packet[20..24].copy_from_slice(&ports.map(u16::to_be_bytes).concat());
    packet
}

fn arp(random: &mut SmallRng, own: Station, to: Station) -> Vec<u8> {
    let op = *[[0, 1], [0, 1], [0, 1], [0, 2], [0, 2], [0, 3], random.random()].choose(random).expect("some");
    let sha = if random.random_ratio(9, 10) { own.mac() } else { mac(random) };
    let spa = *[own.ip, own.ip, own.ip, own.ip, [0; 4], ip(random)].choose(random).expect("some");
    let tpa = *[to.ip, to.ip, own.ip, ip(random)].choose(random).expect("some");
    [&[0, 1, 8, 0, 6, 4][..], &op, &sha, &spa, &mac(random), &tpa].concat()
}

fn ipv6_packet(random: &mut SmallRng, own: Station, ours: Option<[[u8; 16]; 2]>) -> Vec<u8> {
    let source = match (random.random_range(0..10), ours) {
        (0..7, Some(ours)) => *ours.choose(random).expect("two"),
        (7..9, _) => [0; 16],
        _ => ipv6(random),
    };
    let target = ipv6(random);
    let destination = if random.random() { target } else { solicited_node(target).0 };
    let message = match random.random_range(0..10) {
        0..7 => {
            let kind = *[131, 133, 134, 135, 135, 135, 136, 136, 137, 143, 128].choose(random).expect("some");
            let code = u8::from(random.random_ratio(1, 20));
            let option_kind = if kind == 136 { 2 } else { *[1, 1, 1, 2, 14].choose(random).expect("some") };
            let told = if random.random_ratio(8, 10) { own.mac() } else { mac(random) };
            let target =
                if kind == 136 { *[source, source, target].choose(random).expect("some") } else { target };
            let target = if kind == 133 { &[][..] } else { &target };
            let option = [&[option_kind, 1][..], &told].concat();
            let option = if random.random_ratio(3, 4) { &option[..] } else { &[] };
            [&[kind, code, 0, 0, 0, 0, 0, 0][..], target, option].concat()
        }
        _ => bytes(random, 40),
    };
    let hop_limit = if random.random_ratio(9, 10) { 255 } else { random.random() };
    let next =
        if random.random_ratio(8, 10) { 58 } else { *[6, 17, random.random()].choose(random).expect("some") };
    let frame = Frame::ethernet([0; 6], [0; 6], 0x86dd)
        .then(&[0x60, 0, 0, 0, 0, message.len() as u8, next, hop_limit])
        .then(&source)
        .then(&destination)
        .then(&message);
    let mut frame = match message.len() >= 4 && next == 58 {
        true => {
            let checksum = icmpv6_checksum(&frame);
            frame.with(14 + 42, &checksum)
        }
        false => frame,
    };
    let mut kind = next;
    for _ in 0..[0, 0, 0, 1, 1, 2, 5].choose(random).copied().expect("some") {
        let length = u8::from(random.random_ratio(1, 4));
        let fragment = if random.random_ratio(1, 4) { random.random() } else { [0; 2] };
        let content = if length == 1 { &[0; 12][..] } else { &[0; 4] };
        let header = [&[kind, length][..], &fragment, content].concat();
        kind = *[0, 0, 43, 44, 51, 60].choose(random).expect("some");
        frame = frame.behind(kind, &header);
    }
    frame.0.split_off(14)
}

fn station(random: &mut SmallRng) -> Station {
    let members = MEMBERS.map(|(station, ..)| station);
    let hosts = HOSTS.map(|(station, _)| station);
    *[&members[..], &hosts].concat().choose(random).expect("some")
}

fn mac(random: &mut SmallRng) -> [u8; 6] {
    if random.random_ratio(2, 3) { station(random).mac() } else { random.random() }
}

fn ip(random: &mut SmallRng) -> [u8; 4] {
    let known = station(random).ip;
    *[
        known,
        known,
        [known[0], known[1], 9, 9],
        [known[0], known[1], 255, 255],
        [0; 4],
        [255; 4],
        random.random(),
    ]
    .choose(random)
    .expect("some")
}

fn ipv6(random: &mut SmallRng) -> [u8; 16] {
    let mut known = *[CLEO_IPV6, CLEO_LINK_LOCAL].choose(random).expect("some");
    known[15] = *[4, 5, 6, 9].choose(random).expect("some");
    let [a, b, c, d] = station(random).ip;
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d];
    *[known, known, known, mapped, [0; 16], random.random()].choose(random).expect("some")
}

fn bytes(random: &mut SmallRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(0..most)];
    random.fill_bytes(&mut bytes);
    bytes
}
