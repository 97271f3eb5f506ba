//! Networks and members: created and connected completely or not at all, removed whatever fails.

use super::rig::{Rig, despite_each_call_failing, with_each_call_failing};

#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_created_completely_or_not_at_all() {
    let create = async |rig: &Rig, (): &()| rig.network().await.map(drop);
    let failed = with_each_call_failing(async |_| (), create).await;
    assert_eq!(failed, ["add rules", "write a network", "create a link", "attach a program"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_network_with_ipv6_closes_the_host_to_others_or_changes_nothing() {
    let create = async |rig: &Rig, (): &()| rig.network_with_ipv6().await.map(drop);
    let failed = with_each_call_failing(async |_| (), create).await;
    assert_eq!(
        failed,
        [
            "close to others",
            "add rules",
            "write a network",
            "create a link",
            "attach a program",
            "write a setting"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_connected_completely_or_not_at_all() {
    let prepare = async |rig: &Rig| (rig.network().await.unwrap(), rig.namespace("blue"));
    let failed = with_each_call_failing(prepare, async |rig, (network, blue)| {
        rig.connect(blue, network).await.map(drop)
    })
    .await;
    assert_eq!(
        failed,
        [
            "write an endpoint",
            "create a link",
            "attach a program",
            "set a link up",
            "set names",
            "set a resolver",
            "add a discipline",
            "add a filter",
            "send a record",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_network_is_joined_completely_or_not_at_all() {
    let prepare = async |rig: &Rig| {
        let (first, blue) = (rig.network().await.unwrap(), rig.namespace("blue"));
        rig.connect(&blue, &first).await.unwrap();
        let origin = crate::model::Origin::Netbpf;
        (rig.network_of("alpha", "10.2.0.0/24".parse().unwrap(), origin).await.unwrap(), blue)
    };
    with_each_call_failing(prepare, async |rig, (network, blue)| rig.connect(blue, network).await.map(drop))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_disconnected_whatever_fails_once() {
    let prepare = async |rig: &Rig| {
        let (network, blue) = (rig.network().await.unwrap(), rig.namespace("blue"));
        let id = rig.connect(&blue, &network).await.unwrap();
        (network, id)
    };
    let failed = despite_each_call_failing(
        prepare,
        async |rig, (network, id)| {
            rig.disconnect(*id).await?;
            rig.daemon.remove_unused(network.clone()).await
        },
        super::rig::Shape::is_empty,
    )
    .await;
    for call in ["delete a link", "remove an endpoint", "remove rules", "forget flows"] {
        assert!(failed.contains(&call), "{call} of {failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_leased_in_order_and_again_after_a_failure() {
    let rig = Rig::start().await;
    let network = rig.network().await.unwrap();
    let mut seen = Vec::new();
    for name in ["blue", "green"] {
        rig.machine.fail_at(2);
        rig.connect(&rig.namespace(name), &network).await.unwrap_err();
        let id = rig.connect(&rig.namespace(name), &network).await.unwrap();
        let container = rig.daemon.state.container(&id).unwrap();
        seen.extend(
            container.attachments[0].endpoint.as_ref().unwrap().ipv4.map(|address| address.to_string()),
        );
    }
    assert_eq!(seen, ["10.1.0.2", "10.1.0.3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_name_that_is_taken_inside_is_left_out() {
    let rig = Rig::start().await;
    let (network, blue) = (rig.network().await.unwrap(), rig.namespace("blue"));
    let foreign = crate::daemon::parts::Link {
        device: crate::plan::Device { name: "foreign".to_owned(), ..Default::default() },
        peer: ("eth0".to_owned(), Some(blue.clone())),
        addresses: Vec::new(),
        shapers: Default::default(),
    };
    rig.machine.change(|state| drop(state.links.insert(7, foreign)));
    let id = rig.connect(&blue, &network).await.unwrap();
    let container = rig.daemon.state.container(&id).unwrap();
    assert_eq!(&*container.attachments[0].endpoint.as_ref().unwrap().interface, "eth1");
}
