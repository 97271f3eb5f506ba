//! Sends a frame to all members of a network or to some ([`Audience`]), and to the host if the host is not the sender.
//!
//! Members form a list through [`Endpoint::next`](netbpf_common::endpoint::Endpoint). A program walks a part
//! of the list, and continues in itself by a tail call; its state is in the frame's scratch memory. Each
//! receiver but the last gets a copy, the last one the frame itself: the host or, from the host, the last
//! member.
//!
//! If a member exceeds the limit of copies of its network, its frames to all are dropped for a while: copies
//! use the time of the CPU that makes them, which all containers share, and not the sender's. Copies are
//! counted after they are made, so a frame goes to all members or to none. A frame whose source MAC was
//! last seen at another endpoint costs a part of that limit beside its copies, because in a loop MACs move in each round.
//!
//! The list may change meanwhile. The walk ends at an endpoint that was removed, or that another network uses
//! now: the frame then misses some members, but never reaches another network.

use netbpf_common::{
    access::{OPEN, UNGUARDED},
    endpoint::{self, Endpoint},
    network::Network,
    notice::Notice,
    reason::Reason,
};

use crate::{
    maps::{self, Program},
    packet::{self, Packet, Side},
    stats::{self, End, Peer},
};

/// Members that one program serves. Every kernel allows 32 tail calls after the first program, and three of them may
/// lead to the first flood: 29 programs serve 8,352 members, more than the maximum.
const MEMBERS: u32 = 288;

/// Scratch word: the next member's number.
const NEXT: usize = 0;
/// Scratch word, until a flood begins: 1 if the MAC of a sender without guard was another endpoint's until now.
const MOVED: usize = NEXT;
/// Scratch word: the network's number.
const NETWORK: usize = 1;
/// Scratch word: the ifindex of the member that is still to be served, because it may be the last; 0 for
/// none.
const WAITING: usize = 2;
/// Scratch word: the number of members so far, without the sender.
const COPIES: usize = 3;
/// Scratch word: the [`Audience`].
const AUDIENCE: usize = 4;

/// Who a frame is for, by bits of [`access`](netbpf_common::access): all members and the host, or fewer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Audience(u32);

impl Audience {
    /// Everybody.
    pub const ALL: Self = Self(Self::ANY);
    /// Those who may have an address that no lease tells: open endpoints and the host.
    pub const OPEN: Self = Self(OPEN as u32);
    /// Endpoints without guard: who may have a MAC that no map has, and who may believe a router.
    pub const UNGUARDED: Self = Self(UNGUARDED as u32 | Self::NO_HOST);

    /// Bit that every endpoint has.
    const ANY: u32 = 1 << 7;
    /// Bit: the host is left out.
    const NO_HOST: u32 = 1 << 8;

    /// The same without the host.
    #[inline(always)]
    pub const fn without_host(self) -> Self {
        Self(self.0 | Self::NO_HOST)
    }

    /// Whether an endpoint with these bits of access belongs to it.
    #[inline(always)]
    const fn has(self, access: u8) -> bool {
        self.0 & (access as u32 | Self::ANY) != 0
    }

    /// The audience that another program chose.
    #[inline(always)]
    pub fn of(packet: &Packet) -> Self {
        Self(packet.note(AUDIENCE))
    }

    /// Tells the next program.
    #[inline(always)]
    pub fn keep(self, packet: &mut Packet) {
        packet.set_note(AUDIENCE, self.0);
    }
}

/// Notes whether the MAC of a sender without guard was another endpoint's until now.
#[inline(always)]
pub fn note_move(packet: &mut Packet, has_moved: bool) {
    packet.set_note(MOVED, u32::from(has_moved));
}

/// Whether [`note_move`] noted a move. Only for frames of endpoints without guard.
#[inline(always)]
pub fn has_moved(packet: &Packet) -> bool {
    packet.note(MOVED) != 0
}

/// Starts at a network's first member.
#[inline(always)]
pub fn begin(packet: &mut Packet, network: u32, audience: Audience) -> End {
    begin_after(packet, network, audience, false)
}

/// The same for a frame whose source MAC may have been last seen at another endpoint. In a loop, that is so in each round.
#[inline(always)]
pub fn begin_after(packet: &mut Packet, network: u32, audience: Audience, has_moved: bool) -> End {
    let Network { first, flood_copies, .. } = maps::network(network).ok_or(Reason::Failed)?;
    may_begin(packet, flood_copies, has_moved)?;
    packet.set_note(NEXT, first);
    packet.set_note(NETWORK, network);
    packet.set_note(WAITING, 0);
    packet.set_note(COPIES, 0);
    audience.keep(packet);
    continue_in(packet, audience)
}

/// Continues in the program for the audience. Frames to everybody have one of their own, which chooses nobody.
///
/// The tail calls suffice for all members, but not for a circular list.
#[inline(always)]
fn continue_in(packet: &Packet, audience: Audience) -> End {
    match audience == Audience::ALL {
        true => maps::go_on_in(Program::Flood, packet),
        false => maps::go_on_in(Program::FloodOpen, packet),
    }
    Err(Reason::Failed)
}

/// Checks that the sender has not used up its share of copies, and reports it otherwise. The host has no limit.
#[inline(always)]
fn may_begin(packet: &Packet, rate: u32, has_moved: bool) -> Result<(), Reason> {
    if rate == 0 {
        return Ok(());
    }
    let Some(endpoint) = endpoint::number_of(packet.ifindex()) else { return Ok(()) };
    let Some(flood) = maps::flood(endpoint) else { return Ok(()) };
    let now = packet::now();
    if !flood.may_begin(now) {
        let notice = Notice { kind: Notice::FLOOD_LIMIT, endpoint, ..Notice::default() };
        maps::notify(notice, packet::seconds());
        return Err(Reason::FloodLimit);
    }
    if has_moved {
        maps::set_flood(endpoint, flood.and_move(now));
    }
    Ok(())
}

/// Continues where the previous program ended.
#[inline(always)]
pub fn go_on(packet: &mut Packet) -> End {
    match walk(packet, |_, _| true) {
        Walk::Ended => finish(packet),
        Walk::Paused => continue_in(packet, Audience::ALL),
    }
}

/// The same for a part of the network.
#[inline(always)]
pub fn go_on_in_open(packet: &mut Packet) -> End {
    // Read anew each time: if it stayed in a register, the verifier would distinguish its values.
    let walk = walk(packet, |packet, endpoint| Audience::of(packet).has(endpoint.access));
    match (walk, endpoint::number_of(packet.ifindex())) {
        (Walk::Paused, _) => continue_in(packet, Audience::OPEN),
        (Walk::Ended, Some(sender)) if packet.note(AUDIENCE) & Audience::NO_HOST != 0 => {
            charge(packet, sender)?;
            to_last(packet)
        }
        (Walk::Ended, _) => finish(packet),
    }
}

/// Whether the list has ended.
enum Walk {
    Ended,
    /// There is more than one program serves.
    Paused,
}

/// Serves the next members; the last one, so far, waits.
#[inline(always)]
fn walk(packet: &mut Packet, is_for: impl Fn(&Packet, &Endpoint) -> bool) -> Walk {
    let mut next = packet.note(NEXT);
    let mut waiting = packet.note(WAITING);
    let network = packet.note(NETWORK);
    let sender = packet.ifindex();
    for _ in 0..MEMBERS {
        let Some(endpoint) = maps::endpoint(next).filter(|endpoint| endpoint.network == network) else {
            packet.set_note(WAITING, waiting);
            return Walk::Ended;
        };
        if endpoint.ifindex != sender && is_for(packet, &endpoint) {
            serve(packet, waiting);
            waiting = endpoint.ifindex;
            // In scratch memory at once: in a register, the verifier would distinguish all values.
            packet.set_note(COPIES, packet.note(COPIES) + 1);
        }
        next = endpoint.next;
    }
    packet.set_note(NEXT, next);
    packet.set_note(WAITING, waiting);
    Walk::Paused
}

/// Sends a copy to a member.
#[inline(always)]
fn serve(packet: &mut Packet, ifindex: u32) {
    if let Some(number) = endpoint::number_of(ifindex) {
        // A member whose device is down misses the frame; the others do not.
        if packet.clone_to(ifindex).is_ok() {
            stats::received(number, packet.len(), Peer::of(packet));
        }
    }
}

/// Sends the frame itself to the last receiver: the host or, from the host, the last member.
#[inline(always)]
fn finish(packet: &mut Packet) -> End {
    let Some(sender) = endpoint::number_of(packet.ifindex()) else { return to_last(packet) };
    let waiting = packet.note(WAITING);
    serve(packet, waiting);
    let host = charge(packet, sender)?;
    packet.redirect(host, Side::Receive)?;
    Ok(Reason::Flooded)
}

/// Sends the frame itself to the member that waits.
#[inline(always)]
fn to_last(packet: &mut Packet) -> End {
    let waiting = packet.note(WAITING);
    packet.redirect(waiting, Side::Transmit)?;
    match endpoint::number_of(waiting) {
        Some(number) => {
            stats::received(number, packet.len(), Peer::of(packet));
            Ok(Reason::Flooded)
        }
        // From the host to an empty network; it gets no error.
        None if endpoint::number_of(packet.ifindex()).is_none() => Ok(Reason::Flooded),
        None => Err(Reason::UnknownDestination),
    }
}

/// Adds the copies to the sender's used share. Returns the host device.
#[inline(always)]
fn charge(packet: &Packet, sender: u32) -> Result<u32, Reason> {
    let host = maps::network(packet.note(NETWORK)).ok_or(Reason::Failed)?;
    if host.flood_copies != 0
        && let Some(flood) = maps::flood(sender)
    {
        maps::set_flood(sender, flood.and(packet.note(COPIES), host.flood_copies, packet::now()));
    }
    Ok(host.ifindex)
}

const _: () = assert!(endpoint::MAX_MEMBERS <= 29 * MEMBERS);
