//! Host ports of containers, each reserved by a socket of the daemon: a process that binds the port gets
//! EADDRINUSE, and a port that a process uses already is detected. Nothing is read from these sockets here:
//! packets for containers are translated before they arrive, or belong to the relay, which gets copies of the
//! sockets. Knows containers only by their ID; must not know the firewall.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, Shutdown, SocketFlags, SocketType, ipproto, sockopt},
};

use crate::{
    daemon::Error,
    ipam::{Ephemeral, Ports},
    model::{Id, PortRange, Protocol},
};

/// The reserved ports.
#[derive(Default)]
pub struct HeldPorts {
    ports: Ports,
    /// Not all leased ports have a socket: the kernel may lack SCTP, or a port was lost while no daemon ran.
    sockets: HashMap<(Protocol, SocketAddr), OwnedFd>,
    /// Sockets that are not assigned, until they are leased or resumed: another process kept them before this
    /// daemon started, or they were set aside.
    kept: HashMap<(Protocol, SocketAddr), OwnedFd>,
}

/// A container that gets host ports.
#[derive(Clone, Copy, Debug)]
pub struct Holder {
    /// The container.
    pub container: Id,
    /// Whether its owner has sockets there already: these reserve the ports.
    pub has_sockets: bool,
}

impl HeldPorts {
    /// With the sockets that another process kept, for ports that are about to be resumed.
    pub fn new(kept: impl IntoIterator<Item = ((Protocol, SocketAddr), OwnedFd)>) -> Self {
        Self { kept: kept.into_iter().collect(), ..Self::default() }
    }

    /// Lease a port for a container, the same at all of `hosts`, with a socket at each.
    pub fn lease(
        &mut self,
        owner: Holder,
        protocol: Protocol,
        hosts: &[IpAddr],
        range: Option<PortRange>,
        ephemeral: &Ephemeral,
    ) -> Result<u16, Error> {
        let Self { ports, sockets, kept } = self;
        let (mut anew, mut again) = (HashMap::new(), HashMap::new());
        let leased = ports.lease(owner.container, protocol, hosts, range, ephemeral, |port| {
            anew.clear();
            kept.extend(again.drain());
            if owner.has_sockets {
                return Ok(());
            }
            for host in hosts {
                let key = (protocol, SocketAddr::new(*host, port));
                match kept.remove(&key) {
                    Some(socket) => again.extend([(key, socket)]),
                    None => anew.extend(hold(protocol, key.1)?.map(|socket| (key, socket))),
                }
            }
            Ok::<_, Error>(())
        });
        match leased {
            Ok(_) => sockets.extend(anew.into_iter().chain(again)),
            Err(_) => kept.extend(again),
        }
        leased
    }

    /// Release a port, if the container has it, and keep its socket until [`HeldPorts::resumed`] for a new lease.
    /// Binding a new socket could fail: a forked child of the daemon has copies of its sockets until it
    /// executes its program.
    pub fn set_aside(&mut self, owner: Id, protocol: Protocol, host: IpAddr, port: u16) {
        if self.ports.release(owner, protocol, host, port) {
            self.kept.extend(self.sockets.remove_entry(&(protocol, SocketAddr::new(host, port))));
        }
    }

    /// Reserve a port that a container has had since before this daemon. It stays the container's even if
    /// another process took it meanwhile and there is no socket.
    pub fn resume(
        &mut self,
        owner: Holder,
        protocol: Protocol,
        host: IpAddr,
        port: u16,
    ) -> Result<(), Error> {
        self.ports.take(owner.container, protocol, &[host], port);
        if owner.has_sockets {
            return Ok(());
        }
        let address = SocketAddr::new(host, port);
        let socket = match self.kept.remove(&(protocol, address)) {
            Some(kept) => Some(kept),
            None => hold(protocol, address)?,
        };
        self.sockets.extend(socket.map(|socket| ((protocol, address), socket)));
        Ok(())
    }

    /// Close the kept sockets: all ports are leased or resumed.
    pub fn resumed(&mut self) {
        self.kept.clear();
    }

    /// A copy of the socket of a port, if there is one.
    pub fn socket(&self, protocol: Protocol, address: SocketAddr) -> io::Result<Option<OwnedFd>> {
        self.sockets.get(&(protocol, address)).map(OwnedFd::try_clone).transpose()
    }

    /// Release a port, if the container has it.
    pub fn release(&mut self, owner: Id, protocol: Protocol, host: IpAddr, port: u16) {
        if self.ports.release(owner, protocol, host, port) {
            self.sockets.remove(&(protocol, SocketAddr::new(host, port)));
        }
    }
}

/// Open a socket that reserves the port; none if the kernel lacks the protocol, because then no process can
/// use it.
fn hold(protocol: Protocol, address: SocketAddr) -> Result<Option<OwnedFd>, Error> {
    let held = match protocol {
        Protocol::Tcp => hold_tcp(address).map(Some),
        Protocol::Udp => hold_udp(address).map(Some),
        Protocol::Sctp => match bound(Protocol::Sctp, address, false) {
            Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) => {
                tracing::info!(%address, "the kernel has no SCTP: the port is published, and no socket reserves it");
                Ok(None)
            }
            bound => bound.map(Some),
        },
    };
    held.map_err(|errno| Error::HostPort { address, protocol, reason: words(errno) })
}

/// Bound and not listening: connections that are not translated are refused at once.
fn hold_tcp(address: SocketAddr) -> Result<OwnedFd, Errno> {
    match bound(Protocol::Tcp, address, false) {
        Err(Errno::ADDRINUSE) => hold_despite_time_wait(address),
        bound => bound,
    }
}

/// Old connections (TIME_WAIT) block the port although no process uses it. SO_REUSEADDR ignores them, but
/// also sockets of other processes that do not listen. Only one socket can listen, so this one listens for a
/// moment: if that succeeds, no other process has the port. SO_REUSEADDR is then cleared, so that no other
/// process can bind it later. After the shutdown the socket is still bound, and no longer listens.
fn hold_despite_time_wait(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = bound(Protocol::Tcp, address, true)?;
    rustix::net::listen(&socket, 0)?;
    sockopt::set_socket_reuseaddr(&socket, false)?;
    rustix::net::shutdown(&socket, Shutdown::Read)?;
    Ok(socket)
}

/// Datagrams that are not translated stay in the socket's buffer, which is the smallest possible.
fn hold_udp(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = bound(Protocol::Udp, address, false)?;
    sockopt::set_socket_recv_buffer_size(&socket, 0)?;
    Ok(socket)
}

fn bound(protocol: Protocol, address: SocketAddr, reuse: bool) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if reuse {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

/// The message of Go, and so of Docker.
fn words(errno: Errno) -> String {
    nix::errno::Errno::from_raw(errno.raw_os_error()).desc().to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _},
        net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket},
    };

    use super::*;
    use crate::model::Protocol::{Tcp, Udp};

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ALL: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    const LOCALHOST_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    const ALL_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

    fn ephemeral() -> Ephemeral {
        Ephemeral::parse("32768 60999", "")
    }

    fn holder(container: Id) -> Holder {
        Holder { container, has_sockets: false }
    }

    fn lease(
        held: &mut HeldPorts,
        owner: Id,
        protocol: Protocol,
        host: IpAddr,
        port: u16,
    ) -> Result<u16, String> {
        let range = PortRange::new(port, port);
        held.lease(holder(owner), protocol, &[host], range, &ephemeral()).map_err(|error| error.to_string())
    }

    fn refusal(localhost: IpAddr, port: u16) -> ErrorKind {
        TcpStream::connect((localhost, port)).expect_err("nobody listens").kind()
    }

    #[test]
    fn a_port_that_the_owner_reserves_itself_is_leased_once() {
        let (mut held, owners) = (HeldPorts::default(), [Id::random(), Id::random()]);
        let reserved = TcpListener::bind((LOCALHOST, 0)).unwrap();
        let port = reserved.local_addr().unwrap().port();
        lease(&mut held, owners[0], Tcp, LOCALHOST, port).unwrap_err();
        let [first, second] = owners.map(|container| Holder { container, has_sockets: true });
        let range = PortRange::new(port, port);
        assert_eq!(held.lease(first, Tcp, &[LOCALHOST], range, &ephemeral()).unwrap(), port);
        held.lease(second, Tcp, &[LOCALHOST], range, &ephemeral()).unwrap_err();
        assert!(held.sockets.is_empty());
        held.release(owners[0], Tcp, LOCALHOST, port);
        held.resume(second, Tcp, LOCALHOST, port).unwrap();
        assert!(held.sockets.is_empty());
    }

    #[test]
    fn a_held_port_cannot_be_bound_and_refuses_connections() {
        let (mut held, owner) = (HeldPorts::default(), Id::random());
        for (protocol, host) in [(Tcp, ALL), (Tcp, LOCALHOST), (Udp, ALL), (Udp, LOCALHOST)] {
            let port = held.lease(holder(owner), protocol, &[host], None, &ephemeral()).unwrap();
            for other in [ALL, LOCALHOST] {
                // std sets SO_REUSEADDR, as most servers do.
                let taken = match protocol {
                    Udp => UdpSocket::bind((other, port)).map(drop),
                    _ => TcpListener::bind((other, port)).map(drop),
                };
                assert_eq!(taken.unwrap_err().kind(), ErrorKind::AddrInUse, "{protocol} {host} {other}");
            }
            if protocol == Tcp {
                assert_eq!(refusal(LOCALHOST, port), ErrorKind::ConnectionRefused);
            }
            held.release(owner, protocol, host, port);
            match protocol {
                Udp => drop(UdpSocket::bind((LOCALHOST, port)).unwrap()),
                _ => drop(TcpListener::bind((LOCALHOST, port)).unwrap()),
            }
        }
        assert!(held.sockets.is_empty());
    }

    #[test]
    fn a_port_that_is_set_aside_can_be_leased_despite_a_copy_of_its_socket() {
        let (mut held, owner) = (HeldPorts::default(), Id::random());
        for protocol in [Tcp, Udp] {
            let port = held.lease(holder(owner), protocol, &[ALL], None, &ephemeral()).unwrap();
            let copy = held.socket(protocol, (ALL, port).into()).unwrap().unwrap();
            held.set_aside(owner, protocol, ALL, port);
            let range = PortRange::new(port, port);
            let both = [ALL, ALL_IPV6];
            let in_the_way = bound(protocol, (ALL_IPV6, port).into(), false).unwrap();
            held.lease(holder(owner), protocol, &both, range, &ephemeral()).unwrap_err();
            drop(in_the_way);
            assert_eq!(
                held.lease(holder(owner), protocol, &both, range, &ephemeral()).unwrap(),
                port,
                "{protocol}"
            );
            drop(copy);
            held.set_aside(owner, protocol, ALL, port);
            held.resumed();
            drop(bound(protocol, (ALL, port).into(), false).expect("it is let go"));
        }
    }

    #[test]
    fn a_port_of_another_process_is_refused_with_dockers_message() {
        let (mut held, owner) = (HeldPorts::default(), Id::random());
        let tcp = TcpListener::bind((LOCALHOST, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        assert_eq!(
            lease(&mut held, owner, Tcp, ALL, port).unwrap_err(),
            format!("failed to bind host port 0.0.0.0:{port}/tcp: address already in use")
        );
        let udp = UdpSocket::bind((LOCALHOST, 0)).unwrap();
        let port = udp.local_addr().unwrap().port();
        assert_eq!(
            lease(&mut held, owner, Udp, LOCALHOST, port).unwrap_err(),
            format!("failed to bind host port 127.0.0.1:{port}/udp: address already in use")
        );
        drop((tcp, udp));
        assert_eq!(lease(&mut held, owner, Udp, LOCALHOST, port), Ok(port), "the refusal kept nothing");
    }

    #[test]
    fn each_family_is_held_by_a_socket_of_its_own() {
        let (mut held, owner) = (HeldPorts::default(), Id::random());
        for protocol in [Tcp, Udp] {
            let is_held = |host: IpAddr, port: u16| match protocol {
                Udp => UdpSocket::bind((host, port)).is_err(),
                _ => TcpListener::bind((host, port)).is_err(),
            };
            let port = held.lease(holder(owner), protocol, &[ALL_IPV6], None, &ephemeral()).unwrap();
            assert!(is_held(LOCALHOST_IPV6, port) && is_held(ALL_IPV6, port), "{protocol}");
            assert!(!is_held(LOCALHOST, port) && !is_held(ALL, port), "{protocol}: the other family is free");
            assert_eq!(lease(&mut held, owner, protocol, ALL, port), Ok(port), "{protocol}");
            held.release(owner, protocol, ALL_IPV6, port);
            assert!(is_held(LOCALHOST, port) && !is_held(LOCALHOST_IPV6, port), "{protocol}");
            held.release(owner, protocol, ALL, port);
            let both = held.lease(holder(owner), protocol, &[ALL, ALL_IPV6], None, &ephemeral()).unwrap();
            assert!(is_held(LOCALHOST, both) && is_held(LOCALHOST_IPV6, both), "{protocol}");
        }
    }

    #[test]
    fn an_ipv6_address_is_printed_in_brackets() {
        let (mut held, owner) = (HeldPorts::default(), Id::random());
        let tcp = TcpListener::bind((LOCALHOST_IPV6, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        let range = PortRange::new(port, port);
        assert_eq!(
            held.lease(holder(owner), Tcp, &[ALL, ALL_IPV6], range, &ephemeral()).unwrap_err().to_string(),
            format!("failed to bind host port [::]:{port}/tcp: address already in use")
        );
        drop(tcp);
        drop(TcpListener::bind((LOCALHOST, port)).expect("the refusal kept nothing"));
    }

    #[test]
    fn an_address_of_another_host_is_refused_with_dockers_message() {
        // TEST-NET-1: no host has it.
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(
            lease(&mut HeldPorts::default(), Id::random(), Tcp, address, 8080).unwrap_err(),
            "failed to bind host port 192.0.2.1:8080/tcp: cannot assign requested address"
        );
    }

    /// A server on the host that closed its connection first leaves the port in TIME_WAIT.
    #[test]
    fn ended_connections_do_not_block_a_port() {
        for (localhost, all) in [(LOCALHOST, ALL), (LOCALHOST_IPV6, ALL_IPV6)] {
            let listener = TcpListener::bind((localhost, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let mut client = TcpStream::connect((localhost, port)).unwrap();
            drop(listener.accept().unwrap());
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
            drop((client, listener));
            assert_eq!(bound(Tcp, (localhost, port).into(), false).unwrap_err(), Errno::ADDRINUSE);

            let (mut held, owner) = (HeldPorts::default(), Id::random());
            assert_eq!(lease(&mut held, owner, Tcp, all, port), Ok(port));
            assert_eq!(TcpListener::bind((localhost, port)).unwrap_err().kind(), ErrorKind::AddrInUse);
            assert_eq!(bound(Tcp, (all, port).into(), true).unwrap_err(), Errno::ADDRINUSE);
            assert_eq!(refusal(localhost, port), ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn a_lost_port_still_belongs_to_the_container() {
        let (mut held, owner) = (HeldPorts::default(), Id::random());
        let other = TcpListener::bind((LOCALHOST, 0)).unwrap();
        let port = other.local_addr().unwrap().port();
        held.resume(holder(owner), Tcp, LOCALHOST, port).unwrap_err();
        assert_eq!(
            lease(&mut held, Id::random(), Tcp, ALL, port).unwrap_err(),
            format!("Bind for 0.0.0.0:{port} failed: port is already allocated")
        );
        held.release(owner, Tcp, LOCALHOST, port);
        drop(other);
        assert_eq!(lease(&mut held, owner, Tcp, ALL, port), Ok(port));
    }
}
