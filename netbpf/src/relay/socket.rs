//! Sockets of host ports, which the daemon holds in any case: makes them accept clients, and stops that. Must not know
//! who relays the traffic.

use std::{io, os::fd::BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt as nix_sockopt};
use rustix::net::{Shutdown, sockopt};

use super::control::Place;
use crate::model::Protocol;

/// The maximum number of connections that wait for `accept`; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// The size of the receive buffer in bytes; the kernel caps it at `net.core.rmem_max`.
const BUFFER: usize = 256 * 1024;

/// Makes a socket accept clients. They wait in its queue while there is no relay.
pub(super) fn open(socket: BorrowedFd<'_>, at: Place) -> io::Result<()> {
    rustix::io::ioctl_fionbio(socket, true)?;
    match at.protocol {
        Protocol::Tcp => {
            // Connections in TIME_WAIT do not block the port then. A listening socket shares its port with nobody,
            // whatever this option says.
            sockopt::set_socket_reuseaddr(socket, true)?;
            rustix::net::listen(socket, BACKLOG)?;
        }
        Protocol::Udp => {
            sockopt::set_socket_recv_buffer_size(socket, BUFFER)?;
            match at.address.is_ipv4() {
                true => setsockopt(&socket, nix_sockopt::Ipv4PacketInfo, &true)?,
                false => setsockopt(&socket, nix_sockopt::Ipv6RecvPacketInfo, &true)?,
            }
        }
        Protocol::Sctp => return Err(io::ErrorKind::Unsupported.into()),
    }
    Ok(())
}

/// Stops accepting clients but keeps the port. Waiting clients are refused.
pub(super) fn close(socket: BorrowedFd<'_>, at: Place) -> io::Result<()> {
    match at.protocol {
        Protocol::Tcp => {
            sockopt::set_socket_reuseaddr(socket, false)?;
            rustix::net::shutdown(socket, Shutdown::Read)?;
        }
        Protocol::Udp => sockopt::set_socket_recv_buffer_size(socket, 0)?,
        Protocol::Sctp => {}
    }
    Ok(())
}
