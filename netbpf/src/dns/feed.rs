//! The daemon's side of the name responder: sends it all records. The feed holds the full state, sockets included, so a
//! responder that dies is back with all of it within 200 ms. It also takes over a responder that outlived an earlier
//! daemon. Must not know where records come from.

use std::{
    collections::{BTreeMap, HashMap},
    io, iter,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    control::{Greeting, Held, KIND, Pair, Request},
    record::Record,
};
use crate::{
    confined::{self, Handle, Keeper, LARGEST_PACKET, Message, Obey, Received, Response, State, encode},
    model::Id,
};

/// The port of the responder if nothing maps it.
const DNS_PORT: u16 = 53;

/// Why the responder could not be informed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The responder did not start or does not answer.
    #[error(transparent)]
    Responder(#[from] confined::Error),
    /// A container's record is larger than a packet of the control socket.
    #[error(
        "container {container} has too many names: its record has {size} bytes, the limit is {LARGEST_PACKET}"
    )]
    TooLarge {
        /// The short ID of the container.
        container: String,
        /// The size of its record in bytes.
        size: usize,
    },
    /// The feed was stopped.
    #[error(transparent)]
    Ended(#[from] confined::Ended),
}

/// A container's sockets, opened in its network namespace.
#[derive(Debug)]
pub struct Sockets {
    /// Receives its queries over UDP.
    pub udp: std::net::UdpSocket,
    /// Accepts its connections for queries over TCP.
    pub tcp: std::net::TcpListener,
    /// Unconnected pairs, UDP first, from which its own servers ([`super::Servers::Inside`]) are asked.
    pub lent: Vec<Pair>,
}

impl Sockets {
    /// The port where the responder listens.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.udp.local_addr()?.port())
    }
}

/// A handle on the feed. When the last handle is dropped, the feed ends and the responder goes on.
#[derive(Clone)]
pub struct Feed {
    handle: Handle<Known>,
    /// The containers whose sockets were taken over, until they are added or removed.
    held: Arc<Mutex<HashMap<Id, TakenOver>>>,
}

/// Sockets that were taken over.
#[derive(Clone)]
struct TakenOver {
    port: u16,
    has_lent: bool,
    socket: Arc<OwnedFd>,
}

/// A change of the responder's state.
pub(super) enum Order {
    Upsert(Id, Vec<u8>, Option<Sockets>),
    Remove(Id),
    HostServers(Vec<SocketAddr>),
    Settle,
}

impl Feed {
    /// Takes over the responder that runs for this folder, or starts `exe` as a new one. A responder that is taken over
    /// keeps its records until [`Feed::settle`]. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Responder`] if `exe` cannot be started as a responder, or a new one does not take its records. None
    /// runs then.
    pub async fn start(exe: &Path, run_dir: &Path) -> Result<Self, Error> {
        let mut keeper = Keeper::adopt(&KIND, exe, run_dir, Known::default()).await;
        match keeper.is_running() {
            true => keeper.tell([Message::new(&Request::Begin)]).await?,
            false => keeper.revive().await?,
        }
        let held = keeper.state.adopted.iter().filter_map(|(id, held)| {
            let [udp, _] = &held.serve;
            let udp = std::net::UdpSocket::from(udp.try_clone().ok()?);
            let port = udp.local_addr().ok()?.port();
            let socket = Arc::new(OwnedFd::from(udp));
            Some((*id, TakenOver { port, has_lent: !held.lent.is_empty(), socket }))
        });
        let held = Arc::new(Mutex::new(held.collect()));
        Ok(Self { handle: Handle::spawn(keeper), held })
    }

    /// A socket where the responder that was taken over listens for this container, until it is added or removed.
    pub fn held_socket(&self, container: Id) -> Option<Arc<OwnedFd>> {
        self.held().get(&container).map(|held| Arc::clone(&held.socket))
    }

    /// The port where the responder that was taken over listens for this container, if it is the wanted one, or any but 53 if
    /// none is wanted. None if it is not, or if some of the sockets that the container needs are missing: the caller opens
    /// new ones. Sockets that would be in their way are closed; others answer until there are new ones.
    ///
    /// # Errors
    /// [`Error::Responder`] or [`Error::Ended`] if the sockets that it has cannot be closed; as of [`Feed::remove`].
    pub async fn held_port(&self, record: &Record, wanted: Option<u16>) -> Result<Option<u16>, Error> {
        let Some(held) = self.held().get(&record.container).cloned() else { return Ok(None) };
        let is_right = wanted.map_or(held.port != DNS_PORT, |wanted| wanted == held.port);
        match is_right && (held.has_lent || !record.asks_inside()) {
            true => return Ok(Some(held.port)),
            false if wanted == Some(held.port) => self.remove(record.container).await?,
            false => {}
        }
        Ok(None)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Id, TakenOver>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds or replaces a container; its names can be resolved on return. Without `sockets` the container keeps those
    /// it has; if it has none, others can resolve it, but it cannot ask. After an error the feed keeps trying;
    /// [`Feed::remove`] undoes the call.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Ended`] after [`Feed::stop`]: nothing was changed. [`Error::Responder`] if neither
    /// the responder nor a new one takes the record.
    pub async fn upsert(&self, record: Record, sockets: Option<Sockets>) -> Result<(), Error> {
        let container = record.container;
        self.held().remove(&container);
        let request = encode(&Request::Upsert(record));
        if request.len() > LARGEST_PACKET {
            return Err(Error::TooLarge { container: container.short(), size: request.len() });
        }
        self.handle.order(Order::Upsert(container, request, sockets)).await
    }

    /// Removes a container and closes its sockets. Open sockets keep a network namespace alive, so call this before
    /// waiting for the namespace's end.
    ///
    /// # Errors
    /// [`Error::Responder`] if neither the responder nor a new one answers: the one that starts next does not have the
    /// container. [`Error::Ended`] after [`Feed::stop`].
    pub async fn remove(&self, container: Id) -> Result<(), Error> {
        self.held().remove(&container);
        self.handle.order(Order::Remove(container)).await
    }

    /// Sets the host's resolvers.
    ///
    /// # Errors
    /// [`Error::Responder`] if neither the responder nor a new one answers: the one that starts next gets them.
    /// [`Error::Ended`] after [`Feed::stop`].
    pub async fn set_host_servers(&self, servers: Vec<SocketAddr>) -> Result<(), Error> {
        self.handle.order(Order::HostServers(servers)).await
    }

    /// Tells the responder that all running containers are known now: it removes the others.
    ///
    /// # Errors
    /// [`Error::Responder`] if neither the responder nor a new one answers; [`Error::Ended`] after [`Feed::stop`].
    pub async fn settle(&self) -> Result<(), Error> {
        self.held().clear();
        self.handle.order(Order::Settle).await
    }

    /// Ends the responder.
    ///
    /// # Errors
    /// [`Error::Ended`] if it was stopped before. A responder that does not answer is killed.
    pub async fn stop(&self) -> Result<(), Error> {
        self.handle.stop().await
    }
}

/// A known container.
struct Entry {
    /// The encoded request that adds it.
    request: Vec<u8>,
    sockets: Option<Arc<Held>>,
}

/// The full state of the responder.
#[derive(Default)]
struct Known {
    containers: BTreeMap<Id, Arc<Entry>>,
    host_servers: Vec<SocketAddr>,
    /// The sockets of a responder that was taken over, of containers that have not been added yet.
    adopted: HashMap<Id, Held>,
}

impl State for Known {
    type Held = Greeting;

    fn adopt(&mut self, held: Greeting, sockets: &mut Received<Response<Greeting>>) -> io::Result<()> {
        match held {
            Greeting::Held(container) => {
                self.adopted.insert(container, Held { serve: sockets.sockets()?, lent: Vec::new() });
            }
            Greeting::Lent(container) => {
                let pair = sockets.sockets()?;
                self.adopted.get_mut(&container).map(|held| held.lent.push(pair)).unwrap_or_default();
            }
        }
        Ok(())
    }

    fn everything(&self) -> Vec<Message<'_>> {
        let servers = Message::new(&Request::HostServers(self.host_servers.clone()));
        let records = self.containers.values().map(|entry| Message::encoded(&entry.request));
        let sockets = self.containers.iter().flat_map(|(&container, entry)| {
            entry.sockets.iter().flat_map(move |held| serve(container, held))
        });
        // Send all names before the first socket: a container with a socket can ask at once.
        iter::once(servers).chain(records).chain(sockets).collect()
    }
}

impl Obey for Known {
    type Order = Order;
    type Error = Error;

    fn needs_process(&self) -> bool {
        true
    }

    fn last_request() -> Message<'static> {
        Message::new(&Request::Stop)
    }

    async fn perform(keeper: &mut Keeper<Self>, order: Order) -> Result<(), Error> {
        let is_adopted = keeper.is_adopted();
        let known = &mut keeper.state;
        match order {
            Order::Upsert(container, request, sockets) => {
                let (sockets, new) = match (sockets, known.containers.get(&container)) {
                    (Some(sockets), _) => {
                        let serve = [sockets.udp.into(), sockets.tcp.into()];
                        (Some(Arc::new(Held { serve, lent: sockets.lent })), true)
                    }
                    (None, Some(entry)) if entry.sockets.is_some() => (entry.sockets.clone(), false),
                    (None, _) => (known.adopted.remove(&container).map(Arc::new), !is_adopted),
                };
                let entry = Arc::new(Entry { request, sockets });
                known.containers.insert(container, Arc::clone(&entry));
                let sockets = entry.sockets.as_ref().filter(|_| new).map(|held| serve(container, held));
                let sockets = sockets.into_iter().flatten();
                keeper.tell(iter::once(Message::encoded(&entry.request)).chain(sockets)).await?;
            }
            Order::Remove(container) => {
                known.containers.remove(&container);
                known.adopted.remove(&container);
                keeper.tell([Message::new(&Request::Remove(container))]).await?;
            }
            Order::HostServers(servers) => {
                known.host_servers.clone_from(&servers);
                keeper.tell([Message::new(&Request::HostServers(servers))]).await?;
            }
            Order::Settle => {
                known.adopted.clear();
                keeper.tell([Message::new(&Request::End)]).await?;
            }
        }
        Ok(())
    }
}

fn serve(container: Id, sockets: &Held) -> Vec<Message<'_>> {
    let lent = sockets.lent.iter().map(|pair| (Request::Lend(container), pair));
    iter::once((Request::Serve(container), &sockets.serve))
        .chain(lent)
        .map(|(request, [udp, tcp])| Message::new(&request).with([udp.as_fd(), tcp.as_fd()]))
        .collect()
}
