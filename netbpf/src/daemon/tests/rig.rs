//! A daemon with a store in a directory of its own, on a host in memory.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use tempfile::TempDir;

use crate::{
    daemon::{
        Daemon, Error, Host, Names, Options, Owners, State,
        parts::{self, Machine},
        tell::events::Events,
    },
    ipam::Resolved,
    model::{
        self, Attachment, Container, Driver, EndpointRequest, EngineContainer, Id, Mode, Network, Origin,
        Publish, RESOLVER, Sandbox, Subject, Subnet,
    },
    process,
    sandbox::SealedProgram,
    store::{Change, Store},
};

/// Calls after the commit, or beside the change: a failure is logged.
const AFTER_THE_COMMIT: [&str; 2] = ["allow", "announce an address"];

/// A `resolv.conf` that names an engine's own resolver.
pub const ENGINES_FILE: &str = "nameserver 127.0.0.11\noptions ndots:0\n";

/// A daemon and its host.
pub struct Rig {
    pub daemon: Arc<Daemon>,
    pub machine: Machine,
    dir: TempDir,
}

/// All that a change may change.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    machine: parts::State,
    networks: Vec<Network>,
    containers: Vec<Container>,
    /// The files of containers, and those of an engine, with their content.
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Rig {
    /// A started daemon with the predefined networks.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["state/containers", "run/containers", "netns", "engine"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("program"), "#!/bin/false\n").unwrap();
        let machine = Machine::default();
        let daemon = open(&dir, &machine);
        let rig = Self { daemon, machine, dir };
        rig.daemon.reconcile().await.unwrap();
        rig.daemon.add_predefined_networks().await.unwrap();
        rig
    }

    /// The same host and store with a new daemon; the former one was killed.
    pub async fn restart(self) -> Self {
        let Self { daemon, machine, dir } = self;
        daemon.state.close();
        drop(daemon);
        let daemon = open(&dir, &machine);
        daemon.reconcile().await.unwrap();
        Self { daemon, machine, dir }
    }

    pub fn shape(&self) -> Shape {
        let world = self.daemon.state.world();
        let mut networks: Vec<_> = world.networks().cloned().collect();
        for network in &mut networks {
            if let Driver::Bridge(bridge) = &mut network.driver {
                // The name that was asked for is not stored, but the device's.
                bridge.options.device = None;
            }
        }
        networks.sort_by_key(|network| network.id);
        let mut containers: Vec<_> = world.containers().cloned().collect();
        containers.sort_by_key(|container| container.id);
        let mut files = BTreeMap::new();
        for folder in ["state/containers", "engine"] {
            read_all(&self.dir.path().join(folder), &mut files);
        }
        Shape { machine: self.machine.state(), networks, containers, files }
    }

    /// Creates the network `mynet`, 10.1.0.0/24.
    pub async fn network(&self) -> Result<Network, Error> {
        self.network_of("mynet", "10.1.0.0/24".parse().unwrap(), Origin::Netbpf).await
    }

    /// Creates the network `six`, 10.6.0.0/24 and fd00:6::/64.
    pub async fn network_with_ipv6(&self) -> Result<Network, Error> {
        let gateway = "fd00:6::1".parse().ok();
        let net = "fd00:6::/64".parse().unwrap();
        let ipv6 = Some(Subnet { net, range: None, gateway, auxiliary: Default::default() });
        self.add_network("six", "10.6.0.0/24".parse().unwrap(), ipv6, Origin::Netbpf).await
    }

    pub async fn network_of(&self, name: &str, net: Ipv4Net, origin: Origin) -> Result<Network, Error> {
        self.add_network(name, net, None, origin).await
    }

    async fn add_network(
        &self,
        name: &str,
        net: Ipv4Net,
        ipv6: Option<Subnet<Ipv6Net>>,
        origin: Origin,
    ) -> Result<Network, Error> {
        let network = Network {
            id: Id::random(),
            name: name.to_owned(),
            created: Timestamp::now(),
            driver: Driver::Null,
            internal: false,
            attachable: false,
            options: Default::default(),
            labels: Default::default(),
            origin,
        };
        let gateway = Some(Ipv4Addr::from(u32::from(net.network()) + 1));
        let ipv4 = Some(Subnet { net, range: None, gateway, auxiliary: Default::default() });
        let id = self.daemon.add_bridge(network, Resolved { ipv4, ipv6 }, model::Options::default()).await?;
        Ok(self.daemon.state.world().network(&id).unwrap().clone())
    }

    /// A namespace that exists until it is removed.
    pub fn namespace(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join("netns").join(name);
        fs::write(&path, "").unwrap();
        path
    }

    /// Connects the namespace at `path` to a network.
    pub async fn connect(&self, path: &Path, network: &Network) -> Result<Id, Error> {
        let (id, is_new) = self.daemon.find_or_adopt(&format!("netns:{}", path.display())).await?;
        let done = self.join(id, network).await;
        if done.is_err() && is_new {
            self.daemon.state.world().remove_container(&id);
        }
        done.map(|()| id)
    }

    /// A sandbox that runs: its process is this one. It is in no network yet.
    pub async fn sandbox(&self, name: &str, publish: Vec<Publish>) -> Id {
        let (id, pid) = (Id::random(), std::process::id());
        let sandbox = Sandbox {
            command: vec!["true".to_owned()],
            env: Vec::new(),
            working_dir: "/".into(),
            hostname: name.to_owned(),
            rootfs: None,
            auto_remove: false,
            restart: Default::default(),
            mode: Mode::Networks,
            created_in: String::new(),
            extra_hosts: Vec::new(),
            dns: Vec::new(),
            dns_search: Vec::new(),
            dns_options: Vec::new(),
            publish,
            exposed: Default::default(),
            publish_all: false,
            no_new_privileges: false,
        };
        let container = Container {
            id,
            name: name.to_owned(),
            created: Timestamp::now(),
            subject: Subject::Sandbox(Box::new(sandbox.clone())),
            state: running(pid),
            attachments: Vec::new(),
            labels: Default::default(),
            mappings: Vec::new(),
        };
        fs::create_dir(self.daemon.host.folders.of(&id)).unwrap();
        self.daemon.names.make_files(&container, &sandbox).unwrap();
        let _locked = self.daemon.state.lock_container(id).await;
        self.daemon.state.commit(&[Change::PutContainer(container.clone())]).unwrap();
        self.daemon.state.world().put_container(container);
        id
    }

    /// A container of an engine that runs: its process is this one. It is in no network yet. With the engine's file.
    pub fn engine_container(&self, name: &str) -> (Id, PathBuf) {
        let (id, pid) = (Id::random(), std::process::id());
        let folder = self.dir.path().join("engine/containers").join(id.to_string());
        let resolv_conf = folder.join("resolv.conf");
        fs::create_dir_all(&folder).unwrap();
        fs::write(&resolv_conf, ENGINES_FILE).unwrap();
        let subject = EngineContainer {
            image: "tomcat".to_owned(),
            command: vec!["true".to_owned()],
            hostname: name.to_owned(),
            resolv_conf: Some(resolv_conf.clone()),
            sandbox: None,
            servers: vec![RESOLVER.into()],
            addresses: Vec::new(),
        };
        self.daemon.state.world().put_container(Container {
            id,
            name: name.to_owned(),
            created: Timestamp::now(),
            subject: Subject::Engine(Box::new(subject)),
            state: running(pid),
            attachments: Vec::new(),
            labels: Default::default(),
            mappings: Vec::new(),
        });
        (id, resolv_conf)
    }

    /// Connects a container to a network.
    pub async fn join(&self, id: Id, network: &Network) -> Result<(), Error> {
        let before = self.daemon.state.container(&id)?;
        let mut after = before.clone();
        after.attachments.push(Attachment::new(network, EndpointRequest::default()));
        let _locked = self.daemon.state.lock_container(before.id).await;
        self.daemon.wire(before, after).await
    }

    /// Disconnects a container from all networks.
    pub async fn disconnect(&self, id: Id) -> Result<(), Error> {
        let before = self.daemon.state.container(&id)?;
        let after = Container { attachments: Vec::new(), ..before.clone() };
        let _locked = self.daemon.state.lock_container(before.id).await;
        self.daemon.unwire(before, after).await
    }
}

fn running(pid: u32) -> model::State {
    let supervisor = Some((pid, process::start_time(pid).unwrap()));
    model::State::Running { supervisor, started: Timestamp::now() }
}

fn read_all(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => read_all(&path, files),
            false => drop(files.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
}

fn open(dir: &TempDir, machine: &Machine) -> Arc<Daemon> {
    let at = |name: &str| dir.path().join(name);
    let options = Options {
        state_dir: at("state"),
        run_dir: at("run"),
        bpffs: at("bpffs"),
        ip_forward_no_drop: false,
        fast_names: true,
        fast_flows: true,
        docker_socket: at("no-engine.sock"),
        program_logs: false,
        icc: true,
        docker_plugin: None,
        uplinks: Default::default(),
    };
    let (store, records) = Store::open(&at("state").join("netbpf.redb")).unwrap();
    let host = Arc::new(Host::on(machine, &options));
    let state = Arc::new(State::new(store, records));
    Arc::new(Daemon {
        names: Names::new(&state, &host),
        state,
        host,
        owners: Owners::new(&options.docker_socket).unwrap(),
        events: Events::new(),
        judge: Default::default(),
        program: Arc::new(SealedProgram::unsealed(&at("program"))),
        options,
    })
}

/// Does a change again and again on a new rig each time, with another call failing, until none fails. A change
/// that fails must leave everything as it was, and succeed afterwards. Returns the calls that failed.
pub async fn with_each_call_failing<Prepared>(
    prepare: impl AsyncFn(&Rig) -> Prepared,
    change: impl AsyncFn(&Rig, &Prepared) -> Result<(), Error>,
) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for call in 1.. {
        let rig = Rig::start().await;
        let prepared = prepare(&rig).await;
        let before = rig.shape();
        rig.machine.fail_at(call);
        let done = change(&rig, &prepared).await;
        let Some(name) = rig.machine.fail_no_more() else {
            done.unwrap();
            assert_ne!(rig.shape(), before, "the change changes something");
            return failed;
        };
        if AFTER_THE_COMMIT.contains(&name) {
            done.unwrap();
            continue;
        }
        failed.push(name);
        assert!(done.is_err(), "the change succeeded although {name} failed");
        before.assert_same(&rig.shape(), &format!("after {name} failed"));
        change(&rig, &prepared).await.unwrap_or_else(|error| panic!("after {name} failed: {error}"));
    }
    unreachable!("a change has an end")
}

/// The same for a change that is committed before it is carried out: it succeeds, and its result is the same.
pub async fn despite_each_call_failing<Prepared>(
    prepare: impl AsyncFn(&Rig) -> Prepared,
    change: impl AsyncFn(&Rig, &Prepared) -> Result<(), Error>,
    is_done: impl Fn(&Shape) -> bool,
) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for call in 1.. {
        let rig = Rig::start().await;
        let prepared = prepare(&rig).await;
        rig.machine.fail_at(call);
        change(&rig, &prepared).await.unwrap();
        let name = rig.machine.fail_no_more();
        let shape = rig.shape();
        assert!(is_done(&shape), "after {name:?} failed: {shape:#?}");
        match name {
            Some(name) => failed.push(name),
            None => return failed,
        }
    }
    unreachable!("a change has an end")
}

impl Shape {
    /// Fails with the lines that differ.
    #[track_caller]
    pub fn assert_same(&self, now: &Self, when: &str) {
        let [before, after] = [self, now].map(|shape| format!("{shape:#?}"));
        let only = |one: &str, other: &str| -> Vec<String> {
            one.lines().filter(|line| !other.lines().any(|other| other == *line)).map(str::to_owned).collect()
        };
        assert!(
            self == now,
            "{when}:\ngone: {:#?}\nnew: {:#?}",
            only(&before, &after),
            only(&after, &before)
        );
    }

    /// Whether nothing but the default network is left.
    pub fn is_empty(&self) -> bool {
        let machine = &self.machine;
        self.containers.is_empty()
            && machine.links.len() == 1
            && machine.networks.len() == 1
            && machine.rules.len() == 1
            && machine.attached.len() == 1
            && machine.routes.is_empty()
            && machine.endpoints.is_empty()
            && machine.published.is_empty()
            && machine.relayed.is_empty()
            && machine.records.is_empty()
    }

    /// What is on the host.
    pub fn machine(&self) -> &parts::State {
        &self.machine
    }

    /// The containers.
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }
}
