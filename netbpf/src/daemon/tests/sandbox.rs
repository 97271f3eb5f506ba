//! A running sandbox: its default route, published ports, names and files change with its networks and its
//! name, all or none of them.

use nix::errno::Errno;

use super::rig::{Rig, despite_each_call_failing, with_each_call_failing};
use crate::{
    daemon::Error,
    model::{ContainerPort, Id, Network, Origin, Protocol, Publish},
};

fn port() -> Publish {
    Publish {
        container: ContainerPort { number: 80, protocol: Protocol::Tcp },
        host: Some("127.0.0.1".parse().unwrap()),
        host_ports: None,
    }
}

/// A network, and a sandbox in it.
async fn member(rig: &Rig) -> (Network, Id) {
    let network = rig.network().await.unwrap();
    let id = rig.sandbox("web", vec![port()]).await;
    rig.join(id, &network).await.unwrap();
    (network, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_is_connected_completely_or_not_at_all() {
    let prepare = async |rig: &Rig| (rig.network().await.unwrap(), rig.sandbox("web", vec![port()]).await);
    let failed =
        with_each_call_failing(prepare, async |rig, (network, id)| rig.join(*id, network).await).await;
    assert_eq!(
        failed,
        [
            "write an endpoint",
            "create a link",
            "attach a program",
            "set a link up",
            "set a default route",
            "publish",
            "set names",
            "set a resolver",
            "add a discipline",
            "add a filter",
            "send a record",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_route_and_ports_move_with_a_network_or_stay() {
    let prepare = async |rig: &Rig| {
        let (_, id) = member(rig).await;
        (rig.network_of("alpha", "10.2.0.0/24".parse().unwrap(), Origin::Netbpf).await.unwrap(), id)
    };
    // The first network by name has the default route.
    let failed =
        with_each_call_failing(&prepare, async |rig, (network, id)| rig.join(*id, network).await).await;
    for call in ["set a default route", "withdraw", "publish"] {
        assert!(failed.contains(&call), "{call} of {failed:?}");
    }
    // Ports are withdrawn only if no established flow can go on through them.
    let rig = Rig::start().await;
    let (network, id) = prepare(&rig).await;
    let before = rig.shape();
    rig.machine.refuse("end flows", Errno::ENOMEM);
    rig.join(id, &network).await.unwrap_err();
    rig.machine.refuse_nothing();
    before.assert_same(&rig.shape(), "after established flows could not be ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_leaves_whatever_fails_once() {
    let failed = despite_each_call_failing(
        member,
        async |rig, (_, id)| rig.disconnect(*id).await,
        |shape| {
            let machine = shape.machine();
            machine.endpoints.is_empty()
                && machine.routes.is_empty()
                && machine.published.is_empty()
                && machine.records.is_empty()
        },
    )
    .await;
    for call in ["withdraw", "delete a link", "remove an endpoint"] {
        assert!(failed.contains(&call), "{call} of {failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_changes_everywhere_or_nowhere() {
    let rename = async |rig: &Rig, (_, id): &(Network, Id)| -> Result<(), Error> {
        rig.daemon.rename_container(&id.to_string(), "shop").await
    };
    assert_eq!(with_each_call_failing(member, rename).await, ["set names", "send a record"]);
}
