//! A confined process from the daemon's side: starts one, takes over a running one, talks to it, ends it. Must not know
//! what the requests mean.

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

/// A response to requests. The sockets are described in the greeting only.
type Response = channel::Response<IgnoredAny>;

/// How long a process has to greet, and to end once it is killed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum number of packets without a response.
const WINDOW: usize = 32;

/// A running process.
pub(super) struct Process {
    kind: &'static Kind,
    connection: Connection,
    body: Body,
}

/// The handle to end it with.
enum Body {
    Child(Child),
    /// Started by an earlier daemon.
    Adopted(Pid),
}

impl Process {
    /// Takes over a process that an earlier daemon started, if it speaks this protocol. `take` gets its sockets in any
    /// case.
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
                warn!("cannot use the running {} ({other:?}): starting a new one", kind.name);
                process.kill().await;
                None
            }
        }
    }

    /// Starts a process, which becomes `user`. The control socket listens before the process runs, so connecting never
    /// waits.
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
        // A file, not the daemon's terminal or pipe, which the process would hold open after the daemon's end.
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
            // The service manager listens to the daemon only, and the process outlives it.
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
                    "its protocol version is {protocol}, this daemon needs {}",
                    kind.protocol
                ))))
            }
            Err(error) => {
                process.kill().await;
                Err(failed("start", exe)(error))
            }
        }
    }

    /// Whether an earlier daemon started it.
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

    /// Waits for the response to the oldest packet.
    async fn acknowledged(&mut self) -> io::Result<()> {
        match self.connection.receive::<Response>().await?.map(|received| received.messages).as_deref() {
            Some([Response::Done]) => Ok(()),
            Some(other) => Err(io::Error::other(format!("unexpected response {other:?}"))),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Returns when the process has ended. It sends nothing between requests.
    pub(super) async fn lost(&mut self) {
        let _ = self.connection.receive::<Response>().await;
    }

    /// Kills the process and waits for its end.
    pub(super) async fn kill(mut self) {
        match self.body {
            Body::Child(ref mut child) => {
                // It may have ended already.
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

    /// Reads the greeting: the sockets of the process, and its protocol version.
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

/// The path of the control socket.
pub(super) fn socket_path(kind: &Kind, run_dir: &Path) -> PathBuf {
    run_dir.join(format!("{}.sock", kind.command))
}

/// Removes the files of a process that has ended.
pub(super) fn clean_up(kind: &Kind, run_dir: &Path) {
    for path in [socket_path(kind, run_dir), log_path(kind, run_dir)] {
        // It may have been removed already.
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

/// Listens at `path`, and replaces what is there. Only root can connect, from the first moment on.
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
