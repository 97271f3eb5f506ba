//! The maps, typed: what is read from them and written to them. Knows no order of writing and no meaning.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use aya::{
    Ebpf, Pod,
    maps::{
        Array, HashMap, Map, MapData, MapError, MapInfo, MapType, PerCpuArray, PerCpuValues,
        lpm_trie::{Key, LpmTrie},
    },
    util::nr_cpus,
};
use netbpf_common::{
    endpoint::{
        FDB_SLOTS, FdbKey, MAX_PORTS, MAX_STATIONS, Neighbour, NeighbourKey, Owned, OwnedKey, Port, Station,
    },
    flood::Flood,
    link::{Link, LinkKey, MAX_LINKS},
    network::{MAX_NETWORKS, Network},
    reason::{Reason, Reasons},
    stats::{Counter, PortStats},
    uplink::{ClosedSubnet, MAX_CLOSED_SUBNETS, MAX_UPLINKS, Uplink},
};

use super::{Error, pins::Pins};
use crate::model::Mac;

/// Key of `CLOSED_SUBNETS`: length of the prefix in bits, address in network order.
pub type Prefix = Key<[u8; 16]>;

/// The pinned maps as the programs' object declares them: name, type, sizes of key and value, entries.
const LAYOUTS: &[(&str, MapType, usize, usize, u32)] = &[
    ("NETWORKS", MapType::Array, 4, size_of::<Network>(), MAX_NETWORKS),
    ("PORTS", MapType::Array, 4, size_of::<Port>(), MAX_PORTS),
    ("FDB", MapType::Hash, size_of::<FdbKey>(), size_of::<Station>(), MAX_STATIONS),
    ("FDB_SLOTS", MapType::Array, 4, size_of::<Station>(), FDB_SLOTS),
    ("NEIGHBOURS", MapType::Hash, size_of::<NeighbourKey>(), size_of::<Neighbour>(), MAX_STATIONS),
    ("OWNED", MapType::Hash, size_of::<OwnedKey>(), size_of::<Owned>(), MAX_STATIONS),
    ("LINKS", MapType::Hash, size_of::<LinkKey>(), size_of::<Link>(), MAX_LINKS),
    ("REASONS", MapType::PerCpuArray, 4, size_of::<Reasons>(), 1),
    ("PORT_STATS", MapType::PerCpuArray, 4, size_of::<PortStats>(), MAX_PORTS),
    ("FLOODS", MapType::Array, 4, size_of::<Flood>(), MAX_PORTS),
    ("CLOSED_SUBNETS", MapType::LpmTrie, size_of::<Prefix>(), size_of::<ClosedSubnet>(), MAX_CLOSED_SUBNETS),
    ("UPLINKS", MapType::Hash, 4, size_of::<Uplink>(), MAX_UPLINKS),
    ("FLOOD", MapType::ProgramArray, 4, 4, 1),
];

/// The names of the maps that are pinned.
pub fn names() -> impl Iterator<Item = &'static str> {
    LAYOUTS.iter().map(|(name, ..)| *name)
}

/// Refuses pinned maps that are not as declared. The loader would take them as they are, and the kernel would then
/// read and write beside our values.
pub fn check_pinned(pins: &Pins) -> Result<(), Error> {
    for &(name, kind, key, value, entries) in LAYOUTS {
        let path = pins.map(name);
        if !path.exists() {
            continue;
        }
        let failed = |error: MapError| Error::failed("open", path.display(), error);
        let info = MapInfo::from_pin(&path).map_err(failed)?;
        let found =
            (info.map_type().map_err(failed)?, info.key_size(), info.value_size(), info.max_entries());
        let expected = (kind, key as u32, value as u32, entries);
        if found != expected {
            let difference = format!("expected {expected:?}, found {found:?}");
            return Err(Error::Foreign { path, difference, folder: pins.root().to_path_buf() });
        }
    }
    Ok(())
}

/// All maps but the program array.
pub struct Tables {
    networks: Array<MapData, Network>,
    ports: Array<MapData, Port>,
    fdb: HashMap<MapData, FdbKey, Station>,
    fdb_slots: Array<MapData, Station>,
    neighbours: HashMap<MapData, NeighbourKey, Neighbour>,
    owned: HashMap<MapData, OwnedKey, Owned>,
    links: HashMap<MapData, LinkKey, Link>,
    reasons: PerCpuArray<MapData, Reasons>,
    port_stats: PerCpuArray<MapData, PortStats>,
    floods: Array<MapData, Flood>,
    closed_subnets: LpmTrie<MapData, [u8; 16], ClosedSubnet>,
    uplinks: HashMap<MapData, u32, Uplink>,
}

impl Tables {
    /// Takes them from a loaded object.
    pub fn take(object: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            networks: take(object, "NETWORKS")?,
            ports: take(object, "PORTS")?,
            fdb: take(object, "FDB")?,
            fdb_slots: take(object, "FDB_SLOTS")?,
            neighbours: take(object, "NEIGHBOURS")?,
            owned: take(object, "OWNED")?,
            links: take(object, "LINKS")?,
            reasons: take(object, "REASONS")?,
            port_stats: take(object, "PORT_STATS")?,
            floods: take(object, "FLOODS")?,
            closed_subnets: take(object, "CLOSED_SUBNETS")?,
            uplinks: take(object, "UPLINKS")?,
        })
    }

    /// The networks that are not vacant, by number.
    pub fn networks(&self) -> Result<Vec<(u32, Network)>, Error> {
        occupied(&self.networks, |network| network.ifindex != 0).map_err(reading("NETWORKS"))
    }

    /// The ports that are not vacant, by number.
    pub fn ports(&self) -> Result<Vec<(u32, Port)>, Error> {
        occupied(&self.ports, |port| port.ifindex != 0).map_err(reading("PORTS"))
    }

    /// All of the FDB.
    pub fn fdb(&self) -> Result<Vec<(FdbKey, Station)>, Error> {
        self.fdb.iter().collect::<Result<_, _>>().map_err(reading("FDB"))
    }

    /// All neighbours.
    pub fn neighbours(&self) -> Result<Vec<(NeighbourKey, Neighbour)>, Error> {
        self.neighbours.iter().collect::<Result<_, _>>().map_err(reading("NEIGHBOURS"))
    }

    /// Writes a network; the default is a vacant one.
    pub fn set_network(&mut self, number: u32, network: Network) -> Result<(), Error> {
        self.networks
            .set(number, network, 0)
            .map_err(|error| Error::failed("write to NETWORKS network", number, error))
    }

    /// Writes a port; the default is a vacant one.
    pub fn set_port(&mut self, number: u32, port: Port) -> Result<(), Error> {
        self.ports.set(number, port, 0).map_err(|error| Error::failed("write to PORTS port", number, error))
    }

    /// Says where a MAC is.
    pub fn set_station(&mut self, key: FdbKey, station: Station) -> Result<(), Error> {
        let failed = |error| Error::failed("write to FDB", Mac::from_octets(key.mac), error);
        self.fdb.insert(key, station, 0).map_err(failed)?;
        self.fdb_slots.set(FdbKey::slot(key.network, key.mac), station, 0).map_err(failed)
    }

    /// Forgets where a MAC is.
    pub fn remove_station(&mut self, key: FdbKey, station: Station) -> Result<(), Error> {
        let failed = |error| Error::failed("remove from FDB", Mac::from_octets(key.mac), error);
        let slot = FdbKey::slot(key.network, key.mac);
        // The slot may be another's by now, which has the same.
        if self.fdb_slots.get(&slot, 0).map_err(failed)? == station {
            self.fdb_slots.set(slot, Station::default(), 0).map_err(failed)?;
        }
        gone(self.fdb.remove(&key)).map_err(failed)
    }

    /// Says whose an address is.
    pub fn set_neighbour(&mut self, key: NeighbourKey, neighbour: Neighbour) -> Result<(), Error> {
        self.neighbours
            .insert(key, neighbour, 0)
            .map_err(|error| Error::failed("write to NEIGHBOURS", key.ip(), error))
    }

    /// Forgets whose an address is.
    pub fn remove_neighbour(&mut self, key: NeighbourKey) -> Result<(), Error> {
        gone(self.neighbours.remove(&key))
            .map_err(|error| Error::failed("remove from NEIGHBOURS", key.ip(), error))
    }

    /// Who owns what.
    pub fn owned(&self) -> Result<Vec<(OwnedKey, Owned)>, Error> {
        self.owned.iter().collect::<Result<_, _>>().map_err(reading("OWNED"))
    }

    /// Says which port of a container has an address.
    pub fn set_owned(&mut self, key: OwnedKey, owned: Owned) -> Result<(), Error> {
        self.owned
            .insert(key, owned, 0)
            .map_err(|error| Error::failed("write to OWNED an address of port", owned.port, error))
    }

    /// Forgets that a container has an address.
    pub fn remove_owned(&mut self, key: OwnedKey, port: u32) -> Result<(), Error> {
        gone(self.owned.remove(&key))
            .map_err(|error| Error::failed("remove from OWNED an address of port", port, error))
    }

    /// All links.
    pub fn links(&self) -> Result<BTreeSet<LinkKey>, Error> {
        self.links.keys().collect::<Result<_, _>>().map_err(reading("LINKS"))
    }

    /// Lets a port ask another.
    pub fn open_link(&mut self, key: LinkKey) -> Result<(), Error> {
        self.links
            .insert(key, Link { open: 1 }, 0)
            .map_err(|error| Error::failed("write to LINKS the link of port", key.from, error))
    }

    /// Does so no more.
    pub fn close_link(&mut self, key: LinkKey) -> Result<(), Error> {
        gone(self.links.remove(&key))
            .map_err(|error| Error::failed("remove from LINKS the link of port", key.from, error))
    }

    /// All closed subnets.
    pub fn closed_subnets(&self) -> Result<Vec<(Prefix, ClosedSubnet)>, Error> {
        self.closed_subnets.iter().collect::<Result<_, _>>().map_err(reading("CLOSED_SUBNETS"))
    }

    /// Closes a subnet.
    pub fn close_subnet(&mut self, prefix: Prefix, subnet: ClosedSubnet) -> Result<(), Error> {
        self.closed_subnets
            .insert(&prefix, subnet, 0)
            .map_err(|error| Error::failed("write to CLOSED_SUBNETS", shown(prefix), error))
    }

    /// Opens it.
    pub fn open_subnet(&mut self, prefix: Prefix) -> Result<(), Error> {
        gone(self.closed_subnets.remove(&prefix))
            .map_err(|error| Error::failed("remove from CLOSED_SUBNETS", shown(prefix), error))
    }

    /// All uplinks.
    pub fn uplinks(&self) -> Result<BTreeMap<u32, Uplink>, Error> {
        self.uplinks.iter().collect::<Result<_, _>>().map_err(reading("UPLINKS"))
    }

    /// Enters an uplink.
    pub fn set_uplink(&mut self, ifindex: u32, uplink: Uplink) -> Result<(), Error> {
        self.uplinks
            .insert(ifindex, uplink, 0)
            .map_err(|error| Error::failed("write to UPLINKS link", ifindex, error))
    }

    /// Forgets an uplink.
    pub fn remove_uplink(&mut self, ifindex: u32) -> Result<(), Error> {
        gone(self.uplinks.remove(&ifindex))
            .map_err(|error| Error::failed("remove from UPLINKS link", ifindex, error))
    }

    /// The counters by reason, of all CPUs together.
    pub fn reasons(&self) -> Result<Vec<(Reason, Counter)>, Error> {
        let values = self.reasons.get(&0, 0).map_err(reading("REASONS"))?;
        let sum = |reason: &Reason| (*reason, values.iter().map(|cpu| cpu.get(*reason)).sum());
        Ok(Reason::ALL.iter().map(sum).collect())
    }

    /// A port's counters, of all CPUs together.
    pub fn port_stats(&self, number: u32) -> Result<PortStats, Error> {
        let values = self.port_stats.get(&number, 0).map_err(reading("PORT_STATS"))?;
        Ok(PortStats {
            received: values.iter().map(|cpu| cpu.received).sum(),
            dropped: values.iter().map(|cpu| cpu.dropped).sum(),
        })
    }

    /// Sets a port's counters to zero, and what it has flooded.
    pub fn reset_port_stats(&mut self, number: u32) -> Result<(), Error> {
        let failed = |error: MapError| Error::failed("reset in PORT_STATS port", number, error);
        let cpus = nr_cpus().map_err(|(file, error)| Error::failed("count CPUs in", file, error))?;
        let zeros =
            PerCpuValues::try_from(vec![PortStats::default(); cpus]).map_err(|error| failed(error.into()))?;
        self.port_stats.set(number, zeros, 0).map_err(failed)?;
        let failed = |error| Error::failed("reset in FLOODS port", number, error);
        self.floods.set(number, Flood::default(), 0).map_err(failed)
    }
}

fn shown(prefix: Prefix) -> String {
    format!("{}/{}", Ipv6Addr::from(prefix.data()), prefix.prefix_len())
}

/// A typed map out of the object.
fn take<T: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, name: &'static str) -> Result<T, Error> {
    let map =
        object.take_map(name).ok_or_else(|| Error::failed("find the map", name, "the object has none"))?;
    T::try_from(map).map_err(|error| Error::failed("open the map", name, error))
}

fn occupied<T: Pod>(map: &Array<MapData, T>, is_occupied: fn(&T) -> bool) -> Result<Vec<(u32, T)>, MapError> {
    let mut found = Vec::new();
    for number in 0..map.len() {
        let value = map.get(&number, 0)?;
        if is_occupied(&value) {
            found.push((number, value));
        }
    }
    Ok(found)
}

fn reading(map: &'static str) -> impl Fn(MapError) -> Error {
    move |error| Error::failed("read", map, error)
}

/// What is not there needs no removing.
fn gone(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
