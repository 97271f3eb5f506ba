//! Tells which links are deleted or change, and when a new link begins to pass frames. Uses the kernel's
//! announcements, so that nothing has to be polled.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, channel::mpsc::UnboundedReceiver};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{LinkAttribute, State},
    tc::TcHandle,
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

/// Longest time between the creation of an endpoint and its setting up.
const SETTING_UP: Duration = Duration::from_secs(10);

/// The kernel's announcements about links in one namespace, from the creation of this value on.
struct Announcements {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    connection: AbortHandle,
}

impl Announcements {
    /// Listens in the namespace of the calling thread, which must be in a tokio runtime.
    fn listen(groups: &[MulticastGroup]) -> Result<Self, Error> {
        let (connection, _, messages) = new_multicast_connection(groups)
            .map_err(|error| Error::failed("listen on", "a netlink socket", error))?;
        Ok(Self { messages, connection: tokio::spawn(connection).abort_handle() })
    }

    /// `None` if the kernel's socket is broken. Nothing is lost if the future is dropped.
    async fn next(&mut self) -> Option<NetlinkPayload<RouteNetlinkMessage>> {
        self.messages.next().await.map(|(message, _)| message.payload)
    }
}

impl Drop for Announcements {
    /// Otherwise the connection would end only with the next announcement, and its socket would keep the
    /// namespace alive.
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// An event, or the loss of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<Event> {
    /// An event.
    Of(Event),
    /// Announcements were lost: read all links again.
    Lost,
}

/// Links that are deleted, from the creation of this value on.
pub struct Deletions(Announcements);

/// Links that are created, deleted or changed, from the creation of this value on.
pub struct LinkChanges(Announcements);

impl Links {
    /// Listens in the namespace of the calling thread.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel gives no netlink socket, for example `EMFILE`.
    pub fn watch_deleted() -> Result<Deletions, Error> {
        Announcements::listen(&[MulticastGroup::Link]).map(Deletions)
    }

    /// The same for all changes of links.
    ///
    /// # Errors
    /// [`Error::Failed`], as of [`Links::watch_deleted`].
    pub fn watch_changed() -> Result<LinkChanges, Error> {
        Announcements::listen(&[MulticastGroup::Link]).map(LinkChanges)
    }

    /// The same for all changes of links, their addresses, and what is attached to them.
    ///
    /// # Errors
    /// [`Error::Failed`], as of [`Links::watch_deleted`].
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

/// A change is often followed by others. A link is reported this long after the last change, but no later
/// than [`LATEST`] after the first.
const QUIET: Duration = Duration::from_millis(100);
const LATEST: Duration = Duration::from_millis(500);

/// Links that were changed, from the creation of this value on.
pub struct Touches {
    announcements: Announcements,
    /// By ifindex: whether filters were removed.
    touched: BTreeMap<u32, bool>,
    since: Option<Instant>,
}

impl Touches {
    /// Waits until changes pause, then returns the ifindexes of changed links. The value says whether
    /// filters were removed from the link. `None` if the kernel's socket is broken.
    /// Nothing is lost if the future is dropped.
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
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelTrafficFilter(removed)) => {
                u32::try_from(removed.header.index).ok().map(|ifindex| (ifindex, true))
            }
            // Filters go with the discipline that holds them. Those of limits hold none.
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelQueueDiscipline(removed)) => {
                let held_filters = removed.header.parent == TcHandle::CLSACT;
                u32::try_from(removed.header.index).ok().map(|ifindex| (ifindex, held_filters))
            }
            _ => None,
        };
        if let Some((ifindex, filter_removed)) = touched.filter(|(ifindex, _)| is_meant(*ifindex)) {
            *self.touched.entry(ifindex).or_default() |= filter_removed;
            self.since.get_or_insert_with(Instant::now);
        }
        heard
    }

    fn take(&mut self) -> Heard<BTreeMap<u32, bool>> {
        self.since = None;
        Heard::Of(std::mem::take(&mut self.touched))
    }
}

impl LinkChanges {
    /// The ifindex and name of the next link that is created, deleted or changed. `None` if the kernel's
    /// socket is broken.
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
    /// Waits until this link is gone. For ever if the kernel's socket is broken, or if announcements were lost.
    pub(super) async fn of(&mut self, ifindex: u32) {
        while let Some(Heard::Of(gone)) = self.next().await {
            if gone == ifindex {
                return;
            }
        }
        std::future::pending().await
    }

    /// The ifindex of the next link that is gone: deleted, or moved to another namespace. `None` if the
    /// kernel's socket is broken. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Heard<u32>> {
        loop {
            match self.0.next().await? {
                NetlinkPayload::Overrun(_) => return Some(Heard::Lost),
                // A bridge announces in its own family that it lost an interface: that link may live on.
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

/// Waits until a link sends what it is given: it is up, has a carrier, and the kernel has acted on that. The
/// kernel announces this afterwards; asking for the state would answer too early.
pub(super) struct Activation(oneshot::Receiver<()>);

impl Activation {
    /// Watches a link that is not active yet, in the namespace of the calling thread.
    pub fn watch(ifindex: u32) -> Result<Self, Error> {
        let announcements = Announcements::listen(&[MulticastGroup::Link])?;
        let (mut heard, activated) = oneshot::channel();
        tokio::spawn(async move {
            // The socket keeps the namespace alive, so it must not stay open for ever.
            let forgotten = sleep(SETTING_UP);
            let active = tokio::select! {
                active = is_activated(ifindex, announcements) => active,
                () = heard.closed() => false,
                () = forgotten => false,
            };
            if active {
                // An error means that nobody waits any more.
                let _ = heard.send(());
            }
        });
        Ok(Self(activated))
    }

    /// Waits for the activation. False: it will not come, or is unknown.
    pub async fn activated(self) -> bool {
        self.0.await.is_ok()
    }
}

async fn is_activated(ifindex: u32, mut announcements: Announcements) -> bool {
    // Lost announcements end the wait: the expected one may be among them.
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
