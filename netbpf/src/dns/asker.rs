//! One container's sockets: reads queries, answers what can be answered on the spot, passes the rest on. It must not
//! know the control socket.
//!
//! The runtime has one thread, so that what all askers share needs no lock and no buffer of its own per asker.

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

/// Queries of one asker that wait for other servers; more are refused.
const IN_FLIGHT: usize = 1024;
/// TCP connections of one asker; more wait.
const CONNECTIONS: usize = 64;
/// How long a TCP connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// How many datagrams of one asker are read before another has its turn.
const BATCH: usize = 64;
/// What a query over UDP may hold; nobody asks with more.
const LARGEST_QUERY: usize = 4096;

/// What all askers share.
pub(super) struct Shared {
    zone: RefCell<Zone>,
    upstreams: RefCell<HashMap<Id, Way>>,
    /// The host's resolvers.
    host: RefCell<Rc<Upstream>>,
    /// The ways to servers that only a container itself reaches.
    inside: RefCell<HashMap<Id, Rc<Inside>>>,
    workshop: RefCell<Workshop>,
    /// Room for the largest datagram.
    scratch: RefCell<Box<[u8]>>,
    /// How many queries on their way and TCP connections the descriptors suffice for: each may ask several servers.
    descriptors: Arc<Semaphore>,
}

/// Whom a container's queries are passed on to.
enum Way {
    /// The host's resolvers.
    Host,
    /// These servers, asked from the container's network namespace.
    Inside(Vec<SocketAddr>, Rc<Upstream>),
}

/// What it takes to answer, used by one asker at a time.
struct Workshop {
    query: Box<[u8]>,
    reply: Vec<u8>,
    answerer: Answerer,
}

impl Shared {
    /// Nothing known yet. `descriptors` may be open beside the askers' own sockets.
    pub(super) fn new(descriptors: usize) -> Self {
        Self {
            zone: RefCell::default(),
            upstreams: RefCell::default(),
            host: RefCell::default(),
            inside: RefCell::default(),
            workshop: RefCell::new(Workshop {
                query: vec![0; LARGEST_QUERY].into(),
                reply: Vec::new(),
                answerer: Answerer::default(),
            }),
            scratch: RefCell::new(vec![0; u16::MAX.into()].into()),
            descriptors: Arc::new(Semaphore::new(descriptors / upstream::MOST)),
        }
    }

    /// Takes in a container, in place of what was known of it.
    pub(super) fn insert(&self, record: &Record) {
        self.zone.borrow_mut().insert(record.container, &record.networks);
        let mut upstreams = self.upstreams.borrow_mut();
        let way = match (record.reachable_servers(), upstreams.remove(&record.container)) {
            (Servers::Host, _) => Way::Host,
            // What is known of them stays known.
            (Servers::Inside(new), Some(Way::Inside(old, upstream))) if old == new => {
                Way::Inside(old, upstream)
            }
            (Servers::Inside(servers), _) => {
                let upstream = Rc::new(Upstream::new(&servers));
                Way::Inside(servers, upstream)
            }
        };
        upstreams.insert(record.container, way);
    }

    /// Forgets a container.
    pub(super) fn remove(&self, container: Id) {
        self.zone.borrow_mut().remove(container);
        self.upstreams.borrow_mut().remove(&container);
        self.take_back(container);
    }

    /// Two more sockets of a container's network namespace.
    pub(super) fn lend(&self, container: Id, pair: Pair) {
        self.inside.borrow_mut().entry(container).or_default().add(pair);
    }

    /// The sockets that a container has lent are closed.
    pub(super) fn take_back(&self, container: Id) {
        self.inside.borrow_mut().remove(&container);
    }

    /// All sockets that are lent.
    pub(super) fn lent(&self) -> HashMap<Id, Vec<Rc<Pair>>> {
        self.inside.borrow().iter().map(|(container, inside)| (*container, inside.all())).collect()
    }

    /// The containers it knows.
    pub(super) fn containers(&self) -> Vec<Id> {
        self.zone.borrow().containers().collect()
    }

    /// The host's resolvers from now on.
    pub(super) fn set_host_servers(&self, servers: Vec<SocketAddr>) {
        *self.host.borrow_mut() = Rc::new(Upstream::new(&servers));
    }

    /// Whom a container's queries are passed on to, and from where. With nothing lent nobody is asked inside: the way
    /// from here may lead to somebody else of the same address.
    fn way_of(&self, asker: Id) -> (Rc<Upstream>, Option<Rc<Inside>>) {
        match self.upstreams.borrow().get(&asker) {
            Some(Way::Host) => (Rc::clone(&self.host.borrow()), None),
            Some(Way::Inside(_, upstream)) => {
                let inside = self.inside.borrow().get(&asker).cloned().unwrap_or_default();
                (Rc::clone(upstream), Some(inside))
            }
            None => Default::default(),
        }
    }

    fn answer(&self, asker: Id, query: &[u8], transport: Transport, reply: &mut Vec<u8>) -> Outcome {
        let Workshop { answerer, .. } = &mut *self.workshop.borrow_mut();
        answerer.answer(&self.zone.borrow(), asker, query, transport, &mut rand::rng(), reply)
    }
}

/// A container that may ask. Its sockets close when it goes.
pub(super) struct Asker {
    /// Its sockets.
    pub(super) udp: Rc<UdpSocket>,
    /// Its sockets.
    pub(super) tcp: Rc<TcpListener>,
    tasks: [JoinHandle<()>; 2],
}

impl Asker {
    /// Answers on these sockets from now on.
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

    /// Stops answering; returns when the sockets are closed.
    pub(super) async fn close(self) {
        for task in self.tasks {
            task.abort();
            // It was cancelled; a panic has ended the process already.
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

/// Reads until nothing is left (`Break`) or others have waited long enough (`Continue`).
async fn read_batch(
    asker: Id,
    socket: &Rc<UdpSocket>,
    shared: &Rc<Shared>,
    in_flight: &mut JoinSet<()>,
) -> ControlFlow<()> {
    for _ in 0..BATCH {
        let (envelope, query, client) = {
            let Workshop { query, reply, answerer } = &mut *shared.workshop.borrow_mut();
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

/// Sends a datagram. A client that cannot be reached, or does not read, asks again.
fn reply_to(socket: &UdpSocket, reply: &[u8], client: SocketAddr) {
    if !reply.is_empty() {
        let _ = socket.try_send_to(reply, client);
    }
}

/// The socket is not kept open for a reply: the container may be gone before it comes.
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
    let (upstream, inside) = shared.way_of(asker);
    let mut race = Race::new(&query, Transport::Udp, &upstream, inside.as_deref(), &shared.scratch);
    answer(&passed_back(race.reply().await, &envelope, Transport::Udp));
    race.end().await;
}

/// What another server says, or that none does, fit for the client.
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
                            // The client is gone, silent or talks nonsense: the connection ends.
                            let _ = serve_connection(asker, stream, &shared).await;
                        }
                    });
                }
                // The client is gone already, or descriptors are short: neither ends the listener.
                Err(_) => sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Query after query; after the first that is cut short nothing more can be made out.
async fn serve_connection(asker: Id, mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let (mut query, mut reply) = (Vec::new(), Vec::new());
    loop {
        timeout(IDLE, forward::read_framed(&mut stream, &mut query)).await??;
        match shared.answer(asker, &query, Transport::Tcp, &mut reply) {
            Outcome::Ignored => continue,
            Outcome::Answered => {}
            Outcome::PassedOn(envelope) => {
                let (upstream, inside) = shared.way_of(asker);
                let mut race =
                    Race::new(&query, Transport::Tcp, &upstream, inside.as_deref(), &shared.scratch);
                reply = passed_back(race.reply().await, &envelope, Transport::Tcp);
            }
        }
        timeout(IDLE, stream.write_all(&forward::framed(&reply))).await??;
    }
}
