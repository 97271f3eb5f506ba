//! Loads the eBPF programs, attaches them to interfaces, and keeps their maps.
//!
//! | file | owns |
//! |---|---|
//! | `host` | requirements on the host: privileges, kernel, bpffs |
//! | `pins` | paths of pins |
//! | `room` | how many networks and endpoints the maps have room for: replaces maps |
//! | `folders` | directories of pins: creates, lists and removes them |
//! | `programs` | loading and attaching |
//! | `attach` | which interface gets which program |
//! | `uplinks` | the XDP program at uplinks, and the subnets that it closes |
//! | `layouts` | which maps are pinned, and their layouts |
//! | `tables` | typed access to the maps |
//! | `entries` | the map entries of one host device or endpoint |
//! | `stations` | who has a MAC or an address: writes and removes such entries |
//! | `older` | pins of a netbpf with other map layouts |
//! | `external` | changes by others: detached programs, added addresses |
//! | `mend` | makes the maps consistent after a crash |
//! | `members` | the lists of members for broadcasts |
//! | `limits` | limits of what endpoints send |
//! | `open` | further subnets and learnt MACs of open endpoints |
//! | `aged` | removes learnt MACs that are too old |
//! | `names` | names of containers, which the programs answer |
//! | `resolvers` | how queries of containers are answered at `lo` |
//! | `flows` | established flows that skip the host's stack |
//! | `notices` | what the programs report |
//! | `counters` | what the programs counted |
//! | `judge` | asks the programs what becomes of a frame |
//! | `exceptions` | which members may talk to each other in spite of `enable_icc=false` |
//! | `logs` | log lines of the programs, if enabled |
//!
//! Everything is pinned, so packets are forwarded while no daemon runs. [`Datapath::open`] reads the pinned state and
//! repairs what a crash left half done. Interfaces are created elsewhere and named here; their ifindexes must follow
//! from the number of their network or endpoint. All calls are synchronous and short. Must not know containers, the
//! store or the API.

mod aged;
mod attach;
mod counters;
mod entries;
mod error;
mod exceptions;
mod external;
mod flows;
mod folders;
mod host;
mod judge;
mod layouts;
mod limits;
mod logs;
mod members;
mod mend;
mod names;
mod notices;
mod older;
mod open;
mod pins;
mod programs;
mod resolvers;
mod room;
mod stations;
mod tables;
mod uplinks;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use ipnet::IpNet;
use netbpf_common::{
    access::OPEN,
    allowed::AllowedKey,
    endpoint::{self, Endpoint, MAX_ENDPOINTS, NO_ENDPOINT, OwnedKey},
    limit::EgressLimit,
    network::{self, MAX_NETWORKS, Network},
};

pub use self::{
    aged::LearntMacs,
    counters::MapFill,
    error::Error,
    external::RestoredPins,
    flows::{BusyFlows, Shortcut, has_netfilter_program},
    host::Attachment,
    judge::{Judge, Judged, Sender},
    logs::ProgramLogs,
    names::NamesInNetwork,
    notices::Notices,
    programs::PROGRAMS,
    resolvers::LoadedProgram,
    uplinks::{UplinkDevice, XdpProgram},
};
use self::{
    entries::{Claim, Entries},
    flows::Flows,
    members::Before,
    names::{Names, OF_ASKING},
    older::Older,
    pins::Pins,
    programs::{Programs, Role},
    resolvers::{AT_LO, Resolvers},
    room::{Former, Room},
    tables::{PinnedMaps, Tables},
};
use crate::plan::{Closed, EndpointEntry, NetworkEntry};

/// The loaded programs and their maps, with a copy of the maps in memory: nothing else writes them.
pub struct Datapath {
    pins: Pins,
    room: Room,
    has_logs: bool,
    older: Older,
    /// The directory of the pins, by device and inode.
    folder: (u64, u64),
    programs: Programs,
    maps: PinnedMaps,
    tables: Tables,
    networks: BTreeMap<u32, Network>,
    endpoints: BTreeMap<u32, Endpoint>,
    allowed: BTreeSet<AllowedKey>,
    /// The ifindex that has a MAC or an address.
    claims: HashMap<Claim, u32>,
    /// The endpoint that has an address of its container.
    owned: HashMap<OwnedKey, u32>,
    /// The further subnets of each endpoint that has some.
    further: BTreeMap<u32, BTreeSet<IpNet>>,
    /// The limits of endpoints that have one.
    limits: BTreeMap<u32, EgressLimit>,
    /// The open members of each network.
    open: HashMap<u32, BTreeSet<u32>>,
    /// The predecessor of each endpoint in its network's list.
    before: HashMap<u32, Before>,
    /// The closed subnets of each network.
    closed: BTreeMap<u32, Closed>,
    attached: BTreeSet<String>,
    /// The interface that was checked last of those.
    checked: String,
    /// Addresses that others added to host devices, by network.
    given: BTreeMap<u32, BTreeSet<std::net::IpAddr>>,
    logs: Option<ProgramLogs>,
    notices: Option<Notices>,
    names: Names,
    resolvers: Resolvers,
    flows: Flows,
}

/// State in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Networks by number.
    pub networks: BTreeMap<u32, NetworkEntry>,
    /// Endpoints by number.
    pub endpoints: BTreeMap<u32, EndpointEntry>,
    /// Interfaces that have their program.
    pub attached: BTreeSet<String>,
}

impl Datapath {
    /// Loads the programs with the maps that are pinned below `bpffs`, and replaces older programs wherever
    /// they are attached. A failure leaves no new pins.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Folder`] or [`Error::Foreign`], each with its remedy;
    /// [`Error::Failed`] if the kernel refuses a program, a map or an attachment.
    pub fn open(bpffs: &Path, program_logs: bool) -> Result<Self, Error> {
        Self::prepare(bpffs)?;
        let pins = Pins::below(bpffs);
        let is_new = !pins.root().exists();
        Self::load(pins, program_logs).inspect_err(|_| {
            if is_new && let Err(error) = Self::unpin_all(bpffs) {
                tracing::warn!("{error}");
            }
        })
    }

    fn load(pins: Pins, program_logs: bool) -> Result<Self, Error> {
        let folder = pins.make_folders()?;
        layouts::check_pinned(&pins)?;
        let room = Room::for_pinned(&pins)?;
        let all_pins = pins.clone();
        let mut former = Former::new(&all_pins);
        former.set_aside(room)?;
        let mut programs = Programs::load(&pins, program_logs, room)?;
        let maps = PinnedMaps::open(&pins)?;
        let logs = if program_logs { Some(ProgramLogs::take(programs.object())?) } else { None };
        let notices = Some(Notices::take(programs.object())?);
        let mut tables = Tables::take(programs.object(), room)?;
        former.copy_to(&mut tables)?;
        let names = Names::take(programs.object())?;
        let resolvers = Resolvers::take(programs.object())?;
        let flows = Flows::take(programs.object())?;
        let networks = tables.networks()?.into_iter().collect();
        let endpoints = tables.endpoints()?.into_iter().collect();
        let allowed = tables.allowed()?;
        let further = tables.further()?;
        let limits = tables.limits()?;
        let mut datapath = Self {
            pins,
            room,
            has_logs: program_logs,
            folder,
            older: Older::default(),
            programs,
            maps,
            tables,
            networks,
            endpoints,
            allowed,
            claims: HashMap::new(),
            owned: HashMap::new(),
            further,
            limits,
            open: HashMap::new(),
            before: HashMap::new(),
            closed: BTreeMap::new(),
            attached: BTreeSet::new(),
            checked: String::new(),
            given: BTreeMap::new(),
            logs,
            notices,
            names,
            resolvers,
            flows,
        };
        for (number, endpoint) in datapath.endpoints.clone() {
            datapath.note_open(number, &endpoint);
        }
        datapath.mend()?;
        datapath.attach_all()?;
        former.forget()?;
        datapath.programs.forget_unneeded()?;
        datapath.older = Older::beside(&datapath.pins)?;
        Ok(datapath)
    }

    /// How programs are attached on this kernel.
    pub fn attachment(&self) -> Attachment {
        self.programs.attachment()
    }

    /// Loads the programs that nothing needs so far, to look at them.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses a program or a pin.
    pub fn load_all(&mut self) -> Result<(), Error> {
        self.programs.need(&programs::OF_OPEN)?;
        self.programs.need(&OF_ASKING)?;
        if self.can_shortcut() {
            self.load_flow_programs()?;
        }
        self.programs.need(&[AT_LO, programs::FROM_UPLINK])
    }

    /// Writes or overwrites a network; its endpoints stay.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::Taken`] or the error of a map: what was written is undone.
    pub fn write_network(&mut self, number: u32, entry: &NetworkEntry) -> Result<(), Error> {
        in_range("network", number, MAX_NETWORKS)?;
        self.make_room(Some(number), None)?;
        let ifindex = network::ifindex_of(number);
        let mut network = Network { ifindex, first: NO_ENDPOINT, ..entry.network };
        let present = self.networks.get(&number).copied();
        if let Some(present) = present {
            network.first = present.first;
            network.open = present.open;
        }
        let entries = Entries::of_network(number, &network);
        let closed = self.closed(number);
        self.not_taken(number, &entries)?;
        let written = match present {
            Some(present) if present != network => self.forget(&Entries::of_network(number, &present)),
            Some(_) | None => Ok(()),
        };
        let written = written
            .and_then(|()| self.set_network(number, network))
            .and_then(|()| self.enter(&entries))
            .and_then(|()| self.close(number, entry.closed));
        written.inspect_err(|_| {
            warn(self.close(number, closed));
            let undone = self.forget(&entries).and_then(|()| match present {
                Some(present) => {
                    self.set_network(number, present)?;
                    self.enter(&Entries::of_network(number, &present))
                }
                None => self.vacate_network(number),
            });
            warn(undone);
        })
    }

    /// Attaches `from_host` to a network's host device.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::WrongInterface`]; [`Error::Failed`] if there is none, or the kernel refuses.
    pub fn attach_host_device(&mut self, number: u32, interface: &str) -> Result<(), Error> {
        in_range("network", number, MAX_NETWORKS)?;
        self.attach(Role::HostDevice, interface, network::ifindex_of(number))
    }

    /// Removes a network without endpoints. Delete its host device before: without the program it passes all frames.
    ///
    /// # Errors
    /// [`Error::NetworkInUse`]: nothing was changed. [`Error::Failed`] of a map or of the program: call it again.
    pub fn remove_network(&mut self, number: u32, interface: Option<&str>) -> Result<(), Error> {
        if self.endpoints.values().any(|endpoint| endpoint.network == number) {
            return Err(Error::NetworkInUse(number));
        }
        if let Some(network) = self.networks.get(&number).copied() {
            self.close(number, Closed::default())?;
            self.tables.forget_drops(|key| key.network == number)?;
            self.answer_for(number, &BTreeSet::new())?;
            self.forget(&Entries::of_network(number, &network))?;
            self.vacate_network(number)?;
        }
        self.detach_if_known(Role::HostDevice, interface)
    }

    /// Writes or overwrites an endpoint. One with another network, MAC or address loses its exceptions
    /// ([`Datapath::set_allowed`]).
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::UnknownNetwork`], [`Error::Taken`]: nothing was changed. The error of a map: what
    /// was written is undone.
    pub fn write_endpoint(&mut self, number: u32, entry: impl Into<EndpointEntry>) -> Result<(), Error> {
        in_range("endpoint", number, MAX_ENDPOINTS)?;
        self.make_room(None, Some(number))?;
        let EndpointEntry { endpoint, further, limit } = entry.into();
        let (before, limit_before) = (self.further_of(number), self.limit_of(number));
        self.exchange_further(number, &before, &further)?;
        let written = self.set_limit(number, limit).and_then(|()| self.write_entry(number, &endpoint));
        written.inspect_err(|_| {
            warn(self.set_limit(number, limit_before));
            warn(self.exchange_further(number, &further, &before));
        })
    }

    fn write_entry(&mut self, number: u32, entry: &Endpoint) -> Result<(), Error> {
        if !self.networks.contains_key(&entry.network) {
            return Err(Error::UnknownNetwork(entry.network));
        }
        let ifindex = endpoint::ifindex_of(number);
        let endpoint = Endpoint { ifindex, next: NO_ENDPOINT, ..*entry };
        let entries = Entries::of_endpoint(&endpoint);
        self.not_taken(entry.network, &entries)?;
        // One that is in no list was removed, except for its entry.
        let is_listed = self.before.contains_key(&number);
        let Some(present) = self.endpoints.get(&number).copied().filter(|_| is_listed) else {
            return self.add_endpoint(number, endpoint).inspect_err(|_| warn(self.clear_endpoint(number)));
        };
        let same = Endpoint { next: present.next, ..endpoint };
        if present == same {
            return self.enter(&entries);
        }
        if present == (Endpoint { owner: present.owner, access: present.access, ..same }) {
            let changed = self.change_endpoint(number, present, same);
            return changed.inspect_err(|_| warn(self.change_endpoint(number, same, present)));
        }
        let allowed = self.exceptions_of(number);
        let replaced = self.clear_endpoint(number).and_then(|()| self.add_endpoint(number, endpoint));
        replaced.inspect_err(|_| {
            let undone = self
                .clear_endpoint(number)
                .and_then(|()| self.add_endpoint(number, present))
                .and_then(|()| allowed.iter().try_for_each(|key| self.allow(*key)));
            warn(undone);
        })
    }

    /// Adds an endpoint with a number that none has. If that fails, [`Datapath::clear_endpoint`] undoes it.
    fn add_endpoint(&mut self, number: u32, endpoint: Endpoint) -> Result<(), Error> {
        let network = endpoint.network;
        // The entry is written before it becomes the head of the list: a broadcast sees a complete list at any time.
        let next = self.networks.get(&network).map_or(NO_ENDPOINT, |network| network.first);
        if endpoint.access & OPEN != 0 {
            self.begin_open(network)?;
        }
        self.tables.reset_endpoint_stats(number)?;
        // Of another endpoint that had the number.
        self.tables.forget_drops(|key| key.ifindex == endpoint.ifindex)?;
        self.set_endpoint(number, Endpoint { next, ..endpoint })?;
        self.set_first(network, number)?;
        self.enter(&Entries::of_endpoint(&endpoint))
    }

    /// Attaches `from_container` to an endpoint's host side.
    ///
    /// # Errors
    /// [`Error::OutOfRange`], [`Error::WrongInterface`]; [`Error::Failed`] if there is none, or the kernel refuses.
    pub fn attach_endpoint(&mut self, number: u32, interface: &str) -> Result<(), Error> {
        in_range("endpoint", number, MAX_ENDPOINTS)?;
        self.attach(Role::Endpoint, interface, endpoint::ifindex_of(number))
    }

    /// Removes an endpoint. Delete its interface before: without the program, all its frames reach the host.
    ///
    /// # Errors
    /// [`Error::Failed`] of a map or of the program: call it again.
    pub fn remove_endpoint(&mut self, number: u32, interface: Option<&str>) -> Result<(), Error> {
        self.clear_endpoint(number)?;
        self.exchange_further(number, &self.further_of(number), &BTreeSet::new())?;
        self.set_limit(number, EgressLimit::default())?;
        self.detach_if_known(Role::Endpoint, interface)
    }

    /// Removes the pins of a netbpf with other map layouts. The new programs must be attached everywhere.
    ///
    /// # Errors
    /// [`Error::Failed`] if a directory cannot be removed: the next start tries again.
    pub fn forget_older(&mut self) -> Result<(), Error> {
        self.older.forget()
    }

    /// Clears an endpoint: first the entries that lead to it, then its place in the list, then itself.
    fn clear_endpoint(&mut self, number: u32) -> Result<(), Error> {
        let Some(endpoint) = self.endpoints.get(&number).copied() else {
            // What an earlier call could not do after that.
            return self.settle_open_programs();
        };
        self.forget(&Entries::of_endpoint(&endpoint))?;
        // Another endpoint may soon get its number.
        self.forget_learnt(number, &endpoint)?;
        self.exceptions_of(number).into_iter().try_for_each(|key| self.disallow(key))?;
        match self.before.get(&number).copied() {
            Some(Before::Network(network)) => self.set_first(network, endpoint.next)?,
            Some(Before::Endpoint(before)) => {
                if let Some(before_it) = self.endpoints.get(&before).copied() {
                    self.set_endpoint(before, Endpoint { next: endpoint.next, ..before_it })?;
                }
            }
            None => {}
        }
        // It is in no list any more, also if its entry cannot be cleared.
        self.before.remove(&number);
        self.vacate_endpoint(number)?;
        self.settle_open(endpoint.network)
    }

    fn set_first(&mut self, number: u32, first: u32) -> Result<(), Error> {
        let network = *self.networks.get(&number).ok_or(Error::UnknownNetwork(number))?;
        self.set_network(number, Network { first, ..network })
    }

    fn set_network(&mut self, number: u32, network: Network) -> Result<(), Error> {
        let present = self.networks.get(&number);
        if present.is_some_and(|present| network != Network { first: network.first, ..*present }) {
            self.flows.end_all()?;
        }
        self.tables.set_network(number, network)?;
        self.networks.insert(number, network);
        self.before.insert(network.first, Before::Network(number));
        Ok(())
    }

    fn set_endpoint(&mut self, number: u32, endpoint: Endpoint) -> Result<(), Error> {
        let present = self.endpoints.get(&number);
        if present.is_none_or(|present| endpoint != Endpoint { next: endpoint.next, ..*present }) {
            self.flows.end_of(number)?;
        }
        self.tables.set_endpoint(number, endpoint)?;
        self.note_open(number, &endpoint);
        let former = self.endpoints.insert(number, endpoint);
        self.before.insert(endpoint.next, Before::Endpoint(number));
        // Last: if it fails, the endpoint is known, and can be cleared.
        self.note_asking(number, former, &endpoint)
    }

    fn vacate_network(&mut self, number: u32) -> Result<(), Error> {
        self.flows.end_all()?;
        self.tables.set_network(number, Network::default())?;
        self.networks.remove(&number);
        Ok(())
    }

    fn vacate_endpoint(&mut self, number: u32) -> Result<(), Error> {
        self.flows.end_of(number)?;
        self.tables.set_endpoint(number, Endpoint::default())?;
        self.before.remove(&number);
        self.note_asking(number, self.endpoints.get(&number).copied(), &Endpoint::default())?;
        let Some(endpoint) = self.endpoints.remove(&number) else { return Ok(()) };
        self.note_open(number, &Endpoint { access: 0, ..endpoint });
        if self.networks.get(&endpoint.network).is_some_and(|network| network.first == endpoint.next) {
            // The endpoint pointed to the first one, but was not the head of the list yet.
            self.before.insert(endpoint.next, Before::Network(endpoint.network));
        }
        Ok(())
    }
}

fn in_range(what: &'static str, number: u32, most: u32) -> Result<(), Error> {
    if number < most { Ok(()) } else { Err(Error::OutOfRange { what, number, most }) }
}

/// Logs a failed undo. The caller returns the first error; the next start repairs the maps.
fn warn(undone: Result<(), Error>) {
    if let Err(error) = undone {
        tracing::warn!("undo: {error}");
    }
}
