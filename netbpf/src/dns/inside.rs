//! Sockets of a container's network namespace, from which servers are asked that only the container reaches. The daemon
//! opens and lends them; each query borrows a pair and returns it. Must not know what is asked.

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use rustix::net::connect_unspec;
use tokio::{
    net::{TcpSocket, TcpStream, UdpSocket},
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::{control::Pair, message};

/// How long a query waits for a free pair.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The sockets that one container has lent.
pub(super) struct Inside {
    all: RefCell<Vec<Rc<Pair>>>,
    idle: RefCell<Vec<Rc<Pair>>>,
    /// One permit for each idle pair.
    turns: Semaphore,
    /// The queries that use a pair now.
    asked: RefCell<Vec<Rc<[u8]>>>,
}

impl Default for Inside {
    fn default() -> Self {
        Self {
            all: RefCell::default(),
            idle: RefCell::default(),
            turns: Semaphore::new(0),
            asked: RefCell::default(),
        }
    }
}

impl Inside {
    /// Adds a pair, which allows one more query at the same time.
    pub(super) fn add(&self, pair: Pair) {
        let pair = Rc::new(pair);
        self.all.borrow_mut().push(Rc::clone(&pair));
        self.idle.borrow_mut().push(pair);
        self.turns.add_permits(1);
    }

    /// All lent pairs.
    pub(super) fn all(&self) -> Vec<Rc<Pair>> {
        self.all.borrow().clone()
    }

    /// Whether this query is being sent from here at this moment.
    pub(super) fn is_asking(&self, query: &[u8]) -> bool {
        self.asked.borrow().iter().any(|asked| message::is_same(asked, query))
    }

    /// Borrows a pair for one query. Waits for a free one.
    pub(super) async fn borrow(&self, query: &[u8]) -> io::Result<Borrowed<'_>> {
        if self.all.borrow().is_empty() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let turn = timeout(TIMEOUT, self.turns.acquire()).await?.map_err(io::Error::other)?;
        let pair = self.idle.borrow_mut().pop().ok_or(io::ErrorKind::NotConnected)?;
        let query: Rc<[u8]> = query.into();
        self.asked.borrow_mut().push(Rc::clone(&query));
        Ok(Borrowed { inside: self, pair, query, _turn: turn })
    }
}

/// A borrowed pair, returned on drop.
pub(super) struct Borrowed<'a> {
    inside: &'a Inside,
    pair: Rc<Pair>,
    query: Rc<[u8]>,
    _turn: SemaphorePermit<'a>,
}

impl Borrowed<'_> {
    /// A UDP socket that receives datagrams of this server only. Its port is a new one each time.
    pub(super) async fn udp(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        let [udp, _] = &*self.pair;
        let socket = std::net::UdpSocket::from(udp.try_clone()?);
        let server = as_spoken(socket.local_addr()?, server);
        let socket = UdpSocket::from_std(socket)?;
        socket.connect(server).await?;
        Ok(socket)
    }

    /// A TCP connection to this server.
    pub(super) async fn tcp(&self, server: SocketAddr) -> io::Result<TcpStream> {
        let [_, tcp] = &*self.pair;
        let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(tcp.try_clone()?));
        let server = as_spoken(socket.local_addr()?, server);
        socket.connect(server).await
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        // Unconnect: the sockets lose their peer and port (Linux does that for TCP, too). One that is not connected
        // stays as it is.
        for socket in &*self.pair {
            let _ = connect_unspec(socket);
        }
        self.inside.idle.borrow_mut().push(Rc::clone(&self.pair));
        self.inside.asked.borrow_mut().retain(|asked| !Rc::ptr_eq(asked, &self.query));
    }
}

/// A server's address in the family of the socket.
fn as_spoken(local: SocketAddr, server: SocketAddr) -> SocketAddr {
    match server.ip() {
        IpAddr::V4(address) if local.is_ipv6() => (address.to_ipv6_mapped(), server.port()).into(),
        _ => server,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn pair(family: AddressFamily) -> Pair {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        [SockType::Datagram, SockType::Stream]
            .map(|kind| socket(family, kind, flags, None).expect("a socket"))
    }

    #[tokio::test]
    async fn a_returned_pair_is_as_good_as_new() {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let inside = Inside::default();
            inside.add(pair(family));
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a server");
            let tcp = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a server");
            for _ in 0..3 {
                let borrowed = inside.borrow(b"q").await.expect("sockets");
                let socket = borrowed.udp(udp.local_addr().expect("an address")).await.expect("a socket");
                socket.send(b"ping").await.expect("send");
                let (_, client) = udp.recv_from(&mut [0; 9]).await.expect("a datagram");
                udp.send_to(b"pong", client).await.expect("send");
                assert_eq!(socket.recv(&mut [0; 9]).await.expect("an answer"), 4);

                let server = tcp.local_addr().expect("an address");
                let (stream, accepted) = tokio::join!(borrowed.tcp(server), tcp.accept());
                let (mut stream, mut accepted) = (stream.expect("a connection"), accepted.expect("one").0);
                accepted.write_all(b"pong").await.expect("send");
                stream.read_exact(&mut [0; 4]).await.expect("an answer");
            }
        }
    }

    #[tokio::test]
    async fn a_query_that_comes_back_is_recognized() {
        let inside = Inside::default();
        inside.add(pair(AddressFamily::Inet));
        let query = [&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x01a\0\0\x01\0\x01"].concat();
        let other = [&[7, 8][..], &query[2..]].concat();
        let borrowed = inside.borrow(&query).await.expect("sockets");
        assert!(inside.is_asking(&query) && !inside.is_asking(&other));
        drop(borrowed);
        assert!(!inside.is_asking(&query));
    }

    #[tokio::test]
    async fn nothing_can_be_borrowed_where_nothing_is_lent() {
        assert!(Inside::default().borrow(b"q").await.is_err());
    }
}
