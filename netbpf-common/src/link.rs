//! Holes in a network whose members do not talk to each other (`enable_icc=false`): a container that is linked to
//! another reaches that one's exposed ports (`LINKS`). Docker's two rules, there and back, without any state.

use crate::wire::{Transport, protocol};

/// How many holes all networks of a daemon have together.
pub const MAX_LINKS: u32 = 16384;

/// The port that stands for all of a protocol: later fragments of a packet name none.
pub const FRAGMENT: [u8; 2] = [0; 2];

/// Key of the hash `LINKS`: who may ask whom for what.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey {
    /// Port number of the container that is linked.
    pub from: u32,
    /// Port number of the one that it is linked to.
    pub to: u32,
    /// As in an IP header.
    pub protocol: u8,
    /// Always zero.
    pub reserved: u8,
    /// The exposed port, network order; [`FRAGMENT`] stands in every link beside the exposed ports.
    pub port: [u8; 2],
}
const _: () = assert!(size_of::<LinkKey>() == 12);

/// Value of `LINKS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Always 1: what is not open is not there.
    pub open: u32,
}
const _: () = assert!(size_of::<Link>() == 4);

/// The two links either of which lets a packet pass from one port to another: as a question, and as an answer.
#[inline(always)]
pub const fn links_of(sender: u32, receiver: u32, protocol: u8, ports: Transport) -> [LinkKey; 2] {
    [
        LinkKey { from: sender, to: receiver, protocol, reserved: 0, port: ports.destination },
        LinkKey { from: receiver, to: sender, protocol, reserved: 0, port: ports.source },
    ]
}

/// Whether ports of a protocol can be exposed.
#[inline(always)]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_and_its_answer_have_the_same_link() {
        let [question, _] =
            links_of(1, 2, protocol::TCP, Transport { source: [200, 0], destination: [0, 80] });
        let [_, answer] = links_of(2, 1, protocol::TCP, Transport { source: [0, 80], destination: [200, 0] });
        assert_eq!(question, answer);
        assert!(has_ports(protocol::TCP) && !has_ports(1));
    }
}
