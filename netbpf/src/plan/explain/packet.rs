//! A packet whose way is asked for, and the frames that carry it: as a container or the host would send them. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netbpf_common::checksum;

use crate::model::{Mac, Protocol};

/// The source port of a connection that is asked for: the first of those that Linux chooses from.
pub const CLIENT_PORT: u16 = 32768;

/// Ethertypes.
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// Protocol numbers.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// The length of an Ethernet header in bytes.
const ETHERNET: usize = 14;

/// An IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its source.
    pub source: IpAddr,
    /// Its destination, of the same family.
    pub destination: IpAddr,
    /// What it carries.
    pub payload: Payload,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A ping.
    Echo,
    /// Its answer.
    EchoReply,
    /// The first packet of a connection or an exchange of datagrams, or its answer.
    Ports {
        /// TCP, UDP or SCTP.
        protocol: Protocol,
        /// The source port.
        source: u16,
        /// The destination port.
        destination: u16,
    },
}

impl Packet {
    /// Its answer.
    pub fn reply(&self) -> Self {
        let payload = match self.payload {
            Payload::Echo | Payload::EchoReply => Payload::EchoReply,
            Payload::Ports { protocol, source, destination } => {
                Payload::Ports { protocol, source: destination, destination: source }
            }
        };
        Self { source: self.destination, destination: self.source, payload }
    }

    /// Its protocol's number in an IP header.
    pub fn protocol(&self) -> u8 {
        match self.payload {
            Payload::Echo | Payload::EchoReply if self.source.is_ipv4() => ICMP,
            Payload::Echo | Payload::EchoReply => ICMPV6,
            Payload::Ports { protocol, .. } => protocol.number(),
        }
    }

    /// Its destination port, if it has ports.
    pub fn port(&self) -> Option<(Protocol, u16)> {
        match self.payload {
            Payload::Ports { protocol, destination, .. } => Some((protocol, destination)),
            Payload::Echo | Payload::EchoReply => None,
        }
    }

    /// The frame that carries it.
    pub fn frame(&self, from: Mac, to: Mac) -> Vec<u8> {
        ip(from, to, self.source, self.destination, self.protocol(), 64, self.content())
    }

    /// What follows its IP header. The checksum of ports is left out, as the sender's kernel leaves it to the device.
    fn content(&self) -> Vec<u8> {
        let echo = |kind: u8| vec![kind, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        match (self.payload, self.source) {
            (Payload::Echo, IpAddr::V4(_)) => echo(8),
            (Payload::EchoReply, IpAddr::V4(_)) => echo(0),
            (Payload::Echo, IpAddr::V6(_)) => echo(128),
            (Payload::EchoReply, IpAddr::V6(_)) => echo(129),
            (Payload::Ports { protocol, source, destination }, _) => {
                let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
                let rest: &[u8] = match protocol.number() {
                    // Sequence and acknowledgement, a header of 20 bytes with SYN, the window.
                    TCP => &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0],
                    // The length, and no checksum.
                    UDP => &[0, 12, 0, 0, 0, 0, 0, 0],
                    _ => &[0; 8],
                };
                [ports.as_slice(), rest].concat()
            }
        }
    }
}

/// Asks who has an address: an ARP request, or a neighbour solicitation (RFC 4861 section 4.3).
pub fn question(mac: Mac, source: IpAddr, target: IpAddr) -> Option<Vec<u8>> {
    let own = mac.octets();
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let mut frame = [&[0xff; 6][..], &own, &ARP, &[0, 1, 8, 0, 6, 4, 0, 1], &own].concat();
            frame.extend(source.octets());
            frame.extend([0; 6]);
            frame.extend(target.octets());
            Some(frame)
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let [.., a, b, c] = target.octets();
            let group =
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
            let to = Mac::from_octets([0x33, 0x33, 0xff, a, b, c]);
            let mut content = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[1, 1], &own].concat();
            let sum = of_icmpv6(source, group, &content);
            content[2..4].copy_from_slice(&sum);
            Some(ip(mac, to, source.into(), group.into(), ICMPV6, 255, content))
        }
        _ => None,
    }
}

/// The MAC in the answer to a question.
pub fn answer(frame: &[u8]) -> Option<Mac> {
    let mac = match frame.get(12..ETHERNET)?.try_into().ok()? {
        ARP => frame.get(22..28)?,
        // The option with the target's MAC, behind the fixed part of an advertisement.
        IPV6 => frame.get(ETHERNET + 40 + 24 + 2..ETHERNET + 40 + 24 + 8)?,
        _ => return None,
    };
    Some(Mac::from_octets(mac.try_into().ok()?))
}

/// The MACs of a frame: its destination and its source.
pub fn macs(frame: &[u8]) -> Option<(Mac, Mac)> {
    let mac = |at: usize| Some(Mac::from_octets(frame.get(at..at + 6)?.try_into().ok()?));
    Some((mac(0)?, mac(6)?))
}

fn ip(
    from: Mac,
    to: Mac,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    hops: u8,
    content: Vec<u8>,
) -> Vec<u8> {
    let mut frame = [to.octets(), from.octets()].concat();
    match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend(IPV6);
            frame.extend([0x60, 0, 0, 0]);
            frame.extend((content.len() as u16).to_be_bytes());
            frame.extend([protocol, hops]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (source, destination) => {
            frame.extend(IPV4);
            frame.extend(ipv4_header(four(source), four(destination), protocol, hops, content.len()));
        }
    }
    frame.extend(content);
    frame
}

fn four(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn ipv4_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, hops: u8, content: usize) -> [u8; 20] {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(20 + content as u16).to_be_bytes());
    // Not to be fragmented.
    header[6] = 0x40;
    header[8] = hops;
    header[9] = protocol;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let sum = checksum::updated([0xff; 2], checksum::sum(&header));
    header[10..12].copy_from_slice(&sum);
    header
}

/// The checksum of an ICMPv6 message, with its pseudo-header (RFC 8200 section 8.1).
fn of_icmpv6(source: Ipv6Addr, destination: Ipv6Addr, content: &[u8]) -> [u8; 2] {
    let mut sum = checksum::sum(&source.octets()) + checksum::sum(&destination.octets());
    sum += checksum::sum(&[0, 0, 0, content.len() as u8, 0, 0, 0, ICMPV6]);
    for pair in content.chunks(2) {
        sum += checksum::sum(&[pair[0], pair.get(1).copied().unwrap_or_default()]);
    }
    checksum::updated([0xff; 2], sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> Mac {
        Mac::from_octets([2, 0x42, 10, 0, 0, last])
    }

    #[test]
    fn an_answer_swaps_addresses_and_ports() {
        let packet = Packet {
            source: "10.0.0.2".parse().unwrap(),
            destination: "10.0.0.3".parse().unwrap(),
            payload: Payload::Ports { protocol: Protocol::Tcp, source: CLIENT_PORT, destination: 80 },
        };
        let reply = packet.reply();
        assert_eq!((reply.source, reply.port()), (packet.destination, Some((Protocol::Tcp, CLIENT_PORT))));
        assert_eq!(reply.reply(), packet);
    }

    #[test]
    fn a_header_has_its_checksum() {
        let header = ipv4_header([10, 0, 0, 2].into(), [10, 0, 0, 3].into(), 6, 64, 20);
        // With the field, all words sum up to ones.
        assert_eq!(checksum::updated([0xff; 2], checksum::sum(&header)), [0, 0]);
        assert_eq!(header[2..4], [0, 40]);
    }

    #[test]
    fn a_solicitation_has_its_checksum() {
        let [own, target] = ["2001:db8::2", "2001:db8::3"].map(|address| address.parse().unwrap());
        let frame = question(mac(2), IpAddr::V6(own), IpAddr::V6(target)).unwrap();
        assert_eq!(frame.len(), 14 + 40 + 32);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0, 0, 3]);
        let group = frame[38..54].try_into().map(|octets: [u8; 16]| Ipv6Addr::from(octets)).unwrap();
        assert_eq!(group, "ff02::1:ff00:3".parse::<Ipv6Addr>().unwrap());
        assert_eq!(of_icmpv6(own, group, &frame[54..]), [0, 0]);
    }

    #[test]
    fn the_mac_in_an_answer_is_found() {
        let mut frame = question(mac(2), "10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap()).unwrap();
        frame[22..28].copy_from_slice(&mac(3).octets());
        assert_eq!(answer(&frame), Some(mac(3)));
        assert_eq!(answer(&frame[..20]), None);
        assert_eq!(question(mac(2), "10.0.0.2".parse().unwrap(), "::1".parse().unwrap()), None);
    }
}
