//! DNS queries for names of containers, which the programs answer on their way to a name server.

use std::net::IpAddr;

use netbpf::{datapath::NamesInNetwork, model::Id};
use netbpf_common::{
    access::{ASKS, UNGUARDED},
    endpoint::Endpoint,
    name::{MAX_ADDRESSES, TTL},
    reason::Reason,
};

use super::{
    bench::{
        ANNE, BERT, BLUE, BLUE_GATEWAY, Bench, CLEO, CLEO_IPV6, DORA, GATEWAY, RED, REDIRECT, Station, bench,
        endpoint_entry,
    },
    dns::{A, AAAA, COOKIE, OPT, ones_complement, query},
    frame::Frame,
    lo::fill_names,
};

/// A name server behind the host, by IPv4 and by IPv6.
const SERVER: [u8; 4] = [192, 0, 2, 53];
const SERVER_IPV6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 53];

/// The addresses of a reply.
type Answers = Result<Vec<IpAddr>, Reason>;

/// The end of a datagram's headers, from the beginning of the frame.
fn headers(frame: &Frame) -> usize {
    if frame.0[12..14] == [8, 0] { 14 + 20 } else { 14 + 40 }
}

/// The sum of a datagram with its pseudo-header: 0xffff if its checksum is right.
fn sum(frame: &Frame) -> u16 {
    let udp = &frame.0[headers(frame)..];
    let addresses = if headers(frame) == 34 { &frame.0[26..34] } else { &frame.0[22..54] };
    ones_complement(&[addresses, &[0, 17], &udp[4..6], udp])
}

/// A datagram from a container to the name server, by way of the host.
fn datagram(sender: Station, gateway: Station, message: &[u8]) -> Frame {
    let length = u16::try_from(8 + message.len()).expect("a short message");
    let [high, low] = (20 + length).to_be_bytes();
    let header = [&[0x45, 0, high, low, 0x12, 0x34, 0x40, 0, 64, 17, 0, 0][..], &sender.ip, &SERVER].concat();
    let checksum = (!ones_complement(&[&header])).to_be_bytes();
    let frame = Frame::ethernet(sender.mac(), gateway.mac(), 0x0800).then(&header).with(14 + 10, &checksum);
    with_udp(frame, length, message)
}

/// The same from Cleo by IPv6.
fn datagram_ipv6(message: &[u8]) -> Frame {
    let length = u16::try_from(8 + message.len()).expect("a short message");
    let [high, low] = length.to_be_bytes();
    let frame = Frame::ethernet(CLEO.mac(), GATEWAY.mac(), 0x86dd);
    let frame = frame.then(&[0x60, 0, 0, 0, high, low, 17, 64]).then(&CLEO_IPV6).then(&SERVER_IPV6);
    with_udp(frame, length, message)
}

fn with_udp(frame: Frame, length: u16, message: &[u8]) -> Frame {
    let at = frame.0.len();
    let [high, low] = length.to_be_bytes();
    let frame = frame.then(&[0xab, 0xcd, 0, 53, high, low, 0, 0]).then(message);
    let checksum = (!sum(&frame)).to_be_bytes();
    frame.with(at + 6, &checksum)
}

/// Sends a query; the addresses of the reply, which must be right in all else. If there is no reply, the reason for which
/// the frame ended, unchanged.
fn asked(bench: &Bench, sender: Station, frame: &Frame) -> Answers {
    let outcome = bench.from(sender).frame(frame);
    assert_eq!((outcome.verdict, outcome.reasons.len()), (REDIRECT, 1), "{outcome:?}");
    if outcome.reasons != [Reason::AnsweredName] {
        assert_eq!(outcome.frame, *frame);
        return Err(outcome.reasons[0]);
    }
    let (reply, at) = (&outcome.frame, headers(frame));
    let (before, after) = (&frame.0, &reply.0);
    assert_eq!((&after[..6], &after[6..12]), (&before[6..12], &before[..6]), "MACs");
    match at {
        34 => {
            assert_eq!(ones_complement(&[&after[14..34]]), 0xffff, "the header's checksum");
            assert_eq!((&after[26..30], &after[30..34]), (&before[30..34], &before[26..30]), "addresses");
            assert_eq!(usize::from(u16::from_be_bytes([after[16], after[17]])), after.len() - 14, "length");
        }
        _ => {
            assert_eq!((&after[22..38], &after[38..54]), (&before[38..54], &before[22..38]), "addresses");
            assert_eq!(usize::from(u16::from_be_bytes([after[18], after[19]])), after.len() - 54, "length");
        }
    }
    assert_eq!(
        (&after[at..at + 2], &after[at + 2..at + 4]),
        (&before[at + 2..at + 4], &before[at..at + 2]),
        "ports"
    );
    assert_eq!(usize::from(u16::from_be_bytes([after[at + 4], after[at + 5]])), after.len() - at, "length");
    match before[at + 6..at + 8] {
        [0, 0] => assert_eq!(after[at + 6..at + 8], [0, 0], "there is no checksum"),
        _ => assert_eq!(sum(reply), 0xffff, "the checksum"),
    }

    let (asked, answer) = (&before[at + 8..], &after[at + 8..]);
    assert_eq!(answer[..6], [asked[0], asked[1], 0x85, 0x80, 0, 1], "a reply, authoritative; one question");
    let question = 12 + asked[12..].iter().position(|byte| *byte == 0).expect("the root") + 5;
    assert_eq!(answer[12..question], asked[12..question], "the question, in the client's letters");
    let mut rest = &answer[question..];
    let mut addresses = Vec::new();
    for _ in 0..answer[7] {
        let (record, after) = rest.split_at(12);
        let kind = [asked[question - 4], asked[question - 3]];
        assert_eq!(record[..6], [0xc0, 12, kind[0], kind[1], 0, 1], "the question's name, type and class");
        assert_eq!(record[6..10], TTL.to_be_bytes());
        let (address, after) = after.split_at(record[11].into());
        addresses.push(match <[u8; 4]>::try_from(address) {
            Ok(ipv4) => ipv4.into(),
            Err(_) => <[u8; 16]>::try_from(address).expect("an address").into(),
        });
        rest = after;
    }
    let opt: &[u8] = if asked[11] == 0 { &[] } else { &OPT };
    assert_eq!((rest, &answer[8..12]), (opt, &[0, 0, 0, asked[11]][..]), "an OPT record, if there was one");
    Ok(addresses)
}

/// Anne, Cleo and Dora ask. The names are Bert's, and those of others in the second network.
fn with_names(test: impl FnOnce(&mut Bench) + Send) {
    bench(|bench| {
        for (network, station, owner) in [(RED, ANNE, 7), (RED, CLEO, 8), (BLUE, DORA, 7)] {
            let mut entry = Endpoint { access: ASKS, owner, ..endpoint_entry(network, station) };
            if station.ip == CLEO.ip {
                entry.ipv6 = CLEO_IPV6;
            }
            bench.datapath.write_endpoint(number(station), &entry).expect("written");
        }
        set(
            bench,
            Id::from_bytes([1; 32]),
            RED,
            &["bert", "bert.red", "Shop"],
            &[BERT.ip.into(), CLEO_IPV6.into()],
        );
        let blue = [192, 168, 0, 9].into();
        set(bench, Id::from_bytes([2; 32]), BLUE, &["bert", "db"], &[blue]);
        test(bench);
    });
}

fn number(station: Station) -> u32 {
    station.number().expect("a container")
}

fn set(bench: &mut Bench, container: Id, network: u32, names: &[&str], addresses: &[IpAddr]) {
    let names = names.iter().map(|name| name.to_string()).collect();
    let names = NamesInNetwork { network, names, addresses: addresses.to_vec(), ..NamesInNetwork::default() };
    bench.datapath.set_names(container, &[names]).expect("written");
}

#[test]
fn a_known_name_is_answered_and_others_go_on() {
    with_names(|bench| {
        let ask = |bench: &Bench, text: &str, kind, additional: &[u8]| {
            asked(bench, CLEO, &datagram(CLEO, GATEWAY, &query(text, kind, additional)))
        };
        let (bert, delivered) = (IpAddr::from(BERT.ip), Err(Reason::Delivered));
        for additional in [&[][..], &OPT, &COOKIE] {
            for text in ["bert", "BERT", "bErT.red", "shop"] {
                assert_eq!(ask(bench, text, A, additional), Ok(vec![bert]), "{text}");
                assert_eq!(ask(bench, text, AAAA, additional), Ok(vec![CLEO_IPV6.into()]), "{text}");
                assert_eq!(
                    ask(bench, text, 16, additional),
                    Ok(vec![]),
                    "other types of a known name: {text}"
                );
            }
            for text in ["ber", "berta", "bert.blue", "bert.red.example", "db", "b.ert", "@ert", "[hop"] {
                assert_eq!(ask(bench, text, A, additional), delivered, "{text}");
            }
        }
    });
}

#[test]
fn names_of_every_length_are_answered() {
    with_names(|bench| {
        let texts: Vec<String> = (1..=63)
            .map(|length| match length {
                1..=40 => "abcdefghij".repeat(4)[..length].to_owned(),
                _ => format!("{}.{}", "Z".repeat(length - 21), "y".repeat(20)),
            })
            .collect();
        for (index, text) in texts.iter().enumerate() {
            let address = [172, 17, 9, index as u8].into();
            set(bench, Id::from_bytes([3; 32]), RED, &[text], &[address]);
            for additional in [&[][..], &OPT, &COOKIE] {
                for frame in [
                    datagram(CLEO, GATEWAY, &query(text, A, additional)),
                    datagram_ipv6(&query(text, A, additional)),
                ] {
                    assert_eq!(asked(bench, CLEO, &frame), Ok(vec![address]), "{text}");
                }
            }
        }
        let long = format!("{}.{}", "z".repeat(43), "y".repeat(20));
        set(bench, Id::from_bytes([3; 32]), RED, &[&long], &[BERT.ip.into()]);
        let frame = datagram(CLEO, GATEWAY, &query(&long, A, &[]));
        assert_eq!(asked(bench, CLEO, &frame), Err(Reason::Delivered), "that of 64 bytes is left to others");
    });
}

#[test]
fn a_name_is_looked_up_in_the_networks_of_the_container_that_asks() {
    with_names(|bench| {
        let blue = IpAddr::from([192, 168, 0, 9]);
        for (sender, gateway) in [(ANNE, GATEWAY), (DORA, BLUE_GATEWAY)] {
            let ask = |text| asked(bench, sender, &datagram(sender, gateway, &query(text, A, &[])));
            assert_eq!(ask("db"), Ok(vec![blue]), "it is in both networks");
            assert_eq!(ask("bert"), Ok(vec![BERT.ip.into()]), "the first network has it");
        }
        // It leaves one of them.
        let entry = Endpoint { owner: 9, ..endpoint_entry(BLUE, DORA) };
        bench.datapath.write_endpoint(number(DORA), &entry).expect("written");
        let frame = datagram(ANNE, GATEWAY, &query("db", A, &[]));
        assert_eq!(asked(bench, ANNE, &frame), Err(Reason::Delivered));
        let frame = datagram(DORA, BLUE_GATEWAY, &query("db", A, &[]));
        assert_eq!(asked(bench, DORA, &frame), Err(Reason::Delivered), "it does not ask");
    });
}

#[test]
fn a_name_without_room_ends_the_networks_that_are_searched() {
    with_names(|bench| {
        fill_names(bench);
        // In the second network, the same name is another container's.
        set(bench, Id::from_bytes([4; 32]), RED, &["db"], &[CLEO.ip.into()]);
        for (sender, gateway) in [(ANNE, GATEWAY), (DORA, BLUE_GATEWAY), (CLEO, GATEWAY)] {
            let ask = |text| asked(bench, sender, &datagram(sender, gateway, &query(text, A, &[])));
            assert_eq!(ask("bert"), Ok(vec![BERT.ip.into()]), "names with room are answered");
            assert_eq!(ask("db"), Err(Reason::Delivered));
        }
    });
}

#[test]
fn all_addresses_of_a_name_are_answered_in_turns() {
    with_names(|bench| {
        let addresses: Vec<IpAddr> = (0..10).map(|last| [172, 17, 8, last].into()).collect();
        for (index, address) in addresses.iter().enumerate() {
            set(bench, Id::from_bytes([10 + index as u8; 32]), RED, &["many"], &[*address]);
        }
        let frame = datagram(CLEO, GATEWAY, &query("many", A, &OPT));
        let mut first = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let mut answers = asked(bench, CLEO, &frame).expect("answered");
            first.insert(answers[0]);
            answers.sort();
            assert_eq!(answers, addresses[..MAX_ADDRESSES]);
        }
        assert_eq!(first.len(), MAX_ADDRESSES, "each was the first");
        // When one leaves, another takes its place.
        set(bench, Id::from_bytes([10; 32]), RED, &[], &[]);
        let mut answers = asked(bench, CLEO, &frame).expect("answered");
        answers.sort();
        assert_eq!(answers, addresses[1..=MAX_ADDRESSES]);
        for index in 1..10 {
            bench.datapath.set_names(Id::from_bytes([10 + index; 32]), &[]).expect("removed");
        }
        assert_eq!(asked(bench, CLEO, &frame), Err(Reason::Delivered), "nobody has the name");
    });
}

#[test]
fn what_is_no_plain_query_goes_on() {
    with_names(|bench| {
        let plain = || query("bert", A, &[]);
        let with = |offset: usize, bytes: &[u8]| {
            let mut message = plain();
            message[offset..offset + bytes.len()].copy_from_slice(bytes);
            message
        };
        let messages = [
            ("a reply", with(2, &[0x81])),
            ("another operation", with(2, &[0x28])),
            ("two questions", with(5, &[2])),
            ("no question", with(5, &[0])),
            ("an answer", with(7, &[1])),
            ("an additional record that is not there", with(11, &[1])),
            ("another class", with(plain().len() - 1, &[3])),
            ("a name without an end", with(plain().len() - 5, &[1])),
            ("bytes behind the question", [plain(), vec![0]].concat()),
            ("zeros behind the name", [&plain()[..17], &[0, 0, 0, 0, 1, 0, 1]].concat()),
            ("a pointer in the name", [&plain()[..12], &[4, b'b', b'e', 0xc0, 12, 0, 1, 0, 1]].concat()),
            ("another record", query("bert", A, &[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0])),
            ("EDNS of another version", query("bert", A, &[0, 0, 41, 4, 208, 0, 1, 0, 0, 0, 0])),
            ("other options", query("bert", A, &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 3, 0, 0])),
            ("nothing", vec![]),
            ("half a header", plain()[..6].to_vec()),
            ("no name", [&plain()[..12], &[0, 0, 1, 0, 1]].concat()),
        ];
        for (says, message) in messages {
            assert_eq!(
                asked(bench, CLEO, &datagram(CLEO, GATEWAY, &message)),
                Err(Reason::Delivered),
                "{says}"
            );
            assert_eq!(asked(bench, CLEO, &datagram_ipv6(&message)), Err(Reason::Delivered), "{says}, IPv6");
        }
        let frame = || datagram(CLEO, GATEWAY, &plain());
        let udp = 14 + 20;
        for (says, frame) in [
            ("another port", frame().with(udp + 2, &[0, 54])),
            ("TCP", frame().with(14 + 9, &[6])),
            ("the first fragment", frame().with(14 + 6, &[0x20, 0])),
            ("a later fragment", frame().with(14 + 6, &[0, 9])),
            ("a length of its own", frame().with(udp + 5, &[9])),
        ] {
            assert_eq!(asked(bench, CLEO, &frame), Err(Reason::Delivered), "{says}");
        }
        let frame = frame().with(udp + 6, &[0, 0]);
        assert_eq!(asked(bench, CLEO, &frame), Ok(vec![BERT.ip.into()]), "without a checksum");
        let mut spoofed = datagram(CLEO, GATEWAY, &plain());
        spoofed = spoofed.with(14 + 12, &ANNE.ip);
        bench.from(CLEO).is_dropped("with another's address", &spoofed, Reason::SpoofedIpv4);
    });
}

#[test]
fn an_endpoint_without_guard_is_answered_too() {
    with_names(|bench| {
        let entry = Endpoint { access: ASKS | UNGUARDED, owner: 8, ..endpoint_entry(RED, CLEO) };
        bench.datapath.write_endpoint(number(CLEO), &entry).expect("written");
        let ask = |text| asked(bench, CLEO, &datagram(CLEO, GATEWAY, &query(text, A, &COOKIE)));
        assert_eq!(ask("bert"), Ok(vec![BERT.ip.into()]));
        assert_eq!(ask("berta"), Err(Reason::Delivered));
    });
}
