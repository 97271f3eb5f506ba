//! The control socket: the messages between the daemon's feed and the responder, and a connection that carries them,
//! one JSON value a packet. It must not know what either side does with them.
//!
//! The responder greets a connection with a [`Response::Held`] for every container whose sockets it has, then
//! [`Response::Ready`]. From then on every request gets [`Response::Done`], in order.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{io::Interest, net::UnixStream};

use super::{fds, record::Record};
use crate::model::Id;

/// The version of these messages. `Ready` and `Stop` stay as they are in every version.
pub(super) const PROTOCOL: u32 = 1;
/// The largest packet: what a socket's default send buffer surely takes.
pub(super) const LARGEST_PACKET: usize = 160 * 1024;

/// From the feed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// A full state follows.
    Begin,
    /// A container, new or changed. Two descriptors beside it are its sockets, UDP first; without, it keeps those
    /// that it has.
    Upsert(Record),
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
    /// The two descriptors beside it are this container's sockets.
    Held(Id),
    /// The greeting is complete.
    Ready {
        /// [`PROTOCOL`] of the responder.
        protocol: u32,
    },
    /// A request took effect.
    Done,
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
    pub(super) async fn send(&self, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let send = || Ok(fds::send(self.socket.as_fd(), packet, descriptors)?);
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// Receives one message; none when the other side is gone.
    pub(super) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let Self { socket, buffer } = self;
        let receive = || Ok(fds::receive(socket.as_fd(), buffer)?);
        let (length, descriptors) = socket.async_io(Interest::READABLE, receive).await?;
        if length == 0 {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&self.buffer[..length])?, descriptors)))
    }
}

/// A message as a packet.
pub(super) fn packet(message: &impl Serialize) -> Vec<u8> {
    // Numbers, texts and lists of them: there is nothing that JSON cannot say.
    serde_json::to_vec(message).unwrap_or_default()
}
