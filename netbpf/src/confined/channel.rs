//! The control socket: packets of messages and of the sockets that they speak of, and a connection that carries them. It
//! must not know what either side does with them.
//!
//! A packet holds JSON values, one after another, and the descriptors that they speak of, in their order; thousands of
//! requests are told in a few dozen packets. The process greets a connection with [`Response::Held`] for all sockets that
//! it has, then [`Response::Ready`]. From then on every packet of requests gets one [`Response::Done`], in order.

use std::{
    borrow::Cow,
    io, mem,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{io::Interest, net::UnixStream};

use super::fds;

/// The largest packet: what a socket's default send buffer surely takes.
pub(crate) const LARGEST_PACKET: usize = 160 * 1024;

/// From the process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Response<Held> {
    /// The greeting is complete.
    Ready {
        /// The version that the process speaks.
        protocol: u32,
    },
    /// The requests of a packet took effect.
    Done,
    /// What the next descriptors are.
    #[serde(untagged)]
    Held(Held),
}

/// What is sent at once.
#[derive(Default)]
pub(super) struct Packet<'a> {
    bytes: Vec<u8>,
    descriptors: Vec<BorrowedFd<'a>>,
}

/// What was received at once.
pub(crate) struct Received<T> {
    /// The messages.
    pub(super) messages: Vec<T>,
    descriptors: std::vec::IntoIter<OwnedFd>,
}

impl<T> Received<T> {
    /// The sockets that the next message speaks of.
    pub(crate) fn sockets<const COUNT: usize>(&mut self) -> io::Result<[OwnedFd; COUNT]> {
        let sockets: Vec<OwnedFd> = self.descriptors.by_ref().take(COUNT).collect();
        let missing = |_| io::Error::new(io::ErrorKind::InvalidData, "a message without its sockets");
        sockets.try_into().map_err(missing)
    }
}

/// A message to be sent.
pub(crate) struct Message<'a> {
    bytes: Cow<'a, [u8]>,
    sockets: Vec<BorrowedFd<'a>>,
}

impl<'a> Message<'a> {
    /// One that speaks of no sockets.
    pub(crate) fn new(message: &impl Serialize) -> Self {
        Self { bytes: encode(message).into(), sockets: Vec::new() }
    }

    /// One that was encoded before.
    pub(crate) fn encoded(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.into(), sockets: Vec::new() }
    }

    /// The sockets that it speaks of.
    pub(crate) fn with<const COUNT: usize>(self, sockets: [BorrowedFd<'a>; COUNT]) -> Self {
        Self { sockets: sockets.into(), ..self }
    }
}

/// A message as bytes.
pub(crate) fn encode(message: &impl Serialize) -> Vec<u8> {
    // Numbers, texts and lists of them: there is nothing that JSON cannot say.
    serde_json::to_vec(message).unwrap_or_default()
}

/// Messages in as few packets as hold them.
pub(super) fn packets<'a>(messages: impl IntoIterator<Item = Message<'a>>) -> Vec<Packet<'a>> {
    let (mut packets, mut packet) = (Vec::new(), Packet::default());
    for Message { bytes, sockets } in messages {
        let fits = packet.bytes.len() + bytes.len() <= LARGEST_PACKET
            && packet.descriptors.len() + sockets.len() <= fds::MOST;
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
