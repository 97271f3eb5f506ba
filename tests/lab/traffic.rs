//! Traffic that is asked for an answer two hundred times per second, to see whether one is missing. Each kind has a thread
//! in the network namespace of the asker. Must not know what happens meanwhile.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use netbpf_tests::lab::Lab;
use nix::sched::{CloneFlags, setns};

const INTERVAL: Duration = Duration::from_millis(5);

/// An answer that takes longer is missing. Shorter than the time after which TCP or a resolver asks again would hide.
const PATIENCE: Duration = Duration::from_millis(900);

/// How often those that wait for nothing in particular look whether they should end.
const GLANCE: Duration = Duration::from_millis(50);

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

/// A thread that asks until it is told to end.
pub struct Probe {
    what: &'static str,
    end: Arc<AtomicBool>,
    thread: JoinHandle<Tally>,
}

impl Probe {
    /// In the network namespace at `path` of the host: opens something with `open`, and does `ask` with it again and again.
    /// `ask` gets a number that is another each time.
    #[track_caller]
    fn start<T>(
        (lab, path): (&Lab, &str),
        what: &'static str,
        open: impl FnOnce() -> io::Result<T> + Send + 'static,
        ask: impl Fn(&mut T, u32) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let namespace = File::open(lab.path(path)).expect("a network namespace");
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("a thread enters a network namespace");
            let mut opened = open().unwrap_or_else(|error| panic!("{what}: {error}"));
            let mut tally = Tally::default();
            for number in 0.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let asked = Instant::now();
                match ask(&mut opened, number) {
                    Ok(()) => tally.done += 1,
                    Err(error) => {
                        tally.lost += 1;
                        tally.why.get_or_insert_with(|| error.to_string());
                    }
                }
                tally.longest = tally.longest.max(asked.elapsed());
                thread::sleep(INTERVAL);
            }
            tally
        });
        Self { what, end, thread }
    }

    pub fn what(&self) -> &'static str {
        self.what
    }

    #[track_caller]
    pub fn end(self) -> Tally {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Datagrams to an [`echo`].
pub fn packets(lab: &Lab, what: &'static str, from: &str, to: (Ipv4Addr, u16)) -> Probe {
    let open = move || datagrams(to);
    Probe::start((lab, from), what, open, |socket, number| {
        socket.send(&number.to_be_bytes())?;
        receive(socket, |answer| answer == number.to_be_bytes())
    })
}

/// Questions to a container's name server for the address of a name.
pub fn names(lab: &Lab, what: &'static str, from: &str, name: &'static str, address: Ipv4Addr) -> Probe {
    let open = || datagrams((Ipv4Addr::new(127, 0, 0, 11), 53));
    Probe::start((lab, from), what, open, move |socket, number| {
        let id = (number as u16).to_be_bytes();
        let mut question = [id.as_slice(), &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &[name.len() as u8]].concat();
        question.extend([name.as_bytes(), &[0, 0, 1, 0, 1]].concat());
        socket.send(&question)?;
        // The address is the end of the answer.
        receive(socket, |answer| answer.starts_with(&id) && answer.ends_with(&address.octets()))
    })
}

/// Bytes that an [`echo_connections`] sends back, by one connection.
pub fn one_connection(lab: &Lab, what: &'static str, from: &str, to: (Ipv4Addr, u16)) -> Probe {
    Probe::start((lab, from), what, move || connect(to), exchange)
}

/// The same, by a new connection each time.
pub fn new_connections(lab: &Lab, what: &'static str, from: &str, to: (Ipv4Addr, u16)) -> Probe {
    Probe::start((lab, from), what, || Ok(()), move |(), number| exchange(&mut connect(to)?, number))
}

fn datagrams(to: (Ipv4Addr, u16)) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
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

fn connect(to: (Ipv4Addr, u16)) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(to), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
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
    socket.set_read_timeout(Some(GLANCE)).expect("a timeout");
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
