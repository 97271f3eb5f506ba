//! Connection tracking (conntrack). An entry that outlives its container would send packets to the next container with
//! the same address, so the entries of a removed container are deleted.

use std::{collections::BTreeSet, fs, io, net::IpAddr};

use netlink_packet_netfilter::{
    NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple},
};
use nix::libc::{EINVAL, EOPNOTSUPP};
use rtnetlink::packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, Nla as _,
};

use super::{
    Error,
    kernel::{self, Kernel},
};
use crate::plan::Unleased;

/// The number of flows that the kernel tracks in this namespace.
const COUNT_PATH: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
/// To list flows, with or without a filter, the kernel locks each bucket of its hash table; on a host with 4 GB or more
/// that takes 13 ms. Up to this many flows, one unfiltered list is quicker than one filtered list for each direction.
const MAX_UNFILTERED: usize = 2000;

/// `CTA_FILTER`: which fields of the request's tuple the kernel compares (Linux 5.8).
const FILTER: u16 = 25;
/// `CTA_FILTER_F_CTA_IP_SRC`.
const SOURCE: u32 = 1;
/// `CTA_FILTER_F_CTA_PROTO_NUM`.
const PROTOCOL: u32 = 1 << 3;
/// Length of the filter in bytes: two attribute headers and a `u32`.
const FILTER_LEN: usize = 12;

/// `CTA_ID`: tells a flow from a later one with the same addresses and ports.
const ID: u16 = 12;
/// `CTA_ZONE`: a zone has its own flows.
const ZONE: u16 = 18;
/// The zone of all packets for which nobody has set another one.
const DEFAULT_ZONE: u16 = 0;

/// Which flows the kernel lists or deletes: those whose tuple has certain values.
struct Filter {
    direction: Direction,
    tuple: Vec<Tuple>,
    /// The fields of the tuple to compare (`CTA_FILTER_F_…`).
    flags: u32,
}

impl Filter {
    /// The filter is the last one.
    fn attributes(&self) -> [ConntrackAttribute; 2] {
        let tuple = match self.direction {
            Direction::Original => ConntrackAttribute::CtaTupleOrig(self.tuple.clone()),
            Direction::Reply => ConntrackAttribute::CtaTupleReply(self.tuple.clone()),
        };
        let flags = DefaultNla::new(self.direction as u16, self.flags.to_ne_bytes().to_vec());
        let mut nested = vec![0; flags.buffer_len()];
        flags.emit(&mut nested);
        [tuple, ConntrackAttribute::Other(DefaultNla::new(FILTER, nested))]
    }
}

/// The direction whose tuple the filter compares.
#[derive(Clone, Copy)]
enum Direction {
    /// Packets from the side that sent the first one.
    Original = 1,
    /// Replies.
    Reply = 2,
}

/// Deletes all flows from and to an address. Whatever address translation does, the container's address is the source
/// in one direction: of the original packets if the container opened the flow, else of the replies.
pub async fn forget(address: IpAddr) -> Result<(), Error> {
    in_background(address.is_ipv4(), move |flows| {
        let count = count().unwrap_or(usize::MAX);
        if count == 0 {
            return Ok(());
        }
        let filters = [Direction::Original, Direction::Reply].map(|direction| {
            let tuple = vec![Tuple::Ip(vec![IPTuple::SourceAddress(address)])];
            Filter { direction, tuple, flags: SOURCE }
        });
        // The kernel skips empty buckets to delete, so this takes a tenth of the time of a list.
        if flows.delete_at_once(&filters[0])? {
            return flows.delete_at_once(&filters[1]).map(drop);
        }
        let is_about =
            |flow: &Flow| [&flow.original, &flow.reply].iter().any(|tuples| source(tuples) == Some(address));
        match count <= MAX_UNFILTERED {
            true => flows.delete_all(None, is_about),
            false => filters.iter().try_for_each(|filter| flows.delete_all(Some(filter), is_about)),
        }
    })
    .await
}

/// Deletes all flows of a family from and to addresses that nobody has.
pub async fn forget_unleased(is_ipv4: bool, unleased: Unleased) -> Result<(), Error> {
    in_background(is_ipv4, move |flows| match count() {
        Some(0) => Ok(()),
        Some(_) | None => flows.delete_all(None, |flow| {
            let mut sources = [&flow.original, &flow.reply].into_iter().filter_map(|tuples| source(tuples));
            sources.any(|source| unleased.contains(source))
        }),
    })
    .await
}

/// Deletes UDP flows to these host ports from before the ports were published. Otherwise the kernel delivers their
/// datagrams to the host for as long as the sender goes on.
pub async fn forget_datagrams(is_ipv4: bool, ports: BTreeSet<u16>) -> Result<(), Error> {
    in_background(is_ipv4, move |flows| {
        let tuple = vec![Tuple::Proto(vec![ProtoTuple::Protocol(Protocol::Udp)])];
        let filter = Filter { direction: Direction::Original, tuple, flags: PROTOCOL };
        flows.delete_all(Some(&filter), |flow| {
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

/// Netlink requests block, and a long list takes time, so they do not run on a tokio worker.
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

/// The number of flows in the calling thread's namespace; `None` if the kernel does not tell.
fn count() -> Option<usize> {
    fs::read_to_string(COUNT_PATH).ok()?.trim().parse().ok()
}

/// One flow: the tuples of its packets in both directions, and its number.
#[derive(Default)]
struct Flow {
    original: Vec<Tuple>,
    reply: Vec<Tuple>,
    id: Option<DefaultNla>,
}

/// The flows of one address family.
struct Flows {
    kernel: Kernel,
    family: NetfilterProtoFamily,
}

impl Flows {
    fn open(is_ipv4: bool) -> io::Result<Self> {
        let family = if is_ipv4 { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 };
        Ok(Self { kernel: Kernel::open()?, family })
    }

    /// Deletes the flows that `is_meant` selects among those that the kernel lists. A kernel without `CTA_FILTER`
    /// (before 5.8) lists all flows, so `is_meant` must not rely on the filter.
    fn delete_all(&self, filter: Option<&Filter>, is_meant: impl Fn(&Flow) -> bool) -> Result<(), Error> {
        let found =
            self.list(filter, is_meant).map_err(|source| Error::Flows { operation: "list", source })?;
        for flow in found {
            self.delete(flow).map_err(|source| Error::Flows { operation: "delete", source })?;
        }
        Ok(())
    }

    /// Has the kernel delete all flows that the filter selects, in one request (Linux 6.11). False: it cannot.
    ///
    /// An older kernel does not read the filter. It takes the filter's tuple for that of one flow, and refuses it because
    /// it is incomplete. So no kernel takes this request for one to delete all flows of the host.
    fn delete_at_once(&self, filter: &Filter) -> Result<bool, Error> {
        // Other zones may use the same address for something else.
        let zone = DefaultNla::new(ZONE, DEFAULT_ZONE.to_be_bytes().to_vec());
        let attributes = [ConntrackAttribute::Other(zone)].into_iter().chain(filter.attributes()).collect();
        let request = self.filtered(ConntrackMessage::Delete(attributes), NLM_F_REQUEST | NLM_F_ACK);
        match self.kernel.ask(&request) {
            // EOPNOTSUPP: a kernel without zones.
            Err(error) if matches!(error.raw_os_error(), Some(EINVAL | EOPNOTSUPP)) => Ok(false),
            done => done.map(|_| true).map_err(|source| Error::Flows { operation: "delete", source }),
        }
    }

    /// The flows that `is_meant` selects. A host may have hundreds of thousands of others.
    fn list(&self, filter: Option<&Filter>, is_meant: impl Fn(&Flow) -> bool) -> io::Result<Vec<Flow>> {
        let request = match filter {
            Some(filter) => {
                let message = ConntrackMessage::Get(filter.attributes().into());
                self.filtered(message, NLM_F_REQUEST | NLM_F_DUMP)
            }
            None => self.request(ConntrackMessage::Get(Vec::new()), NLM_F_REQUEST | NLM_F_DUMP),
        };
        let mut flows = Vec::new();
        self.kernel.ask_for_each(&request, |message| {
            let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = message.inner else {
                return;
            };
            let (mut flow, mut zone) = (Flow::default(), false);
            for attribute in attributes {
                match attribute {
                    ConntrackAttribute::CtaTupleOrig(tuples) => flow.original = tuples,
                    ConntrackAttribute::CtaTupleReply(tuples) => flow.reply = tuples,
                    // Other zones may use the same addresses for something else. The default one is not named.
                    ConntrackAttribute::Other(other) if other.kind() == ZONE => zone = true,
                    ConntrackAttribute::Other(other) if other.kind() == ID => flow.id = Some(other),
                    _ => {}
                }
            }
            if !zone && is_meant(&flow) {
                flows.push(flow);
            }
        })?;
        Ok(flows)
    }

    /// A request whose last attribute is a filter.
    fn filtered(&self, message: ConntrackMessage, flags: u16) -> Vec<u8> {
        let mut request = self.request(message, flags);
        // The library does not know this attribute, so it does not set the flag for nested attributes.
        let kind = request.len() - FILTER_LEN + 2;
        request[kind..kind + 2].copy_from_slice(&(FILTER | NLA_F_NESTED).to_ne_bytes());
        request
    }

    fn delete(&self, flow: Flow) -> io::Result<()> {
        let id = flow.id.map(ConntrackAttribute::Other);
        let attributes = [ConntrackAttribute::CtaTupleOrig(flow.original)].into_iter().chain(id).collect();
        let message = ConntrackMessage::Delete(attributes);
        match self.kernel.ask(&self.request(message, NLM_F_REQUEST | NLM_F_ACK)) {
            // The flow has ended in the meantime.
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
