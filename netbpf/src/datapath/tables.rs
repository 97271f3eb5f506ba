//! Typed reading and writing of the maps. Must not know the order of writes or the meaning of entries.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    path::PathBuf,
};

use aya::{
    Ebpf, Pod,
    maps::{
        Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues,
        lpm_trie::{Key, LpmTrie},
    },
    util::nr_cpus,
};
use ipnet::IpNet;
use netbpf_common::{
    access::{
        Further as FurtherValue, FurtherKey, Learning, Learnt, LearntMac, LearntOfKey, MAX_FURTHER,
        MAX_LEARNT_OF_ENDPOINT,
    },
    allowed::{Allowed, AllowedKey, MAX_ALLOWED},
    drops::{DropKey, Drops, MAX_DROPS},
    endpoint::{Endpoint, FdbKey, Neighbour, NeighbourKey, Owned, OwnedKey, Station},
    flood::Flood,
    limit::EgressLimit,
    network::Network,
    reason::{Reason, Reasons},
    stats::{Counter, EndpointStats},
    uplink::{ClosedSubnet, MAX_CLOSED_SUBNETS, MAX_UPLINKS, Uplink},
};
use nix::libc::{E2BIG, ENOSPC};

use super::{Error, layouts, open, pins::Pins, room::Room};
use crate::{fault, model::Mac};

/// Key of `CLOSED_SUBNETS`: prefix length in bits, address in network order.
pub type Prefix = Key<[u8; 16]>;

/// Key of `FURTHER`: prefix length in bits, endpoint and subnet.
pub type Further = Key<FurtherKey>;

/// Open descriptors of the pinned maps, to pin them again if somebody removes their pins.
pub struct PinnedMaps(Vec<(&'static str, MapData)>);

impl PinnedMaps {
    /// Opens all of them.
    pub fn open(pins: &Pins) -> Result<Self, Error> {
        let open = |name| {
            let pin = pins.map(name);
            let map = MapData::from_pin(&pin).map_err(|error| Error::failed("open", pin.display(), error))?;
            Ok((name, map))
        };
        layouts::names().map(open).collect::<Result<_, _>>().map(Self)
    }

    /// Pins those that are not pinned any more. Returns the pins.
    pub fn restore_pins(&self, pins: &Pins) -> Result<Vec<PathBuf>, Error> {
        let mut restored = Vec::new();
        for (name, map) in &self.0 {
            let pin = pins.map(name);
            if !pin.exists() {
                map.pin(&pin).map_err(|error| Error::failed("pin the map", name, error))?;
                restored.push(pin);
            }
        }
        Ok(restored)
    }
}

/// All maps that are read and written by entry.
pub struct Tables {
    room: Room,
    networks: Array<MapData, Network>,
    endpoints: Array<MapData, Endpoint>,
    fdb: HashMap<MapData, FdbKey, Station>,
    fdb_slots: Array<MapData, Station>,
    neighbours: HashMap<MapData, NeighbourKey, Neighbour>,
    owned: HashMap<MapData, OwnedKey, Owned>,
    allowed: HashMap<MapData, AllowedKey, Allowed>,
    reasons: PerCpuArray<MapData, Reasons>,
    endpoint_stats: PerCpuArray<MapData, EndpointStats>,
    drops: HashMap<MapData, DropKey, Drops>,
    floods: Array<MapData, Flood>,
    limits: Array<MapData, EgressLimit>,
    closed_subnets: LpmTrie<MapData, [u8; 16], ClosedSubnet>,
    uplinks: HashMap<MapData, u32, Uplink>,
    further: LpmTrie<MapData, FurtherKey, FurtherValue>,
    learnt: HashMap<MapData, FdbKey, Learnt>,
    learnt_of: HashMap<MapData, LearntOfKey, LearntMac>,
    learning: Array<MapData, Learning>,
}

impl Tables {
    /// Takes the maps from a loaded object.
    pub fn take(object: &mut Ebpf, room: Room) -> Result<Self, Error> {
        Ok(Self {
            room,
            networks: take(object, "NETWORKS")?,
            endpoints: take(object, "ENDPOINTS")?,
            fdb: take(object, "FDB")?,
            fdb_slots: take(object, "FDB_SLOTS")?,
            neighbours: take(object, "NEIGHBOURS")?,
            owned: take(object, "OWNED")?,
            allowed: take(object, "ALLOWED")?,
            reasons: take(object, "REASONS")?,
            endpoint_stats: take(object, "ENDPOINT_STATS")?,
            drops: take(object, "DROPS")?,
            floods: take(object, "FLOODS")?,
            limits: take(object, "LIMITS")?,
            closed_subnets: take(object, "CLOSED_SUBNETS")?,
            uplinks: take(object, "UPLINKS")?,
            further: take(object, "FURTHER")?,
            learnt: take(object, "LEARNT")?,
            learnt_of: take(object, "LEARNT_OF")?,
            learning: take(object, "LEARNING")?,
        })
    }

    /// Copies what is in a map of another size. The other maps of the room follow from `NETWORKS` and `ENDPOINTS`, or hold
    /// what counts for a second.
    pub fn copy(&mut self, name: &str, from: MapData) -> Result<(), Error> {
        let copied = match name {
            "NETWORKS" => copy(from, &mut self.networks),
            "ENDPOINTS" => copy(from, &mut self.endpoints),
            "LIMITS" => copy(from, &mut self.limits),
            "LEARNING" => copy(from, &mut self.learning),
            "ENDPOINT_STATS" => copy_counters(from, &mut self.endpoint_stats),
            _ => Ok(()),
        };
        copied.map_err(|error| Error::failed("copy the map", name, error))
    }

    /// The networks that are not vacant, by number.
    pub fn networks(&self) -> Result<Vec<(u32, Network)>, Error> {
        occupied(&self.networks, |network| network.ifindex != 0).map_err(reading("NETWORKS"))
    }

    /// The endpoints that are not vacant, by number.
    pub fn endpoints(&self) -> Result<Vec<(u32, Endpoint)>, Error> {
        occupied(&self.endpoints, |endpoint| endpoint.ifindex != 0).map_err(reading("ENDPOINTS"))
    }

    /// All entries of the FDB.
    pub fn fdb(&self) -> Result<Vec<(FdbKey, Station)>, Error> {
        self.fdb.iter().collect::<Result<_, _>>().map_err(reading("FDB"))
    }

    /// All neighbours.
    pub fn neighbours(&self) -> Result<Vec<(NeighbourKey, Neighbour)>, Error> {
        self.neighbours.iter().collect::<Result<_, _>>().map_err(reading("NEIGHBOURS"))
    }

    /// Writes a network; the default value marks a vacant entry.
    pub fn set_network(&mut self, number: u32, network: Network) -> Result<(), Error> {
        write(|| self.networks.set(number, network, 0))
            .map_err(|error| Error::failed("write to NETWORKS network", number, error))
    }

    /// Writes an endpoint; the default value marks a vacant entry.
    pub fn set_endpoint(&mut self, number: u32, endpoint: Endpoint) -> Result<(), Error> {
        write(|| self.endpoints.set(number, endpoint, 0))
            .map_err(|error| Error::failed("write to ENDPOINTS endpoint", number, error))
    }

    /// Adds a MAC to the FDB.
    pub fn set_station(&mut self, key: FdbKey, station: Station) -> Result<(), Error> {
        let failed = |error| Error::failed("write to FDB", Mac::from_octets(key.mac), error);
        add("MAC address", self.room.stations(), || self.fdb.insert(key, station, 0), failed)?;
        write(|| self.fdb_slots.set(FdbKey::slot(key.network, key.mac), station, 0)).map_err(failed)
    }

    /// Removes a MAC from the FDB.
    pub fn remove_station(&mut self, key: FdbKey, station: Station) -> Result<(), Error> {
        let failed = |error| Error::failed("remove from FDB", Mac::from_octets(key.mac), error);
        let slot = FdbKey::slot(key.network, key.mac);
        // Another MAC with the same slot may have taken it.
        if self.fdb_slots.get(&slot, 0).map_err(failed)? == station {
            write(|| self.fdb_slots.set(slot, Station::default(), 0)).map_err(failed)?;
        }
        remove(|| self.fdb.remove(&key)).map_err(failed)
    }

    /// Adds a neighbour.
    pub fn set_neighbour(&mut self, key: NeighbourKey, neighbour: Neighbour) -> Result<(), Error> {
        let failed = |error| Error::failed("write to NEIGHBOURS", key.ip(), error);
        add("address", self.room.neighbours(), || self.neighbours.insert(key, neighbour, 0), failed)
    }

    /// Removes a neighbour.
    pub fn remove_neighbour(&mut self, key: NeighbourKey) -> Result<(), Error> {
        remove(|| self.neighbours.remove(&key))
            .map_err(|error| Error::failed("remove from NEIGHBOURS", key.ip(), error))
    }

    /// All addresses of containers.
    pub fn owned(&self) -> Result<Vec<(OwnedKey, Owned)>, Error> {
        self.owned.iter().collect::<Result<_, _>>().map_err(reading("OWNED"))
    }

    /// Adds an address of a container.
    pub fn set_owned(&mut self, key: OwnedKey, owned: Owned) -> Result<(), Error> {
        let failed = |error| Error::failed("write to OWNED an address of endpoint", owned.endpoint, error);
        add("address of a container", self.room.stations(), || self.owned.insert(key, owned, 0), failed)
    }

    /// Removes an address of a container.
    pub fn remove_owned(&mut self, key: OwnedKey, endpoint: u32) -> Result<(), Error> {
        remove(|| self.owned.remove(&key))
            .map_err(|error| Error::failed("remove from OWNED an address of endpoint", endpoint, error))
    }

    /// All exceptions for members that must not talk to each other.
    pub fn allowed(&self) -> Result<BTreeSet<AllowedKey>, Error> {
        self.allowed.keys().collect::<Result<_, _>>().map_err(reading("ALLOWED"))
    }

    /// Adds an exception.
    pub fn allow(&mut self, key: AllowedKey) -> Result<(), Error> {
        let failed = |error| Error::failed("write to ALLOWED an entry of endpoint", key.from, error);
        let what = "exposed port of a linked container";
        add(what, MAX_ALLOWED, || self.allowed.insert(key, Allowed { yes: 1 }, 0), failed)
    }

    /// Removes an exception.
    pub fn disallow(&mut self, key: AllowedKey) -> Result<(), Error> {
        remove(|| self.allowed.remove(&key))
            .map_err(|error| Error::failed("remove from ALLOWED an entry of endpoint", key.from, error))
    }

    /// The limits of endpoints that have one, with nothing used.
    pub fn limits(&self) -> Result<BTreeMap<u32, EgressLimit>, Error> {
        let limits = occupied(&self.limits, |limit| limit.rate != 0).map_err(reading("LIMITS"))?;
        Ok(limits.into_iter().map(|(number, limit)| (number, limit.unused())).collect())
    }

    /// Writes the limit of an endpoint; the default value is none.
    pub fn set_limit(&mut self, number: u32, limit: EgressLimit) -> Result<(), Error> {
        write(|| self.limits.set(number, limit, 0))
            .map_err(|error| Error::failed("write to LIMITS endpoint", number, error))
    }

    /// All closed subnets.
    pub fn closed_subnets(&self) -> Result<Vec<(Prefix, ClosedSubnet)>, Error> {
        self.closed_subnets.iter().collect::<Result<_, _>>().map_err(reading("CLOSED_SUBNETS"))
    }

    /// Closes a subnet.
    pub fn close_subnet(&mut self, prefix: Prefix, subnet: ClosedSubnet) -> Result<(), Error> {
        let failed = |error| Error::failed("write to CLOSED_SUBNETS", shown(prefix), error);
        let what = "subnet that is closed to other hosts";
        add(what, MAX_CLOSED_SUBNETS, || self.closed_subnets.insert(&prefix, subnet, 0), failed)
    }

    /// Opens a subnet.
    pub fn open_subnet(&mut self, prefix: Prefix) -> Result<(), Error> {
        remove(|| self.closed_subnets.remove(&prefix))
            .map_err(|error| Error::failed("remove from CLOSED_SUBNETS", shown(prefix), error))
    }

    /// All uplinks.
    pub fn uplinks(&self) -> Result<BTreeMap<u32, Uplink>, Error> {
        self.uplinks.iter().collect::<Result<_, _>>().map_err(reading("UPLINKS"))
    }

    /// Adds an uplink.
    pub fn set_uplink(&mut self, ifindex: u32, uplink: Uplink) -> Result<(), Error> {
        let failed = |error| Error::failed("write to UPLINKS link", ifindex, error);
        add("uplink", MAX_UPLINKS, || self.uplinks.insert(ifindex, uplink, 0), failed)
    }

    /// Removes an uplink.
    pub fn remove_uplink(&mut self, ifindex: u32) -> Result<(), Error> {
        remove(|| self.uplinks.remove(&ifindex))
            .map_err(|error| Error::failed("remove from UPLINKS link", ifindex, error))
    }

    /// The further subnets of all endpoints.
    pub fn further(&self) -> Result<BTreeMap<u32, BTreeSet<IpNet>>, Error> {
        let mut found: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for key in self.further.keys() {
            let (endpoint, subnet) = open::further(&key.map_err(reading("FURTHER"))?);
            found.entry(endpoint).or_default().extend(subnet);
        }
        Ok(found)
    }

    /// Adds a further subnet of an endpoint.
    pub fn add_further(&mut self, key: Further, value: FurtherValue) -> Result<(), Error> {
        let failed =
            |error| Error::failed("write to FURTHER a subnet of endpoint", key.data().endpoint, error);
        let what = "further subnet of an endpoint";
        add(what, MAX_FURTHER, || self.further.insert(&key, value, 0), failed)
    }

    /// Removes a further subnet of an endpoint.
    pub fn remove_further(&mut self, key: Further) -> Result<(), Error> {
        remove(|| self.further.remove(&key)).map_err(|error| {
            Error::failed("remove from FURTHER a subnet of endpoint", key.data().endpoint, error)
        })
    }

    /// Removes the MACs that were learnt of an endpoint of a network.
    pub fn forget_learnt(&mut self, endpoint: u32, network: u32) -> Result<(), Error> {
        let failed = |error| Error::failed("remove from LEARNT MACs of endpoint", endpoint, error);
        let Learning { count } = self.learning.get(&endpoint, 0).map_err(failed)?;
        for place in 0..count.min(MAX_LEARNT_OF_ENDPOINT) {
            let place = LearntOfKey { endpoint, place };
            let LearntMac { mac, .. } = match self.learnt_of.get(&place, 0) {
                Err(MapError::KeyNotFound) => continue,
                found => found.map_err(failed)?,
            };
            let key = FdbKey { network, mac, reserved: [0; 2] };
            if self.learnt.get(&key, 0).is_ok_and(|learnt| learnt.endpoint == endpoint) {
                remove(|| self.learnt.remove(&key)).map_err(failed)?;
            }
            remove(|| self.learnt_of.remove(&place)).map_err(failed)?;
        }
        write(|| self.learning.set(endpoint, Learning::default(), 0)).map_err(failed)
    }

    /// Removes learnt MACs of endpoints for which `is_kept` is false; the network is given if known.
    pub fn keep_learnt(&mut self, is_kept: impl Fn(u32, Option<u32>) -> bool) -> Result<(), Error> {
        let macs: Vec<_> = self.learnt.iter().collect::<Result<_, _>>().map_err(reading("LEARNT"))?;
        for (key, _) in macs.iter().filter(|(key, learnt)| !is_kept(learnt.endpoint, Some(key.network))) {
            let failed = |error| Error::failed("remove from LEARNT", Mac::from_octets(key.mac), error);
            remove(|| self.learnt.remove(key)).map_err(failed)?;
        }
        let places: Vec<_> = self.learnt_of.keys().collect::<Result<_, _>>().map_err(reading("LEARNT_OF"))?;
        for place in places.iter().filter(|place| !is_kept(place.endpoint, None)) {
            let failed =
                |error| Error::failed("remove from LEARNT_OF a MAC of endpoint", place.endpoint, error);
            remove(|| self.learnt_of.remove(place)).map_err(failed)?;
        }
        Ok(())
    }

    /// The counters by reason, summed over all CPUs.
    pub fn reasons(&self) -> Result<Vec<(Reason, Counter)>, Error> {
        let values = self.reasons.get(&0, 0).map_err(reading("REASONS"))?;
        let sum = |reason: &Reason| (*reason, values.iter().map(|cpu| cpu.get(*reason)).sum());
        Ok(Reason::ALL.iter().map(sum).collect())
    }

    /// An endpoint's counters, summed over all CPUs.
    pub fn endpoint_stats(&self, number: u32) -> Result<EndpointStats, Error> {
        let values = self.endpoint_stats.get(&number, 0).map_err(reading("ENDPOINT_STATS"))?;
        Ok(EndpointStats {
            from_members: values.iter().map(|cpu| cpu.from_members).sum(),
            from_host: values.iter().map(|cpu| cpu.from_host).sum(),
            to_host: values.iter().map(|cpu| cpu.to_host).sum(),
            dropped: values.iter().map(|cpu| cpu.dropped).sum(),
        })
    }

    /// What was dropped, by kind.
    pub fn drops(&self) -> Result<BTreeMap<DropKey, Drops>, Error> {
        let mut found = BTreeMap::new();
        for key in self.drop_keys()? {
            match self.drops.get(&key, 0) {
                Ok(drops) => _ = found.insert(key, drops),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(reading("DROPS")(error)),
            }
        }
        Ok(found)
    }

    /// The kinds of drops. The kernel begins anew if the key that was read last is gone, so there is an end for when many
    /// come and go meanwhile.
    fn drop_keys(&self) -> Result<BTreeSet<DropKey>, Error> {
        let keys = self.drops.keys().take(4 * MAX_DROPS as usize);
        keys.collect::<Result<_, _>>().map_err(reading("DROPS"))
    }

    /// Forgets kinds of drops.
    pub fn forget_drops(&mut self, is_gone: impl Fn(&DropKey) -> bool) -> Result<(), Error> {
        self.drop_keys()?.into_iter().filter(|key| is_gone(key)).try_for_each(|key| {
            remove(|| self.drops.remove(&key))
                .map_err(|error| Error::failed("remove from DROPS an entry of link", key.ifindex, error))
        })
    }

    /// Resets an endpoint's counters and its used share of copies.
    pub fn reset_endpoint_stats(&mut self, number: u32) -> Result<(), Error> {
        let failed = |error: MapError| Error::failed("reset in ENDPOINT_STATS endpoint", number, error);
        let cpus = nr_cpus().map_err(|(file, error)| Error::failed("count CPUs in", file, error))?;
        let zeros = PerCpuValues::try_from(vec![EndpointStats::default(); cpus])
            .map_err(|error| failed(error.into()))?;
        write(|| self.endpoint_stats.set(number, zeros, 0)).map_err(failed)?;
        let failed = |error| Error::failed("reset in FLOODS endpoint", number, error);
        write(|| self.floods.set(number, Flood::default(), 0)).map_err(failed)
    }
}

fn shown(prefix: Prefix) -> String {
    format!("{}/{}", Ipv6Addr::from(prefix.data()), prefix.prefix_len())
}

/// Takes a typed map out of the object.
pub fn take<T: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, name: &'static str) -> Result<T, Error> {
    let map =
        object.take_map(name).ok_or_else(|| Error::failed("find the map", name, "the object has none"))?;
    T::try_from(map).map_err(|error| Error::failed("open the map", name, error))
}

fn copy<T: Pod>(from: MapData, to: &mut Array<MapData, T>) -> Result<(), MapError> {
    let from = Array::<MapData, T>::try_from(Map::Array(from))?;
    (0..from.len().min(to.len())).try_for_each(|number| to.set(number, from.get(&number, 0)?, 0))
}

fn copy_counters<T: Pod>(from: MapData, to: &mut PerCpuArray<MapData, T>) -> Result<(), MapError> {
    let from = PerCpuArray::<MapData, T>::try_from(Map::PerCpuArray(from))?;
    (0..from.len().min(to.len())).try_for_each(|number| to.set(number, from.get(&number, 0)?, 0))
}

/// How many entries of an array there are up to the last one that is not vacant.
pub fn used<T: Pod>(map: MapData, is_occupied: fn(&T) -> bool) -> Result<u32, MapError> {
    let found = occupied(&Array::<MapData, T>::try_from(Map::Array(map))?, is_occupied)?;
    Ok(found.last().map_or(0, |(number, _)| number + 1))
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

pub fn reading(map: &'static str) -> impl Fn(MapError) -> Error {
    move |error| Error::failed("read", map, error)
}

fn write(written: impl FnOnce() -> Result<(), MapError>) -> Result<(), MapError> {
    fault::call("write to a map")?;
    written()
}

/// Adds an entry of a map with room for `most`; if that is full, the error says so.
pub fn add(
    what: &'static str,
    most: u32,
    added: impl FnOnce() -> Result<(), MapError>,
    failed: impl FnOnce(MapError) -> Error,
) -> Result<(), Error> {
    write(added).map_err(|error| if is_full(&error) { Error::Full { what, most } } else { failed(error) })
}

/// Hash maps and tries report a missing entry in different ways.
fn is_full(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(error)
        if matches!(error.io_error.raw_os_error(), Some(E2BIG | ENOSPC)))
}

/// Ignores that the entry does not exist.
pub fn remove(removed: impl FnOnce() -> Result<(), MapError>) -> Result<(), MapError> {
    match write(removed) {
        Err(error) if is_missing(&error) => Ok(()),
        result => result,
    }
}

/// Whether an entry does not exist.
pub fn is_missing(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound | MapError::ElementNotFound => true,
        MapError::SyscallError(error) => error.io_error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}
