//! The kernel's memory of flows (conntrack). An entry that outlives its container leads packets to whoever has the
//! address next: those of a container that is gone are deleted.

use std::{io, net::IpAddr};

use futures::StreamExt;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, Tuple},
};
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    proto::{ConnectionHandle, new_connection},
    sys::{SocketAddr, protocols::NETLINK_NETFILTER},
};

use super::Error;

/// Deletes all flows from and to an address.
pub async fn forget(address: IpAddr) -> Result<(), Error> {
    let flows = Flows::open().map_err(|source| Error::Flows { operation: "open", source })?;
    let entries = flows.dump(address).await.map_err(|source| Error::Flows { operation: "list", source })?;
    for entry in entries.into_iter().filter(|entry| names(entry, address)) {
        match flows.delete(address, entry).await {
            // Ended meanwhile.
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => {}
            done => done.map_err(|source| Error::Flows { operation: "delete", source })?,
        }
    }
    Ok(())
}

/// Whether an entry is about an address, in one direction or the other. What is translated has the container's address
/// in one of them only.
fn names(entry: &[ConntrackAttribute], address: IpAddr) -> bool {
    entry.iter().any(|attribute| match attribute {
        ConntrackAttribute::CtaTupleOrig(tuples) | ConntrackAttribute::CtaTupleReply(tuples) => {
            tuples.iter().any(|tuple| match tuple {
                Tuple::Ip(addresses) => addresses.iter().any(|one| match one {
                    IPTuple::SourceAddress(one) | IPTuple::DestinationAddress(one) => *one == address,
                    _ => false,
                }),
                _ => false,
            })
        }
        _ => false,
    })
}

struct Flows(ConnectionHandle<NetfilterMessage>);

impl Flows {
    fn open() -> io::Result<Self> {
        let (connection, handle, _) = new_connection(NETLINK_NETFILTER)?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// All entries of the address's family.
    async fn dump(&self, address: IpAddr) -> io::Result<Vec<Vec<ConntrackAttribute>>> {
        let mut answers =
            self.request(address, ConntrackMessage::Get(Vec::new()), NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut entries = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => {
                    if let NetfilterMessageInner::Conntrack(ConntrackMessage::New(entry)) = message.inner {
                        entries.push(entry);
                    }
                }
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                _ => {}
            }
        }
        Ok(entries)
    }

    async fn delete(&self, address: IpAddr, entry: Vec<ConntrackAttribute>) -> io::Result<()> {
        let what = entry
            .into_iter()
            .filter(|attribute| matches!(attribute, ConntrackAttribute::CtaTupleOrig(_)))
            .collect();
        let mut answers = self.request(address, ConntrackMessage::Delete(what), NLM_F_REQUEST | NLM_F_ACK)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(error.to_io());
            }
        }
        Ok(())
    }

    fn request(
        &self,
        address: IpAddr,
        message: ConntrackMessage,
        flags: u16,
    ) -> io::Result<impl StreamExt<Item = NetlinkMessage<NetfilterMessage>> + use<>> {
        let family = match address {
            IpAddr::V4(_) => NetfilterProtoFamily::IPv4,
            IpAddr::V6(_) => NetfilterProtoFamily::IPv6,
        };
        let header = NetfilterHeader::new(family, 0, 0);
        let mut request = NetlinkMessage::from(NetfilterMessage::new(header, message));
        request.header.flags = flags;
        self.0.request(request, SocketAddr::new(0, 0)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
