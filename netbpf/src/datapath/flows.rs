//! Established flows that skip the host's stack: their entries (`FLOW_WAYS`, `FLOWS`), the epoch in which these count
//! (`FLOW_STATE`), and the program at uplinks. Must not know conntrack, or which flows may be here.
//!
//! A program may read a flow while its keys are removed. So the place of a removed flow rests before another gets it.
//! The links at uplinks are not pinned: without a daemon, packets of other hosts go through the stack at once, and those of
//! containers when the time in `FLOW_STATE` is over.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io, mem,
    net::IpAddr,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{Array, HashMap as HashTable, MapData, RingBuf},
    programs::{
        LinkOrder, ProgramType, SchedClassifier, TcAttachType, loaded_programs,
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use netbpf_common::{
    access::{OPEN, PLAIN},
    endpoint::{self, Endpoint},
    flow::{BUSY_FLOWS_BYTES, Flow, FlowKey, FlowState, MAX_FLOWS, Way},
    network,
};
use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    Attachment, Datapath, Error,
    programs::is_absent,
    tables::{reading, remove, take},
};

/// The programs of established flows: for packets of containers, and for those that an uplink receives.
pub const OF_FLOWS: [&str; 2] = ["flow_out", FLOW_BACK];
const FLOW_BACK: &str = "flow_back";

/// How long the place of a removed flow rests. A program runs for microseconds.
const REST: Duration = Duration::from_secs(1);

/// Whether a program for netfilter's hooks is loaded (Linux 6.4). Where it is attached, and that it is, nobody announces.
///
/// # Errors
/// [`Error::Failed`] if the kernel does not list the programs.
pub fn has_netfilter_program() -> Result<bool, Error> {
    for program in loaded_programs() {
        match program {
            Ok(program) if program.program_type() == ProgramType::Netfilter.into() => return Ok(true),
            Ok(_) => {}
            // It was unloaded in the meantime.
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(Error::failed("list", "programs", error)),
        }
    }
    Ok(false)
}

/// A flow that may skip the host's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortcut {
    /// Number of the container's endpoint.
    pub endpoint: u32,
    /// The ifindex of the uplink.
    pub uplink: u32,
    /// Packets of the container.
    pub out: Way,
    /// Packets to it.
    pub back: Way,
}

impl Shortcut {
    /// That of an entry.
    fn of(flow: &Flow) -> Self {
        let Flow { endpoint, uplink, out, back, .. } = *flow;
        Self { endpoint, uplink, out, back }
    }
}

/// Reader of the keys of flows that have sent enough.
pub struct BusyFlows(RingBuf<MapData>);

impl BusyFlows {
    /// Waits for one, at most as long as `timeout`.
    ///
    /// # Errors
    /// That of `poll`.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Those that were not read yet.
impl Iterator for BusyFlows {
    type Item = FlowKey;

    fn next(&mut self) -> Option<FlowKey> {
        FlowKey::read(&self.0.next()?)
    }
}

/// The maps of flows, with a copy in memory.
pub struct Flows {
    ways: HashTable<MapData, FlowKey, u32>,
    flows: Array<MapData, Flow>,
    state: Array<MapData, FlowState>,
    busy: Option<BusyFlows>,
    now: FlowState,
    /// How many changes have ended flows.
    changes: u64,
    /// The flows by their index, as they were written.
    present: BTreeMap<u32, Flow>,
    /// The indexes of each endpoint's flows.
    of_endpoints: BTreeMap<u32, BTreeSet<u32>>,
    /// Free places, with the time from which on they can be used.
    free: VecDeque<(Instant, u32)>,
    /// The links at uplinks, by ifindex. A link that is dropped is detached.
    links: HashMap<u32, SchedClassifierLink>,
}

impl Flows {
    /// Takes the maps from a loaded object, and removes all flows.
    pub fn take(object: &mut Ebpf) -> Result<Self, Error> {
        let mut busy = take(object, "BUSY_FLOWS").map(BusyFlows)?;
        busy.by_ref().take(BUSY_FLOWS_BYTES as usize).for_each(drop);
        let ready = Instant::now() + REST;
        let mut flows = Self {
            ways: take(object, "FLOW_WAYS")?,
            flows: take(object, "FLOWS")?,
            state: take(object, "FLOW_STATE")?,
            busy: Some(busy),
            now: FlowState::default(),
            changes: 0,
            present: BTreeMap::new(),
            of_endpoints: BTreeMap::new(),
            free: (0..MAX_FLOWS).map(|index| (ready, index)).collect(),
            links: HashMap::new(),
        };
        let before = flows.state.get(&0, 0).map_err(reading("FLOW_STATE"))?;
        flows.set_state(FlowState { epoch: before.epoch.wrapping_add(1), until: 0 })?;
        let keys: Vec<_> = flows.ways.keys().collect::<Result<_, _>>().map_err(reading("FLOW_WAYS"))?;
        keys.iter().try_for_each(|key| flows.remove_way(key))?;
        Ok(flows)
    }

    fn set_state(&mut self, state: FlowState) -> Result<(), Error> {
        let failed = |error| Error::failed("write to FLOW_STATE epoch", state.epoch, error);
        self.state.set(0, state, 0).map_err(failed)?;
        self.now = state;
        Ok(())
    }

    /// No entry counts any more, those included that are being made.
    pub fn end_all(&mut self) -> Result<(), Error> {
        self.changes += 1;
        self.set_state(FlowState { epoch: self.now.epoch.wrapping_add(1), ..self.now })
    }

    /// No flow of an endpoint counts any more, those included that are being entered.
    pub fn end_of(&mut self, endpoint: u32) -> Result<(), Error> {
        let indexes = self.of_endpoints.get(&endpoint).cloned().unwrap_or_default();
        self.end_these(indexes)
    }

    /// The same for some flows. If an entry cannot be removed, all flows end.
    fn end_these(&mut self, indexes: BTreeSet<u32>) -> Result<(), Error> {
        self.changes += 1;
        let removed = indexes.into_iter().try_for_each(|index| self.remove(index));
        removed.or_else(|_| self.end_all())
    }

    fn remove_way(&mut self, key: &FlowKey) -> Result<(), Error> {
        let failed = |error| Error::failed("remove from FLOW_WAYS", format!("{key:?}"), error);
        remove(|| self.ways.remove(key)).map_err(failed)
    }

    /// The place for a flow: its own if it is there and has ended, or a free one. None: it counts, another flow has one of
    /// its keys, or there is no room.
    fn place_for(&self, flow: &Shortcut) -> Option<u32> {
        let taken = [&flow.out.key, &flow.back.key].map(|key| self.ways.get(key, 0).ok());
        match taken {
            [None, None] => self.free_place(flow.endpoint),
            [Some(index), _] => {
                let there = self.present.get(&index)?;
                (there.epoch != self.now.epoch && Shortcut::of(there) == *flow).then_some(index)
            }
            [None, Some(_)] => None,
        }
    }

    /// A free place. An endpoint gets one only if it has fewer than are free, so that some are left for others.
    fn free_place(&self, endpoint: u32) -> Option<u32> {
        let (ready, index) = self.free.front()?;
        let own = self.of_endpoints.get(&endpoint).map_or(0, BTreeSet::len);
        (*ready <= Instant::now() && own < self.free.len()).then_some(*index)
    }

    /// Adds a flow, and returns its index. None: there is no place for it.
    fn add(&mut self, shortcut: &Shortcut, now: u32) -> Result<Option<u32>, Error> {
        let Some(index) = self.place_for(shortcut) else { return Ok(None) };
        let Shortcut { endpoint, uplink, out, back } = *shortcut;
        let flow =
            Flow { epoch: self.now.epoch, endpoint, uplink, out, back, is_over: 0, seen: now, checked: 0 };
        let failed = |error| Error::failed("write to FLOWS", index, error);
        if self.present.contains_key(&index) {
            // A program may read it. It finds all as it is, but the epoch, which is one word.
            let seen = self.flows.get(&index, 0).map_err(reading("FLOWS"))?.seen;
            self.flows.set(index, Flow { seen, ..flow }, 0).map_err(failed)?;
            self.present.insert(index, flow);
            return Ok(Some(index));
        }
        self.flows.set(index, flow, 0).map_err(failed)?;
        self.free.pop_front();
        self.present.insert(index, flow);
        self.of_endpoints.entry(endpoint).or_default().insert(index);
        let added = [&out.key, &back.key].into_iter().try_for_each(|key| {
            let failed = |error| Error::failed("write to FLOW_WAYS", format!("{key:?}"), error);
            self.ways.insert(key, index, 0).map_err(failed)
        });
        match added {
            Ok(()) => Ok(Some(index)),
            Err(error) => {
                self.remove(index)?;
                Err(error)
            }
        }
    }

    fn remove(&mut self, index: u32) -> Result<(), Error> {
        let Some(flow) = self.present.get(&index).copied() else { return Ok(()) };
        self.remove_way(&flow.out.key)?;
        self.remove_way(&flow.back.key)?;
        self.present.remove(&index);
        if let Some(own) = self.of_endpoints.get_mut(&flow.endpoint) {
            own.remove(&index);
            if own.is_empty() {
                self.of_endpoints.remove(&flow.endpoint);
            }
        }
        self.free.push_back((Instant::now() + REST, index));
        Ok(())
    }
}

impl Datapath {
    /// The reader of flows that have sent enough; only the first call returns it.
    pub fn take_busy_flows(&mut self) -> Option<BusyFlows> {
        self.flows.busy.take()
    }

    /// Whether flows can skip the stack: the program at uplinks needs tcx.
    pub fn can_shortcut(&self) -> bool {
        self.attachment() == Attachment::Tcx
    }

    /// Loads the programs of flows.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses one.
    pub fn load_flow_programs(&mut self) -> Result<(), Error> {
        self.programs.need(&OF_FLOWS)
    }

    /// Whether there is an endpoint.
    pub fn has_endpoints(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// Lets flows skip the stack until this second of the monotonic clock; 0: none may, and none is reported.
    ///
    /// # Errors
    /// [`Error::Failed`] of the map.
    pub fn admit_flows(&mut self, until: u32) -> Result<(), Error> {
        self.flows.set_state(FlowState { until, ..self.flows.now })
    }

    /// Ends all flows: from now on no entry counts that was made before, or is being made.
    ///
    /// # Errors
    /// [`Error::Failed`] of the map.
    pub fn end_flows(&mut self) -> Result<(), Error> {
        self.flows.end_all()
    }

    /// The same for the flows of containers with these addresses.
    ///
    /// # Errors
    /// [`Error::Failed`] of a map.
    pub fn end_flows_of(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), Error> {
        let is_meant = |flow: &Flow| addresses.contains(&IpAddr::from(flow.back.address));
        let meant = self.flows.present.iter().filter(|(_, flow)| is_meant(flow));
        let indexes = meant.map(|(index, _)| *index).collect();
        self.flows.end_these(indexes)
    }

    /// The present epoch. In another one, an entry does not count.
    pub fn flow_epoch(&self) -> u32 {
        self.flows.now.epoch
    }

    /// How many changes have ended flows. Ask for it before you look whether a flow may be entered.
    pub fn flow_changes(&self) -> u64 {
        self.flows.changes
    }

    /// The endpoint that sends what an interface receives, with its number, if its flows may skip the stack: frames reach it
    /// directly, and it has its leases only.
    pub fn sender(&self, ifindex: u32) -> Option<(u32, Endpoint)> {
        let number = endpoint::number_of(ifindex)?;
        let endpoint =
            self.endpoints.get(&number).filter(|endpoint| endpoint.access & (OPEN | PLAIN) == 0)?;
        Some((number, *endpoint))
    }

    /// Whether [`Datapath::add_flow`] would enter a flow now.
    pub fn would_add_flow(&self, changes: u64, shortcut: &Shortcut) -> bool {
        let Shortcut { endpoint, uplink, out, back } = shortcut;
        let sender = self.sender(out.key.ifindex);
        let is_its = sender.is_some_and(|(number, at)| number == *endpoint && at.ipv4 == back.address);
        let is_ours = endpoint::number_of(*uplink).is_some() || network::number_of(*uplink).is_some();
        is_its
            && !is_ours
            && changes == self.flows.changes
            && self.flows.links.contains_key(uplink)
            && self.flows.place_for(shortcut).is_some()
    }

    /// Enters a flow that was found to be established after so many changes, and returns its index. One that a change has
    /// ended counts again. None: there is no room, it counts already, or something has changed.
    ///
    /// # Errors
    /// [`Error::Failed`] of a map.
    pub fn add_flow(&mut self, changes: u64, shortcut: &Shortcut, now: u32) -> Result<Option<u32>, Error> {
        match self.would_add_flow(changes, shortcut) {
            true => self.flows.add(shortcut, now),
            false => Ok(None),
        }
    }

    /// Removes a flow.
    ///
    /// # Errors
    /// [`Error::Failed`] of a map: call it again.
    pub fn remove_flow(&mut self, index: u32) -> Result<(), Error> {
        self.flows.remove(index)
    }

    /// A flow, as the programs have changed it; none if it is gone.
    ///
    /// # Errors
    /// [`Error::Failed`] of the map.
    pub fn flow(&self, index: u32) -> Result<Option<Flow>, Error> {
        let is_there = self.flows.present.contains_key(&index);
        is_there.then(|| self.flows.flows.get(&index, 0).map_err(reading("FLOWS"))).transpose()
    }

    /// All flows by their index, as the programs have changed them.
    ///
    /// # Errors
    /// [`Error::Failed`] of the map.
    pub fn flows(&self) -> Result<BTreeMap<u32, Flow>, Error> {
        let read = |index: &u32| Ok((*index, self.flows.flows.get(index, 0).map_err(reading("FLOWS"))?));
        self.flows.present.keys().map(read).collect()
    }

    /// Attaches the program to an uplink, behind all others. Nothing else is changed if it is attached already.
    ///
    /// # Errors
    /// [`Error::WrongInterface`]; [`Error::Failed`] if the kernel refuses.
    pub fn attach_flow_back(&mut self, interface: &str, expected: u32) -> Result<(), Error> {
        if self.flows.links.contains_key(&expected) {
            return Ok(());
        }
        let found = if_nametoindex(interface)
            .map_err(|error| Error::failed("find the interface", interface, error))?;
        if found != expected {
            return Err(Error::WrongInterface { interface: interface.to_owned(), found, expected });
        }
        let failed = |error| Error::failed("attach tcx to the uplink", interface, error);
        let options = TcAttachOptions::TcxOrder(LinkOrder::last());
        let program = self.flow_back()?;
        let id = program.attach_with_options(interface, TcAttachType::Ingress, options).map_err(failed)?;
        let link = program.take_link(id).map_err(failed)?;
        self.flows.links.insert(expected, link);
        Ok(())
    }

    /// Attaches the program in place of that which is attached. Where that fails, packets go through the host's stack.
    pub(super) fn attach_flow_back_again(&mut self) {
        for (uplink, link) in mem::take(&mut self.flows.links) {
            let attached = self.flow_back().and_then(|program| {
                let id = program.attach_to_link(link).and_then(|id| program.take_link(id));
                id.map_err(|error| Error::failed("attach tcx to the uplink", uplink, error))
            });
            match attached {
                Ok(link) => drop(self.flows.links.insert(uplink, link)),
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }

    /// Detaches the program from an uplink, which may be gone.
    pub fn detach_flow_back(&mut self, uplink: u32) {
        self.flows.links.remove(&uplink);
    }

    /// Whether an uplink has no other tcx program for what it receives.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel does not tell.
    pub fn is_alone_at_uplink(&mut self, interface: &str) -> Result<bool, Error> {
        let failed = |error| Error::failed("look for tcx at", interface, error);
        let own = self.flow_back()?.info().map_err(failed)?.id();
        let (_, found) = SchedClassifier::query_tcx(interface, TcAttachType::Ingress).map_err(failed)?;
        Ok(found.iter().all(|program| program.id() == own))
    }

    fn flow_back(&mut self) -> Result<&mut SchedClassifier, Error> {
        let absent = || Error::failed("find the program", FLOW_BACK, "the object has none");
        let program = self.programs.object().program_mut(FLOW_BACK).ok_or_else(absent)?;
        program.try_into().map_err(|error| Error::failed("open the program", FLOW_BACK, error))
    }

    /// Lets no flow skip the stack, and takes the programs out of the datapath.
    ///
    /// # Errors
    /// [`Error::Failed`] of a map or a program: call it again.
    pub fn stop_flows(&mut self) -> Result<(), Error> {
        // Without these, packets of other hosts go through the stack, whatever fails next.
        self.flows.links.clear();
        self.admit_flows(0)?;
        let all: Vec<u32> = self.flows.present.keys().copied().collect();
        all.into_iter().try_for_each(|index| self.flows.remove(index))?;
        self.programs.release(&OF_FLOWS)
    }
}
