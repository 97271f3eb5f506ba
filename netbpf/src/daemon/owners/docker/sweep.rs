//! Compares netbpf's records with Docker's lists, and removes what Docker no longer has: networks, endpoints, lent
//! subnets and addresses. Docker is asked when the daemon starts, and whenever the connection to the engine is
//! restored. While Docker does not answer, everything stays. Must not know interfaces: endpoints without one are in
//! `stale`.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ipnet::IpNet;

use crate::{
    daemon::{Daemon, Error, effects::host::Host, state::world::World},
    engine::{self, ListedNetwork},
    model::{Bridge, Container, Id, Network, Origin},
    store::Change,
};

/// How long after a request Docker may still omit its result from lists. Longer than the 15 s for which Docker repeats
/// an interrupted request.
const MAKING: Duration = Duration::from_secs(17);

/// Recent requests of Docker, whose results it may not list yet.
pub struct Recent {
    /// The start of this daemon: requests to an earlier one just before are not known.
    started: Instant,
    asked: Mutex<HashMap<Asked, Instant>>,
}

/// An object that Docker requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// A network.
    Network(Id),
    /// An endpoint.
    Endpoint(Id),
    /// A subnet.
    Pool(IpNet),
    /// An address in a subnet.
    Address(IpNet, IpAddr),
}

impl Recent {
    /// No requests.
    pub fn new() -> Self {
        Self { started: Instant::now(), asked: Mutex::default() }
    }

    /// Notes a request.
    pub fn note(&self, what: Asked) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|_, when| when.elapsed() < MAKING);
        asked.insert(what, Instant::now());
    }

    fn has(&self, what: Asked) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let just_started = self.started.elapsed() < MAKING;
        match what {
            // Docker repeats a request for a network without an answer, and then it is noted again.
            Asked::Network(_) => asked.contains_key(&what),
            Asked::Endpoint(_) | Asked::Pool(_) | Asked::Address(..) => {
                just_started || asked.contains_key(&what)
            }
        }
    }
}

impl Daemon {
    /// Remove what Docker does not have any more, until all of it was checked.
    pub(in crate::daemon) async fn settle_with_docker(self: &Arc<Self>) {
        loop {
            match self.sweep_docker().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "ask Docker for its networks"),
            }
            tokio::time::sleep(MAKING).await;
        }
    }

    /// Checks once; false if Docker may still be creating something.
    async fn sweep_docker(self: &Arc<Self>) -> Result<bool, engine::Error> {
        let (networks, pools) = {
            let world = self.state.world();
            let networks = world.networks().filter(|network| network.origin == Origin::Docker);
            let networks: Vec<Id> = networks.map(|network| network.id).collect();
            (networks, world.lent_subnets().collect::<Vec<_>>())
        };
        let listed = self.owners.engine.networks().await?;
        let mut is_settled = true;
        for id in networks {
            match listed.iter().find(|listed| listed.id == id) {
                Some(_) => is_settled &= self.sweep_network(id).await?,
                None if self.owners.recent.has(Asked::Network(id)) => is_settled = false,
                None => self.forget_removed_network(id).await,
            }
        }
        for pool in pools {
            let is_settled_too = match is_subnet_of(&listed, pool) {
                true => self.collect_addresses(pool).await,
                false => self.collect_pool(pool).await,
            };
            is_settled &= is_settled_too.unwrap_or_else(|error| {
                tracing::error!(%pool, %error, "release addresses that Docker no longer uses");
                true
            });
        }
        Ok(is_settled)
    }

    /// Note the names in a network, and remove endpoints that Docker does not list; false if Docker may still
    /// be creating one.
    async fn sweep_network(self: &Arc<Self>, id: Id) -> Result<bool, engine::Error> {
        let found = match self.owners.engine.network(&id).await {
            Ok(found) => found,
            // It was removed meanwhile; Docker sends a request for that.
            Err(engine::Error::Engine(error)) => {
                tracing::debug!(network = %id.short(), %error, "ask Docker for its endpoints");
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let left: Vec<Id> = {
            let world = self.state.world();
            let members = world.members(&id).filter(|member| member.docker_endpoint().is_some());
            let is_named = |member: &&Container| found.endpoints.iter().any(|(id, _)| *id == member.id);
            members
                .filter(|member| !is_named(member) && !is_in_a_container(member, &self.host))
                .map(|member| member.id)
                .collect()
        };
        if let Err(error) = self.note_names(id, found).await {
            tracing::warn!(network = %id.short(), %error, "note names");
        }
        let (recent, left): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|endpoint| self.owners.recent.has(Asked::Endpoint(*endpoint)));
        for endpoint in left {
            self.forget_docker_endpoint(endpoint, |endpoint| self.host.is_unused(endpoint)).await;
        }
        Ok(recent.is_empty())
    }

    /// Removes a network that Docker does not list, unless containers are in it: then it belongs to another
    /// Docker.
    async fn forget_removed_network(self: &Arc<Self>, id: Id) {
        let has_containers =
            self.state.world().members(&id).any(|member| is_in_a_container(member, &self.host));
        if has_containers {
            return tracing::warn!(network = %id.short(), "Docker does not list it, but has containers in it");
        }
        tracing::info!(network = %id.short(), "Docker has removed it meanwhile");
        if let Err(error) = self.delete_docker_network(id).await {
            tracing::error!(network = %id.short(), %error, "forget");
        }
    }

    /// Take back a subnet that no network of Docker has.
    async fn collect_pool(self: &Arc<Self>, pool: IpNet) -> Result<bool, Error> {
        if self.owners.recent.has(Asked::Pool(pool)) {
            return Ok(false);
        }
        tracing::info!(%pool, "Docker does not use it any more");
        self.return_pool(pool).await.map(|()| true)
    }

    /// Take back addresses without an endpoint in Docker's network of this subnet. For networks of other
    /// drivers this is not known.
    async fn collect_addresses(&self, pool: IpNet) -> Result<bool, Error> {
        let _one_at_a_time = self.state.network_changes.lock().await;
        let (lent, used) = {
            let world = self.state.world();
            let Some(lent) = world.lent(&pool).cloned() else { return Ok(true) };
            let mut networks = world.networks().filter(|network| network.origin == Origin::Docker);
            let has_it = |network: &&Network| {
                network.bridge().is_some_and(|bridge| bridge.nets().any(|net| net == pool))
            };
            let Some(network) = networks.find(has_it) else { return Ok(true) };
            let bridge = network.bridge();
            let mut used: BTreeSet<IpAddr> = BTreeSet::new();
            used.extend(bridge.into_iter().flat_map(Bridge::reserved));
            let endpoints = world.members(&network.id).flat_map(Container::endpoints);
            used.extend(endpoints.flat_map(|endpoint| endpoint.addresses()));
            (lent, used)
        };
        let unused: Vec<IpAddr> = lent.addresses.difference(&used).copied().collect();
        let (recent, left): (Vec<_>, Vec<_>) =
            unused.into_iter().partition(|address| self.owners.recent.has(Asked::Address(pool, *address)));
        if !left.is_empty() {
            tracing::info!(%pool, addresses = ?left, "Docker does not use them any more");
            let mut lent = lent;
            left.into_iter().for_each(|address| lent.release(address));
            self.state.commit(&[Change::PutLent(lent.clone())])?;
            self.state.world().put_lent(lent);
        }
        Ok(recent.is_empty())
    }
}

/// Whether there is anything that Docker could remove without a request.
pub fn has_of_docker(world: &World) -> bool {
    let is_dockers = |network: &Network| network.origin == Origin::Docker;
    world.networks().any(is_dockers) || world.lent_subnets().next().is_some()
}

/// Whether an endpoint of Docker is in a container's namespace.
fn is_in_a_container(member: &Container, host: &Host) -> bool {
    member.docker_endpoint().is_some() && member.endpoints().any(|endpoint| !host.is_unused(endpoint))
}

/// Whether any network has this subnet, whichever IPAM driver it uses.
fn is_subnet_of(listed: &[ListedNetwork], pool: IpNet) -> bool {
    listed.iter().any(|network| network.subnets.contains(&pool))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_before_the_daemons_start_count_as_recent_except_for_networks() {
        let recent = Recent::new();
        let (network, pool) = (Asked::Network(Id::random()), Asked::Pool("10.1.0.0/24".parse().unwrap()));
        assert!(!recent.has(network) && recent.has(pool));
        recent.note(network);
        assert!(recent.has(network));
    }

    #[test]
    fn an_old_request_is_not_recent() {
        let Some(long_ago) = Instant::now().checked_sub(MAKING) else { return };
        let network = Asked::Network(Id::random());
        let recent = Recent { started: long_ago, asked: Mutex::new([(network, long_ago)].into()) };
        let pool = Asked::Pool("10.1.0.0/24".parse().unwrap());
        assert!(!recent.has(pool));
        recent.note(pool);
        assert!(recent.has(pool) && !recent.has(network));
    }
}
