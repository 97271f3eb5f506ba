//! Observes the kernel: netbpf's links, the map entries, namespaces. Changes nothing.

use std::collections::BTreeSet;

use super::host::Host;
use crate::{
    daemon::Error,
    model::{Endpoint, Namespace},
    plan::{Desired, Device, EndpointWiring, Observed, Seen, Shapers},
    process,
};

impl Host {
    /// The observed state of links and map entries.
    pub async fn observe(&self, desired: &Desired) -> Result<Observed, Error> {
        let mut observed = Observed::default();
        let maps = self.datapath().observed();
        for (number, entry) in maps.networks {
            observed.networks.entry(number).or_default().entry = Some(entry);
        }
        for (number, entry) in maps.endpoints {
            observed.endpoints.entry(number).or_default().entry = Some(entry);
        }
        for link in self.links.owned(self.group).await? {
            if let Some(number) = netbpf_common::endpoint::number_of(link.ifindex) {
                see(observed.endpoints.entry(number).or_default(), &link, maps.attached.contains(&link.name));
            } else if let Some(number) = netbpf_common::network::number_of(link.ifindex) {
                see(observed.networks.entry(number).or_default(), &link, maps.attached.contains(&link.name));
            }
        }
        // Also links whose group or name somebody changed.
        for network in desired.networks.values() {
            let like = Device::of_network(network, self.group);
            if let Some(device) = self.own_device(network.ifindex(), &like).await? {
                observe_device(observed.networks.entry(network.number).or_default(), device, &maps.attached);
            }
        }
        for endpoint in desired.endpoints.values() {
            let like = Device::of_endpoint(endpoint, self.group);
            if let Some(device) = self.own_device(endpoint.ifindex(), &like).await? {
                let seen = observed.endpoints.entry(endpoint.number).or_default();
                observe_device(seen, device, &maps.attached);
                seen.shapers = Some(self.shapers(endpoint).await?);
            }
        }
        Ok(observed)
    }

    /// The queueing disciplines of an endpoint.
    pub async fn shapers(&self, endpoint: &EndpointWiring) -> Result<Shapers, Error> {
        let inside = endpoint.inside().and_then(|named| self.links.namespace(named).ok());
        Ok(self.links.shapers(endpoint, inside.as_ref()).await?)
    }

    /// Whether a namespace still exists.
    pub fn is_alive(&self, namespace: &Namespace) -> bool {
        match namespace {
            Namespace::Path(_) => self.links.namespace(namespace).is_ok(),
            Namespace::Process { pid, start_time } => {
                process::start_time(*pid).is_some_and(|now| now == *start_time)
            }
        }
    }

    /// The inode of a namespace, if it exists.
    pub fn inode_of(&self, namespace: &Namespace) -> Option<u64> {
        self.links.namespace(namespace).ok()?.inode().ok()
    }

    /// Whether an endpoint's interface was deleted.
    pub fn is_lost(&self, endpoint: &Endpoint) -> bool {
        self.links.index_of(&endpoint.host_interface).is_none()
    }

    /// Whether an endpoint whose interface is created in the host's namespace is in no container.
    pub fn is_unused(&self, endpoint: &Endpoint) -> bool {
        self.is_lost(endpoint) || self.links.index_of(&endpoint.interface).is_some()
    }

    /// The link with this ifindex, if it is netbpf's: it has the group, or the name if somebody changed the
    /// group.
    pub async fn own_device(&self, ifindex: u32, like: &Device) -> Result<Option<Device>, Error> {
        let device = self.links.device(ifindex, like).await?;
        Ok(device.filter(|device| device.group == like.group || device.name == like.name))
    }
}

fn see<Entry>(seen: &mut Seen<Entry>, link: &crate::link::OwnedLink, attached: bool) {
    seen.interface = Some(link.name.clone());
    seen.up = link.up;
    seen.attached = attached;
}

fn observe_device<Entry>(seen: &mut Seen<Entry>, device: Device, attached: &BTreeSet<String>) {
    let attached = attached.contains(&device.name);
    *seen = Seen::of(Some(device), attached, seen.entry.take());
}
