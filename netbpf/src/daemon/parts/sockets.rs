//! Opens sockets in containers' network namespaces, and finds the namespace of the responder's.

use std::{
    io,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use crate::{
    daemon::Error,
    dns::{Feed, Sockets},
    link::{self, Namespace},
    model::Id,
    sandbox,
};

/// Limit of concurrent queries of one container to servers that are asked from its own namespace.
const LENT: usize = 8;

/// Attempts to find a port that is free for UDP and for TCP.
const ATTEMPTS: u32 = 16;

/// Opens the sockets for a container's queries at `address` and a port, or any free one. With `servers`, also sockets from
/// which its own servers of this family are asked.
///
/// # Errors
/// [`Error::Link`] if the namespace cannot be entered; [`Error::Resolver`] if the address is taken.
pub async fn resolver_sockets(
    namespace: &Namespace,
    address: Ipv4Addr,
    port: Option<u16>,
    servers: Option<AddressFamily>,
) -> Result<Sockets, Error> {
    let bound = namespace.run(move || {
        let lent = servers.into_iter().flat_map(|family| (0..LENT).map(move |_| lend(family)));
        let (udp, tcp) = listen(address, port)?;
        Ok::<_, io::Error>(Sockets { udp, tcp, lent: lent.collect::<Result<_, _>>()? })
    });
    let address = (address, port.unwrap_or_default()).into();
    bound.await?.map_err(|source| Error::Resolver { address, source })
}

/// The namespace where the responder that was taken over listens for a container; none if it does not.
///
/// # Errors
/// [`Error::Link`] if the kernel does not tell: `EMFILE` if no more files can be opened.
pub fn held_namespace(feed: &Feed, container: Id) -> Result<Option<Namespace>, Error> {
    const WHAT: &str = "the namespace of the responder's socket";
    let Some(socket) = feed.held_socket(container) else { return Ok(None) };
    let refused = |error: io::Error| link::Error::Failed {
        operation: "find",
        object: WHAT.to_owned(),
        source: error.into(),
    };
    let namespace = sandbox::namespace_of(socket.as_fd()).map_err(refused)?;
    Ok(Some(Namespace::of(namespace, WHAT)))
}

/// Two sockets at the same port.
fn listen(address: Ipv4Addr, port: Option<u16>) -> io::Result<(UdpSocket, TcpListener)> {
    let bind = || -> io::Result<_> {
        let udp = UdpSocket::bind((address, port.unwrap_or_default()))?;
        let tcp = TcpListener::bind(udp.local_addr()?)?;
        Ok((udp, tcp))
    };
    let mut bound = bind();
    for _ in 1..ATTEMPTS {
        match &bound {
            Err(error) if port.is_none() && error.kind() == io::ErrorKind::AddrInUse => bound = bind(),
            Ok(_) | Err(_) => break,
        }
    }
    bound
}

/// Two sockets for one query to a server, UDP first.
fn lend(family: AddressFamily) -> nix::Result<[OwnedFd; 2]> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let open = |family| {
        Ok([socket(family, SockType::Datagram, flags, None)?, socket(family, SockType::Stream, flags, None)?])
    };
    match open(family) {
        // On a kernel without IPv6 (`ipv6.disable=1`), servers with IPv4 can still be asked.
        Err(Errno::EAFNOSUPPORT) if family == AddressFamily::Inet6 => open(AddressFamily::Inet),
        opened => opened,
    }
}
