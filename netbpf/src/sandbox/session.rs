//! `exec` for the daemon: starts a program with streams that the daemon reads and writes, without a thread for each.
//! Must not know what is at their other ends.

use std::{
    fs::OpenOptions,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Weak},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use nix::sys::signal::Signal;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    Supervisor,
    error::{Error, call},
    exec::{Command, cannot_exec},
    protocol::{Channel, Exec, Request, Response, WindowSize},
    relay::set_nonblocking,
    sys,
};

/// Number of bytes that are read at once.
const BLOCK: usize = 16 * 1024;

/// Maximum number of bytes that are read after the program has ended: a pipe holds no more, but its children may go on
/// writing.
const REST: usize = 1 << 20;

/// The streams of a program. Those that it shall not have are `/dev/null`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streams {
    /// Whether the caller writes its input.
    pub stdin: bool,
    /// Whether the caller reads its output.
    pub stdout: bool,
    /// Whether the caller reads its errors.
    pub stderr: bool,
    /// Rows and columns of its terminal, which then is all three streams; zeros if they are unknown.
    pub terminal: Option<(u16, u16)>,
}

/// Where a program wrote its output to. A terminal is [`Source::Stdout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

type Pipe = Arc<AsyncFd<OwnedFd>>;

/// A program that `exec` started. If this is dropped, its streams are closed, and a program with a terminal gets a
/// SIGHUP.
#[derive(Debug)]
pub struct Session {
    input: Option<Input>,
    outputs: Vec<(Source, Pipe)>,
    terminal: Option<Terminal>,
    /// Says when the program has ended.
    channel: Channel,
    /// The same socket, to wait for it.
    news: AsyncFd<OwnedFd>,
    code: Option<i32>,
    rest: usize,
}

/// The caller's end of a program's input. It ends when this is dropped, except for a terminal.
#[derive(Debug)]
pub struct Input(Pipe);

/// A program's terminal, as long as the session is open.
#[derive(Clone, Debug)]
pub struct Terminal(Weak<AsyncFd<OwnedFd>>);

impl Supervisor {
    /// Runs a program in the container.
    ///
    /// # Errors
    /// [`Error::Start`] if the program cannot be started, with Docker's message and exit code; [`Error::Gone`] if the
    /// container is not running.
    pub async fn exec(&self, command: Command, streams: Streams) -> Result<Session, Error> {
        let Command { argv, env, working_dir } = command;
        let size = streams.terminal.map(|(rows, columns)| WindowSize { rows, columns });
        let request = Request::Exec(Exec { argv, env, working_dir, tty: size });
        let started = match size {
            Some(_) => self.exec_in_terminal(request, streams).await,
            None => self.exec_plain(request, streams).await,
        };
        started.map_err(cannot_exec)
    }

    async fn exec_in_terminal(&self, request: Request, streams: Streams) -> Result<Session, Error> {
        let (channel, mut fds) = self.ask_exec(request, Vec::new()).await?;
        let terminal = fds.pop().ok_or_else(|| Error::Protocol("no terminal".to_owned()))?;
        let terminal = pipe(terminal).map_err(call("open", "a terminal"))?;
        let mut session = Session::new(channel)?;
        session.terminal = Some(Terminal(Arc::downgrade(&terminal)));
        session.input = streams.stdin.then(|| Input(Arc::clone(&terminal)));
        session.outputs.push((Source::Stdout, terminal));
        Ok(session)
    }

    async fn exec_plain(&self, request: Request, streams: Streams) -> Result<Session, Error> {
        let failed = || call::<io::Error>("open", "the standard streams");
        let (mut theirs, mut outputs, mut input) = (Vec::new(), Vec::new(), None);
        if streams.stdin {
            let (reader, writer) = io::pipe().map_err(failed())?;
            input = Some(Input(pipe(writer.into()).map_err(failed())?));
            theirs.push(reader.into());
        } else {
            theirs.push(null().map_err(failed())?);
        }
        for (wanted, source) in [(streams.stdout, Source::Stdout), (streams.stderr, Source::Stderr)] {
            if !wanted {
                theirs.push(null().map_err(failed())?);
                continue;
            }
            let (reader, writer) = io::pipe().map_err(failed())?;
            outputs.push((source, pipe(reader.into()).map_err(failed())?));
            theirs.push(writer.into());
        }
        let (channel, _) = self.ask_exec(request, theirs).await?;
        Ok(Session { input, outputs, ..Session::new(channel)? })
    }
}

impl Session {
    fn new(channel: Channel) -> Result<Self, Error> {
        let news = channel.watch().map_err(call("watch", "the supervisor"))?;
        Ok(Self { input: None, outputs: Vec::new(), terminal: None, channel, news, code: None, rest: REST })
    }

    /// Its input, once.
    pub fn take_input(&mut self) -> Option<Input> {
        self.input.take()
    }

    /// Its terminal, if it has one.
    pub fn terminal(&self) -> Option<Terminal> {
        self.terminal.clone()
    }

    /// Closes its outputs, because nobody reads them. The program gets a SIGPIPE, or a SIGHUP from its terminal.
    pub fn close(&mut self) {
        self.outputs.clear();
    }

    /// The next output; `None` when the program has ended and everything that it wrote was returned. Does not wait for
    /// its children, even if they hold streams open.
    pub async fn next(&mut self) -> Option<(Source, Vec<u8>)> {
        while self.code.is_none() {
            let heard = self.hear().await;
            match heard {
                Heard::Output(index, Ok(bytes)) if !bytes.is_empty() => {
                    return Some((self.outputs[index].0, bytes));
                }
                // The end. A terminal whose other side is closed reports it as an error.
                Heard::Output(index, _) => drop(self.outputs.remove(index)),
                Heard::Ended(code) => self.code = Some(code),
            }
        }
        self.next_of_rest()
    }

    /// The exit code, after the end of [`Session::next`]; 128 + n after signal n.
    pub fn code(&self) -> Option<i32> {
        self.code
    }

    async fn hear(&self) -> Heard {
        let outputs = self.outputs.iter().enumerate();
        let mut outputs: FuturesUnordered<_> =
            outputs.map(async |(index, (_, pipe))| (index, read(pipe).await)).collect();
        tokio::select! {
            biased;
            Some((index, bytes)) = outputs.next() => Heard::Output(index, bytes),
            code = self.ended() => Heard::Ended(code),
        }
    }

    async fn ended(&self) -> i32 {
        match self.news.async_io(Interest::READABLE, |_| self.channel.receive()).await {
            Ok(Some((Response::Exited { code }, _))) => code,
            // The supervisor was killed, and the program with it.
            _ => 128 + Signal::SIGKILL as i32,
        }
    }

    /// Reads what the program has left. Asks the kernel, because tokio may not know of it yet.
    fn next_of_rest(&mut self) -> Option<(Source, Vec<u8>)> {
        while let Some((source, pipe)) = self.outputs.first() {
            match read_now(pipe.get_ref()) {
                Ok(bytes) if !bytes.is_empty() && self.rest > 0 => {
                    self.rest = self.rest.saturating_sub(bytes.len());
                    return Some((*source, bytes));
                }
                _ => drop(self.outputs.remove(0)),
            }
        }
        None
    }
}

enum Heard {
    Output(usize, io::Result<Vec<u8>>),
    Ended(i32),
}

impl Input {
    /// Writes everything, as soon as the program reads it.
    ///
    /// # Errors
    /// If the program does not read any more (`EPIPE`, `EIO`).
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.0.async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, bytes)?)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

impl Terminal {
    /// Sets its number of rows and columns. Does nothing if the program has ended.
    pub fn resize(&self, (rows, columns): (u16, u16)) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        if let Some(terminal) = self.0.upgrade() {
            // Fails if the program has just ended, which does not matter.
            let _ = tcsetwinsize(terminal.get_ref(), size);
        }
    }
}

/// The daemon's end of a stream.
fn pipe(fd: OwnedFd) -> io::Result<Pipe> {
    set_nonblocking(&fd)?;
    Ok(Arc::new(sys::register(fd)?))
}

fn null() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).write(true).open("/dev/null")?.into())
}

async fn read(pipe: &AsyncFd<OwnedFd>) -> io::Result<Vec<u8>> {
    pipe.async_io(Interest::READABLE, read_now).await
}

fn read_now(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; BLOCK];
    let length = rustix::io::read(fd, &mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}
