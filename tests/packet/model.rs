//! A plain model of the bridge: what must happen to a frame, from what a bridge with fixed members may do. Written from
//! the rules and not from the programs: it copies bytes, searches lists and knows no kernel, map or verifier.
//!
//! Must not know how frames are made.

use netbpf_common::reason::Reason;

use super::{
    frame::{Frame, icmpv6_checksum},
    headers::{Content, Headers, Rest, is_extension, length_of_extension},
};

type Mac = [u8; 6];

/// A container's place in a network.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its endpoint number.
    pub number: u32,
    /// The network's number.
    pub network: u32,
    /// The container: its other endpoints have the same.
    pub container: u32,
    pub mac: Mac,
    pub ipv4: [u8; 4],
    /// Its global and its link-local address, if it has any.
    pub ipv6: Option<[[u8; 16]; 2]>,
    /// Whether it has used up its limit for a long time.
    pub exhausted: bool,
}

/// The host in a network.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The network's number.
    pub network: u32,
    pub mac: Mac,
    /// Its address; the first two bytes are the subnet.
    pub ipv4: [u8; 4],
    /// Whether members may not talk to each other.
    pub apart: bool,
}

/// The bridge: its networks and their members.
#[derive(Debug)]
pub struct Model {
    pub hosts: Vec<Host>,
    pub members: Vec<Member>,
    /// What members that are kept apart may do: sender, receiver, protocol and port.
    pub links: Vec<(u32, u32, u8, u16)>,
}

/// What happens to a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Why it ends.
    pub reason: Reason,
    /// The endpoints that receive it.
    pub received: Vec<u32>,
    /// The frame as it is received.
    pub frame: Frame,
}

/// Where a frame comes from.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// A container, by the endpoint with this number.
    Container(u32),
    /// The host, which sends to this network, and may have received the packet from another one.
    Host { network: u32, received_from: Option<u32> },
}

/// Who has an address or a MAC.
#[derive(Clone, Copy)]
enum Station<'a> {
    Member(&'a Member),
    Host(&'a Host),
}

impl Station<'_> {
    fn mac(&self) -> Mac {
        match self {
            Self::Member(member) => member.mac,
            Self::Host(host) => host.mac,
        }
    }
}

/// An address of either family.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Address {
    V4([u8; 4]),
    V6([u8; 16]),
}

type End = Result<Fate, Reason>;

impl Model {
    /// What must happen to a frame.
    pub fn fate(&self, origin: Origin, frame: &Frame) -> Fate {
        let end = match origin {
            Origin::Container(number) => self.of_container(number, frame),
            Origin::Host { network, received_from } => self.of_host(network, received_from, frame),
        };
        end.unwrap_or_else(|reason| Fate { reason, received: Vec::new(), frame: frame.clone() })
    }

    fn of_container(&self, number: u32, frame: &Frame) -> End {
        let sender =
            self.members.iter().find(|member| member.number == number).ok_or(Reason::UnknownEndpoint)?;
        if sender.exhausted {
            return Err(Reason::EgressLimit);
        }
        let headers = Headers::of(frame).ok_or(Reason::Malformed)?;
        if headers.source != sender.mac {
            return Err(Reason::SpoofedMac);
        }
        not_reserved(&headers)?;
        let as_sibling = self.checked_sender(sender, &headers)?;
        match headers.content {
            Content::Arp { request, sender_mac, sender_ip, target_ip } => {
                let own = sender_ip == sender.ipv4 || request && sender_ip == [0; 4];
                let announces = !request || target_ip == sender.ipv4;
                let sibling = || self.sibling(sender, Address::V4(sender_ip)).is_some();
                if sender_mac != sender.mac || !own && (announces || !sibling()) {
                    return Err(Reason::SpoofedArp);
                }
                if !announces {
                    return self.answered_arp(sender.network, &headers, frame, target_ip);
                }
            }
            Content::Ipv6(ref ipv6) => {
                if let Some(end) = self.discovery_of(sender, &headers, ipv6, frame) {
                    return end;
                }
            }
            Content::Ipv4(_) | Content::Other => {}
        }
        self.passed_on(sender, &headers, frame, as_sibling)
    }

    /// Checks the IP addresses. Returns the container's other endpoint if the source address is that one's.
    fn checked_sender<'a>(
        &'a self,
        sender: &Member,
        headers: &Headers,
    ) -> Result<Option<&'a Member>, Reason> {
        match &headers.content {
            Content::Ipv4(ipv4) => {
                let own = ipv4.source == sender.ipv4;
                let sibling = self.sibling(sender, Address::V4(ipv4.source)).filter(|_| !own);
                match (own || sibling.is_some(), ipv4.destination[0]) {
                    (false, _) => Err(Reason::SpoofedIpv4),
                    (true, 127) => Err(Reason::Loopback),
                    (true, _) => Ok(sibling),
                }
            }
            Content::Ipv6(ipv6) => {
                if sender.ipv6.is_some_and(|own| own.contains(&ipv6.source)) {
                    return Ok(None);
                }
                if let Some(sibling) = self.sibling(sender, Address::V6(ipv6.source)) {
                    return Ok(Some(sibling));
                }
                let has_none_yet = sender.ipv6.is_some() && ipv6.source == [0; 16];
                if has_none_yet && is_of_a_new_node(ipv6.next_header, &ipv6.rest)? {
                    Ok(None)
                } else {
                    Err(Reason::SpoofedIpv6)
                }
            }
            Content::Arp { .. } | Content::Other => Ok(None),
        }
    }

    /// Another endpoint of the same container that has the address, if nobody in the sender's network has it.
    fn sibling(&self, sender: &Member, address: Address) -> Option<&Member> {
        let has_it = |member: &&Member| match address {
            Address::V4(ipv4) => member.ipv4 == ipv4,
            Address::V6(ipv6) => member.ipv6.is_some_and(|[global, _]| global == ipv6),
        };
        let others = self
            .members
            .iter()
            .filter(|other| other.container == sender.container && other.number != sender.number);
        let sibling = others.into_iter().find(has_it);
        sibling.filter(|_| self.owner(sender.network, address).is_none())
    }

    /// What ends a message of neighbour discovery, or an attempt to hide one; none if the packet is passed on.
    fn discovery_of(
        &self,
        sender: &Member,
        headers: &Headers,
        ipv6: &super::headers::Ipv6,
        frame: &Frame,
    ) -> Option<End> {
        if is_extension(ipv6.next_header) {
            return nothing_hidden(ipv6.next_header, &ipv6.rest).err().map(Err);
        }
        let message = match ipv6.discovery() {
            Ok(message) => message?,
            Err(()) => return Some(Err(Reason::Malformed)),
        };
        let own = |address: [u8; 16]| sender.ipv6.is_some_and(|own| own.contains(&address));
        let end = || {
            if ipv6.source != [0; 16] && !own(ipv6.source) {
                return Err(Reason::SpoofedNd);
            }
            let says_own_mac = |fixed, kind| message.option(fixed, kind, sender.mac, ipv6.source != [0; 16]);
            match message.kind {
                133 => {
                    says_own_mac(8, 1)?;
                    Ok(Some(Fate { reason: Reason::Delivered, received: Vec::new(), frame: frame.clone() }))
                }
                135 => {
                    says_own_mac(24, 1)?;
                    let target = message.target().ok_or(Reason::Malformed)?;
                    match own(target) {
                        true => Err(Reason::UnknownAddress),
                        false => self.answered_nd(sender.network, headers, frame, target).map(Some),
                    }
                }
                136 => {
                    says_own_mac(24, 2)?;
                    let target = message.target().ok_or(Reason::Malformed)?;
                    match own(target) && ipv6.source != [0; 16] {
                        true => Ok(None),
                        false => Err(Reason::SpoofedNd),
                    }
                }
                _ => Err(Reason::SpoofedNd),
            }
        };
        end().transpose()
    }

    fn passed_on(
        &self,
        sender: &Member,
        headers: &Headers,
        frame: &Frame,
        as_sibling: Option<&Member>,
    ) -> End {
        let host = self.host(sender.network);
        if headers.destination[0] & 1 == 1 {
            return match host.apart {
                false => Ok(self.flooded(sender.network, Some(sender.number), frame)),
                true => Ok(Fate { reason: Reason::Delivered, received: Vec::new(), frame: frame.clone() }),
            };
        }
        let (station, mut frame) = self.receiver(sender.network, headers, frame)?;
        match station {
            Station::Member(to) if to.number == sender.number => Err(Reason::Hairpin),
            Station::Member(to) => {
                if host.apart {
                    self.linked(sender.number, to.number, headers)?;
                }
                Ok(Fate { reason: Reason::Forwarded, received: vec![to.number], frame })
            }
            Station::Host(_) => {
                let entered = match as_sibling {
                    Some(sibling) => {
                        let host = self.host(sibling.network);
                        frame = frame.with(0, &host.mac).with(6, &sibling.mac);
                        host
                    }
                    None => host,
                };
                self.somebodys(entered, headers)?;
                Ok(Fate { reason: Reason::Delivered, received: Vec::new(), frame })
            }
        }
    }

    /// The host does not get packets that it would have to send back into the network, to an address that nobody has.
    fn somebodys(&self, host: &Host, headers: &Headers) -> Result<(), Reason> {
        let unknown = match &headers.content {
            Content::Ipv4(ipv4) => {
                let [a, b, c, d] = ipv4.destination;
                let inside = [a, b] == host.ipv4[..2] && [c, d] != [255, 255];
                inside && self.owner(host.network, Address::V4(ipv4.destination)).is_none()
            }
            Content::Ipv6(ipv6) => {
                let link_local = ipv6.destination[0] == 0xfe && ipv6.destination[1] & 0xc0 == 0x80;
                link_local && self.owner(host.network, Address::V6(ipv6.destination)).is_none()
            }
            Content::Arp { .. } | Content::Other => false,
        };
        if unknown { Err(Reason::UnknownAddress) } else { Ok(()) }
    }

    /// Whether a link permits a packet between members that are kept apart.
    fn linked(&self, from: u32, to: u32, headers: &Headers) -> Result<(), Reason> {
        let (protocol, ports) = headers.ports()?;
        let [source, destination] = ports;
        let permitted = self.links.contains(&(from, to, protocol, destination))
            || self.links.contains(&(to, from, protocol, source));
        if permitted { Ok(()) } else { Err(Reason::NoIcc) }
    }

    fn of_host(&self, network: u32, received_from: Option<u32>, frame: &Frame) -> End {
        let host = self.host(network);
        let headers = Headers::of(frame).ok_or(Reason::Malformed)?;
        if received_from.is_some_and(|other| other != network) {
            return Err(Reason::Isolated);
        }
        if host.apart && received_from == Some(network) {
            let source = match &headers.content {
                Content::Ipv4(ipv4) => Address::V4(ipv4.source),
                Content::Ipv6(ipv6) => Address::V6(ipv6.source),
                Content::Arp { .. } | Content::Other => return Err(Reason::NoIcc),
            };
            if let Some(Station::Member(_)) = self.owner(network, source) {
                return Err(Reason::NoIcc);
            }
        }
        not_reserved(&headers)?;
        match &headers.content {
            Content::Arp { request: true, target_ip, .. } if *target_ip != host.ipv4 => {
                return self.answered_arp(network, &headers, frame, *target_ip);
            }
            Content::Ipv6(ipv6) => {
                let message = ipv6.discovery().map_err(|()| Reason::Malformed)?;
                if let Some(message) = message.filter(|message| message.kind == 135 && message.length >= 24) {
                    let target = message.target().ok_or(Reason::Malformed)?;
                    return self.answered_nd(network, &headers, frame, target);
                }
            }
            _ => {}
        }
        if headers.destination[0] & 1 == 1 {
            return Ok(self.flooded(network, None, frame));
        }
        match self.receiver(network, &headers, frame)? {
            (Station::Host(_), _) => Err(Reason::Hairpin),
            (Station::Member(to), frame) => {
                Ok(Fate { reason: Reason::Forwarded, received: vec![to.number], frame })
            }
        }
    }

    /// The station with the destination MAC; else the one with the packet's address, which gets its own MAC into the
    /// frame.
    fn receiver(
        &self,
        network: u32,
        headers: &Headers,
        frame: &Frame,
    ) -> Result<(Station<'_>, Frame), Reason> {
        let host = self.host(network);
        let member = self.of(network).find(|member| member.mac == headers.destination);
        match member {
            Some(member) => return Ok((Station::Member(member), frame.clone())),
            None if host.mac == headers.destination => return Ok((Station::Host(host), frame.clone())),
            None => {}
        }
        let address = match &headers.content {
            Content::Ipv4(ipv4) => Address::V4(ipv4.destination),
            Content::Ipv6(ipv6) => Address::V6(ipv6.destination),
            Content::Arp { .. } | Content::Other => return Err(Reason::UnknownDestination),
        };
        let station = self.owner(network, address).ok_or(Reason::UnknownDestination)?;
        Ok((station, frame.clone().with(0, &station.mac())))
    }

    fn flooded(&self, network: u32, sender: Option<u32>, frame: &Frame) -> Fate {
        let others = self.of(network).map(|member| member.number).filter(|number| Some(*number) != sender);
        let mut received: Vec<u32> = others.collect();
        received.sort_unstable();
        Fate { reason: Reason::Flooded, received, frame: frame.clone() }
    }

    /// The request becomes the owner's reply.
    fn answered_arp(&self, network: u32, headers: &Headers, frame: &Frame, target: [u8; 4]) -> End {
        let owner = self.owner(network, Address::V4(target)).ok_or(Reason::UnknownAddress)?.mac();
        let at = headers.offset;
        let asker = frame.0[at + 8..at + 18].to_vec();
        let answer = frame.clone().with(0, &headers.source).with(6, &owner).with(at + 6, &[0, 2]);
        let answer = answer.with(at + 8, &owner).with(at + 14, &target).with(at + 18, &asker);
        Ok(Fate { reason: Reason::AnsweredArp, received: Vec::new(), frame: answer })
    }

    /// The solicitation becomes the owner's advertisement. Its checksum is right if that of the solicitation was.
    fn answered_nd(&self, network: u32, headers: &Headers, frame: &Frame, target: [u8; 16]) -> End {
        let owner = self.owner(network, Address::V6(target)).ok_or(Reason::UnknownAddress)?.mac();
        let at = headers.offset;
        let source: [u8; 16] = frame.0[at + 8..at + 24].try_into().expect("an address");
        let probe = source == [0; 16];
        let all = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let mut answer = frame.clone();
        answer.0.resize(at + 72, 0);
        let answer = answer
            .with(0, if probe { &[0x33, 0x33, 0, 0, 0, 1] } else { &headers.source })
            .with(6, &owner)
            .with(at + 4, &[0, 32])
            .with(at + 8, &target)
            .with(at + 24, if probe { &all } else { &source })
            .with(at + 40, &[136])
            .with(at + 44, &[if probe { 0x20 } else { 0x60 }, 0, 0, 0])
            .with(at + 64, &[2, 1])
            .with(at + 66, &owner);
        Ok(Fate { reason: Reason::AnsweredNd, received: Vec::new(), frame: answer })
    }

    fn owner(&self, network: u32, address: Address) -> Option<Station<'_>> {
        // An IPv4 address may also be written as an IPv6 address (RFC 4291 section 2.5.5.2).
        let address = match address {
            Address::V6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]) => Address::V4([a, b, c, d]),
            other => other,
        };
        let has_it = |member: &&Member| match address {
            Address::V4(ipv4) => member.ipv4 == ipv4,
            Address::V6(ipv6) => member.ipv6.is_some_and(|own| own.contains(&ipv6)),
        };
        let host = Some(self.host(network)).filter(|host| address == Address::V4(host.ipv4));
        self.of(network).find(has_it).map(Station::Member).or(host.map(Station::Host))
    }

    fn of(&self, network: u32) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.network == network)
    }

    fn host(&self, network: u32) -> &Host {
        self.hosts.iter().find(|host| host.network == network).expect("every network has one")
    }
}

fn not_reserved(headers: &Headers) -> Result<(), Reason> {
    match headers.destination {
        [1, 0x80, 0xc2, 0, 0, 0..=15] => Err(Reason::Reserved),
        _ => Ok(()),
    }
}

/// Whether a packet from `::` is one of a node without an address: a solicitation, or a report of groups behind options.
fn is_of_a_new_node(next_header: u8, rest: &Rest<'_>) -> Result<bool, Reason> {
    match next_header {
        58 => Ok(matches!(rest.read::<4>(0).ok_or(Reason::Malformed)?[0], 133 | 135)),
        0 => {
            let [next, length, ..] = rest.read::<8>(0).ok_or(Reason::Malformed)?;
            if next != 58 {
                return Ok(false);
            }
            let message = rest.read::<4>(length_of_extension(0, length)).ok_or(Reason::Malformed)?;
            Ok(matches!(message[0], 131 | 132 | 143))
        }
        _ => Ok(false),
    }
}

/// No message of neighbour discovery is behind extension headers, of which there are at most four.
fn nothing_hidden(mut kind: u8, rest: &Rest<'_>) -> Result<(), Reason> {
    let mut at = 0;
    for _ in 0..4 {
        let [next, length, high, low, ..] = rest.read::<8>(at).ok_or(Reason::Malformed)?;
        if kind == 44 && u16::from_be_bytes([high, low]) >> 3 != 0 {
            return Ok(());
        }
        at += length_of_extension(kind, length);
        if next == 58 {
            let [kind, ..] = rest.read::<4>(at).ok_or(Reason::Malformed)?;
            return if (133..=137).contains(&kind) { Err(Reason::SpoofedNd) } else { Ok(()) };
        }
        if !is_extension(next) {
            return Ok(());
        }
        kind = next;
    }
    Err(Reason::Malformed)
}

/// Whether an answer is the expected one. Its checksum of ICMPv6 is right if that of the request was.
pub fn is_expected(answer: &Frame, expected: &Fate, asked: &Frame) -> bool {
    if expected.reason != Reason::AnsweredNd {
        return *answer == expected.frame;
    }
    let at = Headers::of(asked).map_or(0, |headers| headers.offset);
    let bare = |frame: &Frame| frame.clone().with(at + 42, &[0, 0]);
    // The function for checksums knows frames without VLAN tag.
    let is_right = |frame: &Frame| {
        let packet = Frame([&frame.0[..14], &frame.0[at..]].concat());
        icmpv6_checksum(&packet) == [0, 0]
    };
    let length = usize::from(u16::from_be_bytes([asked.0[at + 4], asked.0[at + 5]]));
    let was_right = [24, 32].contains(&length) && asked.0.len() >= at + 40 + length && is_right(asked);
    answer.0.len() == expected.frame.0.len()
        && bare(answer) == bare(&expected.frame)
        && (!was_right || is_right(answer))
}
