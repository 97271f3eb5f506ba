//! The maps and attached programs in memory, with the methods of the real ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use netbpf_common::{
    allowed::AllowedKey,
    drops::{DropKey, Drops},
    endpoint::Endpoint,
    flow::Flow,
    reason::Reason,
    stats::{Counter, EndpointStats},
};

use nix::libc::E2BIG;

use super::Machine;
use crate::{
    datapath::{
        Attachment, BusyFlows, Error, Judge, LearntMacs, LoadedProgram, MapFill, NamesInNetwork, Notices,
        Observed, ProgramLogs, RestoredPins, Shortcut, UplinkDevice,
    },
    model::{Id, XdpMode},
    plan::{EndpointEntry, NetworkEntry},
};

/// See [`crate::datapath::Datapath`].
#[derive(Default)]
pub struct Datapath {
    pub machine: Machine,
}

fn refused(operation: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Missing { lack: format!("{operation}: {error}"), remedy: "let it succeed".to_owned() }
}

impl Datapath {
    pub fn open(_: &Path, _: bool) -> Result<Self, Error> {
        Ok(Self::default())
    }

    pub fn attachment(&self) -> Attachment {
        Attachment::Tcx
    }

    pub fn take_logs(&mut self) -> Option<ProgramLogs> {
        None
    }

    pub fn take_notices(&mut self) -> Option<Notices> {
        None
    }

    pub fn judge(&self, _: Option<Judge>) -> impl FnOnce() -> Result<Judge, Error> + Send + use<> {
        || Err(refused("load")(io::ErrorKind::Unsupported.into()))
    }

    pub fn learnt_macs(&self) -> Result<Option<LearntMacs>, Error> {
        Ok(None)
    }

    pub fn write_network(&mut self, number: u32, entry: &NetworkEntry) -> Result<(), Error> {
        let entry = *entry;
        let written = self.machine.call("write a network", |state| state.networks.insert(number, entry));
        written.map(drop).map_err(refused("write a network"))
    }

    pub fn remove_network(&mut self, number: u32, interface: Option<&str>) -> Result<(), Error> {
        let removed = self.machine.call("remove a network", |state| {
            state.networks.remove(&number);
            interface.map(|interface| state.attached.remove(interface));
        });
        removed.map_err(refused("remove a network"))
    }

    pub fn write_endpoint(&mut self, number: u32, entry: impl Into<EndpointEntry>) -> Result<(), Error> {
        let entry = entry.into();
        let written = self.machine.call("write an endpoint", |state| state.endpoints.insert(number, entry));
        written.map(drop).map_err(refused("write an endpoint"))
    }

    pub fn remove_endpoint(&mut self, number: u32, interface: Option<&str>) -> Result<(), Error> {
        let removed = self.machine.call("remove an endpoint", |state| {
            state.endpoints.remove(&number);
            interface.map(|interface| state.attached.remove(interface));
        });
        removed.map_err(refused("remove an endpoint"))
    }

    pub fn attach_host_device(&mut self, _: u32, interface: &str) -> Result<(), Error> {
        self.attach(interface)
    }

    pub fn attach_endpoint(&mut self, _: u32, interface: &str) -> Result<(), Error> {
        self.attach(interface)
    }

    fn attach(&mut self, interface: &str) -> Result<(), Error> {
        let attached = self.machine.call("attach a program", |state| {
            let is_there = state.links.values().any(|link| link.device.name == interface);
            assert!(is_there, "a program is attached to {interface}, which does not exist");
            state.attached.insert(interface.to_owned());
        });
        attached.map_err(refused("attach a program"))
    }

    pub fn set_allowed(&mut self, allowed: &BTreeSet<AllowedKey>) -> Result<(), Error> {
        let allowed = allowed.clone();
        self.machine.call("allow", |state| state.allowed = allowed).map_err(refused("allow"))
    }

    pub fn set_names(&mut self, container: Id, networks: &[NamesInNetwork]) -> Result<(), Error> {
        let networks: Vec<_> = networks.iter().filter(|network| !network.names.is_empty()).cloned().collect();
        let set = self.machine.call("set names", |state| match networks.is_empty() {
            true => state.names.remove(&container),
            false => state.names.insert(container, networks),
        });
        set.map(drop).map_err(refused("set names"))
    }

    /// Names are set one container at a time here.
    pub fn note_names(&mut self, _: Id, _: &[NamesInNetwork]) {}

    pub fn write_names(&mut self) -> Result<(), Error> {
        Ok(())
    }

    pub fn set_lookups(&mut self, _: Id, _: Vec<u32>) -> Result<(), Error> {
        Ok(())
    }

    pub fn reserve_class(&mut self, container: Id, class: u16) {
        self.machine.change(|state| {
            state.resolvers.entry(container).or_insert(class);
        });
    }

    pub fn set_resolver(&mut self, container: Id, _: Ipv4Addr, _: u16) -> Result<u16, Error> {
        let set = self.machine.call("set a resolver", |state| {
            let free = (1..).find(|class| !state.resolvers.values().any(|taken| taken == class));
            *state.resolvers.entry(container).or_insert(free.unwrap_or_default())
        });
        set.map_err(|error| match error.raw_os_error() {
            Some(E2BIG) => Error::Full { what: "container that asks for names", most: 0 },
            _ => refused("set a resolver")(error),
        })
    }

    pub fn remove_resolver(&mut self, container: Id) -> Result<(), Error> {
        self.machine.change(|state| {
            state.resolvers.remove(&container);
        });
        Ok(())
    }

    pub fn settle_at_lo(&mut self) -> Result<(), Error> {
        Ok(())
    }

    pub fn resolvers(&self) -> Vec<Id> {
        self.machine.state().resolvers.into_keys().collect()
    }

    pub fn program_at_lo(&mut self) -> Result<LoadedProgram, Error> {
        let descriptor = File::open("/dev/null").map_err(refused("open a file"))?;
        Ok(LoadedProgram { descriptor: descriptor.into(), id: 0 })
    }

    pub fn settle_names(&mut self) -> Result<(), Error> {
        Ok(())
    }

    pub fn forget_older(&mut self) -> Result<(), Error> {
        Ok(())
    }

    pub fn observed(&self) -> Observed {
        let state = self.machine.state();
        Observed { networks: state.networks, endpoints: state.endpoints, attached: state.attached }
    }

    pub fn network_entry(&self, number: u32) -> Option<NetworkEntry> {
        self.machine.state().networks.remove(&number)
    }

    pub fn endpoint_entry(&self, number: u32) -> Option<EndpointEntry> {
        self.machine.state().endpoints.remove(&number)
    }

    pub fn is_host_device_attached(&mut self, interface: &str, _: &str) -> Result<bool, Error> {
        Ok(self.machine.state().attached.contains(interface))
    }

    pub fn is_endpoint_attached(&mut self, interface: &str, _: &str) -> Result<bool, Error> {
        Ok(self.machine.state().attached.contains(interface))
    }

    pub fn may_be_detached(&mut self, _: &str) {}

    pub fn next_detached(&mut self, _: usize) -> Result<BTreeSet<u32>, Error> {
        Ok(BTreeSet::new())
    }

    pub fn answer_for(&mut self, _: u32, _: &BTreeSet<IpAddr>) -> Result<(), Error> {
        Ok(())
    }

    pub fn pin_folders(&self) -> [PathBuf; 5] {
        Default::default()
    }

    pub fn restore_pins(&mut self) -> Result<RestoredPins, Error> {
        Ok(RestoredPins { pins: Vec::new(), is_new_folder: false })
    }

    pub fn uplinks(&self) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    pub fn attach_uplink(&mut self, _: &str, _: &UplinkDevice, _: XdpMode) -> Result<bool, Error> {
        Ok(true)
    }

    pub fn detach_uplink(&mut self, _: &str) -> Result<(), Error> {
        Ok(())
    }

    pub fn forget_uplinks_but(&mut self, _: &[u32]) -> Result<(), Error> {
        Ok(())
    }

    pub fn take_busy_flows(&mut self) -> Option<BusyFlows> {
        None
    }

    pub fn can_shortcut(&self) -> bool {
        true
    }

    pub fn load_flow_programs(&mut self) -> Result<(), Error> {
        Ok(())
    }

    pub fn has_endpoints(&self) -> bool {
        !self.machine.state().endpoints.is_empty()
    }

    pub fn admit_flows(&mut self, _: u32) -> Result<(), Error> {
        Ok(())
    }

    pub fn end_flows(&mut self) -> Result<(), Error> {
        Ok(())
    }

    pub fn end_flows_of(&mut self, _: &BTreeSet<IpAddr>) -> Result<(), Error> {
        self.machine.ask("end flows").map_err(refused("end flows"))
    }

    pub fn stop_flows(&mut self) -> Result<(), Error> {
        Ok(())
    }

    pub fn flow_epoch(&self) -> u32 {
        0
    }

    pub fn flow_changes(&self) -> u64 {
        0
    }

    pub fn sender(&self, _: u32) -> Option<(u32, Endpoint)> {
        None
    }

    pub fn would_add_flow(&self, _: u64, _: &Shortcut) -> bool {
        false
    }

    pub fn add_flow(&mut self, _: u64, _: &Shortcut, _: u32) -> Result<Option<u32>, Error> {
        Ok(None)
    }

    pub fn remove_flow(&mut self, _: u32) -> Result<(), Error> {
        Ok(())
    }

    pub fn flow(&self, _: u32) -> Result<Option<Flow>, Error> {
        Ok(None)
    }

    pub fn flows(&self) -> Result<BTreeMap<u32, Flow>, Error> {
        Ok(BTreeMap::new())
    }

    pub fn attach_flow_back(&mut self, _: &str, _: u32) -> Result<(), Error> {
        Ok(())
    }

    pub fn detach_flow_back(&mut self, _: u32) {}

    pub fn is_alone_at_uplink(&mut self, _: &str) -> Result<bool, Error> {
        Ok(true)
    }

    pub fn reasons(&self) -> Result<Vec<(Reason, Counter)>, Error> {
        Ok(Vec::new())
    }

    pub fn fill(&self) -> Result<Vec<MapFill>, Error> {
        Ok(Vec::new())
    }

    pub fn drops(&self) -> Result<BTreeMap<DropKey, Drops>, Error> {
        Ok(BTreeMap::new())
    }

    pub fn endpoint_stats(&self, _: u32) -> Result<EndpointStats, Error> {
        Ok(EndpointStats::default())
    }
}
