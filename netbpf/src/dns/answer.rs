//! The policy: which queries netbpf answers, with what, and which are forwarded. Pure: bytes in, bytes out.
//!
//! - A name of a container in one of the asker's networks is answered whatever the type: with addresses, or with
//!   NOERROR and no answer. If other types of a known name were forwarded, a resolver would conclude that the name does
//!   not exist.
//! - `in-addr.arpa` and `ip6.arpa` names of such a container's address are answered, too.
//! - Everything else is forwarded, single labels included.

use hickory_proto::{
    op::{Query as Question, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata::PTR},
};
use ipnet::IpNet;
use rand::{Rng, seq::SliceRandom};
use std::net::IpAddr;

use super::{
    message::{self, Envelope, Received, Reply, Transport},
    zone::Zone,
};
use crate::model::Id;

/// How long a client may keep an answer, in seconds; Docker's value.
const TTL: u32 = 600;

/// What to do with a message.
#[derive(Debug)]
pub enum Outcome {
    /// It gets no reply.
    Ignored,
    /// The reply is written.
    Answered,
    /// Forward it to another server. The envelope is for an error reply if none answers.
    PassedOn(Envelope),
}

/// Answers queries one after another and reuses its buffers.
#[derive(Default)]
pub struct Answerer {
    addresses: Vec<IpAddr>,
    records: Vec<Record>,
}

impl Answerer {
    /// Answers a message of `asker`: writes a reply to `reply`, in place of its content, or returns what else to do.
    pub fn answer(
        &mut self,
        zone: &Zone,
        asker: Id,
        query: &[u8],
        transport: Transport,
        random: &mut impl Rng,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        let (envelope, question) = match message::read(query) {
            Received::Noise => return Outcome::Ignored,
            Received::Faulty(envelope, code) => {
                envelope.reply(&Reply::empty(code), transport, reply);
                return Outcome::Answered;
            }
            Received::Query(envelope, question) => (envelope, question),
        };
        if !self.look_up(zone, asker, &question) {
            return Outcome::PassedOn(envelope);
        }
        self.records.shuffle(random);
        let answers = Reply {
            code: ResponseCode::NoError,
            authoritative: true,
            truncated: false,
            answers: &self.records,
        };
        envelope.reply(&answers, transport, reply);
        Outcome::Answered
    }

    /// Whether netbpf answers for the name. If so, `records` holds the answers of the requested type.
    fn look_up(&mut self, zone: &Zone, asker: Id, question: &Question) -> bool {
        self.records.clear();
        self.addresses.clear();
        if question.query_class() != DNSClass::IN {
            return false;
        }
        let name = question.name();
        if let Some(address) = reversed(name) {
            let Some(target) = zone.name_of(asker, address) else { return false };
            if question.query_type() == RecordType::PTR {
                let target = RData::PTR(PTR(target.clone()));
                self.records.push(Record::from_rdata(name.clone(), TTL, target));
            }
            return true;
        }

        let mut buffer = [0; Name::MAX_LENGTH];
        let Some(plain) = plain(name, &mut buffer) else { return false };
        let wanted = |address: &IpAddr| match question.query_type() {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            _ => false,
        };
        if !zone.find(asker, plain, wanted, &mut self.addresses) {
            return false;
        }
        let record = |address: &IpAddr| Record::from_rdata(name.clone(), TTL, RData::from(*address));
        self.records.extend(self.addresses.iter().map(record));
        true
    }
}

/// The address of a complete `in-addr.arpa` or `ip6.arpa` name.
fn reversed(name: &Name) -> Option<IpAddr> {
    let last = name.iter().next_back()?;
    if !last.eq_ignore_ascii_case(b"arpa") {
        return None;
    }
    let network: IpNet = name.parse_arpa_name().ok()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}

/// The name in lower case with dots between its labels; `None` if a label contains a dot.
fn plain<'a>(name: &Name, buffer: &'a mut [u8; Name::MAX_LENGTH]) -> Option<&'a [u8]> {
    let mut length = 0;
    for label in name {
        if label.contains(&b'.') {
            return None;
        }
        if length > 0 {
            *buffer.get_mut(length)? = b'.';
            length += 1;
        }
        let place = buffer.get_mut(length..length + label.len())?;
        place.copy_from_slice(label);
        place.make_ascii_lowercase();
        length += label.len();
    }
    Some(&buffer[..length])
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
