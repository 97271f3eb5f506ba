//! Requests to the kernel's packet filter over netlink: sends a request and collects all messages of the answer. Knows
//! neither flows nor rules.

use std::io;

use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use rtnetlink::{
    packet_core::{NLM_F_DUMP_INTR, NetlinkMessage, NetlinkPayload},
    sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER},
};

use crate::fault;

/// A netlink socket to the packet filter of a network namespace.
pub struct Kernel(Socket);

impl Kernel {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
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
        self.0.send(request, 0)?;
        let mut is_consistent = true;
        loop {
            let (datagram, _) = self.0.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<NetfilterMessage>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                is_consistent &= message.header.flags & NLM_F_DUMP_INTR == 0;
                // Messages are aligned to four bytes.
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
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
}

/// A request in netlink's format, with its flags (`NLM_F_…`).
pub fn request(
    family: NetfilterProtoFamily,
    message: impl Into<NetfilterMessageInner>,
    flags: u16,
) -> Vec<u8> {
    let header = NetfilterHeader::new(family, 0, 0);
    let mut request = NetlinkMessage::from(NetfilterMessage::new(header, message));
    request.header.flags = flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    bytes
}
