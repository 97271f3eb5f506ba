//! A request for a sandbox, and whether it can be met by the networks and containers that exist. Changes nothing.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    daemon::{
        Error, membership::endpoint_request::check_request, names::links, owners::sandbox::own_sandbox,
        state::world::World,
    },
    model::{Attachment, ContainerPort, Driver, EndpointRequest, Id, Mode, Network, Protocol, Sandbox},
};

/// A request for a sandbox.
pub struct SandboxRequest {
    /// Its name; a random one if absent.
    pub name: Option<String>,
    /// `--net`.
    pub network: NetworkMode,
    /// The request for its endpoint there.
    pub endpoint: EndpointRequest,
    /// Names or IDs of further networks, with the requests for its endpoints there.
    pub networks: Vec<(String, EndpointRequest)>,
    /// `--hostname`; the short ID if absent.
    pub hostname: Option<String>,
    /// `--add-host`; `host-gateway` if the address is absent.
    pub extra_hosts: Vec<(String, Option<IpAddr>)>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// The other settings. Those that follow from the above are set by the daemon.
    pub sandbox: Sandbox,
}

/// `--net`, as far as its text tells.
pub enum NetworkMode {
    /// `none`.
    None,
    /// `host`.
    Host,
    /// A container with this name or ID.
    Container(String),
    /// A network with this name or ID.
    Network(String),
}

/// Checks a request, and returns the sandbox and its attachments.
pub fn sandbox_of(
    id: &Id,
    request: SandboxRequest,
    world: &World,
) -> Result<(Sandbox, Vec<Attachment>), Error> {
    let (mode, attachments) = modes_of(&request, world)?;
    check_conflicts(&mode, &request)?;
    let hostname = match &mode {
        Mode::Host => nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned(),
        Mode::Container(other) => world
            .container(other)
            .ok_or_else(|| Error::NoContainer(other.to_string()))?
            .owner()
            .hostname()
            .map_or_else(|| id.short(), str::to_owned),
        Mode::Networks | Mode::None => request.hostname.unwrap_or_else(|| id.short()),
    };
    let extra_hosts = request.extra_hosts.into_iter().map(|(name, address)| {
        let address = address.map_or_else(|| default_gateway(world), Ok);
        Ok::<_, Error>((name, address?))
    });
    let sandbox = Sandbox {
        hostname,
        mode,
        created_in: attachments.first().map(|first| first.network_name.clone()).unwrap_or_default(),
        extra_hosts: extra_hosts.collect::<Result<_, _>>()?,
        ..request.sandbox
    };
    check_ports(&sandbox, &attachments, world)?;
    Ok((sandbox, attachments))
}

/// Checks that the root directory of a sandbox is one.
pub fn check_rootfs(sandbox: &Sandbox) -> Result<(), Error> {
    if let Some(rootfs) = &sandbox.rootfs
        && !(rootfs.is_absolute() && rootfs.is_dir())
    {
        return Err(Error::Invalid(format!(
            "invalid rootfs {}: not an absolute path of a directory",
            rootfs.display()
        )));
    }
    Ok(())
}

/// Warnings about ports at addresses of a family that none of the networks has. IPv6 is relayed to IPv4.
pub fn ports_left_out(
    sandbox: &Sandbox,
    attachments: &[Attachment],
    has_ipv6: bool,
    world: &World,
) -> Vec<String> {
    let bridges: Vec<_> =
        attachments.iter().filter_map(|attachment| world.network(&attachment.network)?.bridge()).collect();
    let has = |host: IpAddr, port: ContainerPort| {
        let is_relayed = has_ipv6 && port.protocol != Protocol::Sctp;
        bridges.iter().any(|bridge| match host {
            IpAddr::V4(_) => bridge.ipv4.is_some(),
            IpAddr::V6(_) => bridge.ipv6.is_some() || (is_relayed && bridge.ipv4.is_some()),
        })
    };
    let hosts = sandbox.publish.iter().filter_map(|publish| Some((publish.host?, publish.container)));
    let stray: Vec<_> = hosts.filter(|(host, port)| !bridges.is_empty() && !has(*host, *port)).collect();
    let family = |host: &IpAddr| if host.is_ipv4() { "IPv4" } else { "IPv6" };
    stray
        .iter()
        .map(|(host, port)| {
            format!("{port} is not published on {host}: the container has no {} address", family(host))
        })
        .collect()
}

/// Refuses published ports in internal networks only. Docker ignores them.
fn check_ports(sandbox: &Sandbox, attachments: &[Attachment], world: &World) -> Result<(), Error> {
    if sandbox.publish.is_empty() || attachments.is_empty() {
        return Ok(());
    }
    let mut networks = attachments.iter().filter_map(|attachment| world.network(&attachment.network));
    match networks.find(|network| !network.internal) {
        Some(_) => Ok(()),
        None => {
            let name = attachments.first().and_then(|one| world.network(&one.network));
            let name = name.map(|network| network.name.as_str()).unwrap_or_default();
            Err(Error::Invalid(format!("cannot publish ports: network {name} is internal")))
        }
    }
}

/// The mode and the attachments from `--net`.
fn modes_of(request: &SandboxRequest, world: &World) -> Result<(Mode, Vec<Attachment>), Error> {
    let (mode, first) = mode_of(request, world)?;
    let mut attachments: Vec<Attachment> = first.into_iter().collect();
    for (key, endpoint) in &request.networks {
        let has_names = |id: &Id| world.network(id).is_some_and(Network::has_names);
        let network = world.find_network(key)?;
        if !network.has_names() || !attachments.first().is_some_and(|first| has_names(&first.network)) {
            return Err(Error::Invalid(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                    .into(),
            ));
        }
        if attachments.iter().any(|attachment| attachment.network == network.id) {
            return Err(Error::Invalid(format!("network {:?} is specified multiple times", network.name)));
        }
        check_request(endpoint, network)?;
        attachments.push(Attachment::new(network, endpoint.clone()));
    }
    Ok((mode, attachments))
}

fn mode_of(request: &SandboxRequest, world: &World) -> Result<(Mode, Option<Attachment>), Error> {
    let network = match &request.network {
        NetworkMode::None => return Ok((Mode::None, None)),
        NetworkMode::Host => return Ok((Mode::Host, None)),
        NetworkMode::Container(key) => {
            let other = world.find_container(key)?;
            own_sandbox(other)?;
            return Ok((Mode::Container(other.id), None));
        }
        NetworkMode::Network(key) => world.find_network(key)?,
    };
    match network.driver {
        Driver::Host => return Ok((Mode::Host, None)),
        Driver::Null => return Ok((Mode::None, None)),
        Driver::Bridge(_) => {}
    }
    // Unlike `connect`, a new container may have links on the default network.
    let without_links = EndpointRequest { links: Vec::new(), ..request.endpoint.clone() };
    check_request(&without_links, network)?;
    let links = links::resolve(request.endpoint.links.clone(), network, world)?;
    let endpoint = EndpointRequest { links, ..without_links };
    Ok((Mode::Networks, Some(Attachment::new(network, endpoint))))
}

/// The address for `host-gateway`: the default network's gateway, as in Docker.
fn default_gateway(world: &World) -> Result<IpAddr, Error> {
    let bridge = world.find_network(Network::DEFAULT)?.bridge();
    let gateway = bridge.and_then(|bridge| bridge.ipv4.as_ref()?.gateway);
    let none = || Error::Invalid("unable to derive the IP value for host-gateway".into());
    Ok(gateway.ok_or_else(none)?.into())
}

/// Refuses options that conflict with a mode, with Docker's messages.
fn check_conflicts(mode: &Mode, request: &SandboxRequest) -> Result<(), Error> {
    let SandboxRequest { endpoint, sandbox, .. } = request;
    let has_links = !endpoint.links.is_empty();
    let what = match mode {
        Mode::Container(_) if has_links => {
            "container type network can't be used with links. This would result in undefined behavior"
        }
        Mode::Host if has_links => {
            "host type networking can't be used with links. This would result in undefined behavior"
        }
        Mode::None if has_links => "links and the network mode",
        Mode::Container(_) if request.hostname.is_some() => "hostname and the network mode",
        Mode::Container(_) if !sandbox.dns.is_empty() => "dns and the network mode",
        Mode::Container(_) if !request.extra_hosts.is_empty() => {
            "custom host-to-IP mapping and the network mode"
        }
        Mode::Container(_) if !sandbox.publish.is_empty() || sandbox.publish_all => {
            "port publishing and the container type network mode"
        }
        Mode::Container(_) if !sandbox.exposed.is_empty() => {
            "port exposing and the container type network mode"
        }
        Mode::Container(_) | Mode::Host if endpoint.mac.is_some() => "mac-address and the network mode",
        Mode::Networks => return Ok(()),
        _ if endpoint.ipv4.is_some() || endpoint.ipv6.is_some() => {
            return Err(Error::AddressOnDefaultNetwork);
        }
        _ if !endpoint.aliases.is_empty() => return Err(Error::AliasOnDefaultNetwork),
        _ => return Ok(()),
    };
    Err(Error::Invalid(format!("conflicting options: {what}")))
}
