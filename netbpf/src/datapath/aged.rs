//! Removes learnt MACs that were not seen for [`LEARNT_SECONDS`](netbpf_common::access::LEARNT_SECONDS), so that their
//! places in the maps are free for others. The programs ignore such MACs themselves. It has maps of its own, and the
//! datapath is not locked meanwhile: there may be 65,536 entries.

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
        })
    }

    /// Removes MACs that are too old, and the places of those that are not in `LEARNT` (any more). `now` is in seconds
    /// of the monotonic clock, modulo 2^32. Returns the number of removed MACs.
    ///
    /// # Errors
    /// [`Error::Failed`] if a map cannot be read, or an entry cannot be removed: call it again.
    pub fn remove_old(&mut self, now: u32) -> Result<usize, Error> {
        // Before the MACs: a place whose MAC is learnt only after this is not looked at.
        let places = self.learnt_of.iter().take(AT_MOST).collect::<Result<Vec<_>, _>>();
        let places = places.map_err(tables::reading("LEARNT_OF"))?;
        let (mut fresh, mut old) = (HashSet::new(), Vec::new());
        for entry in self.learnt.iter().take(AT_MOST) {
            let (key, learnt) = entry.map_err(tables::reading("LEARNT"))?;
            match learnt.is_fresh(now) {
                true => drop(fresh.insert((learnt.endpoint, key.mac))),
                false => old.push(key),
            }
        }
        for key in &old {
            tables::remove(|| self.learnt.remove(key))
                .map_err(|error| Error::failed("remove a MAC from", "LEARNT", error))?;
        }
        for (place, _) in places.iter().filter(|(place, mac)| !fresh.contains(&(place.endpoint, mac.mac))) {
            tables::remove(|| self.learnt_of.remove(place))
                .map_err(|error| Error::failed("remove a MAC from", "LEARNT_OF", error))?;
        }
        Ok(old.len())
    }
}
