//! The conntrack entries of single flows: whether one is established and translated so that a program can do the same, and
//! how to keep it while conntrack does not see the packets of its flow. IPv4 only. Must not know the programs.

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
use nix::libc::{ENOENT, ETIME};
use rtnetlink::packet_core::{DefaultNla, NLM_F_ACK, NLM_F_REQUEST, Nla as _};

use super::{
    Error,
    kernel::{self, Kernel},
};

/// How long conntrack keeps an entry after its last packet, in seconds.
const TCP_TIMEOUT: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established";
const UDP_TIMEOUT: &str = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream";

/// Entries with less would end before they are extended.
const SHORTEST_TIMEOUT: u32 = 60;

/// For how many seconds the entry of a connection that ends is kept: the longest time for which conntrack itself keeps one
/// (`TIME_WAIT`), as long as nobody has changed that.
const ENDING: u32 = 120;

/// `TCP_CONNTRACK_ESTABLISHED` of linux/netfilter/nf_conntrack_tcp.h.
const ESTABLISHED: u8 = 3;

/// `IP_CT_TCP_FLAG_BE_LIBERAL`: segments outside of the window are not invalid.
const BE_LIBERAL: u8 = 8;

/// `IP_CT_TCP_FLAG_MAXACK_SET`: the kernel knows the last acknowledgement, and takes no RST from before it. After gigabytes
/// that it has not seen, a true RST could look like that.
const MAXACK_SET: u8 = 0x20;

/// `CTA_PROTOINFO_TCP_FLAGS_ORIGINAL` and `CTA_PROTOINFO_TCP_FLAGS_REPLY`.
const FLAGS: [u16; 2] = [4, 5];

/// Attributes of entries that others use for more than translation: helpers, adjusted sequence numbers, zones,
/// labels, SYN proxies (`CTA_HELP`, `CTA_SEQ_ADJ_ORIG`, `CTA_SEQ_ADJ_REPLY`, `CTA_ZONE`, `CTA_LABELS`, `CTA_SYNPROXY`).
const OTHER_USES: [u16; 6] = [5, 15, 16, 18, 22, 24];

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

/// How long conntrack keeps the entries of established flows after their last packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Seconds for TCP.
    pub tcp: u32,
    /// Seconds for UDP.
    pub udp: u32,
}

impl Timeouts {
    /// Reads the settings of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Flows`] if they cannot be read.
    pub fn read() -> Result<Self, Error> {
        let seconds = |path: &str| {
            let read =
                fs::read_to_string(path).and_then(|text| text.trim().parse().map_err(io::Error::other));
            read.map_err(|source| Error::Flows { operation: "read the timeouts of", source })
        };
        Ok(Self { tcp: seconds(TCP_TIMEOUT)?, udp: seconds(UDP_TIMEOUT)? })
    }

    /// Seconds for the entries of a transport; none if they would end before they are extended.
    pub fn of(&self, transport: Transport) -> Option<u32> {
        let timeout = match transport {
            Transport::Tcp => self.tcp,
            Transport::Udp => self.udp,
        };
        (timeout >= SHORTEST_TIMEOUT).then_some(timeout)
    }
}

/// What conntrack knows about an established flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// The address and port that replace the source of the container's packets.
    pub source: SocketAddrV4,
    /// Whether conntrack takes all segments, whatever their numbers are.
    pub takes_all: bool,
    /// After how many seconds without a packet its entry ends.
    pub remaining: u32,
}

impl Tracked {
    /// For how many seconds the entry is to be extended, so that it lasts as if conntrack had seen the flow's last packet,
    /// `silence` seconds ago; none if that is not necessary yet. Conntrack announces each change of an entry to programs
    /// that follow them, so one is changed when half of its time has passed. If the flow leaves (`is_last`), it gets all of
    /// it.
    pub fn extension(&self, timeout: u32, silence: u32, is_last: bool) -> Option<u32> {
        let due = timeout.saturating_sub(silence);
        let enough = if is_last { due } else { due / 2 };
        (self.remaining < enough).then_some(due)
    }
}

/// A conntrack entry.
#[derive(Debug)]
struct Entry {
    original: Direction,
    reply: Direction,
    status: Status,
    /// The state of a TCP connection.
    state: Option<u8>,
    /// The flags of a TCP connection's directions.
    flags: Vec<u8>,
    remaining: u32,
    has_other_uses: bool,
}

/// A socket for requests about entries. After an error, the next answer may be that to an earlier request: open another.
pub struct TrackedFlows(Kernel);

impl TrackedFlows {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::Flows`] if the kernel gives none.
    pub fn open() -> Result<Self, Error> {
        Kernel::open().map(Self).map_err(|source| Error::Flows { operation: "open", source })
    }

    /// A flow of which a container sends these packets, if it is established, conntrack changes nothing else than the source
    /// of these, and packets that it does not see would show if its entry were another's. Blocks.
    ///
    /// The packets of a new TCP connection begin with SYN. A masqueraded UDP flow has no such sign: if its entry ended, the
    /// host could give its port to another container's flow with the same server. For UDP of published ports that takes more:
    /// the entry must be deleted by somebody, and another container must send from the port that was published.
    ///
    /// # Errors
    /// [`Error::Flows`] if the kernel does not tell.
    pub fn find(&self, sent: &Direction) -> Result<Option<Tracked>, Error> {
        let found = self.entry(sent).map_err(|source| Error::Flows { operation: "look at", source })?;
        Ok(found.and_then(|entry| entry.tracked(sent)))
    }

    /// Lets conntrack take all segments that it will see of a flow, because it knows nothing of those between. False: its
    /// entry is gone. Blocks.
    ///
    /// # Errors
    /// [`Error::Flows`] if the kernel refuses.
    pub fn take_all(&self, sent: &Direction) -> Result<bool, Error> {
        if sent.transport == Transport::Udp {
            return Ok(true);
        }
        let flags = FLAGS.map(|kind| {
            // The flags, and which of them are set or cleared.
            ProtoInfoTCP::Other(DefaultNla::new(kind, vec![BE_LIBERAL, BE_LIBERAL | MAXACK_SET]))
        });
        self.change(sent, ConntrackAttribute::CtaProtoInfo(vec![ProtoInfo::TCP(flags.into())]))
    }

    /// Extends an entry by so many seconds from now on. False: it is gone, or its connection ends, and so the entry soon.
    /// Blocks.
    ///
    /// # Errors
    /// [`Error::Flows`] if the kernel refuses.
    pub fn extend(&self, sent: &Direction, seconds: u32) -> Result<bool, Error> {
        if !self.change(sent, ConntrackAttribute::CtaTimeout(seconds))? {
            return Ok(false);
        }
        // The kernel takes the time whatever the state is. Of a connection that has just ended, no packet would correct it.
        let found = self.find(sent);
        if !matches!(found, Ok(Some(_))) {
            self.change(sent, ConntrackAttribute::CtaTimeout(seconds.min(ENDING)))?;
        }
        found.map(|found| found.is_some())
    }

    /// Changes an entry. False: it is gone.
    fn change(&self, sent: &Direction, to: ConntrackAttribute) -> Result<bool, Error> {
        let attributes = vec![ConntrackAttribute::CtaTupleOrig(tuple(sent)), to];
        match self.0.ask(&request(ConntrackMessage::New(attributes))) {
            // ETIME: it is being deleted.
            Err(error) if matches!(error.raw_os_error(), Some(ENOENT | ETIME)) => Ok(false),
            done => done.map(|_| true).map_err(|source| Error::Flows { operation: "keep", source }),
        }
    }

    /// The entry of a flow, by the packets of either direction.
    fn entry(&self, sent: &Direction) -> io::Result<Option<Entry>> {
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
        let (mut original, mut reply, mut status) = (None, None, None);
        let (mut state, mut flags, mut remaining, mut has_other_uses) = (None, Vec::new(), 0, false);
        for attribute in attributes {
            match attribute {
                ConntrackAttribute::CtaTupleOrig(tuples) => original = direction(&tuples),
                ConntrackAttribute::CtaTupleReply(tuples) => reply = direction(&tuples),
                ConntrackAttribute::CtaStatus(said) => status = Some(said),
                ConntrackAttribute::CtaTimeout(seconds) => remaining = seconds,
                ConntrackAttribute::CtaProtoInfo(parts) => (state, flags) = of_tcp(&parts),
                ConntrackAttribute::CtaMark(mark) => has_other_uses |= mark != 0,
                ConntrackAttribute::Other(other) => has_other_uses |= OTHER_USES.contains(&other.kind()),
                _ => {}
            }
        }
        let (original, reply, status) = (original?, reply?, status?);
        Some(Self { original, reply, status, state, flags, remaining, has_other_uses })
    }

    fn tracked(&self, sent: &Direction) -> Option<Tracked> {
        let takes_all = match sent.transport {
            Transport::Tcp => {
                self.flags.len() == FLAGS.len()
                    && self.flags.iter().all(|flags| flags & (BE_LIBERAL | MAXACK_SET) == BE_LIBERAL)
            }
            Transport::Udp => true,
        };
        let source = self.translated_source(sent)?;
        Some(Tracked { source, takes_all, remaining: self.remaining })
    }

    /// The address and port that replace the source of a container's packets.
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
            || self.has_other_uses
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

/// The state of a TCP connection, and the flags of its directions.
fn of_tcp(parts: &[ProtoInfo]) -> (Option<u8>, Vec<u8>) {
    let (mut state, mut flags) = (None, Vec::new());
    let tcp = parts.iter().filter_map(|part| match part {
        ProtoInfo::TCP(parts) => Some(parts),
        _ => None,
    });
    for part in tcp.flatten() {
        match part {
            ProtoInfoTCP::State(said) => state = Some(*said),
            ProtoInfoTCP::OriginalFlags(said) | ProtoInfoTCP::ReplyFlags(said) => flags.push(said.flags),
            _ => {}
        }
    }
    (state, flags)
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
            flags: vec![MAXACK_SET, MAXACK_SET],
            remaining: 100,
            has_other_uses: false,
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
        refused("marked", &|entry| entry.has_other_uses = true);
        let other = direction(Transport::Tcp, "203.0.113.8:5000", "198.51.100.1:8080");
        refused("with a translated client", &|entry| entry.original = other);
        refused("another flow", &|entry| entry.reply.source.set_port(81));
        refused("not translated", &|entry| entry.original.destination = entry.reply.source);
    }

    #[test]
    fn an_entry_takes_all_segments_if_both_directions_do() {
        let mut entry = published(Transport::Tcp);
        let mut takes_all = |flags: &[u8]| {
            entry.flags = flags.to_vec();
            entry.tracked(&entry.reply).unwrap().takes_all
        };
        // `IP_CT_TCP_FLAG_WINDOW_SCALE` is another one.
        assert!(takes_all(&[BE_LIBERAL, BE_LIBERAL | 1]));
        assert!(!takes_all(&[BE_LIBERAL, BE_LIBERAL | MAXACK_SET]));
        assert!(!takes_all(&[0, BE_LIBERAL]));
        assert!(!takes_all(&[]));
        let entry = published(Transport::Udp);
        assert!(entry.tracked(&entry.reply).unwrap().takes_all);
    }

    #[test]
    fn an_entry_lasts_as_if_conntrack_had_seen_the_last_packet() {
        let extension = |remaining, silence, is_last| {
            let source = SocketAddrV4::new([198, 51, 100, 1].into(), 8080);
            Tracked { source, takes_all: true, remaining }.extension(120, silence, is_last)
        };
        assert_eq!(extension(119, 0, false), None, "conntrack has just seen one");
        assert_eq!(extension(60, 0, false), None, "not yet");
        assert_eq!(extension(59, 0, false), Some(120), "half of the time has passed");
        assert_eq!(extension(59, 4, false), None);
        assert_eq!(extension(57, 4, false), Some(116));
        assert_eq!(extension(60, 30, true), Some(90), "its flow leaves");
        assert_eq!(extension(90, 30, true), None, "conntrack has seen that packet");
        assert_eq!(extension(1, 500, true), None, "it should have ended");
    }

    #[test]
    fn timeouts_that_are_too_short_are_none() {
        let timeouts = Timeouts { tcp: 60, udp: 59 };
        assert_eq!((timeouts.of(Transport::Tcp), timeouts.of(Transport::Udp)), (Some(60), None));
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
