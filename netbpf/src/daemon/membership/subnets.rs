//! The subnets of new networks: those that are requested, or the first free ones. Leases nothing.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    daemon::{
        Error,
        effects::{files, host::Host},
        state::{State, world::World},
    },
    ipam::{self, Occupied, Requested, Resolved},
    model::{Bridge, Network},
};

/// The requested subnets, or the first free ones of the default pools. Subnets lent to Docker count as
/// free only if they are in `own`.
pub async fn subnets(
    state: &State,
    host: &Host,
    requested: &Requested,
    own: &[IpNet],
) -> Result<Resolved, Error> {
    let ipv4 = if requested.has_ipv4() { Some(occupied_ipv4(state, host, own).await?) } else { None };
    let ipv6 = if requested.has_ipv6() { Some(occupied_ipv6(state, host, own).await?) } else { None };
    Ok(requested.resolve(ipv4.as_ref(), ipv6.as_ref())?)
}

/// Subnets of networks, and subnets lent to Docker, of one family.
fn subnets_in_use<Net>(world: &World, own: &[IpNet], family: impl Fn(IpNet) -> Option<Net>) -> Vec<Net> {
    let networks = world.networks().filter_map(Network::bridge).flat_map(Bridge::nets);
    let lent = world.lent_subnets().filter(|subnet| !own.contains(subnet));
    networks.chain(lent).filter_map(family).collect()
}

async fn occupied_ipv4(state: &State, host: &Host, own: &[IpNet]) -> Result<Occupied<Ipv4Net>, Error> {
    let of_family = |address| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    Ok(Occupied {
        routes: host.links.on_link_routes().await?,
        resolvers: files::host_resolvers()?.into_iter().filter_map(of_family).collect(),
        networks: subnets_in_use(&state.world(), own, |net| match net {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        }),
        pools: ipam::ipv4_pools(),
    })
}

async fn occupied_ipv6(state: &State, host: &Host, own: &[IpNet]) -> Result<Occupied<Ipv6Net>, Error> {
    let of_family = |address| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    };
    Ok(Occupied {
        routes: host.links.on_link_routes_ipv6().await?,
        resolvers: files::host_resolvers()?.into_iter().filter_map(of_family).collect(),
        networks: subnets_in_use(&state.world(), own, |net| match net {
            IpNet::V6(net) => Some(net),
            IpNet::V4(_) => None,
        }),
        pools: ipam::ipv6_pools(&files::host_id()?),
    })
}
