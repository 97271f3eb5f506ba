//! Packets of a container's `lo`: queries are answered in place as the responder answers them, and all others are mapped to
//! its port.

use aya::maps::{HashMap, Map, MapData};
use netbpf::{datapath::NamesInNetwork, model::Id};
use netbpf_common::{
    name::{Addresses, MAX_NAMES, NameKey, Resolver},
    reason::Reason,
};
use netbpf_tests::lab::meanwhile;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use super::{
    bench::{BLUE, Bench, RED, bench},
    dns::{A, AAAA, COOKIE, OPT, PTR, ones_complement, query},
    frame::Frame,
    oracle::{Oracle, World},
};

/// `TC_ACT_UNSPEC`: further filters decide.
const GOES_ON: u32 = u32::MAX;

const RESOLVER: [u8; 4] = [127, 0, 0, 11];
const CLIENT: [u8; 4] = [127, 0, 0, 1];
/// The ports of the client, of name servers, and of the responder.
const CLIENT_PORT: u16 = 43_981;
const DNS: u16 = 53;
const PORT: u16 = 40_001;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Offset of what follows the IPv4 header.
const TRANSPORT: usize = 14 + 20;

fn packet(protocol: u8, source: [u8; 4], destination: [u8; 4], content: &[u8]) -> Frame {
    let [high, low] = (20 + content.len() as u16).to_be_bytes();
    let header =
        [&[0x45, 0, high, low, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0][..], &source, &destination].concat();
    let checksum = (!ones_complement(&[&header])).to_be_bytes();
    Frame::ethernet([0; 6], [0; 6], 0x0800).then(&header).with(14 + 10, &checksum).then(content)
}

/// The sum of a segment or datagram with its pseudo-header: 0xffff if its checksum is right.
fn sum(frame: &Frame) -> u16 {
    let content = &frame.0[TRANSPORT..];
    let length = (content.len() as u16).to_be_bytes();
    ones_complement(&[&frame.0[26..34], &[0, frame.0[14 + 9]], &length, content])
}

fn with_sum(frame: Frame, place: usize) -> Frame {
    let checksum = (!sum(&frame)).to_be_bytes();
    frame.with(TRANSPORT + place, &checksum)
}

fn udp(source: ([u8; 4], u16), destination: ([u8; 4], u16), message: &[u8]) -> Frame {
    let ports = [source.1, destination.1].map(u16::to_be_bytes).concat();
    let length = (8 + message.len() as u16).to_be_bytes();
    let content = [&ports[..], &length, &[0, 0], message].concat();
    with_sum(packet(UDP, source.0, destination.0, &content), 6)
}

fn tcp(source: ([u8; 4], u16), destination: ([u8; 4], u16)) -> Frame {
    let ports = [source.1, destination.1].map(u16::to_be_bytes).concat();
    let content =
        [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0], b"segment"].concat();
    with_sum(packet(TCP, source.0, destination.0, &content), 16)
}

/// The error of a closed port about a datagram.
fn unreachable(about: &Frame) -> Frame {
    let message = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &about.0[14..]].concat();
    let checksum = (!ones_complement(&[&message])).to_be_bytes();
    packet(ICMP, RESOLVER, CLIENT, &message).with(TRANSPORT + 2, &checksum)
}

fn ask(message: &[u8]) -> Frame {
    udp((CLIENT, CLIENT_PORT), (RESOLVER, DNS), message)
}

fn resolvers(bench: &Bench) -> HashMap<MapData, u32, Resolver> {
    let map = MapData::from_pin(bench.pin("maps", "RESOLVERS")).expect("a pinned map");
    Map::HashMap(map).try_into().expect("a hash")
}

fn names_in_map(bench: &Bench) -> HashMap<MapData, NameKey, Addresses> {
    let map = MapData::from_pin(bench.pin("maps", "NAMES")).expect("a pinned map");
    Map::HashMap(map).try_into().expect("a hash")
}

/// Fills the map of names.
pub fn fill_names(bench: &Bench) -> HashMap<MapData, NameKey, Addresses> {
    let mut map = names_in_map(bench);
    let full = (0..=MAX_NAMES).find(|number| {
        let key = NameKey::new(8, &format!("other-{number}")).expect("a name");
        map.insert(key, Addresses::default(), 0).is_err()
    });
    assert!(full.is_some());
    map
}

/// Writes all names to the maps. A test run has no class, so the asker's is zero.
fn write(world: &World, bench: &mut Bench) {
    world.write_names(&mut bench.datapath);
    let class = bench.datapath.set_resolver(world.asker, RESOLVER.into(), PORT).expect("written");
    bench.datapath.program_at_lo().expect("the program loads");
    let mut map = resolvers(bench);
    let resolver = map.get(&u32::from(class), 0).expect("an entry");
    map.insert(0, resolver, 0).expect("written");
}

fn with_names(test: impl FnOnce(&mut Bench) + Send) {
    bench(|bench| {
        write(&World::new(), bench);
        test(bench);
    });
}

/// The message in place of a query; none if it went on to the responder. All headers must be right.
fn answer(bench: &Bench, frame: &Frame) -> Option<Vec<u8>> {
    let outcome = bench.at_lo().frame(frame);
    assert_eq!(outcome.verdict, GOES_ON);
    let after = &outcome.frame;
    if outcome.reasons.is_empty() {
        let mapped = frame.clone().with(TRANSPORT + 2, &PORT.to_be_bytes());
        assert_eq!(after.0[..TRANSPORT + 6], mapped.0[..TRANSPORT + 6], "only the port is mapped");
        assert_eq!(after.0[TRANSPORT + 8..], mapped.0[TRANSPORT + 8..]);
        assert_eq!((sum(frame), sum(after)), (0xffff, 0xffff), "the checksum");
        return None;
    }
    assert_eq!(outcome.reasons, [Reason::AnsweredName]);
    let length = |place: usize| usize::from(u16::from_be_bytes([after.0[place], after.0[place + 1]]));
    assert_eq!(ones_complement(&[&after.0[14..TRANSPORT]]), 0xffff, "the header's checksum");
    assert_eq!(
        (length(16), length(TRANSPORT + 4)),
        (after.0.len() - 14, after.0.len() - TRANSPORT),
        "lengths"
    );
    let expected = udp((RESOLVER, DNS), (CLIENT, CLIENT_PORT), &[]);
    assert_eq!(after.0[26..TRANSPORT + 4], expected.0[26..TRANSPORT + 4], "addresses and ports");
    assert_eq!(after.0[TRANSPORT + 6..TRANSPORT + 8], [0, 0], "no checksum");
    Some(after.0[TRANSPORT + 8..].to_vec())
}

/// A reply whose records are sorted: their order is random.
fn sorted(reply: &[u8], query: &[u8]) -> Vec<u8> {
    let question = 12 + query[12..].iter().position(|byte| *byte == 0).expect("the root") + 5;
    let size = match query[question - 4..question - 2] {
        [0, 1] => 16,
        [0, 28] => 28,
        _ => return reply.to_vec(),
    };
    let end = question + size * usize::from(reply[7]);
    let mut records: Vec<&[u8]> = reply[question..end].chunks(size).collect();
    records.sort_unstable();
    [&reply[..question], &records.concat(), &reply[end..]].concat()
}

#[test]
fn a_query_is_answered_as_by_the_responder() {
    bench(|bench| {
        let world = World::new();
        write(&world, bench);
        let oracle = Oracle::new(&world);
        let (mx, txt, https, any) = (15, 16, 65, 255);
        let answered = [
            ("web-01", A),
            ("WEB-01", A),
            ("web-01.mynet", A),
            ("web-01.MyNet", A),
            ("web-01.back.end", A),
            ("0123456789ab", A),
            ("web", A),
            ("web.mynet", A),
            ("my.db", A),
            ("my.db.mynet", A),
            ("db", A),
            ("db", AAAA),
            ("web", AAAA),
            ("six", A),
            ("six", AAAA),
            ("cache", A),
            ("cache.back.end", A),
            ("cache", AAAA),
            ("my.db", AAAA),
            ("web", mx),
            ("web", txt),
            ("web", https),
            ("web", PTR),
            ("web", any),
            ("my.db", txt),
            ("cache.back.end", 65_400),
            ("2.0.168.192.in-addr.arpa", PTR),
            ("2.0.168.192.IN-ADDR.ARPA", PTR),
            ("3.0.0.10.in-addr.arpa", PTR),
            ("3.0.0.10.in-addr.arpa", A),
            ("3.0.168.192.in-addr.arpa", PTR),
        ];
        for (text, kind) in answered {
            for additional in [&[][..], &OPT, &COOKIE] {
                let message = query(text, kind, additional);
                let reply =
                    answer(bench, &ask(&message)).unwrap_or_else(|| panic!("{text} {kind} is answered"));
                let expected = oracle.reply(&message);
                assert_eq!(sorted(&reply, &message), sorted(&expected, &message), "{text} {kind}");
            }
        }
        let goes_on = [
            ("crowd", A),
            ("example.com", A),
            ("nobody", A),
            ("nobody", AAAA),
            ("web.back.end", A),
            ("web.example.com", A),
            ("secret", A),
            ("secret.far", A),
            ("db.my", A),
            ("cache.end", A),
            ("2.0.9.10.in-addr.arpa", PTR),
            ("0.168.192.in-addr.arpa", PTR),
            ("web.in-addr.arpa", PTR),
        ];
        for (text, kind) in goes_on {
            assert_eq!(answer(bench, &ask(&query(text, kind, &[]))), None, "{text} {kind}");
        }
    });
}

/// Damages a message in some places.
fn damage(message: &mut Vec<u8>, random: &mut impl Rng) {
    for _ in 0..random.random_range(0..4) {
        match random.random_range(0..8) {
            0 => message.truncate(random.random_range(0..=message.len())),
            1 => message.push(random.random()),
            _ if message.is_empty() => {}
            _ => {
                let place = random.random_range(0..message.len());
                let near = [0, 1, 3, 0xc0, 12, 0x20, b'.', b'w', random.random()];
                message[place] = near[random.random_range(0..near.len())];
            }
        }
    }
}

#[test]
fn whatever_is_answered_has_the_bytes_of_the_responder() {
    bench(|bench| {
        let world = World::new();
        write(&world, bench);
        let oracle = Oracle::new(&world);
        let mut random = StdRng::seed_from_u64(15);
        let texts = [
            "web",
            "my.db",
            "db",
            "cache.back.end",
            "six.mynet",
            "2.0.168.192.in-addr.arpa",
            "nobody.example",
        ];
        let mut answered = 0;
        let mut others = Vec::new();
        for _ in 0..10_000 {
            let text = texts[random.random_range(0..texts.len())];
            let kind = [A, AAAA, PTR, 16, 255][random.random_range(0..5)];
            let additional = [&[][..], &OPT, &COOKIE][random.random_range(0..3)];
            let mut message = query(text, kind, additional);
            damage(&mut message, &mut random);
            if let Some(reply) = answer(bench, &ask(&message)) {
                answered += 1;
                let expected = oracle.reply(&message);
                if sorted(&reply, &message) != sorted(&expected, &message) {
                    others.push(format!(
                        "{message:x?}:\n {reply:x?}, but the responder says\n {expected:x?}\n"
                    ));
                }
            }
        }
        assert!(others.is_empty(), "{} of {answered} are wrong: {}", others.len(), others.concat());
        assert!(answered > 1_500, "{answered} were answered");
    });
}

#[test]
fn every_address_comes_first_sometimes() {
    with_names(|bench| {
        let message = query("web", A, &[]);
        let first = |_| answer(bench, &ask(&message)).expect("answered")[message.len() + 12..][..4].to_vec();
        let found: std::collections::BTreeSet<Vec<u8>> = (0..200).map(first).collect();
        assert_eq!(found.len(), 2);
    });
}

#[test]
fn a_name_that_is_removed_goes_on_to_the_responder() {
    bench(|bench| {
        let world = World::new();
        write(&world, bench);
        let (db, _) = world.members[1];
        assert!(answer(bench, &ask(&query("my.db", A, &[]))).is_some());
        bench.datapath.set_names(db, &[]).expect("removed");
        for (text, kind) in [("my.db", A), ("my.db.mynet", A), ("3.0.168.192.in-addr.arpa", PTR)] {
            assert_eq!(answer(bench, &ask(&query(text, kind, &[]))), None, "{text}");
        }
        // What the networks are: none.
        let mut map = resolvers(bench);
        let resolver = map.get(&0, 0).expect("an entry");
        map.insert(0, Resolver { count: 0, ..resolver }, 0).expect("written");
        assert_eq!(answer(bench, &ask(&query("web", A, &[]))), None);
    });
}

#[test]
fn a_class_is_that_of_one_container() {
    bench(|bench| {
        let [one, other, third] = [Id::random(), Id::random(), Id::random()];
        let datapath = &mut bench.datapath;
        datapath.reserve_class(one, 7);
        datapath.reserve_class(other, 7);
        let mut class = |container| datapath.set_resolver(container, RESOLVER.into(), PORT).expect("written");
        let classes = [class(other), class(third), class(one)];
        assert_eq!(classes[2], 7, "the first that has it keeps it");
        assert!(!classes.contains(&0) && classes[0] != 7 && classes[1] != 7 && classes[0] != classes[1]);
        assert_eq!([class(other), class(third), class(one)], classes);
        bench.datapath.remove_resolver(one).expect("removed");
        assert!(resolvers(bench).get(&7, 0).is_err());
        assert!(!bench.datapath.resolvers().contains(&one));
    });
}

#[test]
fn a_name_without_room_is_left_to_the_responder_in_all_networks() {
    with_names(|bench| {
        let names = |network, names: &[&str]| NamesInNetwork {
            network,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: vec![[10, 1, 0, network as u8].into()],
            ..NamesInNetwork::default()
        };
        let [early, late, other] = [Id::random(), Id::random(), Id::random()];
        let set = |bench: &mut Bench, container, list: &[NamesInNetwork]| {
            bench.datapath.set_names(container, list).expect("written");
            // That of the test's own class.
            let mut map = resolvers(bench);
            let class = map.keys().map(|class| class.expect("a key")).find(|class| *class != 0);
            let resolver = map.get(&class.expect("the asker's"), 0).expect("an entry");
            map.insert(0, resolver, 0).expect("written");
        };
        let asked = |bench: &Bench, name| answer(bench, &ask(&query(name, A, &[]))).map(|reply| last(&reply));
        set(bench, early, &[names(BLUE, &["late"])]);
        set(bench, other, &[names(7, &["one", "two"])]);
        assert_eq!((asked(bench, "late"), asked(bench, "db")), (Some(BLUE as u8), Some(3)));
        let mut map = fill_names(bench);
        // Its first network has no room for it, so that the name in the second one is not what it means.
        set(bench, late, &[names(RED, &["late"])]);
        assert_eq!((asked(bench, "late"), asked(bench, "db")), (None, None));
        let room = NameKey::new(8, "other-0").expect("a name");
        map.remove(&room).expect("removed");
        // Others make room.
        set(bench, other, &[names(7, &["one"])]);
        assert_eq!((asked(bench, "late"), asked(bench, "db")), (Some(RED as u8), Some(3)));
    });
}

#[test]
fn an_answer_is_not_that_of_a_name_whose_entry_takes_the_memory() {
    with_names(|bench| {
        let mut map = names_in_map(bench);
        let entry = |name, last| {
            let key = NameKey::new(RED, name).expect("a name");
            let addresses = Addresses { ipv4_count: 8, ipv4: [[10, 9, 9, last]; 8], ..Addresses::default() };
            (key, addresses)
        };
        let query = ask(&query("one", A, &[]));
        let write = || {
            for (key, addresses) in [entry("one", 1), entry("two", 2)] {
                map.insert(key, addresses, 0).expect("written");
                map.remove(&key).expect("removed");
            }
        };
        let answers = meanwhile([write], || {
            let replies: Vec<Frame> = (0..100_000).map(|_| bench.at_lo().after(&query)).collect();
            replies.into_iter().filter(|reply| reply.0.len() > query.0.len()).collect::<Vec<_>>()
        });
        let has = |reply: &&Frame, last| reply.0.windows(4).any(|part| part == [10, 9, 9, last]);
        let wrong = answers.iter().filter(|reply| has(reply, 2)).count();
        assert_eq!(wrong, 0, "of {}", answers.len());
        assert!(answers.iter().any(|reply| has(&reply, 1)), "some are answered");
    });
}

/// The last byte of a reply, which is that of an address.
fn last(reply: &[u8]) -> u8 {
    *reply.last().expect("a reply")
}

#[test]
fn the_port_is_mapped_both_ways() {
    with_names(|bench| {
        let (client, dns, own) = ((CLIENT, CLIENT_PORT), (RESOLVER, DNS), (RESOLVER, PORT));
        let miss = query("example.com", A, &[]);
        for (says, before, after) in [
            ("a query", udp(client, dns, &miss), udp(client, own, &miss)),
            ("a reply", udp(own, client, &miss), udp(dns, client, &miss)),
            ("TCP to the responder", tcp(client, dns), tcp(client, own)),
            ("TCP from the responder", tcp(own, client), tcp(dns, client)),
            ("a client at port 53", udp((CLIENT, DNS), dns, &miss), udp((CLIENT, DNS), own, &miss)),
            ("the reply to it", udp(own, (CLIENT, DNS), &miss), udp(dns, (CLIENT, DNS), &miss)),
            (
                "an error",
                unreachable(&udp(client, own, &miss)),
                unreachable(&udp(client, own, &miss).with(TRANSPORT + 2, &DNS.to_be_bytes())),
            ),
        ] {
            let outcome = bench.at_lo().frame(&before);
            assert_eq!((outcome.verdict, outcome.reasons), (GOES_ON, vec![]), "{says}");
            assert_eq!(outcome.frame, after, "{says}");
        }
        let zero = |frame: Frame| frame.with(TRANSPORT + 6, &[0, 0]);
        let outcome = bench.at_lo().frame(&zero(udp(client, dns, &miss)));
        assert_eq!(outcome.frame, zero(udp(client, own, &miss)), "without a checksum");
    });
}

#[test]
fn what_is_not_the_responders_passes_unchanged() {
    with_names(|bench| {
        let (client, dns) = ((CLIENT, CLIENT_PORT), (RESOLVER, DNS));
        let known = query("web", A, &[]);
        let plain = || udp(client, dns, &known);
        let other = [127, 0, 0, 12];
        let frames = [
            ("another address", udp(client, ([127, 0, 0, 1], DNS), &known)),
            ("that of another resolver", udp(client, (other, DNS), &known)),
            ("another port", udp(client, (RESOLVER, 54), &known)),
            ("the responder's own port", udp(client, (RESOLVER, PORT), &known)),
            ("from another port", udp((RESOLVER, 54), client, &known)),
            ("from the client's port 53", udp((RESOLVER, DNS), client, &known)),
            ("another protocol", packet(132, CLIENT, RESOLVER, &known)),
            ("a fragment", plain().with(14 + 6, &[0x20, 0])),
            ("a later fragment", plain().with(14 + 6, &[0, 9])),
            ("with options", plain().with(14, &[0x46])),
            ("no IPv4", plain().with(12, &[0x86, 0xdd])),
            ("ports that are not there", packet(UDP, CLIENT, RESOLVER, &[0, 1])),
            ("half a header", packet(UDP, CLIENT, RESOLVER, &[])),
            ("an error about another port", unreachable(&udp(client, (RESOLVER, 54), &known))),
            ("an error about another address", unreachable(&udp(client, (CLIENT, PORT), &known))),
            ("an error about TCP", unreachable(&tcp(client, (RESOLVER, PORT)))),
            ("an error without its packet", packet(ICMP, RESOLVER, CLIENT, &[3, 3, 0, 0, 0, 0, 0, 0])),
            ("an echo", unreachable(&udp(client, (RESOLVER, PORT), &known)).with(TRANSPORT, &[0, 0])),
        ];
        let unchanged = |says: &str, frame: &Frame| {
            let outcome = bench.at_lo().frame(frame);
            assert_eq!((outcome.verdict, outcome.reasons), (GOES_ON, vec![]), "{says}");
            assert_eq!(outcome.frame, *frame, "{says}");
        };
        for (says, frame) in &frames {
            unchanged(says, frame);
        }
        resolvers(bench).remove(&0).expect("removed");
        unchanged("nobody asks", &plain());
    });
}
