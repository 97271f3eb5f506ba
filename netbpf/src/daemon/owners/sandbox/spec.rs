//! What a sandbox's supervisor is told: the process, its namespaces and its files. Starts nothing.

use std::{
    os::fd::{AsFd, AsRawFd},
    path::PathBuf,
};

use crate::{
    daemon::{
        Error, Options,
        effects::{folders, host::Host},
        parts,
        state::{State, namespace_of, world::World},
    },
    model::{self, Container, Id, Mode, Sandbox},
    sandbox,
};

/// Sockets of engines, and directories of their helpers.
const ENGINES: [&str; 5] = ["/run/docker.sock", "/run/docker", "/run/containerd", "/run/podman", "/run/crio"];

/// The specification for the supervisor, and the namespace to join, which must be kept open until it has
/// joined.
pub(super) fn spec_of(
    options: &Options,
    state: &State,
    host: &Host,
    container: &Container,
    sandbox: &Sandbox,
) -> Result<(sandbox::Spec, Option<parts::Namespace>), Error> {
    let mut joined = None;
    let (network, files) = match &sandbox.mode {
        Mode::Networks | Mode::None => (sandbox::Network::New, container.id),
        Mode::Host => (sandbox::Network::Host, container.id),
        Mode::Container(other) => {
            let owner = joined_container(other, &state.world())?;
            match namespace_of(&owner) {
                Ok(namespace) => {
                    let namespace = joined.insert(host.links.namespace(&namespace)?);
                    // By the open descriptor, because a PID may be reused.
                    let descriptor = namespace.as_fd().as_raw_fd();
                    let path = format!("/proc/{}/fd/{descriptor}", std::process::id());
                    (sandbox::Network::Join(path.into()), owner_of_files(owner, &state.world())?)
                }
                Err(_) => {
                    let word = match owner.state {
                        model::State::Exited { .. } => "exited",
                        model::State::Created { .. } | model::State::Running { .. } => "created",
                    };
                    return Err(Error::JoinNotRunning(owner.id.to_string(), word.into()));
                }
            }
        }
    };
    let files = host.folders.of(&files);
    let spec = sandbox::Spec {
        id: container.id.to_string(),
        hostname: sandbox.hostname.clone(),
        command: sandbox.command.clone(),
        env: sandbox.env.clone(),
        working_dir: sandbox.working_dir.clone(),
        rootfs: sandbox.rootfs.clone(),
        no_new_privileges: sandbox.no_new_privileges,
        hidden: hidden(options),
        network,
        files: sandbox::Files {
            hosts: files.join("hosts"),
            resolv_conf: files.join("resolv.conf"),
            hostname: files.join("hostname"),
        },
        log: host.folders.log_of(&container.id),
        socket_group: folders::group(),
    };
    Ok((spec, joined))
}

/// Sockets of this daemon and of engines on the host, and this daemon's state: it has the environments and logs of
/// all sandboxes. They are hidden from sandboxes that use the host's files.
fn hidden(options: &Options) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = ENGINES.iter().map(PathBuf::from).collect();
    paths.push(options.run_dir.clone());
    paths.push(options.state_dir.clone());
    paths.push(options.docker_socket.clone());
    paths.extend(options.docker_plugin.clone());
    paths
}

/// The container whose `/etc` files a container has. One that joined the network of another has the files
/// of that one, which may have joined a third one.
fn owner_of_files(mut container: Container, world: &World) -> Result<Id, Error> {
    while let Some(Mode::Container(other)) = container.owner().mode() {
        container = joined_container(other, world)?;
    }
    Ok(container.id)
}

/// The container that another one joins.
fn joined_container(id: &Id, world: &World) -> Result<Container, Error> {
    let found = world.container(id).cloned();
    found.ok_or_else(|| Error::NoContainer(format!("joining network namespace of container: {id}")))
}
