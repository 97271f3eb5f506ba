//! The process's side of a confined process: how it starts, receives the daemon's messages, and ends. The daemon starts it with a listening control socket as
//! its standard input. It outlives the daemon as long as it has something to serve. Must not know what it serves.

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
use crate::logging;

/// How long a daemon has to connect after the start, and to read the greeting.
const GREETING: Duration = Duration::from_secs(5);

/// The work of a confined process.
pub(crate) trait Service {
    /// A request of the daemon.
    type Request: DeserializeOwned;
    /// Describes a socket that the process has.
    type Held: Serialize;

    /// All its sockets ([`Response::Held`]), for a daemon that takes the process over.
    fn greeting(&mut self) -> Vec<Message<'_>>;

    /// Called when the daemon has read the greeting or is gone.
    fn greeted(&mut self) {}

    /// Carries out a request. `beside` holds the sockets that belong to it. An error ends the process.
    async fn perform(
        &mut self,
        request: Self::Request,
        beside: &mut Received<Self::Request>,
    ) -> anyhow::Result<Then>;

    /// The number of containers or ports that it serves.
    fn served(&self) -> usize;
}

/// What to do after a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Continue,
    End,
}

/// Serves until it is told to stop, or until it has neither a daemon nor anything to serve. Runs as `user` if started
/// by root. `dir` is a directory that only root can write to. `service` gets the maximum number of open descriptors.
pub(crate) fn run<S: Service>(
    kind: &Kind,
    user: u32,
    dir: &Path,
    service: impl FnOnce(usize) -> S,
) -> anyhow::Result<()> {
    logging::start(tracing_subscriber::EnvFilter::from_default_env(), true, false);
    // Leaves the daemon's terminal. Fails only if the process leads a session already, which is as good.
    let _ = setsid();
    let descriptors = raise_descriptor_limit().context("raise the limit of open files")?;
    let root = format!("{}.root", kind.command);
    privileges::become_user(user, dir, &root).context("drop privileges")?;
    end_on_panic();

    let listener = io::stdin().as_fd().try_clone_to_owned().context("take the control socket")?;
    // Listens again, now as `user`: the peer credentials of the socket then tell the daemon this process's PID.
    listen(&listener, Backlog::new(16)?).context("listen on the control socket (standard input)")?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start")?;
    privileges::restrict_calls()?;
    let obey = async { obey(kind, listener, service(descriptors)).await };
    LocalSet::new().block_on(&runtime, obey)
}

/// A panic in one task must not leave one container without its service: the whole process ends, and the keeper starts
/// a new one with the full state.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
}

/// Thousands of containers need sockets. Raises the limit to the maximum, and returns it.
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
            // A new daemon has started; the old one is gone or about to go.
            accepted = listener.accept() => feed = greet(kind, &mut service, accepted?.0).await,
            received = receive::<S>(&mut feed) => match received {
                Ok(Some(mut received)) => {
                    let mut then = Then::Continue;
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
                    info!("the daemon is gone; still serving {}", service.served());
                    feed = None;
                }
                // A new process with the full state is better than half a state.
                Err(error) => bail!("read the control socket: {error}"),
            },
        }
    }
}

/// Greets a daemon with all sockets. `None` if it is gone before it has read the greeting.
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

/// Receives the next requests. Waits forever without a daemon.
async fn receive<S: Service>(feed: &mut Option<Connection>) -> io::Result<Option<Received<S::Request>>> {
    match feed {
        Some(connection) => connection.receive().await,
        None => std::future::pending().await,
    }
}

/// Confirms that requests took effect. Ignores errors: the next read tells if the daemon is gone.
async fn acknowledge<S: Service>(feed: &Option<Connection>) {
    if let Some(connection) = feed {
        for packet in channel::packets([Message::new(&Response::<S::Held>::Done)]) {
            let _ = connection.send(&packet).await;
        }
    }
}
