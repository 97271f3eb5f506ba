//! Sends a frame to all members of a network, and to the host if the host is not the sender.
//!
//! Members form a list through [`Endpoint::next`](netbpf_common::endpoint::Endpoint). A program walks a part
//! of the list, and continues in itself by a tail call; its state is in the frame's scratch memory. Each
//! receiver but the last gets a copy, the last one the frame itself: the host or, from the host, the last
//! member.
//!
//! If a member exceeds the limit of copies of its network, its frames to all are dropped for a while: copies
//! use the time of the CPU that makes them, which all containers share, and not the sender's. Copies are
//! counted after they are made, so a frame goes to all members or to none.
//!
//! The list may change meanwhile. The walk ends at an endpoint that was removed, or that another network uses
//! now: the frame then misses some members, but never reaches another network.

use netbpf_common::{endpoint, network::Network, reason::Reason};

use crate::{
    bridge::End,
    maps,
    packet::{self, Packet, Side},
    stats,
};

/// Members that one program serves. The kernel allows 32 tail calls after the first program: 8,448 members,
/// more than the maximum.
const MEMBERS: u32 = 256;

/// Scratch word: the next member's number.
const NEXT: usize = 0;
/// Scratch word: the network's number.
const NETWORK: usize = 1;
/// Scratch word: the ifindex of the member that is still to be served, because it may be the last; 0 for
/// none.
const WAITING: usize = 2;
/// Scratch word: the number of members so far, without the sender.
const COPIES: usize = 3;

/// Starts at a network's first member.
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

/// Checks that the sender has not used up its share of copies. The host has no limit.
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

/// Continues where the previous program ended.
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
            // In scratch memory at once: in a register, the verifier would distinguish all values.
            packet.set_note(COPIES, packet.note(COPIES) + 1);
        }
        next = endpoint.next;
    }
    packet.set_note(NEXT, next);
    packet.set_note(WAITING, waiting);
    maps::go_on_in_flood(packet);
    // The tail calls suffice for all members, but not for a circular list.
    Err(Reason::Failed)
}

/// Sends a copy to a member.
#[inline(always)]
fn serve(packet: &mut Packet, ifindex: u32) {
    if let Some(number) = endpoint::number_of(ifindex) {
        // A member whose device is down misses the frame; the others do not.
        if packet.clone_to(ifindex).is_ok() {
            stats::received(number, packet.len());
        }
    }
}

/// Sends the frame itself to the last receiver.
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
