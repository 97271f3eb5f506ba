//! Names of containers: answers DNS queries for names in the networks of the container that asks. All other queries go on.
//!
//! There are two places for it: `on_the_way`, if a container asks a name server that netbpf does not choose, and `at_lo`,
//! if it asks netbpf's responder. A reply has the form that the responder gives it. The responder knows more: aliases of
//! links, other options of EDNS than a cookie, long names.

mod at_lo;
mod on_the_way;

use netbpf_common::{
    name::MAX_NAME,
    wire::{Bytes, DNS_PORT, DnsPacket, EndOfQuestion},
};

pub use self::{
    at_lo::resolve,
    on_the_way::{answer, elsewhere},
};
use crate::{maps::Name, packet::Packet};

/// A query with one question.
struct Query {
    header: DnsPacket,
    /// Offset of the UDP header in the frame. All others count from here.
    offset: usize,
    /// Offset of the name, in bytes.
    name: usize,
    /// Length of the name, in bytes, without the root.
    length: usize,
    /// The type of the records.
    kind: [u8; 2],
    /// Offset of what follows the question.
    rest: usize,
    /// The OPT record there.
    opt: Option<Bytes<11>>,
    /// Whether a cookie follows the OPT record.
    has_cookie: bool,
}

/// The query in a UDP datagram at `offset`, which ends at `end`; none if it is something else, or has what is not answered
/// here.
#[inline(always)]
fn query(packet: &Packet, offset: usize, end: usize) -> Option<Query> {
    let header = packet.load::<DnsPacket>(offset).ok()?;
    if header.destination != DNS_PORT || !header.is_query() {
        return None;
    }
    let length = u16::from_be_bytes(header.length) as usize;
    if offset + length != end {
        return None;
    }
    let (opt, has_cookie, tail) = match header.additionals {
        [0, 0] => (None, false, 0),
        _ => {
            let at = |tail: usize| packet.load::<Bytes<11>>(end.checked_sub(tail)?).ok();
            let (bare, with_cookie) = (size_of::<Bytes<11>>(), size_of::<Bytes<11>>() + Bytes::<11>::COOKIE);
            match at(bare).filter(|opt| opt.is_opt(0)) {
                Some(opt) => (Some(opt), false, bare),
                None => {
                    let opt = at(with_cookie).filter(|opt| opt.is_opt(Bytes::<11>::COOKIE as u8))?;
                    packet.load::<Bytes<12>>(end - Bytes::<11>::COOKIE).ok().filter(Bytes::is_cookie)?;
                    (Some(opt), true, with_cookie)
                }
            }
        }
    };
    let name = size_of::<DnsPacket>();
    // One byte of the end of the question is the name's.
    let rest = length.checked_sub(tail)?;
    let end_of_name = rest.checked_sub(size_of::<EndOfQuestion>() - 1)?;
    let length = end_of_name.checked_sub(name)?;
    if length == 0 || length > MAX_NAME {
        return None;
    }
    let question = packet.load::<EndOfQuestion>(offset + end_of_name - 1).ok()?;
    let query = Query { header, offset, name, length, kind: question.kind, rest, opt, has_cookie };
    question.is_valid().then_some(query)
}

/// Eight bytes of the name in lower case, zeros after its end. The length of a label is below any letter.
#[inline(always)]
fn word_of_name(packet: &Packet, query: &Query, index: usize) -> Option<[u8; 8]> {
    let start = query.offset + query.name;
    let word = match query.length.saturating_sub(8 * index) {
        0 => return Some([0; 8]),
        left if left >= 8 => u64::from_le_bytes(packet.load::<Bytes<8>>(start + 8 * index).ok()?.0),
        // The last eight bytes, without those before this word.
        left => {
            let last = packet.load::<Bytes<8>>(start + query.length - 8).ok()?.0;
            u64::from_le_bytes(last) >> ((8 * (8 - left as u32)) & 63)
        }
    };
    Some(lower(word).to_le_bytes())
}

/// ASCII letters in lower case, all eight at once.
#[inline(always)]
const fn lower(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * EACH);
    let from_a = low + (0x80 - b'A' as u64) * EACH;
    let after_z = low + (0x7f - b'Z' as u64) * EACH;
    let is_upper = (from_a ^ after_z) & !word & (0x80 * EACH);
    word | is_upper >> 2
}

/// The query's name, to be looked up.
#[inline(always)]
fn name(packet: &Packet, query: &Query) -> Option<Name> {
    let mut name = Name::new()?;
    for index in 0..MAX_NAME / 8 {
        name.set(index, word_of_name(packet, query, index)?);
    }
    Some(name)
}
