//! UDP: keeps an association for each client. Replies come from the address that the client sent to; after a broadcast,
//! from the host's own address. Must not know which clients may send.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io::{self, IoSlice, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use nix::{
    libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg,
        sendmsg,
    },
};
use tokio::{
    io::Interest,
    net::UdpSocket,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, timeout_at},
};

/// An association ends after this idle time; the value of Docker's proxy.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// The maximum number of associations of one port, so that some are left for others.
const MAX_ASSOCIATIONS: usize = 1024;
/// The length of the longest datagram in bytes.
const MAX_DATAGRAM: usize = 65_535;

/// One buffer for all datagrams: each is passed on before the next is read.
pub(super) type Buffer = Rc<RefCell<Box<[u8]>>>;

/// The key of an association.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Client {
    /// The client's address and port.
    address: SocketAddr,
    /// The source address of its replies.
    local: Local,
}

/// An address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Local {
    Ipv4(Ipv4Addr),
    /// With the interface, because a link-local address is not unique without it.
    Ipv6(Ipv6Addr, u32),
}

/// A client's connection to the container.
#[derive(Clone)]
struct Association {
    /// A socket that is connected to the container.
    server: Rc<UdpSocket>,
    /// When the last datagram came, in either direction.
    heard: Rc<Cell<Instant>>,
}

/// The direction from the container back to a client.
struct Back {
    /// The host port's socket, held weakly so that the port can be closed.
    host: Weak<UdpSocket>,
    client: Client,
    association: Association,
    silence: Duration,
    buffer: Buffer,
    _turn: OwnedSemaphorePermit,
}

/// Relays one port; an association ends after `silence`. At the limit, datagrams of new clients are dropped.
pub(super) async fn serve(
    socket: Rc<UdpSocket>,
    to: SocketAddr,
    turns: Arc<Semaphore>,
    buffer: Buffer,
    silence: Duration,
) {
    let mut associations: HashMap<Client, Association> = HashMap::new();
    let mut answers = JoinSet::new();
    loop {
        tokio::select! {
            received = receive(&socket, &buffer) => {
                // An error belongs to an earlier reply.
                let Ok((Some(client), length)) = received else { continue };
                if !associations.contains_key(&client) {
                    let is_full = associations.len() >= MAX_ASSOCIATIONS;
                    let turn = Arc::clone(&turns).try_acquire_owned().ok().filter(|_| !is_full);
                    let Some(turn) = turn else { continue };
                    let Ok(server) = connect(to) else { continue };
                    let association =
                        Association { server: Rc::new(server), heard: Rc::new(Cell::new(Instant::now())) };
                    associations.insert(client, association.clone());
                    let back = Back {
                        host: Rc::downgrade(&socket),
                        client,
                        association,
                        silence,
                        buffer: Rc::clone(&buffer),
                        _turn: turn,
                    };
                    answers.spawn_local(back.carry());
                }
                if let Some(Association { server, heard }) = associations.get(&client) {
                    heard.set(Instant::now());
                    // A datagram that finds no room is lost, as anywhere on its way. Not sent through tokio, which
                    // would first wait until it has seen that the new socket is writable.
                    let _ = nix::sys::socket::send(
                        server.as_raw_fd(),
                        &buffer.borrow()[..length],
                        MsgFlags::MSG_DONTWAIT,
                    );
                }
            }
            Some(ended) = answers.join_next() => {
                if let Ok(client) = ended {
                    associations.remove(&client);
                }
            }
        }
    }
}

/// A new socket for one client, at a free port.
fn connect(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

impl Back {
    /// Carries replies until both sides are idle or the port is closed. Returns the client.
    async fn carry(self) -> Client {
        let Association { server, heard } = &self.association;
        loop {
            match timeout_at(heard.get() + self.silence, server.readable()).await {
                Err(_) if heard.get().elapsed() < self.silence => {}
                Ok(Ok(())) => {
                    let mut buffer = self.buffer.borrow_mut();
                    // An error means that nobody listens in the container yet.
                    if let Ok(length) = server.try_recv(&mut buffer) {
                        heard.set(Instant::now());
                        let Some(host) = self.host.upgrade() else { break };
                        // A datagram that finds no room is lost.
                        let _ = send(&host, self.client, &buffer[..length]);
                    }
                }
                Ok(Err(_)) | Err(_) => break,
            }
        }
        self.client
    }
}

/// Waits for a datagram and reads it to the buffer. No client if the datagram must not be relayed.
async fn receive(socket: &UdpSocket, buffer: &Buffer) -> io::Result<(Option<Client>, usize)> {
    socket.async_io(Interest::READABLE, || take(socket, &mut buffer.borrow_mut())).await
}

fn take(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(Option<Client>, usize)> {
    let mut space = nix::cmsg_space!(libc::in6_pktinfo);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let address = message.address.as_ref().and_then(socket_address);
    let local = message.cmsgs()?.find_map(|control| local(&control));
    let client = address.zip(local).map(|(address, local)| Client { address, local });
    Ok((client, message.bytes))
}

/// The host's address that a datagram came to. `None` if it must not be relayed: multicast is for hosts that joined the
/// group, and a container's broadcast stays in its network.
fn local(control: &ControlMessageOwned) -> Option<Local> {
    match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let sent_to = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
            let own = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
            let is_from_container = u32::try_from(info.ipi_ifindex)
                .is_ok_and(|ifindex| netbpf_common::network::number_of(ifindex).is_some());
            (!sent_to.is_multicast() && !is_from_container).then_some(Local::Ipv4(own))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let sent_to = Ipv6Addr::from(info.ipi6_addr.s6_addr);
            let interface = if sent_to.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
            (!sent_to.is_multicast()).then_some(Local::Ipv6(sent_to, interface))
        }
        _ => None,
    }
}

/// Sends a reply from the address that the client sent to.
fn send(socket: &UdpSocket, client: Client, datagram: &[u8]) -> nix::Result<()> {
    let slices = [IoSlice::new(datagram)];
    let number = socket.as_raw_fd();
    match (client.local, client.address) {
        (Local::Ipv4(own), SocketAddr::V4(address)) => {
            let own = libc::in_addr { s_addr: u32::from(own).to_be() };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: own, ipi_addr: own };
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            let address = SockaddrIn::from(address);
            sendmsg(number, &slices, &control, MsgFlags::MSG_DONTWAIT, Some(&address))?;
        }
        (Local::Ipv6(own, interface), SocketAddr::V6(address)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: own.octets() },
                ipi6_ifindex: interface,
            };
            let control = [ControlMessage::Ipv6PacketInfo(&info)];
            let address = SockaddrIn6::from(address);
            sendmsg(number, &slices, &control, MsgFlags::MSG_DONTWAIT, Some(&address))?;
        }
        // Cannot happen: the socket has one family.
        _ => {}
    }
    Ok(())
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let ipv4 = address.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
    ipv4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())))
}

/// A buffer for the longest datagram.
pub(super) fn buffer() -> Buffer {
    Rc::new(RefCell::new(vec![0; MAX_DATAGRAM].into()))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;
    use crate::{
        model::Protocol,
        relay::{Place, socket},
    };

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Relays a host port to a server. Returns the port and the server.
    async fn relayed(turns: &Arc<Semaphore>, silence: Duration) -> (SocketAddr, UdpSocket) {
        let host = std::net::UdpSocket::bind("[::1]:0").expect("a port");
        let address = host.local_addr().expect("an address");
        socket::open(host.as_fd(), Place { protocol: Protocol::Udp, address }).expect("it takes clients");
        let host = UdpSocket::from_std(host).expect("a registered socket");
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("a server");
        let to = server.local_addr().expect("an address");
        spawn_local(serve(Rc::new(host), to, Arc::clone(turns), buffer(), silence));
        (address, server)
    }

    async fn client(port: SocketAddr) -> UdpSocket {
        let client = UdpSocket::bind("[::1]:0").await.expect("a client");
        client.connect(port).await.expect("an address");
        client
    }

    /// Receives a datagram: its byte and its source.
    async fn came(server: &UdpSocket) -> (u8, SocketAddr) {
        let mut datagram = [0];
        let received = tokio::time::timeout(TIMEOUT, server.recv_from(&mut datagram));
        let (_, from) = received.await.expect("in time").expect("a datagram");
        (datagram[0], from)
    }

    #[tokio::test]
    async fn a_client_keeps_its_association_until_both_sides_are_idle() {
        let test = async {
            let turns = Arc::new(Semaphore::new(1));
            let (port, server) = relayed(&turns, Duration::from_millis(200)).await;
            let client = client(port).await;
            client.send(b"1").await.expect("send");
            let (said, from) = came(&server).await;
            assert_eq!(said, b'1');
            server.send_to(b"2", from).await.expect("send");
            let mut answer = [0];
            client.recv(&mut answer).await.expect("an answer");
            assert_eq!(answer, *b"2");
            client.send(b"3").await.expect("send");
            assert_eq!(came(&server).await, (b'3', from), "the same association");
            // Its permit is returned with its end.
            let turn = tokio::time::timeout(TIMEOUT, turns.acquire()).await.expect("an end");
            drop(turn);
            client.send(b"4").await.expect("send");
            let (said, again) = came(&server).await;
            assert_eq!(said, b'4');
            assert_ne!(again, from, "a new association");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn datagrams_of_too_many_clients_are_dropped_and_harm_no_other() {
        let test = async {
            let turns = Arc::new(Semaphore::new(1));
            let (port, server) = relayed(&turns, TIMEOUT).await;
            let (first, second) = (client(port).await, client(port).await);
            first.send(b"1").await.expect("send");
            let (_, from) = came(&server).await;
            second.send(b"2").await.expect("send");
            first.send(b"3").await.expect("send");
            assert_eq!(came(&server).await, (b'3', from));
        };
        LocalSet::new().run_until(test).await;
    }
}
