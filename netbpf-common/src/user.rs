//! `Pod` for the map types: they are `repr(C)`, contain integers only and have no padding (each has its size
//! checked).
#![expect(unsafe_code, reason = "Pod is an unsafe marker trait; this is its only place")]

use crate::{
    access, allowed, drops, endpoint, flood, flow, limit, name, network, notice, reason, stats, uplink,
};

macro_rules! pod {
    ($($type:ty),+ $(,)?) => {
        $(
            // SAFETY: repr(C), integers and byte arrays only, no padding: any bytes are a value and back.
            unsafe impl aya::Pod for $type {}
        )+
    };
}

pod!(
    access::FurtherKey,
    access::Further,
    access::Learnt,
    access::LearntOfKey,
    access::LearntMac,
    access::Learning,
    endpoint::Endpoint,
    endpoint::FdbKey,
    endpoint::Station,
    endpoint::NeighbourKey,
    endpoint::Neighbour,
    endpoint::OwnedKey,
    endpoint::Owned,
    flood::Flood,
    flow::FlowKey,
    flow::Flow,
    flow::FlowState,
    flow::Sender,
    limit::EgressLimit,
    drops::DropKey,
    drops::Drops,
    drops::Dropping,
    drops::Ticks,
    allowed::AllowedKey,
    allowed::Allowed,
    name::NameKey,
    name::Addresses,
    name::Pointer,
    name::Resolver,
    name::View,
    network::Network,
    notice::Noticed,
    reason::Reasons,
    stats::EndpointStats,
    uplink::ClosedSubnet,
    uplink::Uplink,
);
