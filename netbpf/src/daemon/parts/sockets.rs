//! Opens sockets in containers' network namespaces.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use crate::{daemon::Error, dns::Sockets, link::Namespace};

/// Limit of concurrent queries of one container to servers that are asked from its own namespace.
const LENT: usize = 8;

/// Opens the sockets for a container's queries at `address`. With `servers`, also sockets from which its own
/// servers of this family are asked.
///
/// # Errors
/// [`Error::Link`] if the namespace cannot be entered; [`Error::Resolver`] if the address is taken.
pub async fn resolver_sockets(
    namespace: &Namespace,
    address: SocketAddr,
    servers: Option<AddressFamily>,
) -> Result<Sockets, Error> {
    let bound = namespace.run(move || {
        let lent = servers.into_iter().flat_map(|family| (0..LENT).map(move |_| lend(family)));
        Ok::<_, io::Error>(Sockets {
            udp: UdpSocket::bind(address)?,
            tcp: TcpListener::bind(address)?,
            lent: lent.collect::<Result<_, _>>()?,
        })
    });
    bound.await?.map_err(|source| Error::Resolver { address, source })
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
