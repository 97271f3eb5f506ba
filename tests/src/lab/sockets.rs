//! Sockets and threads of tests that end with the test, also if it fails: nothing here waits without a limit.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::sys::{
    socket::{setsockopt, sockopt::ReceiveTimeout},
    time::TimeVal,
};

/// How long a byte may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens a connection whose calls end with an error after 20 seconds.
#[track_caller]
pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE);
    patient(stream.unwrap_or_else(|error| panic!("connect to {to}: {error}")))
}

/// Takes the next connection, which has to come within 20 seconds. Its calls end with an error after that time, too.
#[track_caller]
pub fn accept(listener: &TcpListener) -> TcpStream {
    // Linux applies it to accept(2) as well, socket(7).
    setsockopt(listener, ReceiveTimeout, &TimeVal::new(PATIENCE.as_secs().cast_signed(), 0))
        .expect("a timeout");
    patient(listener.accept().unwrap_or_else(|error| panic!("accept a connection: {error}")).0)
}

#[track_caller]
fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Repeats each work in a thread of its own, until the test is done or has failed.
#[track_caller]
pub fn meanwhile<T, Work: FnMut() + Send>(
    works: impl IntoIterator<Item = Work>,
    test: impl FnOnce() -> T,
) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for mut work in works {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    work();
                }
            });
        }
        let _end = End(&is_over);
        test()
    })
}

/// Ends the threads when it is dropped: the scope waits for them, also after a panic.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
