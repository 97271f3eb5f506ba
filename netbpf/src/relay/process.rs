//! The relay's process: the ports that it serves. Must not know why.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    rc::Rc,
    sync::Arc,
};

use anyhow::{Context, bail};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::Semaphore,
    task::{AbortHandle, spawn_local},
};

use super::{
    control::{KIND, Place, Port, Request},
    tcp, udp,
};
use crate::{
    confined::{self, Message, Received, Response, Service, Then},
    model::Protocol,
};

/// Relays until it is told to stop, or until it has neither a daemon nor a port. Runs as `user` if started by root.
/// `dir` is a directory that only root can write to.
///
/// # Errors
/// If a step of the start is refused (limits, privileges, the control socket on standard input), no daemon connects in
/// time, or a request cannot be read or carried out. The daemon then starts a new relay with all ports.
pub fn run(user: u32, dir: &Path) -> anyhow::Result<()> {
    confined::run(&KIND, user, dir, |descriptors| Relay {
        ports: BTreeMap::new(),
        // A connection has two sockets, an association one; the rest is for the ports themselves.
        connections: Arc::new(Semaphore::new(descriptors / 8)),
        associations: Arc::new(Semaphore::new(descriptors / 8)),
        buffer: udp::buffer(),
    })
}

struct Relay {
    ports: BTreeMap<Place, Served>,
    /// Permits for further connections, of all ports.
    connections: Arc<Semaphore>,
    associations: Arc<Semaphore>,
    buffer: udp::Buffer,
}

struct Served {
    to: SocketAddr,
    socket: OwnedFd,
    /// Aborting it ends all clients of the port.
    task: AbortHandle,
}

impl Service for Relay {
    type Request = Request;
    type Held = Port;

    fn greeting(&mut self) -> Vec<Message<'_>> {
        let held = self.ports.iter().map(|(&at, served)| {
            Message::new(&Response::Held(Port { at, to: served.to })).with([served.socket.as_fd()])
        });
        held.collect()
    }

    async fn perform(&mut self, request: Request, beside: &mut Received<Request>) -> anyhow::Result<Then> {
        match request {
            Request::Serve(Port { at, to }) => {
                let [socket] = beside.sockets()?;
                if self.ports.get(&at).is_none_or(|served| served.to != to) {
                    self.close(&at).await;
                    let served = self.serve(at, to, socket);
                    let served = served.with_context(|| format!("take the socket of {}", at.address))?;
                    self.ports.insert(at, served);
                }
            }
            Request::Close(at) => self.close(&at).await,
            Request::Stop => return Ok(Then::End),
        }
        Ok(Then::Continue)
    }

    fn served(&self) -> usize {
        self.ports.len()
    }
}

impl Relay {
    fn serve(&self, at: Place, to: SocketAddr, socket: OwnedFd) -> anyhow::Result<Served> {
        let own = socket.try_clone()?;
        let task = match at.protocol {
            Protocol::Tcp => {
                let listener = TcpListener::from_std(own.into())?;
                spawn_local(tcp::serve(listener, to, Arc::clone(&self.connections)))
            }
            Protocol::Udp => {
                let socket = Rc::new(UdpSocket::from_std(own.into())?);
                spawn_local(udp::serve(
                    socket,
                    to,
                    Arc::clone(&self.associations),
                    Rc::clone(&self.buffer),
                    udp::IDLE_TIMEOUT,
                ))
            }
            Protocol::Sctp => bail!("SCTP is not relayed"),
        };
        Ok(Served { to, socket, task: task.abort_handle() })
    }

    /// On return the port's socket is closed, and those of its clients are about to be.
    async fn close(&mut self, at: &Place) {
        let Some(Served { task, .. }) = self.ports.remove(at) else { return };
        task.abort();
        while !task.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}
