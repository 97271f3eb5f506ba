//! A lab: a host made of namespaces, on which the real `netbpf` and other real tools run.
//!
//! A test creates a lab and runs commands. When the lab is dropped, it removes what the test created, stops the daemon
//! and compares the host with its state before. Any difference fails the test.
//!
//! ```no_run
//! use netbpf_tests::lab::Lab;
//!
//! let lab = Lab::start();
//! lab.netbpf(["run", "-d", "--name", "tomcat01", "--", "sleep", "infinity"]).ok();
//! lab.host(["ping", "-c1", "172.17.0.2"]).ok();
//! lab.netbpf(["network", "rm", "nobody"]).fails_with(1, "network nobody not found");
//! ```
//!
//! Labs are independent and may run at the same time: each has its own network, processes, mounts and host name, its
//! own `/run` (with `ip netns`) and its own bpffs, so netbpf's default directories can be used. The rest of the file
//! system is the machine's, and tests do not write to it. Must not know how netbpf works inside.

mod daemon;
mod host;
mod manager;
mod process;
mod residue;
mod sockets;
pub mod station;
mod turn;
mod words;

use std::{
    cell::{Cell, RefCell},
    ffi::OsStr,
    io::{Seek, Write},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    thread,
};

pub(crate) use daemon::answers;
pub use daemon::program;
use daemon::{Daemon, Manner};
use host::Host;
pub use manager::NotifySocket;
pub use process::{Output, Process};
use residue::Snapshot;
pub use sockets::{accept, connect, meanwhile};
use turn::Turn;
pub use words::{datagram_server, eventually, eventually_is, kernel_version, tell};

/// The daemon's state directory, on the lab's own file system, unlike netbpf's default.
pub const STATE_DIR: &str = "/run/state";

/// One host. See the [module](self).
pub struct Lab {
    // Fields are dropped in this order: processes of a host before the host itself.
    daemon: RefCell<Option<Daemon>>,
    manner: RefCell<Manner>,
    before: Snapshot,
    /// The state directory as the first daemon made it.
    fresh_state: RefCell<Option<Snapshot>>,
    program: PathBuf,
    log: tempfile::NamedTempFile,
    /// Whether to skip the check at the end.
    is_unchecked: Cell<bool>,
    host: Host,
    _turn: Turn,
}

impl Lab {
    /// Creates a host and starts a daemon on it.
    #[track_caller]
    pub fn start() -> Self {
        let lab = Self::without_daemon();
        lab.start_daemon();
        lab
    }

    /// Creates a host and starts a daemon on it, while no other test runs: for measurements.
    #[track_caller]
    pub fn start_alone() -> Self {
        let lab = Self::alone_without_daemon();
        lab.start_daemon();
        lab
    }

    /// Creates a host without a daemon, while no other test runs.
    #[track_caller]
    pub fn alone_without_daemon() -> Self {
        Self::take(Turn::alone(), program())
    }

    /// Creates a host and starts a daemon of this program on it.
    #[track_caller]
    pub fn start_program(program: &Path) -> Self {
        let lab = Self::take(Turn::shared(), program.to_owned());
        lab.start_daemon();
        lab
    }

    /// Creates a host without a daemon.
    #[track_caller]
    pub fn without_daemon() -> Self {
        Self::take(Turn::shared(), program())
    }

    #[track_caller]
    fn take(turn: Turn, program: PathBuf) -> Self {
        let host = Host::new();
        let log = tempfile::NamedTempFile::new().expect("a file for the daemon's log");
        // Created here, so that the start of the daemon can be watched for the socket in it.
        std::fs::create_dir(host.path(daemon::RUN_DIR)).expect("the daemon's run directory");
        let before = Snapshot::of_host(&host);
        Self {
            daemon: RefCell::default(),
            manner: RefCell::default(),
            before,
            fresh_state: RefCell::default(),
            program,
            log,
            is_unchecked: Cell::default(),
            host,
            _turn: turn,
        }
    }

    /// Runs `netbpf ARGUMENTS` and waits for its end.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn netbpf<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        self.spawn_netbpf(arguments).output()
    }

    /// Runs another command on the host and waits for its end.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn host<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Output {
        self.spawn(command).output()
    }

    /// Starts `netbpf ARGUMENTS` in the background.
    #[track_caller]
    pub fn spawn_netbpf<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Process {
        let mut command = std::process::Command::new(&self.program);
        command.args(arguments);
        Process::start(&self.host, command)
    }

    /// Starts a command on the host in the background.
    #[track_caller]
    pub fn spawn<S: AsRef<OsStr>>(&self, command: impl IntoIterator<Item = S>) -> Process {
        let mut words = command.into_iter();
        let program = words.next().expect("a command has a program");
        let mut command = std::process::Command::new(program);
        command.args(words);
        Process::start(&self.host, command)
    }

    /// The netbpf program of this lab.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A file of the host by its absolute path there, as this process sees it.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.host.path(path)
    }

    /// Starts the daemon and waits until it answers.
    #[track_caller]
    pub fn start_daemon(&self) {
        if let Err(reason) = self.try_start_daemon() {
            panic!("{reason}; its log:\n{}", self.daemon_log());
        }
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// Says why it does not.
    #[track_caller]
    pub fn try_start_daemon(&self) -> Result<(), String> {
        let mut slot = self.daemon.borrow_mut();
        assert!(slot.is_none(), "the daemon runs already");
        let daemon = Daemon::start(&self.host, &self.program, &self.manner.borrow(), self.log.as_file())?;
        *slot = Some(daemon);
        self.fresh_state
            .borrow_mut()
            .get_or_insert_with(|| Snapshot::of_files(&self.host, Path::new(STATE_DIR)));
        Ok(())
    }

    /// Sets the options of daemons that are started from now on; separated by spaces.
    pub fn tell_daemons(&self, options: &str) {
        self.manner.borrow_mut().options = options.split_whitespace().map(str::to_owned).collect();
    }

    /// Sets a command that executes the daemons started from now on.
    pub fn start_daemons_by(&self, command: &[&str]) {
        self.manner.borrow_mut().by = command.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Stops the daemon by SIGTERM, as an administrator does, and waits for its end.
    #[track_caller]
    pub fn stop_daemon(&self) {
        let output = self.running_daemon().stop();
        assert!(output.status.success(), "the daemon ended with {}: {}", output.status, self.daemon_log());
    }

    /// Waits until the daemon has ended, of which somebody else takes care.
    #[track_caller]
    pub fn await_daemon_end(&self) {
        self.running_daemon().await_end();
    }

    /// Ends the daemon as a crash does, by SIGKILL.
    #[track_caller]
    pub fn kill_daemon(&self) {
        self.running_daemon().kill();
    }

    /// Stops the daemon and starts it again.
    #[track_caller]
    pub fn restart_daemon(&self) {
        self.stop_daemon();
        self.start_daemon();
    }

    /// The log of all daemons of this lab.
    pub fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_else(|error| error.to_string())
    }

    /// Empties the log, which grows for hours otherwise.
    #[track_caller]
    pub fn forget_daemon_log(&self) {
        let mut log = self.log.as_file();
        // All daemons write where this ends, because they share the open file.
        log.set_len(0).and_then(|()| log.rewind()).expect("an empty log");
    }

    /// The same lab without the check at the end: for uses other than tests.
    #[must_use]
    pub fn unchecked(self) -> Self {
        self.is_unchecked.set(true);
        self
    }

    #[track_caller]
    fn running_daemon(&self) -> Daemon {
        self.daemon.borrow_mut().take().expect("the daemon runs")
    }

    /// Removes what the test created, and checks that nothing else is left.
    fn check_residue(&self) {
        let Some(fresh_state) = self.fresh_state.take() else {
            return self.before.assert_unchanged(&self.host);
        };
        if self.daemon.borrow().is_none() {
            self.start_daemon();
        }
        let containers = self.netbpf(["ps", "-aq"]).ok();
        if !containers.stdout.trim().is_empty() {
            self.netbpf(["rm", "-f"].into_iter().chain(containers.stdout.split_whitespace())).ok();
        }
        self.netbpf(["network", "prune", "-f"]).ok();
        fresh_state.assert_unchanged(&self.host);
        self.stop_daemon();
        self.before.assert_unchanged(&self.host);
    }

    /// A panic in a request's task ends only that request, which a test may not have waited for.
    fn check_for_panics(&self) {
        assert!(!self.daemon_log().contains("panicked at"), "a process of netbpf panicked");
    }

    /// Prints information that helps to understand a failure.
    fn print_world(&self) {
        let mut world = format!("the daemon's log:\n{}", self.daemon_log());
        for command in [&["ip", "-br", "addr"][..], &["ip", "route"]] {
            let output = self.spawn(command).try_output();
            let text = output.map_or_else(|error| error, |output| output.stdout + &output.stderr);
            world += &format!("{}:\n{text}", command.join(" "));
        }
        // Not eprintln, which panics if stderr is closed: the original failure must be the one that is reported.
        let _ = writeln!(std::io::stderr(), "{world}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.is_unchecked.get() {
            return;
        }
        if thread::panicking() {
            return self.print_world();
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| {
            self.check_residue();
            self.check_for_panics();
        })) {
            self.print_world();
            resume_unwind(panic);
        }
    }
}
