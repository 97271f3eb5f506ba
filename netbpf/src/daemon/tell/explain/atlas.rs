//! A copy of what the daemon knows of networks and containers, for questions that take several looks at the kernel. Asks
//! nobody.

use std::net::IpAddr;

use crate::{
    daemon::state::world::World,
    model::{
        Attachment, Bridge, Container, Endpoint, Id, Mac, Mapping, Mode, Namespace, Network, State, Subject,
    },
    plan::{NetworkRules, explain::table::Side},
};

/// Networks and containers at one moment.
pub struct Atlas {
    networks: Vec<Mapped>,
    stations: Vec<Station>,
    /// The published ports of all containers.
    pub mappings: Vec<Mapping>,
}

/// A network with a bridge.
pub struct Mapped {
    /// The network.
    pub network: Network,
    /// Its rules in the packet filter.
    pub rules: NetworkRules,
}

impl Mapped {
    /// Its bridge.
    pub fn bridge(&self) -> Option<&Bridge> {
        self.network.bridge()
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.bridge().map_or(u32::MAX, |bridge| bridge.number)
    }
}

/// A container as users know it: its owner may have a record for each network.
pub struct Station {
    /// The ID that users know.
    pub id: Id,
    /// The name that users know.
    pub name: String,
    /// Its records.
    records: Vec<Container>,
}

/// An endpoint in a network.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    /// Its container.
    pub station: &'a Station,
    /// Its network.
    pub network: &'a Mapped,
    /// Itself.
    pub endpoint: &'a Endpoint,
}

/// The network namespace of a container.
pub enum Place {
    /// The host's.
    Host,
    /// Its own.
    Own(Namespace),
}

impl Station {
    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.records.iter().any(|record| matches!(record.state, State::Running { .. }))
    }

    /// The container whose namespace it uses, if it has none of its own.
    pub fn borrows(&self) -> Option<Id> {
        self.records.iter().find_map(|record| match &record.subject {
            Subject::Sandbox(sandbox) => match sandbox.mode {
                Mode::Container(id) => Some(id),
                Mode::Networks | Mode::None | Mode::Host => None,
            },
            _ => None,
        })
    }

    /// Where its processes are; none while it does not run.
    pub fn place(&self) -> Option<Place> {
        let is_on_host = |record: &Container| matches!(&record.subject, Subject::Sandbox(sandbox) if sandbox.mode == Mode::Host);
        if self.records.iter().any(is_on_host) {
            return self.is_running().then_some(Place::Host);
        }
        let own = |record: &Container| record.namespace().or_else(|| record.moved_to());
        self.records.iter().find_map(own).map(Place::Own)
    }

    /// Its memberships.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.records.iter().flat_map(|record| &record.attachments)
    }

    /// Its records.
    pub fn records(&self) -> &[Container] {
        &self.records
    }
}

impl Atlas {
    /// A copy of the present state.
    pub fn of(world: &World) -> Self {
        let networks = world.networks().filter_map(|network| {
            Some(Mapped { network: network.clone(), rules: NetworkRules::of(network)? })
        });
        let mut stations: Vec<Station> = Vec::new();
        let mut mappings = Vec::new();
        for container in world.containers() {
            mappings.extend(&container.mappings);
            let (id, name) = container.shown();
            let is_one_of_many = matches!(container.subject, Subject::Docker(_));
            let known = || stations.iter().rposition(|station| station.id == id);
            let place = if is_one_of_many { known() } else { None };
            match place.and_then(|place| stations.get_mut(place)) {
                Some(station) => station.records.push(container.clone()),
                None => {
                    stations.push(Station { id, name: name.to_owned(), records: vec![container.clone()] });
                }
            }
        }
        Self { networks: networks.collect(), stations, mappings }
    }

    /// All networks with a bridge.
    pub fn networks(&self) -> &[Mapped] {
        &self.networks
    }

    /// All containers.
    pub fn stations(&self) -> &[Station] {
        &self.stations
    }

    /// The container with an ID.
    pub fn station(&self, id: &Id) -> Option<&Station> {
        self.stations.iter().find(|station| station.id == *id)
    }

    /// The network with a number.
    pub fn numbered(&self, number: u32) -> Option<&Mapped> {
        self.networks.iter().find(|mapped| mapped.number() == number)
    }

    /// The network whose host device has a MAC.
    pub fn with_mac(&self, mac: Mac) -> Option<&Mapped> {
        self.networks.iter().find(|mapped| mapped.bridge().is_some_and(|bridge| bridge.mac() == mac))
    }

    /// The endpoints of a container, with their networks.
    pub fn members_of<'a>(&'a self, station: &'a Station) -> impl Iterator<Item = Member<'a>> {
        station.attachments().filter_map(move |attachment| {
            let network = self.networks.iter().find(|mapped| mapped.network.id == attachment.network)?;
            Some(Member { station, network, endpoint: attachment.endpoint.as_ref()? })
        })
    }

    /// All endpoints.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        self.stations.iter().flat_map(|station| self.members_of(station))
    }

    /// The numbers of the endpoints in a network.
    pub fn numbers_in(&self, network: &Mapped) -> Vec<u32> {
        let number = network.number();
        self.members()
            .filter(|member| member.network.number() == number)
            .map(|member| member.endpoint.number)
            .collect()
    }

    /// The endpoint with a number.
    pub fn member(&self, number: u32) -> Option<Member<'_>> {
        self.members().find(|member| member.endpoint.number == number)
    }

    /// The endpoint with an address.
    pub fn owner_of(&self, address: IpAddr) -> Option<Member<'_>> {
        self.members().find(|member| member.endpoint.addresses().any(|own| own == address))
    }

    /// The network whose subnet has an address.
    pub fn network_of(&self, address: IpAddr) -> Option<&Mapped> {
        self.networks.iter().find(|mapped| {
            mapped.bridge().is_some_and(|bridge| bridge.nets().any(|net| net.contains(&address)))
        })
    }

    /// An interface of the host as the packet filter sees it.
    pub fn side<'a>(&'a self, ifindex: u32, name: &'a str) -> Side<'a> {
        let number = netbpf_common::network::number_of(ifindex);
        match number.and_then(|number| self.numbered(number)) {
            Some(mapped) => Side::Network(&mapped.rules),
            None => Side::Other(name),
        }
    }

    /// Names that are near to one that nobody has: the nearest first.
    pub fn near(&self, name: &str) -> Vec<&str> {
        let wanted = name.to_lowercase();
        if wanted.is_empty() {
            return Vec::new();
        }
        let mut near: Vec<(usize, &str)> = self
            .stations
            .iter()
            .filter_map(|station| {
                let own = station.name.to_lowercase();
                let distance = distance(&own, &wanted);
                let is_near = distance <= 1.max(wanted.chars().count() / 3)
                    || own.starts_with(&wanted)
                    || wanted.starts_with(&own);
                is_near.then_some((distance, station.name.as_str()))
            })
            .collect();
        near.sort_unstable();
        near.dedup();
        near.into_iter().take(3).map(|(_, name)| name).collect()
    }
}

/// How many characters are to be changed, added, removed, or exchanged with the next one, to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let [one, other] = [one, other].map(|text| text.chars().take(64).collect::<Vec<_>>());
    let mut rows = vec![(0..=other.len()).collect::<Vec<_>>()];
    for (line, character) in one.iter().enumerate() {
        let above = &rows[line];
        let mut row = vec![line + 1];
        for (column, theirs) in other.iter().enumerate() {
            let changed = above[column] + usize::from(character != theirs);
            let mut least = changed.min(above[column + 1] + 1).min(row[column] + 1);
            let is_exchange =
                line > 0 && column > 0 && one[line - 1] == *theirs && *character == other[column - 1];
            if is_exchange {
                least = least.min(rows[line - 1][column - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_that_of_single_changes() {
        for (one, other, expected) in [
            ("web", "web", 0),
            ("web", "wbe", 1),
            ("web", "webs", 1),
            ("", "db", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
