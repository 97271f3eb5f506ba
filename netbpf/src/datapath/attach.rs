//! Attaches programs to the interfaces of networks and endpoints, which it knows by their ifindexes. Must not know how a
//! kernel attaches programs.

use std::collections::BTreeSet;

use netbpf_common::{endpoint, network};
use nix::net::if_::{if_indextoname, if_nametoindex};

use super::{Datapath, Error, folders::list, programs::Role, warn};

impl Datapath {
    /// Attaches to all interfaces whose ifindex is in the maps or whose name has a pinned link. A link is
    /// removed if its interface has another ifindex.
    pub(super) fn attach_all(&mut self) -> Result<(), Error> {
        let known = self.networks.values().map(|network| network.ifindex);
        let known = known.chain(self.endpoints.values().map(|endpoint| endpoint.ifindex));
        let mut names: BTreeSet<_> = known.filter_map(name_of).collect();
        names.extend(list(&self.pins.links())?);
        for name in names {
            let Some(role) = role_of(if_nametoindex(name.as_str()).unwrap_or_default()) else {
                self.programs.detach(Role::Endpoint, &name)?;
                continue;
            };
            self.programs.attach(role, &name)?;
            self.attached.insert(name);
        }
        Ok(())
    }

    /// Attaches the programs in place of those that are attached. One that cannot be attached is logged.
    pub(super) fn attach_again(&mut self) {
        for name in &self.attached {
            if let Some(role) = role_of(if_nametoindex(name.as_str()).unwrap_or_default()) {
                warn(self.programs.attach(role, name));
            }
        }
    }

    /// Attaches to an interface, if its ifindex is the expected one.
    pub(super) fn attach(&mut self, role: Role, interface: &str, expected: u32) -> Result<(), Error> {
        let found = if_nametoindex(interface)
            .map_err(|error| Error::failed("find the interface", interface, error))?;
        if found != expected {
            return Err(Error::WrongInterface { interface: interface.to_owned(), found, expected });
        }
        self.programs.attach(role, interface)?;
        self.attached.insert(interface.to_owned());
        self.older.leave(interface)
    }

    /// Detaches from an interface, which may be gone already.
    pub(super) fn detach(&mut self, role: Role, interface: &str) -> Result<(), Error> {
        self.programs.detach(role, interface)?;
        self.attached.remove(interface);
        Ok(())
    }
}

/// The role of the interface with an ifindex; none if it is not netbpf's.
pub fn role_of(ifindex: u32) -> Option<Role> {
    let endpoint = endpoint::number_of(ifindex).map(|_| Role::Endpoint);
    endpoint.or_else(|| network::number_of(ifindex).map(|_| Role::HostDevice))
}

/// The name of the interface with an ifindex. nix returns an empty one if there is none.
fn name_of(ifindex: u32) -> Option<String> {
    let name = if_indextoname(ifindex).ok()?.into_string().ok()?;
    (!name.is_empty()).then_some(name)
}
