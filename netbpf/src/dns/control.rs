//! The control socket: the messages between the daemon's feed and the responder, and a connection that carries them.
//! It must not know what either side does with them.
//!
//! A packet holds JSON values, one after another, and the descriptors that they speak of, in their order; thousands of
//! containers are told in a few dozen packets. The responder greets a connection with [`Response::Held`] for every
//! container whose sockets it has, [`Response::Lent`] for those beside, then [`Response::Ready`]. From then on every packet of requests gets one
//! [`Response::Done`], in order.

use std::{
    borrow::Cow,
    io, mem,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{io::Interest, net::UnixStream};

use super::{fds, record::Record};
use crate::model::Id;

/// The version of these messages. The greeting stays as it is in every version.
pub(super) const PROTOCOL: u32 = 3;
/// The largest packet: what a socket's default send buffer surely takes.
pub(super) const LARGEST_PACKET: usize = 160 * 1024;

/// From the feed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// A full state follows.
    Begin,
    /// A container, new or changed. It keeps the sockets that it has.
    Upsert(Record),
    /// The next two descriptors are this container's sockets from now on, UDP first.
    Serve(Id),
    /// The next two descriptors are unconnected ones of this container's network namespace, UDP first: servers that only
    /// it reaches are asked through them. [`Request::Serve`] takes earlier ones back.
    Lend(Id),
    /// A container is gone.
    Remove(Id),
    /// The host's resolvers.
    HostServers(Vec<SocketAddr>),
    /// The full state ends: what it did not name is gone.
    End,
    /// The last request.
    Stop,
}

/// From the responder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Response {
    /// The next two descriptors are this container's sockets, UDP first.
    Held(Id),
    /// The next two descriptors are lent ones of this container, which [`Response::Held`] has named.
    Lent(Id),
    /// The greeting is complete.
    Ready {
        /// [`PROTOCOL`] of the responder.
        protocol: u32,
    },
    /// The requests of a packet took effect.
    Done,
}

/// What is sent at once.
#[derive(Default)]
pub(super) struct Packet<'a> {
    bytes: Vec<u8>,
    descriptors: Vec<BorrowedFd<'a>>,
}

/// Two sockets of a container, UDP first.
pub type Pair = [OwnedFd; 2];

/// All sockets of a container.
pub(super) struct Held {
    /// Its queries come in on these.
    pub(super) serve: Pair,
    /// Those that servers are asked through.
    pub(super) lent: Vec<Pair>,
}

/// What was received at once.
pub(super) struct Received<T> {
    /// The messages.
    pub(super) messages: Vec<T>,
    descriptors: std::vec::IntoIter<OwnedFd>,
}

impl<T> Received<T> {
    /// The sockets that the next message speaks of.
    pub(super) fn sockets(&mut self) -> io::Result<Pair> {
        match (self.descriptors.next(), self.descriptors.next()) {
            (Some(udp), Some(tcp)) => Ok([udp, tcp]),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a message without its sockets")),
        }
    }
}

/// A message to be sent.
pub(super) struct Message<'a> {
    bytes: Cow<'a, [u8]>,
    sockets: Option<[BorrowedFd<'a>; 2]>,
}

impl<'a> Message<'a> {
    /// One that speaks of no sockets.
    pub(super) fn new(message: &impl Serialize) -> Self {
        Self { bytes: encode(message).into(), sockets: None }
    }

    /// One that was encoded before.
    pub(super) fn encoded(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.into(), sockets: None }
    }

    /// The sockets that it speaks of.
    pub(super) fn with(self, sockets: [BorrowedFd<'a>; 2]) -> Self {
        Self { sockets: Some(sockets), ..self }
    }
}

/// A message as bytes.
pub(super) fn encode(message: &impl Serialize) -> Vec<u8> {
    // Numbers, texts and lists of them: there is nothing that JSON cannot say.
    serde_json::to_vec(message).unwrap_or_default()
}

/// Messages in as few packets as hold them.
pub(super) fn packets<'a>(messages: impl IntoIterator<Item = Message<'a>>) -> Vec<Packet<'a>> {
    let (mut packets, mut packet) = (Vec::new(), Packet::default());
    for Message { bytes, sockets } in messages {
        let fits = packet.bytes.len() + bytes.len() <= LARGEST_PACKET
            && packet.descriptors.len() + sockets.map_or(0, |pair| pair.len()) <= fds::MOST;
        if !fits {
            packets.push(mem::take(&mut packet));
        }
        packet.bytes.extend_from_slice(&bytes);
        packet.descriptors.extend(sockets.into_iter().flatten());
    }
    packets.push(packet);
    packets
}

/// One end of the control socket.
pub(super) struct Connection {
    /// Tokio's for streams is as good for packets: it only waits, the calls are our own.
    socket: UnixStream,
    buffer: Box<[u8]>,
}

impl Connection {
    /// Over a connected SOCK_SEQPACKET socket.
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, buffer: vec![0; LARGEST_PACKET].into() }
    }

    /// Sends one packet.
    pub(super) async fn send(&self, packet: &Packet<'_>) -> io::Result<()> {
        let send = || Ok(fds::send(self.socket.as_fd(), &packet.bytes, &packet.descriptors)?);
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// Receives one packet; none when the other side is gone.
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<Received<T>>> {
        let Self { socket, buffer } = self;
        let receive = || Ok(fds::receive(socket.as_fd(), buffer)?);
        let (length, descriptors) = socket.async_io(Interest::READABLE, receive).await?;
        if length == 0 {
            return Ok(None);
        }
        let messages = serde_json::Deserializer::from_slice(&self.buffer[..length]).into_iter();
        let messages = messages.collect::<Result<_, _>>()?;
        Ok(Some(Received { messages, descriptors: descriptors.into_iter() }))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::unix::net::UnixStream as StdStream};

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    #[tokio::test]
    async fn many_containers_and_their_sockets_arrive_in_order() {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (left, right) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("a socket pair");
        let connection = |end: OwnedFd| {
            Connection::new(UnixStream::from_std(StdStream::from(end)).expect("a registered socket"))
        };
        let (left, mut right) = (connection(left), connection(right));

        let containers: Vec<(Id, TcpListener)> =
            (0..150).map(|_| (Id::random(), TcpListener::bind("127.0.0.1:0").expect("a listener"))).collect();
        let messages = containers.iter().map(|(id, listener)| {
            Message::new(&Response::Held(*id)).with([listener.as_fd(), listener.as_fd()])
        });
        let ready = Message::new(&Response::Ready { protocol: PROTOCOL });
        let packets = packets(messages.chain([ready]));
        assert_eq!(packets.len(), 2);
        for packet in &packets {
            left.send(packet).await.expect("send");
        }
        drop(left);

        let mut arrived = containers.iter();
        while let Some(mut received) = right.receive().await.expect("receive") {
            for response in mem::take(&mut received.messages) {
                let Response::Held(id) = response else { continue };
                let (sent, listener) = arrived.next().expect("no more than were sent");
                let [udp, tcp] = received.sockets().expect("two sockets").map(TcpListener::from);
                assert_eq!(id, *sent);
                for socket in [udp, tcp] {
                    assert_eq!(socket.local_addr().ok(), listener.local_addr().ok());
                }
            }
        }
        assert!(arrived.next().is_none());
    }
}
