//! Finds the endpoint or network of the interface that a program runs at. Its ifindex is an index into the
//! maps, so nothing has to be searched.

use netbpf_common::{
    endpoint::{self, Endpoint},
    network::{self, Network},
    reason::Reason,
};

use crate::{maps, packet::Packet};

/// The endpoint whose host side the program runs at: the one that sent the frame.
#[inline(always)]
pub fn endpoint(packet: &Packet) -> Result<Endpoint, Reason> {
    endpoint::number_of(packet.ifindex()).and_then(maps::endpoint).ok_or(Reason::UnknownEndpoint)
}

/// The network whose host device the program runs at, with its number.
#[inline(always)]
pub fn network(packet: &Packet) -> Result<(u32, Network), Reason> {
    let number = network::number_of(packet.ifindex()).ok_or(Reason::UnknownEndpoint)?;
    Ok((number, maps::network(number).ok_or(Reason::UnknownEndpoint)?))
}
