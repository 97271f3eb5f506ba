//! The name responder's process. The daemon starts it with a listening control socket as its standard input; it
//! outlives the daemon as long as it has somebody to answer. It must not know where records come from.

use std::{
    collections::{HashMap, HashSet},
    io, iter, mem,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, bail};
use nix::{
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        socket::{Backlog, listen},
    },
    unistd::setsid,
};
use tokio::{
    net::{UnixListener, UnixStream},
    task::LocalSet,
    time::timeout,
};
use tracing::info;

use super::{
    asker::{Asker, Shared},
    confine,
    control::{self, Connection, Message, PROTOCOL, Received, Request, Response},
};
use crate::model::Id;

/// How long a daemon may take to connect to what it has started, and to read the greeting.
const GREETING: Duration = Duration::from_secs(5);

/// Answers until it is told to stop, or has neither a daemon nor anybody to answer; as `user`, if it is root. `dir` is a
/// folder of root's own.
pub fn run(user: u32, dir: &Path) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .init();
    // The daemon's terminal is none of its business. A process that leads its session already is as good.
    let _ = setsid();
    let descriptors = raise_descriptor_limit().context("raise the limit of open files")?;
    confine::become_user(user, dir).context("drop privileges")?;
    end_on_panic();

    let listener = io::stdin().as_fd().try_clone_to_owned().context("take the control socket")?;
    // Once more, now as itself: who connects reads from the socket which process listens.
    listen(&listener, Backlog::new(16)?).context("listen on the control socket (standard input)")?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start")?;
    confine::restrict_calls()?;
    let responder =
        Responder { shared: Rc::new(Shared::new(descriptors / 2)), askers: HashMap::new(), named: None };
    LocalSet::new().block_on(&runtime, responder.obey(listener))
}

/// A bug must not leave one container without names: the process ends, and the feed starts it again with all it had.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
}

/// Thousands of containers have two sockets each. Returns the limit.
fn raise_descriptor_limit() -> nix::Result<usize> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(usize::try_from(most).unwrap_or(usize::MAX).min(1 << 20))
}

struct Responder {
    shared: Rc<Shared>,
    askers: HashMap<Id, Asker>,
    /// During a full state: whom it named.
    named: Option<HashSet<Id>>,
}

impl Responder {
    async fn obey(mut self, listener: OwnedFd) -> anyhow::Result<()> {
        let listener = std::os::unix::net::UnixListener::from(listener);
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener).context("take the control socket")?;
        let Ok(first) = timeout(GREETING, listener.accept()).await else {
            bail!("the daemon that started it does not connect");
        };
        let mut feed = self.greet(first?.0).await;
        loop {
            tokio::select! {
                // A new daemon: the old one is gone, or about to.
                accepted = listener.accept() => feed = self.greet(accepted?.0).await,
                received = receive(&mut feed) => match received {
                    Ok(Some(mut received)) => {
                        let mut last = false;
                        for request in mem::take(&mut received.messages) {
                            last |= matches!(request, Request::Stop);
                            self.perform(request, &mut received).await?;
                        }
                        acknowledge(&feed).await;
                        if last {
                            return Ok(());
                        }
                    }
                    Ok(None) if self.askers.is_empty() => return Ok(()),
                    Ok(None) => {
                        info!("the daemon is gone; {} containers still get answers", self.askers.len());
                        feed = None;
                    }
                    // Half of a state is worse than a new start with all of it.
                    Err(error) => bail!("read the control socket: {error}"),
                },
            }
        }
    }

    /// Tells a daemon which sockets are here; none if it is gone before it has read that.
    async fn greet(&mut self, stream: UnixStream) -> Option<Connection> {
        let connection = Connection::new(stream);
        let lent = self.shared.lent();
        let held = self.askers.iter().flat_map(|(&container, asker)| {
            let serve = Message::new(&Response::Held(container)).with([asker.udp.as_fd(), asker.tcp.as_fd()]);
            let lent = lent.get(&container).into_iter().flatten();
            let lent = lent.map(move |pair| {
                let [udp, tcp] = &**pair;
                Message::new(&Response::Lent(container)).with([udp.as_fd(), tcp.as_fd()])
            });
            iter::once(serve).chain(lent)
        });
        let ready = Message::new(&Response::Ready { protocol: PROTOCOL });
        let greeting = async {
            for packet in control::packets(held.chain([ready])) {
                connection.send(&packet).await?;
            }
            io::Result::Ok(())
        };
        let greeted = matches!(timeout(GREETING, greeting).await, Ok(Ok(())));
        self.named = None;
        greeted.then_some(connection)
    }

    async fn perform(&mut self, request: Request, beside: &mut Received<Request>) -> anyhow::Result<()> {
        match request {
            Request::Begin => self.named = Some(HashSet::new()),
            Request::Upsert(record) => {
                self.shared.insert(&record);
                if let Some(named) = &mut self.named {
                    named.insert(record.container);
                }
            }
            Request::Serve(container) => {
                let [udp, tcp] = beside.sockets()?;
                self.close(container).await;
                let asker = Asker::new(container, udp.into(), tcp.into(), &self.shared)
                    .with_context(|| format!("take the sockets of container {}", container.short()))?;
                self.askers.insert(container, asker);
                self.shared.take_back(container);
            }
            Request::Lend(container) => self.shared.lend(container, beside.sockets()?),
            Request::Remove(container) => self.forget(container).await,
            Request::HostServers(servers) => self.shared.set_host_servers(servers),
            Request::End => {
                let Some(named) = self.named.take() else { return Ok(()) };
                for container in self.shared.containers() {
                    if !named.contains(&container) {
                        self.forget(container).await;
                    }
                }
            }
            Request::Stop => {}
        }
        Ok(())
    }

    async fn forget(&mut self, container: Id) {
        self.close(container).await;
        self.shared.remove(container);
    }

    async fn close(&mut self, container: Id) {
        if let Some(asker) = self.askers.remove(&container) {
            asker.close().await;
        }
    }
}

/// The next requests; never, without a daemon.
async fn receive(feed: &mut Option<Connection>) -> io::Result<Option<Received<Request>>> {
    match feed {
        Some(connection) => connection.receive().await,
        None => std::future::pending().await,
    }
}

/// Says that requests took effect. A daemon that is gone shows at the next read.
async fn acknowledge(feed: &Option<Connection>) {
    if let Some(connection) = feed {
        for packet in control::packets([Message::new(&Response::Done)]) {
            let _ = connection.send(&packet).await;
        }
    }
}
