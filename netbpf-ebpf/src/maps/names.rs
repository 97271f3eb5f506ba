//! The maps of names: what a name is known to mean, and who looks it up where. Must not know DNS messages.
//!
//! A value is copied, and the copy counts if the key has the same entry afterwards: since Linux 6.1, the memory of an entry
//! that is removed or replaced can be another key's at once, also while a program reads it. A copy counts wrongly only if
//! the entry is replaced twice in that time, the second time by one in the same memory.
#![expect(unsafe_code, reason = "map values are raw pointers; this file copies them word by word")]

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{HashMap, PerCpuArray},
    macros::btf_map,
};
use netbpf_common::{
    endpoint::{Endpoint, USUAL_ENDPOINTS},
    name::{
        self, Addresses, MAX_ADDRESSES, MAX_NAME, MAX_NAMES, MAX_POINTER, MAX_RESOLVERS, MAX_VIEW, NameKey,
        Pointer, View, WITH_DOTS,
    },
    wire::{Bytes, EndOfQuestion},
};

/// The addresses of each name. Few networks have many, so it is not preallocated; the same goes for the next three.
#[btf_map]
static NAMES: HashMap<NameKey, Addresses, { MAX_NAMES as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// The name of each address.
#[btf_map]
static POINTERS: HashMap<NameKey, Pointer, { MAX_NAMES as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// The networks in which the names are looked up that a container asks another name server for.
#[btf_map]
static VIEWS: HashMap<u64, View, { USUAL_ENDPOINTS as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// How the queries of a container are answered at `lo`.
#[btf_map]
static RESOLVERS: HashMap<u32, name::Resolver, { MAX_RESOLVERS as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// The name that the program on this CPU looks up: it would take too much of its stack.
#[btf_map]
static ASKED: PerCpuArray<NameKey, 1> = PerCpuArray::new();

/// The copies of the values that the program on this CPU has found last: they would take too much of its stack.
#[btf_map]
static FOUND: PerCpuArray<Addresses, 1> = PerCpuArray::new();

/// The same for `POINTERS`.
#[btf_map]
static POINTED: PerCpuArray<Pointer, 1> = PerCpuArray::new();

/// The same for `RESOLVERS`.
#[btf_map]
static RESOLVER: PerCpuArray<name::Resolver, 1> = PerCpuArray::new();

/// The same for `VIEWS`.
#[btf_map]
static VIEW: PerCpuArray<View, 1> = PerCpuArray::new();

/// Copies a value to this CPU's place for it, and returns the place. None if `find` finds another entry afterwards.
#[inline(always)]
fn copy<T>(
    value: *const T,
    find: impl Fn() -> Option<*const T>,
    copies: &'static PerCpuArray<T, 1>,
) -> Option<*const T> {
    let place = copies.get_ptr_mut(0)?;
    for word in 0..size_of::<T>() / size_of::<u32>() {
        // SAFETY: an entry, whose memory the kernel keeps while a program runs, and this CPU's place, which no other program
        // of this CPU uses meanwhile, except with PREEMPT_RT: then the copy may be a mixture, but any bytes are a value. All
        // words are in both. Volatile, because others write to the entry.
        unsafe {
            let copied = value.cast::<u32>().add(word).read_volatile();
            place.cast::<u32>().add(word).write_volatile(copied);
        }
    }
    (find() == Some(value)).then_some(place.cast_const())
}

/// An entry of `NAMES`, which may be replaced.
#[derive(Clone, Copy)]
struct Entry {
    value: *const Addresses,
    /// How many addresses there are of each family, and whether there are more.
    counts: [u8; 4],
}

impl Entry {
    /// How many addresses there are for records of this type.
    #[inline(always)]
    fn count(self, kind: [u8; 2]) -> u8 {
        let [ipv4, ipv6, ..] = self.counts;
        match kind {
            EndOfQuestion::A => ipv4,
            EndOfQuestion::AAAA => ipv6,
            _ => 0,
        }
    }

    /// Whether there are more addresses than these.
    #[inline(always)]
    fn is_cut(self) -> bool {
        self.counts[2] != 0
    }
}

/// The addresses of a name.
pub struct Found(*const Addresses);

impl Found {
    /// How many IPv4 addresses there are.
    #[inline(always)]
    pub fn ipv4_count(&self) -> usize {
        // SAFETY: this CPU's copy; so it is for all that follow. Volatile, so that each is read once.
        let count = unsafe { (&raw const (*self.0).ipv4_count).read_volatile() };
        (count as usize).min(MAX_ADDRESSES)
    }

    /// How many IPv6 addresses there are.
    #[inline(always)]
    pub fn ipv6_count(&self) -> usize {
        // SAFETY: as above.
        let count = unsafe { (&raw const (*self.0).ipv6_count).read_volatile() };
        (count as usize).min(MAX_ADDRESSES)
    }

    /// The IPv4 address with this index modulo [`MAX_ADDRESSES`].
    #[inline(always)]
    pub fn ipv4(&self, index: usize) -> [u8; 4] {
        // SAFETY: as above, and the index is in the array.
        unsafe { (&raw const (*self.0).ipv4).cast::<[u8; 4]>().add(index % MAX_ADDRESSES).read_volatile() }
    }

    /// The IPv6 address with this index modulo [`MAX_ADDRESSES`].
    #[inline(always)]
    pub fn ipv6(&self, index: usize) -> [u8; 16] {
        // SAFETY: as above, and the index is in the array.
        unsafe { (&raw const (*self.0).ipv6).cast::<[u8; 16]>().add(index % MAX_ADDRESSES).read_volatile() }
    }
}

/// The name of an address.
pub struct Pointed(*const Pointer);

impl Pointed {
    /// Its length in bytes with the root's label; zero if only the responder can tell it.
    #[inline(always)]
    pub fn length(&self) -> usize {
        // SAFETY: as of `Found`.
        let length = unsafe { (&raw const (*self.0).length).read_volatile() };
        if length as usize > MAX_POINTER { 0 } else { length as usize }
    }

    /// Its labels; zeros follow.
    #[inline(always)]
    pub fn name(&self) -> &Bytes<MAX_POINTER> {
        // SAFETY: as of `Found`; the kernel copies it.
        unsafe { &*(&raw const (*self.0).name).cast() }
    }
}

/// What is known of a name.
pub enum Known {
    /// It has no records of the type.
    Nothing,
    /// It has addresses of the type.
    Addresses(Found),
    /// It is that of an address, and so is the type.
    Pointer(Pointed),
}

/// The resolver of a container.
pub struct Resolver(*const name::Resolver);

impl Resolver {
    /// That of the container with a filter of this class.
    #[inline(always)]
    pub fn of_class(class: u32) -> Option<Self> {
        let find = || RESOLVERS.get_ptr(class);
        // One that is replaced just now is there again.
        copy(find()?, find, &RESOLVER).or_else(|| copy(find()?, find, &RESOLVER)).map(Self)
    }

    /// The address that clients ask.
    #[inline(always)]
    pub fn address(&self) -> [u8; 4] {
        // SAFETY: as of `Found`, and so it is for those that follow.
        unsafe { (&raw const (*self.0).address).read_volatile() }
    }

    /// The port where the responder listens.
    #[inline(always)]
    pub fn port(&self) -> [u8; 2] {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).port).read_volatile() }
    }

    /// The network with this index in the order in which names are looked up.
    #[inline(always)]
    fn network(&self, index: usize) -> Option<u32> {
        // SAFETY: as above, and the index is in the array.
        let (count, network) = unsafe {
            let network = (&raw const (*self.0).networks).cast::<u32>().add(index % MAX_VIEW);
            ((&raw const (*self.0).count).read_volatile(), network.read_volatile())
        };
        (index < count as usize).then_some(network)
    }
}

/// A name that is put together and then looked up.
pub struct Name(*mut NameKey);

/// What a search in some networks has found.
enum Search {
    /// Addresses of the type, in the network that the name has now.
    Found(Entry),
    /// The name, without addresses of the type.
    Known,
    /// Not the name.
    Unknown,
    /// More addresses than fit in a map, or an entry that was replaced meanwhile.
    OfResponder,
}

impl Name {
    /// One to be put together. There is one at a time.
    #[inline(always)]
    pub fn new() -> Option<Self> {
        ASKED.get_ptr_mut(0).map(Self)
    }

    /// Sets eight of its bytes; `index` counts such words.
    #[inline(always)]
    pub fn set(&mut self, index: usize, word: [u8; 8]) {
        if index < MAX_NAME / 8 {
            // SAFETY: this CPU's own value, which no other program of this CPU uses meanwhile, except with PREEMPT_RT: then
            // the name may be a mixture, but it is always bytes. The index is in the array.
            unsafe { (&raw mut (*self.0).name).cast::<[u8; 8]>().add(index).write_unaligned(word) }
        }
    }

    /// The addresses of the name in the first network of the endpoint's container that has it. Without a view, that is
    /// the endpoint's own.
    #[inline(always)]
    pub fn addresses(&self, endpoint: &Endpoint) -> Option<Found> {
        let find = || VIEWS.get_ptr(endpoint.owner);
        let Some(view) = find() else { return self.found(self.entry(endpoint.network)?) };
        let view = copy(view, find, &VIEW)?;
        for index in 0..MAX_VIEW {
            // SAFETY: this CPU's copy; the index is in the array. Volatile, so that each is read once.
            let (count, network) = unsafe {
                let network = (&raw const (*view).networks).cast::<u32>().add(index);
                ((&raw const (*view).count).read_volatile(), network.read_volatile())
            };
            if index >= count as usize {
                break;
            }
            if let Some(entry) = self.entry(network) {
                return self.found(entry);
            }
        }
        None
    }

    /// What the responder knows of the name, which has `length` bytes, for records of this type; none if only the responder
    /// can tell. The order is the responder's, too: a name as a whole in any network, then a name with its network's.
    #[inline(always)]
    pub fn known_to(&self, resolver: &Resolver, length: usize, kind: [u8; 2]) -> Option<Known> {
        // SAFETY: as in `set`.
        let first = unsafe { (&raw const (*self.0).name).cast::<u8>().read_volatile() };
        let has_dots = (first as usize) + 1 < length;
        let is_known = match self.search(resolver, if has_dots { WITH_DOTS } else { 0 }, kind) {
            Search::Found(entry) => return self.found(entry).map(Known::Addresses),
            Search::OfResponder => return None,
            Search::Known => true,
            Search::Unknown => false,
        };
        if !has_dots {
            return is_known.then_some(Known::Nothing);
        }
        match self.search(resolver, 0, kind) {
            Search::Found(entry) => self.found(entry).map(Known::Addresses),
            Search::OfResponder => None,
            Search::Known => Some(Known::Nothing),
            Search::Unknown if is_known => Some(Known::Nothing),
            Search::Unknown => self.pointer(resolver, kind),
        }
    }

    #[inline(always)]
    fn search(&self, resolver: &Resolver, space: u32, kind: [u8; 2]) -> Search {
        let mut search = Search::Unknown;
        for index in 0..MAX_VIEW {
            let Some(network) = resolver.network(index) else { break };
            let Some(entry) = self.entry(network | space) else { continue };
            if entry.is_cut() || (entry.count(kind) == 0 && !self.is_still(entry)) {
                return Search::OfResponder;
            }
            if entry.count(kind) > 0 {
                return Search::Found(entry);
            }
            search = Search::Known;
        }
        search
    }

    #[inline(always)]
    fn pointer(&self, resolver: &Resolver, kind: [u8; 2]) -> Option<Known> {
        for index in 0..MAX_VIEW {
            let network = resolver.network(index)?;
            let find = || POINTERS.get_ptr(self.key(network));
            let Some(pointer) = find() else { continue };
            let pointed = Pointed(copy(pointer, find, &POINTED)?);
            return match (pointed.length(), kind) {
                (0, _) => None,
                (_, EndOfQuestion::PTR) => Some(Known::Pointer(pointed)),
                _ => Some(Known::Nothing),
            };
        }
        None
    }

    /// The entry of the name in a network.
    #[inline(always)]
    fn entry(&self, network: u32) -> Option<Entry> {
        let value = NAMES.get_ptr(self.key(network))?;
        // SAFETY: an entry, whose memory the kernel keeps while a program runs. Volatile, because others write there.
        let counts = unsafe { value.cast::<[u8; 4]>().read_volatile() };
        Some(Entry { value, counts })
    }

    /// The entry of the name in the network that was looked at last.
    #[inline(always)]
    fn last(&self) -> Option<*const Addresses> {
        // SAFETY: as in `set`; the kernel reads the key during a call.
        let key: &NameKey = unsafe { &*self.0 };
        NAMES.get_ptr(key)
    }

    /// Whether the entry that was looked at last is the name's still.
    #[inline(always)]
    fn is_still(&self, entry: Entry) -> bool {
        self.last() == Some(entry.value)
    }

    /// The addresses of the entry that was looked at last.
    #[inline(always)]
    fn found(&self, entry: Entry) -> Option<Found> {
        copy(entry.value, || self.last(), &FOUND).map(Found)
    }

    #[inline(always)]
    fn key(&self, network: u32) -> &NameKey {
        // SAFETY: as in `set`; the kernel reads the key during a call.
        unsafe {
            (*self.0).network = network;
            &*self.0
        }
    }
}
