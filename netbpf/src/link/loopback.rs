//! The interface `lo` of a namespace, for processes without a runtime.

use std::{io, path::Path, thread};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkFlags, LinkMessage},
};
use nix::sched::{CloneFlags, setns};
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::{Error, Namespace, links::LOOPBACK, links::with_index};

/// Sets up `lo` in the namespace of this file.
///
/// # Errors
/// [`Error::Failed`] or [`Error::NotANamespace`] if there is no such namespace; [`Error::Failed`] if the kernel refuses.
pub fn set_up(path: &Path) -> Result<(), Error> {
    let mut message = with_index(LOOPBACK);
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
    ask(path, "set up", RouteNetlinkMessage::SetLink(message)).map(drop)
}

/// Whether `lo` is up in the namespace of this file.
///
/// # Errors
/// As of [`set_up`].
pub fn is_up(path: &Path) -> Result<bool, Error> {
    let link = ask(path, "look at", RouteNetlinkMessage::GetLink(with_index(LOOPBACK)))?;
    Ok(link.is_some_and(|link| link.header.flags.contains(LinkFlags::Up)))
}

/// Asks the kernel in a namespace, in a thread that ends there. Returns the link that it answers with, if it does.
fn ask(
    path: &Path,
    operation: &'static str,
    message: RouteNetlinkMessage,
) -> Result<Option<LinkMessage>, Error> {
    let namespace = Namespace::open_path(path)?;
    let object = format!("lo in {namespace}");
    let visit = move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        exchange(message)
    };
    let answered = thread::spawn(visit).join();
    answered
        .unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
        .map_err(|error| Error::failed(operation, object, error))
}

fn exchange(message: RouteNetlinkMessage) -> io::Result<Option<LinkMessage>> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (mut link, mut datagram) = (None, Vec::new());
    // The kernel answers with the link, if it was asked for, and then with an acknowledgement.
    loop {
        if datagram.is_empty() {
            datagram = socket.recv_from_full()?.0;
        }
        let answer =
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(&datagram).map_err(io::Error::other)?;
        datagram.drain(..datagram.len().min(answer.header.length.next_multiple_of(4) as usize));
        match answer.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(found)) => link = Some(found),
            NetlinkPayload::Error(error) => {
                return error.code.map_or(Ok(link), |code| Err(io::Error::from_raw_os_error(-code.get())));
            }
            _ => {}
        }
    }
}
