//! Tests with queries as bytes.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode},
    rr::RecordType::{self, A, AAAA, HTTPS, MX, PTR, TXT},
};
use proptest::prelude::*;

use super::*;
use crate::dns::record::NetworkRecord;

struct World {
    zone: Zone,
    /// A member of `mynet` and `back.end`.
    asker: Id,
    /// A member of another network.
    outsider: Id,
}

fn member(id: Id, network: &str, names: &[&str], addresses: &[&str]) -> NetworkRecord {
    let addresses = addresses.iter().map(|address| address.parse().expect("an address"));
    let (ipv4, ipv6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.partition(IpAddr::is_ipv4);
    NetworkRecord {
        number: 0,
        id,
        name: network.into(),
        internal: false,
        icc: true,
        names: names.iter().map(|name| name.to_string()).collect(),
        ipv4: ipv4.iter().filter_map(|address| address.to_string().parse().ok()).collect(),
        ipv6: ipv6.iter().filter_map(|address| address.to_string().parse().ok()).collect(),
        links: vec![],
    }
}

fn world() -> World {
    let mut zone = Zone::default();
    let (mynet, backend, far) = (Id::random(), Id::random(), Id::random());
    let (asker, outsider) = (Id::random(), Id::random());
    zone.insert(
        asker,
        &[
            member(mynet, "mynet", &["Web-01", "web", "0123456789ab"], &["192.168.0.2"]),
            member(backend, "back.end", &["Web-01"], &["10.0.0.2"]),
        ],
    );
    zone.insert(
        Id::random(),
        &[member(mynet, "mynet", &["my.db", "db", "web"], &["192.168.0.3", "fd00::3"])],
    );
    zone.insert(Id::random(), &[member(backend, "back.end", &["cache"], &["10.0.0.3"])]);
    zone.insert(outsider, &[member(far, "far", &["secret"], &["10.9.0.2"])]);
    for host in 0..100 {
        let address = format!("192.168.1.{host}");
        zone.insert(Id::random(), &[member(mynet, "mynet", &["crowd"], &[&address])]);
    }
    World { zone, asker, outsider }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(Name::from_ascii(name).expect("a name"), kind));
    message
}

fn with_edns(mut message: Message, payload: u16, version: u8) -> Message {
    // `set_max_payload` does not go below 512, but a client can.
    let mut edns = Edns::new();
    edns.set_max_payload(payload).set_version(version).set_dnssec_ok(true);
    message.set_edns(edns);
    message
}

impl World {
    fn send(&self, asker: Id, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let mut reply = vec![];
        match Answerer::default().answer(&self.zone, asker, query, transport, &mut rand::rng(), &mut reply) {
            Outcome::Answered => Some(reply),
            Outcome::Ignored | Outcome::PassedOn(_) => None,
        }
    }

    fn passes_on(&self, asker: Id, query: &Message) -> bool {
        let bytes = query.to_vec().expect("a query");
        let (udp, random) = (Transport::Udp, &mut rand::rng());
        let outcome = Answerer::default().answer(&self.zone, asker, &bytes, udp, random, &mut vec![]);
        matches!(outcome, Outcome::PassedOn(_))
    }

    fn reply(&self, query: &Message, transport: Transport) -> Message {
        let bytes = self.send(self.asker, &query.to_vec().expect("a query"), transport);
        Message::from_vec(&bytes.expect("a reply")).expect("a reply that parses")
    }
}

fn data(reply: &Message) -> Vec<String> {
    let mut data: Vec<String> = reply.answers.iter().map(|record| record.data.to_string()).collect();
    data.sort();
    data
}

#[test]
fn only_known_names_are_answered() {
    let world = world();
    let answered: &[(&str, RecordType, &[&str])] = &[
        ("web-01.", A, &["192.168.0.2"]),
        ("WEB-01.", A, &["192.168.0.2"]),
        ("web-01.mynet.", A, &["192.168.0.2"]),
        ("web-01.MyNet.", A, &["192.168.0.2"]),
        ("web-01.back.end.", A, &["10.0.0.2"]),
        ("0123456789ab.", A, &["192.168.0.2"]),
        ("web.", A, &["192.168.0.2", "192.168.0.3"]),
        ("web.mynet.", A, &["192.168.0.2", "192.168.0.3"]),
        ("my.db.", A, &["192.168.0.3"]),
        ("my.db.mynet.", A, &["192.168.0.3"]),
        ("db.", AAAA, &["fd00::3"]),
        ("web.", AAAA, &["fd00::3"]),
        ("cache.", A, &["10.0.0.3"]),
        ("cache.back.end.", A, &["10.0.0.3"]),
        ("cache.", AAAA, &[]),
        ("web.", MX, &[]),
        ("web.", TXT, &[]),
        ("web.", HTTPS, &[]),
        ("web.", PTR, &[]),
        ("web.", RecordType::ANY, &[]),
        ("web.", RecordType::Unknown(65_400), &[]),
        ("2.0.168.192.in-addr.arpa.", PTR, &["Web-01.mynet."]),
        ("2.0.168.192.IN-ADDR.ARPA.", PTR, &["Web-01.mynet."]),
        ("3.0.0.10.in-addr.arpa.", PTR, &["cache.back.end."]),
        ("3.0.0.10.in-addr.arpa.", A, &[]),
        ("3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", PTR, &["my.db.mynet."]),
    ];
    for &(name, kind, expected) in answered {
        for transport in [Transport::Udp, Transport::Tcp] {
            let reply = world.reply(&query(name, kind), transport);
            assert_eq!(data(&reply), expected, "{name} {kind}");
            assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
            assert!(reply.metadata.authoritative && reply.metadata.recursion_available);
            assert!(reply.metadata.recursion_desired && !reply.metadata.truncation);
            assert_eq!(reply.metadata.message_type, MessageType::Response);
            assert_eq!(reply.metadata.id, 0x1234);
            assert!(reply.edns.is_none() && reply.authorities.is_empty() && reply.additionals.is_empty());
            for record in &reply.answers {
                assert!(record.name.eq_case(&Name::from_ascii(name).expect("a name")), "the query's case");
                assert_eq!((record.ttl, record.dns_class), (600, DNSClass::IN));
            }
        }
    }

    let passed_on = [
        (".", RecordType::NS),
        ("example.com.", A),
        ("nobody.", A),
        ("nobody.", AAAA),
        ("web.example.com.", A),
        ("web.back.end.", A),
        ("web.far.", A),
        ("secret.", A),
        ("secret.far.", A),
        ("db.my.", A),
        ("cache.end.", A),
        ("we\\.b.", A),
        ("2.0.9.10.in-addr.arpa.", PTR),
        ("1.1.1.1.in-addr.arpa.", PTR),
        ("0.168.192.in-addr.arpa.", PTR),
        ("web.in-addr.arpa.", PTR),
        ("999.0.168.192.in-addr.arpa.", PTR),
    ];
    for (name, kind) in passed_on {
        assert!(world.passes_on(world.asker, &query(name, kind)), "{name} {kind}");
    }
    let mut chaos = query("web.", TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert!(world.passes_on(world.asker, &chaos));
}

#[test]
fn a_container_outside_the_network_learns_nothing() {
    let world = world();
    for name in ["web.", "web-01.mynet.", "cache.back.end.", "2.0.168.192.in-addr.arpa."] {
        assert!(world.passes_on(world.outsider, &query(name, A)), "{name}");
        assert!(world.passes_on(Id::random(), &query(name, PTR)), "{name}");
    }
    assert!(!world.passes_on(world.outsider, &query("secret.", A)));
}

#[test]
fn a_reply_has_exactly_these_bytes() {
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05cAcHe\x00\x00\x01\x00\x01";
    let reply = b"\x12\x34\x85\x80\x00\x01\x00\x01\x00\x00\x00\x00\x05cAcHe\x00\x00\x01\x00\x01\
        \xc0\x0c\x00\x01\x00\x01\x00\x00\x02\x58\x00\x04\x0a\x00\x00\x03";
    let world = world();
    assert_eq!(world.send(world.asker, query, Transport::Udp).as_deref(), Some(&reply[..]));
}

#[test]
fn a_query_with_edns_gets_a_reply_with_edns() {
    let world = world();
    for (offered, granted) in [(512, 512), (1232, 1232), (800, 800), (4096, 1232), (65535, 1232)] {
        let reply = world.reply(&with_edns(query("db.", A), offered, 0), Transport::Udp);
        let edns = reply.edns.as_ref().expect("an OPT record");
        assert_eq!((edns.max_payload(), edns.version()), (granted, 0));
        assert!(
            !edns.flags().dnssec_ok && edns.options().as_ref().is_empty(),
            "flags and options are not repeated"
        );
        assert_eq!(data(&reply), ["192.168.0.3"]);
    }
    let tiny = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x02db\x00\x00\x01\x00\x01\x00\x00\x29\x00\x10\x00\x00\x00\x00\x00\x00";
    let reply = world.send(world.asker, tiny, Transport::Udp).expect("a reply");
    let reply = Message::from_vec(&reply).expect("a reply that parses");
    assert_eq!(reply.edns.as_ref().expect("an OPT record").max_payload(), 512);

    let reply = world.reply(&with_edns(query("example.com.", A), 1232, 1), Transport::Udp);
    // BADVERS, which hickory reads as BADSIG: they share the number.
    assert_eq!(u16::from(reply.metadata.response_code), 16);
    assert_eq!(reply.edns.as_ref().expect("an OPT record").version(), 0);
    assert!(reply.answers.is_empty());
}

#[test]
fn answers_that_do_not_fit_are_left_out_and_tc_is_set() {
    let world = world();
    let cases = [
        (query("crowd.", A), Transport::Udp, 512),
        (with_edns(query("crowd.", A), 512, 0), Transport::Udp, 512),
        (with_edns(query("crowd.", A), 4096, 0), Transport::Udp, 1232),
    ];
    for (query, transport, limit) in cases {
        let bytes = world.send(world.asker, &query.to_vec().expect("a query"), transport).expect("a reply");
        assert!(bytes.len() <= limit && bytes.len() + 16 > limit, "{} of {limit}", bytes.len());
        let reply = Message::from_vec(&bytes).expect("a reply that parses");
        assert!(reply.metadata.truncation);
        assert_eq!(reply.edns.is_some(), query.edns.is_some());
    }
    let reply = world.reply(&query("crowd.", A), Transport::Tcp);
    assert_eq!(reply.answers.len(), 100);
    assert!(!reply.metadata.truncation);
    assert!(!world.reply(&query("web.", A), Transport::Udp).metadata.truncation);
}

#[test]
fn every_address_of_a_name_comes_first_sometimes() {
    let world = world();
    let mut first: Vec<String> = (0..200)
        .map(|_| world.reply(&query("web.", A), Transport::Udp).answers[0].data.to_string())
        .collect();
    first.sort();
    first.dedup();
    assert_eq!(first, ["192.168.0.2", "192.168.0.3"]);
}

#[test]
fn an_invalid_message_gets_an_error_or_no_reply() {
    let world = world();
    let header = |flags: &[u8; 2], questions: u8| {
        [b"\x12\x34", &flags[..], &[0, questions, 0, 0, 0, 0, 0, 0]].concat()
    };
    let question = b"\x03web\x00\x00\x01\x00\x01";
    let code = |bytes: &[u8]| {
        let reply = world.send(world.asker, bytes, Transport::Udp)?;
        assert_eq!(reply[..2], bytes[..2]);
        Message::from_vec(&reply).ok().map(|reply| reply.metadata.response_code)
    };
    let cases: &[(&str, Vec<u8>, Option<ResponseCode>)] = &[
        ("nothing", vec![], None),
        ("a runt", header(b"\x01\x00", 1)[..11].to_vec(), None),
        ("a response", [&header(b"\x81\x80", 1), &question[..]].concat(), None),
        ("a header only", header(b"\x01\x00", 0), Some(ResponseCode::FormErr)),
        ("no question", header(b"\x01\x00", 1), Some(ResponseCode::FormErr)),
        (
            "two questions",
            [&header(b"\x01\x00", 2), &question[..], question].concat(),
            Some(ResponseCode::FormErr),
        ),
        ("a status query", [&header(b"\x11\x00", 1), &question[..]].concat(), Some(ResponseCode::NotImp)),
        ("an update", [&header(b"\x29\x00", 1), &question[..]].concat(), Some(ResponseCode::NotImp)),
        ("a cut question", [&header(b"\x01\x00", 1), &question[..6]].concat(), Some(ResponseCode::FormErr)),
        (
            "a pointer to itself",
            [&header(b"\x01\x00", 1), &b"\xc0\x0c\x00\x01\x00\x01"[..]].concat(),
            Some(ResponseCode::FormErr),
        ),
        (
            "a pointer ahead",
            [&header(b"\x01\x00", 1), &b"\xc0\xff\x00\x01\x00\x01"[..]].concat(),
            Some(ResponseCode::FormErr),
        ),
        (
            "two OPT records",
            [
                &b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x02"[..],
                question,
                b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00",
                b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00",
            ]
            .concat(),
            Some(ResponseCode::FormErr),
        ),
    ];
    for (what, bytes, expected) in cases {
        assert_eq!(code(bytes), *expected, "{what}");
    }
}

proptest! {
    #[test]
    fn random_bytes_cause_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let world = world();
        for transport in [Transport::Udp, Transport::Tcp] {
            if let Some(reply) = world.send(world.asker, &bytes, transport) {
                prop_assert!(Message::from_vec(&reply).is_ok());
            }
        }
        message::answers(&bytes, &bytes);
    }

    #[test]
    fn damaged_queries_cause_no_panic(
        name in "(web|crowd|cache|[a-z]{1,9})(\\.(mynet|back\\.end|[a-z]{1,9}))?",
        edns in any::<Option<u16>>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let world = world();
        let mut message = query(&format!("{name}."), A);
        if let Some(payload) = edns {
            message = with_edns(message, payload, 0);
        }
        let mut bytes = message.to_vec().expect("a query");
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(reply) = world.send(world.asker, &bytes, Transport::Udp) {
            prop_assert!(reply.len() <= 1232);
            prop_assert!(bytes[2] & 0x80 == 0, "a response gets no reply");
            prop_assert!(Message::from_vec(&reply).is_ok());
        }
    }
}
