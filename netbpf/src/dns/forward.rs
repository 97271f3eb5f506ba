//! Forwards queries to other servers and their replies back, unchanged except for the ID. Must not know zones or
//! containers.
//!
//! Servers are asked one after another, each when the one before it fails or has not replied within [`HEAD_START`]. A
//! reply with an answer counts whichever server sends it. A reply without an answer counts only when all servers before
//! it have failed or had [`NEGATIVE_DELAY`] to reply: the first server may be the only one that knows a name.
//!
//! hickory-resolver does something similar, but it decodes and encodes every message, caches, and needs sockets that
//! threads can share. Here messages pass unchanged, so their signatures and options stay valid, and the sockets of
//! [`Inside`] belong to one thread.

use std::{
    cell::RefCell,
    io, mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    time::Duration,
};

use futures::{
    StreamExt,
    future::{FutureExt, LocalBoxFuture},
    stream::FuturesUnordered,
};
use hickory_proto::op::ResponseCode;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpStream, UdpSocket},
    time::{Instant, interval_at, sleep, timeout},
};

use super::{
    inside::Inside,
    message::{self, Transport},
    upstream::{Turn, Upstream},
};

/// How long a server has before the next one is asked as well.
const HEAD_START: Duration = Duration::from_millis(200);
/// How long a server has to reply.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How long a reply without an answer waits for the servers before it.
const NEGATIVE_DELAY: Duration = Duration::from_secs(2);
/// When a datagram counts as lost and is sent again.
const RESEND_AFTER: Duration = Duration::from_millis(1500);

/// One query that is sent to several servers.
pub(super) struct Race<'a> {
    query: &'a [u8],
    transport: Transport,
    upstream: &'a Upstream,
    /// The container's sockets, if servers are asked from its network namespace.
    inside: Option<&'a Inside>,
    /// A buffer for the largest datagram.
    scratch: &'a RefCell<Box<[u8]>>,
    turns: Vec<(Turn, Verdict)>,
    running: FuturesUnordered<LocalBoxFuture<'a, (usize, Verdict)>>,
}

/// The state of a server in the race.
enum Verdict {
    /// Not asked yet.
    Unasked,
    /// Asked; a reply may still come.
    Asked,
    /// It did not reply in time, or replied SERVFAIL or REFUSED.
    Failed,
    /// It replied that there is nothing of this name or type.
    Negative(Vec<u8>),
    /// It replied with an answer.
    Answer(Vec<u8>),
}

impl<'a> Race<'a> {
    /// Prepares the race. No server is asked yet.
    pub(super) fn new(
        query: &'a [u8],
        transport: Transport,
        upstream: &'a Upstream,
        inside: Option<&'a Inside>,
        scratch: &'a RefCell<Box<[u8]>>,
    ) -> Self {
        // A server in the container may send the query back to netbpf. Forwarding it again would be an endless loop.
        let is_circle = inside.is_some_and(|inside| inside.is_asking(query));
        let turns = if is_circle { Vec::new() } else { upstream.turns(now()) };
        Self {
            query,
            transport,
            upstream,
            inside,
            scratch,
            turns: turns.into_iter().map(|turn| (turn, Verdict::Unasked)).collect(),
            running: FuturesUnordered::new(),
        }
    }

    /// Asks servers and returns the reply that counts; `None` if every server fails.
    pub(super) async fn reply(&mut self) -> Option<Vec<u8>> {
        let at_once = (0..self.turns.len()).filter(|&rank| rank == 0 || self.turns[rank].0.at_once);
        at_once.collect::<Vec<_>>().into_iter().for_each(|rank| self.ask(rank));
        let (mut doubt, mut next) = (pin!(sleep(NEGATIVE_DELAY)), pin!(sleep(HEAD_START)));
        loop {
            if let Some(decided) = self.decided(doubt.is_elapsed()) {
                return decided;
            }
            let unasked = self.turns.iter().position(|(_, verdict)| matches!(verdict, Verdict::Unasked));
            let has_failed = tokio::select! {
                Some((rank, verdict)) = self.running.next() => {
                    let has_failed = matches!(verdict, Verdict::Failed);
                    self.turns[rank].1 = verdict;
                    has_failed
                }
                () = &mut next, if unasked.is_some() => true,
                () = &mut doubt, if !doubt.is_elapsed() => false,
            };
            if let Some(unasked) = unasked.filter(|_| has_failed) {
                self.ask(unasked);
                next.as_mut().reset(Instant::now() + HEAD_START);
            }
        }
    }

    /// Waits for the servers that have not replied, to learn which of them are silent.
    pub(super) async fn end(mut self) {
        while self.running.next().await.is_some() {}
    }

    /// The result, once it is certain.
    fn decided(&mut self, is_late: bool) -> Option<Option<Vec<u8>>> {
        for (_, verdict) in &mut self.turns {
            if let Verdict::Answer(reply) = verdict {
                return Some(Some(mem::take(reply)));
            }
        }
        for (_, verdict) in &mut self.turns {
            match verdict {
                Verdict::Negative(reply) => return Some(Some(mem::take(reply))),
                Verdict::Failed => {}
                Verdict::Unasked | Verdict::Asked | Verdict::Answer(_) if is_late => {}
                Verdict::Unasked | Verdict::Asked | Verdict::Answer(_) => return None,
            }
        }
        let all_failed = self.turns.iter().all(|(_, verdict)| matches!(verdict, Verdict::Failed));
        all_failed.then_some(None)
    }

    fn ask(&mut self, rank: usize) {
        let Self { query, transport, upstream, inside, scratch, .. } = *self;
        let server = self.turns[rank].0.server;
        self.turns[rank].1 = Verdict::Asked;
        // The ID and the source port are random: who forges a reply must guess both.
        let mut asked = query.to_vec();
        message::set_id(&mut asked, rand::random());
        let exchange = async move {
            let lent = match inside {
                Some(inside) => match inside.borrow(&asked).await {
                    Ok(lent) => Some(lent),
                    // All sockets are in use. That is not the server's fault.
                    Err(_) => return (rank, Verdict::Failed),
                },
                None => None,
            };
            let since = now();
            let exchange = async {
                match (transport, &lent) {
                    (Transport::Udp, None) => by_udp(&asked, connected(server).await?, scratch).await,
                    (Transport::Udp, Some(lent)) => by_udp(&asked, lent.udp(server).await?, scratch).await,
                    (Transport::Tcp, None) => by_tcp(&asked, TcpStream::connect(server).await?).await,
                    (Transport::Tcp, Some(lent)) => by_tcp(&asked, lent.tcp(server).await?).await,
                }
            };
            let verdict = match timeout(TIMEOUT, exchange).await {
                Ok(Ok(mut reply)) => {
                    upstream.heard(server, now());
                    if let Some(id) = query.first_chunk() {
                        message::set_id(&mut reply, *id);
                    }
                    classify(reply)
                }
                Ok(Err(_)) | Err(_) => {
                    // A server that fails quickly costs no time, so it keeps its place.
                    if since.elapsed() >= HEAD_START {
                        upstream.unheard(server, since, now());
                    }
                    Verdict::Failed
                }
            };
            (rank, verdict)
        };
        self.running.push(exchange.boxed_local());
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn classify(reply: Vec<u8>) -> Verdict {
    match message::code(&reply) {
        None | Some(ResponseCode::ServFail | ResponseCode::Refused) => Verdict::Failed,
        _ if message::has_answer(&reply) => Verdict::Answer(reply),
        Some(_) => Verdict::Negative(reply),
    }
}

async fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    Ok(socket)
}

async fn by_udp(query: &[u8], socket: UdpSocket, scratch: &RefCell<Box<[u8]>>) -> io::Result<Vec<u8>> {
    socket.send(query).await?;
    let mut lost = interval_at(Instant::now() + RESEND_AFTER, RESEND_AFTER);
    loop {
        let ready = tokio::select! {
            ready = socket.ready(Interest::READABLE | Interest::ERROR) => ready?,
            _ = lost.tick() => {
                socket.send(query).await?;
                continue;
            }
        };
        if ready.is_error() {
            // An ICMP error: nobody listens there, so do not wait.
            return Err(socket.take_error()?.unwrap_or(io::ErrorKind::ConnectionRefused.into()));
        }
        let buffer = &mut *scratch.borrow_mut();
        match socket.try_recv(buffer) {
            Ok(length) if message::answers(query, &buffer[..length]) => return Ok(buffer[..length].to_vec()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn by_tcp(query: &[u8], mut stream: TcpStream) -> io::Result<Vec<u8>> {
    stream.write_all(&framed(query)).await?;
    let mut reply = Vec::new();
    read_framed(&mut stream, &mut reply).await?;
    if message::answers(query, &reply) { Ok(reply) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// A message in TCP format: its length in two bytes before it, in network byte order.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    // Longer messages do not exist: each was read with such a length or written within a limit.
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), &message[..length.into()]].concat()
}

/// Reads a message in TCP format to `message`, in place of its content.
pub(super) async fn read_framed(
    stream: &mut (impl AsyncRead + Unpin),
    message: &mut Vec<u8>,
) -> io::Result<()> {
    let length = stream.read_u16().await?;
    message.clear();
    let read = stream.take(length.into()).read_to_end(message).await?;
    if read == usize::from(length) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
