//! Host devices, and host sides of endpoints, as netbpf made them: what somebody else changes is put back, by the same
//! [`diff`] as at start. What is inside a container is the container's own; an endpoint whose link was deleted comes back
//! with the next start.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::{
    io::unix::AsyncFd,
    time::{Instant, sleep},
};

use crate::{
    daemon::{Daemon, Error},
    link::{Heard, Touches},
    model::Attachment,
    plan::{Action, Desired, Device, EndpointWiring, NetworkWiring, Observed, Seen, diff},
    sandbox::register,
};

/// How often everything is looked at, for what the kernel tells nobody: settings, a tcx link that is detached.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

/// How often one link is put right within [`CONTEST_WINDOW`] until it is left alone for [`CONTEST_PAUSE`].
const ATTEMPTS: u32 = 5;
const CONTEST_WINDOW: Duration = Duration::from_secs(30);
const CONTEST_PAUSE: Duration = Duration::from_secs(60);

/// Somebody who changes a link again and again.
struct Contest {
    count: u32,
    since: Instant,
}

impl Daemon {
    /// Guard links as long as the daemon runs.
    pub(in crate::daemon) async fn guard_devices(self: Arc<Self>, mut touches: Touches) {
        let pins = match self.watch_pins() {
            Ok(pins) => Some(pins),
            Err(error) => {
                tracing::error!(%error, "the pins of links are not looked after");
                None
            }
        };
        let mut contests = BTreeMap::new();
        // What was added while no daemon ran.
        let mut touched = self.all_links();
        loop {
            for (ifindex, lost) in touched {
                self.look_after(ifindex, lost, &mut contests).await;
            }
            touched = tokio::select! {
                heard = touches.next(is_ours) => match heard {
                    Some(Heard::Of(touched)) => touched,
                    Some(Heard::Lost) => self.all_links(),
                    None => return tracing::error!("links are not looked after any more"),
                },
                lost = lost_pins(pins.as_ref()) => lost,
                () = sleep(POLL_INTERVAL) => self.all_links(),
            };
        }
    }

    fn watch_pins(&self) -> std::io::Result<(Inotify, AsyncFd<std::os::fd::OwnedFd>)> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let folder = self.datapath().links_folder();
        inotify.add_watch(&folder, AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM)?;
        let readable = register(inotify.as_fd().try_clone_to_owned()?)?;
        Ok((inotify, readable))
    }

    fn all_links(&self) -> BTreeMap<u32, bool> {
        let world = self.world();
        let networks = world.networks().filter_map(|network| network.bridge());
        let networks = networks.map(|bridge| netbpf_common::network::ifindex_of(bridge.number));
        let endpoints = world.containers().flat_map(|container| &container.attachments);
        let endpoints = endpoints.filter_map(|attachment| attachment.endpoint.as_ref());
        let endpoints = endpoints.map(|endpoint| netbpf_common::endpoint::ifindex_of(endpoint.number));
        networks.chain(endpoints).map(|ifindex| (ifindex, false)).collect()
    }

    async fn look_after(&self, ifindex: u32, lost: bool, contests: &mut BTreeMap<u32, Contest>) {
        let now = Instant::now();
        if let Some(contest) = contests.get(&ifindex) {
            let rests = contest.count >= ATTEMPTS;
            match contest.since + if rests { CONTEST_PAUSE } else { CONTEST_WINDOW } {
                end if now >= end => drop(contests.remove(&ifindex)),
                _ if rests => return,
                _ => {}
            }
        }
        match self.put_right(ifindex, lost).await {
            Ok(false) => {}
            Ok(true) => {
                let contest = contests.entry(ifindex).or_insert(Contest { count: 0, since: now });
                contest.count += 1;
                if contest.count == ATTEMPTS {
                    contest.since = now;
                    tracing::warn!(
                        "somebody changes link {ifindex} again and again: it is left alone for {} s",
                        CONTEST_PAUSE.as_secs()
                    );
                }
            }
            Err(error) => tracing::error!(ifindex, %error, "look after a link"),
        }
    }

    /// Check one link and restore it; returns whether it had been changed.
    async fn put_right(&self, ifindex: u32, lost: bool) -> Result<bool, Error> {
        if let Some(number) = netbpf_common::network::number_of(ifindex) {
            return self.put_right_network(number, lost).await;
        }
        match netbpf_common::endpoint::number_of(ifindex) {
            Some(number) => self.put_right_endpoint(number, lost).await,
            None => Ok(false),
        }
    }

    async fn put_right_network(&self, number: u32, lost: bool) -> Result<bool, Error> {
        // While a network is created or removed, device and state differ.
        let _nobody_else = self.networks_busy.lock().await;
        let wiring = {
            let world = self.world();
            world.networks().filter_map(NetworkWiring::of).find(|wiring| wiring.number == number)
        };
        let Some(wiring) = wiring else { return Ok(false) };
        let like = Device::of_network(&wiring, self.group);
        let device = self.own_device(wiring.ifindex(), &like).await?;
        let seen = {
            let mut datapath = self.datapath();
            if lost {
                datapath.may_be_detached(&wiring.device);
            }
            let attached = match &device {
                Some(device) => datapath.is_host_device_attached(&device.name, &wiring.device)?,
                None => false,
            };
            let entry = datapath.network_entry(number);
            seen(device.clone(), attached, entry)
        };
        let desired =
            Desired { group: self.group, networks: [(number, wiring)].into(), ..Desired::default() };
        let observed = Observed { networks: [(number, seen)].into(), ..Observed::default() };
        let changed = self.put_back(diff(&desired, &observed)).await?;
        if let Some(device) = device {
            let given: BTreeSet<IpAddr> =
                device.addresses.difference(&like.addresses).map(|net| net.addr()).collect();
            self.datapath().answer_for(number, &given)?;
        }
        Ok(changed)
    }

    async fn put_right_endpoint(&self, number: u32, lost: bool) -> Result<bool, Error> {
        let owner = |daemon: &Self| {
            let world = daemon.world();
            let container = world.containers().find(|container| {
                let mut endpoints =
                    container.attachments.iter().filter_map(|attachment| attachment.endpoint.as_ref());
                endpoints.any(|endpoint| endpoint.number == number)
            });
            container.map(|container| container.id)
        };
        let Some(id) = owner(self) else { return Ok(false) };
        let _busy = self.busy(id).await;
        let Ok(container) = self.container(&id) else { return Ok(false) };
        let wiring = container.attachments.iter().find_map(|Attachment { network, endpoint, .. }| {
            let endpoint = endpoint.as_ref().filter(|endpoint| endpoint.number == number)?;
            let world = self.world();
            Some(EndpointWiring::of(
                endpoint,
                world.network(network)?.bridge()?,
                container.owner_number(),
                None,
            ))
        });
        let Some(wiring) = wiring else { return Ok(false) };
        let like = Device::of_endpoint(&wiring, self.group);
        let device = self.own_device(wiring.ifindex(), &like).await?;
        let Some(device) = device else {
            if !container.owner().places_interface() {
                tracing::debug!(interface = wiring.host_interface, "the link of an endpoint is gone");
            }
            return Ok(false);
        };
        let seen = {
            let mut datapath = self.datapath();
            if lost {
                datapath.may_be_detached(&wiring.host_interface);
            }
            let attached = datapath.is_endpoint_attached(&device.name, &wiring.host_interface)?;
            let entry = datapath.endpoint_entry(number);
            seen(Some(device), attached, entry)
        };
        let desired =
            Desired { group: self.group, endpoints: [(number, wiring)].into(), ..Desired::default() };
        let observed = Observed { endpoints: [(number, seen)].into(), ..Observed::default() };
        self.put_back(diff(&desired, &observed)).await
    }

    /// The link with this ifindex, if it is netbpf's: it has the group, or the name if somebody changed the
    /// group.
    pub(in crate::daemon) async fn own_device(
        &self,
        ifindex: u32,
        like: &Device,
    ) -> Result<Option<Device>, Error> {
        let device = self.links.device(ifindex, like).await?;
        Ok(device.filter(|device| device.group == like.group || device.name == like.name))
    }

    async fn put_back(&self, actions: Vec<Action>) -> Result<bool, Error> {
        for action in &actions {
            match action {
                Action::SetUp { interface, .. } => {
                    tracing::warn!("somebody set {interface} down: it is set up again");
                }
                Action::AttachHostDevice { interface, .. } | Action::AttachEndpoint { interface, .. } => {
                    tracing::warn!("somebody took netbpf's program from {interface}: it is attached again");
                }
                Action::AddHostDevice(network) => {
                    tracing::warn!("somebody deleted {}: it is made again", network.device);
                }
                _ => {}
            }
            self.perform(action).await?;
        }
        Ok(!actions.is_empty())
    }
}

fn is_ours(ifindex: u32) -> bool {
    netbpf_common::network::number_of(ifindex).is_some()
        || netbpf_common::endpoint::number_of(ifindex).is_some()
}

fn seen<Entry>(device: Option<Device>, attached: bool, entry: Option<Entry>) -> Seen<Entry> {
    Seen {
        interface: device.as_ref().map(|device| device.name.clone()),
        up: device.as_ref().is_some_and(|device| device.up),
        attached,
        device,
        entry,
    }
}

/// Links whose pins went, once some do.
async fn lost_pins(pins: Option<&(Inotify, AsyncFd<std::os::fd::OwnedFd>)>) -> BTreeMap<u32, bool> {
    let Some((inotify, readable)) = pins else { return std::future::pending().await };
    loop {
        let Ok(mut ready) = readable.readable().await else { return std::future::pending().await };
        match inotify.read_events() {
            Ok(events) => {
                let names = events.into_iter().filter_map(|event| event.name);
                let numbers = names.filter_map(|name| nix::net::if_::if_nametoindex(name.as_os_str()).ok());
                let lost: BTreeMap<u32, bool> =
                    numbers.filter(|ifindex| is_ours(*ifindex)).map(|ifindex| (ifindex, false)).collect();
                if !lost.is_empty() {
                    return lost;
                }
            }
            Err(_) => ready.clear_ready(),
        }
    }
}
