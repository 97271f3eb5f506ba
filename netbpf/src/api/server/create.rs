//! Parses requests for containers, with Docker's refusals of what cannot be parsed.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::{endpoint, error::Error};
use crate::{
    api::{
        ports,
        types::{ContainerCreate, EndpointSettings},
    },
    daemon::{NetworkMode, SandboxRequest},
    model::{
        EndpointRequest, Link, Mode, Network, Restart, RestartPolicy, Sandbox, check_alias,
        check_container_name, check_dns_option, check_hostname, check_search_domain,
    },
};

/// Parses `create` of a container. An empty name stands for a random one.
pub fn parse(name: &str, message: ContainerCreate) -> Result<SandboxRequest, Error> {
    let name = container_name(name)?;
    if message.cmd.first().is_none_or(String::is_empty) {
        return Err(Error::Invalid("no command specified".into()));
    }
    for (what, words) in [
        ("command", message.cmd.as_slice()),
        ("environment", &message.env),
        ("working directory", std::slice::from_ref(&message.working_dir)),
    ] {
        if let Some(word) = words.iter().find(|word| word.contains('\0')) {
            return Err(Error::Invalid(format!("invalid {what}: {word:?} contains a null byte")));
        }
    }
    let policy = &message.host_config.restart_policy;
    let policy = RestartPolicy::parse(&policy.name, policy.maximum_retry_count)?;
    if message.auto_remove && policy != RestartPolicy::No {
        return Err(Error::Invalid("can't create 'AutoRemove' container with restart policy".into()));
    }
    let network = network_mode(&message.network_mode)?;
    let (publish, exposed) = ports::asked(&message)?;
    let hostname = (!message.hostname.is_empty()).then_some(message.hostname);
    hostname.iter().try_for_each(|hostname| check_hostname(hostname))?;
    message.dns_search.iter().try_for_each(|domain| check_search_domain(domain))?;
    message.dns_options.iter().try_for_each(|option| check_dns_option(option))?;
    let networks = message.networks.into_iter();
    Ok(SandboxRequest {
        name,
        network,
        endpoint: first_endpoint(message.endpoint_config)?,
        networks: networks
            .map(|other| Ok::<_, Error>((other.network, endpoint::parse(other.endpoint_config)?)))
            .collect::<Result<_, _>>()?,
        hostname,
        labels: message.labels,
        sandbox: Sandbox {
            command: message.cmd,
            env: message.env,
            working_dir: working_dir(&message.working_dir)?,
            hostname: String::new(),
            rootfs: message.rootfs,
            auto_remove: message.auto_remove,
            restart: Restart::new(policy),
            mode: Mode::Networks,
            created_in: String::new(),
            extra_hosts: Vec::new(),
            dns: message.dns.iter().map(|text| name_server(text)).collect::<Result<_, _>>()?,
            dns_search: message.dns_search,
            dns_options: message.dns_options,
            publish,
            exposed,
            publish_all: message.host_config.publish_all_ports,
            no_new_privileges: no_new_privileges(&message.host_config.security_opt)?,
        },
        extra_hosts: message.extra_hosts.iter().map(|line| extra_host(line)).collect::<Result<_, _>>()?,
    })
}

/// Parses a container's name, with or without Docker's slash; `None` if it is empty.
pub fn container_name(text: &str) -> Result<Option<String>, Error> {
    let name = text.strip_prefix('/').unwrap_or(text);
    if name.is_empty() {
        return Ok(None);
    }
    check_container_name(name)?;
    Ok(Some(name.to_owned()))
}

/// Parses `--net`.
fn network_mode(text: &str) -> Result<NetworkMode, Error> {
    Ok(match text {
        "none" => NetworkMode::None,
        "host" => NetworkMode::Host,
        "" | "default" => NetworkMode::Network(Network::DEFAULT.to_owned()),
        text => match text.strip_prefix("container:") {
            Some("") => {
                let message = "invalid network mode: invalid container format container:<name|id>";
                return Err(Error::Invalid(message.into()));
            }
            Some(key) => NetworkMode::Container(key.to_owned()),
            None => NetworkMode::Network(text.to_owned()),
        },
    })
}

/// Parses the request for the endpoint in the first network. Docker reports an invalid link of a new container
/// differently.
fn first_endpoint(mut settings: EndpointSettings) -> Result<EndpointRequest, Error> {
    let links = settings.links.take().unwrap_or_default();
    let endpoint = endpoint::parse(settings)?;
    let links = links.iter().map(|text| Link::parse(text)).collect::<Result<_, _>>()?;
    Ok(EndpointRequest { links, ..endpoint })
}

fn working_dir(text: &str) -> Result<PathBuf, Error> {
    match text {
        "" => Ok("/".into()),
        dir if Path::new(dir).is_absolute() => Ok(dir.into()),
        dir => Err(Error::Invalid(format!(
            "the working directory '{dir}' is invalid, it needs to be an absolute path"
        ))),
    }
}

/// Parses `--add-host name:address`; no address stands for `host-gateway`.
fn extra_host(line: &str) -> Result<(String, Option<IpAddr>), Error> {
    let (name, address) = line
        .split_once([':', '='])
        .filter(|(name, address)| !name.is_empty() && !address.is_empty())
        .ok_or_else(|| Error::Invalid(format!("bad format for add-host: {line:?}")))?;
    check_alias(name)?;
    if address == "host-gateway" {
        return Ok((name.to_owned(), None));
    }
    let address = address
        .parse()
        .map_err(|_| Error::Invalid(format!("invalid IP address in add-host: {address:?}")))?;
    Ok((name.to_owned(), Some(address)))
}

/// `--security-opt`. A sandbox has none of the mechanisms that it can turn off in Docker.
fn no_new_privileges(options: &[String]) -> Result<bool, Error> {
    let mut set = false;
    for (index, option) in options.iter().enumerate() {
        match option.replacen(':', "=", 1).as_str() {
            "no-new-privileges" | "no-new-privileges=true" => set = true,
            "no-new-privileges=false" => set = false,
            "seccomp=unconfined" | "apparmor=unconfined" | "label=disable" => {}
            _ => return Err(Error::Invalid(format!("invalid --security-opt {}: {option:?}", index + 1))),
        }
    }
    Ok(set)
}

/// `--dns`.
fn name_server(text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_| {
        Error::Invalid(format!("IP address is not correctly formatted: {}", text.escape_debug()))
    })
}
