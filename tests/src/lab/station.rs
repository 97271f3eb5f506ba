//! A raw socket on one interface: sends arbitrary frames and receives all incoming ones. Knows Ethernet, not netbpf.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvfrom, sendto, socket,
    },
};

use super::Lab;

/// A MAC address.
pub type Mac = [u8; 6];

/// The broadcast address.
pub const BROADCAST: Mac = [0xff; 6];

/// A MAC address as people and programs write it.
#[must_use]
pub fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A raw socket on an interface.
pub struct Station {
    socket: OwnedFd,
    link: LinkAddr,
}

impl Lab {
    /// A raw socket on an interface of a container.
    #[track_caller]
    pub fn station(&self, container: &str, interface: &str) -> Station {
        self.inside(container, || Station::open(interface))
    }

    /// A raw socket on an interface of a network namespace on the host.
    #[track_caller]
    pub fn station_in(&self, namespace: &str, interface: &str) -> Station {
        self.in_namespace(namespace, || Station::open(interface))
    }

    /// A raw socket on an interface of the host.
    #[track_caller]
    pub fn host_station(&self, interface: &str) -> Station {
        self.on_host(|| Station::open(interface))
    }
}

impl Station {
    /// Opens a socket in the calling thread's network namespace, where it stays.
    #[track_caller]
    fn open(interface: &str) -> Self {
        let open = || -> nix::Result<_> {
            let link = getifaddrs()?
                .filter(|address| address.interface_name == interface)
                .find_map(|address| address.address?.as_link_addr().copied())
                .ok_or(Errno::ENODEV)?;
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
            Ok(Self { socket, link })
        };
        open().unwrap_or_else(|errno| panic!("a raw socket on {interface}: {errno}"))
    }

    /// The interface's MAC address.
    #[track_caller]
    pub fn mac(&self) -> Mac {
        self.link.addr().expect("an Ethernet interface")
    }

    /// Sends a frame unchanged.
    #[track_caller]
    pub fn send(&self, frame: &[u8]) {
        let sent = sendto(self.socket.as_raw_fd(), frame, &self.link, MsgFlags::empty());
        assert_eq!(sent, Ok(frame.len()), "a frame goes out");
    }

    /// The frames received since the last call. The kernel removes VLAN tags.
    #[track_caller]
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.heard_with_kinds().into_iter().map(|(_, frame)| frame).collect()
    }

    /// The same, each with its kind: for whom the kernel takes it (`PACKET_HOST`, `PACKET_OTHERHOST` and others of
    /// linux/if_packet.h).
    #[track_caller]
    pub fn heard_with_kinds(&self) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        let mut buffer = [0; 65536];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    let incoming = from.filter(|from| {
                        from.ifindex() == self.link.ifindex() && from.pkttype() != libc::PACKET_OUTGOING
                    });
                    frames.extend(incoming.map(|from| (from.pkttype(), buffer[..length].to_vec())));
                }
                Err(Errno::EAGAIN) => return frames,
                Err(Errno::EINTR) => {}
                Err(errno) => panic!("receive a frame: {errno}"),
            }
        }
    }

    /// Waits for a frame that ends with these bytes. Returns whether it came in time.
    #[track_caller]
    pub fn hears(&self, mark: &[u8], timeout: Duration) -> bool {
        self.heard_until(mark, timeout).is_some()
    }

    /// The frames, with their kinds, until one that ends with these bytes; none if it does not come in time.
    #[track_caller]
    pub fn heard_until(&self, mark: &[u8], timeout: Duration) -> Option<Vec<(u8, Vec<u8>)>> {
        let give_up = Instant::now() + timeout;
        let mut heard = self.heard_with_kinds();
        while !heard.iter().any(|(_, frame)| frame.ends_with(mark)) {
            let left = give_up.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).ok()?;
            let mut coming = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut coming, left) {
                Ok(0) => return None,
                Ok(_) | Err(Errno::EINTR) => heard.extend(self.heard_with_kinds()),
                Err(errno) => panic!("wait for a frame: {errno}"),
            }
        }
        Some(heard)
    }

    /// The number of frames since the last call that end with these bytes.
    #[track_caller]
    pub fn heard_ending_in(&self, mark: &[u8]) -> usize {
        self.heard().iter().filter(|frame| frame.ends_with(mark)).count()
    }
}

/// A protocol of IP for experiments (RFC 3692).
const EXPERIMENTAL: u8 = 253;

/// An Ethernet frame.
pub fn ethernet(destination: Mac, source: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &ethertype.to_be_bytes(), payload].concat()
}

/// A payload with a VLAN tag in front, for a frame of type 0x8100.
pub fn tagged(vid: u16, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&vid.to_be_bytes()[..], &ethertype.to_be_bytes(), payload].concat()
}

/// An IPv4 packet of an experimental protocol (RFC 3692) with a valid checksum.
pub fn ipv4(source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    ipv4_with(EXPERIMENTAL, source, destination, payload)
}

/// An IPv4 packet of a protocol with a valid checksum.
pub fn ipv4_with(protocol: u8, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("a small packet").to_be_bytes();
    let mut header = [0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0].to_vec();
    header.extend_from_slice(&[source, destination].concat());
    let sum: u32 = header.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&header, payload].concat()
}

/// An IPv6 packet of an experimental protocol (RFC 3692).
pub fn ipv6(source: [u8; 16], destination: [u8; 16], payload: &[u8]) -> Vec<u8> {
    ipv6_with(EXPERIMENTAL, source, destination, payload)
}

/// An IPv6 packet with a next header of this kind.
pub fn ipv6_with(next_header: u8, source: [u8; 16], destination: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a small packet").to_be_bytes();
    [&[0x60, 0, 0, 0, length[0], length[1], next_header, 64][..], &source, &destination, payload].concat()
}

/// An IPv6 packet with an ICMPv6 message and a hop limit of 255. Sets the message's checksum.
pub fn icmpv6(source: [u8; 16], destination: [u8; 16], message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a small packet").to_be_bytes();
    let mut message = message.to_vec();
    message[2..4].fill(0);
    let covered = [&source[..], &destination, &[0, 0], &length, &[0, 0, 0, 58], &message].concat();
    let sum: u32 = covered.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    [&[0x60, 0, 0, 0, length[0], length[1], 58, 255][..], &source, &destination, &message].concat()
}

/// An ARP packet.
pub fn arp(operation: Arp, sender: (Mac, [u8; 4]), target: (Mac, [u8; 4])) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, operation as u8][..], &sender.0, &sender.1, &target.0, &target.1].concat()
}

/// The operations of ARP.
#[derive(Clone, Copy)]
pub enum Arp {
    /// Asks for the target's MAC address.
    Request = 1,
    /// Announces the sender's addresses.
    Reply = 2,
}
