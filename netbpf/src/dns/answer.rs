//! The policy: which queries are answered here, with what, and which are passed on. Pure: bytes in, bytes out.
//!
//! - A name of a container in one of the asker's networks is ours, whatever the type: addresses, or NOERROR with
//!   nothing. Passing on a known name's other types would make a resolver believe that the name does not exist.
//! - `in-addr.arpa` and `ip6.arpa` names of such a container's address are ours too.
//! - Everything else is somebody else's, single labels included.

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

/// Seconds that an answer may be kept, as Docker has it.
const TTL: u32 = 600;

/// What becomes of a message.
#[derive(Debug)]
pub enum Outcome {
    /// It gets no reply.
    Ignored,
    /// The reply is written.
    Answered,
    /// Another server has to answer; the envelope is for what has to be said if none does.
    PassedOn(Envelope),
}

/// Answers queries, one after another. It keeps its memory from one to the next.
#[derive(Default)]
pub struct Answerer {
    addresses: Vec<IpAddr>,
    records: Vec<Record>,
}

impl Answerer {
    /// Answers what `asker` sent: writes a reply in place of what `reply` holds, or says what else to do.
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

    /// Whether the name is ours; `records` holds what there is of the type then.
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

/// The address that a complete `in-addr.arpa` or `ip6.arpa` name stands for.
fn reversed(name: &Name) -> Option<IpAddr> {
    let last = name.iter().next_back()?;
    if !last.eq_ignore_ascii_case(b"arpa") {
        return None;
    }
    let network: IpNet = name.parse_arpa_name().ok()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}

/// The name in lower case with dots between its labels, unless a label has a dot in it.
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
