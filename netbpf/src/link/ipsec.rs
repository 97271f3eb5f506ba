//! Tells whether policies of IPsec (xfrm) could stop or change forwarded packets. Changes nothing.

use std::io;

use nix::libc::EPROTONOSUPPORT;
use rtnetlink::{
    packet_core::NLM_F_REQUEST,
    sys::{Socket, SocketAddr},
};

/// Netlink's protocol for IPsec, its request for the number of policies, the answer, and the request for what happens to
/// packets without one, which has that form itself (linux/xfrm.h; the last is `XFRM_MSG_GETDEFAULT`, Linux 5.15).
const NETLINK_XFRM: isize = 6;
const GET_POLICY_INFO: u16 = 0x25;
const POLICY_INFO: u16 = 0x24;
const DEFAULT: u16 = 0x28;

/// `XFRM_USERPOLICY_BLOCK`.
const BLOCK: u8 = 1;

/// Length of netlink's header, of the header with four bytes of content, and of the attribute's header; and where the
/// attribute with the six numbers begins.
const HEADER: usize = 16;
const WITH_CONTENT: usize = HEADER + 4;
const NUMBERS: usize = WITH_CONTENT + 4;

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

    /// Whether there is one for packets that come in, go out or are forwarded, or packets without one are blocked; those of
    /// sockets concern the host's own packets. Blocks, but not for long.
    ///
    /// # Errors
    /// If the kernel does not tell. The next answer may be that to this request: open another socket.
    pub fn exist(&self) -> io::Result<bool> {
        let Some(socket) = &self.0 else { return Ok(false) };
        let ask = |kind, read: fn(&[u8]) -> Option<bool>| {
            socket.send(&request(kind), 0)?;
            let (answer, _) = socket.recv_from_full()?;
            read(&answer).ok_or_else(|| io::Error::other("an answer of another form"))
        };
        Ok(ask(GET_POLICY_INFO, has_some)? || ask(DEFAULT, blocks_others)?)
    }
}

fn request(kind: u16) -> [u8; WITH_CONTENT] {
    let mut request = [0; WITH_CONTENT];
    request[..4].copy_from_slice(&(WITH_CONTENT as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request
}

/// The content of an answer of this kind, from this place on.
fn content<const N: usize>(answer: &[u8], kind: u16, begin: usize) -> Option<&[u8; N]> {
    let found = u16::from_ne_bytes(*answer.get(4..)?.first_chunk()?);
    answer.get(begin..)?.first_chunk().filter(|_| found == kind)
}

/// Reads three numbers of policies, which three of those of sockets follow. None if it is another answer.
fn has_some(answer: &[u8]) -> Option<bool> {
    content::<12>(answer, POLICY_INFO, NUMBERS).map(|numbers| numbers.iter().any(|byte| *byte != 0))
}

/// Reads what happens to packets without a policy that come in, are forwarded, and go out: `struct xfrm_userpolicy_default`.
fn blocks_others(answer: &[u8]) -> Option<bool> {
    content(answer, DEFAULT, HEADER).map(|[_, forwarded, out]| [forwarded, out].contains(&&BLOCK))
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
        assert_eq!(has_some(&answer(POLICY_INFO, [0; 6])), Some(false));
        assert_eq!(has_some(&answer(POLICY_INFO, [0, 1, 0, 0, 0, 0])), Some(true));
        assert_eq!(has_some(&answer(POLICY_INFO, [0, 0, 1 << 31, 0, 0, 0])), Some(true));
        assert_eq!(has_some(&answer(POLICY_INFO, [0, 0, 0, 1, 1, 1])), Some(false));
    }

    #[test]
    fn another_answer_is_none() {
        assert_eq!(has_some(&answer(2, [1; 6])), None);
        assert_eq!(has_some(&answer(POLICY_INFO, [1; 6])[..NUMBERS + 11]), None);
        assert_eq!(has_some(&[]), None);
    }

    #[test]
    fn packets_without_a_policy_are_blocked_or_not() {
        let answer = |content: &[u8]| [&request(DEFAULT)[..HEADER], content].concat();
        assert_eq!(blocks_others(&answer(&[2, 2, 2])), Some(false));
        assert_eq!(blocks_others(&answer(&[BLOCK, 2, 2, 0])), Some(false), "the host's own");
        assert_eq!(blocks_others(&answer(&[2, BLOCK, 2])), Some(true));
        assert_eq!(blocks_others(&answer(&[2, 2, BLOCK, 0])), Some(true));
        assert_eq!(blocks_others(&answer(&[BLOCK, BLOCK])), None);
        assert_eq!(blocks_others(&request(POLICY_INFO)), None);
    }
}
