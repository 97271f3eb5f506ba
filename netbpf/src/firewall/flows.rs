//! The kernel's memory of flows (conntrack). An entry that outlives its container leads packets to whoever has the
//! address next: those of a container that is gone are deleted.

use std::{io, net::IpAddr};

use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, Tuple},
};
use rtnetlink::{
    packet_core::{
        DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage,
        NetlinkPayload,
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER},
};

use super::Error;

/// `CTA_FILTER`: which parts of the tuple in a request are looked at (Linux 5.8).
const FILTER: u16 = 25;
/// `CTA_FILTER_F_CTA_IP_SRC`.
const SOURCE: u32 = 1;
/// Bytes of the filter: two headers of attributes and a number.
const FILTER_LEN: usize = 12;

/// The packets whose source a filter looks at.
#[derive(Clone, Copy)]
enum Direction {
    /// The first one, and those like it.
    Original = 1,
    /// The answers.
    Reply = 2,
}

/// Deletes all flows from and to an address. What a container began has it as the source of its first packet, what
/// others began as the source of the answer, whatever was translated.
pub async fn forget(address: IpAddr) -> Result<(), Error> {
    let work = move || {
        let flows = Flows::open(address).map_err(|source| Error::Flows { operation: "open", source })?;
        for direction in [Direction::Original, Direction::Reply] {
            let found = flows.list(direction).map_err(|source| Error::Flows { operation: "list", source })?;
            for flow in found {
                flows.delete(flow).map_err(|source| Error::Flows { operation: "delete", source })?;
            }
        }
        Ok(())
    };
    // The kernel answers at once, but a list may be long.
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::Flows { operation: "forget", source: error.into() }))
}

/// The flows of one address.
struct Flows {
    socket: Socket,
    address: IpAddr,
}

impl Flows {
    fn open(address: IpAddr) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, address })
    }

    /// The tuples of the first packets.
    fn list(&self, direction: Direction) -> io::Result<Vec<Vec<Tuple>>> {
        let source = vec![Tuple::Ip(vec![IPTuple::SourceAddress(self.address)])];
        let tuple = match direction {
            Direction::Original => ConntrackAttribute::CtaTupleOrig(source),
            Direction::Reply => ConntrackAttribute::CtaTupleReply(source),
        };
        let flags = DefaultNla::new(direction as u16, SOURCE.to_ne_bytes().to_vec());
        let mut nested = vec![0; flags.buffer_len()];
        flags.emit(&mut nested);
        let filter = ConntrackAttribute::Other(DefaultNla::new(FILTER, nested));
        let message = ConntrackMessage::Get(vec![tuple, filter]);
        let mut request = self.request(message, NLM_F_REQUEST | NLM_F_DUMP);
        // The library has no word for this attribute, so it does not mark it as one that holds others.
        let kind = request.len() - FILTER_LEN + 2;
        request[kind..kind + 2].copy_from_slice(&(FILTER | NLA_F_NESTED).to_ne_bytes());
        let mut flows = Vec::new();
        for message in self.ask(&request)? {
            if let ConntrackMessage::New(attributes) = message
                && is_about(&attributes, self.address)
            {
                flows.extend(attributes.into_iter().find_map(original));
            }
        }
        Ok(flows)
    }

    fn delete(&self, flow: Vec<Tuple>) -> io::Result<()> {
        let message = ConntrackMessage::Delete(vec![ConntrackAttribute::CtaTupleOrig(flow)]);
        match self.ask(&self.request(message, NLM_F_REQUEST | NLM_F_ACK)) {
            // Ended meanwhile.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => Ok(()),
            done => done.map(|_| ()),
        }
    }

    fn request(&self, message: ConntrackMessage, flags: u16) -> Vec<u8> {
        let family = match self.address {
            IpAddr::V4(_) => NetfilterProtoFamily::IPv4,
            IpAddr::V6(_) => NetfilterProtoFamily::IPv6,
        };
        let header = NetfilterHeader::new(family, 0, 0);
        let mut request = NetlinkMessage::from(NetfilterMessage::new(header, message));
        request.header.flags = flags;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        bytes
    }

    /// Everything up to the end of the answer.
    fn ask(&self, request: &[u8]) -> io::Result<Vec<ConntrackMessage>> {
        self.socket.send(request, 0)?;
        let mut messages = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::<NetfilterMessage>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                // Messages begin at multiples of four.
                let length = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                match message.payload {
                    NetlinkPayload::InnerMessage(NetfilterMessage {
                        inner: NetfilterMessageInner::Conntrack(message),
                        ..
                    }) => messages.push(message),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(messages),
                    _ => {}
                }
            }
        }
    }
}

/// Whether one of the tuples has the address: a kernel that does not know the filter lists all flows.
fn is_about(attributes: &[ConntrackAttribute], address: IpAddr) -> bool {
    attributes.iter().any(|attribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(tuples) | ConntrackAttribute::CtaTupleReply(tuples) => {
            tuples.iter().any(|tuple| match tuple {
                Tuple::Ip(addresses) => addresses.contains(&IPTuple::SourceAddress(address)),
                _ => false,
            })
        }
        _ => false,
    })
}

fn original(attribute: ConntrackAttribute) -> Option<Vec<Tuple>> {
    match attribute {
        ConntrackAttribute::CtaTupleOrig(tuples) => Some(tuples),
        _ => None,
    }
}
