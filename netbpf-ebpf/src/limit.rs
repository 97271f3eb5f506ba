//! Limits how much an endpoint sends, behind the queueing discipline of the container's interface, which shapes to less:
//! a container that may configure its interface can remove that. Frames of other endpoints are not delayed or dropped.

use netbpf_common::{
    access::LIMITED,
    endpoint::{self, Endpoint},
    reason::Reason,
};

use crate::{
    maps,
    packet::{self, Packet},
};

/// Checks that the endpoint has not reached its limit, if it has one.
#[inline(always)]
pub fn within(packet: &Packet, endpoint: &Endpoint) -> Result<(), Reason> {
    if endpoint.access & LIMITED == 0 {
        return Ok(());
    }
    match endpoint::number_of(packet.ifindex()) {
        Some(number) if !maps::spend(number, packet.len(), packet::now()) => Err(Reason::EgressLimit),
        Some(_) | None => Ok(()),
    }
}
