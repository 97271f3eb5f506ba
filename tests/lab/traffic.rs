//! Traffic that is asked for an answer two hundred times per second (or less), to see whether one is missing. Each kind has a thread
//! in the network namespace of the asker. Must not know what happens meanwhile.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use netbpf_tests::lab::{Lab, eventually};
use nix::sched::{CloneFlags, setns};

/// Shorter than the time after which TCP connects again, which would hide a loss.
const SHORT_TIMEOUT: Duration = Duration::from_millis(900);

/// As long as a resolver waits. On a busy machine, a thread may not run for a second.
const LONG_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a server without requests looks whether it should end.
const IDLE_TIMEOUT: Duration = Duration::from_millis(50);

/// What came of asking again and again.
#[derive(Debug, Default)]
pub struct Tally {
    pub done: u64,
    pub lost: u64,
    /// The longest time until an answer, or until it counted as missing.
    pub longest: Duration,
    /// Why the first one is missing.
    pub why: Option<String>,
}

/// Who asks how.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    lab: &'a Lab,
    interval: Duration,
    /// An answer or a connection that takes longer is missing.
    timeout: Duration,
}

/// A thread that asks until it is told to end.
pub struct Probe {
    what: &'static str,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// What a probe and its thread share.
#[derive(Default)]
struct Shared {
    end: AtomicBool,
    tally: Mutex<Tally>,
}

impl Probe {
    /// In the network namespace at `path` of the host: opens something with `open`, and does `ask` with it again and again.
    /// `ask` gets a number that is another each time.
    #[track_caller]
    fn start<T>(
        Asker { lab, interval, .. }: Asker<'_>,
        path: &str,
        what: &'static str,
        open: impl FnOnce() -> io::Result<T> + Send + 'static,
        ask: impl Fn(&mut T, u32) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let namespace = File::open(lab.path(path)).expect("a network namespace");
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("a thread enters a network namespace");
            let mut opened = open().unwrap_or_else(|error| panic!("{what}: {error}"));
            for number in 0_u32.. {
                if theirs.end.load(Ordering::Relaxed) {
                    break;
                }
                let asked = Instant::now();
                let answer = ask(&mut opened, number);
                theirs.tally.lock().unwrap_or_else(PoisonError::into_inner).add(answer, asked.elapsed());
                thread::sleep(interval);
            }
        });
        Self { what, shared, thread }
    }

    pub fn what(&self) -> &'static str {
        self.what
    }

    /// Waits until a question that was asked after this call is answered or missing.
    #[track_caller]
    pub fn await_next(&self) {
        let asked = || {
            let tally = self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.done + tally.lost
        };
        let before = asked();
        eventually(self.what, || (asked() > before + 1).then_some(()));
    }

    /// What came of it since the last call. Fails if the thread has.
    #[track_caller]
    pub fn take(&self) -> Tally {
        assert!(!self.thread.is_finished(), "{}: nobody asks any more", self.what);
        std::mem::take(&mut *self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[track_caller]
    pub fn end(self) -> Tally {
        self.shared.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        std::mem::take(&mut *self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tally {
    /// Adds another one.
    pub fn join(&mut self, other: Self) {
        self.done += other.done;
        self.lost += other.lost;
        self.longest = self.longest.max(other.longest);
        self.why = self.why.take().or(other.why);
    }

    fn add(&mut self, answer: io::Result<()>, took: Duration) {
        match answer {
            Ok(()) => self.done += 1,
            Err(error) => {
                self.lost += 1;
                self.why.get_or_insert_with(|| error.to_string());
            }
        }
        self.longest = self.longest.max(took);
    }
}

impl<'a> Asker<'a> {
    /// One that asks two hundred times per second, with a short timeout.
    pub fn often(lab: &'a Lab) -> Self {
        Self { lab, interval: Duration::from_millis(5), timeout: SHORT_TIMEOUT }
    }

    /// One that asks less often, with a long timeout, on a machine that may be busy. What TCP sends again is not missing.
    pub fn seldom(lab: &'a Lab) -> Self {
        Self { lab, interval: Duration::from_millis(20), timeout: LONG_TIMEOUT }
    }

    /// Asks `server` in all ways in which traffic reaches a container, and another host. The servers listen at port 7000
    /// (UDP), and `server` is published at these UDP and TCP ports. `client` is a container beside it, `far` a host.
    pub fn in_all_ways(self, server: Ipv4Addr, [udp, tcp]: [u16; 2]) -> [Probe; 7] {
        let client = format!("/proc/{}/ns/net", self.lab.pid("client"));
        let (host, far) = ("/proc/1/ns/net", "/run/netns/far");
        let published = Ipv4Addr::new(192, 0, 2, 1);
        [
            self.packets("between containers", &client, (server, 7000)),
            self.packets("from the host", host, (server, 7000)),
            self.packets("to another host", &client, (Ipv4Addr::new(192, 0, 2, 2), 7000)),
            self.packets("to a published port", far, (published, udp)),
            self.one_connection("by one connection", far, (published, tcp)),
            self.new_connections("by new connections", far, (published, tcp)),
            self.names("names", &client, "server", server),
        ]
    }

    /// Datagrams to an [`echo`].
    pub fn packets(self, what: &'static str, from: &str, to: (Ipv4Addr, u16)) -> Probe {
        let timeout = self.timeout;
        let open = move || datagrams(to, timeout);
        Probe::start(self, from, what, open, |socket, number| {
            socket.send(&number.to_be_bytes())?;
            receive(socket, |answer| answer == number.to_be_bytes())
        })
    }

    /// Questions to a container's name server for the address of a name.
    pub fn names(self, what: &'static str, from: &str, name: &'static str, address: Ipv4Addr) -> Probe {
        let timeout = self.timeout;
        let open = move || datagrams((Ipv4Addr::new(127, 0, 0, 11), 53), timeout);
        Probe::start(self, from, what, open, move |socket, number| {
            let id = (number as u16).to_be_bytes();
            let mut question = [id.as_slice(), &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &[name.len() as u8]].concat();
            question.extend([name.as_bytes(), &[0, 0, 1, 0, 1]].concat());
            socket.send(&question)?;
            // The address is the end of the answer.
            receive(socket, |answer| answer.starts_with(&id) && answer.ends_with(&address.octets()))
        })
    }

    /// Bytes that an [`echo_connections`] sends back, by one connection; by the next one if that has failed.
    pub fn one_connection(self, what: &'static str, from: &str, to: (Ipv4Addr, u16)) -> Probe {
        let timeout = self.timeout;
        Probe::start(
            self,
            from,
            what,
            move || connect(to, timeout),
            move |stream, number| {
                let answer = exchange(stream, number);
                if answer.is_err() {
                    *stream = connect(to, timeout)?;
                }
                answer
            },
        )
    }

    /// The same, by a new connection each time.
    pub fn new_connections(self, what: &'static str, from: &str, to: (Ipv4Addr, u16)) -> Probe {
        let timeout = self.timeout;
        Probe::start(
            self,
            from,
            what,
            || Ok(()),
            move |(), number| exchange(&mut connect(to, timeout)?, number),
        )
    }
}

fn datagrams(to: (Ipv4Addr, u16), timeout: Duration) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(timeout))?;
    Ok(socket)
}

/// Answers to earlier questions, which counted as missing, are passed over.
fn receive(socket: &UdpSocket, is_right: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    let mut answer = [0; 512];
    loop {
        let length = socket.recv(&mut answer)?;
        if is_right(&answer[..length]) {
            return Ok(());
        }
    }
}

fn connect(to: (Ipv4Addr, u16), timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(to), timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream, number: u32) -> io::Result<()> {
    stream.write_all(&number.to_be_bytes())?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if answer == number.to_be_bytes() { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// A server that ends when this is dropped.
pub struct Server {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(mut serve: impl FnMut() + Send + 'static) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                serve();
            }
        });
        Self { end, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // What it panicked with is in the output of the test, which has failed by then.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Sends each datagram back.
pub fn echo(socket: UdpSocket) -> Server {
    socket.set_read_timeout(Some(IDLE_TIMEOUT)).expect("a timeout");
    let mut datagram = [0; 512];
    Server::start(move || {
        if let Ok((length, from)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&datagram[..length], from);
        }
    })
}

/// Sends back what comes by each connection, until the other side closes it.
pub fn echo_connections(listener: TcpListener) -> Server {
    listener.set_nonblocking(true).expect("a listener that does not wait");
    Server::start(move || match listener.accept() {
        Ok((stream, _)) => drop(thread::spawn(move || serve(stream))),
        Err(_) => thread::sleep(Duration::from_millis(1)),
    })
}

fn serve(mut stream: TcpStream) {
    let mut bytes = [0; 512];
    let _ = stream.set_nonblocking(false);
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
}
