//! Who sent a frame: an ifindex is an index into the maps, so nothing is searched.

use netbpf_common::{
    endpoint::{self, Port},
    network::{self, Network},
    reason::Reason,
};

use crate::{maps, packet::Packet};

/// The port that the program runs at.
#[inline(always)]
pub fn sender(packet: &Packet) -> Result<Port, Reason> {
    endpoint::number_of(packet.ifindex()).and_then(maps::port).ok_or(Reason::UnknownPort)
}

/// The network whose host device the program runs at, with its number.
#[inline(always)]
pub fn network(packet: &Packet) -> Result<(u32, Network), Reason> {
    let number = network::number_of(packet.ifindex()).ok_or(Reason::UnknownPort)?;
    Ok((number, maps::network(number).ok_or(Reason::UnknownPort)?))
}
