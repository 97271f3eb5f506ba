//! A confined process as its keeper sees it: starting one, taking over one that runs, talking to it, ending it. It must
//! not know what the process is told.

use std::{
    fs, io, mem,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill},
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, socket,
            sockopt::PeerCredentials,
        },
    },
    unistd::Pid,
};
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
    time::timeout,
};
use tracing::warn;

use super::{
    Error, Kind,
    channel::{self, Connection, Message, Received},
};

/// Between requests, what it has is of no interest.
type Response = channel::Response<IgnoredAny>;

/// How long a process may take to greet, and to be gone once it is killed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Packets without a reply, at most.
const WINDOW: usize = 32;

/// A process that runs.
pub(super) struct Process {
    kind: &'static Kind,
    connection: Connection,
    body: Body,
}

/// What there is to end it by.
enum Body {
    Child(Child),
    /// Started by an earlier daemon.
    Adopted(Pid),
}

impl Process {
    /// Takes over the one that an earlier daemon left behind, if it is of use; what it has is taken by `take` in any case.
    pub(super) async fn adopt<Held: DeserializeOwned>(
        kind: &'static Kind,
        run_dir: &Path,
        take: impl FnMut(Held, &mut Received<channel::Response<Held>>) -> io::Result<()>,
    ) -> Option<Self> {
        let connected = connect_to(&socket_path(kind, run_dir)).ok()?;
        let peer = getsockopt(&connected, PeerCredentials).ok()?;
        let body = Body::Adopted(Pid::from_raw(peer.pid()));
        let mut process = Self { kind, connection: Connection::new(connected), body };
        match timeout(TIMEOUT, process.greeted(take)).await {
            Ok(Ok(protocol)) if protocol == kind.protocol => Some(process),
            other => {
                warn!("the running {} is of no use ({other:?}): starting another", kind.name);
                process.kill().await;
                None
            }
        }
    }

    /// Starts one, which becomes `user`. Its control socket listens before it runs, so that nobody has to wait for it.
    pub(super) async fn spawn(
        kind: &'static Kind,
        exe: &Path,
        user: u32,
        run_dir: &Path,
    ) -> Result<Self, Error> {
        let path = socket_path(kind, run_dir);
        let failed = |op, path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| Error { op, kind: kind.name, path, source: source.into() }
        };
        let listener = listen_at(&path).map_err(failed("listen for", &path))?;
        // Not the daemon's terminal or pipe, which it would keep open after the daemon's end.
        let log = log_path(kind, run_dir);
        let log = fs::File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&log)
            .map_err(failed("open the log of", &log))?;
        let child = Command::new(exe)
            .arg(kind.command)
            .arg(user.to_string())
            .arg(std::path::absolute(run_dir).map_err(failed("find", run_dir))?)
            // It outlives the daemon, for which alone the service manager listens.
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::from(listener))
            .stdout(Stdio::null())
            .stderr(log)
            .current_dir("/")
            .spawn()
            .map_err(failed("start", exe))?;
        let connected = connect_to(&path).map_err(failed("connect to", &path))?;
        let mut process = Self { kind, connection: Connection::new(connected), body: Body::Child(child) };
        let greeted = timeout(TIMEOUT, process.greeted(|_: IgnoredAny, _| Ok(()))).await;
        match greeted.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            Ok(protocol) if protocol == kind.protocol => Ok(process),
            Ok(protocol) => {
                process.kill().await;
                Err(failed("talk to", exe)(io::Error::other(format!(
                    "it speaks protocol {protocol}, this daemon {}",
                    kind.protocol
                ))))
            }
            Err(error) => {
                process.kill().await;
                Err(failed("start", exe)(error))
            }
        }
    }

    /// An earlier daemon started it.
    pub(super) fn is_adopted(&self) -> bool {
        matches!(self.body, Body::Adopted(_))
    }

    /// Sends requests and waits until they took effect.
    pub(super) async fn call<'a>(
        &mut self,
        requests: impl IntoIterator<Item = Message<'a>>,
    ) -> io::Result<()> {
        let mut outstanding = 0;
        for packet in channel::packets(requests) {
            self.connection.send(&packet).await?;
            outstanding += 1;
            if outstanding == WINDOW {
                self.acknowledged().await?;
                outstanding -= 1;
            }
        }
        for _ in 0..outstanding {
            self.acknowledged().await?;
        }
        Ok(())
    }

    /// Waits until the oldest packet without a reply took effect.
    async fn acknowledged(&mut self) -> io::Result<()> {
        match self.connection.receive::<Response>().await?.map(|received| received.messages).as_deref() {
            Some([Response::Done]) => Ok(()),
            Some(other) => Err(io::Error::other(format!("unexpected {other:?}"))),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Returns when it is gone. Between requests it has nothing to say.
    pub(super) async fn lost(&mut self) {
        let _ = self.connection.receive::<Response>().await;
    }

    /// Ends it, and waits until it is gone.
    pub(super) async fn kill(mut self) {
        match self.body {
            Body::Child(ref mut child) => {
                // It may be gone already.
                let _ = child.kill().await;
            }
            Body::Adopted(pid) => {
                let gone = matches!(
                    timeout(Duration::ZERO, self.connection.receive::<Response>()).await,
                    Ok(Ok(None) | Err(_))
                );
                if !gone && pid != Pid::this() && kill(pid, Signal::SIGKILL).is_ok() {
                    let end =
                        async { while let Ok(Some(_)) = self.connection.receive::<Response>().await {} };
                    if timeout(TIMEOUT, end).await.is_err() {
                        warn!(%pid, "the {} does not end", self.kind.name);
                    }
                }
            }
        }
    }

    /// Reads the greeting: the sockets that it has, and its protocol.
    async fn greeted<Held: DeserializeOwned>(
        &mut self,
        mut take: impl FnMut(Held, &mut Received<channel::Response<Held>>) -> io::Result<()>,
    ) -> io::Result<u32> {
        while let Some(mut received) = self.connection.receive().await? {
            for response in mem::take(&mut received.messages) {
                match response {
                    channel::Response::Held(held) => take(held, &mut received)?,
                    channel::Response::Ready { protocol } => return Ok(protocol),
                    channel::Response::Done => {}
                }
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Where the control socket is.
pub(super) fn socket_path(kind: &Kind, run_dir: &Path) -> PathBuf {
    run_dir.join(format!("{}.sock", kind.command))
}

/// Removes what a process that has ended leaves behind.
pub(super) fn clean_up(kind: &Kind, run_dir: &Path) {
    for path in [socket_path(kind, run_dir), log_path(kind, run_dir)] {
        // It may be gone already.
        let _ = fs::remove_file(path);
    }
}

fn log_path(kind: &Kind, run_dir: &Path) -> PathBuf {
    run_dir.join(format!("{}.log", kind.command))
}

fn connect_to(path: &Path) -> io::Result<UnixStream> {
    let connected = control_socket()?;
    connect(connected.as_raw_fd(), &UnixAddr::new(path)?)?;
    UnixStream::from_std(connected.into())
}

/// In place of what is there. Only root may connect, from the first moment on.
fn listen_at(path: &Path) -> io::Result<OwnedFd> {
    let listener = control_socket()?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listen(&listener, Backlog::new(16).map_err(|_| Errno::EINVAL)?)?;
    Ok(listener)
}

fn control_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}
