//! Containers of runtimes that execute netbpf as their plugin.

use std::{fs, path::PathBuf};

use super::rig::{Rig, despite_each_call_failing, with_each_call_failing};
use crate::{
    daemon::{AttachRequest, AttachmentKey, Error},
    model::{ContainerPort, EndpointRequest, Network, Protocol, Publish, Runtime},
};

fn key(container: &str, interface: &str) -> AttachmentKey {
    AttachmentKey {
        runtime: Runtime::Cni,
        container: container.to_owned(),
        configuration: "mynet".to_owned(),
        interface: interface.parse().unwrap(),
    }
}

fn request(key: AttachmentKey, namespace: PathBuf, networks: &[&Network]) -> AttachRequest {
    let joined = networks.iter().map(|network| (network.name.clone(), EndpointRequest::default()));
    AttachRequest {
        name: format!("pod-{}", key.container),
        key,
        is_pod: false,
        namespace,
        inode: None,
        networks: joined.collect(),
        publish: vec![Publish {
            container: ContainerPort { number: 80, protocol: Protocol::Tcp },
            host: None,
            host_ports: None,
        }],
        reserves_ports: false,
        servers: Vec::new(),
    }
}

/// Two networks, and a request for both.
async fn two_networks(rig: &Rig) -> AttachRequest {
    let first = rig.network().await.unwrap();
    let second = rig.network_with_ipv6().await.unwrap();
    request(key("c1", "eth0"), rig.namespace("blue"), &[&first, &second])
}

async fn attached(rig: &Rig) -> AttachRequest {
    let request = two_networks(rig).await;
    rig.daemon.attach(request.clone()).await.unwrap();
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_attached_completely_or_not_at_all() {
    let failed = with_each_call_failing(two_networks, async |rig, request| {
        rig.daemon.attach(request.clone()).await.map(drop)
    })
    .await;
    for call in ["create a link", "set a default route", "publish", "send a record"] {
        assert!(failed.contains(&call), "{call} of {failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_detached_whatever_fails_once() {
    let failed = despite_each_call_failing(
        attached,
        async |rig, request| rig.daemon.detach(&request.key, None).await,
        |shape| shape.containers().is_empty() && shape.machine().endpoints.is_empty(),
    )
    .await;
    assert!(failed.contains(&"delete a link"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_is_asked_for_once_and_detached_as_often_as_wanted() {
    let rig = Rig::start().await;
    let request = attached(&rig).await;
    let before = rig.shape();
    let again = rig.daemon.attach(request.clone()).await;
    assert!(matches!(again, Err(Error::InterfaceExists { .. })), "{again:?}");
    before.assert_same(&rig.shape(), "after the second request");
    for other in [
        key("c2", "eth0"),
        key("c1", "eth1"),
        AttachmentKey { runtime: Runtime::Podman, ..key("c1", "eth0") },
    ] {
        rig.daemon.detach(&other, None).await.unwrap();
        before.assert_same(&rig.shape(), "after others were detached");
    }
    for _ in 0..2 {
        rig.daemon.detach(&request.key, None).await.unwrap();
        assert!(rig.shape().containers().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_one_containers_except_for_pods() {
    let rig = Rig::start().await;
    let network = rig.network().await.unwrap();
    let of = |container: &str, is_pod: bool| AttachRequest {
        name: "web".to_owned(),
        is_pod,
        ..request(key(container, "eth0"), rig.namespace(container), &[&network])
    };
    rig.daemon.attach(of("c1", true)).await.unwrap();
    let before = rig.shape();
    let refused = rig.daemon.attach(of("c2", false)).await;
    assert!(matches!(refused, Err(Error::ContainerExists { .. })), "{refused:?}");
    before.assert_same(&rig.shape(), "after a refusal");
    rig.daemon.attach(of("c3", true)).await.unwrap();
    let shape = rig.shape();
    let mut names: Vec<_> = shape.containers().iter().map(|container| container.name.as_str()).collect();
    names.sort_by_key(|name| name.len());
    assert!(names[0] == "web" && names[1].starts_with("web-"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_namespace_replaces_one_that_is_gone_and_no_other() {
    let rig = Rig::start().await;
    let former = attached(&rig).await;
    let next = AttachRequest { namespace: rig.namespace("green"), ..former.clone() };
    let refused = rig.daemon.attach(next.clone()).await;
    assert!(matches!(refused, Err(Error::OtherNamespace(_))), "{refused:?}");
    // A runtime that means another container with the same ID.
    rig.daemon.detach(&former.key, Some(&next.namespace)).await.unwrap();
    assert_eq!(rig.shape().containers().len(), 1);
    // The file of the former namespace is another one now.
    fs::remove_file(&former.namespace).unwrap();
    rig.machine.change(|state| state.end_namespace(&former.namespace));
    rig.namespace("red");
    let attached = rig.daemon.attach(next).await.unwrap();
    assert_eq!(attached.interfaces.len(), 2);
    assert_eq!(rig.shape().containers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_a_container_as_long_as_its_namespace_is_the_same() {
    let rig = Rig::start().await;
    let request = attached(&rig).await;
    let before = rig.shape();
    let rig = rig.restart().await;
    before.assert_same(&rig.shape(), "after a restart");
    // Another file at the same path, while the former inode is in use.
    let kept = request.namespace.with_extension("kept");
    fs::rename(&request.namespace, kept).unwrap();
    fs::write(&request.namespace, "").unwrap();
    let rig = rig.restart().await;
    assert!(rig.shape().containers().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_removes_what_is_not_listed_of_one_configuration() {
    let rig = Rig::start().await;
    let network = rig.network().await.unwrap();
    for container in ["c1", "c2"] {
        let request = request(key(container, "eth0"), rig.namespace(container), &[&network]);
        rig.daemon.attach(request).await.unwrap();
    }
    for (configuration, runtime, left) in
        [("other", Runtime::Cni, 2), ("mynet", Runtime::Podman, 2), ("mynet", Runtime::Cni, 1)]
    {
        let keep = [("c2".to_owned(), "eth0".to_owned())];
        rig.daemon.collect(runtime, configuration, &keep).await.unwrap();
        assert_eq!(rig.shape().containers().len(), left, "{configuration}");
    }
    assert_eq!(rig.shape().containers()[0].name, "pod-c2");
}
