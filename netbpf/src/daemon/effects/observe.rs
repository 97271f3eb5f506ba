//! What there is: links of ours, and what the maps say. Changes nothing.

use std::collections::BTreeSet;

use crate::{
    daemon::{Daemon, Error},
    datapath::{NetworkEntry, PortEntry},
    plan::{Desired, Device, NetworkWiring, Observed, PortWiring, Seen},
};

impl Daemon {
    /// Links of ours, and what the maps say.
    pub(in crate::daemon) async fn observe(&self, desired: &Desired) -> Result<Observed, Error> {
        let mut observed = Observed::default();
        let maps = self.datapath().observed();
        for (number, entry) in maps.networks {
            observed.networks.entry(number).or_default().entry = Some(network_seen(number, entry));
        }
        for (number, entry) in maps.ports {
            observed.ports.entry(number).or_default().entry = Some(port_seen(number, entry));
        }
        for link in self.links.owned(self.group).await? {
            if let Some(number) = netbpf_common::endpoint::number_of(link.ifindex) {
                see(observed.ports.entry(number).or_default(), &link, maps.attached.contains(&link.name));
            } else if let Some(number) = netbpf_common::network::number_of(link.ifindex) {
                see(observed.networks.entry(number).or_default(), &link, maps.attached.contains(&link.name));
            }
        }
        // Also those whose group or name somebody changed.
        for network in desired.networks.values() {
            let like = Device::of_network(network, self.group);
            let ifindex = netbpf_common::network::ifindex_of(network.number);
            if let Some(device) = self.own_device(ifindex, &like).await? {
                observe_device(observed.networks.entry(network.number).or_default(), device, &maps.attached);
            }
        }
        for port in desired.ports.values() {
            let like = Device::of_port(port, self.group);
            let ifindex = netbpf_common::endpoint::ifindex_of(port.number);
            if let Some(device) = self.own_device(ifindex, &like).await? {
                observe_device(observed.ports.entry(port.number).or_default(), device, &maps.attached);
            }
        }
        Ok(observed)
    }
}

/// What the maps say of a network; names and sizes are not in them.
pub(in crate::daemon) fn network_seen(number: u32, entry: NetworkEntry) -> NetworkWiring {
    NetworkWiring {
        number,
        device: String::new(),
        peer: String::new(),
        mac: entry.mac,
        ipv4: entry.gateway,
        ipv6: entry.gateway_ipv6,
        mtu: 0,
        gso_max_size: None,
        default_gateway: entry.default_gateway,
        default_gateway_ipv6: entry.default_gateway_ipv6,
        inhibit: false,
        icc: entry.icc,
        flood_copies: entry.flood_copies,
        closed: entry.closed,
    }
}

/// The same of a port.
pub(in crate::daemon) fn port_seen(number: u32, entry: PortEntry) -> PortWiring {
    PortWiring {
        number,
        network: entry.network,
        host_interface: String::new(),
        interface: String::new(),
        mac: entry.mac,
        ipv4: entry.ipv4.map(Into::into),
        ipv6: entry.ipv6.map(Into::into),
        mtu: 0,
        gso_max_size: None,
        icc: entry.icc,
        owner: entry.owner,
        sysctls: Vec::new(),
        namespace: None,
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
