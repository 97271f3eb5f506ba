//! Performs effects: the only place that carries out an [`Effect`] and returns its undo. What no change undoes is done
//! where it belongs: `names` creates a sandbox's files before its start, and sends all records when the daemon starts;
//! `folders` removes the directories of a removed container.

use std::{net::IpAddr, slice};

use tokio::task::block_in_place;

use super::{effect::Effect, files, host::Host, retry::retry};
use crate::{
    daemon::{Error, fault},
    link::Family,
    plan::{Action, DefaultRoute},
};

impl Host {
    /// Performs an effect; returns what undoes it, if anything must.
    ///
    /// # Errors
    /// Then nothing was changed.
    pub async fn perform(&self, effect: Effect) -> Result<Option<Effect>, Error> {
        let name = effect.name();
        fault::before(name)?;
        let undo = self.perform_now(effect).await?;
        fault::after(name);
        Ok(undo)
    }

    /// Performs an effect that will not be undone.
    ///
    /// # Errors
    /// Then nothing was changed.
    pub async fn apply(&self, effect: impl Into<Effect>) -> Result<(), Error> {
        self.perform(effect.into()).await.map(drop)
    }

    /// Performs actions that are committed already, each again if it fails.
    pub async fn carry_out(&self, actions: impl IntoIterator<Item = Action>) {
        for action in actions {
            if self.is_gone_with_its_namespace(&action) {
                continue;
            }
            retry(action.name(), || self.apply(action.clone())).await;
        }
    }

    /// Whether what an action changes does not exist any more: routes are gone with their namespace.
    pub fn is_gone_with_its_namespace(&self, action: &Action) -> bool {
        matches!(action, Action::SetDefaultRoute { namespace, .. } if self.links.namespace(namespace).is_err())
    }

    async fn perform_now(&self, effect: Effect) -> Result<Option<Effect>, Error> {
        Ok(match effect {
            Effect::Kernel(action) => {
                tracing::debug!(?action, "perform");
                self.perform_action(&action).await?;
                action.undo().map(Box::new).map(Effect::Kernel)
            }
            Effect::UpdateFiles { dir, texts } => {
                let before = block_in_place(|| files::update(&dir, &texts))?;
                Some(Effect::RestoreFiles { dir, before })
            }
            Effect::RestoreFiles { dir, before } => {
                block_in_place(|| files::take_back(&dir, before))?;
                None
            }
            Effect::BorrowResolvConf { dir, path } => {
                let is_borrowed = block_in_place(|| files::borrow(&dir, &path))?;
                is_borrowed.then_some(Effect::ReturnResolvConf { dir })
            }
            Effect::ReturnResolvConf { dir } => {
                block_in_place(|| files::give_back(&dir))?;
                None
            }
            Effect::PublishNames { record, before, asking } => {
                let undo = match before {
                    Some(before) => Effect::PublishNames { record: before, before: None, asking: None },
                    None => Effect::WithdrawNames(record.clone()),
                };
                if let Err(error) = self.publish_names(record, asking.as_ref()).await {
                    // The programs or the feed may have the record already, the feed for the next responder.
                    if let Err(error) = Box::pin(self.perform_now(undo)).await {
                        tracing::error!(%error, "undo PublishNames");
                    }
                    return Err(error);
                }
                Some(undo)
            }
            Effect::WithdrawNames(record) => {
                self.withdraw_names(record.container).await?;
                None
            }
            Effect::ChangeSetting { setting, value } => {
                self.settings.change(&setting, value)?.then_some(Effect::RestoreSetting(setting))
            }
            Effect::RestoreSetting(setting) => {
                self.settings.restore(&setting)?;
                None
            }
            Effect::CloseToOthers(family) => {
                let is_new = self.firewall.close_to_others(family == Family::Ipv4).await?;
                is_new.then_some(Effect::OpenToOthers(family))
            }
            Effect::OpenToOthers(family) => {
                self.firewall.open_to_others(family == Family::Ipv4).await?;
                None
            }
        })
    }

    async fn perform_action(&self, action: &Action) -> Result<(), Error> {
        match action {
            Action::AddHostDevice(network) => {
                self.links.create_host_device(network, self.group).await?;
            }
            Action::WriteNetwork(network) => {
                // The first one of more than usual loads all programs again.
                block_in_place(|| self.datapath().write_network(network.number, &network.entry()))?;
            }
            Action::AttachHostDevice { number, interface } => {
                let _expedited = self.grace.expedite();
                block_in_place(|| self.datapath().attach_host_device(*number, interface))?;
            }
            Action::ClearNetwork { number, interface } => {
                self.datapath().remove_network(*number, interface.as_deref())?;
            }
            Action::AddEndpointLink(endpoint) => {
                let namespace =
                    endpoint.namespace.as_ref().map(|named| self.links.namespace(named)).transpose()?;
                self.links.create_endpoint(endpoint, self.group, namespace.as_ref()).await?;
            }
            Action::WriteEndpoint(endpoint) | Action::RewriteEndpoint { after: endpoint, .. } => {
                // The first open endpoint loads programs, and the first one of more than usual loads them again.
                block_in_place(|| self.datapath().write_endpoint(endpoint.number, endpoint.entry()))?;
            }
            Action::ShapeEndpoint { before, after } => {
                let inside = after.inside().and_then(|named| self.links.namespace(named).ok());
                self.links.shape(before.as_ref(), after, inside.as_ref()).await?;
            }
            Action::AttachEndpoint { number, interface } => {
                let _expedited = self.grace.expedite();
                block_in_place(|| self.datapath().attach_endpoint(*number, interface))?;
            }
            Action::ClearEndpoint { number, interface } => {
                // The last open or asking endpoint takes programs out of TAIL_CALLS.
                let _expedited = self.grace.expedite();
                block_in_place(|| self.datapath().remove_endpoint(*number, interface.as_deref()))?;
            }
            Action::MendDevice { ifindex, interface, mend } => {
                self.links.mend(*ifindex, interface, mend).await?;
                self.repairs.note(format!("somebody changed {interface}: put back {mend}"));
            }
            Action::SetUp { ifindex, .. } => self.links.set_up(*ifindex).await?,
            Action::DeleteLink { ifindex, .. } => {
                let _expedited = self.grace.expedite();
                self.links.delete(*ifindex).await?;
            }
            Action::AddRules { network, others } => {
                let all = [others.as_slice(), slice::from_ref(network)].concat();
                self.firewall.add_network(network, &all).await?;
            }
            Action::RemoveRules { network, others } => {
                self.firewall.remove_network(network, others).await?;
            }
            Action::SetDefaultRoute { namespace, route, .. } => {
                let namespace = self.links.namespace(namespace)?;
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
                if let Err(error) = self.ports.relay(mappings).await {
                    // Both or none. The error to return is that of the relay.
                    if let Err(error) = self.firewall.withdraw(mappings, &[]).await {
                        tracing::warn!("undo: {error}");
                    }
                    return Err(error);
                }
            }
            Action::Withdraw { mappings, leaving } => {
                let addresses = mappings.iter().map(|mapping| mapping.container).collect();
                self.datapath().end_flows_of(&addresses)?;
                self.firewall.withdraw(mappings, leaving).await?;
                // From here on nothing can fail: all is withdrawn or nothing. A flow that was entered in the meantime ends at
                // the next look if it does not end now, because its conntrack entry is gone.
                if let Err(error) = self.datapath().end_flows_of(&addresses) {
                    tracing::warn!("{error}");
                }
                self.ports.unrelay(mappings).await;
            }
            Action::ForgetFlows(addresses) => self.firewall.forget(addresses.iter().copied()).await?,
            Action::ForgetUnleased(unleased) => self.firewall.forget_unleased(unleased).await?,
        }
        Ok(())
    }
}
