//! Bulk traffic at a steady rate on two ways at once: one through netbpf, one past it. One thread sends on both ways and
//! one receives from both, so a busy machine delays both alike, and a difference is netbpf's. Must not know what happens
//! meanwhile.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// In bytes per second, on each way. It leaves processor time for others.
const RATE: u64 = 25_000_000;
/// The pause of the sender.
const PAUSE: Duration = Duration::from_millis(1);
/// The time in which the ways are compared.
const WINDOW: Duration = Duration::from_millis(100);

/// The traffic, until it is ended.
pub struct Bulk {
    end: End,
    sender: JoinHandle<()>,
    receiver: JoinHandle<Vec<[u64; 2]>>,
}

/// Ends the traffic when it is dropped.
struct End(Arc<AtomicBool>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection: the sender's end and the receiver's.
pub type Way = (TcpStream, TcpStream);

impl Bulk {
    #[track_caller]
    pub fn start(through: Way, past: Way) -> Self {
        for stream in [&through.0, &through.1, &past.0, &past.1] {
            stream.set_nonblocking(true).expect("a stream that does not wait");
        }
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let sender = thread::spawn(move || send([through.0, past.0], &ended));
        let receiver = thread::spawn(move || receive([through.1, past.1]));
        Self { end: End(end), sender, receiver }
    }

    /// Ends it. No tenth of a second had less than half of the mean through netbpf; or, on a machine that is too busy for
    /// that, than the worst one past it. All in all, as much arrived on both ways.
    #[track_caller]
    pub fn went_on(self) {
        drop(self.end);
        self.sender.join().expect("the sender");
        let mut windows = self.receiver.join().expect("the receiver");
        // The last one is a part of one.
        windows.pop();
        let of = |way: usize| windows.iter().map(move |bytes| bytes[way]);
        let [through, past] = [0, 1].map(|way| of(way).sum::<u64>());
        let [worst, worst_past] = [0, 1].map(|way| of(way).min().expect("a tenth of a second"));
        let mean = through / windows.len() as u64;
        println!(
            "bulk: in {} tenths of a second {mean} bytes on average, {worst} in the worst one",
            windows.len()
        );
        println!("bulk: {worst_past} bytes in the worst one past netbpf");
        let offered = RATE * WINDOW.as_millis() as u64 / 1000;
        assert!(past / windows.len() as u64 >= offered / 2, "this machine is too busy to compare anything");
        assert!(through >= past / 10 * 9, "{through} bytes through netbpf, {past} past it");
        assert!(worst >= worst_past.min(mean / 2), "{worst} bytes in the worst of {windows:?}");
    }
}

/// Sends on both ways what the rate permits since the beginning, until the end; then closes both.
fn send(mut ways: [TcpStream; 2], end: &AtomicBool) {
    let begun = Instant::now();
    let mut sent = [0; 2];
    let block = [0; 64 * 1024];
    while !end.load(Ordering::Relaxed) {
        let due = RATE * begun.elapsed().as_micros() as u64 / 1_000_000;
        for (way, sent) in ways.iter_mut().zip(&mut sent) {
            while let length @ 1.. = (due - *sent).min(block.len() as u64) as usize {
                match way.write(&block[..length]) {
                    Ok(length) => *sent += length as u64,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("send: {error}"),
                }
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Receives from both ways until both are closed. Returns how many bytes arrived in each [`WINDOW`].
fn receive(mut ways: [TcpStream; 2]) -> Vec<[u64; 2]> {
    let begun = Instant::now();
    let mut windows = Vec::new();
    let mut block = vec![0; 64 * 1024];
    let mut is_open = [true; 2];
    while is_open != [false; 2] {
        let mut ready = [&ways[0], &ways[1]].map(|way| PollFd::new(way.as_fd(), PollFlags::POLLIN));
        poll(&mut ready, PollTimeout::NONE).expect("poll");
        let window = (begun.elapsed().as_micros() / WINDOW.as_micros()) as usize;
        if windows.len() <= window {
            windows.resize(window + 1, [0; 2]);
        }
        for ((way, is_open), bytes) in ways.iter_mut().zip(&mut is_open).zip(&mut windows[window]) {
            match way.read(&mut block) {
                Ok(0) => *is_open = false,
                Ok(length) => *bytes += length as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("receive: {error}"),
            }
        }
    }
    windows
}
