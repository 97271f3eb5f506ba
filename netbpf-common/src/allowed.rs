//! What members of a network with `enable_icc=false` may send each other all the same (`ALLOWED`): a container that was
//! started with `--link` reaches the exposed ports of the other one, and that one answers. Docker's two rules, without any
//! state.

use crate::wire::{Transport, protocol};

/// How many exceptions all networks of a daemon have together.
pub const MAX_ALLOWED: u32 = 16384;

/// Port 0 stands for all ports of a protocol: later fragments of a packet name none.
pub const FRAGMENT: [u8; 2] = [0; 2];

/// Key of the hash `ALLOWED`: who may ask whom on which port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllowedKey {
    /// Endpoint number of the one that asks.
    pub from: u32,
    /// Endpoint number of the one that answers.
    pub to: u32,
    /// As in an IP header.
    pub protocol: u8,
    /// Always zero.
    pub reserved: u8,
    /// The exposed port, network order; [`FRAGMENT`] is allowed beside each exposed port.
    pub port: [u8; 2],
}
const _: () = assert!(size_of::<AllowedKey>() == 12);

/// Value of `ALLOWED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Always 1: what is not allowed has no entry.
    pub yes: u32,
}
const _: () = assert!(size_of::<Allowed>() == 4);

/// The two keys either of which lets a packet pass: as a question of `sender`, and as an answer to `receiver`.
#[inline(always)]
pub const fn keys_of(sender: u32, receiver: u32, protocol: u8, ports: Transport) -> [AllowedKey; 2] {
    [
        AllowedKey { from: sender, to: receiver, protocol, reserved: 0, port: ports.destination },
        AllowedKey { from: receiver, to: sender, protocol, reserved: 0, port: ports.source },
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
    fn a_question_and_its_answer_have_the_same_key() {
        let [question, _] =
            keys_of(1, 2, protocol::TCP, Transport { source: [200, 0], destination: [0, 80] });
        let [_, answer] = keys_of(2, 1, protocol::TCP, Transport { source: [0, 80], destination: [200, 0] });
        assert_eq!(question, answer);
        assert!(has_ports(protocol::TCP) && !has_ports(1));
    }
}
