//! The kernel's memory of flows (conntrack). An entry that outlives its container leads packets to whoever has the
//! address next: those of a container that is gone are deleted.

use std::{collections::BTreeSet, fs, io, net::IpAddr};

use netlink_packet_netfilter::{
    NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple},
};
use rtnetlink::packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};

use super::{
    Error,
    kernel::{self, Kernel},
};

/// How many flows there are in the namespace.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// With a filter or without, the kernel walks its whole table, and that of a host with 4 GB or more takes 13 ms. Up to so
/// many flows it is quicker to read all of them once than to have both directions looked for.
const FEW: usize = 2000;

/// `CTA_FILTER`: which parts of the tuple in a request are looked at (Linux 5.8).
const FILTER: u16 = 25;
/// `CTA_FILTER_F_CTA_IP_SRC`.
const SOURCE: u32 = 1;
/// `CTA_FILTER_F_CTA_PROTO_NUM`.
const PROTOCOL: u32 = 1 << 3;
/// Bytes of the filter: two headers of attributes and a number.
const FILTER_LEN: usize = 12;

/// What the kernel is to list: flows that have some parts of a tuple.
struct Filter {
    direction: Direction,
    tuple: Vec<Tuple>,
    /// Which parts.
    flags: u32,
}

/// The packets that a filter looks at.
#[derive(Clone, Copy)]
enum Direction {
    /// The first one, and those like it.
    Original = 1,
    /// The answers.
    Reply = 2,
}

/// Deletes all flows from and to an address. What a container began has it as the source of its first packet, what
/// others began as the source of the answer, whatever was translated.
pub async fn forget(address: IpAddr) -> Result<(), Error> {
    in_background(address.is_ipv4(), move |flows| {
        let is_about =
            |flow: &Flow| [&flow.original, &flow.reply].iter().any(|tuples| source(tuples) == Some(address));
        match count() {
            Some(0) => Ok(()),
            Some(..=FEW) => flows.delete_all(None, is_about),
            Some(_) | None => [Direction::Original, Direction::Reply].into_iter().try_for_each(|direction| {
                let tuple = vec![Tuple::Ip(vec![IPTuple::SourceAddress(address)])];
                flows.delete_all(Some(Filter { direction, tuple, flags: SOURCE }), is_about)
            }),
        }
    })
    .await
}

/// Deletes flows of datagrams that came to these ports of the host while nobody had published them: the kernel would
/// go on to deliver them to the host for as long as their sender sends.
pub async fn forget_datagrams(is_ipv4: bool, ports: BTreeSet<u16>) -> Result<(), Error> {
    in_background(is_ipv4, move |flows| {
        let tuple = vec![Tuple::Proto(vec![ProtoTuple::Protocol(Protocol::Udp)])];
        let filter = Filter { direction: Direction::Original, tuple, flags: PROTOCOL };
        flows.delete_all(Some(filter), |flow| {
            let is_translated = source(&flow.reply) != destination(&flow.original)
                || source(&flow.original) != destination(&flow.reply);
            let port = protocol_parts(&flow.original).find_map(|part| match part {
                ProtoTuple::DestinationPort(port) => Some(*port),
                _ => None,
            });
            let is_udp =
                protocol_parts(&flow.original).any(|part| *part == ProtoTuple::Protocol(Protocol::Udp));
            is_udp && !is_translated && port.is_some_and(|port| ports.contains(&port))
        })
    })
    .await
}

/// The kernel answers at once, but a list may be long: not on a worker.
async fn in_background(
    is_ipv4: bool,
    work: impl FnOnce(&Flows) -> Result<(), Error> + Send + 'static,
) -> Result<(), Error> {
    let work =
        move || work(&Flows::open(is_ipv4).map_err(|source| Error::Flows { operation: "open", source })?);
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::Flows { operation: "forget", source: error.into() }))
}

/// How many flows there are in the namespace of the calling thread; none if the kernel does not say.
fn count() -> Option<usize> {
    fs::read_to_string(COUNT).ok()?.trim().parse().ok()
}

/// One flow: what its packets have, and what the answers to them have.
struct Flow {
    original: Vec<Tuple>,
    reply: Vec<Tuple>,
}

/// The flows of one family.
struct Flows {
    kernel: Kernel,
    family: NetfilterProtoFamily,
}

impl Flows {
    fn open(is_ipv4: bool) -> io::Result<Self> {
        let family = if is_ipv4 { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 };
        Ok(Self { kernel: Kernel::open()?, family })
    }

    /// Deletes what is meant, of all flows or of those that the kernel finds. One that does not know filters (before 5.8)
    /// finds all.
    fn delete_all(&self, filter: Option<Filter>, is_meant: impl Fn(&Flow) -> bool) -> Result<(), Error> {
        let found = self.list(filter).map_err(|source| Error::Flows { operation: "list", source })?;
        for flow in found.into_iter().filter(is_meant) {
            self.delete(flow.original).map_err(|source| Error::Flows { operation: "delete", source })?;
        }
        Ok(())
    }

    fn list(&self, filter: Option<Filter>) -> io::Result<Vec<Flow>> {
        let request = match filter {
            Some(filter) => self.filtered(filter),
            None => self.request(ConntrackMessage::Get(Vec::new()), NLM_F_REQUEST | NLM_F_DUMP),
        };
        let mut flows = Vec::new();
        for message in self.kernel.ask(&request)? {
            let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner else {
                continue;
            };
            let mut flow = Flow { original: Vec::new(), reply: Vec::new() };
            for attribute in attributes {
                match attribute {
                    ConntrackAttribute::CtaTupleOrig(tuples) => flow.original = tuples,
                    ConntrackAttribute::CtaTupleReply(tuples) => flow.reply = tuples,
                    _ => {}
                }
            }
            flows.push(flow);
        }
        Ok(flows)
    }

    fn filtered(&self, Filter { direction, tuple, flags }: Filter) -> Vec<u8> {
        let tuple = match direction {
            Direction::Original => ConntrackAttribute::CtaTupleOrig(tuple),
            Direction::Reply => ConntrackAttribute::CtaTupleReply(tuple),
        };
        let flags = DefaultNla::new(direction as u16, flags.to_ne_bytes().to_vec());
        let mut nested = vec![0; flags.buffer_len()];
        flags.emit(&mut nested);
        let filter = ConntrackAttribute::Other(DefaultNla::new(FILTER, nested));
        let message = ConntrackMessage::Get(vec![tuple, filter]);
        let mut request = self.request(message, NLM_F_REQUEST | NLM_F_DUMP);
        // The library has no word for this attribute, so it does not mark it as one that holds others.
        let kind = request.len() - FILTER_LEN + 2;
        request[kind..kind + 2].copy_from_slice(&(FILTER | NLA_F_NESTED).to_ne_bytes());
        request
    }

    fn delete(&self, flow: Vec<Tuple>) -> io::Result<()> {
        let message = ConntrackMessage::Delete(vec![ConntrackAttribute::CtaTupleOrig(flow)]);
        match self.kernel.ask(&self.request(message, NLM_F_REQUEST | NLM_F_ACK)) {
            // Ended meanwhile.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => Ok(()),
            done => done.map(|_| ()),
        }
    }

    fn request(&self, message: ConntrackMessage, flags: u16) -> Vec<u8> {
        kernel::request(self.family, message, flags)
    }
}

fn addresses(tuples: &[Tuple]) -> impl Iterator<Item = &IPTuple> {
    tuples.iter().flat_map(|tuple| match tuple {
        Tuple::Ip(parts) => parts.as_slice(),
        _ => &[],
    })
}

fn source(tuples: &[Tuple]) -> Option<IpAddr> {
    addresses(tuples).find_map(|part| match part {
        IPTuple::SourceAddress(address) => Some(*address),
        _ => None,
    })
}

fn destination(tuples: &[Tuple]) -> Option<IpAddr> {
    addresses(tuples).find_map(|part| match part {
        IPTuple::DestinationAddress(address) => Some(*address),
        _ => None,
    })
}

fn protocol_parts(tuples: &[Tuple]) -> impl Iterator<Item = &ProtoTuple> {
    tuples.iter().flat_map(|tuple| match tuple {
        Tuple::Proto(parts) => parts.as_slice(),
        _ => &[],
    })
}
