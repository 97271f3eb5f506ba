//! The sentences: what happens to a frame, in the order of policy. No map, no byte offset and no verdict here.
//!
//! A step that ends a frame returns `Err` with the reason, good or bad; the last step returns its own. From a
//! container: only from its own addresses, and then, within its network only, to a group, to a member or to the host.
//! From the host: whatever it sends, except what it forwards from another network, or between members of a network
//! whose members are kept apart.

use netbpf_common::{
    access::{LIMITED, OPEN},
    endpoint::Endpoint,
    reason::Reason,
};

use crate::{
    arp, flow, forward, icc, interface, isolation, limit, names, nd, open,
    packet::{Arrival, Packet},
    parse, short,
    stats::End,
    uplink,
};

/// A frame that a container sent. Nearly all go the short way.
#[inline(always)]
pub fn from_container(packet: &mut Packet) -> End {
    short_way(packet).unwrap_or_else(|| short::leave(packet))
}

/// An IP packet to another member, from a member without any exception. None: something else, or something wrong.
#[inline(always)]
fn short_way(packet: &mut Packet) -> Option<End> {
    let endpoint = &interface::endpoint(packet).ok()?;
    short::is_usual(endpoint)?;
    let destination = short::own_packet(packet, endpoint)?;
    short::to_member(packet, endpoint, destination)
}

/// A frame that a container sent, with all rules.
#[inline(always)]
pub fn long_way(packet: &mut Packet) -> End {
    let endpoint = &interface::endpoint(packet)?;
    exceptional(packet, endpoint)?;
    let frame = parse::frame(packet)?;
    isolation::own_mac(endpoint, &frame)?;
    isolation::no_reserved_group(&frame)?;
    isolation::own_addresses(packet, endpoint, &frame)?;
    arp::of_container(packet, endpoint, &frame)?;
    nd::of_container(packet, endpoint, &frame)?;
    forward::from_container(packet, endpoint, &frame)
}

/// What few endpoints need, a limit or a program of their own. All others pay one test of a byte.
#[inline(always)]
fn exceptional(packet: &Packet, endpoint: &Endpoint) -> Result<(), Reason> {
    if endpoint.access & (LIMITED | OPEN) == 0 {
        return Ok(());
    }
    limit::within(packet, endpoint)?;
    open::elsewhere(packet, endpoint)
}

/// A frame of a container that may use more than its leases.
#[inline(always)]
pub fn from_open(packet: &mut Packet) -> End {
    let endpoint = &interface::endpoint(packet)?;
    let frame = parse::frame_as_is(packet)?;
    open::free_mac(packet, endpoint, &frame)?;
    isolation::no_reserved_group(&frame)?;
    open::free_addresses(packet, endpoint, &frame)?;
    open::learn(packet, endpoint, &frame);
    arp::of_open(packet, endpoint, &frame)?;
    let audience = nd::of_open(packet, endpoint, &frame)?;
    open::pass_on(packet, audience)
}

/// A frame of an open endpoint, or one to a MAC or an address that nobody leases: what it may say was checked before.
#[inline(always)]
pub fn to_open(packet: &mut Packet) -> End {
    let (network, sender) = open::network_of(packet)?;
    let frame = parse::frame_as_is(packet)?;
    forward::to_open(packet, network, sender.as_ref(), &frame)
}

/// A container's query to a name server behind the host: what it may say was checked before.
#[inline(always)]
pub fn answer_name(packet: &mut Packet) -> End {
    let endpoint = &interface::endpoint(packet)?;
    let frame = parse::frame_as_is(packet)?;
    names::answer(packet, endpoint, &frame)?;
    forward::to_the_host(packet, endpoint, &frame)
}

/// A container's packet to the host: what it may say was checked before.
#[inline(always)]
pub fn flow_out(packet: &mut Packet) -> End {
    let endpoint = &interface::endpoint(packet)?;
    let frame = parse::frame_as_is(packet)?;
    flow::out(packet, endpoint, &frame)?;
    forward::to_the_host(packet, endpoint, &frame)
}

/// A frame that the host sent to a network.
#[inline(always)]
pub fn from_host(packet: &mut Packet) -> End {
    let (number, ref network) = interface::network(packet)?;
    let frame = parse::frame(packet)?;
    isolation::not_from_another_network(packet, number)?;
    icc::not_from_a_member(packet, number, network, &frame)?;
    isolation::no_reserved_group(&frame)?;
    arp::of_host(packet, number, network, &frame)?;
    nd::of_host(packet, number, network, &frame)?;
    forward::from_host(packet, number, &frame)
}

/// A frame that another host sent: why it ends here, if it does.
#[inline(always)]
pub fn from_uplink(arrival: &Arrival) -> Option<Reason> {
    let packet = parse::routed(arrival)?;
    let subnet = uplink::closed(&packet)?;
    uplink::is_for_the_host(arrival)?;
    uplink::would_go_in(arrival, &packet, subnet)
}
