//! Pins of a netbpf with other map layouts. Its programs stay attached, with their own maps, until the new
//! programs are attached: an upgrade loses no frame. Does not read those maps.

use std::{fs, io};

use super::{Error, folders::list, pins::Pins};

/// The other versions that have pins, usually none.
#[derive(Debug, Default)]
pub struct Older(Vec<Pins>);

impl Older {
    /// Finds the versions beside `pins` and takes over their XDP links: an interface has only one XDP
    /// program, which is replaced through its link.
    pub fn beside(pins: &Pins) -> Result<Self, Error> {
        let older = Self(pins.other_versions()?);
        for left in &older.0 {
            for name in list(&left.uplinks())? {
                let (from, to) = (left.uplinks().join(&name), pins.uplinks().join(&name));
                fs::rename(&from, to).map_err(|error| Error::failed("move", from.display(), error))?;
            }
        }
        Ok(older)
    }

    /// Removes the older program's pin of an interface where the new program is attached.
    pub fn leave(&self, interface: &str) -> Result<(), Error> {
        self.0.iter().map(|left| left.link(interface)).try_for_each(|pin| match fs::remove_file(&pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::failed("remove", pin.display(), error))
            }
            Ok(()) | Err(_) => Ok(()),
        })
    }

    /// Removes all their pins.
    pub fn forget(&mut self) -> Result<(), Error> {
        self.0.drain(..).try_for_each(|left| match fs::remove_dir_all(left.root()) {
            // Another version may have folders that this one does not know, with pins that keep programs attached.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::failed("remove", left.root().display(), error))
            }
            Ok(()) | Err(_) => Ok(()),
        })
    }
}
