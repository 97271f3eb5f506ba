//! Tells when somebody turns forwarding off. The kernel announces it (`RTM_NEWNETCONF`, Linux 3.8); the
//! netlink library has no type for this message, so it is parsed here. Changes nothing.

use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::{Error, Heard};
use crate::multicast::Listener;

/// `RTNLGRP_IPV4_NETCONF` and `RTNLGRP_IPV6_NETCONF`.
const GROUPS: [u32; 2] = [24, 25];
/// `RTM_NEWNETCONF`.
const NEW_NETCONF: u16 = 80;
/// `NETCONFA_IFINDEX`, a signed number.
const IFINDEX: u16 = 1;
/// `NETCONFA_FORWARDING`.
const FORWARDING: u16 = 2;
/// `NETCONFA_IFINDEX_ALL`.
const ALL: i32 = -1;
/// Length in bytes of a `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length in bytes of a `struct netconfmsg`, with its padding.
const FAMILY: usize = 4;

/// Where forwarding was turned off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotForwarding {
    /// On the whole host, for a family.
    Host,
    /// For packets that arrive at the interface with this ifindex.
    Interface(u32),
}

/// The kernel's announcements about forwarding in one namespace, from the creation of this value on.
pub struct ForwardingChanges(Listener);

impl ForwardingChanges {
    /// Listens in the namespace of the calling thread, which must be in a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel gives no netlink socket, for example `EMFILE`.
    pub fn watch() -> Result<Self, Error> {
        let opened = Listener::open(NETLINK_ROUTE, &GROUPS);
        opened.map(Self).map_err(|error| Error::failed("listen on", "a netlink socket", error))
    }

    /// Waits until forwarding is turned off somewhere.
    ///
    /// # Errors
    /// [`Error::Failed`] if the socket is broken. Lost announcements are no error, but [`Heard::Lost`].
    pub async fn next(&mut self) -> Result<Heard<NotForwarding>, Error> {
        loop {
            let heard =
                self.0.next().await.map_err(|error| Error::failed("listen on", "a netlink socket", error))?;
            match heard.as_deref().map(turned_off) {
                None => return Ok(Heard::Lost),
                Some(Some(place)) => return Ok(Heard::Of(place)),
                Some(None) => {}
            }
        }
    }
}

/// The place where a message says that forwarding is off. Each announcement is a datagram of its own.
fn turned_off(message: &[u8]) -> Option<NotForwarding> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    if kind != NEW_NETCONF {
        return None;
    }
    let mut attributes = message.get(HEADER + FAMILY..)?;
    let (mut ifindex, mut forwarding) = (None, None);
    while let Some((head, rest)) = attributes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let value = rest.get(..4).and_then(|value| value.try_into().ok()).map(i32::from_ne_bytes);
        match u16::from_ne_bytes([head[2], head[3]]) {
            IFINDEX => ifindex = value,
            FORWARDING => forwarding = value,
            _ => {}
        }
        // Attributes are aligned to 4 bytes.
        attributes = attributes.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    match (ifindex?, forwarding?) {
        (ALL, 0) => Some(NotForwarding::Host),
        (ifindex, 0) => u32::try_from(ifindex).ok().map(NotForwarding::Interface),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, attributes: &[(u16, i32)]) -> Vec<u8> {
        let mut message = vec![0; HEADER + FAMILY];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        for (kind, value) in attributes {
            message.extend([8_u16.to_ne_bytes(), kind.to_ne_bytes()].concat());
            message.extend(value.to_ne_bytes());
        }
        message
    }

    #[test]
    fn only_forwarding_that_is_turned_off_is_reported() {
        let said = |attributes: &[(u16, i32)]| turned_off(&message(NEW_NETCONF, attributes));
        assert_eq!(said(&[(IFINDEX, ALL), (FORWARDING, 0)]), Some(NotForwarding::Host));
        assert_eq!(said(&[(IFINDEX, 7), (3, 1), (FORWARDING, 0)]), Some(NotForwarding::Interface(7)));
        assert_eq!(said(&[(IFINDEX, ALL), (FORWARDING, 1)]), None);
        // The default for new interfaces, and another setting.
        assert_eq!(said(&[(IFINDEX, -2), (FORWARDING, 0)]), None);
        assert_eq!(said(&[(IFINDEX, ALL), (3, 0)]), None);
        assert_eq!(turned_off(&message(NEW_NETCONF + 1, &[(IFINDEX, ALL), (FORWARDING, 0)])), None);
        assert_eq!(turned_off(&message(NEW_NETCONF, &[])[..10]), None);
    }
}
