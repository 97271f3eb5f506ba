//! Changes what members of a network may send, and how much, while they run: the options of [`AccessOptions`] of an
//! endpoint or a network. Must not know what the programs do with them.

use std::sync::Arc;

use crate::{
    daemon::{Daemon, Error, effects::retry::retry, tell::events::Happened},
    model::{AccessChange, AccessOptions, Container, Id, Network},
    plan::{Action, EndpointWiring},
    store::Change,
};

impl Daemon {
    /// `update`: change options of a container's endpoint in a network. The caller must hold the container's lock.
    pub(in crate::daemon) async fn update_locked(
        self: &Arc<Self>,
        id: Id,
        network: &Id,
        change: &AccessChange,
    ) -> Result<(), Error> {
        let before = self.state.container(&id)?;
        let found = self.state.world().network(network).cloned();
        let network = found.ok_or_else(|| Error::NoNetwork(network.to_string()))?;
        let mut after = before.clone();
        let attachment =
            after.attachments.iter_mut().find(|attachment| attachment.network == network.id).ok_or_else(
                || Error::NotConnected { container: id.to_string(), network: network.name.clone() },
            )?;
        let access = &mut attachment.request.options.access;
        *access = change.apply(access);
        self.state.world().check_access(access, &network)?;
        if after == before {
            return Ok(());
        }
        let mut change = self.begin()?;
        let [old, new] = [&before, &after].map(|container| wiring_in(container, &network));
        let done = change.perform_all(rewriting(old, new)).await;
        change.end_of_container(done, &before, &after).await?;
        self.events.tell(&after, Happened::Updated);
        self.tell_of_members(&id, &[network.id], "update");
        Ok(())
    }

    /// `network update`: change options of a network, and the endpoints of its members that have none of their own.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], or [`Error::Invalid`] if several match; [`Error::Forbidden`] for `host` and `none`;
    /// [`Error::FurtherInUse`]. Otherwise the error of a step: the endpoints are written as before.
    pub async fn update_network(self: &Arc<Self>, key: &str, change: AccessChange) -> Result<(), Error> {
        let _one_at_a_time = self.state.updates.lock().await;
        let before = self.state.world().find_network(key)?.clone();
        let Some(bridge) = before.bridge() else {
            return Err(Error::Forbidden(format!("network {} has no endpoints", before.name)));
        };
        let (old, new) = (bridge.options.access.clone(), change.apply(&bridge.options.access));
        self.state.world().check_access(&new, &before)?;
        if new == old {
            return Ok(());
        }
        let id = before.id;
        // In memory first: who connects from now on gets the new options, and all others are members here.
        self.set_access(&id, new)?;
        let mut done = self.rewrite_members(&before).await;
        if done.is_ok() {
            let _no_other = self.state.network_changes.lock().await;
            // It may have got another name meanwhile, or have been removed.
            let network = self.state.world().network(&id).cloned();
            done = network
                .ok_or_else(|| Error::NoNetwork(before.name.clone()))
                .and_then(|network| self.state.commit(&[Change::PutNetwork(network)]));
        }
        if let Err(error) = done {
            let changed = self.state.world().network(&id).cloned();
            if let (Some(changed), Ok(())) = (changed, self.set_access(&id, old)) {
                retry("undo RewriteEndpoint", || self.rewrite_members(&changed)).await;
            }
            return Err(error);
        }
        self.events.tell_of_network(&before, "update");
        Ok(())
    }

    fn set_access(&self, network: &Id, access: AccessOptions) -> Result<(), Error> {
        let mut world = self.state.world();
        let found = world.network(network).ok_or_else(|| Error::NoNetwork(network.to_string()))?;
        let changed = found.clone().with_access(access);
        world.replace_network(changed);
        Ok(())
    }

    /// Rewrite the endpoints of a network's members, which are written as `before` says. One member after the
    /// other is locked, because each of them may also wait for others.
    async fn rewrite_members(&self, before: &Network) -> Result<(), Error> {
        let members: Vec<Id> = self.state.world().member_ids(&before.id).collect();
        for member in members {
            let _locked = self.state.lock_container(member).await;
            let (Ok(container), Some(now)) =
                (self.state.container(&member), self.state.world().network(&before.id).cloned())
            else {
                continue;
            };
            let [old, new] = [before, &now].map(|network| wiring_in(&container, network));
            for action in rewriting(old, new) {
                self.host.apply(action).await?;
            }
        }
        Ok(())
    }
}

/// The actions that change an endpoint. The map entry first: if a daemon is killed after it, the next one sees that the
/// queueing disciplines may be others.
fn rewriting(before: Option<EndpointWiring>, after: Option<EndpointWiring>) -> Vec<Action> {
    let (Some(before), Some(after)) = (before, after) else { return Vec::new() };
    if before == after {
        return Vec::new();
    }
    let is_reshaped = before.shapers() != after.shapers();
    let shape =
        is_reshaped.then(|| Action::ShapeEndpoint { before: Some(before.clone()), after: after.clone() });
    [Action::RewriteEndpoint { before, after }].into_iter().chain(shape).collect()
}

/// The wiring of a container's endpoint in a network.
fn wiring_in(container: &Container, network: &Network) -> Option<EndpointWiring> {
    let mut attachments = container.attachments.iter();
    let attachment = attachments.find(|attachment| attachment.network == network.id)?;
    EndpointWiring::of(attachment, network.bridge()?, container, container.namespace())
}
