//! Drops packets from other hosts to addresses of closed networks, which no other host may reach directly.
//!
//! The host's packet filter drops the same packets for the same reasons; XDP drops them before there is an
//! skb. So in doubt a packet passes, and the filter decides: if the trie does not contain its destination, if
//! the frame is not for the host's own MAC (but for another machine behind a bridge, or for a group), or if
//! the host would not forward it into that very network (because of its own addresses, other routes, or
//! forwarding being off).

use netbpf_common::{network, reason::Reason, uplink::ClosedSubnet};

use crate::{maps, packet::Arrival, parse::Routed};

/// The closed subnet of the packet's destination.
#[inline(always)]
pub fn closed(packet: &Routed) -> Option<ClosedSubnet> {
    maps::closed_subnet(packet.destination)
}

/// Checks that the destination MAC is that of the uplink.
#[inline(always)]
pub fn is_for_the_host(arrival: &Arrival) -> Option<()> {
    let uplink = maps::uplink(arrival.ifindex())?;
    (arrival.destination()? == uplink.mac).then_some(())
}

/// The reason to drop the packet, if the host would forward it into the closed network.
#[inline(always)]
pub fn would_go_in(arrival: &Arrival, packet: &Routed, subnet: ClosedSubnet) -> Option<Reason> {
    if arrival.next_hop(packet)?.ifindex != network::ifindex_of(subnet.network) {
        return None;
    }
    Some(if subnet.internal == 0 { Reason::Unpublished } else { Reason::Internal })
}
