//! Tells the responder and the programs the names of containers. Must not know where records come from.

use std::{collections::BTreeSet, net::IpAddr};

use super::{asking::Asking, host::Host};
use crate::{
    daemon::Error,
    datapath::NamesInNetwork,
    dns::{NetworkRecord, Record},
    model::Id,
};

impl Host {
    /// Tells the programs the names of all containers, before the first of these can ask.
    ///
    /// # Errors
    /// [`Error::Datapath`]: some are told.
    pub fn prepare_names<'a>(&self, records: impl Iterator<Item = &'a Record>) -> Result<(), Error> {
        let mut datapath = self.datapath();
        for record in records {
            let networks: Vec<_> = record.networks.iter().map(in_programs).collect();
            datapath.note_names(record.container, &networks);
        }
        Ok(datapath.write_names()?)
    }

    /// Adds or replaces the names of a container. With `asking`, its queries are led to the responder.
    ///
    /// # Errors
    /// [`Error::Datapath`] or [`Error::Dns`], and as of [`Host::lead_queries`]: the programs may have the new names. Publish
    /// the former ones, or withdraw them.
    pub async fn publish_names(&self, record: Record, asking: Option<&Asking>) -> Result<(), Error> {
        let container = record.container;
        let networks: Vec<_> = record.networks.iter().map(in_programs).collect();
        self.datapath().set_names(container, &networks)?;
        self.datapath().set_lookups(container, lookups(&record))?;
        // Before the responder leaves its former sockets, so that no query finds a closed port: new ones wait in the new
        // sockets.
        let sockets = match asking {
            Some(asking) => self.lead_queries(&record, asking).await?,
            None => None,
        };
        Ok(self.feed.upsert(record, sockets).await?)
    }

    /// Removes the names of a container.
    ///
    /// # Errors
    /// [`Error::Datapath`] or [`Error::Dns`]: one of the two may have them still. [`Error::Link`] or [`Error::File`]: the
    /// filter at `lo` may be there still. Call it again.
    pub async fn withdraw_names(&self, container: Id) -> Result<(), Error> {
        self.datapath().set_names(container, &[])?;
        self.datapath().set_lookups(container, Vec::new())?;
        // The responder's socket may be all that leads to the namespace of the filter.
        let opened = self.open_lo(container);
        self.feed.remove(container).await?;
        // Last: if the filter cannot be removed, the container is unknown already.
        opened?;
        self.leave_lo(container).await
    }
}

fn in_programs(network: &NetworkRecord) -> NamesInNetwork {
    let ipv4 = network.ipv4.iter().copied().map(IpAddr::from);
    let ipv6 = network.ipv6.iter().copied().map(IpAddr::from);
    // On the way to servers of others, a name with dots alone may be a public one.
    let (with_dots, alone): (Vec<_>, Vec<_>) =
        network.names.iter().cloned().partition(|name| name.contains('.'));
    let with_network = network.names.iter().map(|name| format!("{name}.{}", network.name));
    NamesInNetwork {
        network: network.number,
        names: alone.into_iter().chain(with_network).collect(),
        with_dots,
        full_name: network.full_name(),
        addresses: ipv4.chain(ipv6).collect(),
    }
}

/// The networks in which a program may look up names for a container, as the responder does; none if only the responder
/// knows how: which members a container may talk to, what a link means, and in which order two readings of a name count.
fn lookups(record: &Record) -> Vec<u32> {
    let networks = &record.networks;
    let is_open = networks.len() == 1 || networks.iter().all(|network| network.icc);
    let has_links = networks.iter().any(|network| !network.links.is_empty());
    let names: BTreeSet<String> = networks.iter().map(|network| network.name.to_ascii_lowercase()).collect();
    let ends_in_another =
        |name: &String| name.match_indices('.').any(|(dot, _)| names.contains(&name[dot + 1..]));
    match is_open && !has_links && !names.iter().any(ends_in_another) {
        true => networks.iter().map(|network| network.number).collect(),
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Servers;

    fn network(number: u32, name: &str) -> NetworkRecord {
        NetworkRecord {
            id: Id::random(),
            number,
            name: name.to_owned(),
            internal: false,
            icc: true,
            names: vec!["web".to_owned(), "a.b".to_owned()],
            ipv4: vec![],
            ipv6: vec![],
            links: vec![],
        }
    }

    #[test]
    fn only_the_responder_looks_up_what_is_more_than_a_list_of_networks() {
        let none: [u32; 0] = [];
        let look = |networks: Vec<NetworkRecord>| {
            lookups(&Record { container: Id::random(), networks, servers: Servers::Host })
        };
        let closed = |number, name| NetworkRecord { icc: false, ..network(number, name) };
        let linked = NetworkRecord { links: vec![("db".to_owned(), "x".to_owned())], ..network(1, "one") };
        assert_eq!(look(vec![network(7, "one"), network(2, "two.net")]), [7, 2], "in their order");
        assert_eq!(look(vec![closed(7, "one")]), [7]);
        assert_eq!(look(vec![network(7, "one"), closed(2, "two")]), none, "some of them cannot be talked to");
        assert_eq!(look(vec![linked]), none, "an alias for one container");
        assert_eq!(look(vec![network(1, "b.Net"), network(2, "net")]), none, "a.b.net is a name in both");
        assert_eq!(look(vec![network(1, "bnet"), network(2, "net")]), [1, 2]);
    }

    #[test]
    fn a_name_with_dots_alone_is_not_for_others_servers() {
        let names = in_programs(&network(7, "one"));
        assert_eq!(names.names, ["web", "web.one", "a.b.one"]);
        assert_eq!(names.with_dots, ["a.b"]);
        assert_eq!(names.full_name.as_deref(), Some("web.one"));
    }
}
