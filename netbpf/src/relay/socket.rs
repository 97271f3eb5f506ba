//! Sockets at ports of the host, which the daemon holds in any case: what makes one of them take clients, and what ends
//! that. It must not know who carries what comes in.

use std::{io, os::fd::BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt as nix_sockopt};
use rustix::net::{Shutdown, sockopt};

use super::control::Place;
use crate::model::Protocol;

/// Connections that wait to be accepted; the kernel takes `net.core.somaxconn` if that is less.
const BACKLOG: i32 = 4096;
/// Bytes of datagrams that wait; the kernel takes `net.core.rmem_max` if that is less.
const BUFFER: usize = 256 * 1024;

/// Has a socket take clients. They wait in it while there is no relay.
pub(super) fn open(socket: BorrowedFd<'_>, at: Place) -> io::Result<()> {
    rustix::io::ioctl_fionbio(socket, true)?;
    match at.protocol {
        Protocol::Tcp => {
            // What is left of ended connections does not stand in the way; a socket that listens shares its port with
            // nobody, whatever this option says.
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

/// Has it take no more, and keep the port: who waits is refused.
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
