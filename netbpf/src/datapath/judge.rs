//! Asks the programs themselves what becomes of a frame (BPF_PROG_TEST_RUN): an instance of them that nothing is attached
//! to, over the maps of those that run. What the programs write goes into maps of its own, so no counter, no limit and
//! nothing that was learnt changes. No frame is sent: a redirect takes place only behind a program that the kernel runs at
//! an interface, and the programs that send copies are left out.
//!
//! Must not know why somebody asks.

use std::collections::BTreeSet;

use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunOptions,
    maps::{HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues, ProgramArray},
    programs::{ProgramError, SchedClassifier},
    util::nr_cpus,
};
use netbpf_common::{
    access::Learnt,
    endpoint::{self, FdbKey},
    network,
    reason::{Reason, Reasons},
    stats::EndpointStats,
};

use super::{
    Datapath, Error, layouts,
    pins::Pins,
    programs::{OF_OPEN, PROGRAMS, TAIL_CALLS},
    room::Room,
    tables,
};

/// The maps that the programs write: the judge has its own.
const WRITTEN: [&str; 16] = [
    "REASONS",
    "ENDPOINT_STATS",
    "DROPS",
    "DROPPING",
    "DROP_TICKS",
    "FLOODS",
    "LIMITS",
    "LEARNT",
    "LEARNT_OF",
    "LEARNING",
    "NOTICES",
    "NOTICED",
    "FLOW_STATE",
    "SENDERS",
    "BUSY_FLOWS",
    "TAIL_CALLS",
];

/// The longest frame that the programs return, in bytes.
const LONGEST: usize = 2048;

/// Who sends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The container of an endpoint.
    Endpoint(u32),
    /// The host, to a network.
    Host {
        /// The network's number.
        network: u32,
        /// The ifindex of the interface that the host received the packet by; 0 if it is the host's own.
        received_by: u32,
        /// The mark of the host's packet filter.
        mark: u32,
    },
}

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Why it ends there. A frame that the programs would copy to all members is [`Reason::Flooded`].
    pub reason: Reason,
    /// The endpoint that receives it, if one does.
    pub receiver: Option<u32>,
    /// The frame afterwards: an answer is in its place.
    pub frame: Vec<u8>,
}

/// An instance of the programs. It is unloaded when it is dropped.
///
/// Those at interfaces are loaded when they are asked for the first time, because the verifier takes most of the time.
pub struct Judge {
    object: Ebpf,
    loaded: BTreeSet<&'static str>,
    room: Room,
    has_open: bool,
}

impl Datapath {
    /// What makes an instance of the programs to ask: that takes time, for which nobody has to wait who changes maps. It
    /// fails with [`Error::Failed`] if a pin is gone, the maps were replaced meanwhile, or the kernel refuses a map or a
    /// program. An earlier instance is used again if it has the present maps, and knows all that was learnt.
    pub fn judge(&self, earlier: Option<Judge>) -> impl FnOnce() -> Result<Judge, Error> + Send + use<> {
        let has_open = self.open.values().any(|members| !members.is_empty());
        let (pins, room) = (self.pins.clone(), self.room);
        let fits = |judge: &Judge| judge.room == room && !judge.has_open && !has_open;
        let earlier = earlier.filter(fits);
        move || earlier.map_or_else(|| Judge::load(&pins, room, has_open), Ok)
    }
}

impl Judge {
    fn load(pins: &Pins, room: Room, has_open: bool) -> Result<Self, Error> {
        let mut loader = EbpfLoader::new();
        for map in layouts::names().filter(|map| !WRITTEN.contains(map)) {
            let pin = pins.map(map);
            // The loader would make and pin an empty one.
            if !pin.exists() {
                return Err(Error::failed("open", pin.display(), "it is not pinned"));
            }
            loader.map_pin_path(map, pin);
        }
        for (map, entries) in layouts::sized(room) {
            loader.map_max_entries(map, entries);
        }
        let object = loader.load(PROGRAMS);
        let object = object.map_err(|error| Error::failed("load", "an instance of the programs", error))?;
        let mut judge = Self { object, loaded: BTreeSet::new(), room, has_open };
        if has_open {
            judge.load_open_programs()?;
            judge.copy_learnt(pins)?;
        }
        Ok(judge)
    }

    /// The programs for frames of and to open endpoints. Those for frames to all are left out, as they send copies.
    fn load_open_programs(&mut self) -> Result<(), Error> {
        for (index, name) in (0..).zip(TAIL_CALLS) {
            if !OF_OPEN.contains(&name) || name == "flood_open" {
                continue;
            }
            self.load_program(name)?;
            let failed = |error: MapError| Error::failed("enter in TAIL_CALLS", name, error);
            let target = self.program(name)?.fd().and_then(|fd| Ok(fd.try_clone()?));
            let target = target.map_err(|error| Error::failed("open the program", name, error))?;
            let map = self.object.map_mut("TAIL_CALLS").ok_or(MapError::KeyNotFound).map_err(failed)?;
            let mut calls = ProgramArray::try_from(map).map_err(failed)?;
            calls.set(index, &target, 0).map_err(failed)?;
        }
        Ok(())
    }

    fn load_program(&mut self, name: &'static str) -> Result<(), Error> {
        if !self.loaded.contains(name) {
            self.program(name)?.load().map_err(|error| Error::failed("load the program", name, error))?;
            self.loaded.insert(name);
        }
        Ok(())
    }

    /// Learns what the programs that run have learnt.
    fn copy_learnt(&mut self, pins: &Pins) -> Result<(), Error> {
        let failed = |error: MapError| Error::failed("copy the map", "LEARNT", error);
        let theirs = MapData::from_pin(pins.map("LEARNT")).map_err(failed)?;
        let theirs: HashMap<_, FdbKey, Learnt> = Map::HashMap(theirs).try_into().map_err(failed)?;
        let own = self.object.map_mut("LEARNT").ok_or(MapError::KeyNotFound).map_err(failed)?;
        let mut own: HashMap<_, FdbKey, Learnt> = own.try_into().map_err(failed)?;
        for entry in theirs.iter() {
            let (mac, learnt) = entry.map_err(failed)?;
            own.insert(mac, learnt, 0).map_err(failed)?;
        }
        Ok(())
    }

    /// Runs the program that the sender's frames meet. `members` are the endpoints of the network.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses the program, or does not run it: the interface is gone, or it cannot be told about the one that
    /// received the packet (before Linux 5.12).
    pub fn ask(&mut self, sender: Sender, frame: &[u8], members: &[u32]) -> Result<Judged, Error> {
        let (name, ifindex, received_by, mark) = match sender {
            Sender::Endpoint(number) => ("long_way", endpoint::ifindex_of(number), 0, 0),
            Sender::Host { network, received_by, mark } => {
                ("from_host", network::ifindex_of(network), received_by, mark)
            }
        };
        self.load_program(name)?;
        self.reset()?;
        // `struct __sk_buff`: words 2, 9 and 10 are the mark, the ingress ifindex and the ifindex.
        let context: [u32; 11] = [0, 0, mark, 0, 0, 0, 0, 0, 0, received_by, ifindex];
        let context: Vec<u8> = context.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut after = vec![0; LONGEST];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut after),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let ran = self.program(name)?.test_run(options);
        let ran = ran.map_err(|error| Error::failed("run the program", name, error))?;
        after.truncate(ran.data_size_out as usize);
        let reason = match self.counted()? {
            // The programs for frames to all are not there to be continued in.
            Reason::Failed => Reason::Flooded,
            reason => reason,
        };
        let receiver = if reason == Reason::Forwarded { self.receiver(members)? } else { None };
        Ok(Judged { reason, receiver, frame: after })
    }

    fn program(&mut self, name: &str) -> Result<&mut SchedClassifier, Error> {
        let program =
            self.object.program_mut(name).ok_or_else(|| Error::failed("find the program", name, "none"))?;
        program.try_into().map_err(|error: ProgramError| Error::failed("open the program", name, error))
    }

    /// Sets the counters of reasons to zero.
    fn reset(&mut self) -> Result<(), Error> {
        let failed = |error| Error::failed("reset", "REASONS", error);
        let cpus = nr_cpus().map_err(|(_, error)| Error::failed("count", "CPUs", error))?;
        let zeros = PerCpuValues::try_from(vec![Reasons::default(); cpus])
            .map_err(|error| Error::failed("reset", "REASONS", error))?;
        self.reasons()?.set(0, zeros, 0).map_err(failed)
    }

    /// The reason of the only frame since then.
    fn counted(&mut self) -> Result<Reason, Error> {
        let values = self.reasons()?.get(&0, 0).map_err(tables::reading("REASONS"))?;
        let is_counted = |reason: &&Reason| values.iter().any(|cpu| cpu.get(**reason).packets > 0);
        let found = Reason::ALL.iter().find(is_counted).copied();
        found.ok_or_else(|| Error::failed("read", "REASONS", "the program counted nothing"))
    }

    fn reasons(&mut self) -> Result<PerCpuArray<&mut MapData, Reasons>, Error> {
        let map = self.object.map_mut("REASONS").ok_or(MapError::KeyNotFound);
        map.and_then(PerCpuArray::try_from).map_err(tables::reading("REASONS"))
    }

    /// The member that received the only frame since the last call.
    fn receiver(&mut self, members: &[u32]) -> Result<Option<u32>, Error> {
        let reading = tables::reading("ENDPOINT_STATS");
        let map = self.object.map_mut("ENDPOINT_STATS").ok_or(MapError::KeyNotFound).map_err(&reading)?;
        let mut stats: PerCpuArray<_, EndpointStats> = map.try_into().map_err(&reading)?;
        let cpus = nr_cpus().map_err(|(_, error)| Error::failed("count", "CPUs", error))?;
        let mut found = None;
        for &number in members {
            let values = stats.get(&number, 0).map_err(&reading)?;
            if values.iter().any(|cpu| cpu.received().packets > 0) {
                found = Some(number);
                let zeros = PerCpuValues::try_from(vec![EndpointStats::default(); cpus])
                    .map_err(|error| Error::failed("reset", "ENDPOINT_STATS", error))?;
                stats.set(number, zeros, 0).map_err(&reading)?;
                break;
            }
        }
        Ok(found)
    }
}
