//! Networks are made, listed, removed.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Daemon, Error, files, steps::Steps, view};
use crate::{
    api::{
        filters,
        types::{Created, NetworkCreate, NetworkResource, NetworksPruned},
    },
    ipam::{Occupied, Request},
    model::{Bridge, Driver, Id, Network, Options, State, Subnet, check_network_name},
    plan::{Action, Desired, NetworkRules, NetworkWiring, Observed, Seen, diff},
    store::Change,
};

impl Daemon {
    /// `network create`.
    pub async fn create_network(self: &Arc<Self>, request: NetworkCreate) -> Result<Created, Error> {
        check_network_name(&request.name).map_err(|error| Error::Invalid(error.to_string()))?;
        match request.driver.as_str() {
            "" | "bridge" | "netbpf" => {}
            driver => {
                return Err(Error::NoNamespace(format!(
                    "could not find plugin {driver} in v1 plugin registry: plugin not found"
                )));
            }
        }
        if matches!(request.name.as_str(), "bridge" | "host" | "none" | "default") {
            return Err(Error::PredefinedCreate(request.name));
        }
        if request.enable_ipv4 == Some(false) || request.enable_ipv6 == Some(true) {
            return Err(Error::Invalid("IPv6 networks are not supported by this version of netbpf".into()));
        }
        if !matches!(request.scope.as_str(), "" | "local") {
            return Err(Error::Invalid(format!(
                "invalid scope {}: netbpf's networks are local",
                request.scope
            )));
        }
        if !matches!(request.ipam.driver.as_str(), "" | "default") {
            return Err(Error::NoNamespace(format!(
                "could not find plugin {} in v1 plugin registry: plugin not found",
                request.ipam.driver
            )));
        }
        if let Some(option) = request.ipam.options.iter().flatten().map(|(key, _)| key).next() {
            return Err(Error::Invalid(format!("unknown IPAM option {option}: none is known")));
        }
        let options = Options::parse(&request.options, request.internal)
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let _one_at_a_time = self.networks_busy.lock().await;
        if self.world().networks().any(|network| network.name == request.name) {
            return Err(Error::NetworkExists(request.name));
        }
        let id = Id::random();
        self.check_device(&id, &options)?;
        let subnet = self.subnet(&request.ipam).await?;
        let network = Network {
            id,
            name: request.name,
            created: Timestamp::now(),
            driver: Driver::Null,
            internal: request.internal,
            attachable: request.attachable,
            options: request.options,
            labels: request.labels,
        };
        let id = self.add_bridge(network, subnet, options).await?;
        let made = self.world().network(&id).cloned();
        if let Some(network) = made {
            self.tell_of_network(&network, "create");
        }
        Ok(Created { id: id.to_string(), warnings: Vec::new() })
    }

    /// Make a network's device and enter it everywhere.
    pub(super) async fn add_bridge(
        self: &Arc<Self>,
        network: Network,
        subnet: Subnet,
        options: Options,
    ) -> Result<Id, Error> {
        let id = network.id;
        let number = self.world().lease_network_number()?;
        let bridge = Bridge {
            number,
            device: options.device.clone().unwrap_or_else(|| format!("nb-{}", id.short())),
            peer: format!("nbp{}", id.short()),
            subnet,
            options,
        };
        let mut steps = Steps::new(Arc::clone(self));
        let desired =
            Desired { networks: [(number, NetworkWiring::of(&bridge))].into(), ..Desired::default() };
        let network = Network { driver: Driver::Bridge(bridge), ..network };
        // Before the device, so that nothing passes that must not.
        let rules = NetworkRules::of(&network).map(Action::AddRules);
        let actions = rules.into_iter().chain(diff(&desired, &Observed::default()));
        let done = match steps.run(actions).await {
            Ok(()) => self.commit(&[Change::PutNetwork(network.clone())]),
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => {
                steps.keep();
                self.world().insert_network(network);
                Ok(id)
            }
            Err(error) => {
                steps.undo().await;
                self.world().release_network_number(number);
                Err(error)
            }
        }
    }

    /// A device that was asked for by name is nobody's yet. Docker takes a bridge that exists; netbpf's device is one
    /// that it makes.
    fn check_device(&self, id: &Id, options: &Options) -> Result<(), Error> {
        let Some(device) = &options.device else { return Ok(()) };
        let world = self.world();
        let of_other = world.networks().find_map(|other| {
            let bridge = other.bridge()?;
            (bridge.device == *device || bridge.peer == *device).then_some(other.id)
        });
        if let Some(other) = of_other {
            return Err(Error::Forbidden(format!(
                "cannot create network {id} ({device}): conflicts with network {other} ({device}): networks have same \
                 bridge name"
            )));
        }
        match nix::net::if_::if_nametoindex(device.as_str()) {
            Ok(_) => {
                Err(Error::Forbidden(format!("existing interface {device} is not a bridge of netbpf's")))
            }
            Err(_) => Ok(()),
        }
    }

    /// The subnet that a request asks for, or the first free one of the default pools.
    pub(super) async fn subnet(&self, ipam: &crate::api::types::Ipam) -> Result<Subnet, Error> {
        let occupied = Occupied {
            routes: self.links.on_link_routes().await?,
            resolvers: files::host_resolvers()?,
            networks: self
                .world()
                .networks()
                .filter_map(|network| Some(network.bridge()?.subnet.net))
                .collect(),
        };
        let asked: Vec<_> = ipam
            .config
            .iter()
            .map(|config| Request {
                subnet: &config.subnet,
                range: &config.ip_range,
                gateway: &config.gateway,
                auxiliary: &config.auxiliary_addresses,
            })
            .collect();
        Ok(Request::resolve(&asked, &occupied)?)
    }

    /// `network rm`.
    pub async fn remove_network(self: &Arc<Self>, key: &str) -> Result<(), Error> {
        let _one_at_a_time = self.networks_busy.lock().await;
        let network = {
            let mut world = self.world();
            let network = world.find_network(key)?.clone();
            if network.is_predefined() {
                return Err(Error::PredefinedRemove(network.name));
            }
            if world.has_members(&network.id) {
                let endpoints = world
                    .members(&network.id)
                    .map(|container| format!("name:\"{}\" id:\"{}\"", container.name, container.id.short()))
                    .collect::<Vec<_>>()
                    .join(", ");
                return Err(Error::NetworkInUse { network: network.name, endpoints });
            }
            world.remove_network(&network.id);
            network
        };
        if let Err(error) = self.commit(&[Change::RemoveNetwork(network.id)]) {
            self.world().insert_network(network);
            return Err(error);
        }
        self.remove_bridge(&network).await;
        self.tell_of_network(&network, "destroy");
        Ok(())
    }

    /// Take a network that is forgotten already out of the kernel.
    pub(super) async fn remove_bridge(self: &Arc<Self>, network: &Network) {
        let Some(bridge) = network.bridge() else { return };
        let observed = Observed {
            networks: [(bridge.number, Seen::whole(&bridge.device, NetworkWiring::of(bridge)))].into(),
            ..Observed::default()
        };
        let rules = NetworkRules::of(network).map(Action::RemoveRules);
        self.carry_out(diff(&Desired::default(), &observed).into_iter().chain(rules)).await;
        self.world().release_network_number(bridge.number);
    }

    /// `network prune`.
    pub async fn prune_networks(
        self: &Arc<Self>,
        filters: &filters::Filters,
    ) -> Result<NetworksPruned, Error> {
        let _only_one = self.pruning.try_lock().map_err(|_| Error::PruneRunning)?;
        let filter = filters::Prune::parse(filters, Timestamp::now())
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let unused: Vec<_> = {
            let world = self.world();
            world
                .networks()
                .filter(|network| !network.is_predefined() && !world.has_members(&network.id))
                .filter(|network| filter.matches(network))
                .map(|network| (network.id, network.name.clone()))
                .collect()
        };
        let mut pruned = NetworksPruned::default();
        for (id, name) in unused {
            match self.remove_network(&id.to_string()).await {
                Ok(()) => pruned.networks_deleted.push(name),
                Err(Error::NetworkInUse { .. } | Error::NoNetwork(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.tell_of_prune();
        Ok(pruned)
    }

    /// `network ls`, by name.
    pub fn list_networks(&self, filters: &filters::Filters) -> Result<Vec<NetworkResource>, Error> {
        let filter = filters::Networks::parse(filters).map_err(|error| Error::Invalid(error.to_string()))?;
        let world = self.world();
        let mut networks: Vec<_> = world
            .networks()
            .filter(|network| filter.matches(network, world.has_members(&network.id)))
            .map(|network| view::network(network, &world))
            .collect();
        networks.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(networks)
    }

    /// `network inspect`.
    pub fn inspect_network(&self, key: &str) -> Result<NetworkResource, Error> {
        let world = self.world();
        Ok(view::network(world.find_network(key)?, &world))
    }

    /// The three networks that exist from the start, made once.
    pub(super) async fn add_predefined_networks(self: &Arc<Self>) -> Result<(), Error> {
        for (name, driver) in [("none", Driver::Null), ("host", Driver::Host)] {
            if self.world().find_network(name).is_err() {
                let network = predefined(name, driver);
                self.commit(&[Change::PutNetwork(network.clone())])?;
                self.world().insert_network(network);
            }
        }
        if self.world().find_network(Network::DEFAULT).is_err() {
            let subnet = self.subnet(&crate::api::types::Ipam::default()).await?;
            tracing::info!(subnet = %subnet.net, "default network");
            let network = predefined(Network::DEFAULT, Driver::Null);
            let options =
                Options { device: Some("netbpf0".into()), icc: self.options.icc, ..Options::default() };
            self.add_bridge(network, subnet, options).await?;
        }
        Ok(())
    }

    /// Whether nothing but predefined networks is left and nobody is in them: then a daemon that stops takes its
    /// datapath along.
    pub(super) fn is_empty(&self) -> bool {
        let world = self.world();
        world.networks().all(Network::is_predefined)
            && !world.containers().any(|container| matches!(container.state, State::Running { .. }))
    }
}

fn predefined(name: &str, driver: Driver) -> Network {
    Network {
        id: Id::random(),
        name: name.to_owned(),
        created: Timestamp::now(),
        driver,
        internal: false,
        attachable: false,
        options: Default::default(),
        labels: Default::default(),
    }
}
