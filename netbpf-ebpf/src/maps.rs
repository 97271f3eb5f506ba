//! The maps, and the only access to them: each function copies a value out or counts. Their layouts are in
//! netbpf-common; `bpftool map dump` prints them by field name.
//!
//! User space writes all but the counters. The hash maps preallocate (all but `OWNED`), so that an entry which is removed while a
//! program reads it stays readable memory; what was read is then the old value or the one that took its place, and
//! values are copied out in one go.
#![expect(unsafe_code, reason = "map values are raw pointers; this file copies them out or counts in them")]

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, ProgramArray, lpm_trie::Key},
    macros::btf_map,
};
use netbpf_common::{
    allowed::{Allowed, AllowedKey, MAX_ALLOWED},
    endpoint::{
        self, Endpoint, FdbKey, MAX_ENDPOINTS, MAX_STATIONS, Neighbour, NeighbourKey, Owned, OwnedKey,
        Station,
    },
    flood::Flood,
    network::{self, MAX_NETWORKS, Network},
    reason::{Reason, Reasons},
    stats::EndpointStats,
    uplink::{ADDRESS_BITS, ClosedSubnet, MAX_CLOSED_SUBNETS, MAX_UPLINKS, Uplink},
};

use crate::packet::Packet;

/// Networks by number.
#[btf_map]
static NETWORKS: Array<Network, { MAX_NETWORKS as usize }> = Array::new();

/// Endpoints by number.
#[btf_map]
static ENDPOINTS: Array<Endpoint, { MAX_ENDPOINTS as usize }> = Array::new();

/// Where a MAC is.
#[btf_map]
static FDB: HashMap<FdbKey, Station, { MAX_STATIONS as usize }> = HashMap::new();

/// Where a MAC probably is: a look at an array is a fraction of one at a hash.
#[btf_map]
static FDB_SLOTS: Array<Station, { endpoint::FDB_SLOTS as usize }> = Array::new();

/// Whose an address is.
#[btf_map]
static NEIGHBOURS: HashMap<NeighbourKey, Neighbour, { MAX_STATIONS as usize }> = HashMap::new();

/// Which endpoint of a container has an address. Few packets ask for it, so it takes no memory in advance.
#[btf_map]
static OWNED: HashMap<OwnedKey, Owned, { MAX_STATIONS as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// Who may ask whom on which port, where members do not talk to each other.
#[btf_map]
static ALLOWED: HashMap<AllowedKey, Allowed, { MAX_ALLOWED as usize }> = HashMap::new();

/// What became of all frames.
#[btf_map]
static REASONS: PerCpuArray<Reasons, 1> = PerCpuArray::new();

/// What endpoints received, and what of theirs was dropped.
#[btf_map]
static ENDPOINT_STATS: PerCpuArray<EndpointStats, { MAX_ENDPOINTS as usize }> = PerCpuArray::new();

/// What endpoints have spent of their share of copies.
#[btf_map]
static FLOODS: Array<Flood, { MAX_ENDPOINTS as usize }> = Array::new();

/// Which subnets nobody outside may reach directly.
#[btf_map]
static CLOSED_SUBNETS: LpmTrie<[u8; 16], ClosedSubnet, { MAX_CLOSED_SUBNETS as usize }> = LpmTrie::new();

/// Interfaces to other hosts that `from_uplink` is attached to.
#[btf_map]
static UPLINKS: HashMap<u32, Uplink, { MAX_UPLINKS as usize }> = HashMap::new();

/// The program `flood`, for tail calls.
#[btf_map]
static FLOOD: ProgramArray<1> = ProgramArray::new();

/// The endpoint with a number; none if vacant.
#[inline(always)]
pub fn endpoint(number: u32) -> Option<Endpoint> {
    ENDPOINTS.get(number).copied().filter(|endpoint| endpoint.ifindex != 0)
}

/// The network with a number; none if vacant.
#[inline(always)]
pub fn network(number: u32) -> Option<Network> {
    NETWORKS.get(number).copied().filter(|network| network.ifindex != 0)
}

/// Where a MAC is in a network.
#[inline(always)]
pub fn station(network: u32, mac: [u8; 6]) -> Option<Station> {
    if let Some(station) = FDB_SLOTS.get(FdbKey::slot(network, mac)).copied()
        && is_there(station, network, mac)
    {
        return Some(station);
    }
    let key = FdbKey { network, mac, reserved: [0; 2] };
    // SAFETY: preallocated, see above; copied out at once.
    unsafe { FDB.get(key).copied() }
}

/// Whether the station is the one with the MAC: what a slot says may be of another MAC, or of yesterday.
#[inline(always)]
fn is_there(station: Station, network: u32, mac: [u8; 6]) -> bool {
    if let Some(endpoint) = endpoint::number_of(station.ifindex).and_then(endpoint) {
        return endpoint.mac == mac && endpoint.network == network;
    }
    network::number_of(station.ifindex) == Some(network)
        && self::network(network).is_some_and(|network| network.mac == mac)
}

/// Who answers for an IPv4 address in a network.
#[inline(always)]
pub fn neighbour(network: u32, address: [u8; 4]) -> Option<Neighbour> {
    owner(&NeighbourKey::ipv4(network, address))
}

/// Who answers for an address.
#[inline(always)]
pub fn owner(address: &NeighbourKey) -> Option<Neighbour> {
    // SAFETY: preallocated, see above; copied out at once.
    unsafe { NEIGHBOURS.get(address).copied() }
}

/// The number of the endpoint that has the address for its container. The kernel may give the memory of an entry that is
/// removed to another one while it is read here: the caller compares with what the endpoint says.
#[inline(always)]
pub fn owned(key: &OwnedKey) -> Option<u32> {
    // SAFETY: any bytes are a number; copied out at once.
    unsafe { OWNED.get(key).map(|owned| owned.endpoint) }
}

/// Whether members that are kept apart may send each other this.
#[inline(always)]
pub fn is_allowed(key: &AllowedKey) -> bool {
    // SAFETY: preallocated, see above; nothing is kept of it.
    unsafe { ALLOWED.get(key).is_some() }
}

/// The closed subnet that an address is in. The trie frees a node only when no program can be reading it any more.
#[inline(always)]
pub fn closed_subnet(address: [u8; 16]) -> Option<ClosedSubnet> {
    CLOSED_SUBNETS.get(&Key::new(ADDRESS_BITS, address)).copied()
}

/// The uplink with an ifindex.
#[inline(always)]
pub fn uplink(ifindex: u32) -> Option<Uplink> {
    // SAFETY: preallocated, see above; copied out at once.
    unsafe { UPLINKS.get(ifindex).copied() }
}

/// Counts how a frame ended.
#[inline(always)]
pub fn count(reason: Reason, bytes: u64) {
    if let Some(reasons) = REASONS.get_ptr_mut(0) {
        // SAFETY: this CPU's own value; programs of one CPU do not interrupt each other.
        unsafe { (*reasons).of(reason) }.add(bytes);
    }
}

/// Counts a frame that a endpoint received.
#[inline(always)]
pub fn count_received(number: u32, bytes: u64) {
    if let Some(stats) = ENDPOINT_STATS.get_ptr_mut(number) {
        // SAFETY: this CPU's own value; programs of one CPU do not interrupt each other, and no reference outlives this.
        unsafe { (*stats).received.add(bytes) }
    }
}

/// Counts a frame that a endpoint sent and that was dropped.
#[inline(always)]
pub fn count_dropped(number: u32, bytes: u64) {
    if let Some(stats) = ENDPOINT_STATS.get_ptr_mut(number) {
        // SAFETY: as in `count_received`.
        unsafe { (*stats).dropped.add(bytes) }
    }
}

/// What a endpoint has spent of its share of copies.
#[inline(always)]
pub fn flood(number: u32) -> Option<Flood> {
    let flood = FLOODS.get_ptr(number)?;
    // SAFETY: one aligned word, which no CPU sees half written. Volatile, because others write there.
    Some(unsafe { flood.read_volatile() })
}

/// Sets it. Of two CPUs that do so at once one is not heard: the endpoint gets the copies of one frame for nothing.
#[inline(always)]
pub fn set_flood(number: u32, flood: Flood) {
    if let Some(place) = FLOODS.get_ptr_mut(number) {
        // SAFETY: as in `flood`.
        unsafe { place.write_volatile(flood) }
    }
}

/// Goes on in the program `flood`; comes back only if that failed.
#[inline(always)]
pub fn go_on_in_flood(packet: &Packet) {
    // SAFETY: nothing here waits to be dropped.
    unsafe { FLOOD.tail_call(packet.context(), 0) }
}
