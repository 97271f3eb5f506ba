//! A routing netlink socket: sends a request and waits for its answer. Must not know what the messages are
//! for.

use std::{io, sync::Arc};

use futures::StreamExt;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::{
    packet_core::{
        ErrorMessage, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_ECHO, NLM_F_REQUEST,
        NetlinkMessage, NetlinkPayload, NlasIterator, parse_string,
    },
    proto::{ConnectionHandle, new_connection},
    sys::{AsyncSocket, SocketAddr, protocols::NETLINK_ROUTE},
};
use tokio::{runtime::Handle, sync::Mutex};

use super::{Error, Namespace, error::Refusal};
use crate::fault;

/// Attempts to read a list at one moment.
const DUMP_ATTEMPTS: u32 = 5;

/// Length in bytes of a `struct nlmsghdr`.
const HEADER_LEN: usize = 16;

/// Attribute with the text of an error message (`NLMSGERR_ATTR_MSG`).
const EXPLANATION: u16 = 1;

/// An open socket; its connection is a task that ends when the socket is dropped.
pub(super) struct Socket {
    connection: ConnectionHandle<RouteNetlinkMessage>,
    /// The kernel dumps one list at a time to a socket, and answers EBUSY to a request for another meanwhile.
    list: Arc<Mutex<()>>,
}

impl Socket {
    /// Opens a socket in the namespace of the calling thread, which must be in a tokio runtime.
    pub fn open() -> Result<Self, Error> {
        let (connection, socket) =
            connect().map_err(|error| Error::failed("open", "a netlink socket", error))?;
        tokio::spawn(connection);
        Ok(socket)
    }

    /// Opens a socket in another namespace. `prepare` runs there before, in the caller's runtime.
    pub async fn open_in<T: Send + 'static>(
        netns: &Namespace,
        prepare: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<(Self, T), Error> {
        let runtime = Handle::current();
        netns
            .run(move || {
                let _entered = runtime.enter();
                let prepared = prepare()?;
                Ok((Self::open()?, prepared))
            })
            .await?
    }

    /// Requests a change. `flags` say how: create, replace, only if it does not exist.
    pub async fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Refusal> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut answers = send(&self.connection, request)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                let explained = answer.header.flags & NLM_F_ACK_TLVS != 0;
                return error.code.map_or(Ok(()), |_| Err(refusal(&error, explained)));
            }
        }
        Err(io::Error::from(io::ErrorKind::BrokenPipe).into())
    }

    /// Requests a change on which the kernel works for milliseconds, on a thread and by a socket of its own: the kernel works
    /// within the call that sends the request, which would hold up all other requests. Goes on if the future is dropped.
    pub async fn ask_aside(
        (connection, socket): (impl Future<Output = ()> + Send + 'static, Self),
        message: RouteNetlinkMessage,
    ) -> Result<(), Refusal> {
        let runtime = Handle::current();
        let asked = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                tokio::select! {
                    answered = socket.ask(message, 0) => answered,
                    () = connection => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
                }
            })
        });
        asked.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::BrokenPipe).into()))
    }

    /// Requests one object.
    pub async fn get(&self, message: RouteNetlinkMessage) -> Result<RouteNetlinkMessage, Refusal> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST;
        let mut answers = send(&self.connection, request)?;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => return Ok(message),
                NetlinkPayload::Error(error) => return Err(refusal(&error, false)),
                _ => {}
            }
        }
        Err(io::Error::from(io::ErrorKind::BrokenPipe).into())
    }

    /// Requests a queueing discipline, of which the kernel may tell nothing: none. It tells all listeners, and the one that
    /// asks only as an echo.
    pub async fn echo(&self, message: RouteNetlinkMessage) -> Result<Option<RouteNetlinkMessage>, Refusal> {
        let mut request = NetlinkMessage::from(message);
        // The confirmation ends an answer without an object.
        request.header.flags = NLM_F_REQUEST | NLM_F_ECHO | NLM_F_ACK;
        let mut answers = send(&self.connection, request)?;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => return Ok(Some(message)),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(None),
                NetlinkPayload::Error(error) => return Err(refusal(&error, false)),
                _ => {}
            }
        }
        Err(io::Error::from(io::ErrorKind::BrokenPipe).into())
    }

    /// Requests a list of all objects, consistent at one moment. If the list changes during each of several readings, the
    /// answer is what any of them had, the newest last: an object may be there twice, or be gone, but none is missing that
    /// was there all the time.
    pub async fn dump(&self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        let alone = Arc::clone(&self.list).lock_owned().await;
        let connection = self.connection.clone();
        // A task of its own, so that a list is read to its end before the next one even if the caller's
        // future is dropped.
        let read = tokio::spawn(async move {
            let _alone = alone;
            let mut seen = Vec::new();
            for _ in 0..DUMP_ATTEMPTS {
                match dump_once(&connection, message.clone()).await? {
                    Reading::Consistent(entries) => return Ok(entries),
                    Reading::Interrupted(entries) => seen.extend(entries),
                }
            }
            Ok(seen)
        });
        read.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::BrokenPipe).into()))
    }
}

/// A list that was read once.
enum Reading {
    /// As it was at one moment.
    Consistent(Vec<RouteNetlinkMessage>),
    /// It changed meanwhile: kernels before 6.9 may have left out an object in the place of one that was deleted.
    Interrupted(Vec<RouteNetlinkMessage>),
}

/// A socket, and its connection, which somebody must poll.
pub(super) fn connect() -> io::Result<(impl Future<Output = ()> + Send + 'static, Socket)> {
    let (mut connection, handle, _) = new_connection(NETLINK_ROUTE)?;
    connection.set_forward_ack(true);
    connection.set_forward_done(true);
    let socket = connection.socket_mut().socket_mut();
    socket.set_ext_ack(true)?;
    // Error messages then contain only the header of the request, so the text has a fixed offset.
    socket.set_cap_ack(true)?;
    Ok((connection, Socket { connection: handle, list: Arc::default() }))
}

async fn dump_once(
    connection: &ConnectionHandle<RouteNetlinkMessage>,
    message: RouteNetlinkMessage,
) -> Result<Reading, Refusal> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut answers = send(connection, request)?;
    let mut entries = Vec::new();
    let mut interrupted = false;
    while let Some(answer) = answers.next().await {
        interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
        match answer.payload {
            NetlinkPayload::InnerMessage(entry) => entries.push(entry),
            NetlinkPayload::Error(error) => return Err(refusal(&error, false)),
            NetlinkPayload::Done(done) => {
                return match done.code {
                    0 if interrupted => Ok(Reading::Interrupted(entries)),
                    0 => Ok(Reading::Consistent(entries)),
                    code => Err(io::Error::from_raw_os_error(code.abs()).into()),
                };
            }
            _ => {}
        }
    }
    Err(io::Error::from(io::ErrorKind::BrokenPipe).into())
}

fn send(
    connection: &ConnectionHandle<RouteNetlinkMessage>,
    request: NetlinkMessage<RouteNetlinkMessage>,
) -> Result<impl StreamExt<Item = NetlinkMessage<RouteNetlinkMessage>> + use<>, Refusal> {
    fault::call("netlink")?;
    connection
        .request(request, SocketAddr::new(0, 0))
        .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe).into())
}

/// The error number of an error message, and its text if there is one.
fn refusal(error: &ErrorMessage, explained: bool) -> Refusal {
    let attributes = error.header.get(HEADER_LEN..).filter(|_| explained).unwrap_or_default();
    let explanation = NlasIterator::new(attributes)
        .flatten()
        .find(|attribute| attribute.kind() == EXPLANATION)
        .and_then(|attribute| parse_string(attribute.value()).ok());
    Refusal::explained(error.to_io(), explanation)
}
