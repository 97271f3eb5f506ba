//! The supervisor process of a container: one thread with one event loop. It holds the namespaces, is the parent of
//! every program in them, and needs no daemon once the command is running.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
    rc::Rc,
};

use jiff::Timestamp;
use nix::{
    errno::Errno,
    fcntl::{AtFlags, FcntlArg, OFlag, fcntl, openat, renameat},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        stat::{Mode, umask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Gid, Pid, UnlinkatFlags, fchownat, unlinkat},
};
use rustix::{pty::OpenptFlags, termios::Winsize};

use super::{
    child::{self, Failure, Program},
    error::{Error, call},
    filesystem::{self, View},
    namespaces,
    output::Output,
    protocol::{Channel, Exec, Listener, Request, Response, WindowSize},
    rotation::Log,
    spec::{EXIT, Exit, PID, SOCKET, Spec},
};
use crate::process;

/// Sent to the daemon when the sandbox is ready to be connected to networks. Any other text is the error.
pub(super) const READY: &str = "ready";
/// The pause before another attempt to mount a file again, in milliseconds: the first and the longest one.
const REPAIR_MS: (u16, u16) = (5, 1000);

/// Supervises the sandbox in `dir` until its container has ended. The process must have one thread. stdin tells until
/// the start that the daemon is alive; stdout goes to the daemon.
///
/// # Errors
/// [`Error`] of the step that could not be done; while the sandbox is built, the daemon gets its text, too.
pub fn supervise(dir: &Path) -> Result<(), Error> {
    // Leaves the daemon's terminal. Fails if the process leads a session already, which is as good.
    let _ = nix::unistd::setsid();
    umask(Mode::from_bits_truncate(0o022));
    // The program was started by a descriptor number, which would be its name otherwise.
    prctl::set_name(c"netbpf").map_err(call("set", "the process's name"))?;
    // Its forked children are in the container before they execute a program. Nobody there may read their memory or
    // descriptors.
    prctl::set_dumpable(false).map_err(call("hide", "memory"))?;
    let mut report = io::stdout();
    let built = Supervisor::build(dir);
    let text = built.as_ref().map_or_else(ToString::to_string, |_| READY.into());
    report
        .write_all(text.as_bytes())
        .and_then(|()| report.flush())
        .map_err(call("report to", "the daemon"))?;
    let mut supervisor = built?;
    let null = OpenOptions::new().write(true).open("/dev/null").map_err(call("open", "/dev/null"))?;
    nix::unistd::dup2_stdout(&null).map_err(call("close", "stdout"))?;
    supervisor.run()
}

struct Supervisor {
    spec: Spec,
    /// The directory of the sandbox, which may have no path in this process's root.
    dir: OwnedFd,
    log: Log,
    listener: Listener,
    signals: SignalFd,
    view: View,
    /// The pause before the next attempt to mount a file again, in milliseconds; `None` if all are mounted.
    repair: Option<u16>,
    clients: Vec<Client>,
    command: Command,
    execs: Vec<(Pid, Rc<Channel>)>,
}

struct Client {
    channel: Rc<Channel>,
    gone: bool,
}

enum Command {
    /// Not started yet; the daemon may still give up.
    Awaited,
    Running(Pid, Vec<Output>),
    Ended(i32),
    /// Not started, and never will be.
    Abandoned,
}

/// Why a request was not carried out.
enum Refusal {
    /// The command was not started, or has ended.
    NotRunning,
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

#[derive(Clone, Copy)]
enum Event {
    Signal,
    Caller,
    Lease,
    Mount,
    Output(usize),
    Client(usize),
}

impl Supervisor {
    fn build(dir: &Path) -> Result<Supervisor, Error> {
        let spec = Spec::read(dir)?;
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            mask.add(signal);
        }
        mask.thread_block().map_err(call("block", "signals"))?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(call("receive", "signals"))?;
        let log = Log::open(&spec.log).map_err(call("open", spec.log.display()))?;
        let dir_fd: OwnedFd = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(dir)
            .map_err(call("open", dir.display()))?
            .into();
        let listener = listen(&dir_fd, spec.socket_group)?;
        namespaces::enter(&spec)?;
        let view = filesystem::enter(&spec, dir)?;
        Ok(Supervisor {
            spec,
            dir: dir_fd,
            log,
            listener,
            signals,
            view,
            repair: None,
            clients: Vec::new(),
            command: Command::Awaited,
            execs: Vec::new(),
        })
    }

    fn run(&mut self) -> Result<(), Error> {
        loop {
            match &mut self.command {
                Command::Awaited | Command::Running(..) => {}
                Command::Ended(code) => {
                    let exit = Exit { code: *code, finished: Timestamp::now() };
                    return self.leave(Some(exit));
                }
                Command::Abandoned => return self.leave(None),
            }
            for event in self.wait()? {
                self.handle(event);
            }
            if let Some(pause) = self.repair {
                self.repair = (!self.view.repair()).then(|| REPAIR_MS.1.min(pause * 2));
            }
            // The programs of a client that is gone go on.
            self.clients.retain(|client| !client.gone);
            if let Command::Running(_, outputs) = &mut self.command {
                outputs.retain(|output| !output.ended);
            }
        }
    }

    fn wait(&self) -> Result<Vec<Event>, Error> {
        let stdin = io::stdin();
        let mut sources = vec![(Event::Signal, self.signals.as_fd()), (Event::Caller, self.listener.as_fd())];
        match &self.command {
            Command::Awaited => sources.push((Event::Lease, stdin.as_fd())),
            Command::Running(_, outputs) => {
                sources.extend(outputs.iter().enumerate().map(|(i, o)| (Event::Output(i), o.as_fd())));
            }
            Command::Ended(_) | Command::Abandoned => {}
        }
        sources.extend(self.clients.iter().enumerate().map(|(i, c)| (Event::Client(i), c.channel.as_fd())));
        sources.extend(self.view.changes.iter().map(|file| (Event::Mount, file.as_fd())));
        let mut fds: Vec<_> = sources
            .iter()
            .map(|(event, fd)| {
                let flags =
                    if matches!(event, Event::Mount) { PollFlags::POLLPRI } else { PollFlags::POLLIN };
                PollFd::new(*fd, flags)
            })
            .collect();
        let timeout = self.repair.map_or(PollTimeout::NONE, PollTimeout::from);
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => Ok(Vec::new()),
            Ok(_) => {
                let ready = fds.iter().zip(&sources).filter(|(fd, _)| fd.any().unwrap_or_default());
                Ok(ready.map(|(_, (event, _))| *event).collect())
            }
            Err(errno) => Err(call("wait for", "events")(errno)),
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Signal => {
                while let Ok(Some(info)) = self.signals.read_signal() {
                    if info.ssi_signo == Signal::SIGCHLD as u32 {
                        self.reap();
                    } else {
                        self.pass_on(info.ssi_signo as i32);
                    }
                }
            }
            Event::Caller => {
                let channels = self.listener.accept();
                self.clients.extend(channels.map(|c| Client { channel: Rc::new(c), gone: false }));
            }
            // Nothing is ever written to it, so the daemon has closed it.
            Event::Lease => self.command = Command::Abandoned,
            Event::Mount => self.repair = Some(REPAIR_MS.0),
            Event::Output(index) => {
                if let Command::Running(_, outputs) = &mut self.command
                    && let Some(output) = outputs.get_mut(index)
                {
                    output.forward(&mut self.log);
                }
            }
            Event::Client(index) => {
                let Some(client) = self.clients.get_mut(index) else { return };
                match client.channel.receive() {
                    Ok(Some((request, fds))) => {
                        let channel = client.channel.clone();
                        self.serve(&channel, request, fds);
                    }
                    // The client is gone, or its packet is not valid.
                    Ok(None) | Err(_) => client.gone = true,
                }
            }
        }
    }

    /// Reaps children. The kernel lets process 1 of the namespace end only when all others are reaped.
    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, code) = match status {
                WaitStatus::Exited(pid, code) => (pid, code),
                WaitStatus::Signaled(pid, signal, _) => (pid, 128 + signal as i32),
                _ => return,
            };
            if let Command::Running(command, outputs) = &mut self.command
                && *command == pid
            {
                outputs.iter_mut().for_each(|output| output.finish(&mut self.log));
                self.command = Command::Ended(code);
            }
            if let Some(index) = self.execs.iter().position(|(exec, _)| *exec == pid) {
                let (_, client) = self.execs.swap_remove(index);
                // A client that is gone does not get the exit code.
                let _ = client.send(&Response::Exited { code }, &[]);
            }
        }
    }

    /// Forwards a signal of the supervisor to the command.
    fn pass_on(&mut self, number: i32) {
        match &self.command {
            Command::Running(pid, _) => {
                let _ = Signal::try_from(number).and_then(|signal| kill(*pid, signal));
            }
            Command::Awaited => self.command = Command::Abandoned,
            Command::Ended(_) | Command::Abandoned => {}
        }
    }

    fn serve(&mut self, client: &Rc<Channel>, request: Request, fds: Vec<OwnedFd>) {
        let answer = match request {
            Request::Start => self.start().map(|()| (Response::Started, None)).map_err(Refusal::Failed),
            Request::Signal { number } => self.signal(number).map(|()| (Response::Done, None)),
            Request::Exec(exec) => self.exec(client, &exec, &fds).map(|tty| (Response::Started, tty)),
        };
        let (response, terminal) = answer.unwrap_or_else(|refusal| match refusal {
            Refusal::NotRunning => (Response::NotRunning, None),
            Refusal::Failed(Failure { exit_code, message }) => {
                (Response::Failed { exit_code, message }, None)
            }
        });
        let terminal: Vec<BorrowedFd<'_>> = terminal.iter().map(OwnedFd::as_fd).collect();
        // If the client is gone, the next read tells.
        let _ = client.send(&response, &terminal);
    }

    fn start(&mut self) -> Result<(), Failure> {
        if !matches!(self.command, Command::Awaited) {
            return Err(Failure::new(1, format!("container {} was started before", self.spec.id)));
        }
        // If the first process of a PID namespace fails, the namespace accepts no other.
        self.command = Command::Abandoned;
        let broken = |error: io::Error| Failure::new(126, error);
        let null = File::open("/dev/null").map_err(broken)?;
        let (out_reader, out_writer) = io::pipe().map_err(broken)?;
        let (err_reader, err_writer) = io::pipe().map_err(broken)?;
        let pid = child::start(&Program {
            argv: &self.spec.command,
            env: child::environment(&self.spec.hostname, false, &[&self.spec.env]),
            working_dir: &self.spec.working_dir,
            make_working_dir: self.spec.rootfs.is_some(),
            stdio: [null.as_fd(), out_writer.as_fd(), err_writer.as_fd()],
            terminal: false,
            first: true,
            no_new_privileges: self.spec.no_new_privileges,
        })?;
        let mut outputs = Vec::new();
        for (pipe, stream) in [(OwnedFd::from(out_reader), "stdout"), (OwnedFd::from(err_reader), "stderr")] {
            let _ = fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
            outputs.push(Output::new(pipe, stream));
        }
        self.command = Command::Running(pid, outputs);
        // `/proc` is the container's now, where the command has PID 1.
        let start_time = process::start_time(1).unwrap_or_default();
        write_at(&self.dir, PID, format!("{pid} {start_time}\n").as_bytes()).map_err(broken)
    }

    fn signal(&self, number: i32) -> Result<(), Refusal> {
        let signal = Signal::try_from(number).map_err(|errno| Failure::errno("signal", errno))?;
        kill(self.running()?, signal).map_err(|errno| Failure::errno("signal", errno).into())
    }

    /// Starts a program. Returns the controlling side of its terminal, which the client gets.
    fn exec(
        &mut self,
        client: &Rc<Channel>,
        exec: &Exec,
        fds: &[OwnedFd],
    ) -> Result<Option<OwnedFd>, Refusal> {
        self.running()?;
        let terminal = exec.tty.map(|size| self.open_terminal(size)).transpose();
        let terminal = terminal.map_err(|error| Failure::new(126, format!("open a terminal: {error}")))?;
        let stdio = match (&terminal, fds) {
            (Some((_, inside)), []) => [inside.as_fd(); 3],
            (None, [stdin, stdout, stderr]) => [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            _ => return Err(Failure::new(126, "exec takes a terminal or three descriptors").into()),
        };
        let pid = child::start(&Program {
            argv: &exec.argv,
            env: child::environment(&self.spec.hostname, terminal.is_some(), &[&self.spec.env, &exec.env]),
            working_dir: exec.working_dir.as_deref().unwrap_or(&self.spec.working_dir),
            make_working_dir: false,
            stdio,
            terminal: terminal.is_some(),
            first: false,
            no_new_privileges: self.spec.no_new_privileges,
        })?;
        self.execs.push((pid, client.clone()));
        Ok(terminal.map(|(outside, _)| outside))
    }

    fn running(&self) -> Result<Pid, Refusal> {
        match &self.command {
            Command::Running(pid, _) => Ok(*pid),
            _ => Err(Refusal::NotRunning),
        }
    }

    /// Opens a terminal of the container's, which its programs find under `/dev/pts`. Follows no path that the
    /// container could change.
    fn open_terminal(&self, size: WindowSize) -> io::Result<(OwnedFd, OwnedFd)> {
        let terminals = self.view.terminals.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let outside = openat(terminals, "ptmx", flags, Mode::empty())?;
        rustix::pty::unlockpt(&outside)?;
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&outside, size)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let inside = rustix::pty::ioctl_tiocgptpeer(&outside, flags)?;
        Ok((outside, inside))
    }

    /// Removes the socket and the PID file, and writes the exit status.
    fn leave(&self, exit: Option<Exit>) -> Result<(), Error> {
        for name in [SOCKET, PID] {
            let _ = unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir);
        }
        let Some(exit) = exit else { return Ok(()) };
        let failed = || call("write", EXIT);
        let text =
            serde_json::to_vec(&exit).map_err(|source| Error::Json { object: EXIT.to_owned(), source })?;
        write_at(&self.dir, "exit.json.new", &text).map_err(failed())?;
        renameat(&self.dir, "exit.json.new", &self.dir, EXIT).map_err(|errno| failed()(errno.into()))
    }
}

/// Writes a file in an open directory, because the directory's path may mean something else in the container's root.
fn write_at(dir: &OwnedFd, name: &str, contents: &[u8]) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
    let file = openat(dir, name, flags, Mode::from_bits_truncate(0o644))?;
    File::from(file).write_all(contents)
}

/// Listens at the supervisor's socket. Whoever may use the daemon's socket may use this one.
fn listen(dir: &OwnedFd, group: Option<u32>) -> Result<Listener, Error> {
    let usual = umask(Mode::from_bits_truncate(0o117));
    let listener = Listener::bind(dir.as_fd(), SOCKET).map_err(call("listen at", SOCKET));
    umask(usual);
    if let Some(group) = group {
        fchownat(dir, SOCKET, None, Some(Gid::from_raw(group)), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(call("give to group", format!("{group}: {SOCKET}")))?;
    }
    listener
}
