//! Commands on a host: started, awaited, judged. None is waited for without end.

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

/// How long any command may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A command that runs; killed when this value goes.
pub struct Process {
    line: String,
    pid: Pid,
    end: Receiver<io::Result<std::process::Output>>,
    ended: bool,
}

/// A command that ended.
#[derive(Debug)]
pub struct Output {
    line: String,
    /// How.
    pub status: ExitStatus,
    /// What it wrote.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
}

impl Process {
    /// Starts a command with its output in pipes.
    #[track_caller]
    pub(super) fn start(host: &Host, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::start_as_it_is(host, command)
    }

    /// Starts a command whose descriptors are the caller's choice.
    #[track_caller]
    pub(super) fn start_as_it_is(host: &Host, mut command: Command) -> Self {
        // A ^C at the terminal is for whoever runs these: it ends them, in order.
        command.process_group(0);
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let entrance = host.entrance();
        let (started, start) = channel();
        let (ended, end) = channel();
        // A thread, because it leaves this process's namespaces. It also waits, so that everybody else can give up.
        thread::spawn(move || {
            let child = entrance.enter().map_err(io::Error::from).and_then(|()| command.spawn());
            // Its ends of the pipes: the command's end closes the last ones.
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

    /// Waits for its end.
    #[must_use = "say what is expected: .ok() or .fails_with()"]
    #[track_caller]
    pub fn output(self) -> Output {
        self.try_output().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits for the end of something that takes long on purpose.
    #[must_use = "say what is expected: .ok() or .fails_with()"]
    #[track_caller]
    pub fn output_within(self, patience: Duration) -> Output {
        self.wait(patience).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) fn try_output(self) -> Result<Output, String> {
        self.wait(TIMEOUT)
    }

    fn wait(mut self, patience: Duration) -> Result<Output, String> {
        match self.end.recv_timeout(patience) {
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
                patience.as_secs()
            )),
            Err(RecvTimeoutError::Disconnected) => {
                Err(format!("wait for {}: the waiting thread panicked", self.line))
            }
        }
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        assert!(self.is_running(), "{} has ended", self.line);
        kill(self.pid, signal).unwrap_or_else(|errno| panic!("{signal} to {}: {errno}", self.line));
    }

    /// Ends it with SIGINT, which makes ping and tcpdump say what they saw, and waits.
    #[must_use = "say what is expected: .ok() or .fails_with()"]
    #[track_caller]
    pub fn interrupt(self) -> Output {
        self.signal(Signal::SIGINT);
        self.output()
    }

    /// Whether it has not ended yet. Its process number is its own as long as it is not reaped, which
    /// the waiting thread does.
    pub(super) fn is_running(&self) -> bool {
        !self.ended && std::fs::exists(format!("/proc/{}", self.pid)).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended && self.is_running() {
            // Its group: a worker that it leaves would hold its output.
            let _ = killpg(self.pid, Signal::SIGKILL);
            let _ = self.end.recv_timeout(TIMEOUT);
        }
    }
}

impl Output {
    /// It succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "expected success\n{self}");
        self
    }

    /// It failed with this code, and said this on stderr, among other things perhaps.
    #[track_caller]
    pub fn fails_with(self, code: i32, message: &str) -> Self {
        assert!(self.status.code() == Some(code), "expected exit code {code}\n{self}");
        assert!(self.stderr.contains(message), "expected on stderr: {message}\n{self}");
        self
    }

    /// What it wrote, without the last line's end.
    pub fn text(&self) -> &str {
        self.stdout.trim_end()
    }

    /// What it wrote, as JSON.
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
