//! A frame for all members of a network, and for the host if it is not the host's.
//!
//! Members form a list through [`Port::next`](netbpf_common::endpoint::Port). A program walks a part of it and hands
//! over to itself by tail call; where it is stands in the frame's scratch memory. Each member but the last receiver
//! gets a copy, the last gets the frame itself: the host, or from the host the last member.
//!
//! The list may change meanwhile. A port that has left, or that another network has taken since, ends the walk: a
//! frame then misses some members, but none of them is in another network.

use netbpf_common::{endpoint, reason::Reason};

use crate::{
    bridge::End,
    maps,
    packet::{Packet, Side},
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

/// Begins with a network's first member.
#[inline(always)]
pub fn begin(packet: &mut Packet, network: u32) -> End {
    let first = maps::network(network).ok_or(Reason::Failed)?.first;
    packet.set_note(NEXT, first);
    packet.set_note(NETWORK, network);
    packet.set_note(WAITING, 0);
    maps::go_on_in_flood(packet);
    Err(Reason::Failed)
}

/// Goes on where the program before this one ended.
#[inline(always)]
pub fn go_on(packet: &mut Packet) -> End {
    let mut next = packet.note(NEXT);
    let mut waiting = packet.note(WAITING);
    let network = packet.note(NETWORK);
    let sender = packet.ifindex();
    for _ in 0..MEMBERS {
        let Some(port) = maps::port(next).filter(|port| port.network == network) else {
            return finish(packet, network, waiting);
        };
        if port.ifindex != sender {
            serve(packet, waiting);
            waiting = port.ifindex;
        }
        next = port.next;
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
    if endpoint::number_of(packet.ifindex()).is_some() {
        serve(packet, waiting);
        let host = maps::network(network).ok_or(Reason::Failed)?;
        packet.redirect(host.ifindex, Side::Receive)?;
    } else {
        packet.redirect(waiting, Side::Transmit)?;
        if let Some(number) = endpoint::number_of(waiting) {
            stats::received(number, packet.len());
        }
    }
    Ok(Reason::Flooded)
}

const _: () = assert!(endpoint::MAX_PORTS <= 33 * MEMBERS);
