//! Detects and handles changes by others: a program that they detached, an address that they added to a host
//! device.

use std::{
    collections::{BTreeSet, Bound},
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use netbpf_common::{
    endpoint::{Endpoint, NO_ENDPOINT, Neighbour, NeighbourKey},
    network::{Network, ifindex_of},
};
use nix::net::if_::if_nametoindex;

use super::{Attachment, Datapath, Error, Observed, attach::role_of, entries::Claim, programs::Role, warn};
use crate::plan::{EndpointEntry, NetworkEntry};

/// Pins that somebody had removed.
#[derive(Debug)]
pub struct RestoredPins {
    /// Their paths.
    pub pins: Vec<PathBuf>,
    /// Whether the directory of all pins is a new one.
    pub is_new_folder: bool,
}

impl Datapath {
    /// The directories of pins.
    pub fn pin_folders(&self) -> [PathBuf; 5] {
        self.pins.folders()
    }

    /// Checks the next interfaces in turn, at most `count`. Returns the ifindexes of those whose program somebody
    /// detached: the kernel sends no notification of a detached tcx link.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel does not tell the ID of a program of ours. An interface that is gone is left
    /// out.
    pub fn next_detached(&mut self, count: usize) -> Result<BTreeSet<u32>, Error> {
        let mut detached = BTreeSet::new();
        if self.attachment() == Attachment::Clsact {
            return Ok(detached);
        }
        let after = (Bound::Excluded(self.checked.as_str()), Bound::Unbounded);
        let next: Vec<String> = self.attached.range::<str, _>(after).take(count).cloned().collect();
        self.checked = next.last().filter(|_| next.len() == count).cloned().unwrap_or_default();
        for name in next {
            let ifindex = if_nametoindex(name.as_str()).unwrap_or_default();
            let Some(role) = role_of(ifindex) else { continue };
            if !self.programs.is_at(role, &name)? {
                detached.insert(ifindex);
            }
        }
        Ok(detached)
    }

    /// Restores pins that somebody removed, even if their directories are gone or the bpffs was unmounted.
    /// The pinned objects stay active meanwhile, because this process has them open.
    ///
    /// # Errors
    /// [`Error::Missing`] if no bpffs can be mounted again; [`Error::Folder`] if others can change a directory;
    /// [`Error::Failed`] if one cannot be made, or an object cannot be pinned. Some pins may be restored then; the rest
    /// stays open.
    pub fn restore_pins(&mut self) -> Result<RestoredPins, Error> {
        let found = fs::metadata(self.pins.root()).map(|folder| (folder.dev(), folder.ino()));
        let is_new_folder = found.ok() != Some(self.folder);
        if is_new_folder {
            Self::prepare(self.pins.root().parent().unwrap_or(self.pins.root()))?;
        }
        self.folder = self.pins.make_folders()?;
        let mut pins = self.maps.restore_pins(&self.pins)?;
        pins.extend(self.programs.restore_pins()?);
        Ok(RestoredPins { pins, is_new_folder })
    }

    /// State in the kernel.
    pub fn observed(&self) -> Observed {
        Observed {
            networks: self
                .networks
                .keys()
                .filter_map(|number| Some((*number, self.network_entry(*number)?)))
                .collect(),
            endpoints: self
                .endpoints
                .keys()
                .filter_map(|number| Some((*number, self.endpoint_entry(*number)?)))
                .collect(),
            attached: self.attached.clone(),
        }
    }

    /// The map entries of a network, without what follows from its members.
    pub fn network_entry(&self, number: u32) -> Option<NetworkEntry> {
        let network = self.networks.get(&number)?;
        let network = Network { first: NO_ENDPOINT, open: 0, ..*network };
        Some(NetworkEntry { network, closed: self.closed(number) })
    }

    /// The map entries of an endpoint, without its place in the list of members.
    pub fn endpoint_entry(&self, number: u32) -> Option<EndpointEntry> {
        let endpoint = Endpoint { next: NO_ENDPOINT, ..*self.endpoints.get(&number)? };
        Some(EndpointEntry { endpoint, further: self.further_of(number), limit: self.limit_of(number) })
    }

    /// Whether the program is attached to a network's host device. `right` is the name that the device should
    /// have.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel does not tell the ID of the program. An interface that is gone has none: false.
    pub fn is_host_device_attached(&mut self, interface: &str, right: &str) -> Result<bool, Error> {
        self.is_attached(Role::HostDevice, interface, right)
    }

    /// The same for an endpoint's host side.
    ///
    /// # Errors
    /// [`Error::Failed`], as of [`Datapath::is_host_device_attached`].
    pub fn is_endpoint_attached(&mut self, interface: &str, right: &str) -> Result<bool, Error> {
        self.is_attached(Role::Endpoint, interface, right)
    }

    /// Notes that somebody removed filters from an interface; netbpf's may be among them.
    pub fn may_be_detached(&mut self, interface: &str) {
        self.attached.remove(interface);
    }

    /// Makes a network's host device answer for exactly these addresses that others added to it. If a member
    /// has one of them, the member keeps it.
    ///
    /// # Errors
    /// The error of the map `NEIGHBOURS`, for example if it is full: what was changed is undone.
    pub fn answer_for(&mut self, number: u32, addresses: &BTreeSet<IpAddr>) -> Result<(), Error> {
        let Some(network) = self.networks.get(&number).copied() else { return Ok(()) };
        let before = self.given.get(&number).cloned().unwrap_or_default();
        let (members, given): (BTreeSet<_>, BTreeSet<_>) = addresses.iter().partition(|address| {
            let owner = self.claims.get(&Claim::Address(key(number, **address)));
            owner.is_some_and(|owner| *owner != ifindex_of(number))
        });
        for address in members {
            tracing::warn!(%address, "a host device has the address of a member; the member keeps it");
        }
        let old: Vec<_> = before.difference(&given).copied().collect();
        let new: Vec<_> = given
            .iter()
            .filter(|address| !self.claims.contains_key(&Claim::Address(key(number, **address))))
            .copied()
            .collect();
        // The old ones first: the map may be full.
        self.exchange_given(number, &network, &old, &new)
            .inspect_err(|_| warn(self.exchange_given(number, &network, &new, &old)))?;
        match given.is_empty() {
            true => self.given.remove(&number),
            false => self.given.insert(number, given),
        };
        Ok(())
    }

    /// Writes the entries of addresses that others added to host devices.
    pub(super) fn write_given(&mut self) -> Result<(), Error> {
        for (number, addresses) in &self.given {
            let Some(network) = self.networks.get(number) else { continue };
            let neighbour = Neighbour { mac: network.mac, reserved: [0; 2] };
            for address in addresses {
                self.tables.set_neighbour(key(*number, *address), neighbour)?;
            }
        }
        Ok(())
    }

    fn exchange_given(
        &mut self,
        number: u32,
        network: &Network,
        old: &[IpAddr],
        new: &[IpAddr],
    ) -> Result<(), Error> {
        for address in old {
            let key = key(number, *address);
            self.tables.remove_neighbour(key)?;
            self.claims.remove(&Claim::Address(key));
        }
        let neighbour = Neighbour { mac: network.mac, reserved: [0; 2] };
        for address in new {
            let key = key(number, *address);
            self.tables.set_neighbour(key, neighbour)?;
            self.claims.insert(Claim::Address(key), ifindex_of(number));
        }
        Ok(())
    }

    /// Detaches from an interface. If its name is unknown, removes the pins of all interfaces that no longer
    /// exist.
    pub(super) fn detach_if_known(&mut self, role: Role, interface: Option<&str>) -> Result<(), Error> {
        if let Some(interface) = interface {
            return self.detach(role, interface);
        }
        let is_gone = |name: &&String| if_nametoindex(name.as_str()).is_err();
        let gone: Vec<String> = self.attached.iter().filter(is_gone).cloned().collect();
        gone.iter().try_for_each(|name| self.detach(role, name))
    }

    fn is_attached(&mut self, role: Role, interface: &str, right: &str) -> Result<bool, Error> {
        if !self.programs.is_attached(role, interface, right)? {
            self.attached.remove(right);
        }
        Ok(self.attached.contains(right))
    }
}

fn key(network: u32, address: IpAddr) -> NeighbourKey {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    NeighbourKey { network, address: address.octets() }
}
