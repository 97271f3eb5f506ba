//! Who A and B are: a container, the host, other hosts; and which address of B a packet of A is for.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use super::{
    Pair,
    atlas::{Atlas, Member, Place, Station},
    names, payload,
    walk::{Ground, on},
};
use crate::{
    daemon::Error,
    link::questions::{self, Route, RouteQuestion},
    model,
    plan::explain::{Code, Hop, Mark, Party, Source, Way, packet::Payload},
};

/// An address of another host, if nobody names one: it is for documentation (RFC 5737), and reached as most others.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// An end of a packet's way.
#[derive(Clone, Copy)]
pub enum Partner<'a> {
    /// A container.
    Station(&'a Station),
    /// The host.
    Host,
    /// Another host, by the interface that leads there.
    Outside(Option<&'a Uplink>),
}

/// The interface to another host.
#[derive(Clone, Debug)]
pub struct Uplink {
    /// Its ifindex.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The host's own address for packets to there.
    own: Option<IpAddr>,
    /// The other host's address.
    other: IpAddr,
}

/// What is needed to say who is who.
pub struct Parties<'a> {
    atlas: &'a Atlas,
    uplinks: &'a [Uplink],
    addresses: &'a [(u32, IpAddr)],
}

/// What is asked of the kernel first.
pub struct Surroundings {
    uplinks: Vec<Uplink>,
    addresses: Vec<(u32, IpAddr)>,
}

impl Surroundings {
    /// Looks for the interfaces to the hosts that are named in these words.
    pub async fn of(words: &[&str]) -> Result<Self, Error> {
        let mut targets: Vec<IpAddr> = words.iter().filter_map(|word| named_address(word)).collect();
        targets.push(OUTSIDE.into());
        on(Ground::Host, "addresses and routes", move || {
            let addresses = questions::addresses()?;
            let is_own = |address: &IpAddr| addresses.iter().any(|(_, own)| own == address);
            let mut uplinks = Vec::new();
            for other in targets.into_iter().filter(|target| !is_own(target)) {
                let question = RouteQuestion { source: None, destination: other, received_by: None, mark: 0 };
                if let Route::By { ifindex, source, .. } = questions::route(&question)? {
                    let interface = questions::interface(ifindex)?;
                    let (name, mtu) = (interface.name, interface.mtu);
                    uplinks.push(Uplink { ifindex, name, mtu, own: source, other });
                }
            }
            // Without a default route, a neighbour stands for other hosts.
            if !uplinks.iter().any(|uplink| uplink.other == OUTSIDE) {
                uplinks.extend(neighbour(&addresses));
            }
            Ok(Self { uplinks, addresses })
        })
        .await
    }
}

/// A neighbour of the host: the next address in the subnet of an interface that is not netbpf's.
fn neighbour(addresses: &[(u32, IpAddr)]) -> Option<Uplink> {
    let others = addresses.iter().filter(|(ifindex, address)| {
        address.is_ipv4() && !address.is_loopback() && netbpf_common::network::number_of(*ifindex).is_none()
    });
    others.into_iter().find_map(|(ifindex, address)| {
        let IpAddr::V4(own) = address else { return None };
        let other = Ipv4Addr::from(u32::from(*own) ^ 3);
        let question = RouteQuestion { source: None, destination: other.into(), received_by: None, mark: 0 };
        let is_there =
            matches!(questions::route(&question), Ok(Route::By { ifindex: by, .. }) if by == *ifindex);
        let interface = questions::interface(*ifindex).ok().filter(|_| is_there)?;
        let (name, mtu) = (interface.name, interface.mtu);
        Some(Uplink { ifindex: *ifindex, name, mtu, own: Some(*address), other: other.into() })
    })
}

/// The address in a word: `10.0.0.1`, `[fd00::1]:80`, `outside:10.0.0.1`.
fn named_address(word: &str) -> Option<IpAddr> {
    let word = word.strip_prefix("outside:").unwrap_or(word);
    address_and_port(word).map(|(address, _)| address)
}

fn address_and_port(word: &str) -> Option<(IpAddr, Option<u16>)> {
    let bare = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(word);
    IpAddr::from_str(bare)
        .ok()
        .map(|address| (address, None))
        .or_else(|| SocketAddr::from_str(word).ok().map(|both| (both.ip(), Some(both.port()))))
}

impl Partner<'_> {
    /// As users know it.
    pub fn party(&self) -> Party {
        match self {
            Self::Station(station) => Party {
                kind: "container",
                name: station.name.clone(),
                id: station.id.to_string(),
                ..Party::default()
            },
            Self::Host => Party { kind: "host", name: "host".to_owned(), ..Party::default() },
            Self::Outside(uplink) => Party {
                kind: "outside",
                name: "outside".to_owned(),
                address: uplink.map(|uplink| uplink.other.to_string()).unwrap_or_default(),
                ..Party::default()
            },
        }
    }

    /// The source of its packets to an address; unspecified if the kernel chooses it.
    pub fn source(&self, to: IpAddr) -> IpAddr {
        match (self, to) {
            (Self::Outside(Some(uplink)), _) if uplink.other.is_ipv4() == to.is_ipv4() => uplink.other,
            (_, IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
            (_, IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

impl<'a> Parties<'a> {
    /// With what the kernel has told.
    pub fn new(atlas: &'a Atlas, around: &'a Surroundings) -> Self {
        Self { atlas, uplinks: &around.uplinks, addresses: &around.addresses }
    }

    /// A packet from A to B.
    pub async fn pair(&self, from: &str, to: &str, what: Option<&str>) -> Result<Pair<'a>, Error> {
        let (from, _) = self.partner(from)?;
        let (name, port) = self.split(to);
        let payload = payload(what, port)?;
        let (to, address) = match (self.partner(name), &from) {
            (Err(Error::NoPartner { name, near }), Partner::Station(station)) => {
                return self.named(station, &name, near, payload).await;
            }
            (found, _) => found?,
        };
        // It is each container's own.
        let to = if address.is_some_and(|address| address.is_loopback()) { from } else { to };
        Ok(self.aimed(from, to, address, payload, name))
    }

    /// A packet to a name that the sender's name server knows.
    async fn named(
        &self,
        station: &'a Station,
        name: &str,
        near: String,
        payload: Payload,
    ) -> Result<Pair<'a>, Error> {
        let from = Partner::Station(station);
        let Some(found) = names::look_up(self.atlas, station, name).await? else {
            return Err(Error::NoPartner { name: name.to_owned(), near });
        };
        let Some(address) = found.address else {
            let to = Partner::Outside(None);
            return Ok(Pair { from, to, address: None, payload, hops: vec![found.hop] });
        };
        let to = match self.atlas.owner_of(address) {
            Some(owner) => Partner::Station(owner.station),
            None => Partner::Outside(self.uplink_to(address)),
        };
        let mut pair = self.aimed(from, to, Some(address), payload, name);
        pair.hops.insert(0, found.hop);
        Ok(pair)
    }

    /// The usual ways of a container, or of the host: to the host, to other hosts, and to its published ports.
    pub fn of_one(&self, word: &str) -> Result<Vec<Pair<'a>>, Error> {
        let (from, _) = self.partner(word)?;
        let mut all = Vec::new();
        let outside = Partner::Outside(self.uplinks.last());
        if let Partner::Station(station) = from {
            all.push(self.aimed(from, Partner::Host, None, Payload::Echo, "host"));
            all.push(self.aimed(from, outside, None, Payload::Echo, "outside"));
            let mut seen = Vec::new();
            for mapping in station.records().iter().flat_map(|record| &record.mappings) {
                let is_new = !seen.contains(&(mapping.protocol, mapping.host_port));
                if mapping.host_port == 0 || !mapping.host.is_ipv4() || !is_new {
                    continue;
                }
                seen.push((mapping.protocol, mapping.host_port));
                let payload = payload(Some(&mapping.protocol.to_string()), Some(mapping.host_port))?;
                let address = (!mapping.host.is_unspecified()).then_some(mapping.host);
                let by = if mapping.host.is_loopback() { Partner::Host } else { outside };
                all.push(self.aimed(by, Partner::Host, address, payload, "host"));
            }
        } else if matches!(from, Partner::Host) {
            all.push(self.aimed(from, outside, None, Payload::Echo, "outside"));
        } else {
            let reason = "to whom? netbpf explain outside host:8080, for example";
            return Err(Error::Invalid(reason.to_owned()));
        }
        Ok(all)
    }

    /// A word for B may end in a port.
    fn split<'w>(&self, word: &'w str) -> (&'w str, Option<u16>) {
        if self.station(word).is_ok() {
            return (word, None);
        }
        let target = word.strip_prefix("outside:").unwrap_or(word);
        if let Some((_, port)) = address_and_port(target) {
            let Some(port) = port else { return (word, None) };
            let cut = word.len() - port.to_string().len() - 1;
            return (word.get(..cut).unwrap_or(word), Some(port));
        }
        match word.rsplit_once(':') {
            Some((name, port)) if !name.is_empty() => match port.parse() {
                Ok(port) => (name, Some(port)),
                Err(_) => (word, None),
            },
            _ => (word, None),
        }
    }

    /// Who a word means, and the address that it names.
    fn partner(&self, word: &str) -> Result<(Partner<'a>, Option<IpAddr>), Error> {
        if word == "host" {
            return Ok((Partner::Host, None));
        }
        if word == "outside" {
            return Ok((Partner::Outside(self.uplinks.last()), None));
        }
        if let Some(rest) = word.strip_prefix("outside:") {
            let (address, _) = address_and_port(rest).ok_or_else(|| {
                Error::Invalid(format!("{rest:?} is no address: outside:198.51.100.7, for example"))
            })?;
            return Ok((Partner::Outside(self.uplink_to(address)), Some(address)));
        }
        if let Ok(station) = self.station(word) {
            return Ok((self.borrowed(station), None));
        }
        if let Some((address, _)) = address_and_port(word) {
            if let Some(owner) = self.atlas.owner_of(address) {
                return Ok((Partner::Station(owner.station), Some(address)));
            }
            if address.is_loopback() || self.addresses.iter().any(|(_, own)| *own == address) {
                return Ok((Partner::Host, Some(address)));
            }
            return Ok((Partner::Outside(self.uplink_to(address)), Some(address)));
        }
        self.station(word).map(|station| (Partner::Station(station), None))
    }

    fn uplink_to(&self, address: IpAddr) -> Option<&'a Uplink> {
        self.uplinks.iter().find(|uplink| uplink.other == address)
    }

    /// The container that a user names.
    fn station(&self, word: &str) -> Result<&'a Station, Error> {
        let word = word.strip_prefix('/').unwrap_or(word);
        let all = self.atlas.stations();
        let exact = all.iter().find(|station| station.id.to_string() == word || station.name == word);
        if let Some(station) = exact {
            return Ok(station);
        }
        let mut by_id =
            all.iter().filter(|station| !word.is_empty() && station.id.to_string().starts_with(word));
        match (by_id.next(), by_id.next()) {
            (Some(station), None) => Ok(station),
            (Some(_), Some(_)) => {
                Err(Error::Invalid(format!("multiple IDs found with provided prefix: {word}")))
            }
            (None, _) => {
                let near = self.atlas.near(word).join(", ");
                let near = if near.is_empty() { near } else { format!("; near to it: {near}") };
                Err(Error::NoPartner { name: word.to_owned(), near })
            }
        }
    }

    /// The container that has the namespace; one in the host's is the host.
    fn borrowed(&self, station: &'a Station) -> Partner<'a> {
        match station.borrows().and_then(|id| self.atlas.station(&id)) {
            Some(owner) => Partner::Station(owner),
            None if matches!(station.place(), Some(Place::Host)) => Partner::Host,
            None => Partner::Station(station),
        }
    }

    /// With the address that the packet is for.
    fn aimed(
        &self,
        from: Partner<'a>,
        to: Partner<'a>,
        named: Option<IpAddr>,
        payload: Payload,
        word: &str,
    ) -> Pair<'a> {
        let mut hops = Vec::new();
        let address = named.or_else(|| match &to {
            Partner::Station(station) => self.address_of(&from, station),
            Partner::Host => self.host_for(&from),
            Partner::Outside(uplink) => uplink.map(|uplink| uplink.other),
        });
        if let (Partner::Station(one), Partner::Station(other)) = (&from, &to)
            && named.is_none()
            && one.id != other.id
        {
            hops.extend(self.without_name(one, other, word));
        }
        match &to {
            Partner::Station(station) if address.is_none() && station.is_running() => {
                let name = &station.name;
                let text = format!("{name} has no address in any network");
                let help = format!("netbpf connect NETWORK {}", model::word(name));
                hops.push(hop(Mark::Bad, name, Code::NoLease, text, help));
            }
            Partner::Host | Partner::Outside(_) if address.is_none() => {
                let text = "the host has no way to other hosts".to_owned();
                hops.push(hop(Mark::Bad, "host", Code::NoRoute, text, "look at ip route".to_owned()));
            }
            _ => {}
        }
        Pair { from, to, address, payload, hops }
    }

    /// The address of a container that another one uses: in a network that they share, if there is one.
    fn address_of(&self, from: &Partner<'a>, station: &'a Station) -> Option<IpAddr> {
        let shared = |member: &Member<'_>| match from {
            Partner::Station(other) => {
                self.atlas.members_of(other).any(|own| own.network.number() == member.network.number())
            }
            Partner::Host | Partner::Outside(_) => false,
        };
        let members = || self.atlas.members_of(station);
        let member = members().find(shared).or_else(|| members().next())?;
        member.endpoint.addresses().next()
    }

    /// The host's address for somebody.
    fn host_for(&self, from: &Partner<'a>) -> Option<IpAddr> {
        let any = || {
            let own = self.addresses.iter().filter(|(_, address)| !address.is_loopback());
            own.map(|(_, address)| *address).find(IpAddr::is_ipv4)
        };
        match from {
            Partner::Host => Some(Ipv4Addr::LOCALHOST.into()),
            Partner::Outside(uplink) => uplink.and_then(|uplink| uplink.own).or_else(any),
            Partner::Station(station) => self
                .atlas
                .members_of(station)
                .find_map(|member| member.network.rules.gateways.first().copied())
                .or_else(any),
        }
    }

    /// A note if one container cannot look up the other's name.
    fn without_name(&self, one: &Station, other: &Station, word: &str) -> Option<Hop> {
        // A user may name it by its ID.
        if word != other.name {
            return None;
        }
        let own: Vec<_> = self.atlas.members_of(one).map(|member| member.network).collect();
        let shared: Vec<_> = self
            .atlas
            .members_of(other)
            .filter(|member| own.iter().any(|network| network.number() == member.network.number()))
            .collect();
        let links = one.attachments().any(|attachment| !attachment.request.links.is_empty());
        if shared.is_empty() || links || shared.iter().any(|member| member.network.network.has_names()) {
            return None;
        }
        let text =
            format!("{} does not resolve {word}: {} has no names", one.name, shared[0].network.network.name);
        let help = "use a network of your own: netbpf network create; or --link".to_owned();
        Some(Hop { source: Source::Names, ..hop(Mark::Note, &one.name, Code::NoName, text, help) })
    }
}

fn hop(mark: Mark, at: &str, code: Code, text: String, help: String) -> Hop {
    let (source, entry) = (Source::Daemon, String::new());
    Hop { way: Way::There, mark, at: at.to_owned(), code, text, source, entry, help }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_port() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(address_and_port("10.0.0.1"), Some((address("10.0.0.1"), None)));
        assert_eq!(address_and_port("10.0.0.1:80"), Some((address("10.0.0.1"), Some(80))));
        assert_eq!(address_and_port("fd00::1"), Some((address("fd00::1"), None)));
        assert_eq!(address_and_port("[fd00::1]"), Some((address("fd00::1"), None)));
        assert_eq!(address_and_port("[fd00::1]:80"), Some((address("fd00::1"), Some(80))));
        assert_eq!(address_and_port("web:80"), None);
        assert_eq!(named_address("outside:10.0.0.1:80"), Some(address("10.0.0.1")));
    }
}
