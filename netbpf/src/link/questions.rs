//! Questions to the kernel about the network namespace of the calling thread: where a packet goes, who listens, how an
//! interface is. They block and change nothing. Must not know containers or networks.

use std::{io, net::IpAddr};

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType},
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags, nlas},
};
use nix::libc::{EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH, EXDEV};
use rtnetlink::{
    packet_core::{
        NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
    },
    sys::{
        Socket, SocketAddr,
        protocols::{NETLINK_ROUTE, NETLINK_SOCK_DIAG},
    },
};

use super::links::with_index;

/// A packet whose route is asked for.
#[derive(Clone, Copy, Debug)]
pub struct RouteQuestion {
    /// Its source address; none if the kernel is to choose one.
    pub source: Option<IpAddr>,
    /// Its destination address.
    pub destination: IpAddr,
    /// The interface that it was received by; none for one of this namespace itself.
    pub received_by: Option<u32>,
    /// Its mark.
    pub mark: u32,
}

/// Where a packet goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To this namespace itself.
    Local,
    /// To an interface.
    By {
        /// Its ifindex.
        ifindex: u32,
        /// The next router; none if the destination is on the link.
        gateway: Option<IpAddr>,
        /// The source address that the kernel chooses.
        source: Option<IpAddr>,
        /// The route's own MTU in bytes.
        mtu: Option<u32>,
    },
    /// To many: broadcast or multicast.
    Group,
    /// Nowhere: no route, or one that says so.
    None,
    /// Nowhere: a route or a rule refuses it.
    Prohibited,
    /// It would not be sent back by the interface that it was received by (`rp_filter`).
    ReversePath,
    /// Its source address cannot be (`martian`).
    Martian,
}

/// Asks where a packet goes.
///
/// # Errors
/// If the kernel does not answer.
pub fn route(question: &RouteQuestion) -> io::Result<Route> {
    let RouteQuestion { source, destination, received_by, mark } = *question;
    let mut request = RouteMessage::default();
    let bits = if destination.is_ipv4() { 32 } else { 128 };
    request.header.address_family =
        if destination.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    request.header.destination_prefix_length = bits;
    request.attributes.push(RouteAttribute::Destination(address(destination)));
    if let Some(source) = source {
        request.header.source_prefix_length = bits;
        request.attributes.push(RouteAttribute::Source(address(source)));
    }
    request.attributes.extend(received_by.map(RouteAttribute::Iif));
    request.attributes.extend((mark != 0).then_some(RouteAttribute::Mark(mark)));
    let answer = match ask(NETLINK_ROUTE, RouteNetlinkMessage::GetRoute(request), 0) {
        Err(error) => {
            return match error.raw_os_error() {
                Some(ENETUNREACH | EHOSTUNREACH) => Ok(Route::None),
                Some(EACCES) => Ok(Route::Prohibited),
                Some(EXDEV) => Ok(Route::ReversePath),
                Some(EINVAL) if received_by.is_some() => Ok(Route::Martian),
                Some(EINVAL) => Ok(Route::None),
                _ => Err(error),
            };
        }
        Ok(answer) => answer,
    };
    let Some(RouteNetlinkMessage::NewRoute(route)) = answer.into_iter().next() else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    Ok(read(&route))
}

fn read(route: &RouteMessage) -> Route {
    match route.header.kind {
        RouteType::Local | RouteType::Anycast => return Route::Local,
        RouteType::Broadcast | RouteType::Multicast => return Route::Group,
        RouteType::Unicast => {}
        RouteType::Prohibit => return Route::Prohibited,
        _ => return Route::None,
    }
    let (mut ifindex, mut gateway, mut source, mut mtu) = (0, None, None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = *index,
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Route::By { ifindex, gateway, source, mtu }
}

fn address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub is_up: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its MAC, of Ethernet interfaces.
    pub mac: Option<[u8; 6]>,
}

/// The interface with an ifindex.
///
/// # Errors
/// If there is none.
pub fn interface(ifindex: u32) -> io::Result<Interface> {
    let answer = ask(NETLINK_ROUTE, RouteNetlinkMessage::GetLink(with_index(ifindex)), 0)?;
    let Some(RouteNetlinkMessage::NewLink(link)) = answer.into_iter().next() else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let is_up = link.header.flags.contains(LinkFlags::Up);
    let mut interface = Interface { name: String::new(), is_up, mtu: 0, mac: None };
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name = name,
            LinkAttribute::Mtu(mtu) => interface.mtu = mtu,
            LinkAttribute::Address(bytes) => interface.mac = bytes.try_into().ok(),
            _ => {}
        }
    }
    Ok(interface)
}

/// All addresses, each with the ifindex of its interface.
///
/// # Errors
/// If the kernel does not list them.
pub fn addresses() -> io::Result<Vec<(u32, IpAddr)>> {
    let all = ask(NETLINK_ROUTE, RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
    let read = |message| {
        let RouteNetlinkMessage::NewAddress(message) = message else { return None };
        // A peer's address is in `Address`, the own one in `Local`.
        let mut own = None;
        for attribute in message.attributes {
            match attribute {
                AddressAttribute::Local(address) => own = Some(address),
                AddressAttribute::Address(address) => own = own.or(Some(address)),
                _ => {}
            }
        }
        Some((message.header.index, own?))
    };
    Ok(all.into_iter().filter_map(read).collect())
}

/// A socket that takes packets of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its address; unspecified for all.
    pub address: IpAddr,
    /// Whether it is of IPv6 and takes no packets of IPv4.
    pub only_ipv6: bool,
    /// The interface that it is bound to; 0 for all.
    pub ifindex: u32,
    /// Its inode, by which the files of a process name it.
    pub inode: u32,
}

impl Listener {
    /// Whether it takes packets to an address.
    pub fn takes(&self, destination: IpAddr) -> bool {
        match (self.address, destination) {
            (IpAddr::V6(own), IpAddr::V4(_)) if own.is_unspecified() => !self.only_ipv6,
            (IpAddr::V6(own), IpAddr::V4(to)) => own.to_ipv4_mapped() == Some(to),
            (own, _) if own.is_ipv4() != destination.is_ipv4() => false,
            (own, _) => own.is_unspecified() || own == destination,
        }
    }

    /// Whether it takes packets of this namespace itself only.
    pub fn is_on_loopback(&self) -> bool {
        match self.address {
            IpAddr::V4(address) => address.is_loopback(),
            IpAddr::V6(address) => {
                address.is_loopback() || address.to_ipv4_mapped().is_some_and(|it| it.is_loopback())
            }
        }
    }
}

/// The sockets that take packets to a port of a protocol (its number in an IP header): listening ones of TCP, others that
/// are not connected.
///
/// # Errors
/// If the kernel cannot list them (`CONFIG_INET_DIAG`).
pub fn listeners(protocol: u8, port: u16) -> io::Result<Vec<Listener>> {
    const TCP: u8 = 6;
    const SCTP: u8 = 132;
    let mut found = Vec::new();
    for (family, socket_id) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
        let states = match protocol {
            TCP | SCTP => StateFlags::LISTEN,
            // Those that are not connected.
            _ => StateFlags::CLOSE,
        };
        let extensions = ExtensionFlags::empty();
        let request = InetRequest { family, protocol, extensions, states, socket_id };
        for message in ask(NETLINK_SOCK_DIAG, SockDiagMessage::InetRequest(request), NLM_F_DUMP)? {
            let SockDiagMessage::InetResponse(socket) = message else { continue };
            let id = &socket.header.socket_id;
            if id.source_port != port {
                continue;
            }
            let only_ipv6 = socket.nlas.iter().any(|nla| matches!(nla, nlas::Nla::SkV6Only(true)));
            let (address, ifindex, inode) = (id.source_address, id.interface_id, socket.header.inode);
            found.push(Listener { address, only_ipv6, ifindex, inode });
        }
    }
    Ok(found)
}

/// Sends a request and waits for all of its answer.
fn ask<T>(protocol: isize, message: T, flags: u16) -> io::Result<Vec<T>>
where
    T: NetlinkSerializable + NetlinkDeserializable,
    NetlinkPayload<T>: From<T>,
{
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = NetlinkMessage::new(Default::default(), NetlinkPayload::from(message));
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<T>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) => return Ok(answers),
                NetlinkPayload::Done(done) if done.code != 0 => {
                    return Err(io::Error::from_raw_os_error(done.code.abs()));
                }
                NetlinkPayload::Done(_) => return Ok(answers),
                _ => {}
            }
        }
        if flags & NLM_F_DUMP == 0 && !answers.is_empty() {
            return Ok(answers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str, only_ipv6: bool) -> Listener {
        Listener { address: address.parse().unwrap(), only_ipv6, ifindex: 0, inode: 0 }
    }

    #[test]
    fn a_socket_takes_packets_of_its_families() {
        let [four, six] = ["10.0.0.2", "2001:db8::2"].map(|address| address.parse::<IpAddr>().unwrap());
        for (address, only_ipv6, takes) in [
            ("0.0.0.0", false, (true, false)),
            ("::", false, (true, true)),
            ("::", true, (false, true)),
            ("10.0.0.2", false, (true, false)),
            ("10.0.0.3", false, (false, false)),
            ("::ffff:10.0.0.2", false, (true, false)),
            ("2001:db8::2", false, (false, true)),
            ("127.0.0.1", false, (false, false)),
        ] {
            let listener = listener(address, only_ipv6);
            assert_eq!((listener.takes(four), listener.takes(six)), takes, "{address}");
        }
    }

    #[test]
    fn a_socket_may_be_for_this_namespace_only() {
        for (address, expected) in [
            ("127.0.0.53", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
        ] {
            assert_eq!(listener(address, false).is_on_loopback(), expected, "{address}");
        }
    }

    #[test]
    fn the_kernel_knows_this_hosts_own_address_and_listener() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let found = listeners(6, address.port()).unwrap();
        assert!(found.iter().any(|listener| listener.takes(address.ip())), "{found:?}");
        let question = RouteQuestion { source: None, destination: address.ip(), received_by: None, mark: 0 };
        assert_eq!(route(&question).unwrap(), Route::Local);
        assert!(addresses().unwrap().contains(&(1, address.ip())));
        assert_eq!(interface(1).unwrap().name, "lo");
    }
}
