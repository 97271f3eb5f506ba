//! Tells the responder and the programs the names of containers. Must not know where records come from.

use std::net::IpAddr;

use super::host::Host;
use crate::{
    daemon::Error,
    datapath::NamesInNetwork,
    dns::{NetworkRecord, Record, Sockets},
    model::Id,
};

impl Host {
    /// Adds or replaces the names of a container.
    ///
    /// # Errors
    /// [`Error::Datapath`] or [`Error::Dns`]: the programs may have the new names. Publish the former ones, or withdraw
    /// them.
    pub async fn publish_names(&self, record: Record, sockets: Option<Sockets>) -> Result<(), Error> {
        let networks: Vec<_> = record.networks.iter().filter_map(in_programs).collect();
        self.datapath().set_names(record.container, &networks)?;
        Ok(self.feed.upsert(record, sockets).await?)
    }

    /// Removes the names of a container.
    ///
    /// # Errors
    /// [`Error::Datapath`] or [`Error::Dns`]: one of the two may have them still. Call it again.
    pub async fn withdraw_names(&self, container: Id) -> Result<(), Error> {
        self.datapath().set_names(container, &[])?;
        Ok(self.feed.remove(container).await?)
    }
}

fn in_programs(network: &NetworkRecord) -> Option<NamesInNetwork> {
    let ipv4 = network.ipv4.iter().copied().map(IpAddr::from);
    let ipv6 = network.ipv6.iter().copied().map(IpAddr::from);
    // Unlike the responder, the programs answer queries to servers of others: a name with dots alone may be a public one.
    let alone = network.names.iter().filter(|name| !name.contains('.')).cloned();
    let with_network = network.names.iter().map(|name| format!("{name}.{}", network.name));
    Some(NamesInNetwork {
        network: network.number?,
        names: alone.chain(with_network).collect(),
        addresses: ipv4.chain(ipv6).collect(),
    })
}
