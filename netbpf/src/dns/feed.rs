//! The daemon's side of the name responder: keeps it informed. The feed holds the full state, sockets included, so that a
//! responder that dies is back with all of it within 200 ms, and takes over one that outlived an earlier daemon. It must
//! not know where records come from.

use std::{
    collections::{BTreeMap, HashMap},
    io, iter,
    net::SocketAddr,
    os::fd::AsFd,
    path::Path,
    sync::Arc,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    control::{Greeting, Held, KIND, Pair, Request},
    record::Record,
};
use crate::{
    confined::{self, Keeper, LARGEST_PACKET, Message, Received, Response, State, encode},
    model::Id,
};

/// Why names are not as they should be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The responder did not start or does not obey.
    #[error(transparent)]
    Responder(#[from] confined::Error),
    /// A record that no packet holds.
    #[error(
        "container {container} has too many names: its record has {size} bytes, at most {LARGEST_PACKET} pass"
    )]
    TooLarge {
        /// The container.
        container: String,
        /// The size of its record.
        size: usize,
    },
    /// The feed has ended.
    #[error("the feed of the name responder has ended")]
    Ended,
}

/// A container's sockets, all of its network namespace.
#[derive(Debug)]
pub struct Sockets {
    /// For datagrams: it asks there.
    pub udp: std::net::UdpSocket,
    /// For connections: it asks there.
    pub tcp: std::net::TcpListener,
    /// Unconnected ones, UDP first, through which its [`super::Servers::Inside`] are asked.
    pub lent: Vec<Pair>,
}

/// A handle on the feed. The last one to go ends the feed and leaves the responder as it is.
#[derive(Clone)]
pub struct Feed {
    commands: mpsc::Sender<Command>,
    /// Containers whose sockets it took over, and whether some of these are lent.
    held: Arc<HashMap<Id, bool>>,
}

struct Command {
    order: Order,
    done: oneshot::Sender<Result<(), Error>>,
}

enum Order {
    Upsert(Id, Vec<u8>, Option<Sockets>),
    Remove(Id),
    HostServers(Vec<SocketAddr>),
    Settle,
    Stop,
}

impl Feed {
    /// Takes over the responder that runs for this folder, or starts `exe` as one. What it knows stays until
    /// [`Feed::settle`]. Needs a tokio runtime.
    pub async fn start(exe: &Path, run_dir: &Path) -> Result<Self, Error> {
        let mut keeper = Keeper::adopt(&KIND, exe, run_dir, Known::default()).await;
        match keeper.is_running() {
            true => keeper.tell([Message::new(&Request::Begin)]).await?,
            false => keeper.revive().await?,
        }
        let held = keeper.state.adopted.iter().map(|(id, held)| (*id, !held.lent.is_empty()));
        let held = Arc::new(held.collect());
        let (commands, mut orders) = mpsc::channel(64);
        tokio::spawn(async move { keep(&mut keeper, &mut orders).await });
        Ok(Self { commands, held })
    }

    /// Whether the responder that was taken over has all sockets that this container needs. Else they have to be
    /// opened, and what it has of them is closed.
    pub async fn holds(&self, record: &Record) -> Result<bool, Error> {
        match self.held.get(&record.container) {
            Some(has_lent) if *has_lent || !record.asks_inside() => Ok(true),
            Some(_) => self.remove(record.container).await.map(|()| false),
            None => Ok(false),
        }
    }

    /// Takes in a container, new or changed; its names are live on return. Without `sockets` it keeps those it has;
    /// a container that never had any is named to others and asks nothing. After an error the feed goes on trying to
    /// have it known; [`Feed::remove`] takes it back.
    pub async fn upsert(&self, record: Record, sockets: Option<Sockets>) -> Result<(), Error> {
        let container = record.container;
        let request = encode(&Request::Upsert(record));
        if request.len() > LARGEST_PACKET {
            return Err(Error::TooLarge { container: container.short(), size: request.len() });
        }
        self.order(Order::Upsert(container, request, sockets)).await
    }

    /// Forgets a container and closes its sockets. Sockets keep a network namespace alive: this comes before anybody
    /// waits for that one to go.
    pub async fn remove(&self, container: Id) -> Result<(), Error> {
        self.order(Order::Remove(container)).await
    }

    /// The host's resolvers from now on.
    pub async fn set_host_servers(&self, servers: Vec<SocketAddr>) -> Result<(), Error> {
        self.order(Order::HostServers(servers)).await
    }

    /// Everything that runs has been named: what a responder from before knows beyond that is dropped.
    pub async fn settle(&self) -> Result<(), Error> {
        self.order(Order::Settle).await
    }

    /// Ends the responder.
    pub async fn stop(&self) -> Result<(), Error> {
        self.order(Order::Stop).await
    }

    async fn order(&self, order: Order) -> Result<(), Error> {
        let (done, outcome) = oneshot::channel();
        self.commands.send(Command { order, done }).await.map_err(|_| Error::Ended)?;
        outcome.await.map_err(|_| Error::Ended)?
    }
}

/// What is known of a container.
struct Entry {
    /// The request that says so, ready to be sent.
    request: Vec<u8>,
    sockets: Option<Arc<Held>>,
}

/// What the responder is told.
#[derive(Default)]
struct Known {
    containers: BTreeMap<Id, Arc<Entry>>,
    host_servers: Vec<SocketAddr>,
    /// Sockets that a responder from before had, of containers not named yet.
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
        // All names before the first socket: whoever asks now has been waiting for them.
        iter::once(servers).chain(records).chain(sockets).collect()
    }
}

/// Carries out orders and keeps the responder alive.
async fn keep(keeper: &mut Keeper<Known>, commands: &mut mpsc::Receiver<Command>) {
    loop {
        tokio::select! {
            command = commands.recv() => {
                let Some(Command { order, done }) = command else { return };
                let last = matches!(order, Order::Stop);
                // Who gave the order may have given up waiting.
                let _ = done.send(perform(keeper, order).await);
                if last {
                    return;
                }
            }
            () = keeper.lost() => keeper.restart().await,
        }
    }
}

async fn perform(keeper: &mut Keeper<Known>, order: Order) -> Result<(), Error> {
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
        Order::Stop => keeper.stop(Message::new(&Request::Stop)).await,
    }
    Ok(())
}

fn serve(container: Id, sockets: &Held) -> Vec<Message<'_>> {
    let lent = sockets.lent.iter().map(|pair| (Request::Lend(container), pair));
    iter::once((Request::Serve(container), &sockets.serve))
        .chain(lent)
        .map(|(request, [udp, tcp])| Message::new(&request).with([udp.as_fd(), tcp.as_fd()]))
        .collect()
}
