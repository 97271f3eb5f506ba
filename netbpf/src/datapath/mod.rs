//! The kernel side of netbpf: loads the programs, keeps their maps, attaches them to interfaces.
//!
//! | file | owns |
//! |---|---|
//! | `host` | what the machine has to have: rights, kernel, bpffs |
//! | `pins` | paths |
//! | `folders` | what is in a folder, and its end |
//! | `programs` | loading and attaching |
//! | `uplinks` | the XDP program at the ways to other hosts, and what it drops there |
//! | `tables` | the maps, typed |
//! | `entries` | the entries of one station |
//! | `older` | what a netbpf with other map layouts left |
//! | `hands` | what other people's hands do |
//! | `mend` | maps that agree with each other |
//! | `members` | the lists that broadcasts walk |
//! | `logs` | what the programs log, if asked |
//!
//! Everything is pinned, so packets go on while no daemon runs, and the next one finds what there was:
//! [`Datapath::open`] reads it back and mends what a crash left half done. Interfaces are made elsewhere; here they are
//! names, whose ifindexes have to be the ones that their numbers demand. All calls are synchronous and short.
//!
//! Must not know containers, the store or the API.

mod entries;
mod error;
mod folders;
mod hands;
mod host;
mod logs;
mod members;
mod mend;
mod older;
mod pins;
mod programs;
mod tables;
mod uplinks;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use netbpf_common::{
    allowed::AllowedKey,
    endpoint::{self, Endpoint, MAX_ENDPOINTS, NO_ENDPOINT, Owned, OwnedKey},
    network::{self, MAX_NETWORKS, Network},
    reason::Reason,
    stats::{Counter, EndpointStats},
};
use nix::net::if_::{if_indextoname, if_nametoindex};

use self::{
    entries::{Claim, Entries},
    folders::list,
    members::Before,
    older::Older,
    pins::Pins,
    programs::{Programs, Role},
    tables::Tables,
};
pub use self::{
    error::Error,
    logs::ProgramLogs,
    programs::{Attachment, PROGRAMS},
    uplinks::{UplinkDevice, XdpProgram},
};
use crate::{
    plan::{Closed, NetworkEntry},
    private,
};

/// The loaded programs and their maps.
///
/// It keeps what the maps hold in memory too: nobody else writes them.
pub struct Datapath {
    pins: Pins,
    older: Older,
    programs: Programs,
    tables: Tables,
    networks: BTreeMap<u32, Network>,
    endpoints: BTreeMap<u32, Endpoint>,
    allowed: BTreeSet<AllowedKey>,
    /// Who has which MAC and which address, by ifindex.
    claims: HashMap<Claim, u32>,
    /// Which endpoint has an address for its container.
    owned: HashMap<OwnedKey, u32>,
    /// What leads to each endpoint in its network's list.
    before: HashMap<u32, Before>,
    /// What is closed of each network.
    closed: BTreeMap<u32, Closed>,
    attached: BTreeSet<String>,
    /// Addresses of host devices that others gave them, by network.
    given: BTreeMap<u32, BTreeSet<std::net::IpAddr>>,
    logs: Option<ProgramLogs>,
}

/// What the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Networks by number.
    pub networks: BTreeMap<u32, NetworkEntry>,
    /// Endpoints by number.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// Interfaces that have their program.
    pub attached: BTreeSet<String>,
}

impl Datapath {
    /// Loads the programs over what is pinned below `bpffs`, and puts them in the place of older ones wherever those
    /// are attached. On failure nothing stays that was not there before.
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
        for folder in pins.folders() {
            private::make_folder(&folder, None)?;
        }
        tables::check_pinned(&pins)?;
        let mut programs = Programs::load(&pins, program_logs)?;
        let logs = if program_logs { Some(ProgramLogs::take(programs.object())?) } else { None };
        let tables = Tables::take(programs.object())?;
        let networks = tables.networks()?.into_iter().collect();
        let endpoints = tables.endpoints()?.into_iter().collect();
        let allowed = tables.allowed()?;
        let mut datapath = Self {
            pins,
            older: Older::default(),
            programs,
            tables,
            networks,
            endpoints,
            allowed,
            claims: HashMap::new(),
            owned: HashMap::new(),
            before: HashMap::new(),
            closed: BTreeMap::new(),
            attached: BTreeSet::new(),
            given: BTreeMap::new(),
            logs,
        };
        datapath.mend()?;
        datapath.attach_all()?;
        datapath.older = Older::beside(&datapath.pins)?;
        Ok(datapath)
    }

    /// How programs are attached on this kernel.
    pub fn attachment(&self) -> Attachment {
        self.programs.attachment()
    }

    /// What the programs log, for whoever reads it; once, and only if it was asked for.
    pub fn take_logs(&mut self) -> Option<ProgramLogs> {
        self.logs.take()
    }

    /// What the kernel has.
    pub fn observed(&self) -> Observed {
        Observed {
            networks: self
                .networks
                .keys()
                .filter_map(|number| Some((*number, self.network_entry(*number)?)))
                .collect(),
            endpoints: self
                .endpoints
                .keys()
                .filter_map(|number| Some((*number, self.endpoint_entry(*number)?)))
                .collect(),
            attached: self.attached.clone(),
        }
    }

    /// How many frames ended for each reason.
    pub fn reasons(&self) -> Result<Vec<(Reason, Counter)>, Error> {
        self.tables.reasons()
    }

    /// An endpoint's counters.
    pub fn endpoint_stats(&self, number: u32) -> Result<EndpointStats, Error> {
        in_range("endpoint", number, MAX_ENDPOINTS)?;
        self.tables.endpoint_stats(number)
    }

    /// Writes a network, or rewrites it; its endpoints stay.
    pub fn write_network(&mut self, number: u32, entry: &NetworkEntry) -> Result<(), Error> {
        in_range("network", number, MAX_NETWORKS)?;
        let ifindex = network::ifindex_of(number);
        let mut network = Network { ifindex, first: NO_ENDPOINT, ..entry.network };
        let present = self.networks.get(&number).copied();
        if let Some(present) = present {
            network.first = present.first;
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
    pub fn attach_host_device(&mut self, number: u32, interface: &str) -> Result<(), Error> {
        in_range("network", number, MAX_NETWORKS)?;
        self.attach(Role::HostDevice, interface, network::ifindex_of(number))
    }

    /// Removes a network without endpoints. Its host device should be gone: one without the program would let frames
    /// through.
    pub fn remove_network(&mut self, number: u32, interface: Option<&str>) -> Result<(), Error> {
        if self.endpoints.values().any(|endpoint| endpoint.network == number) {
            return Err(Error::NetworkInUse(number));
        }
        if let Some(network) = self.networks.get(&number).copied() {
            self.close(number, Closed::default())?;
            self.answer_for(number, &BTreeSet::new())?;
            self.forget(&Entries::of_network(number, &network))?;
            self.vacate_network(number)?;
        }
        self.detach_if_known(Role::HostDevice, interface)
    }

    /// Writes an endpoint, or rewrites it.
    pub fn write_endpoint(&mut self, number: u32, entry: &Endpoint) -> Result<(), Error> {
        in_range("endpoint", number, MAX_ENDPOINTS)?;
        let network = *self.networks.get(&entry.network).ok_or(Error::UnknownNetwork(entry.network))?;
        let ifindex = endpoint::ifindex_of(number);
        let mut endpoint = Endpoint { ifindex, next: NO_ENDPOINT, ..*entry };
        let entries = Entries::of_endpoint(&endpoint);
        self.not_taken(entry.network, &entries)?;
        let present = self.endpoints.get(&number).copied();
        if let Some(present) = present {
            let same = Endpoint { next: present.next, ..endpoint };
            if present == same {
                return self.enter(&entries);
            }
            if present == (Endpoint { owner: present.owner, ..same }) {
                return self.give_endpoint(number, present, endpoint.owner);
            }
            self.clear_endpoint(number)?;
        }
        // Behind nobody, and only then in front of the others: whoever walks the list meets it or does not.
        endpoint.next = self.networks.get(&entry.network).map_or(network.first, |network| network.first);
        let written = self
            .tables
            .reset_endpoint_stats(number)
            .and_then(|()| self.set_endpoint(number, endpoint))
            .and_then(|()| self.set_first(entry.network, number))
            .and_then(|()| self.enter(&entries));
        written.inspect_err(|_| {
            warn(self.clear_endpoint(number));
            if let Some(present) = present {
                warn(self.write_endpoint(number, &present));
            }
        })
    }

    /// Gives an endpoint to another container, or to none. Its frames go on.
    fn give_endpoint(&mut self, number: u32, endpoint: Endpoint, owner: u64) -> Result<(), Error> {
        self.disown(&Entries::of_endpoint(&endpoint))?;
        let endpoint = Endpoint { owner, ..endpoint };
        self.set_endpoint(number, endpoint)?;
        self.enter(&Entries::of_endpoint(&endpoint))
    }

    /// Makes these the exceptions, in networks whose members do not talk to each other.
    pub fn set_allowed(&mut self, allowed: &BTreeSet<AllowedKey>) -> Result<(), Error> {
        for key in self.allowed.difference(allowed).copied().collect::<Vec<_>>() {
            self.disallow(key)?;
        }
        for key in allowed.difference(&self.allowed).copied().collect::<Vec<_>>() {
            self.tables.allow(key)?;
            self.allowed.insert(key);
        }
        Ok(())
    }

    /// Attaches `from_container` to an endpoint's host side.
    pub fn attach_endpoint(&mut self, number: u32, interface: &str) -> Result<(), Error> {
        in_range("endpoint", number, MAX_ENDPOINTS)?;
        self.attach(Role::Endpoint, interface, endpoint::ifindex_of(number))
    }

    /// Removes an endpoint. Its interface should be gone: one without the program would let frames through to the host.
    pub fn remove_endpoint(&mut self, number: u32, interface: Option<&str>) -> Result<(), Error> {
        self.clear_endpoint(number)?;
        self.detach_if_known(Role::Endpoint, interface)
    }

    /// Forgets what a netbpf with other map layouts left; our programs should be attached everywhere.
    pub fn forget_older(&mut self) -> Result<(), Error> {
        self.older.forget()
    }

    /// Attaches to all interfaces that have a number in the maps or a link; those with another are nobody's.
    fn attach_all(&mut self) -> Result<(), Error> {
        let known = self.networks.values().map(|network| network.ifindex);
        let known = known.chain(self.endpoints.values().map(|endpoint| endpoint.ifindex));
        let mut names: BTreeSet<_> = known.filter_map(name_of).collect();
        names.extend(list(&self.pins.links())?);
        for name in names {
            let ifindex = if_nametoindex(name.as_str()).unwrap_or_default();
            let role = match (endpoint::number_of(ifindex), network::number_of(ifindex)) {
                (Some(_), _) => Role::Endpoint,
                (_, Some(_)) => Role::HostDevice,
                (None, None) => {
                    self.programs.detach(Role::Endpoint, &name)?;
                    continue;
                }
            };
            self.programs.attach(role, &name)?;
            self.attached.insert(name);
        }
        Ok(())
    }

    fn attach(&mut self, role: Role, interface: &str, expected: u32) -> Result<(), Error> {
        let found = if_nametoindex(interface)
            .map_err(|error| Error::failed("find the interface", interface, error))?;
        if found != expected {
            return Err(Error::WrongInterface { interface: interface.to_owned(), found, expected });
        }
        self.programs.attach(role, interface)?;
        self.attached.insert(interface.to_owned());
        self.older.leave(interface)
    }

    fn detach(&mut self, role: Role, interface: &str) -> Result<(), Error> {
        self.programs.detach(role, interface)?;
        self.attached.remove(interface);
        Ok(())
    }

    fn all_entries(&self) -> impl Iterator<Item = Entries> {
        let networks = self.networks.iter().map(|(number, network)| Entries::of_network(*number, network));
        networks.chain(self.endpoints.values().map(Entries::of_endpoint))
    }

    /// No other station of the network has the MAC or an address.
    fn not_taken(&self, network: u32, entries: &Entries) -> Result<(), Error> {
        let is_others =
            |claim: &Claim| self.claims.get(claim).is_some_and(|owner| *owner != entries.station.ifindex);
        match entries.claims().find(is_others) {
            Some(claim) => Err(Error::Taken { address: claim.to_string(), network }),
            None => Ok(()),
        }
    }

    /// Says where a station is and what it answers for.
    fn enter(&mut self, entries: &Entries) -> Result<(), Error> {
        for claim in entries.claims() {
            match claim {
                Claim::Mac(key) => self.tables.set_station(key, entries.station)?,
                Claim::Address(key) => self.tables.set_neighbour(key, entries.neighbour)?,
            }
            self.claims.insert(claim, entries.station.ifindex);
        }
        if let Some(endpoint) = endpoint::number_of(entries.station.ifindex) {
            for key in &entries.owned {
                self.tables.set_owned(*key, Owned { endpoint })?;
                self.owned.insert(*key, endpoint);
            }
        }
        Ok(())
    }

    /// Forgets where a station is and what it answers for.
    fn forget(&mut self, entries: &Entries) -> Result<(), Error> {
        for claim in entries.claims() {
            match claim {
                Claim::Mac(key) => self.tables.remove_station(key, entries.station)?,
                Claim::Address(key) => self.tables.remove_neighbour(key)?,
            }
            self.claims.remove(&claim);
        }
        self.disown(entries)
    }

    /// Forgets that the addresses are a container's at other endpoints too. One that it has in two networks may be another
    /// endpoint's.
    fn disown(&mut self, entries: &Entries) -> Result<(), Error> {
        let Some(endpoint) = endpoint::number_of(entries.station.ifindex) else { return Ok(()) };
        for key in &entries.owned {
            if self.owned.get(key) == Some(&endpoint) {
                self.tables.remove_owned(*key, endpoint)?;
                self.owned.remove(key);
            }
        }
        Ok(())
    }

    /// Makes an endpoint vacant: nobody finds it any more, no list leads to it, and only then it loses its own.
    fn clear_endpoint(&mut self, number: u32) -> Result<(), Error> {
        let Some(endpoint) = self.endpoints.get(&number).copied() else { return Ok(()) };
        self.forget(&Entries::of_endpoint(&endpoint))?;
        // Its number may soon be another's.
        let its = |key: &&AllowedKey| key.from == number || key.to == number;
        for key in self.allowed.iter().filter(its).copied().collect::<Vec<_>>() {
            self.disallow(key)?;
        }
        match self.before.get(&number) {
            Some(Before::Network(network)) => self.set_first(*network, endpoint.next)?,
            Some(Before::Endpoint(before)) => {
                let before = *before;
                if let Some(before_it) = self.endpoints.get(&before).copied() {
                    self.set_endpoint(before, Endpoint { next: endpoint.next, ..before_it })?;
                }
            }
            None => {}
        }
        self.vacate_endpoint(number)
    }

    fn disallow(&mut self, key: AllowedKey) -> Result<(), Error> {
        self.tables.disallow(key)?;
        self.allowed.remove(&key);
        Ok(())
    }

    fn set_first(&mut self, number: u32, first: u32) -> Result<(), Error> {
        let network = *self.networks.get(&number).ok_or(Error::UnknownNetwork(number))?;
        self.set_network(number, Network { first, ..network })
    }

    fn set_network(&mut self, number: u32, network: Network) -> Result<(), Error> {
        self.tables.set_network(number, network)?;
        self.networks.insert(number, network);
        self.before.insert(network.first, Before::Network(number));
        Ok(())
    }

    fn set_endpoint(&mut self, number: u32, endpoint: Endpoint) -> Result<(), Error> {
        self.tables.set_endpoint(number, endpoint)?;
        self.endpoints.insert(number, endpoint);
        self.before.insert(endpoint.next, Before::Endpoint(number));
        Ok(())
    }

    fn vacate_network(&mut self, number: u32) -> Result<(), Error> {
        self.tables.set_network(number, Network::default())?;
        self.networks.remove(&number);
        Ok(())
    }

    fn vacate_endpoint(&mut self, number: u32) -> Result<(), Error> {
        self.tables.set_endpoint(number, Endpoint::default())?;
        self.before.remove(&number);
        if let Some(endpoint) = self.endpoints.remove(&number)
            && let Some(network) = self.networks.get(&endpoint.network)
            && network.first == endpoint.next
        {
            // It was in front of the first, and no list led to it yet.
            self.before.insert(endpoint.next, Before::Network(endpoint.network));
        }
        Ok(())
    }
}

/// The name of the interface with an ifindex. nix has an empty one for those that do not exist.
fn name_of(ifindex: u32) -> Option<String> {
    let name = if_indextoname(ifindex).ok()?.into_string().ok()?;
    (!name.is_empty()).then_some(name)
}

fn in_range(what: &'static str, number: u32, most: u32) -> Result<(), Error> {
    if number < most { Ok(()) } else { Err(Error::OutOfRange { what, number, most }) }
}

/// An undo that fails changes nothing for the caller, who hears of the first failure; the next start mends the maps.
fn warn(undone: Result<(), Error>) {
    if let Err(error) = undone {
        tracing::warn!("undo: {error}");
    }
}
