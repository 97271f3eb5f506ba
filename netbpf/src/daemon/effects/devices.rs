//! Restores host devices and host sides of endpoints that somebody changed, by the same [`diff`] as at start.
//! A container's side is the container's own. `membership` restores an endpoint whose link was deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    task::block_in_place,
    time::{MissedTickBehavior, interval_at},
};

use super::{host::Host, pins::PinWatch};
use crate::{
    daemon::{Error, state::State},
    link::{Heard, Touches},
    model::Container,
    plan::{Action, Desired, Device, Observed, Seen, diff},
};

/// Interval of checks of all links, for changes without an announcement of the kernel: settings, a detached
/// XDP link.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

/// Interval of checks for detached programs, and the number of links for each: so the cost does not depend on
/// the number of containers, and is less than a thousandth of a CPU.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
const CHECKED_LINKS: usize = 64;

/// Restores what others change, as the state says.
pub struct DeviceGuard {
    state: Arc<State>,
    host: Arc<Host>,
    pins: Option<PinWatch>,
}

impl DeviceGuard {
    /// Begins to watch the pins.
    pub fn new(state: Arc<State>, host: Arc<Host>) -> Self {
        Self { pins: host.watch_pins(), state, host }
    }

    /// Guard links and pins as long as the daemon runs.
    pub async fn run(self, mut touches: Touches) {
        // Not a pause after each event, which would never come on a busy host.
        let [mut polls, mut checks] = [POLL_INTERVAL, CHECK_INTERVAL].map(|period| {
            let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        // Changes while no daemon ran.
        let mut touched = self.all_links();
        loop {
            for (ifindex, filter_removed) in touched {
                self.check_link(ifindex, filter_removed).await;
            }
            touched = tokio::select! {
                heard = touches.next(is_ours) => match heard {
                    Some(Heard::Of(touched)) => touched,
                    Some(Heard::Lost) => self.all_links(),
                    None => return tracing::error!("changes of links are no longer detected: restart netbpf"),
                },
                // A program that was detached with its pin is attached again.
                () = self.host.restore_lost_pins(self.pins.as_ref()) => self.all_links(),
                _ = checks.tick() => self.detached_links(),
                _ = polls.tick() => {
                    let _ = self.pins.as_ref().map(|pins| self.host.restore_pins(pins));
                    if let Err(error) = self.host.bring_up_uplinks().await {
                        tracing::warn!(%error, "uplinks");
                    }
                    self.all_links()
                }
            };
        }
    }

    fn detached_links(&self) -> BTreeMap<u32, bool> {
        let detached = block_in_place(|| self.host.datapath().next_detached(CHECKED_LINKS));
        let detached = detached.unwrap_or_else(|error| {
            tracing::warn!(%error, "look for detached programs");
            BTreeSet::new()
        });
        detached.into_iter().map(|ifindex| (ifindex, false)).collect()
    }

    fn all_links(&self) -> BTreeMap<u32, bool> {
        let world = self.state.world();
        let networks = world.networks().filter_map(|network| network.bridge());
        let networks = networks.map(|bridge| netbpf_common::network::ifindex_of(bridge.number));
        let endpoints = world.containers().flat_map(Container::endpoints);
        let endpoints = endpoints.map(|endpoint| netbpf_common::endpoint::ifindex_of(endpoint.number));
        networks.chain(endpoints).map(|ifindex| (ifindex, false)).collect()
    }

    /// Checks one link and restores it, unless somebody else keeps changing it. A removed filter may have been
    /// netbpf's.
    pub(in crate::daemon) async fn check_link(&self, ifindex: u32, filter_removed: bool) {
        let now = Instant::now();
        if self.host.contests.is_left_alone(ifindex, now) {
            return;
        }
        match self.repair_link(ifindex, filter_removed).await {
            Ok(false) => {}
            Ok(true) => {
                let name = self.host.links.name_of(ifindex);
                self.host.contests.note(ifindex, &name.unwrap_or_default(), now);
            }
            Err(error) => tracing::error!(ifindex, %error, "check a link"),
        }
    }

    /// Check one link and restore it; returns whether it had been changed.
    async fn repair_link(&self, ifindex: u32, filter_removed: bool) -> Result<bool, Error> {
        if let Some(number) = netbpf_common::network::number_of(ifindex) {
            return self.repair_network(number, filter_removed).await;
        }
        match netbpf_common::endpoint::number_of(ifindex) {
            Some(number) => self.repair_endpoint(number, filter_removed).await,
            None => Ok(false),
        }
    }

    async fn repair_network(&self, number: u32, filter_removed: bool) -> Result<bool, Error> {
        // While a network is created or removed, device and state differ.
        let _nobody_else = self.state.network_changes.lock().await;
        let wiring = self.state.world().network_wiring(number);
        let Some(wiring) = wiring else { return Ok(false) };
        let like = Device::of_network(&wiring, self.host.group);
        let device = self.host.own_device(wiring.ifindex(), &like).await?;
        let seen = {
            let mut datapath = self.host.datapath();
            if filter_removed {
                datapath.may_be_detached(&wiring.device);
            }
            let attached = match &device {
                Some(device) => datapath.is_host_device_attached(&device.name, &wiring.device)?,
                None => false,
            };
            let entry = datapath.network_entry(number);
            Seen::of(device.clone(), attached, entry)
        };
        let desired =
            Desired { group: self.host.group, networks: [(number, wiring)].into(), ..Desired::default() };
        let observed = Observed { networks: [(number, seen)].into(), ..Observed::default() };
        let changed = self.repair(diff(&desired, &observed)).await?;
        if let Some(device) = device {
            let given: BTreeSet<IpAddr> =
                device.addresses.difference(&like.addresses).map(|net| net.addr()).collect();
            self.host.datapath().answer_for(number, &given)?;
        }
        Ok(changed)
    }

    async fn repair_endpoint(&self, number: u32, filter_removed: bool) -> Result<bool, Error> {
        let owner = self.state.world().owner_of_endpoint(number);
        let Some(id) = owner else { return Ok(false) };
        let _locked = self.state.lock_container(id).await;
        let Ok(container) = self.state.container(&id) else { return Ok(false) };
        let namespace = container.namespace();
        let wiring = self.state.world().wirings_of(&container, namespace.as_ref()).remove(&number);
        let Some(wiring) = wiring else { return Ok(false) };
        let like = Device::of_endpoint(&wiring, self.host.group);
        let device = self.host.own_device(wiring.ifindex(), &like).await?;
        let Some(device) = device else {
            // The owner of the container decides whether the link is restored.
            return Ok(false);
        };
        let shapers = self.host.shapers(&wiring).await?;
        let (is_outer_right, name) = (shapers.outer == wiring.shapers().outer, wiring.host_interface.clone());
        let seen = {
            let mut datapath = self.host.datapath();
            if filter_removed {
                datapath.may_be_detached(&wiring.host_interface);
            }
            let attached = datapath.is_endpoint_attached(&device.name, &wiring.host_interface)?;
            let entry = datapath.endpoint_entry(number);
            Seen { shapers: Some(shapers), ..Seen::of(Some(device), attached, entry) }
        };
        let desired =
            Desired { group: self.host.group, endpoints: [(number, wiring)].into(), ..Desired::default() };
        let observed = Observed { endpoints: [(number, seen)].into(), ..Observed::default() };
        let (shape, others): (Vec<_>, Vec<_>) = diff(&desired, &observed)
            .into_iter()
            .partition(|action| matches!(action, Action::ShapeEndpoint { .. }));
        let changed = self.repair(others).await?;
        for action in shape {
            self.host.apply(action).await?;
        }
        // The other end is the container's own, and an engine takes its discipline away when it moves it.
        if is_outer_right {
            return Ok(changed);
        }
        let text = format!("somebody changed the queueing discipline of {name}: it is set again");
        self.host.repairs.note(text);
        Ok(true)
    }

    async fn repair(&self, actions: Vec<Action>) -> Result<bool, Error> {
        for action in &actions {
            let repair = match action {
                Action::SetUp { interface, .. } => {
                    Some(format!("somebody set {interface} down: it is set up again"))
                }
                Action::AttachHostDevice { interface, .. } | Action::AttachEndpoint { interface, .. } => {
                    Some(format!("somebody took netbpf's program from {interface}: it is attached again"))
                }
                Action::AddHostDevice(network) => {
                    Some(format!("somebody deleted {}: it is made again", network.device))
                }
                _ => None,
            };
            self.host.apply(action.clone()).await?;
            repair.into_iter().for_each(|text| self.host.repairs.note(text));
        }
        Ok(!actions.is_empty())
    }
}

fn is_ours(ifindex: u32) -> bool {
    netbpf_common::network::number_of(ifindex).is_some()
        || netbpf_common::endpoint::number_of(ifindex).is_some()
}
