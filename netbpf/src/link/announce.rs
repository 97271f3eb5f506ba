//! Announces the address of a new interface. A neighbour that has another MAC for the address then updates
//! its table at once, not only when its entry expires (RFC 5227 section 3, RFC 4861 section 7.2.6).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6},
    os::fd::AsRawFd as _,
};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    net::if_::if_nametoindex,
    sys::socket::{self, LinkAddr, MsgFlags, SockFlag, SockType},
};
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, ipproto, sendto, socket_with, sockopt,
};

use super::{Error, Links, Namespace};
use crate::model::Mac;

/// The multicast group of all nodes on a link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The only valid hop limit: a lower one shows that a router forwarded the packet (RFC 4861 section 7.1.2).
const HOP_LIMIT: u32 = 255;

impl Links {
    /// Announces an address of an interface to all its neighbours, by an ARP announcement or an unsolicited
    /// neighbour advertisement.
    ///
    /// # Errors
    /// [`Error::NotANamespace`], or [`Error::Failed`] with `ENODEV` if there is no such interface, `ENETDOWN`
    /// if it is down (IPv4), `EADDRNOTAVAIL` if nothing in the namespace has the address (IPv6).
    pub async fn announce(
        &self,
        netns: &Namespace,
        interface: &str,
        address: IpAddr,
        mac: Mac,
    ) -> Result<(), Error> {
        let name = interface.to_owned();
        let sent = netns.run(move || match address {
            IpAddr::V4(address) => announce(&name, address, mac),
            IpAddr::V6(address) => advertise(&name, address, mac),
        });
        let sent = sent.await?;
        sent.map_err(|errno| Error::failed("announce", format!("{address} of {interface} in {netns}"), errno))
    }
}

fn announce(interface: &str, address: Ipv4Addr, mac: Mac) -> io::Result<()> {
    // Without a protocol, so that it receives no frames.
    let socket = socket::socket(socket::AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    let frame = announcement(address, mac);
    socket::sendto(socket.as_raw_fd(), &frame, &link_address(interface)?, MsgFlags::empty())?;
    Ok(())
}

/// The address that a raw socket sends frames to.
fn link_address(interface: &str) -> nix::Result<LinkAddr> {
    let mut found = getifaddrs()?.filter(|found| found.interface_name == interface);
    found.find_map(|found| found.address?.as_link_addr().copied()).ok_or(Errno::ENODEV)
}

/// A broadcast ARP request whose sender and target are both the address.
fn announcement(address: Ipv4Addr, mac: Mac) -> Vec<u8> {
    const ALL: [u8; 6] = [0xff; 6];
    const ARP: [u8; 2] = [0x08, 0x06];
    const REQUEST_FOR_IPV4: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    let (mac, address) = (mac.octets(), address.octets());
    [&ALL[..], &mac, &ARP, &REQUEST_FOR_IPV4, &mac, &address, &[0; 6], &address].concat()
}

fn advertise(interface: &str, address: Ipv6Addr, mac: Mac) -> io::Result<()> {
    let scope = if_nametoindex(interface)?;
    // The kernel fills in the checksum.
    let protocol = Some(ipproto::ICMPV6);
    let socket = socket_with(AddressFamily::INET6, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    sockopt::set_ipv6_multicast_hops(&socket, HOP_LIMIT)?;
    bind(&socket, &SocketAddrV6::new(address, 0, 0, 0))?;
    sendto(
        &socket,
        &advertisement(address, mac),
        SendFlags::empty(),
        &SocketAddrV6::new(ALL_NODES, 0, 0, scope),
    )?;
    Ok(())
}

/// Type, code, checksum, flags, target, and the target link-layer address option.
fn advertisement(address: Ipv6Addr, mac: Mac) -> Vec<u8> {
    const ADVERTISEMENT: u8 = 136;
    const OVERRIDE: u8 = 0x20;
    const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];
    let fixed = [ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    [&fixed[..], &address.octets(), &TARGET_LINK_LAYER_ADDRESS, &mac.octets()].concat()
}
