//! Requests to the kernel's packet filter over netlink: sends a request and collects all messages of the answer, or changes
//! nftables in a transaction. Knows neither flows nor rules.

use std::{io, iter};

use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::NfTablesMessage, none::ControlMessage,
};
use nix::sys::socket::{
    getsockopt, setsockopt,
    sockopt::{SndBuf, SndBufForce},
};
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER},
};

use crate::fault;

/// `NFNL_SUBSYS_NFTABLES`: whom a transaction is for.
const NFTABLES: u16 = 10;

/// A netlink socket to the packet filter of a network namespace.
#[derive(Debug)]
pub struct Kernel {
    socket: Socket,
    port: u32,
}

impl Kernel {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        // Error messages do not contain the request.
        socket.set_cap_ack(true)?;
        Ok(Self { socket, port })
    }

    /// The socket's number, with which the kernel announces its changes to others.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Sends a request and waits for the whole answer. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::Interrupted`] if the kernel changed the list while it was read (`NLM_F_DUMP_INTR`); else the
    /// kernel's error.
    pub fn ask(&self, request: &[u8]) -> io::Result<Vec<NetfilterMessage>> {
        let mut messages = Vec::new();
        self.ask_for_each(request, |message| messages.push(message))?;
        Ok(messages)
    }

    /// The same for an answer that may be too long to keep: passes on each message.
    ///
    /// # Errors
    /// As of [`Kernel::ask`]; some messages may have been passed on.
    pub fn ask_for_each(&self, request: &[u8], mut take: impl FnMut(NetfilterMessage)) -> io::Result<()> {
        fault::call("netfilter")?;
        self.socket.send(request, 0)?;
        let mut is_consistent = true;
        loop {
            for message in self.receive()? {
                is_consistent &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => take(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) if is_consistent => return Ok(()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => {
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                    _ => {}
                }
            }
        }
    }

    /// Changes the nftables of a family in one transaction, which has at least one change: all take effect or none. Blocks.
    ///
    /// # Errors
    /// The kernel's error about the first change that it refuses.
    pub fn transact(&self, family: NetfilterProtoFamily, changes: Vec<NfTablesMessage>) -> io::Result<()> {
        fault::call("netfilter")?;
        let last = changes.len().saturating_sub(1);
        // A confirmation for each would be more than the socket holds. The kernel sends errors without being asked.
        let flags = |place: usize| NLM_F_REQUEST | NLM_F_CREATE | if place == last { NLM_F_ACK } else { 0 };
        let changes = changes.into_iter().enumerate();
        let changes = changes.map(|(place, change)| request(family, change, flags(place)));
        let all = iter::once(boundary(ControlMessage::BatchBegin)).chain(changes);
        let batch = all.chain([boundary(ControlMessage::BatchEnd)]).collect::<Vec<_>>().concat();
        self.make_room_for(batch.len())?;
        self.socket.send(&batch, 0)?;
        loop {
            for message in self.receive()? {
                match message.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) => return Ok(()),
                    _ => {}
                }
            }
        }
    }

    /// Makes the send buffer large enough for a message of this length in bytes, which cannot be sent in parts.
    fn make_room_for(&self, length: usize) -> io::Result<()> {
        // The kernel counts its own structures too.
        let size = 2 * length;
        if getsockopt(&self.socket, SndBuf)? < size {
            setsockopt(&self.socket, SndBufForce, &size)
                .or_else(|_| setsockopt(&self.socket, SndBuf, &size))?;
        }
        Ok(())
    }

    /// The messages of the next datagram.
    fn receive(&self) -> io::Result<Vec<NetlinkMessage<NetfilterMessage>>> {
        let (datagram, _) = self.socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let message = NetlinkMessage::<NetfilterMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            // Messages are aligned to four bytes.
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
            messages.push(message);
        }
        Ok(messages)
    }
}

/// A request in netlink's format, with its flags (`NLM_F_…`).
pub fn request(
    family: NetfilterProtoFamily,
    message: impl Into<NetfilterMessageInner>,
    flags: u16,
) -> Vec<u8> {
    bytes(NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message), flags)
}

/// The first or the last message of a transaction of nftables.
fn boundary(message: ControlMessage) -> Vec<u8> {
    bytes(
        NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFTABLES), message),
        NLM_F_REQUEST,
    )
}

fn bytes(message: NetfilterMessage, flags: u16) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}
