//! A service manager as far as a daemon sees one, which is what systemd is on users' hosts: it holds sockets and hands
//! them over, and hears what the daemon says of itself. Must not know what is asked at the sockets.

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

/// Where netbpf's units have their sockets.
const SOCKETS: [&str; 2] = ["/run/netbpf/netbpf.sock", "/run/docker/plugins/netbpf.sock"];

/// How long a daemon may be silent.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A shell has its input and output taken for the first descriptors beyond, and keeps its number.
const HAND_OVER: &str = r#"exec env LISTEN_FDS=2 LISTEN_PID=$$ "$@" 3<&0 4<&1 </dev/null >&2"#;

/// Sockets that live longer than a daemon.
pub struct HeldSockets([OwnedFd; 2]);

impl HeldSockets {
    /// On a thread, because they have the names by which the host knows them.
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

    /// The start of a command that gets them.
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
    /// Opens the daemon's sockets and hands them to all daemons that start from now on, until they are released.
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

/// What hears a daemon.
pub struct Ears(UnixDatagram);

impl Ears {
    /// Where daemons are told to speak to.
    pub const PATH: &str = "/run/notify";

    /// At its place on a host.
    #[track_caller]
    pub fn open(lab: &Lab) -> Self {
        let socket = UnixDatagram::bind(lab.path(Self::PATH)).expect("a socket");
        socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        Self(socket)
    }

    /// What is said until somebody says `word`, line by line.
    #[track_caller]
    pub fn hear_until(&self, word: &str) -> Vec<String> {
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        while !heard.iter().any(|line| line == word) {
            let length = match self.0.recv(&mut buffer) {
                // With a timeout it is not begun again after a signal (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                received => received.unwrap_or_else(|error| panic!("{error} after {heard:?}")),
            };
            heard.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
        }
        heard
    }
}
