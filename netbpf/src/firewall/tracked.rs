//! The conntrack entries of single flows: whether one is established and translated so that a program can do the same, and
//! how to keep it while the packets of its flow are not seen by conntrack. IPv4 only. Must not know the programs.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
};

use netlink_packet_netfilter::{
    NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{
        ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple, Protocol, Status,
        Tuple,
    },
};
use nix::libc::ENOENT;
use rtnetlink::packet_core::{DefaultNla, NLM_F_ACK, NLM_F_REQUEST, Nla as _};

use super::{
    Error,
    kernel::{self, Kernel},
};

/// How long conntrack keeps an entry after its last packet, in seconds.
const TCP_TIMEOUT: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established";
const UDP_TIMEOUT: &str = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream";

/// Entries with less would end before they are renewed.
const SHORTEST_TIMEOUT: u32 = 60;

/// `TCP_CONNTRACK_ESTABLISHED` of linux/netfilter/nf_conntrack_tcp.h.
const ESTABLISHED: u8 = 3;

/// `IP_CT_TCP_FLAG_BE_LIBERAL`: segments outside of the window are not invalid.
const BE_LIBERAL: u8 = 8;

/// `IP_CT_TCP_FLAG_MAXACK_SET`: the kernel knows the last acknowledgement, and takes no RST from before it. After gigabytes
/// that it has not seen, the next one could be that.
const MAXACK_SET: u8 = 0x20;

/// `CTA_PROTOINFO_TCP_FLAGS_ORIGINAL` and `CTA_PROTOINFO_TCP_FLAGS_REPLY`.
const FLAGS: [u16; 2] = [4, 5];

/// Attributes of entries that others use for more than translation: helpers, adjusted sequence numbers, zones,
/// labels, SYN proxies (`CTA_HELP`, `CTA_SEQ_ADJ_ORIG`, `CTA_SEQ_ADJ_REPLY`, `CTA_ZONE`, `CTA_LABELS`, `CTA_SYNPROXY`).
const FOR_MORE: [u16; 6] = [5, 15, 16, 18, 22, 24];

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The packets of one direction of a flow, before translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// The protocol.
    pub transport: Transport,
    /// Their source.
    pub source: SocketAddrV4,
    /// Their destination.
    pub destination: SocketAddrV4,
}

/// A conntrack entry.
#[derive(Debug)]
struct Entry {
    original: Direction,
    reply: Direction,
    status: Status,
    /// The state of a TCP connection.
    state: Option<u8>,
    is_for_more: bool,
}

/// A socket for requests about entries.
pub struct TrackedFlows(Kernel);

impl TrackedFlows {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::Flows`] if the kernel gives none.
    pub fn open() -> Result<Self, Error> {
        Kernel::open().map(Self).map_err(|source| Error::Flows { operation: "open", source })
    }

    /// The address and port that replace the source of a container's packets, if their flow is established, conntrack changes
    /// nothing else of them, and another flow cannot take its place unnoticed. Blocks.
    ///
    /// The packets of a new TCP connection begin with SYN. A masqueraded UDP flow has no such sign: if its entry ended, the
    /// host could give its port to another container's flow with the same server.
    ///
    /// # Errors
    /// [`Error::Flows`] if the kernel does not tell.
    pub fn translated_source(&self, sent: &Direction) -> Result<Option<SocketAddrV4>, Error> {
        let found = self.find(sent).map_err(|source| Error::Flows { operation: "look at", source })?;
        Ok(found.and_then(|entry| entry.translated_source(sent)))
    }

    /// Keeps an entry as if conntrack had just seen a packet, and lets it accept all segments that it will see: it knows
    /// nothing of those between. False: it is gone, or would end too soon. Blocks.
    ///
    /// # Errors
    /// [`Error::Flows`] if the kernel refuses.
    pub fn keep(&self, sent: &Direction) -> Result<bool, Error> {
        let failed = |source| Error::Flows { operation: "keep", source };
        let timeout = timeout(sent.transport).map_err(failed)?;
        if timeout < SHORTEST_TIMEOUT {
            return Ok(false);
        }
        let mut attributes =
            vec![ConntrackAttribute::CtaTupleOrig(tuple(sent)), ConntrackAttribute::CtaTimeout(timeout)];
        if sent.transport == Transport::Tcp {
            let flags = FLAGS.map(|kind| {
                // The flags, and which of them are set or cleared.
                ProtoInfoTCP::Other(DefaultNla::new(kind, vec![BE_LIBERAL, BE_LIBERAL | MAXACK_SET]))
            });
            attributes.push(ConntrackAttribute::CtaProtoInfo(vec![ProtoInfo::TCP(flags.into())]));
        }
        match self.0.ask(&request(ConntrackMessage::New(attributes))) {
            Err(error) if error.raw_os_error() == Some(ENOENT) => Ok(false),
            done => done.map(|_| true).map_err(failed),
        }
    }

    /// The entry of a flow, by the packets of either direction.
    fn find(&self, sent: &Direction) -> io::Result<Option<Entry>> {
        let attributes = vec![ConntrackAttribute::CtaTupleOrig(tuple(sent))];
        match self.0.ask(&request(ConntrackMessage::Get(attributes))) {
            Err(error) if error.raw_os_error() == Some(ENOENT) => Ok(None),
            Err(error) => Err(error),
            Ok(messages) => Ok(messages.into_iter().find_map(|message| match message.inner {
                NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) => {
                    Entry::read(attributes)
                }
                _ => None,
            })),
        }
    }
}

impl Entry {
    fn read(attributes: Vec<ConntrackAttribute>) -> Option<Self> {
        let (mut original, mut reply, mut status, mut state, mut is_for_more) =
            (None, None, None, None, false);
        for attribute in attributes {
            match attribute {
                ConntrackAttribute::CtaTupleOrig(tuples) => original = direction(&tuples),
                ConntrackAttribute::CtaTupleReply(tuples) => reply = direction(&tuples),
                ConntrackAttribute::CtaStatus(said) => status = Some(said),
                ConntrackAttribute::CtaProtoInfo(parts) => state = parts.iter().find_map(tcp_state),
                ConntrackAttribute::CtaMark(mark) => is_for_more |= mark != 0,
                ConntrackAttribute::Other(other) => is_for_more |= FOR_MORE.contains(&other.kind()),
                _ => {}
            }
        }
        Some(Self { original: original?, reply: reply?, status: status?, state, is_for_more })
    }

    fn translated_source(&self, sent: &Direction) -> Option<SocketAddrV4> {
        let needed = Status::Assured | Status::Confirmed;
        let refused =
            Status::Dying | Status::FixedTimeout | Status::Helper | Status::Offload | Status::SeqAdjust;
        let is_established = match sent.transport {
            Transport::Tcp => self.state == Some(ESTABLISHED),
            Transport::Udp => true,
        };
        if !self.status.contains(needed)
            || self.status.intersects(refused)
            || !is_established
            || self.is_for_more
        {
            return None;
        }
        // Packets of one direction become the reverse of the other one's.
        let answer = match sent {
            sent if *sent == self.original && sent.transport == Transport::Tcp => self.reply,
            sent if *sent == self.reply => self.original,
            _ => return None,
        };
        (answer.source == sent.destination && answer.destination != sent.source).then_some(answer.destination)
    }
}

fn tcp_state(part: &ProtoInfo) -> Option<u8> {
    let ProtoInfo::TCP(parts) = part else { return None };
    parts.iter().find_map(|part| match part {
        ProtoInfoTCP::State(state) => Some(*state),
        _ => None,
    })
}

fn timeout(transport: Transport) -> io::Result<u32> {
    let path = match transport {
        Transport::Tcp => TCP_TIMEOUT,
        Transport::Udp => UDP_TIMEOUT,
    };
    fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)
}

fn request(message: ConntrackMessage) -> Vec<u8> {
    kernel::request(NetfilterProtoFamily::IPv4, message, NLM_F_REQUEST | NLM_F_ACK)
}

fn tuple(direction: &Direction) -> Vec<Tuple> {
    let Direction { transport, source, destination } = direction;
    let protocol = match transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    };
    let addresses = vec![
        IPTuple::SourceAddress((*source.ip()).into()),
        IPTuple::DestinationAddress((*destination.ip()).into()),
    ];
    let ports = vec![
        ProtoTuple::Protocol(protocol),
        ProtoTuple::SourcePort(source.port()),
        ProtoTuple::DestinationPort(destination.port()),
    ];
    vec![Tuple::Ip(addresses), Tuple::Proto(ports)]
}

fn direction(tuples: &[Tuple]) -> Option<Direction> {
    let (mut transport, mut source, mut destination) = (None, (None, None), (None, None));
    for tuple in tuples {
        match tuple {
            Tuple::Ip(parts) => parts.iter().for_each(|part| match part {
                IPTuple::SourceAddress(address) => source.0 = ipv4(*address),
                IPTuple::DestinationAddress(address) => destination.0 = ipv4(*address),
                _ => {}
            }),
            Tuple::Proto(parts) => parts.iter().for_each(|part| match part {
                ProtoTuple::Protocol(Protocol::Tcp) => transport = Some(Transport::Tcp),
                ProtoTuple::Protocol(Protocol::Udp) => transport = Some(Transport::Udp),
                ProtoTuple::SourcePort(port) => source.1 = Some(*port),
                ProtoTuple::DestinationPort(port) => destination.1 = Some(*port),
                _ => {}
            }),
            _ => {}
        }
    }
    Some(Direction {
        transport: transport?,
        source: SocketAddrV4::new(source.0?, source.1?),
        destination: SocketAddrV4::new(destination.0?, destination.1?),
    })
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direction(transport: Transport, source: &str, destination: &str) -> Direction {
        Direction { transport, source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    fn masqueraded(transport: Transport) -> Entry {
        Entry {
            original: direction(transport, "172.17.0.2:5000", "203.0.113.7:443"),
            reply: direction(transport, "203.0.113.7:443", "198.51.100.1:40000"),
            status: Status::Assured | Status::Confirmed | Status::SeenReply | Status::SrcNat,
            state: (transport == Transport::Tcp).then_some(ESTABLISHED),
            is_for_more: false,
        }
    }

    fn published(transport: Transport) -> Entry {
        Entry {
            original: direction(transport, "203.0.113.7:5000", "198.51.100.1:8080"),
            reply: direction(transport, "172.17.0.2:80", "203.0.113.7:5000"),
            ..masqueraded(transport)
        }
    }

    #[test]
    fn the_source_of_a_containers_packets_is_translated() {
        let host = |port| Some(SocketAddrV4::new([198, 51, 100, 1].into(), port));
        let entry = masqueraded(Transport::Tcp);
        assert_eq!(entry.translated_source(&entry.original), host(40000));
        for transport in [Transport::Tcp, Transport::Udp] {
            let entry = published(transport);
            assert_eq!(entry.translated_source(&entry.reply), host(8080));
        }
    }

    #[test]
    fn a_flow_that_could_be_anothers_or_is_not_established_is_not_translated() {
        let entry = masqueraded(Transport::Udp);
        assert_eq!(entry.translated_source(&entry.original), None, "masqueraded UDP");
        let refused = |says: &str, change: &dyn Fn(&mut Entry)| {
            let mut entry = published(Transport::Tcp);
            change(&mut entry);
            let sent = published(Transport::Tcp).reply;
            assert_eq!(entry.translated_source(&sent), None, "{says}");
        };
        refused("not assured", &|entry| entry.status.remove(Status::Assured));
        refused("dying", &|entry| entry.status |= Status::Dying);
        refused("with a helper", &|entry| entry.status |= Status::Helper);
        refused("closing", &|entry| entry.state = Some(ESTABLISHED + 1));
        refused("without a state", &|entry| entry.state = None);
        refused("marked", &|entry| entry.is_for_more = true);
        let other = direction(Transport::Tcp, "203.0.113.8:5000", "198.51.100.1:8080");
        refused("with a translated client", &|entry| entry.original = other);
        refused("another flow", &|entry| entry.reply.source.set_port(81));
        refused("not translated", &|entry| entry.original.destination = entry.reply.source);
    }

    #[test]
    fn a_direction_is_read_as_it_is_written() {
        for transport in [Transport::Tcp, Transport::Udp] {
            let sent = published(transport).reply;
            assert_eq!(super::direction(&tuple(&sent)), Some(sent));
        }
        assert_eq!(super::direction(&[]), None);
    }
}
