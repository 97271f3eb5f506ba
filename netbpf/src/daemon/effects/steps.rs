//! The one executor: does steps in order and remembers how to take each back. What is dropped without [`Steps::keep`]
//! or [`Steps::undo`] stays done; callers end in one of the two.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::task::block_in_place;

use crate::{
    daemon::{Daemon, effects::files, error::Error, ports::lease::PortLease},
    dns::{Record, Sockets},
    link::{EndpointLink, Family, HostDevice, sysctl},
    model::{Container, Id, Namespace, Sysctl},
    plan::{Action, DefaultRoute, NetworkWiring, PortWiring},
    store::Change,
};

/// Steps that were done, for as long as they may have to be taken back.
pub struct Steps {
    daemon: Arc<Daemon>,
    undo: Vec<Undo>,
}

enum Undo {
    Action(Action),
    Files { dir: PathBuf, before: files::Before },
    Borrowed { dir: PathBuf },
    Names { container: Id, before: Option<Record> },
}

impl Steps {
    /// Nothing done yet.
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Self { daemon, undo: Vec::new() }
    }

    /// Change the kernel.
    pub async fn run(&mut self, actions: impl IntoIterator<Item = Action>) -> Result<(), Error> {
        for action in actions {
            self.daemon.perform(&action).await?;
            self.undo.extend(action.undo().map(Undo::Action));
        }
        Ok(())
    }

    /// Bring the files that a running container sees to what they should say.
    pub fn update_files(&mut self, dir: PathBuf, texts: &files::Texts) -> Result<(), Error> {
        let before = block_in_place(|| files::update(&dir, texts))?;
        self.undo.push(Undo::Files { dir, before });
        Ok(())
    }

    /// Have an engine's container ask netbpf for names; what its file said is kept in `dir`.
    pub fn borrow(&mut self, dir: PathBuf, path: &Path) -> Result<(), Error> {
        if block_in_place(|| files::borrow(&dir, path))? {
            self.undo.push(Undo::Borrowed { dir });
        }
        Ok(())
    }

    /// Let the responder know what a container is called and what it may ask.
    pub async fn publish(
        &mut self,
        container: Id,
        record: Record,
        before: Option<Record>,
        sockets: Option<Sockets>,
    ) -> Result<(), Error> {
        self.undo.push(Undo::Names { container, before });
        self.daemon.feed.upsert(record, sockets).await?;
        Ok(())
    }

    /// Nothing will have to be taken back.
    pub fn keep(self) {}

    /// Take back what was done, the last first. What cannot be taken back is said in the log and left for the next
    /// start, which compares desired with observed.
    pub async fn undo(mut self) {
        while let Some(undo) = self.undo.pop() {
            let failed = match undo {
                // A namespace that has gone took its routes along.
                Undo::Action(Action::SetDefaultRoute { namespace, .. }) if open(&namespace).is_err() => None,
                Undo::Action(action) => self.daemon.perform(&action).await.err(),
                Undo::Files { dir, before } => block_in_place(|| files::take_back(&dir, before)).err(),
                Undo::Borrowed { dir } => block_in_place(|| files::give_back(&dir)).err(),
                Undo::Names { container, before: None } => {
                    self.daemon.feed.remove(container).await.err().map(Error::from)
                }
                Undo::Names { before: Some(before), .. } => {
                    self.daemon.feed.upsert(before, None).await.err().map(Error::from)
                }
            };
            if let Some(error) = failed {
                tracing::error!(%error, "undo");
            }
        }
    }
}

impl Daemon {
    fn host_device(&self, network: &NetworkWiring, gso_max_size: u32) -> HostDevice {
        HostDevice {
            ifindex: netbpf_common::network::ifindex_of(network.number),
            name: network.device.clone(),
            peer: network.peer.clone(),
            mac: network.mac,
            mtu: network.mtu,
            gso_max_size,
            ipv4: network.ipv4.filter(|_| !network.inhibit),
            ipv6: network.ipv6,
            group: self.group,
        }
    }

    fn endpoint_link<'a>(
        &self,
        port: &PortWiring,
        gso_max_size: u32,
        namespace: Option<&'a crate::link::Namespace>,
    ) -> EndpointLink<'a> {
        EndpointLink {
            ifindex: netbpf_common::endpoint::ifindex_of(port.number),
            host_interface: port.host_interface.clone(),
            interface: port.interface.clone(),
            mac: port.mac,
            mtu: port.mtu,
            gso_max_size,
            group: self.group,
            ipv4: port.ipv4,
            ipv6: port.ipv6,
            namespace,
        }
    }

    /// Carry out one action.
    pub(in crate::daemon) async fn perform(&self, action: &Action) -> Result<(), Error> {
        tracing::debug!(?action, "perform");
        match action {
            Action::AddHostDevice(network) => {
                let size = self.links.gso_max_size(network.gso_max_size).await?;
                self.links.create_host_device(&self.host_device(network, size)).await?;
            }
            Action::WriteNetwork(network) => self.datapath().write_network(
                network.number,
                &crate::datapath::NetworkEntry {
                    mac: network.mac,
                    gateway: network.ipv4,
                    gateway_ipv6: network.ipv6,
                    ipv6_link_local: network.ipv6.map(|_| network.mac.link_local()),
                    default_gateway: network.default_gateway,
                    default_gateway_ipv6: network.default_gateway_ipv6,
                    icc: network.icc,
                    flood_copies: network.flood_copies,
                    closed: network.closed,
                },
            )?,
            Action::AttachHostDevice { number, interface } => {
                let _expedited = self.grace.expedite();
                block_in_place(|| self.datapath().attach_host_device(*number, interface))?;
            }
            Action::ClearNetwork { number, interface } => {
                self.datapath().remove_network(*number, interface.as_deref())?;
            }
            Action::AddEndpointLink(port) => {
                let namespace = port.namespace.as_ref().map(open).transpose()?;
                let size = self.links.gso_max_size(port.gso_max_size).await?;
                self.links.create_endpoint(&self.endpoint_link(port, size, namespace.as_ref())).await?;
                // What Docker takes, Docker sets.
                let Some(namespace) = namespace else { return Ok(()) };
                if let Err(error) = self.set_sysctls(port, &namespace).await {
                    self.links.delete(netbpf_common::endpoint::ifindex_of(port.number)).await?;
                    return Err(error);
                }
            }
            Action::WritePort(port) => self.datapath().write_port(
                port.number,
                &crate::datapath::PortEntry {
                    network: port.network,
                    mac: port.mac,
                    ipv4: port.ipv4.map(|net| net.addr()),
                    ipv6: port.ipv6.map(|net| net.addr()),
                    ipv6_link_local: port.ipv6.map(|_| port.mac.link_local()),
                    icc: port.icc,
                    owner: port.owner,
                },
            )?,
            Action::AttachPort { number, interface } => {
                let _expedited = self.grace.expedite();
                block_in_place(|| self.datapath().attach_port(*number, interface))?;
            }
            Action::ClearPort { number, interface } => {
                self.datapath().remove_port(*number, interface.as_deref())?;
            }
            Action::MendDevice { ifindex, interface, mend } => {
                tracing::warn!("somebody changed {interface}: put back {mend}");
                self.links.mend(*ifindex, interface, mend).await?;
            }
            Action::SetUp { ifindex, .. } => self.links.set_up(*ifindex).await?,
            Action::DeleteLink { ifindex, .. } => {
                let _expedited = self.grace.expedite();
                self.links.delete(*ifindex).await?;
            }
            Action::AddRules(rules) => self.firewall.add_network(rules, &self.rules(Some(rules))).await?,
            Action::RemoveRules(rules) => self.firewall.remove_network(rules, &self.rules(None)).await?,
            Action::SetDefaultRoute { namespace, route, .. } => {
                let namespace = open(namespace)?;
                let (family, gateway) = match route {
                    DefaultRoute::Ipv4(gateway) => (Family::Ipv4, gateway.map(IpAddr::from)),
                    DefaultRoute::Ipv6(gateway) => (Family::Ipv6, gateway.map(IpAddr::from)),
                };
                match gateway {
                    Some(gateway) => self.links.set_default_route(&namespace, gateway).await?,
                    None => self.links.remove_default_route(&namespace, family).await?,
                }
            }
            Action::Publish(mappings) => {
                self.firewall.publish(mappings).await?;
                if let Err(error) = self.relay(mappings).await {
                    // Whole or not at all.
                    self.firewall.withdraw(mappings).await?;
                    return Err(error);
                }
            }
            Action::Withdraw(mappings) => {
                self.unrelay(mappings).await;
                self.firewall.withdraw(mappings).await?;
            }
        }
        Ok(())
    }
}

impl Daemon {
    /// The end of a change of a container: once its steps are done it is committed, else all is taken back, ports of the
    /// host included.
    pub(in crate::daemon) async fn conclude(
        &self,
        done: Result<(), Error>,
        steps: Steps,
        ports: PortLease,
        before: &Container,
        after: &Container,
    ) -> Result<(), Error> {
        match done.and_then(|()| self.commit(&[Change::PutContainer(after.clone())])) {
            Ok(()) => {
                steps.keep();
                self.release_ports(before, after);
                self.world().put_container(after.clone());
                Ok(())
            }
            Err(error) => {
                steps.undo().await;
                self.undo_ports(ports).await;
                Err(error)
            }
        }
    }

    /// Give the container's side of a port the settings that were asked for.
    async fn set_sysctls(&self, port: &PortWiring, namespace: &crate::link::Namespace) -> Result<(), Error> {
        if port.sysctls.is_empty() {
            return Ok(());
        }
        let (interface, sysctls) = (port.interface.clone(), port.sysctls.clone());
        let written = namespace.run(move || {
            sysctls.iter().try_for_each(|Sysctl { family, table, name, value }| {
                sysctl::write(&format!("net/{family}/{table}/{interface}/{name}"), value).map(drop)
            })
        });
        Ok(written.await??)
    }
}

/// The network namespace that a container's record names.
pub fn open(namespace: &Namespace) -> Result<crate::link::Namespace, Error> {
    Ok(match namespace {
        Namespace::Path(path) => crate::link::Namespace::open_path(path)?,
        Namespace::Process { pid, start_time } => crate::link::Namespace::open_process(*pid, *start_time)?,
    })
}
