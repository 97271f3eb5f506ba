//! Fuzz targets: queries of containers, and replies of servers. A query is answered within the client's limit, by a
//! message that every client can read, and only with addresses that the asker may know.

use std::{cell::OnceCell, net::IpAddr};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType},
};
use rand::{SeedableRng, rngs::SmallRng};

use super::{
    answer::{Answerer, Outcome},
    message::{self, Envelope, Received, Reply, Transport},
    record::NetworkRecord,
    zone::Zone,
};
use crate::model::Id;

const TRANSPORTS: [Transport; 2] = [Transport::Udp, Transport::Tcp];
/// The largest datagram that netbpf writes, in bytes.
const LARGEST_DATAGRAM: usize = 1232;

/// The asker's zone. Each address tells the network: `10.1.0.0/16` and `fd01::/16` are the asker's, the others are not.
fn zone() -> (Zone, Id) {
    let id = |byte: u8| -> Id { format!("{byte:02x}").repeat(32).parse().expect("an ID") };
    let record = |network: u8, name: &str, icc: bool, host: u8, names: &[&str]| NetworkRecord {
        number: 0,
        id: id(network),
        name: name.to_owned(),
        internal: false,
        icc,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        ipv4: vec![[10, network, 0, host].into()],
        ipv6: vec![[0xfd00 + u16::from(network), 0, 0, 0, 0, 0, 0, host.into()].into()],
        links: vec![("db".to_owned(), "a.b".to_owned())],
    };
    let (mut zone, asker) = (Zone::default(), id(100));
    zone.insert(asker, &[record(1, "my.net", true, 2, &["Asker", "a.b"]), record(1, "x", false, 3, &[])]);
    zone.insert(id(101), &[record(1, "my.net", true, 4, &["web", "a.b", "a"])]);
    zone.insert(id(102), &[record(2, "far", true, 2, &["secret", "web"])]);
    for host in 0..60 {
        zone.insert(id(host), &[record(1, "my.net", true, host + 100, &["crowd"])]);
    }
    (zone, asker)
}

/// Checks a query of a container.
pub(crate) fn check_query(query: &[u8]) {
    thread_local!(static ZONE: OnceCell<(Zone, Id)> = const { OnceCell::new() });
    ZONE.with(|known| {
        let (zone, asker) = known.get_or_init(zone);
        check_query_of(*asker, zone, query);
    });
}

fn check_query_of(asker: Id, zone: &Zone, query: &[u8]) {
    let mut random = SmallRng::seed_from_u64(query.len() as u64);
    for transport in TRANSPORTS {
        let mut reply = b"of an earlier query".to_vec();
        match Answerer::default().answer(zone, asker, query, transport, &mut random, &mut reply) {
            Outcome::Ignored => assert!(matches!(message::read(query), Received::Noise)),
            Outcome::Answered => check_answer(query, &reply, transport),
            Outcome::PassedOn(envelope) => {
                assert!(envelope.passed_on_limit(transport) >= 512);
                check_errors(&envelope, query, transport);
            }
        }
        if query.len() < 12 {
            assert_eq!(reply, b"of an earlier query", "a message without a header got a reply");
        }
    }
    assert!(!message::is_same(query, query) || query.len() >= 12);
}

/// Checks the errors that a client gets if no server replies.
fn check_errors(envelope: &Envelope, query: &[u8], transport: Transport) {
    let mut reply = Vec::new();
    for (code, truncated) in
        [(ResponseCode::ServFail, false), (ResponseCode::Refused, false), (ResponseCode::NoError, true)]
    {
        envelope.reply(&Reply { truncated, ..Reply::empty(code) }, transport, &mut reply);
        assert_eq!(message::code(&reply), Some(code));
        assert_eq!(message::has_answer(&reply), truncated);
        check_answer(query, &reply, transport);
    }
}

fn check_answer(query: &[u8], reply: &[u8], transport: Transport) {
    if transport == Transport::Udp {
        assert!(reply.len() <= LARGEST_DATAGRAM, "{} bytes", reply.len());
    }
    let message = Message::from_vec(reply).expect("a reply that clients can read");
    assert_eq!(message.metadata.message_type, MessageType::Response);
    assert_eq!(query.first_chunk::<2>(), reply.first_chunk::<2>(), "another ID");
    match message::read(query) {
        Received::Noise => panic!("a message that is no query got a reply"),
        Received::Faulty(..) => assert!(message.answers.is_empty()),
        Received::Query(_, question) => {
            assert_eq!(message.queries, [question]);
            assert!(message::answers(query, reply));
        }
    }
    if transport == Transport::Udp && message.edns.is_none() {
        assert!(reply.len() <= 512, "{} bytes without EDNS", reply.len());
    }
    for record in &message.answers {
        let is_known = match &record.data {
            RData::A(address) => address.octets()[..2] == [10, 1],
            RData::AAAA(address) => address.segments()[0] == 0xfd01,
            RData::PTR(name) => !name.to_ascii().contains("secret"),
            _ => false,
        };
        assert!(is_known, "{record} is not for the asker");
        assert_eq!(record.name, message.queries[0].name, "an answer to another question");
    }
}

/// Checks what a server replies to one of the queries: the first byte chooses it.
pub(crate) fn check_reply(input: &[u8]) {
    let Some((choice, reply)) = input.split_first() else { return };
    let queries = queries();
    let query = &queries[usize::from(*choice) % queries.len()];
    let before = reply.to_vec();
    if message::answers(query, reply) {
        assert_eq!(query.first_chunk::<2>(), reply.first_chunk::<2>());
        assert!(message::code(reply).is_some(), "a reply without a code counts");
        let mut other = reply.to_vec();
        other[0] ^= 1;
        assert!(!message::answers(query, &other), "a reply with another ID counts");
    }
    if message::code(reply).is_none() {
        assert!(!message::has_answer(reply), "an answer in a reply without a header");
    }
    let mut renamed = before.clone();
    message::set_id(&mut renamed, [0xab, 0xcd]);
    assert_eq!(renamed.get(2..), before.get(2..), "more than the ID changed");
    assert_eq!(message::code(&renamed), message::code(&before));
    assert!(!message::is_same(query, &renamed) || query[..2] == [0xab, 0xcd]);
}

/// Queries of all kinds.
pub(crate) fn queries() -> Vec<Vec<u8>> {
    let mut queries = Vec::new();
    for (name, kind) in [
        ("web.", RecordType::A),
        ("A.B.my.net.", RecordType::AAAA),
        ("crowd.", RecordType::AAAA),
        ("db.", RecordType::TXT),
        ("secret.far.", RecordType::A),
        ("4.0.1.10.in-addr.arpa.", RecordType::PTR),
        ("2.0.2.10.in-addr.arpa.", RecordType::PTR),
        ("example.com.", RecordType::ANY),
    ] {
        let mut query = Message::new(0x1234, MessageType::Query, OpCode::Query);
        query.add_query(Question::query(Name::from_ascii(name).expect("a name"), kind));
        queries.push(query.to_vec().expect("a query"));
        let mut edns = Edns::new();
        edns.set_max_payload(4096).set_dnssec_ok(true);
        query.set_edns(edns);
        query.queries[0].set_query_class(DNSClass::CH);
        queries.push(query.to_vec().expect("a query"));
        query.queries[0].set_query_class(DNSClass::IN);
        queries.push(query.to_vec().expect("a query"));
    }
    queries
}

/// Replies of all kinds.
pub(crate) fn replies() -> Vec<Vec<u8>> {
    let answered = |(choice, query): (u8, Vec<u8>)| {
        let mut message = Message::from_vec(&query).expect("a query");
        message.metadata.message_type = MessageType::Response;
        let name = message.queries[0].name().clone();
        let address: IpAddr = [192, 0, 2, 1].into();
        message.add_answer(hickory_proto::rr::Record::from_rdata(name, 60, address.into()));
        let reply = message.to_vec().expect("a reply");
        [vec![choice], reply].concat()
    };
    (0..).zip(queries()).map(answered).collect()
}
