//! How many networks and endpoints the maps have room for. Arrays take memory for all of their entries, so they are small at
//! first. When there are more networks or endpoints, programs with larger maps replace those that run; the next start goes
//! back to small ones if they suffice.
//!
//! The maps that are replaced keep their pins under other names until the new programs are attached. A daemon that is
//! killed meanwhile leaves both, and the next one begins anew with the former ones.

use std::{fs, mem};

use aya::maps::{MapData, MapInfo};
use netbpf_common::{
    endpoint::{self, Endpoint, MAX_ENDPOINTS, USUAL_ENDPOINTS},
    network::{MAX_NETWORKS, Network, USUAL_NETWORKS},
};

use super::{
    Datapath, Error, ProgramLogs, layouts,
    names::{VIEWS, Views},
    pins::{Pins, remove},
    programs::Programs,
    tables::{self, PinnedMaps, Tables},
    warn,
};
use crate::fault;

/// How many there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Networks.
    pub networks: u32,
    /// Endpoints.
    pub endpoints: u32,
}

impl Room {
    /// The largest room.
    pub const LARGEST: Self = Self { networks: MAX_NETWORKS, endpoints: MAX_ENDPOINTS };

    /// That of most hosts.
    pub fn usual() -> Self {
        Self {
            networks: fault::limit("usual-networks", USUAL_NETWORKS),
            endpoints: fault::limit("usual-endpoints", USUAL_ENDPOINTS),
        }
    }

    /// The smallest one for so many.
    fn for_all(networks: u32, endpoints: u32) -> Self {
        let usual = Self::usual();
        if networks <= usual.networks && endpoints <= usual.endpoints { usual } else { Self::LARGEST }
    }

    /// The smallest one for all that the pinned maps have.
    pub fn for_pinned(pins: &Pins) -> Result<Self, Error> {
        let open = |name| {
            let pin = [pins.former_map(name), pins.map(name)].into_iter().find(|pin| pin.exists());
            pin.map(MapData::from_pin).transpose().map_err(tables::reading(name))
        };
        let networks =
            open("NETWORKS")?.map(|map| tables::used(map, |network: &Network| network.ifindex != 0));
        let endpoints =
            open("ENDPOINTS")?.map(|map| tables::used(map, |endpoint: &Endpoint| endpoint.ifindex != 0));
        let networks = networks.transpose().map_err(tables::reading("NETWORKS"))?;
        let endpoints = endpoints.transpose().map_err(tables::reading("ENDPOINTS"))?;
        Ok(Self::for_all(networks.unwrap_or_default(), endpoints.unwrap_or_default()))
    }

    /// The size of `FDB` and `OWNED`.
    pub fn stations(self) -> u32 {
        endpoint::stations(self.endpoints)
    }

    /// The size of `NEIGHBOURS`.
    pub fn neighbours(self) -> u32 {
        endpoint::neighbours(self.networks, self.endpoints)
    }
}

/// Maps of another size, which programs may still use.
pub struct Former<'a> {
    pins: &'a Pins,
    maps: Vec<&'static str>,
}

impl<'a> Former<'a> {
    /// None so far.
    pub fn new(pins: &'a Pins) -> Self {
        Self { pins, maps: Vec::new() }
    }

    /// Sets the pinned maps aside that have another size than that of the room.
    pub fn set_aside(&mut self, room: Room) -> Result<(), Error> {
        for (name, entries) in layouts::sized(room) {
            self.set_one_aside(name, |map| map.max_entries() != entries)?;
        }
        // Former programs continue in each other.
        let are_others = !self.maps.is_empty();
        self.set_one_aside("TAIL_CALLS", |_| are_others)
    }

    fn set_one_aside(&mut self, name: &'static str, is_other: impl Fn(MapInfo) -> bool) -> Result<(), Error> {
        let (pin, former) = (self.pins.map(name), self.pins.former_map(name));
        let failed = |error| Error::failed("set aside the map", name, error);
        // An earlier daemon was killed before it had filled the new one.
        if former.exists() {
            remove(&pin)?;
        } else if pin.exists() && is_other(MapInfo::from_pin(&pin).map_err(tables::reading(name))?) {
            fault::call("set a map aside").map_err(failed)?;
            fs::rename(&pin, &former).map_err(failed)?;
        } else {
            return Ok(());
        }
        self.maps.push(name);
        Ok(())
    }

    /// Copies what is in them.
    pub fn copy_to(&self, tables: &mut Tables) -> Result<(), Error> {
        self.maps.iter().try_for_each(|name| {
            let from = MapData::from_pin(self.pins.former_map(name)).map_err(tables::reading(name))?;
            tables.copy(name, from)
        })
    }

    /// Puts them back.
    fn put_back(&self) -> Result<(), Error> {
        self.maps.iter().try_for_each(|name| {
            fs::rename(self.pins.former_map(name), self.pins.map(name))
                .map_err(|error| Error::failed("put back the map", name, error))
        })
    }

    /// Removes their pins: no program uses them any more.
    pub fn forget(self) -> Result<(), Error> {
        self.maps.iter().try_for_each(|name| remove(&self.pins.former_map(name)))
    }
}

/// What is replaced for another room.
struct Parts {
    programs: Programs,
    tables: Tables,
    maps: PinnedMaps,
    views: Views,
}

impl Datapath {
    /// Replaces programs and maps, if they have no room for a network or endpoint with this number. Frames are forwarded
    /// meanwhile.
    ///
    /// # Errors
    /// [`Error::Failed`] of a map or a program: nothing is replaced.
    pub(super) fn make_room(&mut self, network: Option<u32>, endpoint: Option<u32>) -> Result<(), Error> {
        let present = self.room;
        let is_enough = network.is_none_or(|number| number < present.networks)
            && endpoint.is_none_or(|number| number < present.endpoints);
        if is_enough {
            return Ok(());
        }
        tracing::info!("more networks or endpoints than usual: the programs get larger maps");
        let pins = self.pins.clone();
        let mut former = Former::new(&pins);
        let made = former.set_aside(Room::LARGEST).and_then(|()| self.parts_for(Room::LARGEST, &former));
        let mut parts = match made {
            Ok(parts) => parts,
            Err(error) => {
                self.go_back(&former);
                return Err(error);
            }
        };
        self.exchange(&mut parts);
        self.room = Room::LARGEST;
        if let Err(error) = self.write_all() {
            self.exchange(&mut parts);
            self.room = present;
            self.go_back(&former);
            return Err(error);
        }
        self.programs.succeed(&mut parts.programs);
        // The former programs have what they need until these are attached. One that cannot be attached is attached later, as
        // one that somebody detached.
        self.attach_again();
        self.attach_flow_back_again();
        warn(former.forget());
        Ok(())
    }

    fn parts_for(&mut self, room: Room, former: &Former<'_>) -> Result<Parts, Error> {
        let mut programs = Programs::load(&self.pins, self.has_logs, room)?;
        programs.need(&self.programs.loaded_with_room())?;
        let mut tables = Tables::take(programs.object(), room)?;
        former.copy_to(&mut tables)?;
        if self.has_logs {
            let logs = ProgramLogs::take(programs.object())?;
            logs.follow().map_err(|error| Error::failed("follow", "the logs of the programs", error))?;
        }
        let views = tables::take(programs.object(), VIEWS)?;
        Ok(Parts { maps: PinnedMaps::open(&self.pins)?, programs, tables, views })
    }

    fn exchange(&mut self, parts: &mut Parts) {
        mem::swap(&mut self.programs, &mut parts.programs);
        mem::swap(&mut self.tables, &mut parts.tables);
        mem::swap(&mut self.maps, &mut parts.maps);
        mem::swap(self.names.views(), &mut parts.views);
    }

    /// Writes the maps that follow from others.
    fn write_all(&mut self) -> Result<(), Error> {
        let all: Vec<_> = self.all_entries().collect();
        all.iter().try_for_each(|entries| self.enter(entries))?;
        self.write_given()?;
        self.names.write_views()
    }

    /// Pins the former maps and programs again.
    fn go_back(&mut self, former: &Former<'_>) {
        warn(former.put_back());
        warn(self.programs.pin_again());
    }
}
