//! DNS messages as the responder needs them: reading a query, writing a reply within a limit. Pure; it knows the
//! protocol and nothing of who is called what.

use std::iter;

use hickory_proto::{
    op::{
        Edns, Header, Message, MessageType, Metadata, OpCode, Query as Question, ResponseCode,
        emit_message_parts,
    },
    rr::{Record, RecordType},
    serialize::binary::{BinDecodable, BinDecoder, BinEncoder},
};

/// What a datagram may hold for who does not say more (RFC 1035).
const SMALLEST_PAYLOAD: u16 = 512;
/// What a datagram of ours holds at most, so that it is never fragmented (DNS flag day 2020).
const LARGEST_PAYLOAD: u16 = 1232;
/// The bytes of a message's header.
const HEADER: usize = 12;
/// The bytes of an OPT record without options.
const OPT: usize = 11;
/// The bytes of a record without its data, its name being a pointer to the question.
const RECORD: usize = 12;

/// What a message came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One message in a datagram.
    Udp,
    /// Messages with a length before each.
    Tcp,
}

/// What a message that came in is.
#[derive(Debug)]
pub enum Received {
    /// Nothing that gets a reply: a response, or too short for a header.
    Noise,
    /// A query that gets this error.
    Faulty(Envelope, ResponseCode),
    /// A query.
    Query(Envelope, Question),
}

/// What every reply repeats of its query.
#[derive(Clone, Debug)]
pub struct Envelope {
    metadata: Metadata,
    question: Option<Question>,
    /// The payload that the client's OPT record offers.
    payload: Option<u16>,
}

/// What a reply adds to its query's envelope.
pub struct Reply<'a> {
    /// The outcome.
    pub code: ResponseCode,
    /// We are the source of what it says.
    pub authoritative: bool,
    /// More would be to say than is said.
    pub truncated: bool,
    /// Addresses, or a single record of another type.
    pub answers: &'a [Record],
}

impl Reply<'_> {
    /// One without answers.
    pub fn empty(code: ResponseCode) -> Self {
        Reply { code, authoritative: false, truncated: false, answers: &[] }
    }
}

/// Reads what a client sent.
pub fn read(bytes: &[u8]) -> Received {
    let mut decoder = BinDecoder::new(bytes);
    let Ok(Header { metadata, counts, .. }) = Header::read(&mut decoder) else { return Received::Noise };
    if metadata.message_type != MessageType::Query {
        return Received::Noise;
    }
    let mut envelope = Envelope { metadata, question: None, payload: None };
    if metadata.op_code != OpCode::Query {
        return Received::Faulty(envelope, ResponseCode::NotImp);
    }
    // RFC 9619: a query has one question.
    let (1, Ok(question)) = (counts.queries, Question::read(&mut decoder)) else {
        return Received::Faulty(envelope, ResponseCode::FormErr);
    };
    envelope.question = Some(question.clone());

    let mut records = |count: u16, additional| {
        Message::read_records(&mut decoder, count.into(), additional, OpCode::Query).map(|(_, edns, _)| edns)
    };
    let edns = records(counts.answers, false)
        .and_then(|_| records(counts.authorities, false))
        .and_then(|_| records(counts.additionals, true));
    match edns {
        Err(_) => Received::Faulty(envelope, ResponseCode::FormErr),
        Ok(None) => Received::Query(envelope, question),
        Ok(Some(edns)) => {
            envelope.payload = Some(edns.max_payload());
            if edns.version() > 0 {
                return Received::Faulty(envelope, ResponseCode::BADVERS);
            }
            Received::Query(envelope, question)
        }
    }
}

impl Envelope {
    /// The size of a reply that is passed on: what the client can take.
    pub fn passed_on_limit(&self, transport: Transport) -> usize {
        match transport {
            Transport::Udp => self.payload.unwrap_or(SMALLEST_PAYLOAD).max(SMALLEST_PAYLOAD).into(),
            Transport::Tcp => u16::MAX.into(),
        }
    }

    /// Writes a reply in place of what `out` holds. Answers that do not fit are left out, which sets TC.
    pub fn reply(&self, reply: &Reply<'_>, transport: Transport, out: &mut Vec<u8>) {
        let own_payload = self.payload.map(|payload| payload.clamp(SMALLEST_PAYLOAD, LARGEST_PAYLOAD));
        let limit = match transport {
            Transport::Udp => own_payload.unwrap_or(SMALLEST_PAYLOAD),
            Transport::Tcp => u16::MAX,
        };
        let edns = own_payload.map(|payload| {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            edns
        });
        let fitting = &reply.answers[..self.fitting(reply.answers, limit)];

        let mut metadata = Metadata::response_from_request(&self.metadata);
        metadata.recursion_available = true;
        metadata.authoritative = reply.authoritative;
        metadata.truncation = reply.truncated || fitting.len() < reply.answers.len();
        metadata.response_code = reply.code;

        out.clear();
        let written = emit_message_parts(
            &metadata,
            &mut self.question.iter(),
            &mut fitting.iter(),
            &mut iter::empty::<&Record>(),
            &mut iter::empty::<&Record>(),
            edns.as_ref(),
            None,
            &mut BinEncoder::new(out),
        );
        // A question that was read can be written, and the records are ours: only a bug gets here.
        if written.is_err() {
            out.clear();
        }
    }

    /// How many of the answers fit beside the rest.
    fn fitting(&self, answers: &[Record], limit: u16) -> usize {
        let question = self.question.as_ref().map_or(0, |question| question.name().len() + 4);
        let opt = if self.payload.is_some() { OPT } else { 0 };
        let room = usize::from(limit) - HEADER - question - opt;
        let size = match answers.first().map(Record::record_type) {
            Some(RecordType::A) => RECORD + 4,
            Some(RecordType::AAAA) => RECORD + 16,
            // A single name beside its address's own name always fits.
            _ => return answers.len(),
        };
        answers.len().min(room / size)
    }
}

/// Whether `reply` answers `query`: the same ID and the same question, or no question beside an error.
pub fn answers(query: &[u8], reply: &[u8]) -> bool {
    let (mut query, mut reply) = (BinDecoder::new(query), BinDecoder::new(reply));
    let (Ok(asked), Ok(replied)) = (Header::read(&mut query), Header::read(&mut reply)) else { return false };
    if asked.metadata.id != replied.metadata.id || replied.metadata.message_type != MessageType::Response {
        return false;
    }
    match replied.counts.queries {
        0 => replied.metadata.response_code != ResponseCode::NoError,
        1 => {
            matches!((Question::read(&mut query), Question::read(&mut reply)), (Ok(asked), Ok(replied)) if asked == replied)
        }
        _ => false,
    }
}

/// Whether two queries are the same: ID and question.
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    let read = |message| {
        let mut message = BinDecoder::new(message);
        let header = Header::read(&mut message).ok()?;
        Some((header.metadata.id, Question::read(&mut message).ok()?))
    };
    read(one).is_some_and(|one| read(other) == Some(one))
}

/// The outcome that a reply's header gives.
pub fn code(reply: &[u8]) -> Option<ResponseCode> {
    Header::read(&mut BinDecoder::new(reply)).ok().map(|header| header.metadata.response_code)
}

/// Whether a reply holds an answer, or is cut short and has one for who asks over TCP.
pub fn has_answer(reply: &[u8]) -> bool {
    Header::read(&mut BinDecoder::new(reply))
        .is_ok_and(|header| header.counts.answers > 0 || header.metadata.truncation)
}

/// Gives a message another ID.
pub fn set_id(message: &mut [u8], id: [u8; 2]) {
    if let Some(place) = message.first_chunk_mut() {
        *place = id;
    }
}
