//! `/metrics`: counters and facts in Prometheus' text format. They are read for each request, so what is removed is gone in
//! the next answer. Only families ending in `_info` have labels with addresses or IDs: a counter must not get a new series
//! whenever a container starts anew.

use std::collections::BTreeMap;

use ipnet::IpNet;
use prometheus::{
    Encoder as _, TEXT_FORMAT, TextEncoder,
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use super::report;
use crate::{
    api::types::Version,
    daemon::{ContainerLine, EndpointStats, MapFill, NetworkView, Stats, Usage},
    model::{Bridge, Protocol},
};

/// The format, for the header `Content-Type`.
pub const FORMAT: &str = TEXT_FORMAT;

const NANOSECONDS: f64 = 1e9;

/// By peer: members of the network; the host, with other hosts. Frames that the programs answer count as sent to members.
const RECEIVED: &str =
    "Frames to a container, by their sender: a member of the network, or the host and other hosts.";
const RECEIVED_BYTES: &str =
    "Bytes to a container, by their sender: a member of the network, or the host and other hosts.";
const SENT: &str = "Frames of a container that were not dropped, by whom they went to: members of the network, or the host and other hosts.";
const SENT_BYTES: &str = "Bytes of a container that were not dropped, by whom they went to: members of the network, or the host and other hosts.";

/// What the metrics tell.
pub struct Snapshot {
    /// Counters of all frames and endpoints.
    pub stats: Stats,
    /// All networks.
    pub networks: Vec<NetworkView>,
    /// All containers.
    pub containers: Vec<ContainerLine>,
    /// How full the maps are.
    pub maps: Vec<MapFill>,
    /// What this process uses.
    pub usage: Usage,
}

/// The text.
///
/// # Errors
/// That of the encoder, which refuses metrics without a name.
pub fn text(snapshot: &Snapshot) -> prometheus::Result<Vec<u8>> {
    let mut families = Families::default();
    add_build(&mut families, &report::version());
    add_frames(&mut families, &snapshot.stats);
    add_endpoints(&mut families, &snapshot.stats);
    add_networks(&mut families, &snapshot.networks);
    add_ports(&mut families, &snapshot.containers);
    add_maps(&mut families, &snapshot.maps);
    add_process(&mut families, &snapshot.usage);
    let mut text = Vec::new();
    TextEncoder::new().encode(&families.0, &mut text)?;
    Ok(text)
}

fn add_build(families: &mut Families, version: &Version) {
    let layout = version.layout.to_string();
    let labels = [("version", &*version.version), ("layout", &layout), ("kernel", &version.kernel_version)];
    families
        .gauge("netbpf_build_info", "Version of netbpf, layout of its maps, and the kernel.")
        .add(&labels, 1.0);
}

fn add_frames(families: &mut Families, stats: &Stats) {
    let verdict = |is_drop| if is_drop { "dropped" } else { "passed" };
    let each =
        || stats.reasons.iter().map(|(reason, counter)| (reason.name(), verdict(reason.is_drop()), counter));
    let mut frames = families.counter("netbpf_frames_total", "Frames by the reason for which they ended.");
    for (reason, verdict, counter) in each() {
        frames.add(&[("reason", reason), ("verdict", verdict)], counter.packets as f64);
    }
    let mut bytes =
        families.counter("netbpf_frame_bytes_total", "Bytes of frames by the reason for which they ended.");
    for (reason, verdict, counter) in each() {
        bytes.add(&[("reason", reason), ("verdict", verdict)], counter.bytes as f64);
    }
}

fn add_endpoints(families: &mut Families, stats: &Stats) {
    type Count = fn(&EndpointStats, bool) -> u64;
    let counters: [(&str, &str, Count); 4] = [
        ("netbpf_endpoint_receive_frames_total", RECEIVED, |it, by_host| received(it, by_host).packets),
        ("netbpf_endpoint_receive_bytes_total", RECEIVED_BYTES, |it, by_host| received(it, by_host).bytes),
        ("netbpf_endpoint_transmit_frames_total", SENT, |it, by_host| sent(it, by_host).packets),
        ("netbpf_endpoint_transmit_bytes_total", SENT_BYTES, |it, by_host| sent(it, by_host).bytes),
    ];
    for (name, help, count) in counters {
        let mut family = families.counter(name, help);
        for endpoint in &stats.endpoints {
            for (peer, by_host) in [("member", false), ("host", true)] {
                let [container, network, interface] = labels(endpoint);
                family.add(&[container, network, interface, ("peer", peer)], count(endpoint, by_host) as f64);
            }
        }
    }
    let help = "Frames of a container that the programs dropped.";
    let mut family = families.counter("netbpf_endpoint_dropped_frames_total", help);
    for endpoint in &stats.endpoints {
        family.add(&labels(endpoint), endpoint.dropped.packets as f64);
    }
}

fn labels(endpoint: &EndpointStats) -> [(&str, &str); 3] {
    [("container", &*endpoint.container), ("network", &endpoint.network), ("interface", &endpoint.interface)]
}

fn received(endpoint: &EndpointStats, by_host: bool) -> netbpf_common::stats::Counter {
    if by_host { endpoint.from_host } else { endpoint.from_members() }
}

fn sent(endpoint: &EndpointStats, by_host: bool) -> netbpf_common::stats::Counter {
    if by_host { endpoint.to_host } else { endpoint.to_members() }
}

fn add_maps(families: &mut Families, maps: &[MapFill]) {
    let help = "Entries of the programs' maps that are in use.";
    let mut entries = families.gauge("netbpf_map_entries", help);
    for fill in maps {
        entries.add(&[("map", fill.map)], fill.entries as f64);
    }
    let help = "Entries that the programs' maps can have; some maps are smaller until there are many.";
    let mut capacity = families.gauge("netbpf_map_capacity", help);
    for fill in maps {
        capacity.add(&[("map", fill.map)], fill.capacity.into());
    }
}

fn add_networks(families: &mut Families, networks: &[NetworkView]) {
    let bridges = || networks.iter().filter_map(|view| Some((view, view.network.bridge()?)));
    let mut info = families.gauge("netbpf_network_info", "Facts about a network.");
    for (NetworkView { network, .. }, bridge) in bridges() {
        let id = network.id.to_string();
        let subnets: Vec<String> = bridge.nets().map(|net| net.to_string()).collect();
        let labels = [
            ("network", &*network.name),
            ("network_id", &id),
            ("device", &bridge.device),
            ("subnets", &subnets.join(",")),
            ("internal", flag(network.internal)),
        ];
        info.add(&labels, 1.0);
    }
    let mut info = families.gauge("netbpf_endpoint_info", "Facts about an endpoint.");
    for (view, _) in bridges() {
        for member in &view.members {
            let endpoint = &member.endpoint;
            let id = member.id.to_string();
            let text = |address: Option<String>| address.unwrap_or_default();
            let labels = [
                ("container", &*member.name),
                ("network", &view.network.name),
                ("interface", &endpoint.interface),
                ("container_id", &id),
                ("ipv4", &text(endpoint.ipv4.map(|address| address.to_string()))),
                ("ipv6", &text(endpoint.ipv6.map(|address| address.to_string()))),
                ("mac", &endpoint.mac.to_string()),
                ("host_interface", &endpoint.host_interface),
            ];
            info.add(&labels, 1.0);
        }
    }
    let mut endpoints = families.gauge("netbpf_network_endpoints", "Endpoints in a network.");
    for (view, _) in bridges() {
        endpoints.add(&[("network", &view.network.name)], view.members.len() as f64);
    }
    let mut addresses = families.gauge(
        "netbpf_network_addresses",
        "Addresses of a network's subnet by family: leased to containers, or in all.",
    );
    for (view, bridge) in bridges() {
        for (family, leased, all) in addresses_of(view, bridge) {
            let network = ("network", &*view.network.name);
            addresses.add(&[network, ("family", family), ("state", "leased")], leased as f64);
            addresses.add(&[network, ("family", family), ("state", "all")], all);
        }
    }
}

/// For each family its name, the number of leased addresses, and of those that containers can get.
fn addresses_of<'a>(
    view: &'a NetworkView,
    bridge: &'a Bridge,
) -> impl Iterator<Item = (&'static str, usize, f64)> + 'a {
    bridge.nets().map(|net| {
        let is_of_family = |address: &std::net::IpAddr| address.is_ipv4() == net.addr().is_ipv4();
        let leased = view.members.iter().flat_map(|member| member.endpoint.addresses()).filter(is_of_family);
        // Without the host's, and in IPv4 without both ends of the subnet.
        let (family, bits, others) = match net {
            IpNet::V4(net) => ("ipv4", 32 - net.prefix_len(), 3.0),
            IpNet::V6(net) => ("ipv6", 128 - net.prefix_len(), 1.0),
        };
        (family, leased.count(), (f64::from(bits).exp2() - others).max(0.0))
    })
}

fn add_ports(families: &mut Families, containers: &[ContainerLine]) {
    let mut published: BTreeMap<Protocol, f64> = BTreeMap::new();
    for mapping in containers.iter().flat_map(|line| &line.container.mappings) {
        *published.entry(mapping.protocol).or_default() += 1.0;
    }
    let mut family =
        families.gauge("netbpf_published_ports", "Published ports by protocol, each address family apart.");
    for (protocol, count) in published {
        family.add(&[("protocol", &protocol.to_string())], count);
    }
}

/// The daemon's process, by the names that Prometheus' libraries use.
fn add_process(families: &mut Families, usage: &Usage) {
    let cpu = (usage.user + usage.system) as f64 / NANOSECONDS;
    families.counter("process_cpu_seconds_total", "CPU time of the daemon in seconds.").add(&[], cpu);
    families
        .gauge("process_resident_memory_bytes", "Anonymous memory of the daemon.")
        .add(&[], usage.memory as f64);
}

fn flag(is_set: bool) -> &'static str {
    if is_set { "true" } else { "false" }
}

/// Metrics by name. The encoder refuses a family without any, so one is complete only with its first sample.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

struct Family<'a> {
    all: &'a mut Vec<MetricFamily>,
    name: &'static str,
    help: &'static str,
    kind: MetricType,
}

impl Families {
    fn counter(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        Family { all: &mut self.0, name, help, kind: MetricType::COUNTER }
    }

    fn gauge(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        Family { all: &mut self.0, name, help, kind: MetricType::GAUGE }
    }
}

impl Family<'_> {
    fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let mut metric = Metric::default();
        metric.set_label(labels.iter().map(|(name, value)| label(name, value)).collect());
        match self.kind {
            MetricType::COUNTER => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            _ => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        if self.all.last().is_none_or(|last| last.name() != self.name) {
            let mut family = MetricFamily::default();
            family.set_name(self.name.to_owned());
            family.set_help(self.help.to_owned());
            family.set_field_type(self.kind);
            self.all.push(family);
        }
        if let Some(family) = self.all.last_mut() {
            family.mut_metric().push(metric);
        }
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}
