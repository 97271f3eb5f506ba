//! The queueing disciplines at the two ends of an endpoint's veth pair (tbf), and the largest packets that fit them. A
//! handle of its own identifies netbpf's disciplines: others are left alone, unless one must take their place.

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
    tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption},
};
use nix::errno::Errno;
use rtnetlink::packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_REPLACE, Nla as _, NlasIterator};

use super::{Error, Links, Namespace, error::Refusal, links::with_index, size::sizes, socket::Socket};
use crate::plan::{EndpointWiring, Shaper, Shapers};

/// The kind of the discipline.
const KIND: &str = "tbf";

/// Its handle ("nb").
const HANDLE: TcHandle = TcHandle { major: 0x6e62, minor: 0 };

/// The options of a tbf (linux/pkt_sched.h).
const PARMS: u16 = 1;
const RATE64: u16 = 4;
const BURST: u16 = 6;

/// The length of a `struct tc_tbf_qopt`, and the places in it of the kind of link, the rate and the length of the queue.
const PARMS_LEN: usize = 36;
const LINK_KIND: usize = 1;
const RATE: usize = 8;
const QUEUE: usize = 24;

/// `TC_LINKLAYER_ETHERNET`: the kernel needs no table of times.
const ETHERNET: u8 = 1;

/// One end of a pair, in the namespace of the socket.
struct End<'a> {
    socket: &'a Socket,
    ifindex: u32,
    /// For messages.
    name: String,
}

impl Links {
    /// Gives both ends of an endpoint the disciplines of its limits, or takes them away. `before` is the endpoint with its
    /// present limits, if these are known; `inside` is the namespace of the container's side. If that side is not there,
    /// because an engine has yet to move it or somebody has taken it elsewhere, the host side alone is changed.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses: `ENODEV` if there is no such endpoint, `EOPNOTSUPP` if it has no tbf. Then
    /// both ends are as `before` says.
    pub async fn shape(
        &self,
        before: Option<&EndpointWiring>,
        after: &EndpointWiring,
        inside: Option<&Namespace>,
    ) -> Result<(), Error> {
        let outer =
            End { socket: &self.socket, ifindex: after.ifindex(), name: after.host_interface.clone() };
        let found = self.inner(after, inside).await?;
        let inner = found.as_ref().map(|(socket, link)| {
            let name = format!("{} of {}", after.interface, after.host_interface);
            End { socket, ifindex: link.header.index, name }
        });
        let ends = [Some(&outer), inner.as_ref()];
        let done = self.shape_ends(ends, before, after).await;
        if done.is_err()
            && let Some(before) = before
            && let Err(error) = self.shape_ends(ends, Some(after), before).await
        {
            tracing::warn!("undo: {error}");
        }
        done
    }

    async fn shape_ends(
        &self,
        ends: [Option<&End<'_>>; 2],
        before: Option<&EndpointWiring>,
        after: &EndpointWiring,
    ) -> Result<(), Error> {
        let Shapers { outer, inner } = after.shapers();
        let is_resized = before.is_some_and(|before| before.gso_max_size != after.gso_max_size);
        let size = if is_resized { Some(self.gso_max_size(after.gso_max_size).await?) } else { None };
        for (end, shaper) in ends.into_iter().zip([outer, inner]) {
            let Some(end) = end else { continue };
            end.shape(shaper).await?;
            if let Some(size) = size {
                end.resize(size).await?;
            }
        }
        Ok(())
    }

    /// The disciplines that an endpoint has of those that netbpf gives it. If the container's side is not there, it counts
    /// as right. A discipline with the right rate and queue has the right burst.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel does not tell.
    pub async fn shapers(
        &self,
        endpoint: &EndpointWiring,
        inside: Option<&Namespace>,
    ) -> Result<Shapers, Error> {
        let wanted = endpoint.shapers();
        let outer = read(&self.socket, &self.link(endpoint.ifindex()).await?, wanted.outer).await?;
        let inner = match wanted.inner {
            None => None,
            Some(shaper) => match self.inner(endpoint, inside).await? {
                Some((socket, link)) => read(&socket, &link, Some(shaper)).await?,
                None => Some(shaper),
            },
        };
        Ok(Shapers { outer, inner })
    }

    /// The container's side of an endpoint, if it is in a namespace: a socket there, and the link. An interface with
    /// that ifindex is another one unless both are each other's peers.
    async fn inner(
        &self,
        endpoint: &EndpointWiring,
        inside: Option<&Namespace>,
    ) -> Result<Option<(Socket, LinkMessage)>, Error> {
        let Some(inside) = inside else { return Ok(None) };
        let peer_of = |attributes: &[LinkAttribute]| {
            attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Link(peer) => Some(*peer),
                _ => None,
            })
        };
        let link = self.link(endpoint.ifindex()).await?;
        let Some(ifindex) = peer_of(&link.attributes) else { return Ok(None) };
        let (socket, ()) = match Socket::open_in(inside, || Ok(())).await {
            // What an engine leaves of a namespace that has ended.
            Err(Error::NotANamespace(_)) => return Ok(None),
            opened => opened?,
        };
        let found = socket.get(RouteNetlinkMessage::GetLink(with_index(ifindex))).await;
        match found.map_err(|refusal| Error::failed("look at", &endpoint.interface, refusal)) {
            Ok(RouteNetlinkMessage::NewLink(inner))
                if peer_of(&inner.attributes) == Some(endpoint.ifindex()) =>
            {
                Ok(Some((socket, inner)))
            }
            Err(error) if !error.is_missing() => Err(error),
            Ok(_) | Err(_) => Ok(None),
        }
    }
}

impl End<'_> {
    async fn shape(&self, shaper: Option<Shaper>) -> Result<(), Error> {
        let Some(shaper) = shaper else { return self.take_away().await };
        let request = RouteNetlinkMessage::NewQueueDiscipline(message(self.ifindex, Some(&shaper)));
        let given = self.socket.ask(request, NLM_F_CREATE | NLM_F_REPLACE).await;
        match given.map_err(|refusal| Error::failed("shape", &self.name, refusal)) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => {
                let lack = "the kernel has no queueing discipline tbf (module sch_tbf, CONFIG_NET_SCH_TBF)";
                let refusal = Refusal::explained(Errno::EOPNOTSUPP.into(), Some(lack.to_owned()));
                Err(Error::failed("shape", &self.name, refusal))
            }
            given => given,
        }
    }

    async fn take_away(&self) -> Result<(), Error> {
        let request = RouteNetlinkMessage::DelQueueDiscipline(message(self.ifindex, None));
        let taken = self.socket.ask(request, 0).await;
        match taken.map_err(|refusal| Error::failed("stop shaping", &self.name, refusal)) {
            // It has none, or one with another handle.
            Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EINVAL)) => {}
            taken => taken?,
        }
        // The kernel has set the length of a queue when it got the discipline; without one, a veth has none.
        let mut link = with_index(self.ifindex);
        link.attributes.push(LinkAttribute::TxQueueLen(0));
        let changed = self.socket.ask(RouteNetlinkMessage::SetLink(link), 0).await;
        changed.map_err(|refusal| Error::failed("change", &self.name, refusal))
    }

    async fn resize(&self, size: u32) -> Result<(), Error> {
        let mut link = with_index(self.ifindex);
        link.attributes.extend(sizes(size));
        let resized = self.socket.ask(RouteNetlinkMessage::SetLink(link), 0).await;
        resized.map_err(|refusal| Error::failed("change", &self.name, refusal))
    }
}

/// A message about netbpf's discipline at an interface.
fn message(ifindex: u32, shaper: Option<&Shaper>) -> TcMessage {
    let header = TcHeader {
        index: ifindex.cast_signed(),
        handle: HANDLE,
        parent: TcHandle::ROOT,
        ..TcHeader::default()
    };
    let mut attributes = vec![TcAttribute::Kind(KIND.to_owned())];
    attributes.extend(shaper.map(|shaper| TcAttribute::Options(options(shaper))));
    TcMessage::from_parts(header, attributes)
}

fn options(shaper: &Shaper) -> Vec<TcOption> {
    let rate = u32::try_from(shaper.rate).unwrap_or(u32::MAX);
    let mut parms = vec![0; PARMS_LEN];
    parms[LINK_KIND] = ETHERNET;
    parms[RATE..RATE + 4].copy_from_slice(&rate.to_ne_bytes());
    parms[QUEUE..QUEUE + 4].copy_from_slice(&shaper.queue.to_ne_bytes());
    let mut options = vec![(PARMS, parms), (BURST, shaper.burst.to_ne_bytes().to_vec())];
    if u64::from(rate) != shaper.rate {
        options.push((RATE64, shaper.rate.to_ne_bytes().to_vec()));
    }
    options.into_iter().map(|(kind, value)| TcOption::Other(DefaultNla::new(kind, value))).collect()
}

/// Reads netbpf's discipline at an interface. It is `wanted` if rate and queue are.
async fn read(socket: &Socket, link: &LinkMessage, wanted: Option<Shaper>) -> Result<Option<Shaper>, Error> {
    let is_kind = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::Qdisc(kind) if kind == KIND);
    if !link.attributes.iter().any(is_kind) {
        return Ok(None);
    }
    let ifindex = link.header.index;
    let mut request = TcMessage::with_index(ifindex.cast_signed());
    request.header.parent = TcHandle::ROOT;
    let found = socket.echo(RouteNetlinkMessage::GetQueueDiscipline(request)).await;
    let found = match found.map_err(|refusal| {
        Error::failed("look at the queueing discipline of", format!("link {ifindex}"), refusal)
    })? {
        Some(RouteNetlinkMessage::NewQueueDiscipline(found)) => found,
        // It has just been removed.
        Some(_) | None => return Ok(None),
    };
    let is_ours = found.header.handle == HANDLE
        && found
            .attributes
            .iter()
            .any(|attribute| matches!(attribute, TcAttribute::Kind(kind) if kind == KIND));
    Ok(if is_ours { shaper(&found.attributes, wanted) } else { None })
}

fn shaper(attributes: &[TcAttribute], wanted: Option<Shaper>) -> Option<Shaper> {
    let options = attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => options.first(),
        _ => None,
    })?;
    let mut nested = vec![0; options.value_len()];
    options.emit_value(&mut nested);
    let (mut rate, mut queue) = (0, 0);
    for option in NlasIterator::new(&nested).flatten() {
        match (option.kind(), option.value()) {
            (PARMS, parms) => {
                let word =
                    |place: usize| Some(u32::from_ne_bytes(parms.get(place..place + 4)?.try_into().ok()?));
                (rate, queue) = (rate.max(word(RATE)?.into()), word(QUEUE)?);
            }
            (RATE64, value) => rate = u64::from_ne_bytes(value.try_into().ok()?),
            _ => {}
        }
    }
    let is_wanted = |shaper: &Shaper| (shaper.rate, shaper.queue) == (rate, queue);
    wanted.filter(is_wanted).or(Some(Shaper { rate, burst: 0, queue }))
}
