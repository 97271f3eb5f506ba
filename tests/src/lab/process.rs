//! Commands on a host. Every wait has a time limit.

use std::{
    fmt, io,
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use super::host::Host;

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A running command, killed on drop.
pub struct Process {
    line: String,
    pid: Pid,
    end: Receiver<io::Result<std::process::Output>>,
    ended: bool,
}

/// The result of a command.
#[derive(Debug)]
pub struct Output {
    line: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Process {
    /// Starts a command with pipes for its output.
    #[track_caller]
    pub(super) fn start(host: &Host, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::start_as_it_is(host, command)
    }

    /// Starts a command with the descriptors that the caller has set.
    #[track_caller]
    pub(super) fn start_as_it_is(host: &Host, mut command: Command) -> Self {
        // A process group of its own, so that ^C at the terminal reaches only the test program, which ends the
        // commands.
        command.process_group(0);
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let entrance = host.entrance();
        let (started, start) = channel();
        let (ended, end) = channel();
        // In a thread, because it leaves this process's namespaces. It also waits for the command, so that others can
        // give up.
        thread::spawn(move || {
            let child = entrance.enter().map_err(io::Error::from).and_then(|()| command.spawn());
            // Closes its ends of the pipes; the command then has the last ones.
            drop(command);
            let pid = child.as_ref().map(Child::id).map_err(ToString::to_string);
            let _ = started.send(pid);
            if let Ok(child) = child {
                let _ = ended.send(child.wait_with_output());
            }
        });
        match start.recv() {
            Ok(Ok(pid)) => Self { line, pid: Pid::from_raw(pid.cast_signed()), end, ended: false },
            Ok(Err(error)) => panic!("start {line}: {error}"),
            Err(_) => panic!("start {line}: the thread that starts it panicked"),
        }
    }

    /// Waits for the end of the command.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn output(self) -> Output {
        self.try_output().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits for the end of a command that may take this long.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn output_within(self, timeout: Duration) -> Output {
        self.wait(timeout).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) fn try_output(self) -> Result<Output, String> {
        self.wait(TIMEOUT)
    }

    fn wait(mut self, timeout: Duration) -> Result<Output, String> {
        match self.end.recv_timeout(timeout) {
            Ok(Ok(output)) => {
                self.ended = true;
                Ok(Output {
                    line: self.line.clone(),
                    status: output.status,
                    stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                    stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
                })
            }
            Ok(Err(error)) => Err(format!("wait for {}: {error}", self.line)),
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "{} did not end within {} s, or a child of it holds its output",
                self.line,
                timeout.as_secs()
            )),
            Err(RecvTimeoutError::Disconnected) => {
                Err(format!("wait for {}: the waiting thread panicked", self.line))
            }
        }
    }

    /// Sends a signal to the command.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        assert!(self.is_running(), "{} has ended", self.line);
        kill(self.pid, signal).unwrap_or_else(|errno| panic!("{signal} to {}: {errno}", self.line));
    }

    /// Ends the command by SIGINT, after which ping and tcpdump print their results, and waits for it.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn interrupt(self) -> Output {
        self.signal(Signal::SIGINT);
        self.output()
    }

    /// Whether the command is still running. The waiting thread reaps it, so until then the PID cannot be reused.
    pub fn is_running(&self) -> bool {
        !self.ended && std::fs::exists(format!("/proc/{}", self.pid)).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended && self.is_running() {
            // The whole group, because its children would hold its output open.
            let _ = killpg(self.pid, Signal::SIGKILL);
            let _ = self.end.recv_timeout(TIMEOUT);
        }
    }
}

impl Output {
    /// Asserts success.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "expected success\n{self}");
        self
    }

    /// Asserts this exit code, and that stderr contains this message.
    #[track_caller]
    pub fn fails_with(self, code: i32, message: &str) -> Self {
        assert!(self.status.code() == Some(code), "expected exit code {code}\n{self}");
        assert!(self.stderr.contains(message), "expected on stderr: {message}\n{self}");
        self
    }

    /// Its standard output without the newline at the end.
    pub fn text(&self) -> &str {
        self.stdout.trim_end()
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("expected JSON: {error}\n{self}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, status, stdout, stderr } = self;
        write!(f, "{line}\n{status}\nstdout:\n{stdout}\nstderr:\n{stderr}")
    }
}
