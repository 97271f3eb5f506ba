//! The daemon's side of the relay: starts it when a port needs it and sends it the ports. Must not know why a port is
//! relayed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use tracing::warn;

use super::{
    control::{KIND, Place, Port, Request},
    socket,
};
use crate::confined::{self, Handle, Keeper, Message, Obey, Received, Response, State};

/// Why a port is not relayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The relay did not start or does not answer.
    #[error(transparent)]
    Process(#[from] confined::Error),
    /// The socket of a port does not accept clients.
    #[error("accept clients at {address}: {source}")]
    Socket {
        /// The host port.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The task that manages the relay has ended.
    #[error(transparent)]
    Ended(#[from] confined::Ended),
}

/// A handle on the relay. When the last handle is dropped, the relay goes on.
#[derive(Clone)]
pub struct Relay {
    handle: Handle<Known>,
}

/// A change of the relay's ports.
pub(super) enum Order {
    Serve(Vec<(Port, OwnedFd)>),
    Close(Vec<Place>),
    /// Closes all other ports.
    Keep(Vec<Place>),
}

impl Relay {
    /// Takes over the relay that runs for this folder, if there is one; otherwise `exe` is started when a port needs
    /// it. Also returns the sockets of a relay that was taken over. Needs a tokio runtime.
    pub async fn start(exe: &Path, run_dir: &Path) -> (Self, Vec<(Place, OwnedFd)>) {
        let mut keeper = Keeper::adopt(&KIND, exe, run_dir, Known::default()).await;
        let known = &mut keeper.state;
        let held = known.ports.iter().map(|(at, entry)| Ok((*at, entry.socket.try_clone()?)));
        let held = held.collect::<io::Result<_>>().unwrap_or_else(|error| {
            warn!(%error, "take over the relay's sockets");
            Vec::new()
        });
        (Self { handle: Handle::spawn(keeper) }, held)
    }

    /// Relays these ports, all or none. They accept clients on return. A port that is relayed already gets the new
    /// target.
    ///
    /// # Errors
    /// `Error::Socket` if a port cannot listen; `Error::Process` if neither the relay nor a new one takes the
    /// ports. Then none of them is relayed, not even one that was before. `Error::Ended` after [`Relay::stop`].
    pub async fn serve(&self, ports: Vec<(Port, OwnedFd)>) -> Result<(), Error> {
        self.handle.order(Order::Serve(ports)).await
    }

    /// Stops relaying these ports. On return their sockets are closed here; their clients' sockets are about to be.
    ///
    /// # Errors
    /// `Error::Ended` after [`Relay::stop`]. A relay that does not answer is replaced, which closes the ports as
    /// well.
    pub async fn close(&self, places: Vec<Place>) -> Result<(), Error> {
        self.handle.order(Order::Close(places)).await
    }

    /// Closes all ports except these. A relay that was taken over may have others.
    ///
    /// # Errors
    /// `Error::Ended` after [`Relay::stop`]. A relay that does not answer is replaced, which closes the ports as
    /// well.
    pub async fn keep(&self, places: Vec<Place>) -> Result<(), Error> {
        self.handle.order(Order::Keep(places)).await
    }

    /// Ends the relay.
    ///
    /// # Errors
    /// `Error::Ended` if it was stopped before. A relay that does not answer is killed.
    pub async fn stop(&self) -> Result<(), Error> {
        self.handle.stop().await
    }
}

/// The full state of the relay.
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

impl Obey for Known {
    type Order = Order;
    type Error = Error;

    fn needs_process(&self) -> bool {
        !self.ports.is_empty()
    }

    fn last_request() -> Message<'static> {
        Message::new(&Request::Stop)
    }

    async fn perform(keeper: &mut Keeper<Self>, order: Order) -> Result<(), Error> {
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

/// Closes ports. A relay that does not answer is ended, which closes their sockets as well.
async fn close(keeper: &mut Keeper<Known>, places: &[Place]) {
    let mut closed = Vec::new();
    for at in places {
        let Some(entry) = keeper.state.ports.remove(at) else { continue };
        if let Err(error) = socket::close(entry.socket.as_fd(), *at) {
            warn!(%error, address = %at.address, "stop accepting clients");
        }
        closed.push(Message::new(&Request::Close(*at)));
    }
    if !closed.is_empty()
        && let Err(error) = keeper.tell(closed).await
    {
        warn!(%error, "stop relaying ports");
    }
}
