//! How the queries of each container are answered at `lo` (`RESOLVERS`), and the program for it. Must not know where it is
//! attached, or DNS messages.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
};

use aya::{
    Ebpf,
    maps::{HashMap as HashTable, MapData},
    programs::SchedClassifier,
};
use netbpf_common::name::{MAX_RESOLVERS, MAX_VIEW, Resolver};

use super::{
    Datapath, Error,
    tables::{add, reading, remove, take},
};
use crate::model::Id;

/// The program at `lo` of containers.
pub const AT_LO: &str = "at_lo";

/// A program that is loaded.
#[derive(Debug)]
pub struct LoadedProgram {
    /// Its descriptor.
    pub descriptor: OwnedFd,
    /// Its ID.
    pub id: u32,
}

/// The map of resolvers, with a copy in memory. It also tells a new daemon the class of each container's filter.
pub struct Resolvers {
    map: HashTable<MapData, u32, Resolver>,
    /// The classes that are given, with their containers.
    owners: BTreeMap<u16, Id>,
    classes: HashMap<Id, u16>,
    /// What is written of each container.
    written: HashMap<Id, Resolver>,
    /// The networks in which names are looked up for each container.
    networks: HashMap<Id, Vec<u32>>,
    /// Networks in which only the responder looks up names.
    incomplete: BTreeSet<u32>,
    /// The class that was given anew last. The first one is random: a namespace that nobody names any more may have a
    /// filter of an earlier daemon, and its class must not be that of the next container.
    last: u16,
}

impl Resolvers {
    /// Takes the map from a loaded object.
    pub fn take(object: &mut Ebpf) -> Result<Self, Error> {
        let map: HashTable<MapData, u32, Resolver> = take(object, "RESOLVERS")?;
        let entries: Vec<_> = map.iter().collect::<Result<_, _>>().map_err(reading("RESOLVERS"))?;
        let mut resolvers = Self {
            map,
            owners: BTreeMap::new(),
            classes: HashMap::new(),
            written: HashMap::new(),
            networks: HashMap::new(),
            incomplete: BTreeSet::new(),
            last: rand::random(),
        };
        for (class, resolver) in entries {
            let container = Id::from_bytes(resolver.container);
            if let Ok(class) = u16::try_from(class) {
                resolvers.reserve(container, class);
                resolvers.written.insert(container, resolver);
            }
        }
        Ok(resolvers)
    }

    fn reserve(&mut self, container: Id, class: u16) {
        if !self.owners.contains_key(&class) && !self.classes.contains_key(&container) {
            self.owners.insert(class, container);
            self.classes.insert(container, class);
        }
    }

    /// The class of a container, or the next free one after that which was given last.
    fn class_of(&mut self, container: Id) -> Result<u16, Error> {
        if let Some(class) = self.classes.get(&container) {
            return Ok(*class);
        }
        let after = (self.last.saturating_add(1)..=u16::MAX).chain(1..=self.last);
        let mut free = after.filter(|class| *class != 0 && !self.owners.contains_key(class));
        let class =
            free.next().ok_or(Error::Full { what: "container that asks for names", most: MAX_RESOLVERS })?;
        self.last = class;
        Ok(class)
    }

    fn write(&mut self, container: Id, class: u16, resolver: Resolver) -> Result<(), Error> {
        let failed = |error| Error::failed("write to RESOLVERS class", class, error);
        let key = u32::from(class);
        add("container that asks for names", MAX_RESOLVERS, || self.map.insert(key, resolver, 0), failed)?;
        self.reserve(container, class);
        self.written.insert(container, resolver);
        Ok(())
    }

    fn set_networks(&mut self, container: Id, networks: Vec<u32>) -> Result<(), Error> {
        match networks.is_empty() {
            true => self.networks.remove(&container),
            false => self.networks.insert(container, networks),
        };
        self.rewrite(container)
    }

    /// Writes the networks of a container to its entry, if it has one.
    fn rewrite(&mut self, container: Id) -> Result<(), Error> {
        if let Some(class) = self.classes.get(&container).copied()
            && let Some(resolver) = self.written.get(&container).copied()
        {
            let networks = self.networks.get(&container).map_or(&[][..], Vec::as_slice);
            let rewritten = with_networks(resolver, networks, &self.incomplete);
            if rewritten != resolver {
                self.write(container, class, rewritten)?;
            }
        }
        Ok(())
    }

    /// Sets the networks in which only the responder looks up names.
    pub(super) fn set_incomplete(&mut self, incomplete: BTreeSet<u32>) -> Result<(), Error> {
        self.incomplete = incomplete;
        let containers: Vec<Id> = self.networks.keys().copied().collect();
        containers.into_iter().try_for_each(|container| self.rewrite(container))
    }
}

impl Datapath {
    /// Sets the networks in which names are looked up for a container at `lo`, in this order. Without one, or with too many,
    /// all of its queries go to the responder.
    ///
    /// # Errors
    /// [`Error::Failed`] of the map.
    pub fn set_lookups(&mut self, container: Id, networks: Vec<u32>) -> Result<(), Error> {
        self.resolvers.set_networks(container, networks)
    }

    /// Keeps a class for a container whose filter has it already, unless the class or the container is known otherwise.
    pub fn reserve_class(&mut self, container: Id, class: u16) {
        self.resolvers.reserve(container, class);
    }

    /// Adds or replaces a container's resolver: its address, and the port where the responder listens. Returns the class of
    /// its filter, which stays the same.
    ///
    /// # Errors
    /// [`Error::Failed`] of the map; [`Error::Full`].
    pub fn set_resolver(&mut self, container: Id, address: Ipv4Addr, port: u16) -> Result<u16, Error> {
        let resolvers = &mut self.resolvers;
        let class = resolvers.class_of(container)?;
        let resolver = Resolver {
            container: *container.as_bytes(),
            address: address.octets(),
            port: port.to_be_bytes(),
            reserved: [0; 2],
            count: 0,
            networks: [0; MAX_VIEW],
        };
        let networks = resolvers.networks.get(&container).map_or(&[][..], Vec::as_slice);
        let resolver = with_networks(resolver, networks, &resolvers.incomplete);
        resolvers.write(container, class, resolver)?;
        Ok(class)
    }

    /// Removes a container's resolver, after its filter. After the last one, the program is released.
    ///
    /// # Errors
    /// [`Error::Failed`] of the map or the program: call it again.
    pub fn remove_resolver(&mut self, container: Id) -> Result<(), Error> {
        let resolvers = &mut self.resolvers;
        if let Some(class) = resolvers.classes.get(&container).copied() {
            let failed = |error| Error::failed("remove from RESOLVERS class", class, error);
            remove(|| resolvers.map.remove(&u32::from(class))).map_err(failed)?;
            resolvers.classes.remove(&container);
            resolvers.owners.remove(&class);
            resolvers.written.remove(&container);
        }
        self.settle_at_lo()
    }

    /// Releases the program at `lo` if no container has a resolver.
    ///
    /// # Errors
    /// [`Error::Failed`] if its pin cannot be removed: call it again.
    pub fn settle_at_lo(&mut self) -> Result<(), Error> {
        if self.resolvers.classes.is_empty() { self.programs.release(&[AT_LO]) } else { Ok(()) }
    }

    /// All containers with a class.
    pub fn resolvers(&self) -> Vec<Id> {
        self.resolvers.classes.keys().copied().collect()
    }

    /// The program for `lo` of containers. It is loaded if that is needed.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses it.
    pub fn program_at_lo(&mut self) -> Result<LoadedProgram, Error> {
        self.programs.need(&[AT_LO])?;
        let pin = self.pins.program(AT_LO);
        let failed = |error| Error::failed("open the program", AT_LO, error);
        let program: &mut SchedClassifier = self
            .programs
            .object()
            .program_mut(AT_LO)
            .ok_or_else(|| Error::failed("find the program", AT_LO, pin.display().to_string()))?
            .try_into()
            .map_err(failed)?;
        let id = program.info().map_err(failed)?.id();
        let descriptor = program.fd().and_then(|fd| Ok(fd.as_fd().try_clone_to_owned()?)).map_err(failed)?;
        Ok(LoadedProgram { descriptor, id })
    }
}

/// The entry with these networks, or without any if they are too many, or one of them is incomplete.
fn with_networks(resolver: Resolver, networks: &[u32], incomplete: &BTreeSet<u32>) -> Resolver {
    let is_complete = networks.iter().all(|network| !incomplete.contains(network));
    let count = if networks.len() > MAX_VIEW || !is_complete { 0 } else { networks.len() };
    let mut resolver = Resolver { count: count as u32, networks: [0; MAX_VIEW], ..resolver };
    resolver.networks[..count].copy_from_slice(&networks[..count]);
    resolver
}
