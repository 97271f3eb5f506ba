//! UDP: an association for each client, whose answers come from the address that it asked, or from the host's own if it
//! asked all hosts. It must not know which clients may come.

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

/// An association ends after so much silence (Docker's proxy).
pub(super) const SILENCE: Duration = Duration::from_secs(90);
/// Associations of one port, at most: the others are for other ports.
const MOST: usize = 1024;
/// The longest datagram.
const LONGEST: usize = 65_535;

/// Where every datagram is while it is passed on: none waits there.
pub(super) type Buffer = Rc<RefCell<Box<[u8]>>>;

/// Whom an association is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Client {
    /// The client.
    address: SocketAddr,
    /// Where its answers come from.
    local: Local,
}

/// An address of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Local {
    Ipv4(Ipv4Addr),
    /// With the interface, which a link-local one is not unique without.
    Ipv6(Ipv6Addr, u32),
}

/// A client's way to the container.
#[derive(Clone)]
struct Association {
    /// Connected to the container.
    server: Rc<UdpSocket>,
    /// When something came last, in either direction.
    heard: Rc<Cell<Instant>>,
}

/// The way back to a client.
struct Back {
    /// The port's socket, which nothing here keeps open.
    host: Weak<UdpSocket>,
    client: Client,
    association: Association,
    silence: Duration,
    buffer: Buffer,
    _turn: OwnedSemaphorePermit,
}

/// Relays one port; an association ends after `silence`. Datagrams of new clients are lost while there are too many.
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
                // An error is that of an earlier answer.
                let Ok((Some(client), length)) = received else { continue };
                if !associations.contains_key(&client) {
                    let is_full = associations.len() >= MOST;
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
                    // One that finds no room is lost, as anywhere on its way. Tokio would send nothing before it has seen
                    // that a new socket takes something.
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

/// A socket of a client's own, at whatever port is free.
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
    /// Carries what the container answers, until both are silent or the port is closed. Returns the client.
    async fn carry(self) -> Client {
        let Association { server, heard } = &self.association;
        loop {
            match timeout_at(heard.get() + self.silence, server.readable()).await {
                Err(_) if heard.get().elapsed() < self.silence => {}
                Ok(Ok(())) => {
                    let mut buffer = self.buffer.borrow_mut();
                    // An error says that nobody listens yet.
                    if let Ok(length) = server.try_recv(&mut buffer) {
                        heard.set(Instant::now());
                        let Some(host) = self.host.upgrade() else { break };
                        // One that finds no room is lost.
                        let _ = send(&host, self.client, &buffer[..length]);
                    }
                }
                Ok(Err(_)) | Err(_) => break,
            }
        }
        self.client
    }
}

/// Waits for a datagram, which is in the buffer then. No client where it is for nobody here.
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

/// The host's address that a datagram came to. None where it is for nobody here: what is sent to a group is for those
/// that joined it, and a broadcast of a container stays in its network.
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

/// Sends an answer from the address that was asked.
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
        // A socket has one family.
        _ => {}
    }
    Ok(())
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let ipv4 = address.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into()));
    ipv4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())))
}

/// A buffer that takes any datagram.
pub(super) fn buffer() -> Buffer {
    Rc::new(RefCell::new(vec![0; LONGEST].into()))
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

    /// A port of the host, relayed to a server that is returned too.
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

    /// What a server gets, and whom it would answer.
    async fn came(server: &UdpSocket) -> (u8, SocketAddr) {
        let mut datagram = [0];
        let received = tokio::time::timeout(TIMEOUT, server.recv_from(&mut datagram));
        let (_, from) = received.await.expect("in time").expect("a datagram");
        (datagram[0], from)
    }

    #[tokio::test]
    async fn a_client_keeps_its_way_until_both_are_silent() {
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
            assert_eq!(came(&server).await, (b'3', from), "the same way");
            // Its turn comes back with its end.
            let turn = tokio::time::timeout(TIMEOUT, turns.acquire()).await.expect("an end");
            drop(turn);
            client.send(b"4").await.expect("send");
            let (said, again) = came(&server).await;
            assert_eq!(said, b'4');
            assert_ne!(again, from, "another way");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn more_clients_than_may_be_are_lost_and_harm_nobody() {
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
