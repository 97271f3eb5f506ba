//! Loads the programs and attaches them: with tcx if the kernel has it, otherwise with clsact. Knows
//! interfaces by name; must not know networks or containers.
//!
//! A tcx link is pinned, so it outlives the daemon, and a new daemon replaces the program of the same link. A
//! clsact filter outlives the daemon by itself, and is replaced under the same priority and handle. Either
//! way there is no moment without a program.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io, mem,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::{MapData, MapError, ProgramArray},
    programs::{
        Link, LinkOrder, Program, ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, LinkError, PinnedLink},
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact},
        xdp::XdpError,
    },
};

use nix::libc::{EEXIST, EINVAL, ENODEV, ENOENT, ENOLINK};

use super::{
    Attachment, Error,
    flows::OF_FLOWS,
    layouts,
    names::OF_ASKING,
    pins::{Pins, remove},
    resolvers::AT_LO,
    room::Room,
    tables, warn,
};
use crate::fault;

/// The object that is loaded without logs; bpftool can load it too.
pub static PROGRAMS: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/programs.o"));
static PROGRAMS_WITH_LOGS: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/programs-log.o"));

/// Priority and handle of netbpf's clsact filter on an interface: it is the first.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// A program, and where it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `from_container`, for frames that an endpoint's host side receives.
    Endpoint,
    /// `from_host`, for frames that a network's host device sends.
    HostDevice,
}

impl Role {
    fn program(self) -> &'static str {
        match self {
            Self::Endpoint => "from_container",
            Self::HostDevice => "from_host",
        }
    }

    fn side(self) -> TcAttachType {
        match self {
            Self::Endpoint => TcAttachType::Ingress,
            Self::HostDevice => TcAttachType::Egress,
        }
    }
}

/// The programs that every network needs.
const ALWAYS: [&str; 5] = ["flood", "from_container", "from_host", "long_way", "remember"];

/// The programs that networks with open endpoints need.
pub const OF_OPEN: [&str; 3] = ["flood_open", "from_open", "to_open"];

/// The XDP program, which uplinks need.
pub const FROM_UPLINK: &str = "from_uplink";

/// The programs that use no map whose size depends on the room.
const WITHOUT_ROOM: [&str; 2] = [AT_LO, FROM_UPLINK];

/// The targets of tail calls, by their index in `TAIL_CALLS`.
pub const TAIL_CALLS: [&str; 8] =
    ["flood", "from_open", "to_open", "flood_open", "answer_name", "flow_out", "remember", "long_way"];

/// The programs. Those that nobody needs are not loaded: the verifier takes longer for them than for the others.
pub struct Programs {
    object: Ebpf,
    loaded: BTreeSet<&'static str>,
    attachment: Attachment,
    pins: Pins,
    /// The pinned links by their pins, open: if somebody removes a pin, the program stays attached.
    links: HashMap<PathBuf, FdLink>,
}

impl Programs {
    /// Reads the object, opens the pinned maps, and loads the programs that every network needs. Pins what is not
    /// pinned yet.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses a map, a program or a pin.
    pub fn load(pins: &Pins, logs: bool, room: Room) -> Result<Self, Error> {
        let bytes = if logs { PROGRAMS_WITH_LOGS } else { PROGRAMS };
        let mut loader = EbpfLoader::new();
        for map in layouts::names() {
            loader.map_pin_path(map, pins.map(map));
        }
        for (map, entries) in layouts::sized(room) {
            loader.map_max_entries(map, entries);
        }
        let object = loader.load(bytes).map_err(|error| Error::failed("load", "the programs", error))?;
        let (loaded, links) = (BTreeSet::new(), HashMap::new());
        let mut programs =
            Self { object, loaded, attachment: Attachment::of_kernel(), pins: pins.clone(), links };
        programs.need(&ALWAYS)?;
        Ok(programs)
    }

    /// Loads and pins those of the programs that are not loaded yet, then enters the targets of tail calls: all or
    /// none. What a former daemon left stays in either case, because its programs continue there.
    ///
    /// # Errors
    /// [`Error::Failed`] of the first program that cannot be loaded, pinned or entered.
    pub fn need(&mut self, names: &[&'static str]) -> Result<(), Error> {
        let missing: Vec<_> = names.iter().copied().filter(|name| !self.loaded.contains(name)).collect();
        let new: Vec<_> = missing.iter().copied().filter(|name| !self.pins.program(name).exists()).collect();
        let loaded = missing.iter().try_for_each(|name| self.load_one(name));
        let entered = loaded.and_then(|()| missing.iter().try_for_each(|name| self.enter_tail_call(name)));
        self.loaded.extend(&missing);
        entered.inspect_err(|_| {
            warn(self.release(&new));
            // What could not be removed is replaced by the next load.
            self.loaded.retain(|name| !missing.contains(name));
        })
    }

    /// Takes those of the programs that are loaded out of the datapath: nobody needs them any more. They stay open for the
    /// next [`Programs::need`], because the verifier takes long, and are unloaded when this value is dropped.
    ///
    /// # Errors
    /// [`Error::Failed`] of the first program whose tail call or pin cannot be removed. It stays loaded: call it again.
    pub fn release(&mut self, names: &[&'static str]) -> Result<(), Error> {
        for &name in names {
            if self.loaded.contains(name) {
                self.forget(name)?;
                self.loaded.remove(name);
            }
        }
        Ok(())
    }

    fn load_one(&mut self, name: &str) -> Result<(), Error> {
        fault::call("load").map_err(|error| Error::failed("load the program", name, error))?;
        let program = self.object.program_mut(name).ok_or_else(|| absent(name))?;
        match &mut *program {
            Program::Xdp(program) => program.load(),
            program => <&mut SchedClassifier>::try_from(program).and_then(SchedClassifier::load),
        }
        .or_else(|error| match error {
            // It was released.
            ProgramError::AlreadyLoaded => Ok(()),
            error => Err(error),
        })
        .map_err(|error| Error::failed("load the program", name, error))?;
        let (path, new) = (self.pins.program(name), self.pins.new_program(name));
        fault::call("pin").map_err(|error| Error::failed("pin the program", name, error))?;
        // A pin cannot be overwritten, but another pin can be renamed to it. A daemon that was killed may have left one.
        remove(&new)?;
        program.pin(&new).map_err(|error| Error::failed("pin the program", name, error))?;
        fs::rename(&new, &path).map_err(|error| Error::failed("pin the program", name, error))
    }

    /// The loaded programs that use maps whose size depends on the room.
    pub fn loaded_with_room(&self) -> Vec<&'static str> {
        self.loaded.iter().copied().filter(|name| !WITHOUT_ROOM.contains(name)).collect()
    }

    /// Takes the links of the programs that these replace, and the programs that need not be replaced.
    pub fn succeed(&mut self, former: &mut Self) {
        self.links = mem::take(&mut former.links);
        for name in WITHOUT_ROOM {
            if let (Some(own), Some(theirs)) =
                (self.object.program_mut(name), former.object.program_mut(name))
            {
                mem::swap(own, theirs);
            }
            self.loaded.extend(former.loaded.take(name));
        }
    }

    /// Pins the programs in place of others.
    ///
    /// # Errors
    /// [`Error::Failed`] of the first pin that cannot be replaced.
    pub fn pin_again(&mut self) -> Result<(), Error> {
        self.loaded.iter().try_for_each(|name| remove(&self.pins.program(name)))?;
        self.restore_pins().map(drop)
    }

    /// Removes what an earlier daemon left of programs that are not loaded.
    ///
    /// # Errors
    /// [`Error::Failed`] if one cannot be removed: call it again.
    pub fn forget_unneeded(&mut self) -> Result<(), Error> {
        for name in OF_OPEN.into_iter().chain(OF_ASKING).chain(OF_FLOWS).chain([AT_LO, FROM_UPLINK]) {
            if !self.loaded.contains(name) {
                self.forget(name)?;
            }
        }
        Ok(())
    }

    /// Removes a program's tail call and its pins. A frame that would continue in it ends.
    fn forget(&mut self, name: &str) -> Result<(), Error> {
        self.leave_tail_calls(name)?;
        remove(&self.pins.new_program(name))?;
        remove(&self.pins.program(name))
    }

    /// The way in which this kernel attaches programs.
    pub fn attachment(&self) -> Attachment {
        self.attachment
    }

    /// The loaded object, for the maps in it.
    pub fn object(&mut self) -> &mut Ebpf {
        &mut self.object
    }

    /// Attaches to an interface, and replaces an older program.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses the program or the pin.
    pub fn attach(&mut self, role: Role, interface: &str) -> Result<(), Error> {
        fault::call("attach").map_err(|error| Error::failed("attach to", interface, error))?;
        match self.attachment {
            Attachment::Tcx => self.attach_tcx(role, interface),
            Attachment::Clsact => self.attach_clsact(role, interface),
        }
    }

    /// Detaches from an interface, which may be gone already.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses, or the pin cannot be removed: the program may stay attached.
    pub fn detach(&mut self, role: Role, interface: &str) -> Result<(), Error> {
        fault::call("detach").map_err(|error| Error::failed("detach from", interface, error))?;
        match self.attachment {
            Attachment::Tcx => self.unpin_link(&self.pins.link(interface)),
            Attachment::Clsact => {
                let Ok(filter) = filter(role, interface) else { return Ok(()) };
                match filter.detach() {
                    // EINVAL: the interface never had the qdisc.
                    Err(error) if !is_absent(&error) && errno(&error) != Some(EINVAL) => {
                        Err(Error::failed("detach from", interface, error))
                    }
                    Ok(()) | Err(_) => Ok(()),
                }
            }
        }
    }

    /// Whether the program is attached to an interface, with the pin of this name. Unknown for clsact
    /// filters: returns true.
    ///
    /// # Errors
    /// [`Error::Failed`], as of [`Programs::is_at`].
    pub fn is_attached(&mut self, role: Role, interface: &str, pin: &str) -> Result<bool, Error> {
        let is_pinned = self.attachment == Attachment::Clsact || self.pins.link(pin).exists();
        Ok(is_pinned && self.is_at(role, interface)?)
    }

    /// The same, whether or not it is pinned.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel does not tell the ID of the program. An interface that is gone has none: false.
    pub fn is_at(&mut self, role: Role, interface: &str) -> Result<bool, Error> {
        if self.attachment == Attachment::Clsact {
            return Ok(true);
        }
        let failed = |error: ProgramError| Error::failed("look for tcx at", interface, error);
        let own = self.program(role.program())?.info().map_err(failed)?.id();
        match SchedClassifier::query_tcx(interface, role.side()) {
            Ok((_, found)) => Ok(found.iter().any(|program| program.id() == own)),
            // The interface is gone.
            Err(_) => Ok(false),
        }
    }

    /// Pins a link, which stays open.
    ///
    /// # Errors
    /// [`Error::Failed`] if it cannot be pinned. If its directory is gone, it stays open.
    pub fn pin_link(&mut self, pin: PathBuf, link: FdLink) -> Result<(), Error> {
        // A link that cannot be pinned would be closed, and its program detached.
        if !pin.parent().is_some_and(Path::is_dir) {
            let error = Error::failed("pin the link", pin.display(), "its directory is gone");
            self.links.insert(pin, link);
            return Err(error);
        }
        let link = match pin.exists() {
            true => link,
            false => link
                .pin(&pin)
                .map(FdLink::from)
                .map_err(|error| Error::failed("pin the link", pin.display(), error))?,
        };
        self.links.insert(pin, link);
        Ok(())
    }

    /// The open link of a pin, or the pinned one.
    ///
    /// # Errors
    /// [`Error::Failed`] if the pin cannot be opened.
    pub fn take_link(&mut self, pin: &Path) -> Result<Option<FdLink>, Error> {
        match self.links.remove(pin) {
            Some(link) => Ok(Some(link)),
            None => pinned(pin),
        }
    }

    /// Closes a link and removes its pin: the kernel detaches the program.
    ///
    /// # Errors
    /// [`Error::Failed`] if the pin cannot be removed: the program stays attached.
    pub fn unpin_link(&mut self, pin: &Path) -> Result<(), Error> {
        self.links.remove(pin);
        remove(pin)
    }

    /// Pins everything again that is no longer pinned. Returns the pins.
    ///
    /// # Errors
    /// [`Error::Failed`] of the first one that cannot be pinned: call it again.
    pub fn restore_pins(&mut self) -> Result<Vec<PathBuf>, Error> {
        let mut restored = Vec::new();
        for &name in &self.loaded {
            let pin = self.pins.program(name);
            if !pin.exists() {
                fault::call("pin").map_err(|error| Error::failed("pin the program", name, error))?;
                let program = self.object.program_mut(name).ok_or_else(|| absent(name))?;
                program.pin(&pin).map_err(|error| Error::failed("pin the program", name, error))?;
                restored.push(pin);
            }
        }
        let lost: Vec<_> = self.links.keys().filter(|pin| !pin.exists()).cloned().collect();
        for pin in lost {
            if let Some(link) = self.links.remove(&pin) {
                self.pin_link(pin.clone(), link)?;
                restored.push(pin);
            }
        }
        Ok(restored)
    }

    fn attach_tcx(&mut self, role: Role, interface: &str) -> Result<(), Error> {
        let failed = |error: ProgramError| Error::failed("attach tcx to", interface, error);
        let taken = |error: LinkError| Error::failed("take the link at", interface, error);
        let pin = self.pins.link(interface);
        let known = self.take_link(&pin)?.map(SchedClassifierLink::try_from).transpose().map_err(taken)?;
        let program = self.program(role.program())?;
        let replaced = match known.map(|link| program.attach_to_link(link)) {
            // The pin belongs to a deleted interface with the same name, or somebody detached the link.
            Some(Err(error)) if is_absent(&error) => {
                remove(&pin)?;
                None
            }
            Some(Err(error)) => return Err(failed(error)),
            Some(Ok(id)) => Some(id),
            None => None,
        };
        let is_new = replaced.is_none();
        let id = match replaced {
            Some(id) => id,
            None => {
                let options = TcAttachOptions::TcxOrder(LinkOrder::last());
                program.attach_with_options(interface, role.side(), options).map_err(failed)?
            }
        };
        let link = FdLink::try_from(program.take_link(id).map_err(failed)?).map_err(taken)?;
        if is_new {
            fault::call("pin").map_err(|error| Error::failed("pin the link", pin.display(), error))?;
        }
        self.pin_link(pin, link)
    }

    fn attach_clsact(&mut self, role: Role, interface: &str) -> Result<(), Error> {
        let failed = |error: ProgramError| Error::failed("attach a clsact filter to", interface, error);
        match qdisc_add_clsact(interface) {
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(EEXIST) => {}
            added => added.map_err(|error| Error::failed("add the clsact qdisc to", interface, error))?,
        }
        let present =
            filter(role, interface).map_err(|error| Error::failed("find the interface", interface, error))?;
        let program = self.program(role.program())?;
        let id = match program.attach_to_link(present) {
            Err(error) if is_absent(&error) => {
                let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
                program.attach_with_options(interface, role.side(), TcAttachOptions::Netlink(options))
            }
            replaced => replaced,
        };
        let link = id.and_then(|id| program.take_link(id)).map_err(failed)?;
        // Dropping it would detach the filter.
        mem::forget(link);
        Ok(())
    }

    fn enter_tail_call(&mut self, name: &str) -> Result<(), Error> {
        let Some(index) = index(name) else { return Ok(()) };
        fault::call("enter a tail call")
            .map_err(|error| Error::failed("enter in TAIL_CALLS", name, error))?;
        let target = self.program(name)?.fd().and_then(|fd| Ok(fd.try_clone()?));
        let target = target.map_err(|error| Error::failed("open the program", name, error))?;
        self.tail_calls()
            .and_then(|mut array| array.set(index, &target, 0))
            .map_err(|error| Error::failed("enter in TAIL_CALLS", name, error))
    }

    fn leave_tail_calls(&mut self, name: &str) -> Result<(), Error> {
        let Some(index) = index(name) else { return Ok(()) };
        fault::call("leave a tail call")
            .map_err(|error| Error::failed("remove from TAIL_CALLS", name, error))?;
        match self.tail_calls().and_then(|mut array| array.clear_index(&index)) {
            Err(error) if !tables::is_missing(&error) => {
                Err(Error::failed("remove from TAIL_CALLS", name, error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn tail_calls(&mut self) -> Result<ProgramArray<&mut MapData>, MapError> {
        let map = self.object.map_mut("TAIL_CALLS").ok_or(MapError::KeyNotFound)?;
        ProgramArray::try_from(map)
    }

    fn program(&mut self, name: &str) -> Result<&mut SchedClassifier, Error> {
        let program = self.object.program_mut(name).ok_or_else(|| absent(name))?;
        program.try_into().map_err(|error: ProgramError| Error::failed("open the program", name, error))
    }
}

/// The place of a program in `TAIL_CALLS`; none if it is no target.
fn index(name: &str) -> Option<u32> {
    (0..).zip(TAIL_CALLS).find_map(|(index, target)| (target == name).then_some(index))
}

fn absent(name: &str) -> Error {
    Error::failed("find the program", name, "the object has none")
}

/// The pinned tcx link, if there is one.
fn pinned(pin: &Path) -> Result<Option<FdLink>, Error> {
    let failed = |error: LinkError| Error::failed("open the link", pin.display(), error);
    match PinnedLink::from_pin(pin) {
        Ok(link) => Ok(Some(link.into())),
        Err(LinkError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// netbpf's clsact filter at an interface, whether it exists or not.
fn filter(role: Role, interface: &str) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(interface, role.side(), PRIORITY, HANDLE, None)
}

/// Whether there was nothing to replace or detach: no such filter, or a link whose interface was deleted.
pub fn is_absent(error: &ProgramError) -> bool {
    matches!(errno(error), Some(ENOENT | ENODEV | ENOLINK))
}

pub fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        ProgramError::NetlinkError(error)
        | ProgramError::TcError(TcError::NetlinkError(error))
        | ProgramError::XdpError(XdpError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    }
}
