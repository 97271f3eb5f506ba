//! The query sockets of one container: reads queries, answers those that netbpf can answer, forwards the rest. Must not
//! know the control socket.
//!
//! The runtime has one thread, so the askers share state and buffers without locks.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::SocketAddr,
    ops::ControlFlow,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use hickory_proto::op::ResponseCode;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::{JoinHandle, JoinSet, spawn_local, yield_now},
    time::{sleep, timeout},
};

use super::{
    answer::{Answerer, Outcome},
    control::Pair,
    forward::{self, Race},
    inside::Inside,
    message::{Envelope, Reply, Transport},
    record::{Record, Servers},
    upstream::{self, Upstream},
    zone::Zone,
};
use crate::model::Id;

/// The maximum number of forwarded UDP queries of one asker; more are refused.
const IN_FLIGHT: usize = 1024;
/// The maximum number of TCP connections of one asker; more must wait.
const CONNECTIONS: usize = 64;
/// How long a TCP connection may be idle.
const IDLE: Duration = Duration::from_secs(10);
/// How many datagrams of one asker are read before another one's.
const BATCH: usize = 64;
/// The largest UDP query in bytes; real ones are smaller.
const LARGEST_QUERY: usize = 4096;

/// The state that all askers share.
pub(super) struct Shared {
    zone: RefCell<Zone>,
    forwarding: RefCell<HashMap<Id, Forwarding>>,
    /// The host's resolvers.
    host: RefCell<Rc<Upstream>>,
    /// Lent sockets, by container.
    inside: RefCell<HashMap<Id, Rc<Inside>>>,
    buffers: RefCell<Buffers>,
    /// A buffer for the largest datagram.
    scratch: RefCell<Box<[u8]>>,
    /// One permit for each forwarded UDP query and TCP connection. Each of them may open a socket for several servers.
    descriptors: Arc<Semaphore>,
}

/// The servers to which a container's queries are forwarded.
enum Forwarding {
    /// The host's resolvers.
    Host,
    /// These servers, asked from the container's network namespace.
    Inside(Vec<SocketAddr>, Rc<Upstream>),
}

/// Buffers for an answer, used by one asker at a time.
struct Buffers {
    query: Box<[u8]>,
    reply: Vec<u8>,
    answerer: Answerer,
}

impl Shared {
    /// An empty state. `descriptors`: how many may be open beside the askers' own sockets.
    pub(super) fn new(descriptors: usize) -> Self {
        Self {
            zone: RefCell::default(),
            forwarding: RefCell::default(),
            host: RefCell::default(),
            inside: RefCell::default(),
            buffers: RefCell::new(Buffers {
                query: vec![0; LARGEST_QUERY].into(),
                reply: Vec::new(),
                answerer: Answerer::default(),
            }),
            scratch: RefCell::new(vec![0; u16::MAX.into()].into()),
            descriptors: Arc::new(Semaphore::new(descriptors / upstream::MAX_SERVERS)),
        }
    }

    /// Adds or replaces a container.
    pub(super) fn insert(&self, record: &Record) {
        self.zone.borrow_mut().insert(record.container, &record.networks);
        let mut upstreams = self.forwarding.borrow_mut();
        let forwarding = match (record.reachable_servers(), upstreams.remove(&record.container)) {
            (Servers::Host, _) => Forwarding::Host,
            // The same servers: keep what is known about them.
            (Servers::Inside(new), Some(Forwarding::Inside(old, upstream))) if old == new => {
                Forwarding::Inside(old, upstream)
            }
            (Servers::Inside(servers), _) => {
                let upstream = Rc::new(Upstream::new(&servers));
                Forwarding::Inside(servers, upstream)
            }
        };
        upstreams.insert(record.container, forwarding);
    }

    /// Removes a container.
    pub(super) fn remove(&self, container: Id) {
        self.zone.borrow_mut().remove(container);
        self.forwarding.borrow_mut().remove(&container);
        self.take_back(container);
    }

    /// Adds two sockets of a container's network namespace.
    pub(super) fn lend(&self, container: Id, pair: Pair) {
        self.inside.borrow_mut().entry(container).or_default().add(pair);
    }

    /// Closes the lent sockets of a container.
    pub(super) fn take_back(&self, container: Id) {
        self.inside.borrow_mut().remove(&container);
    }

    /// All lent sockets.
    pub(super) fn lent(&self) -> HashMap<Id, Vec<Rc<Pair>>> {
        self.inside.borrow().iter().map(|(container, inside)| (*container, inside.all())).collect()
    }

    /// All known containers.
    pub(super) fn containers(&self) -> Vec<Id> {
        self.zone.borrow().containers().collect()
    }

    /// Sets the host's resolvers.
    pub(super) fn set_host_servers(&self, servers: Vec<SocketAddr>) {
        *self.host.borrow_mut() = Rc::new(Upstream::new(&servers));
    }

    /// The servers for a container's queries, and the sockets to ask them from. Servers of its own are never asked from
    /// the host's namespace, because the address may belong to another host there.
    fn servers_of(&self, asker: Id) -> (Rc<Upstream>, Option<Rc<Inside>>) {
        match self.forwarding.borrow().get(&asker) {
            Some(Forwarding::Host) => (Rc::clone(&self.host.borrow()), None),
            Some(Forwarding::Inside(_, upstream)) => {
                let inside = self.inside.borrow().get(&asker).cloned().unwrap_or_default();
                (Rc::clone(upstream), Some(inside))
            }
            None => Default::default(),
        }
    }

    fn answer(&self, asker: Id, query: &[u8], transport: Transport, reply: &mut Vec<u8>) -> Outcome {
        let Buffers { answerer, .. } = &mut *self.buffers.borrow_mut();
        answerer.answer(&self.zone.borrow(), asker, query, transport, &mut rand::rng(), reply)
    }
}

/// A container that can send queries. Its sockets are closed when the value is dropped.
pub(super) struct Asker {
    /// Its UDP socket.
    pub(super) udp: Rc<UdpSocket>,
    /// Its TCP listener.
    pub(super) tcp: Rc<TcpListener>,
    tasks: [JoinHandle<()>; 2],
}

impl Asker {
    /// Starts to answer on these sockets.
    pub(super) fn new(
        container: Id,
        udp: std::net::UdpSocket,
        tcp: std::net::TcpListener,
        shared: &Rc<Shared>,
    ) -> io::Result<Self> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let (udp, tcp) = (Rc::new(UdpSocket::from_std(udp)?), Rc::new(TcpListener::from_std(tcp)?));
        let tasks = [
            spawn_local(serve_udp(container, Rc::clone(&udp), Rc::clone(shared))),
            spawn_local(serve_tcp(container, Rc::clone(&tcp), Rc::clone(shared))),
        ];
        Ok(Self { udp, tcp, tasks })
    }

    /// Stops answering. The sockets are closed on return.
    pub(super) async fn close(self) {
        for task in self.tasks {
            task.abort();
            // Cancelled; a panic would have ended the process.
            let _ = task.await;
        }
    }
}

async fn serve_udp(asker: Id, socket: Rc<UdpSocket>, shared: Rc<Shared>) {
    let mut in_flight = JoinSet::new();
    loop {
        tokio::select! {
            ready = socket.readable() => {
                if ready.is_err() || read_batch(asker, &socket, &shared, &mut in_flight).await.is_continue() {
                    yield_now().await;
                }
            }
            Some(_) = in_flight.join_next() => {}
        }
    }
}

/// Reads until no datagram is left (`Break`), or until other askers must get their turn (`Continue`).
async fn read_batch(
    asker: Id,
    socket: &Rc<UdpSocket>,
    shared: &Rc<Shared>,
    in_flight: &mut JoinSet<()>,
) -> ControlFlow<()> {
    for _ in 0..BATCH {
        let (envelope, query, client) = {
            let Buffers { query, reply, answerer } = &mut *shared.buffers.borrow_mut();
            let (length, client) = match socket.try_recv_from(query) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return ControlFlow::Break(()),
                // An ICMP error for an earlier reply.
                Err(_) => continue,
            };
            let (query, zone) = (&query[..length], shared.zone.borrow());
            match answerer.answer(&zone, asker, query, Transport::Udp, &mut rand::rng(), reply) {
                Outcome::Ignored => continue,
                Outcome::PassedOn(envelope) if in_flight.len() < IN_FLIGHT => {
                    (envelope, query.to_vec(), client)
                }
                Outcome::PassedOn(envelope) => {
                    envelope.reply(&Reply::empty(ResponseCode::Refused), Transport::Udp, reply);
                    reply_to(socket, reply, client);
                    continue;
                }
                Outcome::Answered => {
                    reply_to(socket, reply, client);
                    continue;
                }
            }
        };
        let (socket, shared) = (Rc::downgrade(socket), Rc::clone(shared));
        in_flight.spawn_local(pass_on_udp(asker, query, envelope, client, socket, shared));
    }
    ControlFlow::Continue(())
}

/// Sends a datagram. Ignores errors: a client that misses a reply asks again.
fn reply_to(socket: &UdpSocket, reply: &[u8], client: SocketAddr) {
    if !reply.is_empty() {
        let _ = socket.try_send_to(reply, client);
    }
}

/// Holds the socket weakly: the container may be gone before a reply comes.
async fn pass_on_udp(
    asker: Id,
    query: Vec<u8>,
    envelope: Envelope,
    client: SocketAddr,
    socket: Weak<UdpSocket>,
    shared: Rc<Shared>,
) {
    let answer = |reply: &[u8]| {
        if let Some(socket) = socket.upgrade() {
            reply_to(&socket, reply, client);
        }
    };
    let Ok(_permit) = shared.descriptors.try_acquire() else {
        let mut reply = Vec::new();
        envelope.reply(&Reply::empty(ResponseCode::Refused), Transport::Udp, &mut reply);
        return answer(&reply);
    };
    let (upstream, inside) = shared.servers_of(asker);
    let mut race = Race::new(&query, Transport::Udp, &upstream, inside.as_deref(), &shared.scratch);
    answer(&passed_back(race.reply().await, &envelope, Transport::Udp));
    race.end().await;
}

/// The reply for the client: the server's, or one that says that it is too large or that there is none.
fn passed_back(reply: Option<Vec<u8>>, envelope: &Envelope, transport: Transport) -> Vec<u8> {
    let mut out = Vec::new();
    match reply {
        Some(reply) if reply.len() <= envelope.passed_on_limit(transport) => return reply,
        Some(_) => {
            let cut = Reply { truncated: true, ..Reply::empty(ResponseCode::NoError) };
            envelope.reply(&cut, transport, &mut out);
        }
        None => envelope.reply(&Reply::empty(ResponseCode::ServFail), transport, &mut out),
    }
    out
}

async fn serve_tcp(asker: Id, listener: Rc<TcpListener>, shared: Rc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let shared = Rc::clone(&shared);
                    connections.spawn_local(async move {
                        if let Ok(_permit) = shared.descriptors.try_acquire() {
                            // An error means that the client is gone, idle or sends nonsense: the connection ends.
                            let _ = serve_connection(asker, stream, &shared).await;
                        }
                    });
                }
                // The client is gone already, or there are no descriptors: go on listening in both cases.
                Err(_) => sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers queries one after another. After an incomplete message the next one cannot be found, so the connection ends.
async fn serve_connection(asker: Id, mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let (mut query, mut reply) = (Vec::new(), Vec::new());
    loop {
        timeout(IDLE, forward::read_framed(&mut stream, &mut query)).await??;
        match shared.answer(asker, &query, Transport::Tcp, &mut reply) {
            Outcome::Ignored => continue,
            Outcome::Answered => {}
            Outcome::PassedOn(envelope) => {
                let (upstream, inside) = shared.servers_of(asker);
                let mut race =
                    Race::new(&query, Transport::Tcp, &upstream, inside.as_deref(), &shared.scratch);
                reply = passed_back(race.reply().await, &envelope, Transport::Tcp);
            }
        }
        timeout(IDLE, stream.write_all(&forward::framed(&reply))).await??;
    }
}
