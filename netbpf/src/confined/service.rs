//! The process's side: how it starts, who feeds it, and when it ends. The daemon starts it with a listening control
//! socket as its standard input; it outlives the daemon as long as there is something for it to do. It must not know
//! what that is.

use std::{
    io, mem,
    os::fd::{AsFd, OwnedFd},
    path::Path,
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
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    net::{UnixListener, UnixStream},
    task::LocalSet,
    time::timeout,
};
use tracing::info;

use super::{
    Kind,
    channel::{self, Connection, Message, Received, Response},
    privileges,
};

/// How long a daemon may take to connect to what it has started, and to read the greeting.
const GREETING: Duration = Duration::from_secs(5);

/// What a confined process does.
pub(crate) trait Service {
    /// What it is told.
    type Request: DeserializeOwned;
    /// What it says of the sockets that it has.
    type Held: Serialize;

    /// All sockets that it has, for a daemon that takes it over: [`Response::Held`].
    fn greeting(&mut self) -> Vec<Message<'_>>;

    /// The daemon has read the greeting, or is gone.
    fn greeted(&mut self) {}

    /// Does what it is told. An error ends the process.
    async fn perform(
        &mut self,
        request: Self::Request,
        beside: &mut Received<Self::Request>,
    ) -> anyhow::Result<Then>;

    /// For how many it has something to do.
    fn served(&self) -> usize;
}

/// What follows a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    End,
}

/// Serves until it is told to stop, or has neither a daemon nor anybody to serve; as `user`, if it is root. `dir` is a
/// folder of root's own. `service` is told how many descriptors the process may have.
pub(crate) fn run<S: Service>(
    kind: &Kind,
    user: u32,
    dir: &Path,
    service: impl FnOnce(usize) -> S,
) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .init();
    // The daemon's terminal is none of its business. A process that leads its session already is as good.
    let _ = setsid();
    let descriptors = raise_descriptor_limit().context("raise the limit of open files")?;
    let root = format!("{}.root", kind.command);
    privileges::become_user(user, dir, &root).context("drop privileges")?;
    end_on_panic();

    let listener = io::stdin().as_fd().try_clone_to_owned().context("take the control socket")?;
    // Once more, now as itself: who connects reads from the socket which process listens.
    listen(&listener, Backlog::new(16)?).context("listen on the control socket (standard input)")?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start")?;
    privileges::restrict_calls()?;
    let obey = async { obey(kind, listener, service(descriptors)).await };
    LocalSet::new().block_on(&runtime, obey)
}

/// A bug must not leave one container without its service: the process ends, and its keeper starts it again with all it
/// had.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
}

/// Thousands of containers have sockets. Returns the limit.
fn raise_descriptor_limit() -> nix::Result<usize> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(usize::try_from(most).unwrap_or(usize::MAX).min(1 << 20))
}

async fn obey<S: Service>(kind: &Kind, listener: OwnedFd, mut service: S) -> anyhow::Result<()> {
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener).context("take the control socket")?;
    let Ok(first) = timeout(GREETING, listener.accept()).await else {
        bail!("the daemon that started it does not connect");
    };
    let mut feed = greet(kind, &mut service, first?.0).await;
    loop {
        tokio::select! {
            // A new daemon: the old one is gone, or about to.
            accepted = listener.accept() => feed = greet(kind, &mut service, accepted?.0).await,
            received = receive::<S>(&mut feed) => match received {
                Ok(Some(mut received)) => {
                    let mut then = Then::GoOn;
                    for request in mem::take(&mut received.messages) {
                        if service.perform(request, &mut received).await? == Then::End {
                            then = Then::End;
                        }
                    }
                    acknowledge::<S>(&feed).await;
                    if then == Then::End {
                        return Ok(());
                    }
                }
                Ok(None) if service.served() == 0 => return Ok(()),
                Ok(None) => {
                    info!("the daemon is gone; {} are still served", service.served());
                    feed = None;
                }
                // Half of a state is worse than a new start with all of it.
                Err(error) => bail!("read the control socket: {error}"),
            },
        }
    }
}

/// Tells a daemon which sockets are here; none if it is gone before it has read that.
async fn greet<S: Service>(kind: &Kind, service: &mut S, stream: UnixStream) -> Option<Connection> {
    let connection = Connection::new(stream);
    let ready = Message::new(&Response::<S::Held>::Ready { protocol: kind.protocol });
    let greeting = async {
        for packet in channel::packets(service.greeting().into_iter().chain([ready])) {
            connection.send(&packet).await?;
        }
        io::Result::Ok(())
    };
    let greeted = matches!(timeout(GREETING, greeting).await, Ok(Ok(())));
    service.greeted();
    greeted.then_some(connection)
}

/// The next requests; never, without a daemon.
async fn receive<S: Service>(feed: &mut Option<Connection>) -> io::Result<Option<Received<S::Request>>> {
    match feed {
        Some(connection) => connection.receive().await,
        None => std::future::pending().await,
    }
}

/// Says that requests took effect. A daemon that is gone shows at the next read.
async fn acknowledge<S: Service>(feed: &Option<Connection>) {
    if let Some(connection) = feed {
        for packet in channel::packets([Message::new(&Response::<S::Held>::Done)]) {
            let _ = connection.send(&packet).await;
        }
    }
}
