//! Observes the kernel: netbpf's links, and the map entries. Changes nothing.

use std::collections::BTreeSet;

use crate::{
    daemon::{Daemon, Error},
    plan::{Desired, Device, Observed, Seen},
};

impl Daemon {
    /// The observed state of links and map entries.
    pub(in crate::daemon) async fn observe(&self, desired: &Desired) -> Result<Observed, Error> {
        let mut observed = Observed::default();
        let maps = self.datapath().observed();
        for (number, entry) in maps.networks {
            observed.networks.entry(number).or_default().entry = Some(entry);
        }
        for (number, entry) in maps.endpoints {
            observed.endpoints.entry(number).or_default().entry = Some(entry);
        }
        for link in self.host.links.owned(self.host.group).await? {
            if let Some(number) = netbpf_common::endpoint::number_of(link.ifindex) {
                see(observed.endpoints.entry(number).or_default(), &link, maps.attached.contains(&link.name));
            } else if let Some(number) = netbpf_common::network::number_of(link.ifindex) {
                see(observed.networks.entry(number).or_default(), &link, maps.attached.contains(&link.name));
            }
        }
        // Also links whose group or name somebody changed.
        for network in desired.networks.values() {
            let like = Device::of_network(network, self.host.group);
            if let Some(device) = self.own_device(network.ifindex(), &like).await? {
                observe_device(observed.networks.entry(network.number).or_default(), device, &maps.attached);
            }
        }
        for endpoint in desired.endpoints.values() {
            let like = Device::of_endpoint(endpoint, self.host.group);
            if let Some(device) = self.own_device(endpoint.ifindex(), &like).await? {
                observe_device(
                    observed.endpoints.entry(endpoint.number).or_default(),
                    device,
                    &maps.attached,
                );
            }
        }
        Ok(observed)
    }
}

fn see<Entry>(seen: &mut Seen<Entry>, link: &crate::link::OwnedLink, attached: bool) {
    seen.interface = Some(link.name.clone());
    seen.up = link.up;
    seen.attached = attached;
}

fn observe_device<Entry>(seen: &mut Seen<Entry>, device: Device, attached: &BTreeSet<String>) {
    seen.interface = Some(device.name.clone());
    seen.up = device.up;
    seen.attached = attached.contains(&device.name);
    seen.device = Some(device);
}
