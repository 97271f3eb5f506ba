//! A netlink socket that receives what the kernel announces to multicast groups. Must not know the messages.

use std::io;

use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

/// The announcements to some groups in one network namespace, from the creation of this value on.
pub struct Listener(TokioSocket);

impl Listener {
    /// Listens in the namespace of the calling thread, which must be in a tokio runtime.
    ///
    /// # Errors
    /// If the kernel gives no socket of this netlink protocol (`EMFILE`), or refuses a group (`EPERM`).
    pub fn open(protocol: isize, groups: &[u32]) -> io::Result<Self> {
        let mut socket = TokioSocket::new(protocol)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        groups.iter().try_for_each(|group| socket.socket_mut().add_membership(*group))?;
        Ok(Self(socket))
    }

    /// Waits for the next datagram. `None`: some were lost, because the socket's buffer was full.
    ///
    /// # Errors
    /// If the socket is broken.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.0.recv_from_full().await {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => Ok(None),
            received => received.map(|(datagram, _)| Some(datagram)),
        }
    }
}
