//! `exec` for the command line: talks to the supervisor directly, without the daemon. Pipes and sockets are passed to
//! the program. Terminals and files stay in this process, which copies their data: a program in a container could type
//! into the user's terminal, or open a passed file again through `/proc/self/fd`, for reading and writing.

use std::{
    fs::File,
    io::{self, IsTerminal},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, SigmaskHow, Signal},
        signalfd::{SfdFlags, SignalFd},
        stat::{SFlag, fstat, makedev},
        termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
    },
};

use super::{
    error::{Error, call},
    protocol::{Channel, Exec, Request, Response, WindowSize},
    relay::{Relay, set_nonblocking},
};

/// The program to run.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// `KEY=VALUE` pairs, which override the container's.
    pub env: Vec<String>,
    /// The directory where it starts; the container's if absent.
    pub working_dir: Option<PathBuf>,
}

/// Runs a program in the container whose supervisor listens at `socket`, and returns its exit code.
///
/// `interactive` connects stdin, `tty` gives it a terminal. Signals are blocked in the calling thread, so that the
/// user's terminal is restored when one ends this process: call this before other threads are started.
///
/// # Errors
/// [`Error::Start`] if the program cannot be started, with Docker's message and exit code; [`Error::Gone`] if the
/// container is not running; [`Error::NoTerminal`] if stdin must be a terminal and is not.
pub fn run(socket: &Path, command: Command, interactive: bool, tty: bool) -> Result<i32, Error> {
    if tty && interactive && !io::stdin().is_terminal() {
        return Err(Error::NoTerminal);
    }
    let channel = Channel::connect(socket).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::Gone,
        _ => call("connect to", socket.display())(source),
    })?;
    let Command { argv, env, working_dir } = command;
    let request = Request::Exec(Exec { argv, env, working_dir, tty: tty.then(window_size) });
    let run = if tty { in_terminal } else { plain };
    run(&channel, request, interactive).map_err(cannot_exec)
}

/// Adds Docker's words to the reason why a program cannot be started.
pub(super) fn cannot_exec(error: Error) -> Error {
    match error {
        Error::Start { exit_code: exit_code @ (126 | 127), message } => {
            let what = "exec failed: unable to start container process";
            Error::Start { exit_code, message: format!("{what}: {message}") }
        }
        other => other,
    }
}

fn in_terminal(channel: &Channel, request: Request, interactive: bool) -> Result<i32, Error> {
    let (response, mut fds) = channel.ask(&request, &[])?;
    let (Response::Started, Some(terminal)) = (&response, fds.pop()) else {
        return Err(Error::Protocol(format!("{response:?}")));
    };
    let failed = || call::<io::Error>("relay", "the terminal");
    set_nonblocking(&terminal).map_err(failed())?;
    let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned();
    let mut inputs = Vec::new();
    if interactive {
        let input = copy(io::stdin().as_fd()).map_err(failed())?;
        inputs.push(Relay::new(input, copy(terminal.as_fd()).map_err(failed())?));
    }
    let output = copy(io::stdout().as_fd()).map_err(failed())?;
    let outputs = vec![Relay::new(copy(terminal.as_fd()).map_err(failed())?, output)];
    let _raw = interactive.then(RawMode::enter).transpose().map_err(failed())?;
    converse(channel, inputs, outputs, Some(&terminal))
}

fn plain(channel: &Channel, request: Request, interactive: bool) -> Result<i32, Error> {
    let failed = || call::<io::Error>("pass on", "the standard streams");
    let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(failed());
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    let stdin: OwnedFd = match (interactive, may_be_given_away(io::stdin().as_fd())) {
        (false, _) => File::open("/dev/null").map_err(failed())?.into(),
        (true, true) => copy(io::stdin().as_fd())?,
        (true, false) => {
            let (reader, writer) = io::pipe().map_err(failed())?;
            set_nonblocking(&writer).map_err(failed())?;
            inputs.push(Relay::new(copy(io::stdin().as_fd())?, writer.into()));
            reader.into()
        }
    };
    let mut output = |fd: BorrowedFd<'_>| -> Result<OwnedFd, Error> {
        if may_be_given_away(fd) {
            return copy(fd);
        }
        let (reader, writer) = io::pipe().map_err(failed())?;
        set_nonblocking(&reader).map_err(failed())?;
        outputs.push(Relay::new(reader.into(), copy(fd)?));
        Ok(writer.into())
    };
    let (stdout, stderr) = (output(io::stdout().as_fd())?, output(io::stderr().as_fd())?);
    match channel.ask(&request, &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])? {
        (Response::Started, _) => {}
        (other, _) => return Err(Error::Protocol(format!("{other:?}"))),
    }
    // The program must be the only holder of its streams.
    drop((stdin, stdout, stderr));
    converse(channel, inputs, outputs, None)
}

/// Whether a stream can be passed to the program: its holder can do nothing else with it. `/dev/null` is safe, too.
fn may_be_given_away(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFIFO | SFlag::S_IFSOCK => true,
        SFlag::S_IFCHR => stat.st_rdev == makedev(1, 3),
        _ => false,
    })
}

/// Copies data until the program has ended. Does not wait for its children, even if they hold streams open.
fn converse(
    channel: &Channel,
    mut inputs: Vec<Relay>,
    mut outputs: Vec<Relay>,
    terminal: Option<&OwnedFd>,
) -> Result<i32, Error> {
    let signals = terminal.map(|_| Signals::catch()).transpose().map_err(call("receive", "signals"))?;
    loop {
        let relays = inputs.iter().chain(&outputs);
        let mut fds = vec![PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        fds.extend(signals.iter().map(|s| PollFd::new(s.fd.as_fd(), PollFlags::POLLIN)));
        let first_relay = fds.len();
        fds.extend(relays.flat_map(Relay::interest).map(|(fd, flags)| PollFd::new(fd, flags)));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            result => result.map_err(call("wait for", "the program"))?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let active = inputs.iter_mut().chain(&mut outputs).filter(|relay| relay.interest().is_some());
        for (relay, _) in active.zip(&ready[first_relay..]).filter(|(_, ready)| **ready) {
            relay.advance();
        }
        if let (Some(signals), Some(terminal)) = (&signals, terminal) {
            while let Ok(Some(info)) = signals.fd.read_signal() {
                if info.ssi_signo != Signal::SIGWINCH as u32 {
                    return Ok(128 + info.ssi_signo as i32);
                }
                let size = window_size();
                let size = rustix::termios::Winsize {
                    ws_row: size.rows,
                    ws_col: size.columns,
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                // Fails if the program has just ended, which does not matter.
                let _ = rustix::termios::tcsetwinsize(terminal, size);
            }
        }
        if ready[0] {
            outputs.iter_mut().for_each(Relay::drain);
            return match channel.receive().map_err(call("read from", "the supervisor"))? {
                Some((Response::Exited { code }, _)) => Ok(code),
                Some((other, _)) => Err(Error::Protocol(format!("{other:?}"))),
                // The supervisor was killed, and the program with it.
                None => Ok(128 + Signal::SIGKILL as i32),
            };
        }
    }
}

/// The size of the user's terminal.
fn window_size() -> WindowSize {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) => WindowSize { rows: size.ws_row, columns: size.ws_col },
        Err(_) => WindowSize { rows: 0, columns: 0 },
    }
}

/// Raw mode of the user's terminal, restored on drop: every key goes to the program.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> io::Result<RawMode> {
        let usual = tcgetattr(io::stdin())?;
        let mut raw = usual.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(RawMode(usual))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Fails if the terminal is gone.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

/// Signals as events; the signal mask is restored on drop.
struct Signals {
    fd: SignalFd,
    usual: SigSet,
}

impl Signals {
    fn catch() -> io::Result<Signals> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGWINCH, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            mask.add(signal);
        }
        let usual = mask.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let fd = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { fd, usual })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = self.usual.thread_set_mask();
    }
}
