//! The networks, with the names and addresses of their containers. Pure; knows no queries and no sockets.
//!
//! A name is looked up for an asking container, only in the networks of that container. Letter case never matters.
//! Network and container names may contain dots, so `a.b.c` is tried as `a.b.c`, then as `a.b` in the network `c`, then
//! as `a` in the network `b.c`.

use std::{
    collections::{HashMap, hash_map::Entry},
    iter,
    net::IpAddr,
    sync::Arc,
};

use hickory_proto::rr::Name;

use super::record::NetworkRecord;
use crate::model::Id;

/// All networks and containers that the responder knows.
#[derive(Default)]
pub struct Zone {
    networks: HashMap<Id, Network>,
    containers: HashMap<Id, Vec<Membership>>,
}

/// One network.
#[derive(Default)]
struct Network {
    name: Box<[u8]>,
    /// Whether members may talk to each other; else only links permit it.
    icc: bool,
    members: usize,
    names: HashMap<Arc<[u8]>, Vec<Member>>,
    /// The containers with an address; the newest comes last.
    holders: HashMap<IpAddr, Vec<Holder>>,
}

/// A container with a name.
struct Member {
    container: Id,
    addresses: Arc<[IpAddr]>,
}

/// A container with an address, and its full name.
struct Holder {
    container: Id,
    name: Name,
}

/// A container's entries in a network, to be removed when it leaves.
struct Membership {
    network: Id,
    names: Vec<Arc<[u8]>>,
    addresses: Arc<[IpAddr]>,
    /// Aliases of links, which only this container can resolve, with the names they stand for.
    links: HashMap<Box<[u8]>, Box<[u8]>>,
}

impl Zone {
    /// Adds or replaces a container.
    pub fn insert(&mut self, container: Id, networks: &[NetworkRecord]) {
        self.remove(container);
        let memberships = networks.iter().map(|record| self.join(container, record)).collect();
        self.containers.insert(container, memberships);
    }

    /// Removes a container.
    pub fn remove(&mut self, container: Id) {
        for membership in self.containers.remove(&container).unwrap_or_default() {
            if let Entry::Occupied(mut entry) = self.networks.entry(membership.network) {
                entry.get_mut().leave(container, &membership);
                if entry.get().members == 0 {
                    entry.remove();
                }
            }
        }
    }

    /// All known containers.
    pub fn containers(&self) -> impl Iterator<Item = Id> {
        self.containers.keys().copied()
    }

    /// Looks up `name` (in lower case) for `asker`. Returns whether the name is known. Adds the addresses that `wanted`
    /// accepts: those in the first network where `asker` may talk to one, else those in the first network with any. A
    /// known name may have none.
    pub fn find(
        &self,
        asker: Id,
        name: &[u8],
        wanted: impl Fn(&IpAddr) -> bool,
        addresses: &mut Vec<IpAddr>,
    ) -> bool {
        let mut known = false;
        for (name, network_name) in readings(name) {
            for (membership, network) in self.memberships_of(asker) {
                if network_name.is_some_and(|name| *name != *network.name) {
                    continue;
                }
                // A link to a name that nobody has does not count.
                let linked = membership.links.get(name).and_then(|target| network.names.get(&**target));
                if let Some(members) = linked.or_else(|| network.names.get(name)) {
                    known = true;
                    let others = addresses.len();
                    let open = members.iter().filter(|member| network.is_open(membership, member));
                    addresses.extend(addresses_of(open).filter(&wanted));
                    if addresses.len() > others {
                        addresses.drain(..others);
                        return true;
                    }
                    if addresses.is_empty() {
                        addresses.extend(addresses_of(members.iter()).filter(&wanted));
                    }
                }
            }
            if !addresses.is_empty() {
                return true;
            }
        }
        known
    }

    /// `container.network.` for an address in one of `asker`'s networks.
    pub fn name_of(&self, asker: Id, address: IpAddr) -> Option<&Name> {
        self.memberships_of(asker).find_map(|(_, network)| Some(&network.holders.get(&address)?.last()?.name))
    }

    fn memberships_of(&self, container: Id) -> impl Iterator<Item = (&Membership, &Network)> {
        let memberships = self.containers.get(&container).map_or(&[][..], Vec::as_slice);
        memberships
            .iter()
            .filter_map(|membership| Some((membership, self.networks.get(&membership.network)?)))
    }

    fn join(&mut self, container: Id, record: &NetworkRecord) -> Membership {
        let network = self.networks.entry(record.id).or_default();
        network.name = record.name.to_ascii_lowercase().into_bytes().into();
        network.icc = record.icc;
        network.members += 1;

        let ipv4 = record.ipv4.iter().copied().map(IpAddr::from);
        let addresses: Arc<[IpAddr]> = ipv4.chain(record.ipv6.iter().copied().map(IpAddr::from)).collect();
        let mut names: Vec<Arc<[u8]>> =
            record.names.iter().map(|name| name.to_ascii_lowercase().into_bytes().into()).collect();
        names.sort_unstable();
        names.dedup();

        for name in &names {
            let member = Member { container, addresses: Arc::clone(&addresses) };
            network.names.entry(Arc::clone(name)).or_default().push(member);
        }
        if let Some(name) = record.names.iter().find_map(|name| full_name(name, &record.name)) {
            for address in addresses.iter() {
                let holder = Holder { container, name: name.clone() };
                network.holders.entry(*address).or_default().push(holder);
            }
        }
        let lower = |name: &str| name.to_ascii_lowercase().into_bytes().into();
        let links = record.links.iter().map(|(alias, target)| (lower(alias), lower(target))).collect();
        Membership { network: record.id, names, addresses, links }
    }
}

impl Network {
    /// Whether the container of `membership` may talk to `member` in this network.
    fn is_open(&self, membership: &Membership, member: &Member) -> bool {
        self.icc
            || membership
                .links
                .values()
                .filter_map(|target| self.names.get(&**target))
                .flatten()
                .any(|linked| linked.container == member.container)
    }

    fn leave(&mut self, container: Id, membership: &Membership) {
        self.members -= 1;
        for name in &membership.names {
            if let Entry::Occupied(mut members) = self.names.entry(Arc::clone(name)) {
                members.get_mut().retain(|member| member.container != container);
                if members.get().is_empty() {
                    members.remove();
                }
            }
        }
        for address in membership.addresses.iter() {
            if let Entry::Occupied(mut holders) = self.holders.entry(*address) {
                holders.get_mut().retain(|holder| holder.container != container);
                if holders.get().is_empty() {
                    holders.remove();
                }
            }
        }
    }
}

fn addresses_of<'a>(members: impl Iterator<Item = &'a Member>) -> impl Iterator<Item = IpAddr> {
    members.flat_map(|member| member.addresses.iter().copied())
}

/// The name as a whole, then each split into a name and a network, the shortest network first.
fn readings(name: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let dots = (0..name.len()).rev().filter(|&at| name[at] == b'.');
    iter::once((name, None)).chain(dots.map(|at| (&name[..at], Some(&name[at + 1..]))))
}

/// `container.network.`, unless DNS does not permit it (a label of more than 63 bytes).
fn full_name(container: &str, network: &str) -> Option<Name> {
    Name::from_labels(container.split('.').chain(network.split('.')).map(str::as_bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(id: Id, name: &str, names: &[&str], ipv4: &[&str]) -> NetworkRecord {
        NetworkRecord {
            number: 0,
            id,
            name: name.into(),
            internal: false,
            icc: true,
            names: names.iter().map(|name| name.to_string()).collect(),
            ipv4: ipv4.iter().map(|address| address.parse().expect("an address")).collect(),
            ipv6: vec![],
            links: vec![],
        }
    }

    fn find(zone: &Zone, asker: Id, name: &str) -> Option<Vec<String>> {
        let mut addresses = vec![];
        let known = zone.find(asker, name.as_bytes(), IpAddr::is_ipv4, &mut addresses);
        known.then(|| addresses.iter().map(IpAddr::to_string).collect())
    }

    fn found(addresses: &[&str]) -> Option<Vec<String>> {
        Some(addresses.iter().map(|address| address.to_string()).collect())
    }

    #[test]
    fn a_name_is_found_only_in_the_networks_of_the_asker() {
        let (mut zone, blue, red) = (Zone::default(), Id::random(), Id::random());
        let (alice, bob, carol) = (Id::random(), Id::random(), Id::random());
        zone.insert(alice, &[network(blue, "Blue", &["Alice", "alice", "web"], &["10.0.0.2"])]);
        zone.insert(bob, &[network(red, "red", &["bob", "web"], &["10.1.0.2"])]);
        zone.insert(
            carol,
            &[
                network(red, "red", &["carol"], &["10.1.0.3"]),
                network(blue, "Blue", &["carol"], &["10.0.0.3"]),
            ],
        );
        assert_eq!(find(&zone, alice, "alice"), found(&["10.0.0.2"]));
        assert_eq!(find(&zone, alice, "alice.blue"), found(&["10.0.0.2"]));
        assert_eq!(find(&zone, alice, "alice.red"), None);
        assert_eq!(find(&zone, alice, "bob"), None);
        assert_eq!(find(&zone, carol, "bob"), found(&["10.1.0.2"]));
        assert_eq!(find(&zone, carol, "alice"), found(&["10.0.0.2"]));
        assert_eq!(find(&zone, carol, "web"), found(&["10.1.0.2"]), "the first of its networks wins");
        assert_eq!(find(&zone, carol, "web.blue"), found(&["10.0.0.2"]));
        assert_eq!(find(&zone, Id::random(), "alice"), None);

        let reverse = |asker, address: &str| {
            zone.name_of(asker, address.parse().expect("an address")).map(Name::to_ascii)
        };
        assert_eq!(reverse(carol, "10.0.0.2").as_deref(), Some("Alice.Blue."));
        assert_eq!(reverse(bob, "10.0.0.2"), None);
    }

    #[test]
    fn a_link_is_known_to_one_container_and_follows_its_target_name() {
        let (mut zone, net) = (Zone::default(), Id::random());
        let (one, two, other) = (Id::random(), Id::random(), Id::random());
        let links = vec![("DB".into(), "Two".into()), ("two".into(), "other".into())];
        let record = NetworkRecord { links, ..network(net, "n", &["one"], &["10.0.0.2"]) };
        zone.insert(one, &[record]);
        assert_eq!(find(&zone, one, "db"), None, "no container is named two yet");
        zone.insert(two, &[network(net, "n", &["two"], &["10.0.0.3"])]);
        assert_eq!(find(&zone, one, "db"), found(&["10.0.0.3"]));
        assert_eq!(find(&zone, one, "db.n"), found(&["10.0.0.3"]));
        assert_eq!(find(&zone, two, "db"), None);
        assert_eq!(find(&zone, one, "two"), found(&["10.0.0.3"]), "no container is named other yet");
        zone.insert(other, &[network(net, "n", &["other"], &["10.0.0.4"])]);
        assert_eq!(find(&zone, one, "two"), found(&["10.0.0.4"]), "a link takes precedence over a name");
        assert_eq!(find(&zone, other, "two"), found(&["10.0.0.3"]));
        zone.remove(two);
        assert_eq!(find(&zone, one, "db"), None);
    }

    #[test]
    fn addresses_that_the_asker_may_talk_to_come_first() {
        let (mut zone, closed, open) = (Zone::default(), Id::random(), Id::random());
        let (asker, one, two) = (Id::random(), Id::random(), Id::random());
        let closed = |names: &[&str], ipv4: &[&str], links: &[(&str, &str)]| NetworkRecord {
            icc: false,
            links: links.iter().map(|(alias, target)| (alias.to_string(), target.to_string())).collect(),
            ..network(closed, "closed", names, ipv4)
        };
        let open = |names: &[&str], ipv4: &[&str]| network(open, "open", names, ipv4);
        zone.insert(asker, &[closed(&["asker"], &["10.0.0.2"], &[]), open(&["asker"], &["10.1.0.2"])]);
        zone.insert(one, &[closed(&["one", "web"], &["10.0.0.3"], &[]), open(&["one"], &["10.1.0.3"])]);
        zone.insert(two, &[closed(&["two", "web"], &["10.0.0.4"], &[])]);
        assert_eq!(find(&zone, asker, "one"), found(&["10.1.0.3"]));
        assert_eq!(find(&zone, asker, "asker"), found(&["10.1.0.2"]));
        assert_eq!(find(&zone, asker, "one.closed"), found(&["10.0.0.3"]), "the network is named");
        assert_eq!(find(&zone, asker, "two"), found(&["10.0.0.4"]), "it has no other");
        assert_eq!(find(&zone, asker, "web"), found(&["10.0.0.3", "10.0.0.4"]));
        // A link permits it.
        let links = [("two", "two")];
        zone.insert(asker, &[closed(&["asker"], &["10.0.0.2"], &links), open(&["asker"], &["10.1.0.2"])]);
        assert_eq!(find(&zone, asker, "web"), found(&["10.0.0.4"]));
        assert_eq!(find(&zone, asker, "one"), found(&["10.1.0.3"]));
    }

    #[test]
    fn dots_belong_to_container_names_and_to_network_names() {
        let (mut zone, net, asker) = (Zone::default(), Id::random(), Id::random());
        zone.insert(asker, &[network(net, "my.net", &["a.b"], &["10.0.0.2"])]);
        for name in ["a.b", "a.b.my.net"] {
            assert_eq!(find(&zone, asker, name), found(&["10.0.0.2"]), "{name}");
        }
        for name in ["a", "b", "a.b.net", "a.b.my", "", ".", "a.b.", ".my.net"] {
            assert_eq!(find(&zone, asker, name), None, "{name}");
        }
    }

    #[test]
    fn a_removed_container_is_forgotten_and_the_newest_owner_names_an_address() {
        let (mut zone, net) = (Zone::default(), Id::random());
        let (old, new) = (Id::random(), Id::random());
        zone.insert(old, &[network(net, "n", &["old", "both"], &["10.0.0.2"])]);
        zone.insert(new, &[network(net, "n", &["new", "both"], &["10.0.0.2"])]);
        let address = "10.0.0.2".parse().expect("an address");
        assert_eq!(zone.name_of(new, address).map(Name::to_ascii).as_deref(), Some("new.n."));
        assert_eq!(find(&zone, new, "both"), found(&["10.0.0.2", "10.0.0.2"]));

        zone.insert(old, &[network(net, "n", &["older"], &["10.0.0.3"])]);
        assert_eq!(find(&zone, new, "old"), None);
        assert_eq!(find(&zone, new, "older"), found(&["10.0.0.3"]));
        zone.remove(old);
        zone.remove(new);
        assert!(zone.networks.is_empty() && zone.containers.is_empty());
    }

    #[test]
    fn a_reverse_lookup_skips_names_that_dns_does_not_permit() {
        let (mut zone, asker) = (Zone::default(), Id::random());
        let long = "x".repeat(64);
        zone.insert(asker, &[network(Id::random(), "n", &[&long, "0123456789ab"], &["10.0.0.2"])]);
        let name = zone.name_of(asker, "10.0.0.2".parse().expect("an address"));
        assert_eq!(name.map(Name::to_ascii).as_deref(), Some("0123456789ab.n."));
    }
}
