//! A minimal service manager, in place of the systemd on users' hosts: holds listening sockets and passes them to
//! daemons, and receives the daemon's notifications. Must not know the requests at the sockets.

use std::{
    ffi::OsStr,
    fs,
    io::ErrorKind,
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener},
    },
    panic::resume_unwind,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{Lab, host::Host};

/// The sockets of netbpf's systemd units.
const SOCKETS: [&str; 2] = ["/run/netbpf/netbpf.sock", "/run/docker/plugins/netbpf.sock"];

/// How long to wait for a notification.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A shell whose standard input and output are the two sockets: moves them to descriptors 3 and 4, and executes the
/// daemon under its own PID.
const HAND_OVER: &str = r#"exec env LISTEN_FDS=2 LISTEN_PID=$$ "$@" 3<&0 4<&1 </dev/null >&2"#;

/// Listening sockets that outlive a daemon.
pub struct HeldSockets([OwnedFd; 2]);

impl HeldSockets {
    /// Binds the sockets in a thread on the host, because their paths are the host's.
    #[track_caller]
    fn open(host: &Host) -> Self {
        let entrance = host.entrance();
        let open = move || {
            entrance.enter().expect("a thread enters the host");
            fs::create_dir_all("/run/docker/plugins").expect("folders like Docker's");
            SOCKETS.map(|path| UnixListener::bind(path).expect("a socket").into())
        };
        Self(thread::spawn(open).join().unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// The start of a command that gets these sockets.
    pub(super) fn hand_over<'a>(&self, words: impl Iterator<Item = &'a OsStr>) -> Result<Command, String> {
        let [input, output] = [0, 1].map(|number: usize| self.0[number].try_clone());
        let shared = |error| format!("share a socket: {error}");
        let mut command = Command::new("sh");
        command.args(["-c", HAND_OVER, "sh"]).args(words);
        command.stdin(Stdio::from(input.map_err(shared)?)).stdout(Stdio::from(output.map_err(shared)?));
        Ok(command)
    }
}

impl Lab {
    /// Opens the daemon's sockets and passes them to all daemons that are started until [`Lab::release_sockets`].
    #[track_caller]
    pub fn hold_sockets(&self) {
        self.manner.borrow_mut().sockets = Some(HeldSockets::open(&self.host));
    }

    /// Ends the daemon, closes the sockets and removes their files.
    #[track_caller]
    pub fn release_sockets(&self) {
        self.stop_daemon();
        self.manner.borrow_mut().sockets = None;
        for path in SOCKETS {
            fs::remove_file(self.path(path)).expect("the file of a socket that was held");
        }
        for folder in ["/run/docker/plugins", "/run/docker"] {
            fs::remove_dir(self.path(folder)).expect("a folder with nothing else in it");
        }
    }
}

/// Receives the notifications of a daemon (`sd_notify`).
pub struct NotifySocket(UnixDatagram);

impl NotifySocket {
    /// The path for `NOTIFY_SOCKET`.
    pub const PATH: &str = "/run/notify";

    /// Binds the socket on a lab's host.
    #[track_caller]
    pub fn open(lab: &Lab) -> Self {
        let socket = UnixDatagram::bind(lab.path(Self::PATH)).expect("a socket");
        socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        Self(socket)
    }

    /// Receives notifications until one has the line `word`. Returns all lines.
    #[track_caller]
    pub fn receive_until(&self, word: &str) -> Vec<String> {
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        while !heard.iter().any(|line| line == word) {
            let length = match self.0.recv(&mut buffer) {
                // A receive with a timeout is not restarted after a signal (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                received => received.unwrap_or_else(|error| panic!("{error} after {heard:?}")),
            };
            heard.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
        }
        heard
    }
}
