//! Removes learnt MACs that were not seen for [`LEARNT_SECONDS`](netbpf_common::access::LEARNT_SECONDS), so that their
//! places in the maps are free for others. The programs ignore such MACs themselves. It opens the maps a second time, so
//! the datapath is not locked meanwhile: there may be 65,536 entries.

use std::collections::HashSet;

use aya::maps::{HashMap, Map, MapData};
use netbpf_common::{
    access::{Learnt, LearntMac, LearntOfKey, MAX_LEARNT},
    endpoint::FdbKey,
};

use super::{Datapath, Error, pins::Pins, tables};

/// How many entries are read: the kernel begins anew after an entry that was removed meanwhile.
const AT_MOST: usize = 2 * MAX_LEARNT as usize;

/// The maps of learnt MACs.
pub struct LearntMacs {
    learnt: HashMap<MapData, FdbKey, Learnt>,
    learnt_of: HashMap<MapData, LearntOfKey, LearntMac>,
    /// MACs in `LEARNT` that were in no place of `LEARNT_OF`.
    without_place: HashSet<FdbKey>,
}

impl Datapath {
    /// The maps of learnt MACs, to remove old ones without this lock.
    ///
    /// # Errors
    /// [`Error::Failed`] if they are not pinned.
    pub fn learnt_macs(&self) -> Result<Option<LearntMacs>, Error> {
        LearntMacs::open(&self.pins).map(Some)
    }
}

impl LearntMacs {
    /// Opens the pinned maps.
    fn open(pins: &Pins) -> Result<Self, Error> {
        let open = |name| MapData::from_pin(pins.map(name)).map(Map::HashMap).map_err(tables::reading(name));
        Ok(Self {
            learnt: HashMap::try_from(open("LEARNT")?).map_err(tables::reading("LEARNT"))?,
            learnt_of: HashMap::try_from(open("LEARNT_OF")?).map_err(tables::reading("LEARNT_OF"))?,
            without_place: HashSet::new(),
        })
    }

    /// Removes MACs that are too old, places whose MAC is not in `LEARNT`, and MACs that had no place the last time
    /// either: those would not count for their endpoint. `now` is in seconds of the monotonic clock, modulo 2^32.
    /// Returns the number of removed MACs.
    ///
    /// # Errors
    /// [`Error::Failed`] if a map cannot be read, or an entry cannot be removed: call it again.
    pub fn remove_old(&mut self, now: u32) -> Result<usize, Error> {
        // Before the MACs: a place whose MAC is learnt only after this is not looked at.
        let places = self.learnt_of.iter().take(AT_MOST).collect::<Result<Vec<_>, _>>();
        let places = places.map_err(tables::reading("LEARNT_OF"))?;
        let macs = self.learnt.iter().take(AT_MOST).collect::<Result<Vec<_>, _>>();
        let macs = macs.map_err(tables::reading("LEARNT"))?;
        let (fresh, old): (Vec<_>, Vec<_>) = macs.into_iter().partition(|(_, learnt)| learnt.is_fresh(now));
        for (key, _) in &old {
            self.forget(key)?;
        }
        // What was not read cannot be missed.
        if places.len() == AT_MOST || fresh.len() + old.len() == AT_MOST {
            return Ok(old.len());
        }
        let known: HashSet<_> = fresh.iter().map(|(key, learnt)| (learnt.endpoint, key.mac)).collect();
        for (place, mac) in places.iter().filter(|(place, mac)| !known.contains(&(place.endpoint, mac.mac))) {
            // A program may have put another MAC there.
            if self.learnt_of.get(place, 0).is_ok_and(|found| found == *mac) {
                tables::remove(|| self.learnt_of.remove(place))
                    .map_err(|error| Error::failed("remove a MAC from", "LEARNT_OF", error))?;
            }
        }
        let placed: HashSet<_> = places.iter().map(|(place, mac)| (place.endpoint, mac.mac)).collect();
        let lost = fresh.iter().filter(|(key, learnt)| !placed.contains(&(learnt.endpoint, key.mac)));
        let (again, lost): (HashSet<_>, HashSet<_>) =
            lost.map(|(key, _)| *key).partition(|key| self.without_place.contains(key));
        self.without_place = lost;
        for key in &again {
            self.forget(key)?;
        }
        Ok(old.len() + again.len())
    }

    fn forget(&mut self, key: &FdbKey) -> Result<(), Error> {
        tables::remove(|| self.learnt.remove(key))
            .map_err(|error| Error::failed("remove a MAC from", "LEARNT", error))
    }
}
