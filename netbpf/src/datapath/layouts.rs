//! What maps are pinned, with which layouts. Reads no entries.

use aya::maps::{MapError, MapInfo, MapType};
use netbpf_common::{
    access::{Further as FurtherValue, Learning, Learnt, LearntMac, LearntOfKey, MAX_FURTHER, MAX_LEARNT},
    allowed::{Allowed, AllowedKey, MAX_ALLOWED},
    drops::{DropKey, Dropping, Drops, MAX_DROPS, Ticks},
    endpoint::{Endpoint, FDB_SLOTS, FdbKey, Neighbour, NeighbourKey, Owned, OwnedKey, Station},
    flood::Flood,
    flow::{BUSY_FLOWS_BYTES, Flow, FlowKey, FlowState, MAX_FLOWS, MAX_WAYS, SENDERS, Sender},
    limit::EgressLimit,
    name::{Addresses, MAX_NAMES, MAX_RESOLVERS, NameKey, Pointer, Resolver, View},
    network::Network,
    notice::{NOTICES_BYTES, Noticed},
    reason::Reasons,
    stats::EndpointStats,
    uplink::{ClosedSubnet, MAX_CLOSED_SUBNETS, MAX_UPLINKS, Uplink},
};

use super::{
    Error,
    pins::Pins,
    room::Room,
    tables::{Further, Prefix},
};

/// A pinned map: name, type, key size, value size, number of entries.
type Layout = (&'static str, MapType, usize, usize, fn(Room) -> u32);

/// The pinned maps as the programs' object declares them; some are larger if there are many networks or endpoints.
const LAYOUTS: &[Layout] = &[
    ("NETWORKS", MapType::Array, 4, size_of::<Network>(), |room| room.networks),
    ("ENDPOINTS", MapType::Array, 4, size_of::<Endpoint>(), |room| room.endpoints),
    ("FDB", MapType::Hash, size_of::<FdbKey>(), size_of::<Station>(), Room::stations),
    ("FDB_SLOTS", MapType::Array, 4, size_of::<Station>(), |_| FDB_SLOTS),
    ("NEIGHBOURS", MapType::Hash, size_of::<NeighbourKey>(), size_of::<Neighbour>(), Room::neighbours),
    ("OWNED", MapType::Hash, size_of::<OwnedKey>(), size_of::<Owned>(), Room::stations),
    ("ALLOWED", MapType::Hash, size_of::<AllowedKey>(), size_of::<Allowed>(), |_| MAX_ALLOWED),
    ("REASONS", MapType::PerCpuArray, 4, size_of::<Reasons>(), |_| 1),
    ("ENDPOINT_STATS", MapType::PerCpuArray, 4, size_of::<EndpointStats>(), |room| room.endpoints),
    ("DROPS", MapType::LruHash, size_of::<DropKey>(), size_of::<Drops>(), |_| MAX_DROPS),
    ("DROPPING", MapType::PerCpuArray, 4, size_of::<Dropping>(), |_| 1),
    ("DROP_TICKS", MapType::PerCpuArray, 4, size_of::<Ticks>(), |_| 1),
    ("FLOODS", MapType::Array, 4, size_of::<Flood>(), |room| room.endpoints),
    ("LIMITS", MapType::Array, 4, size_of::<EgressLimit>(), |room| room.endpoints),
    ("CLOSED_SUBNETS", MapType::LpmTrie, size_of::<Prefix>(), size_of::<ClosedSubnet>(), |_| {
        MAX_CLOSED_SUBNETS
    }),
    ("UPLINKS", MapType::Hash, 4, size_of::<Uplink>(), |_| MAX_UPLINKS),
    ("FURTHER", MapType::LpmTrie, size_of::<Further>(), size_of::<FurtherValue>(), |_| MAX_FURTHER),
    ("LEARNT", MapType::Hash, size_of::<FdbKey>(), size_of::<Learnt>(), |_| MAX_LEARNT),
    ("LEARNT_OF", MapType::Hash, size_of::<LearntOfKey>(), size_of::<LearntMac>(), |_| MAX_LEARNT),
    ("LEARNING", MapType::Array, 4, size_of::<Learning>(), |room| room.endpoints),
    ("NOTICES", MapType::RingBuf, 0, 0, |_| NOTICES_BYTES),
    ("NOTICED", MapType::Array, 4, size_of::<Noticed>(), |room| room.endpoints),
    ("NAMES", MapType::Hash, size_of::<NameKey>(), size_of::<Addresses>(), |_| MAX_NAMES),
    ("POINTERS", MapType::Hash, size_of::<NameKey>(), size_of::<Pointer>(), |_| MAX_NAMES),
    ("RESOLVERS", MapType::Hash, 4, size_of::<Resolver>(), |_| MAX_RESOLVERS),
    ("VIEWS", MapType::Hash, 8, size_of::<View>(), |room| room.endpoints),
    ("FLOW_WAYS", MapType::Hash, size_of::<FlowKey>(), 4, |_| MAX_WAYS),
    ("FLOWS", MapType::Array, 4, size_of::<Flow>(), |_| MAX_FLOWS),
    ("FLOW_STATE", MapType::Array, 4, size_of::<FlowState>(), |_| 1),
    ("SENDERS", MapType::Array, 4, size_of::<Sender>(), |_| SENDERS),
    ("BUSY_FLOWS", MapType::RingBuf, 0, 0, |_| BUSY_FLOWS_BYTES),
    ("TAIL_CALLS", MapType::ProgramArray, 4, 4, |_| 8),
];

/// The names of the maps that are pinned.
pub fn names() -> impl Iterator<Item = &'static str> {
    LAYOUTS.iter().map(|(name, ..)| *name)
}

/// The maps whose size depends on the room, with their number of entries.
pub fn sized(room: Room) -> impl Iterator<Item = (&'static str, u32)> {
    let is_sized = |(.., entries): &&Layout| entries(Room::usual()) != entries(Room::LARGEST);
    LAYOUTS.iter().filter(is_sized).map(move |(name, .., entries)| (*name, entries(room)))
}

/// How many entries a map can have.
pub fn capacity(map: &str) -> Option<u32> {
    LAYOUTS.iter().find(|(name, ..)| *name == map).map(|(.., entries)| entries(Room::LARGEST))
}

/// Refuses pinned maps that differ from the declaration. The loader would accept them, and the kernel would
/// then read and write beyond netbpf's values.
pub fn check_pinned(pins: &Pins) -> Result<(), Error> {
    for &(name, kind, key, value, entries) in LAYOUTS {
        for path in [pins.map(name), pins.former_map(name)] {
            if !path.exists() {
                continue;
            }
            let failed = |error: MapError| Error::failed("open", path.display(), error);
            let info = MapInfo::from_pin(&path).map_err(failed)?;
            let found =
                (info.map_type().map_err(failed)?, info.key_size(), info.value_size(), info.max_entries());
            let expected = |room| (kind, key as u32, value as u32, entries(room));
            if found != expected(Room::usual()) && found != expected(Room::LARGEST) {
                let difference = format!("expected {:?}, found {found:?}", expected(Room::usual()));
                return Err(Error::Foreign { path, difference, folder: pins.root().to_path_buf() });
            }
        }
    }
    Ok(())
}
