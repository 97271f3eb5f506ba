//! Creates the container's namespaces, before anything is mounted or connected.

use std::{
    fs::{self, File},
    io,
};

use nix::sched::{CloneFlags, setns, unshare};

use super::{
    error::{Error, call},
    spec::{Network, Spec},
    sys,
};

/// Moves this process and its future children to the container's namespaces. Only the children are in the new PID
/// namespace; the first of them is its process 1.
pub(super) fn enter(spec: &Spec) -> Result<(), Error> {
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWPID;
    if spec.rootfs.is_some() {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    match &spec.network {
        Network::New => flags |= CloneFlags::CLONE_NEWNET,
        Network::Host => {}
        Network::Join(path) => {
            let failed = || call::<io::Error>("join network namespace", path.display());
            let namespace = File::open(path).map_err(failed())?;
            setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| failed()(errno.into()))?;
        }
    }
    unshare(flags).map_err(call("create", "namespaces"))?;
    nix::unistd::sethostname(&spec.hostname).map_err(call("set host name", &spec.hostname))?;
    if spec.network == Network::New {
        sys::loopback_up().map_err(call("bring up", "lo"))?;
        // Docker's defaults: every user may bind low ports and ping. Fails on kernels without these settings.
        let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
        let _ = fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    }
    Ok(())
}
