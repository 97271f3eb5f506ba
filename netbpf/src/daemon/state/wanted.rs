//! What the host must have, derived from the model: the networks' rules, the wiring of networks and endpoints, default
//! routes. Must not know what the host has.

use std::collections::BTreeMap;

use crate::{
    daemon::state::world::World,
    model::{Access, AccessOptions, Attachment, Container, Id, Namespace},
    plan::{Action, Desired, EndpointWiring, NetworkRules, NetworkWiring, Unleased, default_gateways},
};

impl World {
    /// The rules of all networks.
    pub fn rules(&self) -> Vec<NetworkRules> {
        self.networks().filter_map(NetworkRules::of).collect()
    }

    /// All that the daemon with this link group has on the host.
    pub fn desired(&self, group: u32) -> Desired {
        let networks =
            self.networks().filter_map(NetworkWiring::of).map(|wiring| (wiring.number, wiring)).collect();
        let mut endpoints = BTreeMap::new();
        for container in self.containers() {
            let namespace = match (container.owner().places_interface(), container.namespace()) {
                (true, _) => None,
                (false, Some(namespace)) => Some(namespace),
                (false, None) => continue,
            };
            endpoints.extend(self.wirings_of(container, namespace.as_ref()));
        }
        Desired { group, networks, endpoints }
    }

    /// The wiring of a network, by its number.
    pub fn network_wiring(&self, number: u32) -> Option<NetworkWiring> {
        self.networks().filter_map(NetworkWiring::of).find(|wiring| wiring.number == number)
    }

    /// The container that has an endpoint, by the endpoint's number.
    pub fn owner_of_endpoint(&self, number: u32) -> Option<Id> {
        self.endpoint_numbered(number).map(|(container, _)| container.id)
    }

    /// The container that has an endpoint, and the endpoint's attachment, by the endpoint's number.
    pub fn endpoint_numbered(&self, number: u32) -> Option<(&Container, &Attachment)> {
        let has_it = |attachment: &&Attachment| {
            attachment.endpoint.as_ref().is_some_and(|endpoint| endpoint.number == number)
        };
        self.containers().find_map(|container| Some((container, container.attachments.iter().find(has_it)?)))
    }

    /// The wiring of a container's endpoints, by their numbers.
    pub fn wirings_of(
        &self,
        container: &Container,
        namespace: Option<&Namespace>,
    ) -> BTreeMap<u32, EndpointWiring> {
        self.wirings(container, &container.attachments, namespace)
    }

    /// The same for the endpoints that `other` has not.
    pub fn wirings_without(
        &self,
        container: &Container,
        other: &Container,
        namespace: Option<&Namespace>,
    ) -> BTreeMap<u32, EndpointWiring> {
        let attachments = container.endpoints_without(other).map(|(attachment, _)| attachment);
        self.wirings(container, attachments, namespace)
    }

    fn wirings<'a>(
        &self,
        container: &Container,
        attachments: impl IntoIterator<Item = &'a Attachment>,
        namespace: Option<&Namespace>,
    ) -> BTreeMap<u32, EndpointWiring> {
        let of = |attachment: &Attachment| {
            let bridge = self.network(&attachment.network)?.bridge()?;
            EndpointWiring::of(attachment, bridge, container, namespace.cloned())
        };
        let wirings = attachments.into_iter().filter_map(of);
        wirings.map(|wiring| (wiring.number, wiring)).collect()
    }

    /// The addresses in the networks that nobody has. A network without guard has none: its members may use any.
    pub fn unleased(&self) -> Unleased {
        let mut unleased = Unleased::default();
        for network in self.networks() {
            let Some(bridge) = network.bridge() else { continue };
            let members = self.members(&network.id).flat_map(|member| &member.attachments);
            let members: Vec<_> = members.filter(|attachment| attachment.network == network.id).collect();
            let of_network = AccessOptions::default().within(&bridge.options.access);
            let access: Vec<Access> =
                members.iter().map(|attachment| attachment.access(bridge)).chain([of_network]).collect();
            if access.iter().any(|access| !access.guard) {
                continue;
            }
            let further: Vec<_> = access.iter().flat_map(|access| &access.addresses).copied().collect();
            bridge.nets().for_each(|net| unleased.add(net, further.clone()));
            let leased = members.iter().filter_map(|attachment| attachment.endpoint.as_ref());
            let leased = leased.flat_map(|endpoint| endpoint.addresses());
            bridge.reserved().chain(leased).for_each(|address| unleased.leave_out(address));
        }
        unleased
    }

    /// The actions for changed default routes. Without a gateway there is nothing to do: the kernel removes the route with
    /// the interface that it led to.
    pub fn route_changes(&self, before: &Container, after: &Container, namespace: &Namespace) -> Vec<Action> {
        if !after.owner().has_our_default_routes() {
            return Vec::new();
        }
        let [before, after] =
            [before, after].map(|container| default_gateways(container, |id| self.network(id)));
        let changes = before.changes(after).filter(|(_, route)| route.has_gateway());
        let set = |(before, route)| Action::SetDefaultRoute { namespace: namespace.clone(), route, before };
        changes.map(set).collect()
    }
}
