//! Networks of Docker: created under Docker's ID, with the subnets that Docker's IPAM chose.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use crate::{
    daemon::{
        Daemon, Error,
        membership::{
            networks::{check_device, check_mtu},
            subnets,
        },
        owners::docker::sweep::Asked,
    },
    ipam::Requested,
    model::{AccessOptions, Driver, Id, Network, Options, Origin},
    store::Change,
};

/// Docker's request for a network.
#[derive(Clone, Debug, PartialEq)]
pub struct DockerNetwork {
    /// Docker's ID.
    pub id: Id,
    /// `--internal`.
    pub internal: bool,
    /// `-o key=value`.
    pub options: Options,
    /// The same as typed.
    pub given: BTreeMap<String, String>,
    /// The subnets that Docker's IPAM chose.
    pub subnets: Requested,
}

impl Daemon {
    /// `docker network create -d netbpf`. Docker does not send the network's name: until its API tells it,
    /// the name is the beginning of the ID.
    ///
    /// # Errors
    /// [`Error::Forbidden`] if it exists with other values, or the device's name is taken; [`Error::Invalid`]
    /// for the MTU; [`Error::Ipam`] for a subnet. Otherwise the error of a step: the steps before it are
    /// undone.
    pub async fn create_docker_network(self: &Arc<Self>, wanted: DockerNetwork) -> Result<(), Error> {
        let DockerNetwork { id, internal, options, given, subnets } = wanted;
        self.owners.recent.note(Asked::Network(id));
        let _one_at_a_time = self.state.network_changes.lock().await;
        let known = self.state.world().network(&id).cloned();
        if let Some(known) = known {
            // Docker repeats a request without an answer. What can be changed may have changed since.
            let is_fixed = |(key, _): &(&String, _)| !AccessOptions::KEYS.contains(&key.as_str());
            let is_same = known.origin == Origin::Docker
                && known.internal == internal
                && known.options.iter().filter(is_fixed).eq(given.iter().filter(is_fixed));
            return if is_same { Ok(()) } else { Err(Error::Forbidden(format!("network {id} exists"))) };
        }
        for warning in Options::warnings(&given) {
            tracing::warn!(network = id.short(), "{warning}");
        }
        check_device(&id, &options, &self.state.world(), &self.host)?;
        check_mtu(&options, subnets.has_ipv6())?;
        // netbpf may have lent these to Docker before.
        let subnets = subnets::subnets(&self.state, &self.host, &subnets, &subnets.nets()).await?;
        let network = Network {
            id,
            name: id.short(),
            created: Timestamp::now(),
            driver: Driver::Null,
            internal,
            attachable: false,
            options: given,
            labels: BTreeMap::new(),
            origin: Origin::Docker,
        };
        self.add_bridge(network.clone(), subnets, options).await?;
        self.events.tell_of_network(&network, "create");
        self.owners.followed.notify_one();
        self.learn_names(id, None);
        Ok(())
    }

    /// `docker network rm`. Docker removes the network whatever the answer is. If a container of netbpf is in
    /// it, it becomes a network of netbpf, so that it can be removed later.
    ///
    /// # Errors
    /// [`Error::NetworkInUse`] if containers of netbpf are in it: it is netbpf's now. [`Error::Store`]: it
    /// stays, but some of its endpoints may be removed.
    pub async fn delete_docker_network(self: &Arc<Self>, id: Id) -> Result<(), Error> {
        let network =
            self.state.world().network(&id).filter(|network| network.origin == Origin::Docker).cloned();
        let Some(network) = network else { return Ok(()) };
        let endpoints: Vec<Id> = {
            let world = self.state.world();
            let members = world.members(&id);
            members.filter(|member| member.docker_endpoint().is_some()).map(|member| member.id).collect()
        };
        for endpoint in endpoints {
            self.delete_docker_endpoint(endpoint).await?;
        }
        let _one_at_a_time = self.state.network_changes.lock().await;
        match self.remove_unused(network.clone()).await {
            Err(error @ Error::NetworkInUse { .. }) => {
                let own = Network { origin: Origin::Netbpf, ..network };
                self.state.commit(&[Change::PutNetwork(own.clone())])?;
                self.state.world().replace_network(own);
                Err(error)
            }
            done => done,
        }
    }
}
