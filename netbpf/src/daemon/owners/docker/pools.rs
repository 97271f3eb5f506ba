//! Docker's IPAM driver: lends subnets to Docker's networks, and addresses in them. Every change is stored,
//! so that Docker need not repeat its requests.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use crate::{
    daemon::{Daemon, Error, membership::subnets::subnets, owners::docker::sweep::Asked},
    ipam::{self, Lent, Requested},
    model::{Container, Network},
    store::Change,
};

impl Daemon {
    /// Lend the subnet of one family. Addresses that the user does not choose come from its range.
    ///
    /// # Errors
    /// [`Error::Ipam`] if the subnet overlaps with another one, or no default pool is left; [`Error::Store`].
    /// Nothing is lent then.
    pub async fn lend_pool(self: &Arc<Self>, requested: Requested) -> Result<IpNet, Error> {
        let _one_at_a_time = self.state.network_changes.lock().await;
        let resolved = subnets(&self.state, &self.host, &requested, &[]).await?;
        let ipv4 = resolved.ipv4.map(|subnet| (IpNet::V4(subnet.net), subnet.range.map(IpNet::V4)));
        let ipv6 = resolved.ipv6.map(|subnet| (IpNet::V6(subnet.net), subnet.range.map(IpNet::V6)));
        let (subnet, range) = ipv4.or(ipv6).ok_or(ipam::Error::NoFamily)?;
        let lent = Lent { subnet, range, addresses: BTreeSet::new() };
        self.owners.recent.note(Asked::Pool(subnet));
        self.state.commit(&[Change::PutLent(lent.clone())])?;
        self.state.world().put_lent(lent);
        self.owners.followed.notify_one();
        Ok(subnet)
    }

    /// Docker returns a subnet, maybe again.
    ///
    /// # Errors
    /// [`Error::Store`]: it stays lent.
    pub async fn return_pool(self: &Arc<Self>, subnet: IpNet) -> Result<(), Error> {
        let _one_at_a_time = self.state.network_changes.lock().await;
        self.state.commit(&[Change::RemoveLent(subnet)])?;
        self.state.world().remove_lent(&subnet);
        Ok(())
    }

    /// Lend an address in a lent subnet; returned with the subnet's prefix length.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the subnet is not lent; [`Error::Ipam`] if the address is outside it or taken,
    /// or none is left; [`Error::Store`]. Nothing is lent then.
    pub async fn lend_address(self: &Arc<Self>, pool: IpNet, wanted: Option<IpAddr>) -> Result<IpNet, Error> {
        let _one_at_a_time = self.state.network_changes.lock().await;
        let (lent, address) = {
            let world = self.state.world();
            let mut lent = world.lent(&pool).cloned().ok_or_else(|| no_pool(pool))?;
            let of_pool = |network: &&Network| {
                network.bridge().is_some_and(|bridge| bridge.nets().any(|net| net == pool))
            };
            // Endpoints of Docker have lent addresses; so only those of other containers count.
            let taken: BTreeSet<IpAddr> = world
                .networks()
                .filter(of_pool)
                .flat_map(|network| world.members(&network.id))
                .filter(|member| member.docker_endpoint().is_none())
                .flat_map(Container::endpoints)
                .flat_map(|endpoint| endpoint.addresses())
                .collect();
            let is_further = |address| {
                world.networks().filter(of_pool).any(|network| world.is_further(&network.id, address))
            };
            let address = lent.lease(wanted, |address| taken.contains(&address) || is_further(address))?;
            (lent, address)
        };
        self.owners.recent.note(Asked::Address(pool, address.addr()));
        self.state.commit(&[Change::PutLent(lent.clone())])?;
        self.state.world().put_lent(lent);
        Ok(address)
    }

    /// Docker returns an address, maybe again.
    ///
    /// # Errors
    /// [`Error::Store`]: it stays lent.
    pub async fn return_address(self: &Arc<Self>, pool: IpNet, address: IpAddr) -> Result<(), Error> {
        let _one_at_a_time = self.state.network_changes.lock().await;
        let lent = self.state.world().lent(&pool).cloned();
        let Some(mut lent) = lent else { return Ok(()) };
        lent.release(address);
        self.state.commit(&[Change::PutLent(lent.clone())])?;
        self.state.world().put_lent(lent);
        Ok(())
    }
}

fn no_pool(pool: IpNet) -> Error {
    Error::Invalid(format!("no address pool {pool}"))
}
