//! Information about the daemon: versions, numbers, counters.

use std::{collections::BTreeMap, time::Instant};

use crate::{
    api::types::{EndpointStats, Info, ReasonStats, Stats, Version},
    daemon::{Daemon, Error},
    model::{Id, State},
};

/// `netbpf version`.
pub fn version() -> Version {
    let (kernel, arch) = match nix::sys::utsname::uname() {
        Ok(name) => {
            (name.release().to_string_lossy().into_owned(), name.machine().to_string_lossy().into_owned())
        }
        Err(_) => Default::default(),
    };
    Version {
        version: env!("CARGO_PKG_VERSION").into(),
        layout: netbpf_common::LAYOUT,
        kernel_version: kernel,
        arch,
    }
}

impl Daemon {
    /// `netbpf info`.
    pub async fn info(&self) -> Info {
        let version = version();
        let uplinks = self.standing_of_uplinks().await;
        let foreign_chains = self.standing_in_others().await;
        let disciplines = self.disciplines().await;
        let (containers, containers_running, networks, endpoints) = {
            let world = self.world();
            let running =
                world.containers().filter(|container| matches!(container.state, State::Running { .. }));
            (world.containers().count(), running.count(), world.networks().count(), world.endpoints_in_use())
        };
        Info {
            containers,
            containers_running,
            containers_stopped: containers - containers_running,
            networks,
            endpoints,
            attachment: self.datapath().attachment().to_string(),
            uplinks,
            foreign_chains,
            disciplines,
            contested: self
                .host
                .contests
                .told(Instant::now())
                .into_iter()
                .chain(self.host.pins.trouble())
                .collect(),
            bpffs: self.options.bpffs.clone(),
            state_dir: self.options.state_dir.clone(),
            run_dir: self.options.run_dir.clone(),
            kernel_version: version.kernel_version,
            name: nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned(),
            server_version: version.version,
        }
    }

    /// Queueing disciplines on links that most traffic bypasses.
    async fn disciplines(&self) -> Vec<String> {
        let links = self.host.links.owned(self.host.group).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "look for queueing disciplines");
            Vec::new()
        });
        let given = links.iter().filter(|link| !matches!(&*link.discipline, "" | "noqueue" | "noop"));
        given.map(|link| format!("{} at {}", link.discipline, link.name)).collect()
    }

    /// Counters of these containers, or of all if none is named.
    pub(in crate::daemon) async fn stats_of(&self, asked: &[Id]) -> Result<Stats, Error> {
        let received = self.host.links.received(self.host.group).await?;
        let endpoints: BTreeMap<_, _> = {
            let world = self.world();
            let named =
                world.containers().filter(|container| asked.is_empty() || asked.contains(&container.id));
            named
                .flat_map(|container| {
                    container.attachments.iter().map(move |attachment| (container, attachment))
                })
                .filter_map(|(container, attachment)| {
                    let endpoint = attachment.endpoint.clone()?;
                    let network = world.network(&attachment.network)?.name.clone();
                    let (id, name) = container.shown();
                    let key = (name.to_owned(), endpoint.interface.to_string());
                    Some((key, (id, network, endpoint.number)))
                })
                .collect()
        };
        let filtered = self.host.firewall.dropped().await?;
        let datapath = self.datapath();
        let reasons = datapath
            .reasons()?
            .into_iter()
            .map(|(reason, counter)| {
                // The packet filter counts the packets that it drops under the same name as an uplink's
                // program.
                let also: Vec<_> = filtered.iter().filter(|counted| counted.name == reason.name()).collect();
                ReasonStats {
                    reason: reason.name().into(),
                    drop: reason.is_drop(),
                    packets: counter.packets + also.iter().map(|counted| counted.packets).sum::<u64>(),
                    bytes: counter.bytes + also.iter().map(|counted| counted.bytes).sum::<u64>(),
                }
            })
            .collect();
        let endpoints = endpoints
            .into_iter()
            .map(|((container, interface), (id, network, number))| {
                let counters = datapath.endpoint_stats(number)?;
                let sent =
                    received.get(&netbpf_common::endpoint::ifindex_of(number)).copied().unwrap_or_default();
                Ok(EndpointStats {
                    container,
                    id: id.to_string(),
                    network,
                    interface,
                    rx_packets: counters.received.packets,
                    rx_bytes: counters.received.bytes,
                    tx_packets: sent.packets,
                    tx_bytes: sent.bytes,
                    dropped_packets: counters.dropped.packets,
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Stats { reasons, endpoints })
    }
}
