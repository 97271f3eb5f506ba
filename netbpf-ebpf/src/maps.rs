//! The maps, and the only access to them: each function copies a value out or counts. The layouts are in
//! netbpf-common; `bpftool map dump` prints entries with field names. Those with room for the usual number of networks or
//! endpoints are replaced by larger ones when there are more (`netbpf/src/datapath/room.rs`).
//!
//! User space writes everything except the counters and what is learnt. An entry that is
//! removed while a program reads it stays readable memory, preallocated or not. The program then reads the old
//! value or that of the next entry in its place. Values are copied out in one step.
#![expect(unsafe_code, reason = "map values are raw pointers; this file copies them out or counts in them")]

mod flows;
mod names;

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf, lpm_trie::Key},
    macros::btf_map,
};
use netbpf_common::{
    access::{
        self, Further, FurtherKey, Learning, Learnt, LearntMac, LearntOfKey, MAX_FURTHER, MAX_LEARNT,
        UNGUARDED,
    },
    allowed::{Allowed, AllowedKey, MAX_ALLOWED},
    bucket,
    drops::{DropKey, DroppedFrame, Dropping, Drops, MAX_DROPS, Ticks},
    endpoint::{self, Endpoint, FdbKey, Neighbour, NeighbourKey, Owned, OwnedKey, Station, USUAL_ENDPOINTS},
    flood::Flood,
    limit::EgressLimit,
    network::{self, Network, USUAL_NETWORKS},
    notice::{NOTICES_BYTES, Notice, Noticed},
    reason::{Reason, Reasons},
    stats::EndpointStats,
    uplink::{ADDRESS_BITS, ClosedSubnet, MAX_CLOSED_SUBNETS, MAX_UPLINKS, Uplink},
};

pub use self::flows::{KnownFlow, flow, flow_state, has_sent_enough, report_busy_flow};
pub use self::names::{Found, Known, Name, Resolver};
use crate::packet::Packet;

const STATIONS: usize = endpoint::stations(USUAL_ENDPOINTS) as usize;
const NEIGHBOURS_USUAL: usize = endpoint::neighbours(USUAL_NETWORKS, USUAL_ENDPOINTS) as usize;

/// Networks by number.
#[btf_map]
static NETWORKS: Array<Network, { USUAL_NETWORKS as usize }> = Array::new();

/// Endpoints by number.
#[btf_map]
static ENDPOINTS: Array<Endpoint, { USUAL_ENDPOINTS as usize }> = Array::new();

/// The interface of each MAC. Not preallocated, because few frames need it.
#[btf_map]
static FDB: HashMap<FdbKey, Station, STATIONS, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// Cache of `FDB`: an array lookup costs a fraction of a hash lookup.
#[btf_map]
static FDB_SLOTS: Array<Station, { endpoint::FDB_SLOTS as usize }> = Array::new();

/// The MAC of each IP address. Not preallocated: it has room for three addresses of each endpoint, and most have one.
#[btf_map]
static NEIGHBOURS: HashMap<NeighbourKey, Neighbour, NEIGHBOURS_USUAL, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// The endpoint of each address of a container. Few packets need it, so it is not preallocated.
#[btf_map]
static OWNED: HashMap<OwnedKey, Owned, STATIONS, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// Exceptions for networks whose members must not talk to each other.
#[btf_map]
static ALLOWED: HashMap<AllowedKey, Allowed, { MAX_ALLOWED as usize }> = HashMap::new();

/// Frames by the reason for which they ended.
#[btf_map]
static REASONS: PerCpuArray<Reasons, 1> = PerCpuArray::new();

/// Frames that endpoints received, and frames of endpoints that were dropped.
#[btf_map]
static ENDPOINT_STATS: PerCpuArray<EndpointStats, { USUAL_ENDPOINTS as usize }> = PerCpuArray::new();

/// The kinds of dropped frames, of which the kernel keeps the last.
#[btf_map]
static DROPS: LruHashMap<DropKey, Drops, { MAX_DROPS as usize }> = LruHashMap::new();

/// The frame that the program on this CPU is dropping.
#[btf_map]
static DROPPING: PerCpuArray<Dropping, 1> = PerCpuArray::new();

/// How many frames uplinks remembered in this tick of the clock.
#[btf_map]
static DROP_TICKS: PerCpuArray<Ticks, 1> = PerCpuArray::new();

/// Used share of copies of each endpoint.
#[btf_map]
static FLOODS: Array<Flood, { USUAL_ENDPOINTS as usize }> = Array::new();

/// The limit of each endpoint, and its used share.
#[btf_map]
static LIMITS: Array<EgressLimit, { USUAL_ENDPOINTS as usize }> = Array::new();

/// Subnets that other hosts may not reach directly.
#[btf_map]
static CLOSED_SUBNETS: LpmTrie<[u8; 16], ClosedSubnet, { MAX_CLOSED_SUBNETS as usize }> = LpmTrie::new();

/// Interfaces to other hosts where `from_uplink` is attached.
#[btf_map]
static UPLINKS: HashMap<u32, Uplink, { MAX_UPLINKS as usize }> = HashMap::new();

/// Subnets that endpoints may use besides their leases.
#[btf_map]
static FURTHER: LpmTrie<FurtherKey, Further, { MAX_FURTHER as usize }> = LpmTrie::new();

/// The endpoint of each MAC that was learnt. Few networks need it, so it is not preallocated; the same goes for
/// `LEARNT_OF`.
#[btf_map]
static LEARNT: HashMap<FdbKey, Learnt, { MAX_LEARNT as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// The MACs that were learnt of each endpoint.
#[btf_map]
static LEARNT_OF: HashMap<LearntOfKey, LearntMac, { MAX_LEARNT as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// How many MACs were learnt of each endpoint.
#[btf_map]
static LEARNING: Array<Learning, { USUAL_ENDPOINTS as usize }> = Array::new();

/// What the programs report to the daemon: [`Notice`]s. libbpf refuses a ring buffer with a type of values.
#[btf_map]
static NOTICES: RingBuf<(), { NOTICES_BYTES as usize }> = RingBuf::new();

/// How many notices there were of each endpoint in the last second.
#[btf_map]
static NOTICED: Array<Noticed, { USUAL_ENDPOINTS as usize }> = Array::new();

/// Programs for tail calls, by [`Program`].
#[btf_map]
static TAIL_CALLS: ProgramArray<8> = ProgramArray::new();

/// A program that others continue in.
#[repr(u32)]
#[derive(Clone, Copy)]
pub enum Program {
    /// `flood`.
    Flood = 0,
    /// `from_open`.
    FromOpen = 1,
    /// `to_open`.
    ToOpen = 2,
    /// `flood_open`.
    FloodOpen = 3,
    /// `answer_name`.
    AnswerName = 4,
    /// `flow_out`.
    FlowOut = 5,
    /// `remember`.
    Remember = 6,
    /// `long_way`.
    LongWay = 7,
}

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

/// The station with a MAC in a network.
#[inline(always)]
pub fn station(network: u32, mac: [u8; 6]) -> Option<Station> {
    if let Some(station) = station_in_slot(network, mac) {
        return Some(station);
    }
    let key = FdbKey { network, mac, reserved: [0; 2] };
    // SAFETY: any bytes are a value; copied out at once.
    unsafe { FDB.get(key).copied() }
}

/// The station with a MAC in a network, if it is in the cache.
#[inline(always)]
pub fn station_in_slot(network: u32, mac: [u8; 6]) -> Option<Station> {
    let station = FDB_SLOTS.get(FdbKey::slot(network, mac)).copied()?;
    is_there(station, network, mac).then_some(station)
}

/// Whether the station has the MAC: a slot may be for another MAC, or outdated.
#[inline(always)]
fn is_there(station: Station, network: u32, mac: [u8; 6]) -> bool {
    if let Some(endpoint) = endpoint::number_of(station.ifindex).and_then(endpoint) {
        return endpoint.mac == mac && endpoint.network == network;
    }
    network::number_of(station.ifindex) == Some(network)
        && self::network(network).is_some_and(|network| network.mac == mac)
}

/// The MAC of an IPv4 address in a network.
#[inline(always)]
pub fn neighbour(network: u32, address: [u8; 4]) -> Option<Neighbour> {
    owner(&NeighbourKey::ipv4(network, address))
}

/// The MAC of an IP address.
#[inline(always)]
pub fn owner(address: &NeighbourKey) -> Option<Neighbour> {
    // SAFETY: any bytes are a value; copied out at once.
    unsafe { NEIGHBOURS.get(address).copied() }
}

/// The number of the container's endpoint that has the address. The kernel may reuse the memory of a removed
/// entry while it is read here, so the caller must check the endpoint.
#[inline(always)]
pub fn owned(key: &OwnedKey) -> Option<u32> {
    // SAFETY: any bytes are a number; copied out at once.
    unsafe { OWNED.get(key).map(|owned| owned.endpoint) }
}

/// Whether there is an exception.
#[inline(always)]
pub fn is_allowed(key: &AllowedKey) -> bool {
    // SAFETY: preallocated, see above; nothing is kept of it.
    unsafe { ALLOWED.get(key).is_some() }
}

/// The closed subnet that contains an address. The trie frees a node only when no program can be reading it
/// any more.
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

/// Counts a frame that an endpoint received from another member.
#[inline(always)]
pub fn count_from_member(number: u32, bytes: u64) {
    if let Some(stats) = ENDPOINT_STATS.get_ptr_mut(number) {
        // SAFETY: this CPU's own value; programs of one CPU do not interrupt each other, and no reference outlives this.
        unsafe { (*stats).from_members.add(bytes) }
    }
}

/// Counts a frame that an endpoint received from the host.
#[inline(always)]
pub fn count_from_host(number: u32, bytes: u64) {
    if let Some(stats) = ENDPOINT_STATS.get_ptr_mut(number) {
        // SAFETY: as in `count_from_member`.
        unsafe { (*stats).from_host.add(bytes) }
    }
}

/// Counts a frame of an endpoint that went to the host alone, or past it to other hosts.
#[inline(always)]
pub fn count_to_host(number: u32, bytes: u64) {
    if let Some(stats) = ENDPOINT_STATS.get_ptr_mut(number) {
        // SAFETY: as in `count_from_member`.
        unsafe { (*stats).to_host.add(bytes) }
    }
}

/// Counts a dropped frame of an endpoint.
#[inline(always)]
pub fn count_dropped(number: u32, bytes: u64) {
    if let Some(stats) = ENDPOINT_STATS.get_ptr_mut(number) {
        // SAFETY: as in `count_from_member`.
        unsafe { (*stats).dropped.add(bytes) }
    }
}

/// This CPU's place for a frame that a program is dropping, with zeros.
#[inline(always)]
pub fn dropping() -> Option<&'static mut Dropping> {
    let place = DROPPING.get_ptr_mut(0)?;
    for word in 0..size_of::<Dropping>() / size_of::<u64>() {
        // SAFETY: this CPU's own value, as in `count_from_member`; all words are in it. Volatile, so that they do not become
        // a call of memset.
        unsafe { place.cast::<u64>().add(word).write_volatile(0) }
    }
    // SAFETY: the same; the program that drops a frame asks once, and ends then.
    Some(unsafe { &mut *place })
}

/// Remembers a dropped frame. If the kernel makes room for another kind meanwhile, that one gets the frame.
#[inline(always)]
pub fn remember(frame: &Dropping) {
    let Dropping { drops, key, .. } = frame;
    // If its kind is unknown, another CPU may add it at the same time.
    if !remember_again(frame) && DROPS.insert(key, drops, BPF_NOEXIST as u64).is_err() {
        remember_again(frame);
    }
}

/// The same for a frame of a kind that is known. False if it is not.
#[inline(always)]
fn remember_again(frame: &Dropping) -> bool {
    let Dropping { drops: one, key, .. } = frame;
    let Some(drops) = DROPS.get_ptr_mut(key) else { return false };
    let last = (&raw const one.last).cast::<u64>();
    // SAFETY: the kernel keeps the memory while a program runs. All words are in both values. If two CPUs write, the last
    // frame may be a mixture, but any bytes are a value. Volatile, because others write there.
    unsafe {
        add(&raw mut (*drops).frames, 1);
        for word in 0..size_of::<DroppedFrame>() / size_of::<u64>() {
            (&raw mut (*drops).last).cast::<u64>().add(word).write_volatile(last.add(word).read());
        }
    }
    true
}

/// Whether an uplink may remember one more frame in this tick of the clock.
#[inline(always)]
pub fn may_remember(tick: u32) -> bool {
    let Some(ticks) = DROP_TICKS.get_ptr_mut(0) else { return false };
    // SAFETY: this CPU's own value, as in `count_from_member`.
    let next = unsafe { *ticks }.and_one(tick);
    if let Some(next) = next {
        // SAFETY: the same.
        unsafe { *ticks = next };
    }
    next.is_some()
}

/// Used share of copies of an endpoint.
#[inline(always)]
pub fn flood(number: u32) -> Option<Flood> {
    let flood = FLOODS.get_ptr(number)?;
    // SAFETY: one aligned word, which no CPU sees half written. Volatile, because others write there.
    Some(unsafe { flood.read_volatile() })
}

/// Sets the used share of copies. If two CPUs do so at once, one of the values is lost: the copies of one
/// frame are not counted.
#[inline(always)]
pub fn set_flood(number: u32, flood: Flood) {
    if let Some(place) = FLOODS.get_ptr_mut(number) {
        // SAFETY: as in `flood`.
        unsafe { place.write_volatile(flood) }
    }
}

/// Adds the bytes of a frame to what an endpoint has sent. False: it has reached its limit.
///
/// Two CPUs at once are both counted; only after a pause of the endpoint may the bytes of one be lost.
#[inline(always)]
pub fn spend(number: u32, bytes: u32, now: u64) -> bool {
    let Some(limit) = LIMITS.get_ptr_mut(number) else { return true };
    // SAFETY: aligned words, which no CPU sees half written. Volatile or atomic, because others write there.
    unsafe {
        let rate = (&raw const (*limit).rate).read_volatile();
        if rate == 0 {
            return true;
        }
        let spent_until = &raw mut (*limit).spent_until;
        let spent = spent_until.read_volatile();
        if !bucket::has_room(spent, (&raw const (*limit).burst).read_volatile(), now) {
            return false;
        }
        let time = bucket::time_of(bytes, rate);
        if spent < now {
            spent_until.write_volatile(now + time);
        } else {
            add(spent_until, time);
        }
    }
    true
}

/// Adds to a number that other CPUs change at the same time. Rust has no atomic operations for eBPF; this one every
/// kernel has.
///
/// # Safety
/// The pointer is aligned, and points into a map value.
#[inline(always)]
unsafe fn add(number: *mut u64, more: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: as the caller says.
    unsafe {
        core::arch::asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) number, in(reg) more);
    }
    #[cfg(not(target_arch = "bpf"))]
    let _compiled_only = (number, more);
}

/// Reports something to the daemon, unless the endpoint has reported enough in this second, or the daemon has not read
/// for long. Two CPUs at once may report one more.
#[inline(always)]
pub fn notify(notice: Notice, now: u32) {
    let Some(place) = NOTICED.get_ptr_mut(notice.endpoint) else { return };
    // SAFETY: aligned words, which no CPU sees half written. Volatile, because others write there.
    let noticed = unsafe { place.read_volatile() };
    let Some(noticed) = noticed.and_one(notice.kind, now) else { return };
    // SAFETY: the same.
    unsafe { place.write_volatile(noticed) };
    let _full = NOTICES.output_untyped::<Notice>(notice, 0);
}

/// Continues in another program; returns only if that failed.
#[inline(always)]
pub fn go_on_in(program: Program, packet: &Packet) {
    // SAFETY: nothing here waits to be dropped.
    unsafe { TAIL_CALLS.tail_call(packet.context(), program as u32) }
}

/// Whether an address is in a subnet that the endpoint may use besides its leases. As with closed subnets, no
/// node is freed while a program may be reading it.
#[inline(always)]
pub fn is_further(endpoint: u32, address: [u8; 16], is_ipv4: bool) -> bool {
    let key = Key::new(access::ENDPOINT_BITS + ADDRESS_BITS, FurtherKey { endpoint, address });
    FURTHER.get(&key).is_some_and(|further| (further.family == 4) == is_ipv4)
}

/// The endpoint where a MAC was learnt. The kernel may reuse the memory of a removed entry while it is read
/// here, so the endpoint is compared with the network.
#[inline(always)]
pub fn learnt(key: &FdbKey, now: u32) -> Option<Endpoint> {
    // SAFETY: any bytes are a value; copied out at once.
    let learnt = unsafe { LEARNT.get(key).copied() }.filter(|learnt| learnt.is_fresh(now))?;
    let endpoint = endpoint(learnt.endpoint)?;
    let is_there = endpoint.network == key.network && endpoint.access & UNGUARDED != 0;
    is_there.then_some(endpoint)
}

/// Learns that the endpoint `number` has a MAC. Returns whether another endpoint had it. Costs a known MAC one lookup, and
/// a write once a second.
///
/// A MAC is in `LEARNT` together with one of its endpoint's places in `LEARNT_OF`. Two CPUs may choose the same place:
/// usually one of them takes it, and the other learns nothing from this frame. If one removes what the other has just
/// put there, that MAC stays in `LEARNT` without a place, until it moves or is too old.
#[inline(always)]
pub fn learn(key: &FdbKey, number: u32, now: u32) -> bool {
    let learnt = LEARNT.get_ptr_mut(key);
    if let Some(learnt) = learnt {
        // SAFETY: aligned words, which no CPU sees half written; the kernel keeps the memory while a program runs,
        // and if it is another entry's by now, that one is fresh, too. Volatile, because others write there.
        unsafe {
            if (&raw const (*learnt).endpoint).read_volatile() == number {
                if (&raw const (*learnt).seen).read_volatile() != now {
                    (&raw mut (*learnt).seen).write_volatile(now);
                }
                return false;
            }
        }
        let _gone = LEARNT.remove(key);
    }
    let has_moved = learnt.is_some();
    let Some(learning) = LEARNING.get_ptr_mut(number) else { return has_moved };
    // SAFETY: an aligned word, as above.
    let count = unsafe { (&raw const (*learning).count).read_volatile() };
    // User space must see that all places may be taken, however many MACs were learnt.
    let next = if count + 1 == 2 * access::MAX_LEARNT_OF_ENDPOINT {
        count + 1 - access::MAX_LEARNT_OF_ENDPOINT
    } else {
        count + 1
    };
    // SAFETY: the same.
    unsafe { (&raw mut (*learning).count).write_volatile(next) };
    let place = LearntOfKey { endpoint: number, place: count % access::MAX_LEARNT_OF_ENDPOINT };
    // SAFETY: any bytes are a value; copied out at once.
    if let Some(oldest) = unsafe { LEARNT_OF.get(place).copied() } {
        forget(&FdbKey { mac: oldest.mac, ..*key }, number);
        let _gone = LEARNT_OF.remove(place);
    }
    let mac = LearntMac { mac: key.mac, reserved: [0; 2] };
    if LEARNT_OF.insert(place, mac, BPF_NOEXIST.into()).is_ok() {
        let _known = LEARNT.insert(key, Learnt { endpoint: number, seen: now }, BPF_NOEXIST.into());
    }
    has_moved
}

/// Forgets a MAC, unless another endpoint has it by now.
#[inline(always)]
fn forget(key: &FdbKey, number: u32) {
    // SAFETY: any bytes are a value; copied out at once.
    if unsafe { LEARNT.get(key).is_some_and(|learnt| learnt.endpoint == number) } {
        let _gone = LEARNT.remove(key);
    }
}
