//! The daemon of a lab: its program, its start, its end.

use std::{
    ffi::OsStr,
    fs::File,
    io::{Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::{
        inotify::{AddWatchFlags, InitFlags, Inotify},
        signal::Signal,
    },
};

use super::{Output, Process, STATE_DIR, host::Host, manager::HeldSockets};

/// netbpf's default run directory.
pub const RUN_DIR: &str = "/run/netbpf";

/// How long a daemon may take to answer. Long, because some kernels are emulated.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The interval of checks when nothing happens in the run directory: the daemon may have ended, or it listens on a
/// socket that was there before. In milliseconds.
const POLL_MS: u8 = 50;

/// The variable with further options of all daemons. Where a test chooses one itself, that is not used.
const OPTIONS: &str = "NETBPF_DAEMON_OPTIONS";

/// The program under test: `NETBPF_BIN`, or what cargo has built.
pub fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("NETBPF_BIN") {
        return named.into();
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    ["debug", "release"]
        .map(|profile| target.join(profile).join("netbpf"))
        .into_iter()
        .find(|program| program.exists())
        .expect("netbpf: run `cargo build`, or name the program in NETBPF_BIN")
}

/// How to start the daemons of a lab.
#[derive(Default)]
pub struct Manner {
    /// Further options of the daemon.
    pub options: Vec<String>,
    /// A command that executes the daemon; empty to start it directly.
    pub by: Vec<String>,
    /// Sockets to pass to the daemon.
    pub sockets: Option<HeldSockets>,
}

/// A running daemon.
pub struct Daemon(Process);

impl Daemon {
    /// Starts a daemon and waits until it answers. The error is the reason why it does not.
    pub fn start(host: &Host, program: &Path, manner: &Manner, log: &File) -> Result<Self, String> {
        let run_dir = host.path(RUN_DIR);
        let events = watch(&run_dir).map_err(|errno| format!("watch {RUN_DIR}: {errno}"))?;
        let log =
            || log.try_clone().map(Stdio::from).map_err(|error| format!("share the daemon's log: {error}"));
        let Manner { options, by, sockets } = manner;
        let mut words = by.iter().map(OsStr::new).chain([program.as_os_str()]);
        let mut command = match sockets {
            Some(sockets) => sockets.hand_over(words)?,
            None => {
                let mut command = Command::new(words.next().unwrap_or_default());
                command.args(words).stdin(Stdio::null()).stdout(log()?);
                command
            }
        };
        command.args(["daemon", "--state-dir", STATE_DIR]).args(options).args(others(options)).stderr(log()?);
        let daemon = Self(Process::start_as_it_is(host, command));
        let give_up = Instant::now() + TIMEOUT;
        while !answers(&run_dir.join("netbpf.sock"), TIMEOUT) {
            if !daemon.0.is_running() {
                return Err(format!("the daemon ended with {}", daemon.0.try_output()?.status));
            }
            if Instant::now() > give_up {
                return Err(format!("the daemon does not answer after {} s", TIMEOUT.as_secs()));
            }
            let mut ready = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, POLL_MS).is_ok_and(|count| count > 0) {
                let _ = events.read_events();
            }
        }
        Ok(daemon)
    }

    /// Stops the daemon by SIGTERM and waits for its end.
    #[must_use]
    #[track_caller]
    pub fn stop(self) -> Output {
        self.0.signal(Signal::SIGTERM);
        self.0.output()
    }

    /// Waits for its end, of which somebody else takes care.
    #[track_caller]
    pub fn await_end(self) {
        let _ = self.0.output();
    }

    /// Ends it without asking.
    #[track_caller]
    pub fn kill(self) {
        self.0.signal(Signal::SIGKILL);
        let _ = self.0.output();
    }
}

/// The options of all daemons that are not among these.
fn others(chosen: &[String]) -> Vec<String> {
    fn name(option: &str) -> &str {
        option.split('=').next().unwrap_or_default()
    }
    let of_all = std::env::var(OPTIONS).unwrap_or_default();
    let is_chosen = |option: &&str| chosen.iter().any(|other| name(other) == name(option));
    of_all.split_whitespace().filter(|option| !is_chosen(option)).map(str::to_owned).collect()
}

fn watch(dir: &Path) -> nix::Result<Inotify> {
    let events = Inotify::init(InitFlags::IN_CLOEXEC)?;
    events.add_watch(dir, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ATTRIB)?;
    Ok(events)
}

/// Whether an HTTP server answers at a socket within this time.
pub(crate) fn answers(socket: &Path, within: Duration) -> bool {
    let ask = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(within))?;
        stream.write_all(b"GET /version HTTP/1.1\r\nHost: netbpf\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).map(|()| answer.starts_with(b"HTTP/1.1 200"))
    };
    ask().unwrap_or_default()
}
