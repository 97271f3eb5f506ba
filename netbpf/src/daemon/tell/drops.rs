//! What was dropped and why, with the names of those who sent it and whom it was for. Changes nothing.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use jiff::Timestamp;
use netbpf_common::{
    drops::{DropKey, DroppedFrame, Drops},
    endpoint, network,
    reason::Reason,
    wire::EtherType,
};
use nix::{
    net::if_::if_indextoname,
    time::{ClockId, clock_gettime},
};

use crate::{
    daemon::{
        Error,
        effects::host::Host,
        state::{State, world::World},
    },
    model::{self, Bridge, Id, Mac},
};

/// Which drops are asked for.
#[derive(Clone, Debug, Default)]
pub struct DropsAsked {
    /// Those from or to one of these containers; all if there is none.
    pub containers: Vec<Id>,
    /// Those whose last one was not before this time.
    pub since: Option<Timestamp>,
    /// So many of the last ones.
    pub tail: Option<usize>,
}

/// Frames that were dropped for one reason.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// The reason.
    pub reason: Reason,
    /// How many.
    pub frames: u64,
    /// Who counted them.
    pub by: DroppedBy,
    /// What is remembered of them.
    pub kind: Option<DroppedKind>,
    /// Why they were dropped, and what would help.
    pub why: String,
}

/// What drops frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DroppedBy {
    /// The programs.
    Programs,
    /// The packet filter's table, which remembers only how many.
    Filter,
}

/// Frames that were dropped at one interface on the way to one destination.
#[derive(Clone, Debug)]
pub struct DroppedKind {
    /// When the first one was dropped.
    pub first: Timestamp,
    /// When the last one was dropped.
    pub last: Timestamp,
    /// Who sent the last one.
    pub source: DropParty,
    /// Whom they were for.
    pub destination: DropParty,
    /// The EtherType; zero for frames with a VLAN ID.
    pub ethertype: [u8; 2],
    /// The protocol in the IP header.
    pub protocol: u8,
    /// The interface where they were dropped.
    pub interface: String,
    /// The network that they were in, or would have entered.
    pub network: String,
    /// The length of the last one in bytes.
    pub length: u32,
    /// Its first bytes.
    pub head: Vec<u8>,
}

/// A sender or receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropParty {
    /// What it is.
    pub kind: PartyKind,
    /// Its IP or MAC address.
    pub address: String,
    /// Its port in TCP, UDP and SCTP; the type and code of ICMP are those of the receiver. Zero for none.
    pub port: u16,
}

/// What a sender or receiver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartyKind {
    /// A container in a network.
    Container {
        /// Its ID.
        id: Id,
        /// Its name.
        name: String,
        /// The network's name.
        network: String,
    },
    /// A container that is gone, or whose network is.
    Gone,
    /// This host.
    Host,
    /// Another host, a group, or an address that nobody has.
    Other,
}

/// What was dropped, the latest last. First come those that were only counted: by the packet filter, or by the programs, if
/// the kernel made room for other kinds. They are left out if containers or a time are asked for.
pub async fn drops(state: &State, host: &Host, asked: &DropsAsked) -> Result<Vec<Dropped>, Error> {
    let filtered = host.firewall.dropped().await?;
    let (drops, counters) = {
        let datapath = host.datapath();
        (datapath.drops()?, datapath.reasons()?)
    };
    let boot = boot_time();
    let mut told = Vec::new();
    if asked.containers.is_empty() && asked.since.is_none() {
        for (reason, counter) in counters.iter().filter(|(reason, _)| reason.is_drop()) {
            let known: u64 = drops
                .iter()
                .filter(|(key, _)| key.reason == *reason as u32)
                .map(|(_, drops)| drops.frames)
                .sum();
            let filtered = filtered.iter().filter(|counted| counted.name == reason.name());
            let filtered = filtered.map(|counted| counted.packets).sum();
            let others =
                [(DroppedBy::Filter, filtered), (DroppedBy::Programs, counter.packets.saturating_sub(known))];
            let others = others.into_iter().filter(|(_, frames)| *frames != 0);
            told.extend(others.map(|(by, frames)| Dropped {
                reason: *reason,
                frames,
                by,
                kind: None,
                why: model::why(*reason, &model::Dropped::default()),
            }));
        }
    }
    let mut known: Vec<_> = {
        let world = state.world();
        let directory = Directory::of(&world);
        let told = drops
            .iter()
            .filter_map(|(key, drops)| Some((drops.last.time, directory.tell(key, drops, boot)?)));
        told.collect()
    };
    known.sort_by_key(|(time, _)| *time);
    let is_asked = |dropped: &Dropped| {
        let Some(kind) = &dropped.kind else { return true };
        let is_of = |party: &DropParty| matches!(&party.kind, PartyKind::Container { id, .. } if asked.containers.contains(id));
        asked.since.is_none_or(|since| kind.last >= since)
            && (asked.containers.is_empty() || is_of(&kind.source) || is_of(&kind.destination))
    };
    told.extend(known.into_iter().map(|(_, dropped)| dropped).filter(is_asked));
    let surplus = asked.tail.map_or(0, |tail| told.len().saturating_sub(tail));
    told.drain(..surplus);
    Ok(told)
}

/// The time of the boot. The programs count from there, with the time in which the host slept.
fn boot_time() -> Timestamp {
    let up = clock_gettime(ClockId::CLOCK_BOOTTIME).map(std::time::Duration::from).unwrap_or_default();
    Timestamp::now().checked_sub(up).unwrap_or_default()
}

/// Who has which number and address.
struct Directory<'a> {
    endpoints: HashMap<u32, Member<'a>>,
    /// The endpoint with an address in a network, by the network's number.
    addresses: HashMap<(u32, IpAddr), u32>,
    /// Name and settings of each network, by its number.
    networks: HashMap<u32, (&'a str, &'a Bridge)>,
}

struct Member<'a> {
    id: Id,
    name: &'a str,
    network: &'a str,
    host_interface: &'a str,
    mac: Mac,
    addresses: Vec<IpAddr>,
}

impl<'a> Directory<'a> {
    fn of(world: &'a World) -> Self {
        let (mut networks, mut numbers) = (HashMap::new(), HashMap::new());
        for network in world.networks() {
            let Some(bridge) = network.bridge() else { continue };
            networks.insert(bridge.number, (&*network.name, bridge));
            numbers.insert(network.id, (bridge.number, &*network.name));
        }
        let (mut endpoints, mut addresses) = (HashMap::new(), HashMap::new());
        for container in world.containers() {
            let (id, name) = container.shown();
            for attachment in &container.attachments {
                let Some(endpoint) = &attachment.endpoint else { continue };
                let Some(&(number, network)) = numbers.get(&attachment.network) else { continue };
                let link_local = endpoint.ipv6.map(|_| endpoint.mac.link_local().into());
                addresses.extend(
                    endpoint
                        .addresses()
                        .chain(link_local)
                        .map(|address| ((number, address), endpoint.number)),
                );
                let member = Member {
                    id,
                    name,
                    network,
                    host_interface: &endpoint.host_interface,
                    mac: endpoint.mac,
                    addresses: endpoint.addresses().collect(),
                };
                endpoints.insert(endpoint.number, member);
            }
        }
        Self { endpoints, addresses, networks }
    }

    /// None for an entry that cannot be read, because its reason is not known.
    fn tell(&self, key: &DropKey, drops: &Drops, boot: Timestamp) -> Option<Dropped> {
        let reason = *Reason::ALL.get(key.reason as usize)?;
        let last = &drops.last;
        let at =
            |nanoseconds: u64| boot.checked_add(std::time::Duration::from_nanos(nanoseconds)).unwrap_or(boot);
        let sender = self.sender(key, last);
        let receiver = self.member_with(key.network, key.ethertype, key.destination);
        let (network, bridge) = self.networks.get(&key.network).copied().unzip();
        let [source, destination] =
            [last.source, key.destination].map(|address| Address::of(key.ethertype, address));
        let why = model::why(
            reason,
            &model::Dropped {
                sender: sender.map(|member| member.name),
                addresses: sender.map_or(&[], |member| &member.addresses),
                sender_network: sender.map(|member| member.network),
                network,
                receiver: receiver.map(|member| member.name),
                source: source.ip(),
                destination: destination.ip(),
            },
        );
        let source = DropParty {
            kind: self.kind_of_sender(key, last, sender),
            address: source.to_string(),
            port: u16::from_be_bytes(last.source_port),
        };
        let is_host = bridge.is_some_and(|bridge| match destination {
            Address::Ip(address) => bridge.is_of_host(address),
            Address::Mac(mac) => bridge.mac() == mac,
        });
        let destination = DropParty {
            kind: match receiver {
                Some(member) => member.party(),
                None if is_host => PartyKind::Host,
                None => PartyKind::Other,
            },
            address: destination.to_string(),
            port: u16::from_be_bytes(key.port),
        };
        let kind = DroppedKind {
            first: at(drops.first),
            last: at(last.time),
            source,
            destination,
            ethertype: key.ethertype,
            protocol: key.protocol,
            interface: self.interface(key.ifindex),
            network: network.unwrap_or_default().to_owned(),
            length: last.length,
            head: last.head.iter().take(last.head_length.into()).copied().collect(),
        };
        Some(Dropped { reason, frames: drops.frames, by: DroppedBy::Programs, kind: Some(kind), why })
    }

    /// The container that sent the last frame: the one with the endpoint, or one whose packet the host forwards.
    fn sender(&self, key: &DropKey, last: &DroppedFrame) -> Option<&Member<'a>> {
        match endpoint::number_of(key.ifindex) {
            Some(number) => self.endpoints.get(&number),
            None => {
                let network = network::number_of(last.received_by)?;
                self.member_with(network, key.ethertype, last.source)
            }
        }
    }

    fn kind_of_sender(&self, key: &DropKey, last: &DroppedFrame, sender: Option<&Member<'_>>) -> PartyKind {
        let is_of_host = network::number_of(key.ifindex).is_some() && last.received_by == 0;
        match sender {
            Some(member) => member.party(),
            None if endpoint::number_of(key.ifindex).is_some() => PartyKind::Gone,
            None if is_of_host => PartyKind::Host,
            None => PartyKind::Other,
        }
    }

    /// The member of a network with an address or a MAC; if the network has none, that of another one.
    fn member_with(&self, network: u32, ethertype: [u8; 2], address: [u8; 16]) -> Option<&Member<'a>> {
        let number = match Address::of(ethertype, address) {
            Address::Ip(address) => {
                let in_other =
                    || self.networks.keys().find_map(|network| self.addresses.get(&(*network, address)));
                self.addresses.get(&(network, address)).or_else(in_other)
            }
            Address::Mac(mac) => {
                let (name, _) = self.networks.get(&network)?;
                let has_it = |member: &Member<'_>| member.mac == mac && member.network == *name;
                self.endpoints.iter().find_map(|(number, member)| has_it(member).then_some(number))
            }
        };
        self.endpoints.get(number?)
    }

    fn interface(&self, ifindex: u32) -> String {
        let member = endpoint::number_of(ifindex).and_then(|number| self.endpoints.get(&number));
        let network = network::number_of(ifindex).and_then(|number| self.networks.get(&number));
        match (member, network) {
            (Some(member), _) => member.host_interface.to_owned(),
            (None, Some((_, bridge))) => bridge.device.to_string(),
            (None, None) => if_indextoname(ifindex)
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_else(|_| format!("if{ifindex}")),
        }
    }
}

impl Member<'_> {
    fn party(&self) -> PartyKind {
        PartyKind::Container { id: self.id, name: self.name.to_owned(), network: self.network.to_owned() }
    }
}

/// An address in a key of `DROPS`.
enum Address {
    Ip(IpAddr),
    Mac(Mac),
}

impl Address {
    fn of(ethertype: [u8; 2], address: [u8; 16]) -> Self {
        match EtherType(ethertype) {
            EtherType::IPV4 | EtherType::IPV6 | EtherType::ARP => {
                Self::Ip(Ipv6Addr::from_octets(address).to_canonical())
            }
            _ => {
                let [.., a, b, c, d, e, f] = address;
                Self::Mac(Mac::from_octets([a, b, c, d, e, f]))
            }
        }
    }

    fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Mac(_) => None,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Mac(mac) => mac.fmt(f),
        }
    }
}
