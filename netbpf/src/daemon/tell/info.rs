//! Information about the daemon: versions, numbers, counters.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use netbpf_common::{endpoint::ifindex_of, reason::Reason, stats::Counter};

use crate::{
    daemon::{Error, Options, effects::host::Host, state::State, tell::view},
    model::{self, Id},
};

pub use crate::{
    daemon::effects::{Uplink, flows::FlowsStanding, lo::NamesStanding, repairs::Repair},
    firewall::{Standing, State as StandingState},
};

/// The kernel that runs.
#[derive(Default)]
pub struct Kernel {
    /// Its release.
    pub release: String,
    /// `x86_64`, …
    pub machine: String,
}

/// Information about the daemon and the host.
pub struct Info {
    /// The number of containers.
    pub containers: usize,
    /// The number of running ones.
    pub running: usize,
    /// The number of networks.
    pub networks: usize,
    /// Endpoints in the datapath.
    pub endpoints: usize,
    /// How programs are attached: `tcx` or `clsact`.
    pub attachment: String,
    /// The state of each uplink.
    pub uplinks: Vec<Uplink>,
    /// What foreign chains of the packet filter mean for containers, by chain.
    pub foreign_chains: BTreeMap<String, Standing>,
    /// Queueing disciplines on links that most traffic bypasses.
    pub disciplines: Vec<String>,
    /// Changes by others that the daemon does not undo.
    pub contested: Vec<String>,
    /// Networks and endpoints that may use more than their leases, and what.
    pub open: Vec<String>,
    /// How names are answered.
    pub names: NamesStanding,
    /// Whether established flows skip the host's stack.
    pub flows: FlowsStanding,
    /// Containers whose queries only the responder answers, although the kernel answers those of others, with the reason.
    pub without_filter: Vec<String>,
    /// The last 64 different repairs, the latest last.
    pub repairs: Vec<Repair>,
    /// The daemon's options.
    pub options: Options,
    /// The host name.
    pub hostname: String,
}

/// Counters.
pub struct Stats {
    /// By reason, in the order of the reasons.
    pub reasons: Vec<(Reason, Counter)>,
    /// By container name and interface.
    pub endpoints: Vec<EndpointStats>,
}

/// Counters of an endpoint.
pub struct EndpointStats {
    /// Container name.
    pub container: String,
    /// Container ID.
    pub id: Id,
    /// Network name.
    pub network: String,
    /// `eth0`.
    pub interface: String,
    /// Whether it may use more than its leases.
    pub is_open: bool,
    /// How much it may receive and send.
    pub limits: model::Limits,
    /// Frames to the container.
    pub received: Counter,
    /// Of these, frames of the host, and of other hosts.
    pub from_host: Counter,
    /// Frames of the container.
    pub sent: Counter,
    /// Of these, frames to the host, and to other hosts.
    pub to_host: Counter,
    /// Of these, frames that the programs dropped.
    pub dropped: Counter,
}

impl EndpointStats {
    /// Frames to the container from other members of the network.
    pub fn from_members(&self) -> Counter {
        less(self.received, self.from_host)
    }

    /// Frames of the container that went to other members, or that the programs answered for them.
    pub fn to_members(&self) -> Counter {
        less(less(self.sent, self.to_host), self.dropped)
    }
}

/// The counters are not read at one moment.
fn less(all: Counter, part: Counter) -> Counter {
    Counter { packets: all.packets.saturating_sub(part.packets), bytes: all.bytes.saturating_sub(part.bytes) }
}

/// The kernel that runs.
pub fn kernel() -> Kernel {
    let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    let name = nix::sys::utsname::uname();
    name.map(|name| Kernel { release: text(name.release()), machine: text(name.machine()) })
        .unwrap_or_default()
}

/// `netbpf info`.
pub async fn info(options: &Options, state: &State, host: &Host) -> Info {
    let uplinks = host.standing_of_uplinks().await;
    let foreign_chains = host.firewall.standing_in_others().await;
    let disciplines = disciplines(state, host).await;
    let (containers, running, networks, endpoints, open) = {
        let world = state.world();
        let running =
            world.containers().filter(|container| matches!(container.state, model::State::Running { .. }));
        (
            world.containers().count(),
            running.count(),
            world.networks().count(),
            world.endpoints_in_use(),
            view::all_open(&world),
        )
    };
    let contested = host.contests.told(Instant::now()).into_iter();
    let names = host.standing_of_names();
    let name_of = |id: &Id| state.container(id).map_or_else(|_| id.short(), |container| container.name);
    let mut without_filter: Vec<String> =
        host.without_filter().iter().map(|(id, reason)| format!("{} ({reason})", name_of(id))).collect();
    without_filter.sort();
    let at_lo = host.trouble_at_lo().into_iter().map(|(id, trouble)| {
        format!("names of {}: {trouble}; until that is changed, its queries may be refused", name_of(&id))
    });
    Info {
        containers,
        running,
        networks,
        endpoints,
        attachment: host.datapath().attachment().to_string(),
        uplinks,
        foreign_chains,
        disciplines,
        contested: contested.chain(host.pins.trouble()).chain(at_lo).collect(),
        open,
        names,
        flows: host.standing_of_flows(),
        without_filter,
        repairs: host.repairs.all(),
        options: options.clone(),
        hostname: nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// Queueing disciplines on links that most traffic bypasses; not those of netbpf's limits.
async fn disciplines(state: &State, host: &Host) -> Vec<String> {
    let links = host.links.owned(host.group).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "look for queueing disciplines");
        Vec::new()
    });
    let given = links.iter().filter(|link| !matches!(&*link.discipline, "" | "noqueue" | "noop"));
    let limited: BTreeSet<u32> = {
        let world = state.world();
        let attachments = world.containers().flat_map(|container| &container.attachments);
        let limited = attachments.filter_map(|attachment| {
            let endpoint = attachment.endpoint.as_ref()?;
            view::limits(attachment, &world).ingress.map(|_| ifindex_of(endpoint.number))
        });
        limited.collect()
    };
    let foreign = given.filter(|link| !limited.contains(&link.ifindex));
    foreign.map(|link| format!("{} at {}", link.discipline, link.name)).collect()
}

/// Counters of these containers, or of all if none is named.
pub async fn stats(state: &State, host: &Host, asked: &[Id]) -> Result<Stats, Error> {
    let endpoints = endpoints(state, host, asked).await?;
    let filtered = host.firewall.dropped().await?;
    let reasons = host
        .datapath()
        .reasons()?
        .into_iter()
        .map(|(reason, counter)| {
            // The packet filter counts the packets that it drops under the same name as an uplink's
            // program.
            let also: Vec<_> = filtered.iter().filter(|counted| counted.name == reason.name()).collect();
            let packets = counter.packets + also.iter().map(|counted| counted.packets).sum::<u64>();
            let bytes = counter.bytes + also.iter().map(|counted| counted.bytes).sum::<u64>();
            (reason, Counter { packets, bytes })
        })
        .collect();
    Ok(Stats { reasons, endpoints })
}

/// Counters of the endpoints of these containers, or of all if none is named.
pub async fn endpoints(state: &State, host: &Host, asked: &[Id]) -> Result<Vec<EndpointStats>, Error> {
    let received = host.links.received(host.group).await?;
    let endpoints: BTreeMap<_, _> = {
        let world = state.world();
        let named = world.containers().filter(|container| asked.is_empty() || asked.contains(&container.id));
        named
            .flat_map(|container| container.attachments.iter().map(move |attachment| (container, attachment)))
            .filter_map(|(container, attachment)| {
                let endpoint = attachment.endpoint.clone()?;
                let network = world.network(&attachment.network)?.name.clone();
                let (id, name) = container.shown();
                let key = (name.to_owned(), endpoint.interface.to_string());
                let is_open = view::openness(attachment, &world).is_some();
                Some((key, (id, network, endpoint.number, is_open, view::limits(attachment, &world))))
            })
            .collect()
    };
    let datapath = host.datapath();
    endpoints
        .into_iter()
        .map(|((container, interface), (id, network, number, is_open, limits))| {
            let counters = datapath.endpoint_stats(number)?;
            let sent = received.get(&ifindex_of(number)).copied().unwrap_or_default();
            Ok(EndpointStats {
                container,
                id,
                network,
                interface,
                is_open,
                limits,
                received: counters.received(),
                from_host: counters.from_host,
                sent: Counter { packets: sent.packets, bytes: sent.bytes },
                to_host: counters.to_host,
                dropped: counters.dropped,
            })
        })
        .collect()
}
