//! Exceptions in networks with `enable_icc=false` (`ALLOWED`): a container that was started with `--link`
//! reaches the exposed ports of the linked container, which may answer. These are Docker's two rules, without
//! any state.

use crate::wire::{Transport, protocol};

/// Maximum number of exceptions in all networks of a daemon.
pub const MAX_ALLOWED: u32 = 16384;

/// Port 0 stands for later fragments of a packet, which have no port numbers.
pub const FRAGMENT: [u8; 2] = [0; 2];

/// Key of the hash `ALLOWED`: a client, a server and the server's port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllowedKey {
    /// Endpoint number of the client.
    pub from: u32,
    /// Endpoint number of the server.
    pub to: u32,
    /// As in an IP header.
    pub protocol: u8,
    /// Always zero.
    pub reserved: u8,
    /// The exposed port, network order. Each exposed port has an entry with [`FRAGMENT`] too.
    pub port: [u8; 2],
}
const _: () = assert!(size_of::<AllowedKey>() == 12);

/// Value of `ALLOWED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Always 1.
    pub yes: u32,
}
const _: () = assert!(size_of::<Allowed>() == 4);

/// The keys that allow a packet, either is enough: as a request of `sender`, and as a reply to `receiver`.
#[inline(always)]
pub const fn keys_of(sender: u32, receiver: u32, protocol: u8, ports: Transport) -> [AllowedKey; 2] {
    [
        AllowedKey { from: sender, to: receiver, protocol, reserved: 0, port: ports.destination },
        AllowedKey { from: receiver, to: sender, protocol, reserved: 0, port: ports.source },
    ]
}

/// Whether a protocol has ports that can be exposed.
#[inline(always)]
pub const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP | protocol::SCTP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_its_reply_have_the_same_key() {
        let [question, _] =
            keys_of(1, 2, protocol::TCP, Transport { source: [200, 0], destination: [0, 80] });
        let [_, answer] = keys_of(2, 1, protocol::TCP, Transport { source: [0, 80], destination: [200, 0] });
        assert_eq!(question, answer);
        assert!(has_ports(protocol::TCP) && !has_ports(1));
    }
}
