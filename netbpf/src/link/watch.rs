//! Which links go: the kernel's own announcements, so that a container's end is known without asking.

use futures::{StreamExt, channel::mpsc::UnboundedReceiver};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{
    MulticastGroup, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    sys::SocketAddr,
};

use super::{Error, Links};

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The link of this number is gone: deleted, or moved to another namespace.
    Deleted(u32),
    /// Announcements were lost: look at all links.
    Resync,
}

/// Announcements, from the moment this value was made.
pub struct Deletions(UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>);

impl Links {
    /// Listens in the namespace of the calling thread.
    pub fn watch_deleted() -> Result<Deletions, Error> {
        let (connection, _, messages) = new_multicast_connection(&[MulticastGroup::Link])
            .map_err(|error| Error::failed("listen on", "a netlink socket", error))?;
        tokio::spawn(connection);
        Ok(Deletions(messages))
    }
}

impl Deletions {
    /// The next one; `None` when the kernel's socket is broken. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        loop {
            let (message, _) = self.0.next().await?;
            match message.payload {
                NetlinkPayload::Overrun(_) => return Some(LinkEvent::Resync),
                // A bridge announces the loss of a port in its own family: that link may live on.
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link))
                    if link.header.interface_family == AddressFamily::Unspec =>
                {
                    return Some(LinkEvent::Deleted(link.header.index));
                }
                _ => {}
            }
        }
    }
}
