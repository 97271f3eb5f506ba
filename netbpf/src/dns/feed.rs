//! The daemon's side of the name responder: starts it, keeps it alive, and keeps it informed. The feed holds the full
//! state, sockets included, so that a responder that dies is back with all of it within 200 ms, and takes over one
//! that outlived an earlier daemon. It must not know where records come from.

mod process;

use std::{
    collections::{BTreeMap, HashMap},
    io, iter,
    net::SocketAddr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use self::process::Process;
use super::{
    confine,
    control::{self, Held, LARGEST_PACKET, Message, Pair, Request},
    record::Record,
};
use crate::model::Id;

/// How long a request may take before the responder counts as dead.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a responder lives if its death is nothing that a pause would help against.
const HEALTHY: Duration = Duration::from_secs(2);

/// Why names are not as they should be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The responder did not start or does not obey.
    #[error("{op} name responder {}: {source}", path.display())]
    Responder {
        /// What was tried.
        op: &'static str,
        /// Its program or its control socket.
        path: PathBuf,
        /// Why not.
        source: Arc<io::Error>,
    },
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
        let mut keeper = Keeper::start(exe, run_dir).await?;
        let held = keeper.adopted.iter().map(|(id, held)| (*id, !held.lent.is_empty()));
        let held = Arc::new(held.collect());
        let (commands, mut orders) = mpsc::channel(64);
        tokio::spawn(async move { keeper.keep(&mut orders).await });
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
        let request = control::encode(&Request::Upsert(record));
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

/// Owns the state and the process.
struct Keeper {
    exe: PathBuf,
    /// The responder's user number, which no account has.
    user: u32,
    run_dir: PathBuf,
    process: Option<Process>,
    containers: BTreeMap<Id, Arc<Entry>>,
    host_servers: Vec<SocketAddr>,
    /// Sockets that a responder from before had, of containers not named yet.
    adopted: HashMap<Id, Held>,
    started: Instant,
    /// Deaths in a row that came soon after the start.
    failures: u32,
}

impl Keeper {
    async fn start(exe: &Path, run_dir: &Path) -> Result<Self, Error> {
        // The host's user databases may take their time.
        let user = tokio::task::spawn_blocking(confine::unused_user).await;
        let user = user.map_err(io::Error::other).and_then(|user| user).map_err(|error| {
            Error::Responder { op: "find a user for", path: exe.to_owned(), source: error.into() }
        })?;
        let (process, adopted) = Process::adopt(run_dir).await;
        let mut keeper = Self {
            exe: exe.to_owned(),
            user,
            run_dir: run_dir.to_owned(),
            process,
            containers: BTreeMap::new(),
            host_servers: Vec::new(),
            adopted,
            started: Instant::now(),
            failures: 0,
        };
        if keeper.process.is_some() {
            info!(containers = keeper.adopted.len(), "took over the running name responder");
            keeper.tell([Message::new(&Request::Begin)]).await?;
        } else {
            keeper.revive().await?;
        }
        Ok(keeper)
    }

    async fn keep(&mut self, commands: &mut mpsc::Receiver<Command>) {
        loop {
            let pause = self.pause().max(Duration::from_millis(100));
            let lost = async {
                match &mut self.process {
                    Some(process) => process.lost().await,
                    None => sleep(pause).await,
                }
            };
            tokio::select! {
                command = commands.recv() => {
                    let Some(Command { order, done }) = command else { return };
                    let last = matches!(order, Order::Stop);
                    // Who gave the order may have given up waiting.
                    let _ = done.send(self.perform(order).await);
                    if last {
                        return;
                    }
                }
                () = lost => {
                    warn!("the name responder is gone: starting it again");
                    if let Err(error) = self.revive().await {
                        warn!(%error, "trying again soon");
                    }
                }
            }
        }
    }

    /// State first, then the responder: if that one fails, the next is told the state.
    async fn perform(&mut self, order: Order) -> Result<(), Error> {
        match order {
            Order::Upsert(container, request, sockets) => {
                let (sockets, new) = match (sockets, self.containers.get(&container)) {
                    (Some(sockets), _) => {
                        let serve = [sockets.udp.into(), sockets.tcp.into()];
                        (Some(Arc::new(Held { serve, lent: sockets.lent })), true)
                    }
                    (None, Some(entry)) if entry.sockets.is_some() => (entry.sockets.clone(), false),
                    (None, _) => {
                        let new = !self.process.as_ref().is_some_and(Process::is_adopted);
                        (self.adopted.remove(&container).map(Arc::new), new)
                    }
                };
                let entry = Arc::new(Entry { request, sockets });
                self.containers.insert(container, Arc::clone(&entry));
                let sockets = entry.sockets.as_ref().filter(|_| new).map(|held| serve(container, held));
                let sockets = sockets.into_iter().flatten();
                self.tell(iter::once(Message::encoded(&entry.request)).chain(sockets)).await
            }
            Order::Remove(container) => {
                self.containers.remove(&container);
                self.adopted.remove(&container);
                self.tell([Message::new(&Request::Remove(container))]).await
            }
            Order::HostServers(servers) => {
                self.host_servers.clone_from(&servers);
                self.tell([Message::new(&Request::HostServers(servers))]).await
            }
            Order::Settle => {
                self.adopted.clear();
                self.tell([Message::new(&Request::End)]).await
            }
            Order::Stop => {
                if let Some(mut process) = self.process.take() {
                    // It ends in any case.
                    let _ = timeout(PATIENCE, process.call([Message::new(&Request::Stop)])).await;
                    process.kill().await;
                }
                process::clean_up(&self.run_dir);
                Ok(())
            }
        }
    }

    /// Sends requests and waits until they took effect, or has a new responder told everything.
    async fn tell<'a>(&mut self, requests: impl IntoIterator<Item = Message<'a>>) -> Result<(), Error> {
        if let Some(process) = &mut self.process {
            match timeout(PATIENCE, process.call(requests)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => warn!(%error, "the name responder does not obey: starting it again"),
                Err(_) => warn!("the name responder does not react: starting it again"),
            }
        }
        self.revive().await
    }

    /// A new responder, told everything, in place of the old one.
    async fn revive(&mut self) -> Result<(), Error> {
        if let Some(process) = self.process.take() {
            process.kill().await;
            self.failures = if self.started.elapsed() < HEALTHY { self.failures + 1 } else { 1 };
        }
        sleep(self.pause()).await;
        self.started = Instant::now();
        let revived = self.spawn().await;
        self.failures += u32::from(revived.is_err());
        self.process = Some(revived?);
        Ok(())
    }

    async fn spawn(&self) -> Result<Process, Error> {
        let mut process = Process::spawn(&self.exe, self.user, &self.run_dir).await?;
        let servers = Message::new(&Request::HostServers(self.host_servers.clone()));
        let records = self.containers.values().map(|entry| Message::encoded(&entry.request));
        // All names before the first socket: whoever asks now has been waiting for them.
        let mut sockets = Vec::new();
        for (&container, entry) in &self.containers {
            sockets.extend(entry.sockets.iter().flat_map(|held| serve(container, held)));
        }
        let told = timeout(PATIENCE, process.call(iter::once(servers).chain(records).chain(sockets))).await;
        if let Err(error) = told.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            process.kill().await;
            return Err(Error::Responder {
                op: "feed",
                path: process::socket_path(&self.run_dir),
                source: error.into(),
            });
        }
        Ok(process)
    }

    /// Nothing at first, then longer and longer: what dies at once will do so again.
    fn pause(&self) -> Duration {
        match self.failures {
            0..=3 => Duration::ZERO,
            failures => Duration::from_millis(25 << failures.min(8)).min(Duration::from_secs(2)),
        }
    }
}

fn serve(container: Id, sockets: &Held) -> Vec<Message<'_>> {
    let lent = sockets.lent.iter().map(|pair| (Request::Lend(container), pair));
    iter::once((Request::Serve(container), &sockets.serve))
        .chain(lent)
        .map(|(request, [udp, tcp])| Message::new(&request).with([udp.as_fd(), tcp.as_fd()]))
        .collect()
}
