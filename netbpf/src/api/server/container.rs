//! Converts what the daemon knows of containers into `ps` and `inspect`, with Docker's keys and texts.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::endpoint;
use crate::{
    api::{
        human, ports,
        types::{
            ContainerCreate, ContainerResource, ContainerState, ContainerSummary, Empty, EndpointSettings,
            HostConfig, NetworkEndpoints, NetworkMode, NetworkSettings, PortBinding, RestartPolicy,
        },
    },
    daemon::{AttachmentView, ContainerLine, ContainerView},
    model::{self, Container, Mode, Namespace, Network, Sandbox, State},
};

/// A line of `ps`.
pub fn summary(line: &ContainerLine, now: Timestamp) -> ContainerSummary {
    let ContainerLine { container, is_open, attachments } = line;
    let (id, name) = container.shown();
    ContainerSummary {
        id: id.to_string(),
        names: vec![format!("/{name}")],
        image: container.owner().image().into_owned(),
        image_id: container.owner().image().into_owned(),
        command: container.owner().command().join(" "),
        created: container.created.as_second(),
        state: container.status().into(),
        status: status(container, now) + if *is_open { " (open)" } else { "" },
        labels: container.labels.clone(),
        networks: match container.owner().mode() {
            Some(Mode::Host) => vec!["host".into()],
            Some(Mode::None) => vec!["none".into()],
            Some(Mode::Networks | Mode::Container(_)) | None => {
                container.attachments.iter().map(|attachment| attachment.network_name.clone()).collect()
            }
        },
        ports: ports::summaries(&container.owner().exposed(&container.state), &container.mappings),
        host_config: NetworkMode {
            network_mode: container.sandbox().map(|own| network_mode(container, own)).unwrap_or_default(),
        },
        network_settings: NetworkEndpoints { networks: endpoints(container, attachments) },
        mounts: Vec::new(),
    }
}

/// `inspect`.
pub fn resource(view: &ContainerView) -> ContainerResource {
    let container = &view.container;
    let owner = container.owner();
    let command = owner.command();
    let [resolv_conf_path, hostname_path, hosts_path, log_path] = match &view.files {
        Some(files) => [&files.resolv_conf, &files.hostname, &files.hosts, &files.log]
            .map(|path| path.display().to_string()),
        None => Default::default(),
    };
    let (id, name) = container.shown();
    ContainerResource {
        id: id.to_string(),
        created: nanoseconds(container.created),
        path: command.first().cloned().unwrap_or_default(),
        args: command.iter().skip(1).cloned().collect(),
        state: container_state(container, view.pid),
        image: owner.image().into_owned(),
        resolv_conf_path,
        hostname_path,
        hosts_path,
        log_path,
        name: format!("/{name}"),
        host_config: match container.sandbox() {
            Some(sandbox) => host_config(view, sandbox),
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
        network_settings: network_settings(view),
    }
}

fn network_settings(view: &ContainerView) -> NetworkSettings {
    let container = &view.container;
    let networks = endpoints(container, &view.attachments);
    NetworkSettings {
        sandbox_key: namespace(container),
        ports: ports::bindings(&container.owner().exposed(&container.state), &container.mappings),
        default: networks.get(Network::DEFAULT).map(Into::into).unwrap_or_default(),
        networks,
    }
}

/// A container's endpoints by network name.
fn endpoints(container: &Container, views: &[AttachmentView]) -> BTreeMap<String, EndpointSettings> {
    let attachments = container.attachments.iter().zip(views);
    attachments
        .map(|(attachment, view)| (attachment.network_name.clone(), endpoint::settings(attachment, view)))
        .collect()
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

fn host_config(view: &ContainerView, sandbox: &Sandbox) -> HostConfig {
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
    let of_default = view
        .attachments
        .iter()
        .filter(|attachment| attachment.network.as_ref().is_some_and(|network| !network.has_names()));
    HostConfig {
        port_bindings,
        publish_all_ports: sandbox.publish_all,
        restart_policy,
        security_opt,
        network_mode: network_mode(&view.container, sandbox),
        auto_remove: sandbox.auto_remove,
        dns: sandbox.dns.iter().map(ToString::to_string).collect(),
        dns_options: sandbox.dns_options.clone(),
        dns_search: sandbox.dns_search.clone(),
        extra_hosts: (!sandbox.extra_hosts.is_empty()).then(|| extra_hosts(sandbox)),
        links: of_default.flat_map(|attachment| &attachment.links).map(ToString::to_string).collect(),
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
