//! Answers queries to name servers behind the host. All other queries go on unchanged.
//!
//! Some containers ask a name server that netbpf does not choose: that of an engine, which passes on what it does not
//! know. The reply has the addresses of the first network that has the name. Names of addresses, a container's own names
//! with dots and queries over TCP go on.

use netbpf_common::{
    access::ASKS,
    checksum::{removed, sum, sum_at, updated},
    endpoint::Endpoint,
    name::{MAX_ADDRESSES, TTL},
    reason::Reason,
    wire::{
        AddressPair, Bytes, DNS_PORT, DnsPacket, EndOfQuestion, Ethernet, Ipv4, Ipv4Start, Ipv6, Ipv6Start,
        Transport, Wire, protocol,
    },
};

use super::{Query, name, query};
use crate::{
    maps::{self, Program},
    packet::{self, Packet, Side},
    parse::{Content, Frame},
};

/// Continues in the program `answer_name` if an endpoint that asks so sends a datagram to a name server. Returns
/// otherwise.
#[inline(always)]
pub fn elsewhere(packet: &Packet, endpoint: &Endpoint, frame: &Frame) {
    if endpoint.access & ASKS != 0
        && let Some((offset, _)) = datagram(packet, frame)
        && packet.load::<Transport>(offset).is_ok_and(|ports| ports.destination == DNS_PORT)
    {
        maps::go_on_in(Program::AnswerName, packet);
    }
}

/// Answers a query for a name in the networks of the endpoint's container. `Ok` if it is none: the frame is to be passed
/// on.
#[inline(always)]
pub fn answer(packet: &mut Packet, endpoint: &Endpoint, frame: &Frame) -> Result<(), Reason> {
    let Some((offset, end)) = datagram(packet, frame) else { return Ok(()) };
    let Some(query) = query(packet, offset, end) else { return Ok(()) };
    let found = name(packet, &query).and_then(|name| name.addresses(endpoint));
    let Some(found) = found else { return Ok(()) };
    // A known name has no records of other types.
    let (count, size) = match query.kind {
        EndOfQuestion::A => (found.ipv4_count(), size_of::<Bytes<16>>()),
        EndOfQuestion::AAAA => (found.ipv6_count(), size_of::<Bytes<28>>()),
        _ => (0, 0),
    };
    let end_of_records = query.rest + count * size;
    let length = end_of_records + if query.opt.is_some() { size_of::<Bytes<11>>() } else { 0 };
    let Some(mut difference) = without_rest(packet, &query) else { return Ok(()) };
    // The kernel may have no memory for it. Nothing was changed so far.
    if packet.resize(query.offset + length).is_err() {
        return Ok(());
    }

    let first = packet::random_below(count as u32) as usize;
    for place in 0..MAX_ADDRESSES {
        if place >= count {
            break;
        }
        let index = if first + place < count { first + place } else { first + place - count };
        let at = query.offset + query.rest + place * size;
        difference += match query.kind {
            EndOfQuestion::A => put(packet, at, &Bytes::ipv4_record(TTL, found.ipv4(index)))?,
            _ => put(packet, at, &Bytes::ipv6_record(TTL, found.ipv6(index)))?,
        };
    }
    if let Some(opt) = query.opt {
        difference += put(packet, query.offset + end_of_records, &opt.opt_of_reply())?;
    }

    // Records have an even length, so all of this is at even or at odd offsets.
    let difference = sum_at(query.rest, difference);
    let reply = query.header.reply(count as u16, length as u16);
    send_back(packet, frame, &query, &reply, difference)?;
    Err(Reason::AnsweredName)
}

/// Offset and end of a UDP datagram that is not fragmented, and has no IP options.
#[inline(always)]
fn datagram(packet: &Packet, frame: &Frame) -> Option<(usize, usize)> {
    match frame.content {
        Content::Ipv4 => {
            let ipv4 = packet.load::<Ipv4Start>(frame.offset).ok()?;
            let is_whole = u16::from_be_bytes(ipv4.fragment) & 0x3fff == 0;
            let is_one = ipv4.version_ihl == 0x45 && ipv4.protocol == protocol::UDP && is_whole;
            let end = frame.offset + u16::from_be_bytes(ipv4.total_length) as usize;
            is_one.then_some((frame.offset + size_of::<Ipv4>(), end))
        }
        Content::Ipv6 => {
            let ipv6 = packet.load::<Ipv6Start>(frame.offset).ok()?;
            let offset = frame.offset + size_of::<Ipv6>();
            let end = offset + u16::from_be_bytes(ipv6.payload_length) as usize;
            (ipv6.next_header == protocol::UDP).then_some((offset, end))
        }
        Content::Arp | Content::Other => None,
    }
}

/// What the checksum's data lose with all that follows the question, as if it were at an even offset.
#[inline(always)]
fn without_rest(packet: &Packet, query: &Query) -> Option<u32> {
    let Some(opt) = query.opt else { return Some(0) };
    let opt = removed(sum(&opt.0));
    if !query.has_cookie {
        return Some(opt);
    }
    let cookie = packet.load::<Bytes<12>>(query.offset + query.rest + size_of::<Bytes<11>>()).ok()?;
    // It begins at an odd offset.
    Some(opt + removed(sum_at(1, sum(&cookie.0))))
}

/// Writes a record. Returns its sum.
#[inline(always)]
fn put<const N: usize>(packet: &mut Packet, at: usize, record: &Bytes<N>) -> Result<u32, Reason>
where
    Bytes<N>: Wire,
{
    packet.store(at, record)?;
    Ok(sum(&record.0))
}

/// Writes the headers of a reply, and sends the frame back. `difference` is that of all that follows the question.
#[inline(always)]
fn send_back(
    packet: &mut Packet,
    frame: &Frame,
    query: &Query,
    reply: &DnsPacket,
    difference: u32,
) -> Result<(), Reason> {
    let header = &query.header;
    let length = removed(sum(&header.length)) + sum(&reply.length);
    let flags = removed(sum(&header.flags)) + sum(&reply.flags);
    let answers = sum(&reply.answers);
    packet.store(query.offset, reply)?;
    packet.change_checksum(
        query.offset + DnsPacket::CHECKSUM,
        difference + length + flags + answers,
        length,
        true,
    )?;

    let Ethernet { destination, source, ethertype } = packet.load(0)?;
    packet.store(0, &Ethernet { destination: source, source: destination, ethertype })?;
    match frame.content {
        Content::Ipv4 => {
            let before = packet.load::<Ipv4Start>(frame.offset)?;
            let headers = (query.offset - frame.offset) as u16;
            let total_length = (headers + u16::from_be_bytes(reply.length)).to_be_bytes();
            let difference = removed(sum(&before.total_length)) + sum(&total_length);
            let checksum = updated(before.checksum, difference);
            packet.store(frame.offset, &Ipv4Start { total_length, checksum, ..before })?;
            swap_addresses::<4>(packet, frame.offset + size_of::<Ipv4Start>())?;
        }
        _ => {
            let before = packet.load::<Ipv6Start>(frame.offset)?;
            packet.store(frame.offset, &Ipv6Start { payload_length: reply.length, ..before })?;
            swap_addresses::<16>(packet, frame.offset + size_of::<Ipv6Start>())?;
        }
    }
    packet.redirect(packet.ifindex(), Side::Transmit)
}

#[inline(always)]
fn swap_addresses<const N: usize>(packet: &mut Packet, offset: usize) -> Result<(), Reason>
where
    AddressPair<N>: Wire,
{
    let addresses = packet.load::<AddressPair<N>>(offset)?;
    packet.store(offset, &addresses.swapped())
}
