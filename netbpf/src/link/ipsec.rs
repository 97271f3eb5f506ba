//! Counts the policies of IPsec (xfrm). Must not know what they are for. Changes nothing.

use std::io;

use nix::libc::EPROTONOSUPPORT;
use rtnetlink::{
    packet_core::NLM_F_REQUEST,
    sys::{Socket, SocketAddr},
};

/// Netlink's protocol for IPsec, its request for the number of policies, and the answer (linux/xfrm.h).
const NETLINK_XFRM: isize = 6;
const GET_POLICY_INFO: u16 = 0x25;
const POLICY_INFO: u16 = 0x24;

/// Length of netlink's header, of the header with the flags of that request, and of the attribute's header; and where the
/// attribute with the six numbers begins.
const HEADER: usize = 16;
const WITH_FLAGS: usize = HEADER + 4;
const NUMBERS: usize = WITH_FLAGS + 4;

/// The policies of IPsec in a network namespace.
#[derive(Debug)]
pub struct IpsecPolicies(Option<Socket>);

impl IpsecPolicies {
    /// Opens a socket in the calling thread's namespace. The kernel may load a module for it, once.
    ///
    /// # Errors
    /// If the kernel gives no netlink socket, although it has IPsec.
    pub fn open() -> io::Result<Self> {
        let mut socket = match Socket::new(NETLINK_XFRM) {
            Err(error) if error.raw_os_error() == Some(EPROTONOSUPPORT) => return Ok(Self(None)),
            socket => socket?,
        };
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(Some(socket)))
    }

    /// Whether there is one for packets that come in, go out or are forwarded; those of sockets concern the host's own
    /// packets. Blocks, but not for long.
    ///
    /// # Errors
    /// If the kernel does not tell. The next answer may be that to this request: open another socket.
    pub fn exist(&self) -> io::Result<bool> {
        let Some(socket) = &self.0 else { return Ok(false) };
        let mut request = [0; WITH_FLAGS];
        request[..4].copy_from_slice(&(WITH_FLAGS as u32).to_ne_bytes());
        request[4..6].copy_from_slice(&GET_POLICY_INFO.to_ne_bytes());
        request[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        socket.send(&request, 0)?;
        let (answer, _) = socket.recv_from_full()?;
        exist(&answer).ok_or_else(|| io::Error::other("an answer of another form"))
    }
}

/// Reads the answer: three numbers of policies, and three of those of sockets. None if it is another one.
fn exist(answer: &[u8]) -> Option<bool> {
    let kind = u16::from_ne_bytes(*answer.get(4..)?.first_chunk()?);
    let numbers = answer.get(NUMBERS..NUMBERS + 12).filter(|_| kind == POLICY_INFO)?;
    Some(numbers.iter().any(|byte| *byte != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u16, numbers: [u32; 6]) -> Vec<u8> {
        let mut answer = vec![0; NUMBERS];
        answer[4..6].copy_from_slice(&kind.to_ne_bytes());
        answer.extend(numbers.into_iter().flat_map(u32::to_ne_bytes));
        answer
    }

    #[test]
    fn policies_of_the_host_count_and_those_of_sockets_do_not() {
        assert_eq!(exist(&answer(POLICY_INFO, [0; 6])), Some(false));
        assert_eq!(exist(&answer(POLICY_INFO, [0, 1, 0, 0, 0, 0])), Some(true));
        assert_eq!(exist(&answer(POLICY_INFO, [0, 0, 1 << 31, 0, 0, 0])), Some(true));
        assert_eq!(exist(&answer(POLICY_INFO, [0, 0, 0, 1, 1, 1])), Some(false));
    }

    #[test]
    fn another_answer_is_none() {
        assert_eq!(exist(&answer(2, [1; 6])), None);
        assert_eq!(exist(&answer(POLICY_INFO, [1; 6])[..NUMBERS + 11]), None);
        assert_eq!(exist(&[]), None);
    }
}
