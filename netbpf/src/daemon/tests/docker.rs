//! Docker's endpoints: its requests are carried out completely or not at all.

use std::path::PathBuf;

use super::rig::{Rig, despite_each_call_failing, with_each_call_failing};
use crate::{
    daemon::{DockerEndpointRequest, DockerPorts},
    model::{ContainerPort, EndpointOptions, Id, Network, Origin, Protocol, Publish},
};

async fn network(rig: &Rig) -> Network {
    rig.network_of("docker", "10.1.0.0/24".parse().unwrap(), Origin::Docker).await.unwrap()
}

fn request(network: &Network) -> DockerEndpointRequest {
    DockerEndpointRequest {
        network: network.id,
        endpoint: Id::random(),
        ipv4: Some("10.1.0.2/24".parse().unwrap()),
        ipv6: None,
        mac: None,
        options: EndpointOptions::default(),
        exposed: Default::default(),
    }
}

async fn endpoint(rig: &Rig) -> (Network, Id) {
    let network = network(rig).await;
    let request = request(&network);
    let id = request.endpoint;
    rig.daemon.create_docker_endpoint(request).await.unwrap();
    (network, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_created_completely_or_not_at_all() {
    let prepare = async |rig: &Rig| request(&network(rig).await);
    let failed = with_each_call_failing(prepare, async |rig, request| {
        rig.daemon.create_docker_endpoint(request.clone()).await.map(drop)
    })
    .await;
    assert_eq!(failed, ["write an endpoint", "create a link", "attach a program", "set a link up"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_joins_completely_or_not_at_all() {
    with_each_call_failing(endpoint, async |rig, (network, id)| {
        rig.daemon
            .join_docker_endpoint(network.id, *id, PathBuf::from("/var/run/docker/netns/1"))
            .await
            .map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_published_completely_or_not_at_all() {
    let port = Publish {
        container: ContainerPort { number: 80, protocol: Protocol::Tcp },
        host: None,
        host_ports: None,
    };
    let ports = DockerPorts { publish: vec![port], ..DockerPorts::default() };
    let failed = with_each_call_failing(endpoint, async |rig, (network, id)| {
        rig.daemon.publish_docker_endpoint(network.id, *id, ports.clone()).await
    })
    .await;
    assert!(failed.starts_with(&["publish"]), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_removed_whatever_fails_once() {
    let failed = despite_each_call_failing(
        endpoint,
        async |rig, (_, id)| rig.daemon.delete_docker_endpoint(*id).await,
        |shape| {
            shape.containers().iter().all(|container| container.docker_endpoint().is_none())
                && shape.machine().endpoints.is_empty()
        },
    )
    .await;
    assert!(failed.contains(&"delete a link"), "{failed:?}");
}
