//! The control socket: encodes messages and the sockets that belong to them into packets, and carries these over a
//! connection. Must not know what either side does with the messages.
//!
//! A packet holds JSON values one after another, and the descriptors that belong to them in the same order. So
//! thousands of requests fit into a few dozen packets. The process greets a new connection with [`Response::Held`] for
//! each of its sockets, then [`Response::Ready`]. From then on it answers every packet of requests with one
//! [`Response::Done`], in order.

use std::{
    borrow::Cow,
    io, mem,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{io::Interest, net::UnixStream};

use super::fds;

/// The maximum size of a packet in bytes. It fits into a socket's default send buffer.
pub(crate) const LARGEST_PACKET: usize = 160 * 1024;

/// A message of the process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response<Held> {
    /// The greeting is complete.
    Ready {
        /// The protocol version of the process.
        protocol: u32,
    },
    /// The requests of a packet took effect.
    Done,
    /// Describes the next descriptors.
    #[serde(untagged)]
    Held(Held),
}

/// A packet to send.
#[derive(Default)]
pub(super) struct Packet<'a> {
    bytes: Vec<u8>,
    descriptors: Vec<BorrowedFd<'a>>,
}

/// A received packet.
pub(crate) struct Received<T> {
    /// Its messages.
    pub(super) messages: Vec<T>,
    descriptors: std::vec::IntoIter<OwnedFd>,
}

impl<T> Received<T> {
    /// Takes the sockets that belong to the next message.
    pub(crate) fn sockets<const COUNT: usize>(&mut self) -> io::Result<[OwnedFd; COUNT]> {
        let sockets: Vec<OwnedFd> = self.descriptors.by_ref().take(COUNT).collect();
        let missing = |_| io::Error::new(io::ErrorKind::InvalidData, "a message without its sockets");
        sockets.try_into().map_err(missing)
    }
}

/// A message to send.
pub(crate) struct Message<'a> {
    bytes: Cow<'a, [u8]>,
    sockets: Vec<BorrowedFd<'a>>,
}

impl<'a> Message<'a> {
    /// A message without sockets.
    pub(crate) fn new(message: &impl Serialize) -> Self {
        Self { bytes: encode(message).into(), sockets: Vec::new() }
    }

    /// A message that was encoded before.
    pub(crate) fn encoded(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.into(), sockets: Vec::new() }
    }

    /// Adds the sockets that belong to the message.
    pub(crate) fn with<const COUNT: usize>(self, sockets: [BorrowedFd<'a>; COUNT]) -> Self {
        Self { sockets: sockets.into(), ..self }
    }
}

/// Encodes a message.
pub(crate) fn encode(message: &impl Serialize) -> Vec<u8> {
    // Cannot fail: the messages are numbers, texts and lists.
    serde_json::to_vec(message).unwrap_or_default()
}

/// Puts messages into as few packets as possible.
pub(super) fn packets<'a>(messages: impl IntoIterator<Item = Message<'a>>) -> Vec<Packet<'a>> {
    let (mut packets, mut packet) = (Vec::new(), Packet::default());
    for Message { bytes, sockets } in messages {
        let fits = packet.bytes.len() + bytes.len() <= LARGEST_PACKET
            && packet.descriptors.len() + sockets.len() <= fds::MAX_DESCRIPTORS;
        if !fits {
            packets.push(mem::take(&mut packet));
        }
        packet.bytes.extend_from_slice(&bytes);
        packet.descriptors.extend(sockets);
    }
    packets.push(packet);
    packets
}

/// One end of the control socket.
pub(super) struct Connection {
    /// Used for its readiness only; tokio has no SEQPACKET sockets. Sending and receiving is in `fds`.
    socket: UnixStream,
    buffer: Box<[u8]>,
}

impl Connection {
    /// `socket` is a connected SOCK_SEQPACKET socket.
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, buffer: vec![0; LARGEST_PACKET].into() }
    }

    /// Sends one packet.
    pub(super) async fn send(&self, packet: &Packet<'_>) -> io::Result<()> {
        let send = || Ok(fds::send(self.socket.as_fd(), &packet.bytes, &packet.descriptors)?);
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// Receives one packet; `None` when the peer is gone.
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

    #[derive(Debug, Serialize, Deserialize)]
    enum Greeting {
        Pair(u16),
    }

    #[tokio::test]
    async fn many_sockets_arrive_in_order() {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (left, right) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("a socket pair");
        let connection = |end: OwnedFd| {
            Connection::new(UnixStream::from_std(StdStream::from(end)).expect("a registered socket"))
        };
        let (left, mut right) = (connection(left), connection(right));

        let listeners: Vec<TcpListener> =
            (0..150).map(|_| TcpListener::bind("127.0.0.1:0").expect("a listener")).collect();
        let messages = (0..).zip(&listeners).map(|(number, listener)| {
            Message::new(&Response::Held(Greeting::Pair(number))).with([listener.as_fd(), listener.as_fd()])
        });
        let ready = Message::new(&Response::<Greeting>::Ready { protocol: 7 });
        let packets = packets(messages.chain([ready]));
        assert_eq!(packets.len(), 2);
        for packet in &packets {
            left.send(packet).await.expect("send");
        }
        drop(left);

        let mut arrived = (0..).zip(&listeners);
        let mut is_ready = false;
        while let Some(mut received) = right.receive().await.expect("receive") {
            for response in mem::take(&mut received.messages) {
                let number = match response {
                    Response::Held(Greeting::Pair(number)) => number,
                    Response::Ready { protocol: 7 } => {
                        is_ready = true;
                        continue;
                    }
                    other => panic!("unexpected {other:?}"),
                };
                let (sent, listener) = arrived.next().expect("no more than were sent");
                assert_eq!(number, sent);
                for socket in received.sockets::<2>().expect("two sockets").map(TcpListener::from) {
                    assert_eq!(socket.local_addr().ok(), listener.local_addr().ok());
                }
            }
        }
        assert!(arrived.next().is_none() && is_ready);
    }
}
