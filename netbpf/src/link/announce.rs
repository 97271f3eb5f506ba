//! What an interface says of itself when it is new: neighbours that remember somebody else at its address learn of it at
//! once, and not when their own doubts come (RFC 4861 7.2.6).

use std::net::{Ipv6Addr, SocketAddrV6};

use nix::net::if_::if_nametoindex;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, ipproto, sendto, socket_with, sockopt,
};

use super::{Error, Links, Namespace};
use crate::model::Mac;

/// All nodes of a link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Of what no router has sent on.
const HOP_LIMIT: u32 = 255;

impl Links {
    /// Says to all neighbours of an interface that it has an IPv6 address, by an unsolicited neighbour advertisement.
    pub async fn announce(
        &self,
        netns: &Namespace,
        interface: &str,
        address: Ipv6Addr,
        mac: Mac,
    ) -> Result<(), Error> {
        let name = interface.to_owned();
        let sent = netns.run(move || send(&name, address, mac)).await?;
        sent.map_err(|errno| Error::failed("announce", format!("{address} of {interface} in {netns}"), errno))
    }
}

fn send(interface: &str, address: Ipv6Addr, mac: Mac) -> std::io::Result<()> {
    let scope = if_nametoindex(interface)?;
    // The kernel makes the checksum.
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

/// Type, code, checksum, flags, target, and the option that has its MAC.
fn advertisement(address: Ipv6Addr, mac: Mac) -> Vec<u8> {
    const ADVERTISEMENT: u8 = 136;
    const OVERRIDE: u8 = 0x20;
    const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];
    let fixed = [ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    [&fixed[..], &address.octets(), &TARGET_LINK_LAYER_ADDRESS, &mac.octets()].concat()
}
