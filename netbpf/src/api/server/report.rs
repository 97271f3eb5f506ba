//! Converts information, counters, events and output into messages.

use super::docker;
use crate::{
    api::{
        events::{Actor, Event},
        types::{
            EndpointStats, Flows, FlowsState, ForeignChain, ForeignChainState, Info, LogLine, Names,
            NamesState, ReasonStats, Repair, Stats, Uplink, Version,
        },
    },
    daemon::{self, EventKind, FlowsStanding, NamesStanding, Record, Standing, StandingState},
    model::Limit,
};

/// `netbpf version`.
pub fn version() -> Version {
    let kernel = daemon::kernel();
    Version {
        version: env!("CARGO_PKG_VERSION").into(),
        api_version: docker::NEWEST.to_string(),
        min_api_version: docker::OLDEST.to_string(),
        layout: netbpf_common::LAYOUT,
        kernel_version: kernel.release,
        arch: kernel.machine,
    }
}

/// `netbpf info`.
pub fn info(info: daemon::Info) -> Info {
    let uplink = |uplink: daemon::Uplink| Uplink {
        interface: uplink.interface.to_string(),
        mode: uplink.mode.to_string(),
        trouble: uplink.trouble.unwrap_or_default(),
    };
    let foreign_chain = |(chain, Standing { state, text })| {
        let state = match state {
            StandingState::Answered => ForeignChainState::Answered,
            StandingState::Closed => ForeignChainState::Closed,
            StandingState::Refused => ForeignChainState::Refused,
        };
        ForeignChain { chain, state, text }
    };
    let repair = |daemon::Repair { text, count, last }| Repair { text, count, last };
    let Version { version, kernel_version, .. } = version();
    Info {
        containers: info.containers,
        containers_running: info.running,
        containers_stopped: info.containers - info.running,
        networks: info.networks,
        endpoints: info.endpoints,
        attachment: info.attachment,
        uplinks: info.uplinks.into_iter().map(uplink).collect(),
        foreign_chains: info.foreign_chains.into_iter().map(foreign_chain).collect(),
        disciplines: info.disciplines,
        contested: info.contested,
        open: info.open,
        names: names(info.names, info.without_filter),
        flows: flows(info.flows),
        repairs: info.repairs.into_iter().map(repair).collect(),
        bpffs: info.options.bpffs,
        state_dir: info.options.state_dir,
        run_dir: info.options.run_dir,
        kernel_version,
        name: info.hostname,
        server_version: version,
    }
}

fn flows(standing: FlowsStanding) -> Flows {
    match standing {
        FlowsStanding::Off => Flows::default(),
        FlowsStanding::Fast(count) => Flows { state: FlowsState::Fast, count, hindrances: Vec::new() },
        FlowsStanding::Hindered(count, hindrances) => {
            Flows { state: FlowsState::Hindered, count, hindrances }
        }
    }
}

fn names(standing: NamesStanding, without_filter: Vec<String>) -> Names {
    let (state, containers, text) = match standing {
        NamesStanding::AtLo(containers) => (NamesState::Kernel, containers, String::new()),
        NamesStanding::Off => (NamesState::Off, 0, String::new()),
        NamesStanding::Lacking(lack) => (NamesState::Lacking, 0, lack),
    };
    Names { state, containers, text, without_filter }
}

/// `netbpf stats`.
pub fn stats(daemon::Stats { reasons, endpoints }: daemon::Stats) -> Stats {
    let reasons = reasons.into_iter().map(|(reason, counter)| ReasonStats {
        reason: reason.name().into(),
        drop: reason.is_drop(),
        packets: counter.packets,
        bytes: counter.bytes,
    });
    let rate = |limit: Option<Limit>| limit.map(|limit| limit.rate.to_string()).unwrap_or_default();
    let endpoints = endpoints.into_iter().map(|endpoint| EndpointStats {
        container: endpoint.container,
        id: endpoint.id.to_string(),
        network: endpoint.network,
        interface: endpoint.interface,
        open: endpoint.is_open,
        ingress_rate: rate(endpoint.limits.ingress),
        egress_rate: rate(endpoint.limits.egress),
        rx_packets: endpoint.received.packets,
        rx_bytes: endpoint.received.bytes,
        rx_host_packets: endpoint.from_host.packets,
        rx_host_bytes: endpoint.from_host.bytes,
        tx_packets: endpoint.sent.packets,
        tx_bytes: endpoint.sent.bytes,
        tx_host_packets: endpoint.to_host.packets,
        tx_host_bytes: endpoint.to_host.bytes,
        dropped_packets: endpoint.dropped.packets,
    });
    Stats { reasons: reasons.collect(), endpoints: endpoints.collect() }
}

/// An event, with Docker's keys.
pub fn event(event: &daemon::Event) -> Event {
    let id = event.id.map(|id| id.to_string()).unwrap_or_default();
    let (kind, status, of_container) = match event.kind {
        EventKind::Container => ("container", event.action, id.clone()),
        EventKind::Network => ("network", "", String::new()),
    };
    Event {
        status: status.to_owned(),
        id: of_container,
        from: event.attributes.get("image").cloned().unwrap_or_default(),
        kind: kind.to_owned(),
        action: event.action.to_owned(),
        actor: Actor { id, attributes: event.attributes.clone() },
        scope: "local".into(),
        time: event.time.as_second(),
        time_nano: i64::try_from(event.time.as_nanosecond()).unwrap_or(i64::MAX),
    }
}

/// A line of output.
pub fn log_line(Record { log, stream, time }: Record) -> LogLine {
    LogLine { log, stream, time }
}
