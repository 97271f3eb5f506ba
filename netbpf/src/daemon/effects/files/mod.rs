//! The files in a container's `/etc`. [`hosts`] and [`resolv_conf`] create the texts; [`own`] and
//! [`borrowed`] write them, only by [`crate::sandbox::SharedFile`], because a container may have replaced the
//! file by anything. This file reads the host's files.

mod borrowed;
mod hosts;
pub(super) mod kept;
mod own;
mod resolv_conf;

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    path::Path,
};

use nix::net::if_::if_nametoindex;

pub use borrowed::{borrow, give_back, is_engines_own, is_made_anew, servers};
pub use kept::write_whole;
pub use own::{Before, Texts, make, take_back, update};
pub use resolv_conf::{HOST_FILE, SYSTEMD_FILE};

use crate::{
    daemon::{Error, state::world::World},
    model::{Container, Mode, Sandbox},
};
use hosts::Hosts;
use resolv_conf::{ResolvConf, Server};

/// The texts of a container's files, with a line in `/etc/hosts` for each of `linked`.
pub fn texts_of(
    container: &Container,
    sandbox: &Sandbox,
    world: &World,
    linked: Vec<(String, IpAddr)>,
) -> Result<Texts, Error> {
    Ok(Texts {
        hosts: hosts_of(container, sandbox, linked)?,
        resolv_conf: resolv_conf_of(container, sandbox, world)?,
    })
}

/// `/etc/hosts` of a container; with the host's network, the host's file.
fn hosts_of(container: &Container, sandbox: &Sandbox, linked: Vec<(String, IpAddr)>) -> Result<Hosts, Error> {
    if sandbox.mode == Mode::Host && sandbox.extra_hosts.is_empty() {
        return Ok(Hosts { head: read("/etc/hosts")?, lines: Vec::new() });
    }
    let ipv6 = Path::new("/proc/net/if_inet6").exists();
    let addresses = container.endpoints().flat_map(|endpoint| endpoint.addresses());
    let mut extra = sandbox.extra_hosts.clone();
    extra.extend(linked);
    Ok(Hosts::new(ipv6, &extra, &sandbox.hostname, addresses))
}

/// `/etc/resolv.conf` of a container.
fn resolv_conf_of(container: &Container, sandbox: &Sandbox, world: &World) -> Result<String, Error> {
    let mut networks =
        container.attachments.iter().filter_map(|attachment| world.network(&attachment.network));
    let has_names = networks.any(|network| network.has_names());
    let conf = match sandbox.mode {
        Mode::Host => ResolvConf::parse(HOST_FILE, &read(HOST_FILE)?),
        Mode::None | Mode::Networks | Mode::Container(_) => host_conf()?,
    };
    let conf = conf.overridden(&sandbox.dns, &sandbox.dns_search, &sandbox.dns_options);
    Ok(match sandbox.mode {
        Mode::Networks if has_names => conf.for_names(),
        Mode::Networks => conf.for_default_network(),
        Mode::None | Mode::Host | Mode::Container(_) => conf.unchanged(),
    })
}

/// The host's name servers for the responder, without those on an interface that does not exist.
pub fn host_servers() -> Result<Vec<SocketAddr>, Error> {
    Ok(host_conf()?.servers().iter().filter_map(socket_address).collect())
}

/// The addresses of the host's name servers, which no network may contain.
pub fn host_resolvers() -> Result<Vec<IpAddr>, Error> {
    Ok(host_conf()?.servers().iter().map(|server| server.address).collect())
}

/// An identifier of this host: its machine ID, or its name if there is none.
pub fn host_id() -> Result<String, Error> {
    let id = read("/etc/machine-id")?.trim().to_owned();
    Ok(if id.is_empty() {
        nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
    } else {
        id
    })
}

fn socket_address(server: &Server) -> Option<SocketAddr> {
    const DNS: u16 = 53;
    match (server.address, &server.zone) {
        (IpAddr::V6(address), Some(zone)) => {
            let scope = if_nametoindex(zone.as_str()).ok()?;
            Some(SocketAddrV6::new(address, DNS, 0, scope).into())
        }
        (address, _) => Some((address, DNS).into()),
    }
}

/// The host's `resolv.conf`, or systemd-resolved's file if only that has the real servers.
fn host_conf() -> Result<ResolvConf, Error> {
    let conf = ResolvConf::parse(HOST_FILE, &read(HOST_FILE)?);
    if conf.is_systemd_stub() && Path::new(SYSTEMD_FILE).exists() {
        return Ok(ResolvConf::parse(SYSTEMD_FILE, &read(SYSTEMD_FILE)?));
    }
    Ok(conf)
}

/// A file of the host; empty if it is missing.
fn read(path: &str) -> Result<String, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(Error::File { operation: "read", path: path.into(), source }),
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::File { operation, path: path.to_owned(), source }
}
