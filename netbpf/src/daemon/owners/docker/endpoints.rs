//! Endpoints of Docker: each is a container with one attachment, under the endpoint's ID. The inner end of
//! its veth pair is created in the host's namespace; Docker moves it from there and back.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;

use super::sweep::Asked;
use crate::{
    daemon::{Daemon, Error, ports::lease::WithoutAddress, state::world::World},
    ipam,
    model::{
        Attachment, Container, ContainerPort, DockerEndpoint, Endpoint, EndpointOptions, EndpointRequest, Id,
        Mac, Network, Origin, Publish, State, Subject,
    },
    plan::{Action, port_changes},
};

/// Docker's request for an endpoint. Netbpf chooses absent values, except for an IPv6 address beside an IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerEndpointRequest {
    /// The network.
    pub network: Id,
    /// Docker's ID of the endpoint.
    pub endpoint: Id,
    /// The address, with the subnet's prefix length.
    pub ipv4: Option<Ipv4Net>,
    /// The address, with the subnet's prefix length.
    pub ipv6: Option<Ipv6Net>,
    /// `--mac-address`.
    pub mac: Option<Mac>,
    /// `--driver-opt`.
    pub options: EndpointOptions,
    /// Exposed ports, of the image and of `--expose`.
    pub exposed: BTreeSet<ContainerPort>,
}

impl DockerEndpointRequest {
    /// Whether Docker leased an IPv4 address only: the network has no IPv6, or the container has none by its settings
    /// (`disable_ipv6`; Docker 28, for example, looks at them).
    fn is_without_ipv6(&self) -> bool {
        self.ipv4.is_some() && self.ipv6.is_none()
    }
}

/// Docker's request to publish ports of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerPorts {
    /// The ports; none to publish no longer any.
    pub publish: Vec<Publish>,
    /// As [`DockerEndpoint::without_relay`].
    pub without_relay: bool,
}

/// What Docker needs to move an endpoint's interface into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The interface's name in the host's namespace.
    pub interface: String,
    /// The prefix of its name in the container; a number follows.
    pub prefix: String,
    /// Its name in the container, if requested.
    pub name: Option<String>,
    /// The gateway of the default route; none in internal networks and without IPv4.
    pub gateway: Option<std::net::Ipv4Addr>,
    /// The same for IPv6.
    pub gateway_ipv6: Option<std::net::Ipv6Addr>,
    /// Whether the network is internal: Docker must not add a default route.
    pub internal: bool,
}

impl Daemon {
    /// Lease the requested values, and create the interface.
    ///
    /// # Errors
    /// [`Error::Forbidden`] if it exists with other values; [`Error::NoNetwork`]; [`Error::Ipam`] or
    /// [`Error::MacInUse`] if a value is taken. Otherwise the error of a step, for example [`Error::Link`]:
    /// the steps before it are undone.
    pub async fn create_docker_endpoint(
        self: &Arc<Self>,
        wanted: DockerEndpointRequest,
    ) -> Result<Endpoint, Error> {
        let id = wanted.endpoint;
        let _locked = self.state.lock_container(id).await;
        let known = self.state.world().container(&id).cloned();
        if let Some(known) = known {
            return asked_again(&known, &wanted)
                .ok_or_else(|| Error::Forbidden(format!("endpoint {id} exists")));
        }
        let network = docker_network(&wanted.network, &self.state.world())?;
        self.owners.recent.note(Asked::Endpoint(id));
        let request = EndpointRequest {
            ipv4: wanted.ipv4.map(|net| net.addr()),
            ipv6: wanted.ipv6.map(|net| net.addr()),
            without_ipv6: wanted.is_without_ipv6(),
            mac: wanted.mac,
            options: wanted.options,
            ..EndpointRequest::default()
        };
        let before = Container {
            id,
            name: format!("ep-{}", id.short()),
            created: Timestamp::now(),
            subject: Subject::Docker(Box::new(DockerEndpoint {
                exposed: wanted.exposed,
                ..DockerEndpoint::default()
            })),
            state: State::Running { supervisor: None, started: Timestamp::now() },
            attachments: Vec::new(),
            labels: Default::default(),
            mappings: Vec::new(),
        };
        let after =
            Container { attachments: vec![Attachment::new(&network, request.clone())], ..before.clone() };
        match self.wire(before.clone(), after.clone()).await {
            Err(Error::Ipam(ipam::Error::InUse) | Error::MacInUse { .. }) => {
                // Docker leases an address only once: an endpoint that has it was forgotten by Docker.
                self.forget_stale_in(&network.id, &request).await;
                self.wire(before, after).await
            }
            wired => wired,
        }?;
        let endpoint = self.state.container(&id)?.endpoints().next().cloned();
        endpoint.ok_or(Error::NoEndpoint(id))
    }

    /// `Join`: Docker is about to move the interface into a container's namespace.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], [`Error::NoEndpoint`], [`Error::Store`], or [`Error::Datapath`] if the endpoint's
    /// owner cannot be written: nothing was changed.
    pub async fn join_docker_endpoint(
        self: &Arc<Self>,
        network: Id,
        id: Id,
        sandbox: PathBuf,
    ) -> Result<Joined, Error> {
        let network = docker_network(&network, &self.state.world())?;
        let _locked = self.state.lock_container(id).await;
        let (before, docker) = self.docker_endpoint(&network.id, &id)?;
        let attachment = before.attachments.first().ok_or(Error::NoEndpoint(id))?;
        let (Some(endpoint), Some(bridge)) = (&attachment.endpoint, network.bridge()) else {
            return Err(Error::NoEndpoint(id));
        };
        let joined = Joined {
            interface: endpoint.interface.to_string(),
            prefix: bridge.options.interface_prefix.to_string(),
            name: attachment.request.options.interface.clone().map(String::from),
            gateway: bridge
                .ipv4
                .as_ref()
                .filter(|_| !network.internal)
                .and_then(|subnet| subnet.default_gateway()),
            gateway_ipv6: bridge
                .ipv6
                .as_ref()
                .filter(|_| !network.internal && endpoint.ipv6.is_some())
                .and_then(|subnet| subnet.default_gateway()),
            internal: network.internal,
        };
        let docker = DockerEndpoint { sandbox: Some(sandbox), ..docker };
        self.put_docker_endpoint(&before, docker).await?;
        self.learn_names(network.id, Some(id));
        Ok(joined)
    }

    /// `Leave`: Docker moves the interface out of the container. The endpoint may be removed already.
    ///
    /// # Errors
    /// [`Error::Store`], or [`Error::Datapath`] if the endpoint's owner cannot be written: nothing was changed.
    pub async fn leave_docker_endpoint(self: &Arc<Self>, network: Id, id: Id) -> Result<(), Error> {
        let _locked = self.state.lock_container(id).await;
        let Ok((before, docker)) = self.docker_endpoint(&network, &id) else { return Ok(()) };
        self.put_docker_endpoint(&before, DockerEndpoint { sandbox: None, ..docker }).await
    }

    /// Remove an endpoint, wherever its interface is. It may be removed already.
    ///
    /// # Errors
    /// [`Error::Store`]: the endpoint stays. What the kernel refuses afterwards is left for the next start.
    pub async fn delete_docker_endpoint(self: &Arc<Self>, id: Id) -> Result<(), Error> {
        let _locked = self.state.lock_container(id).await;
        let Ok(before) = self.state.container(&id) else { return Ok(()) };
        if before.docker_endpoint().is_none() {
            return Ok(());
        }
        let after = Container { attachments: Vec::new(), ..before.clone() };
        self.unwire(before, after).await
    }

    /// Publish exactly these ports at an endpoint. Docker requests this when the endpoint gets its container's default
    /// route of a family, and requests no ports when it loses the route. Two endpoints may have the routes of a family
    /// each. Docker requests all ports of both; so each leaves out those of a family that it does not have.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`], unless no ports are requested; [`Error::Port`] or [`Error::HostPort`] for a port that
    /// cannot be published. Otherwise the error of a step. The ports from before stay published, and no others.
    pub async fn publish_docker_endpoint(
        self: &Arc<Self>,
        network: Id,
        id: Id,
        DockerPorts { publish, without_relay }: DockerPorts,
    ) -> Result<(), Error> {
        let _locked = self.state.lock_container(id).await;
        let (before, docker) = match self.docker_endpoint(&network, &id) {
            Err(Error::NoEndpoint(_)) if publish.is_empty() => return Ok(()),
            found => found?,
        };
        let subject = Subject::Docker(Box::new(DockerEndpoint { publish, without_relay, ..docker }));
        let mut after = Container { subject, ..before.clone() };
        let mut change = self.begin()?;
        change.lease_ports(&before, &mut after, WithoutAddress::LeaveOut).await.map_err(
            |error| match error {
                // Docker adds the same message around it.
                Error::Publish { source, .. } => *source,
                error => error,
            },
        )?;
        if after == before {
            return change.end(Ok(())).await;
        }
        let done = change.perform_all(port_changes(&before.mappings, &after.mappings, &[])).await;
        change.end_of_container(done, &before, &after).await
    }

    /// The prefix lengths of a network's subnets.
    pub fn prefix_lengths(&self, network: &Id) -> (Option<u8>, Option<u8>) {
        let world = self.state.world();
        let bridge = world.network(network).and_then(Network::bridge);
        let ipv4 = bridge.and_then(|bridge| bridge.ipv4.as_ref()).map(|subnet| subnet.net.prefix_len());
        let ipv6 = bridge.and_then(|bridge| bridge.ipv6.as_ref()).map(|subnet| subnet.net.prefix_len());
        (ipv4, ipv6)
    }

    /// Checks that Docker has this endpoint in this network, with an interface.
    ///
    /// # Errors
    /// [`Error::NoEndpoint`] if it has not, or if the interface is gone.
    pub fn check_docker_endpoint(&self, network: Id, id: Id) -> Result<(), Error> {
        self.docker_endpoint(&network, &id).map(drop)
    }

    /// An endpoint of Docker in a network. Without an interface it does not count.
    fn docker_endpoint(&self, network: &Id, id: &Id) -> Result<(Container, DockerEndpoint), Error> {
        let container = self.state.container(id).map_err(|_| Error::NoEndpoint(*id))?;
        let is_there = container.attachments.iter().any(|attachment| {
            let endpoint = attachment.endpoint.as_ref();
            attachment.network == *network && endpoint.is_some_and(|endpoint| !self.host.is_lost(endpoint))
        });
        match container.subject.clone() {
            Subject::Docker(docker) if is_there => Ok((container, *docker)),
            _ => Err(Error::NoEndpoint(*id)),
        }
    }

    pub(super) async fn put_docker_endpoint(
        self: &Arc<Self>,
        before: &Container,
        docker: DockerEndpoint,
    ) -> Result<(), Error> {
        let after = Container { subject: Subject::Docker(Box::new(docker)), ..before.clone() };
        if after == *before {
            return Ok(());
        }
        let mut change = self.begin()?;
        let done = async {
            if after.owner_number() != before.owner_number() {
                let [before, after] =
                    [before, &after].map(|container| self.state.world().wirings_of(container, None));
                for (before, after) in before.into_values().zip(after.into_values()) {
                    change.perform(Action::RewriteEndpoint { before, after }).await?;
                }
            }
            change.perform_all(self.names.change(before, &after)).await
        }
        .await;
        change.end_of_container(done, before, &after).await
    }
}

/// A network that Docker created.
fn docker_network(id: &Id, world: &World) -> Result<Network, Error> {
    let network = world.network(id).filter(|network| network.origin == Origin::Docker);
    network.cloned().ok_or_else(|| Error::NoNetwork(id.to_string()))
}

/// The existing endpoint, if Docker repeats the same request.
fn asked_again(known: &Container, wanted: &DockerEndpointRequest) -> Option<Endpoint> {
    let attachment = known.attachments.iter().find(|attachment| attachment.network == wanted.network)?;
    let request = &attachment.request;
    let is_same = (request.ipv4, request.ipv6, request.mac)
        == (wanted.ipv4.map(|net| net.addr()), wanted.ipv6.map(|net| net.addr()), wanted.mac);
    attachment.endpoint.clone().filter(|_| is_same)
}
