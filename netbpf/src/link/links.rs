//! Changes links that exist, and the default routes of a namespace.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkFlags, LinkMessage},
    route::{RouteHeader, RouteProtocol, RouteScope, RouteType},
};
use nix::net::if_::{if_indextoname, if_nametoindex};
use rtnetlink::{
    RouteMessageBuilder,
    packet_core::{NLM_F_CREATE, NLM_F_REPLACE},
};
use tokio::time::timeout;

use super::{
    Error, Namespace,
    error::Refusal,
    socket::{Socket, connect},
    sysctl::Procfs,
    watch::Activation,
};
use crate::model;

/// Timeout for the kernel's activation of a side of a pair; longer than any that was measured.
const ACTIVATION: Duration = Duration::from_millis(500);

/// The ifindex of `lo` in every namespace.
pub(super) const LOOPBACK: u32 = 1;

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// The links of the namespace in which this value was made.
pub struct Links {
    pub(super) socket: Socket,
    pub(super) settings: Arc<Procfs>,
    inactive: Mutex<HashMap<u32, Activation>>,
}

impl Links {
    /// Opens the links of the calling thread's namespace; must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Failed`] if no netlink socket can be opened (`EMFILE`), or no `/proc`.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open()?, settings: Arc::new(Procfs::open()?), inactive: Mutex::default() })
    }

    /// Opens a container's network namespace.
    ///
    /// # Errors
    /// [`Error::Failed`] if there is no such file, or the process has ended; [`Error::NotANamespace`].
    pub fn namespace(&self, named: &model::Namespace) -> Result<Namespace, Error> {
        match named {
            model::Namespace::Path(path) => Namespace::open_path(path),
            model::Namespace::Process { pid, start_time } => Namespace::open_process(*pid, *start_time),
        }
    }

    /// The name of the interface with this ifindex, if there is one.
    pub fn name_of(&self, ifindex: u32) -> Option<String> {
        if_indextoname(ifindex).ok()?.into_string().ok().filter(|name| !name.is_empty())
    }

    /// The ifindex of the interface with this name, if there is one.
    pub fn index_of(&self, interface: &str) -> Option<u32> {
        if_nametoindex(interface).ok()
    }

    /// Sets up the host side of an endpoint. If it is new, frames pass both ways when this returns. The end
    /// that was set up first gets its carrier only now; until the kernel has noticed that, it drops what this
    /// end sends.
    ///
    /// # Errors
    /// [`Error::Failed`]: `ENODEV` if there is no such link. A carrier that does not come in time is no
    /// error.
    pub async fn set_up(&self, ifindex: u32) -> Result<(), Error> {
        let inner = self.inactive().remove(&ifindex);
        up(&self.socket, with_index(ifindex))
            .await
            .map_err(|refusal| Error::failed("set up", format!("link {ifindex}"), refusal))?;
        if let Some(inner) = inner
            && timeout(ACTIVATION, inner.activated()).await != Ok(true)
        {
            tracing::debug!("the inner side of link {ifindex} has no carrier yet");
        }
        Ok(())
    }

    /// Deletes a link, and with it the other end of its pair: no list has them any more, and their names are free. False:
    /// there was no such link.
    ///
    /// # Errors
    /// [`Error::Failed`] if the kernel refuses; the link stays.
    pub async fn delete(&self, ifindex: u32) -> Result<bool, Error> {
        self.inactive().remove(&ifindex);
        let request = RouteNetlinkMessage::DelLink(with_index(ifindex));
        // The kernel announces the deletion when both ends are gone. It answers 10 to 20 ms later, when it has freed them.
        let deleted = match (Self::watch_deleted(), connect()) {
            (Ok(mut deletions), Ok(connected)) => tokio::select! {
                () = deletions.of(ifindex) => Ok(()),
                answered = Socket::ask_aside(connected, request) => answered,
            },
            // No descriptors are left.
            (Err(_), _) | (_, Err(_)) => self.socket.ask(request, 0).await,
        };
        match deleted.map_err(|refusal| Error::failed("delete", format!("link {ifindex}"), refusal)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Endpoints whose host side was not set up yet, by the ifindex of that side.
    pub(super) fn inactive(&self) -> MutexGuard<'_, HashMap<u32, Activation>> {
        self.inactive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the default route of a namespace to `gateway`. Replaces the one of the same family.
    ///
    /// # Errors
    /// [`Error::NotANamespace`], or [`Error::Failed`] with `ENETUNREACH` (IPv4) or `EHOSTUNREACH` (IPv6) if
    /// the gateway is in no subnet of an interface that is up. The route from before stays.
    pub async fn set_default_route(&self, netns: &Namespace, gateway: IpAddr) -> Result<(), Error> {
        // iproute2 and Docker use "boot" too; `ip route` does not print it.
        let boot = RouteProtocol::Boot;
        let route = match gateway {
            IpAddr::V4(gateway) => {
                RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).protocol(boot).build()
            }
            IpAddr::V6(gateway) => {
                RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).protocol(boot).build()
            }
        };
        let (socket, ()) = Socket::open_in(netns, || Ok(())).await?;
        socket.ask(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE).await.map_err(
            |refusal| Error::failed("set", format!("default route via {gateway} in {netns}"), refusal),
        )
    }

    /// Removes a namespace's default route of a family, if there is one.
    ///
    /// # Errors
    /// [`Error::NotANamespace`], or [`Error::Failed`] if the kernel refuses; the route stays.
    pub async fn remove_default_route(&self, netns: &Namespace, family: Family) -> Result<(), Error> {
        let mut route = match family {
            Family::Ipv4 => RouteMessageBuilder::<Ipv4Addr>::new().build(),
            Family::Ipv6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
        };
        // Any scope, type and protocol.
        route.header.scope = RouteScope::NoWhere;
        route.header.kind = RouteType::Unspec;
        route.header.protocol = RouteProtocol::Unspec;
        route.header.table = RouteHeader::RT_TABLE_MAIN;
        let (socket, ()) = Socket::open_in(netns, || Ok(())).await?;
        let removed = socket.ask(RouteNetlinkMessage::DelRoute(route), 0).await;
        match removed.map_err(|refusal| Error::failed("remove", format!("default route in {netns}"), refusal))
        {
            Err(error) if error.is_missing() => Ok(()),
            result => result,
        }
    }
}

/// A message about the link with this ifindex.
pub(super) fn with_index(ifindex: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message
}

/// Sets up the link that the message names.
pub(super) async fn up(socket: &Socket, mut message: LinkMessage) -> Result<(), Refusal> {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    socket.ask(RouteNetlinkMessage::SetLink(message), 0).await
}
