//! Creates veth pairs, completely or not at all: a network's host device with the peer that gives it a
//! carrier, and a container's endpoint. The container's side of an endpoint is created in the container's
//! namespace with its final name.
//!
//! IPv6 is off on every end without an IPv6 address. Otherwise the kernel would send unwanted frames
//! (multicast reports, solicitations). Where IPv6 is on, the kernel takes no addresses from routers: the eBPF
//! programs let a container use only the addresses that netbpf knows, including the link-local address of its
//! MAC. The addresses are unique, so duplicate address detection is off. All this is set before the end goes
//! up.
//!
//! A dropped future may leave a link behind. Its group identifies it as netbpf's.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::Arc,
};

use futures::future::try_join_all;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage},
};
use nix::net::if_::if_nametoindex;
use rtnetlink::{
    AddressMessageBuilder,
    packet_core::{NLM_F_CREATE, NLM_F_EXCL},
};

use super::{
    Error, Links, Namespace,
    links::{LOOPBACK, up, with_index},
    size::sizes,
    socket::Socket,
    sysctl::{self, Procfs},
    watch::Activation,
};
use crate::{
    model::{GSO_LEGACY_MAX_SIZE, Mac, Sysctl},
    plan::{EndpointWiring, NetworkWiring},
};

impl Links {
    /// Creates a network's host device, sets it up and adds its addresses. Both ends of its veth pair get
    /// `group`, which identifies the owner.
    ///
    /// # Errors
    /// [`Error::NumberTaken`] or [`Error::NameTaken`] if another link has its ifindex or one of its two
    /// names; [`Error::Failed`] if the kernel refuses a step. The pair is deleted then; if that fails too, it
    /// is logged.
    pub async fn create_host_device(&self, network: &NetworkWiring, group: u32) -> Result<(), Error> {
        let end = End {
            ifindex: network.ifindex(),
            name: &network.device,
            mac: Some(network.mac),
            mtu: network.mtu,
            gso_max_size: self.gso_max_size(network.gso_max_size).await?,
            group,
            netns: None,
        };
        let peer = End { ifindex: 0, name: &network.peer, mac: None, ..end };
        self.create_pair(end, peer, "this network namespace").await?;
        let finished = self.finish_host_device(network).await;
        self.or_delete(end.ifindex, finished).await
    }

    async fn finish_host_device(&self, network: &NetworkWiring) -> Result<(), Error> {
        let NetworkWiring { device, peer, ipv6, mac, .. } = network;
        self.set_ipv6(device, ipv6.is_some()).await?;
        self.set_ipv6(peer, false).await?;
        accept_loopback_here(device).await?;
        let ipv4 = network.ipv4.filter(|_| !network.inhibit);
        let addresses = Addresses { ipv4, ipv6: *ipv6, mac: *mac };
        addresses.add(&self.socket, network.ifindex(), device).await?;
        let mut named = LinkMessage::default();
        named.attributes.push(LinkAttribute::IfName(peer.clone()));
        up(&self.socket, named).await.map_err(|refusal| Error::failed("set up", peer, refusal))?;
        up(&self.socket, with_index(network.ifindex()))
            .await
            .map_err(|refusal| Error::failed("set up", device, refusal))
    }

    /// Creates a container's interface in its network namespace, adds its addresses, sets it up and writes its settings. The host
    /// side stays down, and the interface without a carrier, until [`Links::set_up`], so that programs can be
    /// attached before. The host side gets `group`, which identifies the owner.
    ///
    /// Without a namespace, the container's side stays in the host's namespace, down and without addresses.
    /// The caller's engine moves it, adds addresses and sets it up.
    ///
    /// # Errors
    /// [`Error::NumberTaken`] or [`Error::NameTaken`] if another link has its ifindex or a name;
    /// [`Error::NotANamespace`]; [`Error::Failed`] if the kernel refuses a step. The pair is deleted then; if
    /// that fails too, it is logged.
    pub async fn create_endpoint(
        &self,
        endpoint: &EndpointWiring,
        group: u32,
        namespace: Option<&Namespace>,
    ) -> Result<(), Error> {
        let EndpointWiring { host_interface, interface, .. } = endpoint;
        let end = End {
            ifindex: endpoint.ifindex(),
            name: host_interface,
            mac: None,
            mtu: endpoint.mtu,
            gso_max_size: self.gso_max_size(endpoint.gso_max_size).await?,
            group,
            netns: None,
        };
        let inner = End {
            ifindex: 0,
            name: interface,
            mac: Some(endpoint.mac),
            group: 0,
            netns: namespace.map(|namespace| namespace.as_fd().as_raw_fd()),
            ..end
        };
        let Some(namespace) = namespace else {
            self.create_pair(end, inner, "this network namespace").await?;
            let (outer, inner) =
                tokio::join!(self.set_ipv6(host_interface, false), self.set_ipv6(interface, false));
            return self.or_delete(end.ifindex, outer.and(inner)).await;
        };
        if let Err(error) = self.create_pair(end, inner, &namespace.to_string()).await {
            // The kernel refuses a namespace of another kind without saying so.
            namespace.check().await?;
            return Err(error);
        }
        let (outer, inner) =
            tokio::join!(self.set_ipv6(host_interface, false), finish_inside(endpoint, namespace));
        let inner = self.or_delete(end.ifindex, outer.and(inner)).await?;
        self.or_delete(end.ifindex, write_sysctls(endpoint, namespace).await).await?;
        self.inactive().insert(end.ifindex, inner);
        Ok(())
    }

    async fn create_pair(&self, end: End<'_>, peer: End<'_>, peer_place: &str) -> Result<(), Error> {
        let mut message = end.message();
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer.message()))),
        ]));
        let created =
            self.socket.ask(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).await.map_err(
                |refusal| Error::failed("create", format!("{} and {}", end.name, peer.name), refusal),
            );
        match created {
            Err(error) if error.is_exists() => Err(self.taken(end, peer, peer_place).await),
            result => result,
        }
    }

    /// Finds out what exists: the kernel's EEXIST does not say.
    async fn taken(&self, end: End<'_>, peer: End<'_>, peer_place: &str) -> Error {
        if let Ok(RouteNetlinkMessage::NewLink(holder)) =
            self.socket.get(RouteNetlinkMessage::GetLink(with_index(end.ifindex))).await
        {
            let (mut name, mut group) = (String::new(), 0);
            for attribute in holder.attributes {
                match attribute {
                    LinkAttribute::IfName(found) => name = found,
                    LinkAttribute::Group(found) => group = found,
                    _ => {}
                }
            }
            return Error::NumberTaken { ifindex: end.ifindex, name, group };
        }
        let mut named = LinkMessage::default();
        named.attributes.push(LinkAttribute::IfName(end.name.to_owned()));
        let (name, place) = if self.exists(named).await {
            (end.name, "this network namespace")
        } else {
            (peer.name, peer_place)
        };
        Error::NameTaken { name: name.to_owned(), place: place.to_owned() }
    }

    async fn exists(&self, message: LinkMessage) -> bool {
        self.socket.ask(RouteNetlinkMessage::GetLink(message), 0).await.is_ok()
    }

    /// In the namespace of the runtime. Writing a setting may wait for the kernel's lock on all links, so it
    /// must not run on a worker thread.
    async fn set_ipv6(&self, interface: &str, on: bool) -> Result<(), Error> {
        let (settings, name) = (Arc::clone(&self.settings), interface.to_owned());
        tokio::task::spawn_blocking(move || set_ipv6(&settings, &name, on))
            .await
            .unwrap_or_else(|_| Err(Error::Panicked("this network namespace".to_owned())))
    }

    /// Deletes a pair whose configuration failed.
    async fn or_delete<T>(&self, ifindex: u32, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err()
            && let Err(error) = self.delete(ifindex).await
        {
            tracing::warn!("an incomplete link was not removed: {error}");
        }
        result
    }
}

/// One end of a pair.
#[derive(Clone, Copy)]
struct End<'a> {
    /// 0: the kernel chooses.
    ifindex: u32,
    name: &'a str,
    /// None: the kernel chooses.
    mac: Option<Mac>,
    mtu: u32,
    gso_max_size: u32,
    group: u32,
    /// None: where the request is made.
    netns: Option<RawFd>,
}

impl End<'_> {
    fn message(self) -> LinkMessage {
        let mut message = with_index(self.ifindex);
        message.attributes.push(LinkAttribute::IfName(self.name.to_owned()));
        message.attributes.push(LinkAttribute::Mtu(self.mtu));
        message.attributes.push(LinkAttribute::Group(self.group));
        if self.gso_max_size != GSO_LEGACY_MAX_SIZE {
            message.attributes.extend(sizes(self.gso_max_size));
        }
        // As in Docker: a veth queues nothing.
        message.attributes.push(LinkAttribute::TxQueueLen(0));
        message.attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.octets().to_vec())));
        message.attributes.extend(self.netns.map(LinkAttribute::NetNsFd));
        message
    }
}

/// Configures the container's side, with one visit to its namespace.
async fn finish_inside(endpoint: &EndpointWiring, netns: &Namespace) -> Result<Activation, Error> {
    let EndpointWiring { ipv4, ipv6, mac, .. } = *endpoint;
    let object = format!("{} in {netns}", endpoint.interface);
    let name = endpoint.interface.clone();
    let (socket, (ifindex, activation)) = Socket::open_in(netns, move || {
        set_ipv6(&Procfs::open()?, &name, ipv6.is_some())?;
        let ifindex = if_nametoindex(&*name).map_err(|errno| Error::failed("find", name, errno))?;
        Ok((ifindex, Activation::watch(ifindex)?))
    })
    .await?;
    // The kernel handles the requests in order; no request waits for the answer to the one before.
    let addresses = Addresses { ipv4, ipv6, mac };
    tokio::try_join!(
        addresses.add(&socket, ifindex, &object),
        async {
            let set_up = up(&socket, with_index(ifindex)).await;
            set_up.map_err(|refusal| Error::failed("set up", &object, refusal))
        },
        async {
            let set_up = up(&socket, with_index(LOOPBACK)).await;
            set_up.map_err(|refusal| Error::failed("set up", format!("lo in {netns}"), refusal))
        },
    )?;
    Ok(activation)
}

/// Writes the requested settings of the container's side.
async fn write_sysctls(endpoint: &EndpointWiring, netns: &Namespace) -> Result<(), Error> {
    if endpoint.sysctls.is_empty() {
        return Ok(());
    }
    let (interface, sysctls) = (endpoint.interface.clone(), endpoint.sysctls.clone());
    let written = netns.run(move || {
        sysctls.iter().try_for_each(|Sysctl { family, table, name, value }| {
            sysctl::write(&format!("net/{family}/{table}/{interface}/{name}"), value).map(drop)
        })
    });
    written.await?
}

/// Addresses of an end.
struct Addresses {
    ipv4: Option<Ipv4Net>,
    ipv6: Option<Ipv6Net>,
    mac: Mac,
}

impl Addresses {
    /// Sends all requests at once.
    async fn add(&self, socket: &Socket, ifindex: u32, link: &str) -> Result<(), Error> {
        let ipv4 = self.ipv4.map(|net| (ipv4_message(net, ifindex), format!("{net} to {link}")));
        let link_local = || Ipv6Net::new_assert(self.mac.link_local(), 64);
        let ipv6 = self
            .ipv6
            .into_iter()
            .flat_map(|net| [net, link_local()])
            .map(|net| (ipv6_message(net, ifindex), format!("{net} to {link}")));
        let added =
            ipv4.into_iter().chain(ipv6).map(|(message, object)| add_address(socket, message, object));
        try_join_all(added).await.map(drop)
    }
}

/// Adds addresses to a link. It may have some of them already.
pub(super) async fn add_addresses(
    socket: &Socket,
    ifindex: u32,
    link: &str,
    addresses: &BTreeSet<IpNet>,
) -> Result<(), Error> {
    for net in addresses {
        let message = match net {
            IpNet::V4(net) => ipv4_message(*net, ifindex),
            IpNet::V6(net) => ipv6_message(*net, ifindex),
        };
        match add_address(socket, message, format!("{net} to {link}")).await {
            Err(error) if error.is_exists() => {}
            result => result?,
        }
    }
    Ok(())
}

fn ipv4_message(net: Ipv4Net, ifindex: u32) -> AddressMessage {
    AddressMessageBuilder::<Ipv4Addr>::new().address(net.addr(), net.prefix_len()).index(ifindex).build()
}

/// Without duplicate address detection.
fn ipv6_message(net: Ipv6Net, ifindex: u32) -> AddressMessage {
    let message = AddressMessageBuilder::<Ipv6Addr>::new().address(net.addr(), net.prefix_len());
    let mut message = message.index(ifindex).build();
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    message
}

async fn add_address(socket: &Socket, message: AddressMessage, object: String) -> Result<(), Error> {
    socket
        .ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
        .await
        .map_err(|refusal| Error::failed("add", format!("address {object}"), refusal))
}

fn set_ipv6(settings: &Procfs, interface: &str, on: bool) -> Result<(), Error> {
    if on { settings.enable_ipv6(interface) } else { settings.disable_ipv6(interface) }
}

/// Lets the host use a port that is published at 127.0.0.1: the packet filter translates both addresses, but
/// only after the kernel's check for 127.0.0.0/8. The eBPF programs drop what containers send to 127.0.0.0/8.
async fn accept_loopback_here(interface: &str) -> Result<(), Error> {
    let setting = format!("net/ipv4/conf/{interface}/route_localnet");
    tokio::task::spawn_blocking(move || sysctl::write(&setting, "1").map(|_| ()))
        .await
        .unwrap_or_else(|_| Err(Error::Panicked("this network namespace".to_owned())))
}
