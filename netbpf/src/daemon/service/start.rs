//! Starts the daemon, serves until it is told to stop, and stops it.

use std::{fs, path::Path, pin::pin, sync::Arc, thread, time::Duration};

use anyhow::{Context as _, ensure};
use futures::{FutureExt as _, future::join};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    stat::{Mode, umask},
};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::{
    api::server,
    daemon::{
        Daemon, Events, Host, Inherited, Names, Options, Owners, State,
        effects::{devices::DeviceGuard, flows::FlowGuard, folders, learnt, pins::PinFolder},
        membership::restore::restore_deleted_links,
        names::LoGuard,
        service::{notify, reconcile::tear_down, sockets::Sockets},
        tell::notices,
    },
    datapath::Datapath,
    detached, docker,
    link::{ForwardingChanges, Links, Touches, neighbours},
    logging::with_causes,
    model::{Driver, Network},
    private,
    sandbox::SealedProgram,
    store::{Lock, Store},
};

/// Timeout for running requests when the daemon is told to stop.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Run until SIGTERM or SIGINT. Containers and their traffic continue afterwards.
///
/// # Errors
/// If the user is not root, another daemon uses the same directories, the host lacks something that netbpf
/// needs, or a step of the start or the end cannot be done: the message says what. Existing networks
/// and containers keep running, and the next start tries again. If there are none, nothing is left.
pub async fn run(options: Options, inherited: Inherited) -> anyhow::Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "netbpf daemon needs root: run it with sudo");
    // The inherited umask could let others write to directories and sockets.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let sockets = Sockets::new(options.socket(), options.docker_plugin.clone(), inherited)?;
    notify::status("loading the programs");
    raise_file_limit()?;
    // Members of the group can use the sockets in it, but not list it.
    let _locks = [take(&options.state_dir, None)?, take(&options.run_dir, folders::group())?];
    let pins = Leaving(Arc::new(PinFolder::take(&options.bpffs)?));
    let daemon = open(options, Arc::clone(&pins.0)).await?;
    let (forwarding, touches) = match restore(&daemon).await {
        Ok(changes) => changes,
        Err(error) => {
            // A first start that fails leaves nothing.
            if let Err(error) = stop(&daemon).await {
                tracing::warn!("undo: {}", with_causes(&error));
            }
            return Err(error);
        }
    };
    let (listener, plugin) = sockets.listen()?;
    // Whoever notes something from now on finds the socket at the second attempt.
    daemon.detach_noted().await.context("detach what runtimes detached meanwhile")?;
    let guard = DeviceGuard::new(Arc::clone(&daemon.state), Arc::clone(&daemon.host));
    let devices = tokio::spawn(guard.run(touches));
    let forwarding =
        tokio::spawn(Arc::clone(&daemon.host).keep_forwarding(Arc::clone(&daemon.state), forwarding));
    let filter = tokio::spawn(Arc::clone(&daemon.host).guard_filter(Arc::clone(&daemon.state)));
    let at_lo = tokio::spawn(LoGuard::new(Names::new(&daemon.state, &daemon.host)).run());
    tokio::spawn(Arc::clone(&daemon).sweep_namespaces());
    let follower = tokio::spawn(Arc::clone(&daemon).follow_engine());
    follow_notices(&daemon).context("follow what the programs report")?;
    let macs = daemon.host.datapath().learnt_macs()?;
    if let Some(macs) = macs {
        tokio::spawn(learnt::remove_old(macs));
    }
    let flows = FlowGuard::begin(Arc::clone(&daemon.host)).context("look after established flows")?;
    let flows = flows.map(|flows| tokio::spawn(flows.run()));
    tracing::info!(socket = %daemon.options.socket().display(), "ready");
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // From now on all requests are answered: the sockets listen.
    notify::ready(&format!("serving {}", sockets.named()));
    let (stop_serving, stopped) = oneshot::channel::<()>();
    let stopped = stopped.map(drop).shared();
    let mut serving = pin!(join(
        server::serve(listener, Arc::clone(&daemon), stopped.clone()),
        serve_docker(plugin, Arc::clone(&daemon), stopped),
    ));
    tokio::select! {
        _ = &mut serving => unreachable!("it serves until it is told to stop"),
        done = Arc::clone(&daemon).watch_folders() => done.context("watch the folders of namespaces")?,
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    notify::stopping();
    daemon.events.end();
    drop(stop_serving);
    // Finish running requests, but do not wait for clients that follow logs.
    let _ = tokio::time::timeout(TIMEOUT, serving).await;
    filter.abort();
    at_lo.abort();
    if let Some(flows) = flows {
        flows.abort();
        let _ = flows.await;
        // If this fails, their time is over in seconds.
        if let Err(error) = daemon.host.datapath().stop_flows() {
            tracing::error!("let established flows go through the stack: {error}");
        }
    }
    // It must have ended, or it would undo the restored setting.
    forwarding.abort();
    let _ = forwarding.await;
    devices.abort();
    follower.abort();
    let removed = sockets.remove();
    let stopped = stop(&daemon).await;
    daemon.state.close();
    stopped.and(removed)
}

/// Follows what the programs report, in a thread of its own.
fn follow_notices(daemon: &Arc<Daemon>) -> anyhow::Result<()> {
    let Some(notices) = daemon.host.datapath().take_notices() else { return Ok(()) };
    let daemon = Arc::clone(daemon);
    let follow = move || notices::follow(&daemon.state, &daemon.events, notices);
    thread::Builder::new().name("notices".into()).spawn(follow)?;
    Ok(())
}

/// Makes the host as the store says. Returns the changes by others since before it was read.
async fn restore(daemon: &Arc<Daemon>) -> anyhow::Result<(ForwardingChanges, Touches)> {
    for raised in neighbours::make_room()? {
        tracing::info!("raised {raised}, because all containers share the kernel's neighbour table");
    }
    // Before the forwarding settings are read, so that no change is missed.
    let forwarding = ForwardingChanges::watch()?;
    for family in daemon.host.forwarded_by_us(daemon.state.has_ipv6()) {
        if let Some(effect) = daemon.host.closing(family)? {
            daemon.host.apply(effect).await?;
        }
    }
    daemon.names.feed_host_servers().await?;
    // Before any state is read, so that no deletion is missed.
    let [deletions, deletions_of_docker] = [Links::watch_deleted()?, Links::watch_deleted()?];
    let touches = Links::watch_touched()?;
    notify::status("restoring networks and containers");
    daemon.reconcile().await?;
    let uplink_changes = daemon.host.uplink_changes()?;
    daemon.host.bring_up_uplinks().await?;
    if let Some(changes) = uplink_changes {
        tokio::spawn(Arc::clone(&daemon.host).follow_uplinks(changes));
    }
    let (state, host) = (Arc::clone(&daemon.state), Arc::clone(&daemon.host));
    tokio::spawn(restore_deleted_links(state, host, deletions));
    tokio::spawn(Arc::clone(daemon).watch_docker_endpoints(deletions_of_docker));
    tokio::spawn(Arc::clone(daemon).forget_abandoned_endpoints());
    daemon.add_predefined_networks().await?;
    Ok((forwarding, touches))
}

/// Locks a directory for this daemon, and creates the directory of its containers.
fn take(dir: &Path, group: Option<u32>) -> anyhow::Result<Lock> {
    private::make_folder(dir, group)?;
    // During development, the parent may be a directory of another user.
    if let Some(Err(error)) = dir.parent().map(private::check_parent) {
        tracing::warn!("{error}");
    }
    let lock = Lock::acquire(dir)?;
    private::make_folder(&dir.join("containers"), group)?;
    Ok(lock)
}

/// Leaves the directory of pins at the end, also of a start that failed.
struct Leaving(Arc<PinFolder>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave();
    }
}

async fn open(options: Options, pins: Arc<PinFolder>) -> anyhow::Result<Arc<Daemon>> {
    let exe = std::env::current_exe().context("find this program")?;
    let (store, mut records) = Store::open(&options.state_dir.join("netbpf.redb"))?;
    for network in records.networks.iter_mut().filter(|network| network.name == Network::DEFAULT) {
        // The default network follows the daemon's options.
        if let Driver::Bridge(bridge) = &mut network.driver {
            bridge.options.icc = options.icc;
        }
    }
    let host = Arc::new(Host::open(&options, &exe, pins).await?);
    let state = Arc::new(State::new(store, records));
    Ok(Arc::new(Daemon {
        names: Names::new(&state, &host),
        state,
        host,
        owners: Owners::new(&options.docker_socket).context("start inotify")?,
        events: Events::new(),
        judge: Default::default(),
        program: Arc::new(SealedProgram::open(&exe)?),
        options,
    }))
}

/// Each container with names needs three descriptors, and the responder has copies of two of them.
fn raise_file_limit() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raise the limit of open files")
}

/// Serves Docker until `end`; without a listener, only waits.
async fn serve_docker(
    listener: Option<UnixListener>,
    daemon: Arc<Daemon>,
    end: impl Future<Output = ()> + Send + 'static,
) {
    match listener {
        Some(listener) => docker::serve(listener, daemon, end).await,
        None => end.await,
    }
}

/// If containers run or the user's networks exist, everything stays for the next daemon; otherwise all is
/// removed.
async fn stop(daemon: &Arc<Daemon>) -> anyhow::Result<()> {
    if daemon.state.is_empty() {
        tear_down(&daemon.host).await?;
        daemon.host.restore_backlog()?;
        daemon.host.stop_forwarding().await?;
        daemon.host.firewall.clear().await?;
        daemon.host.feed.stop().await?;
        daemon.host.ports.relay.stop().await?;
        Datapath::unpin_all(&daemon.options.bpffs)?;
        // It stays if a stopped container has a directory in it.
        let _ = fs::remove_dir(daemon.options.run_dir.join("containers"));
        let _ = fs::remove_dir(daemon.options.run_dir.join(detached::FOLDER));
        tracing::info!("stopped; nothing is left");
    } else {
        tracing::info!("stopped; containers, networks and names go on");
    }
    Ok(())
}
