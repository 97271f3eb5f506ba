//! Executes steps in order and remembers their undo. Steps that are not kept are undone, even if a panic ends
//! the change.

use std::{
    mem,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::task::block_in_place;

use crate::{
    daemon::{Daemon, effects::files, error::Error, fault, ports::lease::PortLease},
    dns::{Record, Sockets},
    link::{Family, sysctl},
    model::{Container, Id, Namespace, Sysctl},
    plan::{Action, DefaultRoute, EndpointWiring},
    store::Change,
};

/// The steps that were done, as long as they can be undone.
#[must_use = "steps that are not kept are undone"]
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
    /// No steps.
    pub fn new(daemon: Arc<Daemon>) -> Self {
        Self { daemon, undo: Vec::new() }
    }

    /// Perform actions.
    pub async fn run(&mut self, actions: impl IntoIterator<Item = Action>) -> Result<(), Error> {
        for action in actions {
            self.daemon.perform(&action).await?;
            self.undo.extend(action.undo().map(Undo::Action));
        }
        Ok(())
    }

    /// Update the files of a running container.
    pub fn update_files(&mut self, dir: PathBuf, texts: &files::Texts) -> Result<(), Error> {
        fault::before("update files")?;
        let before = block_in_place(|| files::update(&dir, texts))?;
        self.undo.push(Undo::Files { dir, before });
        fault::after("update files");
        Ok(())
    }

    /// Write netbpf's responder to the `resolv.conf` of an engine's container; the previous content is kept
    /// in `dir`.
    pub fn borrow(&mut self, dir: PathBuf, path: &Path) -> Result<(), Error> {
        fault::before("borrow resolv.conf")?;
        if block_in_place(|| files::borrow(&dir, path))? {
            self.undo.push(Undo::Borrowed { dir });
        }
        fault::after("borrow resolv.conf");
        Ok(())
    }

    /// Send a container's record to the responder.
    pub async fn publish(
        &mut self,
        container: Id,
        record: Record,
        before: Option<Record>,
        sockets: Option<Sockets>,
    ) -> Result<(), Error> {
        fault::before("publish names")?;
        self.undo.push(Undo::Names { container, before });
        self.daemon.feed.upsert(record, sockets).await?;
        fault::after("publish names");
        Ok(())
    }

    /// Keep all steps.
    pub fn keep(mut self) {
        self.undo.clear();
    }

    /// Undo all steps in reverse order. A failed undo is logged and left for the next start, which compares
    /// desired with observed.
    pub async fn undo(mut self) {
        self.daemon.take_back(mem::take(&mut self.undo)).await;
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if self.undo.is_empty() {
            return;
        }
        tracing::error!("a change was interrupted: its steps are undone");
        let (daemon, undo) = (Arc::clone(&self.daemon), mem::take(&mut self.undo));
        tokio::spawn(async move { daemon.take_back(undo).await });
    }
}

impl Daemon {
    async fn take_back(&self, done: Vec<Undo>) {
        for undo in done.into_iter().rev() {
            let failed = match undo {
                // The routes are gone with their namespace.
                Undo::Action(Action::SetDefaultRoute { namespace, .. }) if open(&namespace).is_err() => None,
                Undo::Action(action) => self.perform(&action).await.err(),
                Undo::Files { dir, before } => block_in_place(|| files::take_back(&dir, before)).err(),
                Undo::Borrowed { dir } => block_in_place(|| files::give_back(&dir)).err(),
                Undo::Names { container, before: None } => {
                    self.feed.remove(container).await.err().map(Error::from)
                }
                Undo::Names { before: Some(before), .. } => {
                    self.feed.upsert(before, None).await.err().map(Error::from)
                }
            };
            if let Some(error) = failed {
                tracing::error!(%error, "undo");
            }
        }
    }

    /// Perform one action.
    pub(in crate::daemon) async fn perform(&self, action: &Action) -> Result<(), Error> {
        tracing::debug!(?action, "perform");
        fault::before(action.name())?;
        self.perform_now(action).await?;
        fault::after(action.name());
        Ok(())
    }

    async fn perform_now(&self, action: &Action) -> Result<(), Error> {
        match action {
            Action::AddHostDevice(network) => {
                self.links.create_host_device(network, self.group).await?;
            }
            Action::WriteNetwork(network) => {
                self.datapath().write_network(network.number, &network.entry())?;
            }
            Action::AttachHostDevice { number, interface } => {
                let _expedited = self.grace.expedite();
                block_in_place(|| self.datapath().attach_host_device(*number, interface))?;
            }
            Action::ClearNetwork { number, interface } => {
                self.datapath().remove_network(*number, interface.as_deref())?;
            }
            Action::AddEndpointLink(endpoint) => {
                let namespace = endpoint.namespace.as_ref().map(open).transpose()?;
                self.links.create_endpoint(endpoint, self.group, namespace.as_ref()).await?;
                // Docker configures the interfaces of its endpoints itself.
                let Some(namespace) = namespace else { return Ok(()) };
                if let Err(error) = self.set_sysctls(endpoint, &namespace).await {
                    self.links.delete(endpoint.ifindex()).await?;
                    return Err(error);
                }
            }
            Action::WriteEndpoint(endpoint) => {
                self.datapath().write_endpoint(endpoint.number, &endpoint.entry())?;
            }
            Action::AttachEndpoint { number, interface } => {
                let _expedited = self.grace.expedite();
                block_in_place(|| self.datapath().attach_endpoint(*number, interface))?;
            }
            Action::ClearEndpoint { number, interface } => {
                self.datapath().remove_endpoint(*number, interface.as_deref())?;
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
                    // Both or none.
                    self.firewall.withdraw(mappings).await?;
                    return Err(error);
                }
            }
            Action::Withdraw(mappings) => {
                self.firewall.withdraw(mappings).await?;
                // Last, because it cannot fail: all is withdrawn or nothing.
                self.unrelay(mappings).await;
            }
        }
        Ok(())
    }
}

impl Daemon {
    /// Conclude a change of a container: commit it if its steps succeeded, otherwise undo everything,
    /// including host ports.
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

    /// Write the requested settings of the container's side of an endpoint.
    async fn set_sysctls(
        &self,
        endpoint: &EndpointWiring,
        namespace: &crate::link::Namespace,
    ) -> Result<(), Error> {
        if endpoint.sysctls.is_empty() {
            return Ok(());
        }
        let (interface, sysctls) = (endpoint.interface.clone(), endpoint.sysctls.clone());
        let written = namespace.run(move || {
            sysctls.iter().try_for_each(|Sysctl { family, table, name, value }| {
                sysctl::write(&format!("net/{family}/{table}/{interface}/{name}"), value).map(drop)
            })
        });
        Ok(written.await??)
    }
}

/// Open the network namespace of a container's record.
pub fn open(namespace: &Namespace) -> Result<crate::link::Namespace, Error> {
    Ok(match namespace {
        Namespace::Path(path) => crate::link::Namespace::open_path(path)?,
        Namespace::Process { pid, start_time } => crate::link::Namespace::open_process(*pid, *start_time)?,
    })
}
