//! Which links go or change, and when one begins to work: the kernel's own announcements, so that nobody has to ask.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, channel::mpsc::UnboundedReceiver};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{LinkAttribute, State},
};
use rtnetlink::{
    MulticastGroup, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    sys::SocketAddr,
};
use tokio::{
    sync::oneshot,
    task::AbortHandle,
    time::{Instant, sleep, timeout_at},
};

use super::{Error, Links};

/// How long it may take from the making of an endpoint to its setting up.
const SETTING_UP: Duration = Duration::from_secs(10);

/// What the kernel says of links in one namespace, from the moment this value was made.
struct Announcements {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    connection: AbortHandle,
}

impl Announcements {
    /// In the namespace of the calling thread, which must be in a tokio runtime.
    fn listen(groups: &[MulticastGroup]) -> Result<Self, Error> {
        let (connection, _, messages) = new_multicast_connection(groups)
            .map_err(|error| Error::failed("listen on", "a netlink socket", error))?;
        Ok(Self { messages, connection: tokio::spawn(connection).abort_handle() })
    }

    /// `None` when the kernel's socket is broken. Nothing is lost if the future is dropped.
    async fn next(&mut self) -> Option<NetlinkPayload<RouteNetlinkMessage>> {
        self.messages.next().await.map(|(message, _)| message.payload)
    }
}

impl Drop for Announcements {
    /// By itself, the connection would notice with the next announcement; its socket would hold the namespace until then.
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<Event> {
    /// This happened.
    Of(Event),
    /// Announcements were lost: look at all links.
    Lost,
}

/// Links that go, from the moment this value was made.
pub struct Deletions(Announcements);

/// Links that come, go and change, from the moment this value was made.
pub struct Changes(Announcements);

impl Links {
    /// Listens in the namespace of the calling thread.
    pub fn watch_deleted() -> Result<Deletions, Error> {
        Announcements::listen(&[MulticastGroup::Link]).map(Deletions)
    }

    /// The same for all that happens to links.
    pub fn watch_changed() -> Result<Changes, Error> {
        Announcements::listen(&[MulticastGroup::Link]).map(Changes)
    }

    /// The same for all that happens to links, their addresses and what is attached to them.
    pub fn watch_touched() -> Result<Touches, Error> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Tc,
        ];
        let announcements = Announcements::listen(&groups)?;
        Ok(Touches { announcements, touched: BTreeMap::new(), since: None })
    }
}

/// Who changes a link may change it again; this long after the last change, but not later than [`LATEST`] after the
/// first, it is worth a look.
const QUIET: Duration = Duration::from_millis(100);
const LATEST: Duration = Duration::from_millis(500);

/// Links to which something happened, from the moment this value was made.
pub struct Touches {
    announcements: Announcements,
    touched: BTreeMap<u32, bool>,
    since: Option<Instant>,
}

impl Touches {
    /// The numbers of the next links to which something happened, once it is quiet; with each, whether a filter or a
    /// queueing discipline was taken from it. `None` when the kernel's socket is broken. Nothing is lost if the future is
    /// dropped.
    pub async fn next(&mut self, is_meant: impl Fn(u32) -> bool) -> Option<Heard<BTreeMap<u32, bool>>> {
        loop {
            let heard = match self.since {
                None => self.announcements.next().await,
                Some(since) => {
                    let quiet = (since + LATEST).min(Instant::now() + QUIET);
                    match timeout_at(quiet, self.announcements.next()).await {
                        Ok(heard) if Instant::now() < since + LATEST => heard,
                        Ok(heard) => {
                            self.note(&heard?, &is_meant);
                            return Some(self.take());
                        }
                        Err(_) => return Some(self.take()),
                    }
                }
            };
            if let NetlinkPayload::Overrun(_) = self.note(&heard?, &is_meant) {
                self.take();
                return Some(Heard::Lost);
            }
        }
    }

    fn note<'a>(
        &mut self,
        heard: &'a NetlinkPayload<RouteNetlinkMessage>,
        is_meant: impl Fn(u32) -> bool,
    ) -> &'a NetlinkPayload<RouteNetlinkMessage> {
        let touched = match heard {
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link),
            ) => Some((link.header.index, false)),
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address),
            ) => Some((address.header.index, false)),
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::DelTrafficFilter(lost) | RouteNetlinkMessage::DelQueueDiscipline(lost),
            ) => u32::try_from(lost.header.index).ok().map(|ifindex| (ifindex, true)),
            _ => None,
        };
        if let Some((ifindex, lost)) = touched.filter(|(ifindex, _)| is_meant(*ifindex)) {
            *self.touched.entry(ifindex).or_default() |= lost;
            self.since.get_or_insert_with(Instant::now);
        }
        heard
    }

    fn take(&mut self) -> Heard<BTreeMap<u32, bool>> {
        self.since = None;
        Heard::Of(std::mem::take(&mut self.touched))
    }
}

impl Changes {
    /// The number and name of the next link that comes, goes or changes. `None` when the kernel's socket is broken.
    pub async fn next(&mut self) -> Option<Heard<(u32, String)>> {
        loop {
            match self.0.next().await? {
                NetlinkPayload::Overrun(_) => return Some(Heard::Lost),
                NetlinkPayload::InnerMessage(
                    RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link),
                ) => {
                    let name = link.attributes.into_iter().find_map(|attribute| match attribute {
                        LinkAttribute::IfName(name) => Some(name),
                        _ => None,
                    });
                    if let Some(name) = name {
                        return Some(Heard::Of((link.header.index, name)));
                    }
                }
                _ => {}
            }
        }
    }
}

impl Deletions {
    /// The number of the next link that is gone: deleted, or moved to another namespace. `None` when the kernel's socket
    /// is broken. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Heard<u32>> {
        loop {
            match self.0.next().await? {
                NetlinkPayload::Overrun(_) => return Some(Heard::Lost),
                // A bridge announces the loss of a port in its own family: that link may live on.
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link))
                    if link.header.interface_family == AddressFamily::Unspec =>
                {
                    return Some(Heard::Of(link.header.index));
                }
                _ => {}
            }
        }
    }
}

/// The moment from which a link sends what it is given: it is up, has a carrier, and the kernel has acted on that. The
/// kernel announces it afterwards; a question would be answered too early.
pub(super) struct Activation(oneshot::Receiver<()>);

impl Activation {
    /// Of a link that is not active yet, in the namespace of the calling thread.
    pub fn watch(ifindex: u32) -> Result<Self, Error> {
        let announcements = Announcements::listen(&[MulticastGroup::Link])?;
        let (mut heard, activated) = oneshot::channel();
        tokio::spawn(async move {
            // The socket holds the namespace: not for longer than somebody may care.
            let forgotten = sleep(SETTING_UP);
            let active = tokio::select! {
                active = is_activated(ifindex, announcements) => active,
                () = heard.closed() => false,
                () = forgotten => false,
            };
            if active {
                // Nobody waits any more: then nobody wants to know.
                let _ = heard.send(());
            }
        });
        Ok(Self(activated))
    }

    /// Waits for it. False: it will not come, or nobody knows.
    pub async fn activated(self) -> bool {
        self.0.await.is_ok()
    }
}

async fn is_activated(ifindex: u32, mut announcements: Announcements) -> bool {
    // Lost announcements end the waiting: what was lost may be the one.
    while let Some(NetlinkPayload::InnerMessage(message)) = announcements.next().await {
        match message {
            RouteNetlinkMessage::NewLink(link)
                if link.header.index == ifindex
                    && link.attributes.contains(&LinkAttribute::OperState(State::Up)) =>
            {
                return true;
            }
            RouteNetlinkMessage::DelLink(link) if link.header.index == ifindex => return false,
            _ => {}
        }
    }
    false
}
