//! The messages between daemon, command line and supervisor: each packet holds one JSON text, with descriptors beside
//! it.

use std::{
    fs::OpenOptions,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

use nix::libc;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::unix::AsyncFd;

use super::{error::Error, relay::set_nonblocking, sys};

/// The maximum number of descriptors in a packet: stdin, stdout and stderr.
const MAX_FDS: usize = 3;

/// A request to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Starts the command → `Started` or `Failed`.
    Start,
    /// Sends the command a signal → `Done` or `Failed`.
    Signal { number: i32 },
    /// Runs another program. Without `tty`, three descriptors come with the request. → `Started`, later `Exited`; or
    /// `Failed`. With `tty`, the controlling side of the terminal comes with `Started`.
    Exec(Exec),
}

/// A program to run in a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Exec {
    pub argv: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: Option<PathBuf>,
    pub tty: Option<WindowSize>,
}

/// The size of a terminal in characters; zeros if unknown.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct WindowSize {
    pub rows: u16,
    pub columns: u16,
}

/// A response of the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Response {
    Started,
    Done,
    /// The command was not started, or has ended.
    NotRunning,
    Failed {
        exit_code: u8,
        message: String,
    },
    Exited {
        code: i32,
    },
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

/// Accepts connections.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

impl Listener {
    /// Listens at `name` in `dir`.
    pub fn bind(dir: BorrowedFd<'_>, name: &str) -> io::Result<Listener> {
        let fd =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&fd, &address(dir, name.as_ref())?)?;
        rustix::net::listen(&fd, 64)?;
        Ok(Listener(fd))
    }

    pub fn accept(&self) -> io::Result<Channel> {
        Ok(Channel(rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC)?))
    }
}

impl Channel {
    /// Connects to the supervisor that listens at `path`.
    pub fn connect(path: &Path) -> io::Result<Channel> {
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let dir = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(dir)?;
        let fd =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&fd, &address(dir.as_fd(), name.as_ref())?)?;
        Ok(Channel(fd))
    }

    /// Sends one packet. Never waits for a peer that does not read.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::net::sendmsg(&self.0, &[IoSlice::new(&text)], &mut control, flags)?;
        Ok(())
    }

    /// Waits for one packet; `None` if the peer is gone.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let (_, length) = rustix::net::recv(&self.0, &mut [0u8; 0][..], RecvFlags::PEEK | RecvFlags::TRUNC)?;
        if length == 0 {
            return Ok(None);
        }
        let mut text = vec![0; length];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut text)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        text.truncate(received.bytes);
        Ok(Some((serde_json::from_slice(&text)?, fds)))
    }

    /// A copy of the socket to wait for, with which [`Channel::receive`] does not wait any more.
    pub fn watch(&self) -> io::Result<AsyncFd<OwnedFd>> {
        set_nonblocking(&self.0)?;
        sys::register(self.0.try_clone()?)
    }

    /// Sends a request and waits for the response. `Failed` becomes an error.
    pub fn ask(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(Response, Vec<OwnedFd>), Error> {
        self.send(request, fds).map_err(gone)?;
        match self.receive().map_err(gone)? {
            None | Some((Response::NotRunning, _)) => Err(Error::Gone),
            Some((Response::Failed { exit_code, message }, _)) => Err(Error::Start { exit_code, message }),
            Some(answer) => Ok(answer),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A socket address holds 108 bytes, which may be less than the path. So the path starts at the open directory.
fn address(dir: BorrowedFd<'_>, name: &Path) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))?)
}

fn gone(source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected => {
            Error::Gone
        }
        _ => Error::Call { op: "ask", object: "the supervisor".into(), source },
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, io::Write};

    use super::*;

    #[test]
    fn messages_and_descriptors_arrive_under_a_path_longer_than_an_address() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path().join("d".repeat(120));
        std::fs::create_dir(&dir).unwrap();
        let listener = Listener::bind(File::open(&dir).unwrap().as_fd(), "s").unwrap();
        let client = Channel::connect(&dir.join("s")).unwrap();
        let server = listener.accept().unwrap();

        let (mut reader, mut writer) = std::io::pipe().unwrap();
        client.send(&Request::Signal { number: 15 }, &[writer.as_fd()]).unwrap();
        let (request, mut fds) = server.receive::<Request>().unwrap().unwrap();
        assert!(matches!(request, Request::Signal { number: 15 }));
        File::from(fds.remove(0)).write_all(b"x").unwrap();
        writer.write_all(b"y").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "xy");

        drop(client);
        assert!(server.receive::<Request>().unwrap().is_none());
    }
}
