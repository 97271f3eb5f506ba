//! Creates and removes networks.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::subnets::subnets;
use crate::{
    daemon::{
        Daemon, Error,
        effects::{host::Host, transaction::Transaction},
        state::{check_options, world::World},
    },
    ipam::{Request, Requested, Resolved},
    link::Family,
    model::{Bridge, Driver, Id, InterfaceName, Network, Options, Origin},
    plan::{Action, Desired, NetworkRules, NetworkWiring, Observed, diff, removal},
    store::Change,
};

/// The minimum MTU of IPv6 in bytes (RFC 8200 section 5).
const IPV6_MTU: u32 = 1280;

/// A request for a network.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkRequest {
    /// The new network's name.
    pub name: String,
    /// Whether traffic can neither leave nor enter it.
    pub internal: bool,
    /// Stored for `inspect`.
    pub attachable: bool,
    /// `-o`.
    pub options: Options,
    /// The same as typed.
    pub given: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// Its subnets.
    pub subnets: Requested,
}

impl Daemon {
    /// `network create`. Returns the new ID.
    ///
    /// # Errors
    /// Refusals with Docker's message, of the name ([`Error::PredefinedCreate`], [`Error::NetworkExists`]),
    /// the device's name ([`Error::Forbidden`]), the MTU ([`Error::Invalid`]) or the subnets
    /// ([`Error::Ipam`]). Otherwise the error of a step, for example [`Error::NoNumber`], [`Error::Link`] or
    /// [`Error::Store`]: the steps before it are undone.
    pub async fn create_network(self: &Arc<Self>, request: NetworkRequest) -> Result<Id, Error> {
        if matches!(request.name.as_str(), "bridge" | "host" | "none" | "default") {
            return Err(Error::PredefinedCreate(request.name));
        }
        let _one_at_a_time = self.state.network_changes.lock().await;
        if self.state.world().networks().any(|network| network.name == request.name) {
            return Err(Error::NetworkExists(request.name));
        }
        let id = Id::random();
        check_device(&id, &request.options, &self.state.world(), &self.host)?;
        check_mtu(&request.options, request.subnets.has_ipv6())?;
        let subnets = subnets(&self.state, &self.host, &request.subnets, &[]).await?;
        let network = Network {
            id,
            name: request.name,
            created: Timestamp::now(),
            driver: Driver::Null,
            internal: request.internal,
            attachable: request.attachable,
            options: request.given,
            labels: request.labels,
            origin: Origin::Netbpf,
        };
        let id = self.add_bridge(network, subnets, request.options).await?;
        let made = self.state.world().network(&id).cloned();
        if let Some(network) = made {
            self.events.tell_of_network(&network, "create");
        }
        Ok(id)
    }

    /// Create a network: its device, rules and records.
    pub(in crate::daemon) async fn add_bridge(
        self: &Arc<Self>,
        network: Network,
        subnets: Resolved,
        options: Options,
    ) -> Result<Id, Error> {
        let mut change = self.begin()?;
        let done = self.bridge_steps(&mut change, network, subnets, options).await;
        let network = change.end(done).await?;
        let id = network.id;
        self.state.world().insert_network(network);
        Ok(id)
    }

    /// The steps of [`Daemon::add_bridge`].
    async fn bridge_steps(
        &self,
        change: &mut Transaction,
        network: Network,
        subnets: Resolved,
        options: Options,
    ) -> Result<Network, Error> {
        let short = network.id.short();
        let bridge = Bridge {
            number: change.lease_network_number()?,
            device: options.device.clone().unwrap_or_else(|| InterfaceName::made_of("nb-", &short)),
            peer: InterfaceName::made_of("nbp", &short),
            ipv4: subnets.ipv4,
            ipv6: subnets.ipv6,
            options,
        };
        let has_ipv6 = bridge.ipv6.is_some();
        let access = bridge.options.access.clone();
        let network = Network { driver: Driver::Bridge(bridge), ..network };
        check_options(&access, &network)?;
        if has_ipv6 {
            change.perform_all(self.host.closing(Family::Ipv6)?).await?;
        }
        // Before the device, so that no forbidden packet passes.
        let others = self.state.world().rules();
        let rules = NetworkRules::of(&network).map(|network| Action::AddRules { network, others });
        change.perform_all(rules).await?;
        let wiring = NetworkWiring::of(&network).map(|wiring| (wiring.number, wiring));
        let desired = Desired { networks: wiring.into_iter().collect(), ..Desired::default() };
        change.perform_all(diff(&desired, &Observed::default())).await?;
        if has_ipv6 {
            change.perform_all(self.host.forwarding(Family::Ipv6).await?).await?;
        }
        change.commit(&[Change::PutNetwork(network.clone())])?;
        Ok(network)
    }

    /// `network rm`.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], or [`Error::Invalid`] if several match; [`Error::PredefinedRemove`],
    /// [`Error::Managed`] or [`Error::NetworkInUse`] if it must stay; [`Error::Store`]. Then nothing was
    /// changed. What the kernel refuses afterwards is left for the next start.
    pub async fn remove_network(self: &Arc<Self>, key: &str) -> Result<(), Error> {
        let _one_at_a_time = self.state.network_changes.lock().await;
        let network = {
            let world = self.state.world();
            let network = world.find_network(key)?.clone();
            if network.is_predefined() {
                return Err(Error::PredefinedRemove(network.name));
            }
            if let Some(manager) = network.origin.manager() {
                let (what, name) = ("network", network.name);
                return Err(Error::Managed { what, name, manager, command: "network rm" });
            }
            network
        };
        self.remove_unused(network).await
    }

    /// Remove a network without members. The caller must hold the lock of networks.
    pub(in crate::daemon) async fn remove_unused(self: &Arc<Self>, network: Network) -> Result<(), Error> {
        {
            let mut world = self.state.world();
            if world.has_members(&network.id) {
                let endpoints = world
                    .members(&network.id)
                    .map(|container| format!("name:\"{}\" id:\"{}\"", container.name, container.id.short()))
                    .collect::<Vec<_>>()
                    .join(", ");
                return Err(Error::NetworkInUse { network: network.name, endpoints });
            }
            world.remove_network(&network.id);
        }
        if let Err(error) = self.state.commit(&[Change::RemoveNetwork(network.id)]) {
            self.state.world().put_back_network(network);
            return Err(error);
        }
        self.remove_bridge(&network).await;
        self.events.tell_of_network(&network, "destroy");
        Ok(())
    }

    /// Remove a network from the kernel; its record is removed already.
    pub(in crate::daemon) async fn remove_bridge(self: &Arc<Self>, network: &Network) {
        let Some(wiring) = NetworkWiring::of(network) else { return };
        let number = wiring.number;
        let removed = Desired { networks: [(number, wiring)].into(), ..Desired::default() };
        let others = self.state.world().rules();
        let rules = NetworkRules::of(network).map(|network| Action::RemoveRules { network, others });
        self.host.carry_out(removal(&removed).into_iter().chain(rules)).await;
        self.state.world().release_network_number(number);
    }

    /// `network prune`: remove unused networks that match. Returns their names.
    ///
    /// # Errors
    /// [`Error::PruneRunning`]: nothing was changed. Otherwise the error of one network, for example
    /// [`Error::Store`]: some of the others may be removed.
    pub async fn prune_networks(
        self: &Arc<Self>,
        matches: impl Fn(&Network) -> bool,
    ) -> Result<Vec<String>, Error> {
        let _only_one = self.state.pruning.try_lock().map_err(|_| Error::PruneRunning)?;
        let unused: Vec<_> = {
            let world = self.state.world();
            world
                .networks()
                .filter(|network| !network.is_predefined() && network.origin.is_own())
                .filter(|network| !world.has_members(&network.id))
                .filter(|network| matches(network))
                .map(|network| (network.id, network.name.clone()))
                .collect()
        };
        let mut removed = Vec::new();
        for (id, name) in unused {
            match self.remove_network(&id.to_string()).await {
                Ok(()) => removed.push(name),
                Err(Error::NetworkInUse { .. } | Error::NoNetwork(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.events.tell_of_prune();
        Ok(removed)
    }

    /// Create the three predefined networks if they do not exist.
    pub(in crate::daemon) async fn add_predefined_networks(self: &Arc<Self>) -> Result<(), Error> {
        for (name, driver) in [("none", Driver::Null), ("host", Driver::Host)] {
            if self.state.world().find_network(name).is_err() {
                let network = predefined(name, driver);
                self.state.commit(&[Change::PutNetwork(network.clone())])?;
                self.state.world().insert_network(network);
            }
        }
        if self.state.world().find_network(Network::DEFAULT).is_err() {
            let subnets = subnets(&self.state, &self.host, &Request::parse(&[], true, false)?, &[]).await?;
            tracing::info!(
                subnet = subnets.ipv4.as_ref().map(|subnet| subnet.net.to_string()),
                "default network"
            );
            let network = predefined(Network::DEFAULT, Driver::Null);
            let device = Some(InterfaceName::made_of("netbpf", "0"));
            let options = Options { device, icc: self.options.icc, ..Options::default() };
            self.add_bridge(network, subnets, options).await?;
        }
        Ok(())
    }
}

/// Checks that a requested device name is not taken. Docker uses an existing bridge; netbpf creates its
/// device.
pub(in crate::daemon) fn check_device(
    id: &Id,
    options: &Options,
    world: &World,
    host: &Host,
) -> Result<(), Error> {
    let Some(device) = &options.device else { return Ok(()) };
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
    match host.links.index_of(device) {
        Some(_) => Err(Error::Forbidden(format!("existing interface {device} is not a bridge of netbpf's"))),
        None => Ok(()),
    }
}

/// Checks that a network with IPv6 has the minimum MTU of IPv6.
pub(in crate::daemon) fn check_mtu(options: &Options, ipv6: bool) -> Result<(), Error> {
    if ipv6 && options.mtu < IPV6_MTU {
        return Err(Error::Invalid(format!("invalid MTU number: {}: IPv6 needs {IPV6_MTU}", options.mtu)));
    }
    Ok(())
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
        origin: Origin::Netbpf,
    }
}
