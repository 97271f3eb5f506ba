//! The exceptions for members of networks that must not talk to each other: which endpoint may open connections to which
//! port of another. Must not know why.

use std::collections::BTreeSet;

use netbpf_common::allowed::AllowedKey;

use super::{Datapath, Error, warn};

impl Datapath {
    /// Sets the exceptions for networks whose members must not talk to each other.
    ///
    /// # Errors
    /// The error of the map `ALLOWED`: what was changed is undone.
    pub fn set_allowed(&mut self, allowed: &BTreeSet<AllowedKey>) -> Result<(), Error> {
        let old: Vec<_> = self.allowed.difference(allowed).copied().collect();
        let new: Vec<_> = allowed.difference(&self.allowed).copied().collect();
        // The old ones first: the map may be full.
        let set = self.exchange_allowed(&old, &new);
        set.inspect_err(|_| warn(self.exchange_allowed(&new, &old)))
    }

    fn exchange_allowed(&mut self, old: &[AllowedKey], new: &[AllowedKey]) -> Result<(), Error> {
        for key in old {
            if self.allowed.contains(key) {
                self.disallow(*key)?;
            }
        }
        new.iter().try_for_each(|key| self.allow(*key))
    }

    /// The exceptions from and to an endpoint.
    pub(super) fn exceptions_of(&self, number: u32) -> Vec<AllowedKey> {
        self.allowed.iter().filter(|key| key.from == number || key.to == number).copied().collect()
    }

    pub(super) fn allow(&mut self, key: AllowedKey) -> Result<(), Error> {
        self.tables.allow(key)?;
        self.allowed.insert(key);
        Ok(())
    }

    pub(super) fn disallow(&mut self, key: AllowedKey) -> Result<(), Error> {
        self.tables.disallow(key)?;
        self.allowed.remove(&key);
        Ok(())
    }
}
