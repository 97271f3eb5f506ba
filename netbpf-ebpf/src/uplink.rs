//! Who may not come in: what other hosts send straight to addresses of a network that none of them may reach directly.
//!
//! The host's packet filter drops the same under the same names; here it costs no skb. So whatever is in doubt passes,
//! and the filter has the last word: what the trie does not hold, what is not for the host's own MAC (another machine's
//! behind a bridge, a group's), what the host would not forward into that very network (its own addresses, routes of
//! its own, a host that does not forward).

use netbpf_common::{network, reason::Reason, uplink::ClosedSubnet};

use crate::{maps, packet::Arrival, parse::Routed};

/// The closed subnet that the packet is for.
#[inline(always)]
pub fn closed(packet: &Routed) -> Option<ClosedSubnet> {
    maps::closed_subnet(packet.destination)
}

/// The frame has the MAC of the uplink that it came in by.
#[inline(always)]
pub fn is_for_the_host(arrival: &Arrival) -> Option<()> {
    let uplink = maps::uplink(arrival.ifindex())?;
    (arrival.destination()? == uplink.mac).then_some(())
}

/// Why the packet may not go where the host would send it.
#[inline(always)]
pub fn would_go_in(arrival: &Arrival, packet: &Routed, subnet: ClosedSubnet) -> Option<Reason> {
    if arrival.next_hop(packet)?.ifindex != network::ifindex_of(subnet.network) {
        return None;
    }
    Some(if subnet.internal == 0 { Reason::Unpublished } else { Reason::Internal })
}
