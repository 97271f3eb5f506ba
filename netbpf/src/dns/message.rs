//! DNS messages: reads a query and writes a reply within a size limit. Pure; knows the protocol, but no names.

use std::iter;

use hickory_proto::{
    op::{
        Edns, Header, Message, MessageType, Metadata, OpCode, Query as Question, ResponseCode,
        emit_message_parts,
    },
    rr::{Record, RecordType},
    serialize::binary::{BinDecodable, BinDecoder, BinEncoder},
};

/// The UDP payload size without EDNS, in bytes (RFC 1035).
const SMALLEST_PAYLOAD: u16 = 512;
/// The largest UDP payload that netbpf sends, in bytes: it is never fragmented (DNS flag day 2020).
const LARGEST_PAYLOAD: u16 = 1232;
/// The length of a message header in bytes.
const HEADER: usize = 12;
/// The length of an OPT record without options, in bytes.
const OPT: usize = 11;
/// The length of a record without its data, in bytes; its name is a pointer to the question.
const RECORD: usize = 12;

/// The transport of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One message per datagram.
    Udp,
    /// Each message has its length before it.
    Tcp,
}

/// A parsed message.
#[derive(Debug)]
pub enum Received {
    /// Not a query, or shorter than a header: it gets no reply.
    Noise,
    /// An invalid query, which gets this error.
    Faulty(Envelope, ResponseCode),
    /// A valid query.
    Query(Envelope, Question),
}

/// The parts of a query that its reply repeats.
#[derive(Clone, Debug)]
pub struct Envelope {
    metadata: Metadata,
    question: Option<Question>,
    /// The UDP payload size in the client's OPT record.
    payload: Option<u16>,
}

/// The parts of a reply that are not in the query's envelope.
pub struct Reply<'a> {
    /// The outcome.
    pub code: ResponseCode,
    /// Whether the answer is authoritative (AA): netbpf is the source of the name.
    pub authoritative: bool,
    /// Whether the answer is truncated (TC).
    pub truncated: bool,
    /// Addresses, or a single record of another type.
    pub answers: &'a [Record],
}

impl Reply<'_> {
    /// A reply without answers.
    pub fn empty(code: ResponseCode) -> Self {
        Reply { code, authoritative: false, truncated: false, answers: &[] }
    }
}

/// Parses a message from a client.
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
    /// The largest reply from a server that the client accepts, in bytes.
    pub fn passed_on_limit(&self, transport: Transport) -> usize {
        match transport {
            Transport::Udp => self.payload.unwrap_or(SMALLEST_PAYLOAD).max(SMALLEST_PAYLOAD).into(),
            Transport::Tcp => u16::MAX.into(),
        }
    }

    /// Writes a reply to `out`, in place of its content. Leaves answers out that do not fit and sets TC then.
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
        // Cannot fail without a bug: the question was parsed before, and the records are netbpf's own.
        if written.is_err() {
            out.clear();
        }
    }

    /// How many of the answers fit into `limit` bytes.
    fn fitting(&self, answers: &[Record], limit: u16) -> usize {
        let question = self.question.as_ref().map_or(0, |question| question.name().len() + 4);
        let opt = if self.payload.is_some() { OPT } else { 0 };
        let room = usize::from(limit) - HEADER - question - opt;
        let size = match answers.first().map(Record::record_type) {
            Some(RecordType::A) => RECORD + 4,
            Some(RecordType::AAAA) => RECORD + 16,
            // A single name beside its own address always fits.
            _ => return answers.len(),
        };
        answers.len().min(room / size)
    }
}

/// Whether `reply` belongs to `query`: it has the same ID and question. An error may come without a question.
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

/// Whether two queries have the same ID and question.
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    let read = |message| {
        let mut message = BinDecoder::new(message);
        let header = Header::read(&mut message).ok()?;
        Some((header.metadata.id, Question::read(&mut message).ok()?))
    };
    read(one).is_some_and(|one| read(other) == Some(one))
}

/// The response code in a reply's header.
pub fn code(reply: &[u8]) -> Option<ResponseCode> {
    Header::read(&mut BinDecoder::new(reply)).ok().map(|header| header.metadata.response_code)
}

/// Whether a reply has an answer. A truncated one has: the client gets it over TCP.
pub fn has_answer(reply: &[u8]) -> bool {
    Header::read(&mut BinDecoder::new(reply))
        .is_ok_and(|header| header.counts.answers > 0 || header.metadata.truncation)
}

/// Replaces the ID of a message.
pub fn set_id(message: &mut [u8], id: [u8; 2]) {
    if let Some(place) = message.first_chunk_mut() {
        *place = id;
    }
}
