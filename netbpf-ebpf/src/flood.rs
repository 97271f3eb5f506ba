//! A frame for all members of a network, and for the host if it is not the host's.
//!
//! Members form a list through [`Endpoint::next`](netbpf_common::endpoint::Endpoint). A program walks a part of it and hands
//! over to itself by tail call; where it is stands in the frame's scratch memory. Each member but the last receiver
//! gets a copy, the last gets the frame itself: the host, or from the host the last member.
//!
//! A member that has more copies made than its network allows has its frames to all dropped for a while: a copy costs
//! the CPU that makes it, whose queue all containers share, and not the one that sent the frame. Copies are counted when
//! they are made, so a frame goes to all members or to none.
//!
//! The list may change meanwhile. A endpoint that has left, or that another network has taken since, ends the walk: a
//! frame then misses some members, but none of them is in another network.

use netbpf_common::{endpoint, network::Network, reason::Reason};

use crate::{
    bridge::End,
    maps,
    packet::{self, Packet, Side},
    stats,
};

/// Members that one program serves. The kernel allows 32 tail calls after the first: 8,448 members, all that there
/// can be.
const MEMBERS: u32 = 256;

/// The next member's number.
const NEXT: usize = 0;
/// The network's number.
const NETWORK: usize = 1;
/// A member that still waits for the frame, because it may be the last; 0 for none.
const WAITING: usize = 2;
/// How many members have been met, but for the sender.
const COPIES: usize = 3;

/// Begins with a network's first member.
#[inline(always)]
pub fn begin(packet: &mut Packet, network: u32) -> End {
    let Network { first, flood_copies, .. } = maps::network(network).ok_or(Reason::Failed)?;
    may_begin(packet, flood_copies)?;
    packet.set_note(NEXT, first);
    packet.set_note(NETWORK, network);
    packet.set_note(WAITING, 0);
    packet.set_note(COPIES, 0);
    maps::go_on_in_flood(packet);
    Err(Reason::Failed)
}

/// The sender has not spent its share of copies. The host may make any number.
#[inline(always)]
fn may_begin(packet: &Packet, rate: u32) -> Result<(), Reason> {
    if rate == 0 {
        return Ok(());
    }
    match endpoint::number_of(packet.ifindex()).and_then(maps::flood) {
        Some(flood) if !flood.may_begin(packet::now()) => Err(Reason::FloodLimit),
        Some(_) | None => Ok(()),
    }
}

/// Goes on where the program before this one ended.
#[inline(always)]
pub fn go_on(packet: &mut Packet) -> End {
    let mut next = packet.note(NEXT);
    let mut waiting = packet.note(WAITING);
    let network = packet.note(NETWORK);
    let sender = packet.ifindex();
    for _ in 0..MEMBERS {
        let Some(endpoint) = maps::endpoint(next).filter(|endpoint| endpoint.network == network) else {
            return finish(packet, network, waiting);
        };
        if endpoint.ifindex != sender {
            serve(packet, waiting);
            waiting = endpoint.ifindex;
            // In the note at once: in a register the verifier would tell each number from the others.
            packet.set_note(COPIES, packet.note(COPIES) + 1);
        }
        next = endpoint.next;
    }
    packet.set_note(NEXT, next);
    packet.set_note(WAITING, waiting);
    maps::go_on_in_flood(packet);
    // More members than tail calls reach cannot be; a list that runs in a circle could.
    Err(Reason::Failed)
}

/// A copy for a member.
#[inline(always)]
fn serve(packet: &mut Packet, ifindex: u32) {
    if let Some(number) = endpoint::number_of(ifindex) {
        // A member whose device is down misses the frame; the others do not.
        if packet.clone_to(ifindex).is_ok() {
            stats::received(number, packet.len());
        }
    }
}

/// The frame itself for the last receiver.
#[inline(always)]
fn finish(packet: &mut Packet, network: u32, waiting: u32) -> End {
    if let Some(sender) = endpoint::number_of(packet.ifindex()) {
        serve(packet, waiting);
        let host = maps::network(network).ok_or(Reason::Failed)?;
        if host.flood_copies != 0
            && let Some(flood) = maps::flood(sender)
        {
            maps::set_flood(sender, flood.and(packet.note(COPIES), host.flood_copies, packet::now()));
        }
        packet.redirect(host.ifindex, Side::Receive)?;
    } else {
        packet.redirect(waiting, Side::Transmit)?;
        if let Some(number) = endpoint::number_of(waiting) {
            stats::received(number, packet.len());
        }
    }
    Ok(Reason::Flooded)
}

const _: () = assert!(endpoint::MAX_ENDPOINTS <= 33 * MEMBERS);
