//! What a netbpf with other map layouts left pinned. Its programs go on at their interfaces, with their own maps, until
//! ours are there: an upgrade loses no frame. Reads none of those maps.

use std::{fs, io};

use super::{
    Error,
    folders::{clear, list},
    pins::Pins,
};

/// The older versions that left something, usually none.
#[derive(Debug, Default)]
pub struct Older(Vec<Pins>);

impl Older {
    /// Those beside `pins`. Their XDP links are taken over: an interface has room for one XDP program, which is replaced
    /// behind its link.
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

    /// Our program is at an interface, behind the older one, which goes now.
    pub fn leave(&self, interface: &str) -> Result<(), Error> {
        self.0.iter().map(|left| left.link(interface)).try_for_each(|pin| match fs::remove_file(&pin) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::failed("remove", pin.display(), error))
            }
            Ok(()) | Err(_) => Ok(()),
        })
    }

    /// Nothing of them is needed any more.
    pub fn forget(&mut self) -> Result<(), Error> {
        self.0.drain(..).try_for_each(|left| clear(&left.folders()))
    }
}
