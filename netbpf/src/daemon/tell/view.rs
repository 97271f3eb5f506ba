//! Converts the model to the API, with Docker's keys and texts.

use std::{collections::BTreeMap, path::Path};

use jiff::Timestamp;

use crate::{
    api::{
        human, ports,
        types::{
            ConfigFrom, ContainerCreate, ContainerResource, ContainerState, ContainerSummary, Empty,
            EndpointIpam, EndpointSettings, HostConfig, Ipam, IpamConfig, NetworkContainer, NetworkResource,
            NetworkSettings, PortBinding, RestartPolicy,
        },
    },
    daemon::{
        effects::folders,
        names::{self, links},
        state::world::World,
    },
    model::{self, Attachment, Block, Container, Files, Mode, Namespace, Network, Sandbox, State, Subnet},
};

/// `network inspect`.
pub fn network(network: &Network, world: &World) -> NetworkResource {
    let bridge = network.bridge();
    NetworkResource {
        name: network.name.clone(),
        id: network.id.to_string(),
        created: nanoseconds(network.created),
        scope: "local".into(),
        driver: network.driver_name().into(),
        // The two that are no bridges have what the host has.
        enable_ipv4: bridge.is_none_or(|bridge| bridge.ipv4.is_some()),
        enable_ipv6: bridge.is_some_and(|bridge| bridge.ipv6.is_some()),
        ipam: Ipam {
            driver: "default".into(),
            options: None,
            config: bridge
                .into_iter()
                .flat_map(|bridge| {
                    let ipv4 = bridge.ipv4.as_ref().map(ipam_config);
                    ipv4.into_iter().chain(bridge.ipv6.as_ref().map(ipam_config))
                })
                .collect(),
        },
        internal: network.internal,
        attachable: network.attachable,
        ingress: false,
        config_from: ConfigFrom::default(),
        config_only: false,
        containers: world
            .members(&network.id)
            .filter_map(|container| {
                let endpoint = attachment_in(container, network)?.endpoint.as_ref()?;
                let (id, name) = container.shown();
                Some((
                    id.to_string(),
                    NetworkContainer {
                        name: name.to_owned(),
                        endpoint_id: endpoint.id.to_string(),
                        mac_address: endpoint.mac.to_string(),
                        ipv4_address: cidr(endpoint.ipv4, &bridge?.ipv4),
                        ipv6_address: cidr(endpoint.ipv6, &bridge?.ipv6),
                    },
                ))
            })
            .collect(),
        options: shown_options(network),
        labels: network.labels.clone(),
    }
}

/// The user's options; for the default network, those that Docker shows.
fn shown_options(network: &Network) -> BTreeMap<String, String> {
    let bridge = network.bridge().filter(|_| network.name == Network::DEFAULT && network.options.is_empty());
    let Some(bridge) = bridge else { return network.options.clone() };
    let options = [
        ("bridge.default_bridge", "true".to_owned()),
        ("bridge.enable_icc", bridge.options.icc.to_string()),
        ("bridge.enable_ip_masquerade", bridge.options.masquerade.to_string()),
        ("bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
        ("bridge.name", bridge.device.to_string()),
        ("driver.mtu", bridge.options.mtu.to_string()),
    ];
    options.map(|(key, value)| (format!("com.docker.network.{key}"), value)).into()
}

fn ipam_config<Net: Block>(subnet: &Subnet<Net>) -> IpamConfig {
    let auxiliary = subnet.auxiliary.iter().map(|(name, address)| (name.clone(), address.to_string()));
    IpamConfig {
        subnet: subnet.net.to_string(),
        ip_range: subnet.range.map(|range| range.to_string()).unwrap_or_default(),
        gateway: subnet.gateway.to_string(),
        auxiliary_addresses: auxiliary.collect(),
    }
}

/// An endpoint's address with the prefix length of its subnet; empty without one.
fn cidr<Net: Block>(address: Option<Net::Address>, subnet: &Option<Subnet<Net>>) -> String {
    let net = address.zip(subnet.as_ref()).map(|(address, subnet)| subnet.net.with_host(address));
    net.map(|net| net.to_string()).unwrap_or_default()
}

fn attachment_in<'a>(container: &'a Container, network: &Network) -> Option<&'a Attachment> {
    container.attachments.iter().find(|attachment| attachment.network == network.id)
}

/// A line of `ps`.
pub fn summary(container: &Container, now: Timestamp) -> ContainerSummary {
    let (id, name) = container.shown();
    ContainerSummary {
        id: id.to_string(),
        names: vec![format!("/{name}")],
        image: container.owner().image().into_owned(),
        command: container.owner().command().join(" "),
        created: container.created.as_second(),
        state: container.status().into(),
        status: status(container, now),
        labels: container.labels.clone(),
        networks: match container.owner().mode() {
            Some(Mode::Host) => vec!["host".into()],
            Some(Mode::None) => vec!["none".into()],
            Some(Mode::Networks | Mode::Container(_)) | None => {
                container.attachments.iter().map(|attachment| attachment.network_name.clone()).collect()
            }
        },
        ports: ports::summaries(&container.owner().exposed(&container.state), &container.mappings),
    }
}

/// `inspect`.
pub fn container(container: &Container, world: &World, dir: &Path, pid: Option<u32>) -> ContainerResource {
    let owner = container.owner();
    let command = owner.command();
    let path = |file: &str| match owner.files() {
        Files::Own(_) => dir.join(file).display().to_string(),
        Files::None | Files::ResolvConf(_) => String::new(),
    };
    let (id, name) = container.shown();
    ContainerResource {
        id: id.to_string(),
        created: nanoseconds(container.created),
        path: command.first().cloned().unwrap_or_default(),
        args: command.iter().skip(1).cloned().collect(),
        state: container_state(container, pid),
        image: container.owner().image().into_owned(),
        resolv_conf_path: path("resolv.conf"),
        hostname_path: path("hostname"),
        hosts_path: path("hosts"),
        log_path: path(folders::LOG),
        name: format!("/{name}"),
        host_config: match container.sandbox() {
            Some(sandbox) => host_config(container, sandbox, world),
            None => HostConfig::default(),
        },
        restart_count: owner.restart().map_or(0, |restart| restart.count),
        config: match container.sandbox() {
            Some(sandbox) => config(container, sandbox),
            None => ContainerCreate {
                cmd: command.to_vec(),
                hostname: owner.hostname().unwrap_or_default().to_owned(),
                labels: container.labels.clone(),
                ..ContainerCreate::default()
            },
        },
        mounts: Vec::new(),
        platform: "linux".into(),
        network_settings: network_settings(container, world),
    }
}

fn network_settings(container: &Container, world: &World) -> NetworkSettings {
    let networks: BTreeMap<_, _> = container
        .attachments
        .iter()
        .map(|attachment| {
            let network = world.network(&attachment.network);
            let settings = endpoint_settings(container, attachment, network, world);
            (attachment.network_name.clone(), settings)
        })
        .collect();
    NetworkSettings {
        sandbox_key: namespace(container),
        ports: ports::bindings(&container.owner().exposed(&container.state), &container.mappings),
        default: networks.get(Network::DEFAULT).map(Into::into).unwrap_or_default(),
        networks,
    }
}

fn endpoint_settings(
    container: &Container,
    attachment: &Attachment,
    network: Option<&Network>,
    world: &World,
) -> EndpointSettings {
    let request = &attachment.request;
    let endpoint = attachment.endpoint.as_ref();
    let bridge = endpoint.and(network).and_then(Network::bridge);
    let (ipv4, ipv6) =
        (bridge.and_then(|bridge| bridge.ipv4.as_ref()), bridge.and_then(|bridge| bridge.ipv6.as_ref()));
    let list = |names: Vec<String>| (!names.is_empty()).then_some(names);
    EndpointSettings {
        ipam_config: (request.ipv4.is_some() || request.ipv6.is_some())
            .then(|| EndpointIpam { ipv4_address: text(request.ipv4), ipv6_address: text(request.ipv6) }),
        links: list(links::shown(&request.links, world)),
        aliases: list(request.aliases.clone()),
        mac_address: match (endpoint, request.mac) {
            (Some(endpoint), _) => endpoint.mac.to_string(),
            (None, Some(mac)) => mac.to_string(),
            (None, None) => String::new(),
        },
        driver_opts: (!request.options.is_default()).then(|| request.options.given()),
        gw_priority: request.gateway_priority,
        network_id: attachment.network.to_string(),
        endpoint_id: endpoint.map(|endpoint| endpoint.id.to_string()).unwrap_or_default(),
        gateway: text(ipv4.map(|subnet| subnet.default_gateway())),
        ip_address: text(endpoint.and_then(|endpoint| endpoint.ipv4)),
        ip_prefix_len: ipv4.map_or(0, |subnet| subnet.net.prefix_len()),
        ipv6_gateway: text(ipv6.map(|subnet| subnet.default_gateway())),
        global_ipv6_address: text(endpoint.and_then(|endpoint| endpoint.ipv6)),
        global_ipv6_prefix_len: ipv6.map_or(0, |subnet| subnet.net.prefix_len()),
        dns_names: network.is_some_and(Network::has_names).then(|| names::names_of(container, attachment)),
    }
}

/// The text of a value; empty if there is none.
fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn config(container: &Container, sandbox: &Sandbox) -> ContainerCreate {
    ContainerCreate {
        image: container.owner().image().into_owned(),
        cmd: sandbox.command.clone(),
        env: sandbox.env.clone(),
        working_dir: sandbox.working_dir.display().to_string(),
        hostname: sandbox.hostname.clone(),
        rootfs: sandbox.rootfs.clone(),
        auto_remove: sandbox.auto_remove,
        network_mode: network_mode(container, sandbox),
        endpoint_config: EndpointSettings::default(),
        networks: Vec::new(),
        extra_hosts: extra_hosts(sandbox),
        dns: sandbox.dns.iter().map(ToString::to_string).collect(),
        dns_search: sandbox.dns_search.clone(),
        dns_options: sandbox.dns_options.clone(),
        labels: container.labels.clone(),
        exposed_ports: sandbox.exposed.iter().map(|port| (port.to_string(), Empty {})).collect(),
        host_config: HostConfig::default(),
    }
}

fn network_mode(container: &Container, sandbox: &Sandbox) -> String {
    match &sandbox.mode {
        Mode::None => "none".into(),
        Mode::Host => "host".into(),
        Mode::Container(other) => format!("container:{other}"),
        Mode::Networks if !sandbox.created_in.is_empty() => sandbox.created_in.clone(),
        Mode::Networks => container
            .attachments
            .first()
            .map(|attachment| attachment.network_name.clone())
            .unwrap_or_default(),
    }
}

fn host_config(container: &Container, sandbox: &Sandbox, world: &World) -> HostConfig {
    let mut port_bindings: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for publish in &sandbox.publish {
        port_bindings.entry(publish.container.to_string()).or_default().push(ports::request(publish));
    }
    let policy = sandbox.restart.policy;
    let restart_policy = RestartPolicy {
        name: policy.name().into(),
        maximum_retry_count: match policy {
            model::RestartPolicy::OnFailure { at_most } => at_most.into(),
            _ => 0,
        },
    };
    let security_opt =
        sandbox.no_new_privileges.then(|| "no-new-privileges".to_owned()).into_iter().collect();
    let of_default = container
        .attachments
        .iter()
        .filter(|attachment| world.network(&attachment.network).is_some_and(|network| !network.has_names()));
    HostConfig {
        port_bindings,
        publish_all_ports: sandbox.publish_all,
        restart_policy,
        security_opt,
        network_mode: network_mode(container, sandbox),
        auto_remove: sandbox.auto_remove,
        dns: sandbox.dns.iter().map(ToString::to_string).collect(),
        dns_options: sandbox.dns_options.clone(),
        dns_search: sandbox.dns_search.clone(),
        extra_hosts: (!sandbox.extra_hosts.is_empty()).then(|| extra_hosts(sandbox)),
        links: of_default.flat_map(|attachment| links::shown(&attachment.request.links, world)).collect(),
    }
}

fn extra_hosts(sandbox: &Sandbox) -> Vec<String> {
    sandbox.extra_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect()
}

fn container_state(container: &Container, pid: Option<u32>) -> ContainerState {
    let never = "0001-01-01T00:00:00Z".to_owned();
    let (exit_code, error, started_at, finished_at) = match &container.state {
        State::Created { error } => (0, error.clone(), never.clone(), never),
        State::Running { started, .. } => (0, String::new(), nanoseconds(*started), never),
        State::Exited { code, started, finished, error } => {
            (*code, error.clone(), nanoseconds(*started), nanoseconds(*finished))
        }
    };
    ContainerState {
        status: container.status().into(),
        running: matches!(container.status(), "running" | "restarting"),
        restarting: container.status() == "restarting",
        paused: false,
        oom_killed: false,
        dead: false,
        pid: match (container.sandbox(), container.namespace()) {
            // The first process inside, not the supervisor.
            (Some(_), Some(_)) => pid.unwrap_or(0),
            (None, Some(Namespace::Process { pid, .. })) => pid,
            (None, Some(Namespace::Path(_))) | (_, None) => 0,
        },
        exit_code,
        error,
        started_at,
        finished_at,
    }
}

fn namespace(container: &Container) -> String {
    match (container.owner().sandbox_key(), container.namespace()) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(Namespace::Path(path))) => path.display().to_string(),
        (None, Some(Namespace::Process { pid, .. })) => format!("/proc/{pid}/ns/net"),
        (None, None) => String::new(),
    }
}

/// Docker's text: `Up 3 minutes`, `Exited (0) 2 seconds ago`, `Created`.
fn status(container: &Container, now: Timestamp) -> String {
    match container.state {
        State::Created { .. } => "Created".into(),
        State::Running { started, .. } => {
            format!("Up {}", human::duration(now.as_second() - started.as_second()))
        }
        State::Exited { code, finished, .. } => {
            let word = if container.status() == "restarting" { "Restarting" } else { "Exited" };
            format!("{word} ({code}) {} ago", human::duration(now.as_second() - finished.as_second()))
        }
    }
}

/// RFC 3339 with nanoseconds, as in Docker.
pub fn nanoseconds(time: Timestamp) -> String {
    format!("{time:.9}")
}
