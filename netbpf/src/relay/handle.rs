//! The daemon's side of the relay: has one run while there is something to relay, and keeps it told. It must not know
//! why a port is relayed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::{
    control::{KIND, Place, Port, Request},
    socket,
};
use crate::confined::{self, Keeper, Message, Received, Response, State};

/// Why a port is not relayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The relay did not start or does not obey.
    #[error(transparent)]
    Process(#[from] confined::Error),
    /// A socket does not take clients.
    #[error("take clients at {address}: {source}")]
    Socket {
        /// The port of the host.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The handle's other end is gone.
    #[error("the keeper of the relay has ended")]
    Ended,
}

/// A handle on the relay. The last one to go leaves the relay as it is.
#[derive(Clone)]
pub struct Relay {
    commands: mpsc::Sender<Command>,
}

struct Command {
    order: Order,
    done: oneshot::Sender<Result<(), Error>>,
}

enum Order {
    Serve(Vec<(Port, OwnedFd)>),
    Close(Vec<Place>),
    /// No others than these.
    Keep(Vec<Place>),
    Stop,
}

impl Relay {
    /// Takes over the relay that runs for this folder, if there is one; else `exe` is started as one when it is needed.
    /// Returns the sockets that it has, too. Needs a tokio runtime.
    pub async fn start(exe: &Path, run_dir: &Path) -> (Self, Vec<(Place, OwnedFd)>) {
        let mut keeper = Keeper::adopt(&KIND, exe, run_dir, Known::default()).await;
        let known = &mut keeper.state;
        let held = known.ports.iter().map(|(at, entry)| Ok((*at, entry.socket.try_clone()?)));
        let held = held.collect::<io::Result<_>>().unwrap_or_else(|error| {
            warn!(%error, "take over the relay's sockets");
            Vec::new()
        });
        let (commands, mut orders) = mpsc::channel(64);
        tokio::spawn(async move { keep(&mut keeper, &mut orders).await });
        (Self { commands }, held)
    }

    /// Relays ports; they take clients on return. A port that is relayed to another place is moved there. All or none.
    pub async fn serve(&self, ports: Vec<(Port, OwnedFd)>) -> Result<(), Error> {
        self.order(Order::Serve(ports)).await
    }

    /// Relays ports no more. On return nothing here has their sockets any more, and their clients lose theirs.
    pub async fn close(&self, places: Vec<Place>) -> Result<(), Error> {
        self.order(Order::Close(places)).await
    }

    /// Relays no other ports than these: what a relay from before has beyond them is closed.
    pub async fn keep(&self, places: Vec<Place>) -> Result<(), Error> {
        self.order(Order::Keep(places)).await
    }

    /// Ends the relay.
    pub async fn stop(&self) -> Result<(), Error> {
        self.order(Order::Stop).await
    }

    async fn order(&self, order: Order) -> Result<(), Error> {
        let (done, outcome) = oneshot::channel();
        self.commands.send(Command { order, done }).await.map_err(|_| Error::Ended)?;
        outcome.await.map_err(|_| Error::Ended)?
    }
}

/// What the relay is told.
#[derive(Default)]
struct Known {
    ports: BTreeMap<Place, Entry>,
}

#[derive(Clone)]
struct Entry {
    to: SocketAddr,
    socket: Arc<OwnedFd>,
}

impl State for Known {
    type Held = Port;

    fn adopt(&mut self, held: Port, sockets: &mut Received<Response<Port>>) -> io::Result<()> {
        let [socket] = sockets.sockets()?;
        self.ports.insert(held.at, Entry { to: held.to, socket: Arc::new(socket) });
        Ok(())
    }

    fn everything(&self) -> Vec<Message<'_>> {
        self.ports.iter().map(|(at, entry)| serve(*at, entry)).collect()
    }
}

fn serve(at: Place, entry: &Entry) -> Message<'_> {
    Message::new(&Request::Serve(Port { at, to: entry.to })).with([entry.socket.as_fd()])
}

/// Carries out orders and keeps the relay alive while it has ports.
async fn keep(keeper: &mut Keeper<Known>, commands: &mut mpsc::Receiver<Command>) {
    loop {
        let is_needed = keeper.is_running() || !keeper.state.ports.is_empty();
        tokio::select! {
            command = commands.recv() => {
                let Some(Command { order, done }) = command else { return };
                // Who gave the order may have given up waiting.
                let _ = done.send(perform(keeper, order).await);
            }
            () = keeper.lost(), if is_needed => keeper.restart().await,
        }
    }
}

async fn perform(keeper: &mut Keeper<Known>, order: Order) -> Result<(), Error> {
    match order {
        Order::Serve(ports) => {
            let places: Vec<Place> = ports.iter().map(|(port, _)| port.at).collect();
            let done = open(keeper, ports).await;
            if done.is_err() {
                close(keeper, &places).await;
            }
            done
        }
        Order::Close(places) => {
            close(keeper, &places).await;
            Ok(())
        }
        Order::Keep(places) => {
            let places: BTreeSet<Place> = places.into_iter().collect();
            let gone: Vec<Place> =
                keeper.state.ports.keys().filter(|place| !places.contains(place)).copied().collect();
            close(keeper, &gone).await;
            Ok(())
        }
        Order::Stop => {
            keeper.state.ports.clear();
            keeper.stop(Message::new(&Request::Stop)).await;
            Ok(())
        }
    }
}

async fn open(keeper: &mut Keeper<Known>, ports: Vec<(Port, OwnedFd)>) -> Result<(), Error> {
    let mut told = Vec::new();
    for (Port { at, to }, socket) in ports {
        let known = keeper.state.ports.get(&at);
        if known.is_some_and(|entry| entry.to == to) {
            continue;
        }
        let failed = |source| Error::Socket { address: at.address, source };
        socket::open(socket.as_fd(), at).map_err(failed)?;
        let entry = Entry { to, socket: Arc::new(socket) };
        keeper.state.ports.insert(at, entry.clone());
        told.push((at, entry));
    }
    match told.is_empty() {
        true => Ok(()),
        false => Ok(keeper.tell(told.iter().map(|(at, entry)| serve(*at, entry))).await?),
    }
}

/// Where the relay does not obey it is ended, and nobody has a socket then.
async fn close(keeper: &mut Keeper<Known>, places: &[Place]) {
    let mut closed = Vec::new();
    for at in places {
        let Some(entry) = keeper.state.ports.remove(at) else { continue };
        if let Err(error) = socket::close(entry.socket.as_fd(), *at) {
            warn!(%error, address = %at.address, "take no more clients");
        }
        closed.push(Message::new(&Request::Close(*at)));
    }
    // With its last port it goes.
    if keeper.state.ports.is_empty() && keeper.is_running() {
        keeper.stop(Message::new(&Request::Stop)).await;
    } else if !closed.is_empty()
        && let Err(error) = keeper.tell(closed).await
    {
        warn!(%error, "the relay is not there any more");
    }
}
