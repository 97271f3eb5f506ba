//! The daemon restores what others change while it runs, and counts a repair only if it succeeded.

use std::sync::Arc;

use netbpf_common::{endpoint, network::ifindex_of};

use super::rig::Rig;
use crate::{
    daemon::{effects::devices::DeviceGuard, parts},
    model::AccessChange,
    plan::Shapers,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_fails_is_not_counted() {
    type Harm = (&'static str, fn(&mut parts::State));
    let harms: [Harm; 3] = [
        ("set down", |state| state.links.values_mut().for_each(|link| link.device.up = false)),
        ("without a MAC", |state| state.links.values_mut().for_each(|link| link.device.mac = None)),
        ("without programs", |state| state.attached.clear()),
    ];
    for (what, harm) in harms {
        let rig = Rig::start().await;
        let guard = DeviceGuard::new(Arc::clone(&rig.daemon.state), Arc::clone(&rig.daemon.host));
        let counts = || rig.daemon.host.repairs.all().iter().map(|repair| repair.count).collect::<Vec<_>>();
        let before = rig.shape();
        rig.machine.change(harm);
        rig.machine.fail_at(1);
        guard.check_link(ifindex_of(0), false).await;
        rig.machine.fail_no_more().unwrap_or_else(|| panic!("{what}: no call failed"));
        assert!(counts().is_empty(), "{what}");
        guard.check_link(ifindex_of(0), false).await;
        assert_eq!(counts(), [1], "{what}");
        before.assert_same(&rig.shape(), what);
    }
}

/// A member with limits of both directions.
async fn limited() -> Rig {
    let rig = Rig::start().await;
    let network = rig.network().await.unwrap();
    let options = [("netbpf.ingress_rate", "10mbit"), ("netbpf.egress_rate", "10mbit")];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
    rig.daemon.update_network(&network.name, AccessChange::parse(options.into()).unwrap()).await.unwrap();
    rig.connect(&rig.namespace("blue"), &network).await.unwrap();
    rig
}

fn each_shapers(change: fn(&mut Shapers)) -> impl FnOnce(&mut parts::State) {
    move |state| state.links.values_mut().for_each(|link| change(&mut link.shapers))
}

/// An engine that moves the container's side takes its discipline away, so that is no repair.
#[tokio::test(flavor = "multi_thread")]
async fn removed_queueing_disciplines_are_restored_and_those_of_the_host_counted() {
    let rig = limited().await;
    let guard = DeviceGuard::new(Arc::clone(&rig.daemon.state), Arc::clone(&rig.daemon.host));
    let before = rig.shape();
    type Harm = (fn(&mut Shapers), usize);
    let harms: [Harm; 2] = [(|shapers| shapers.inner = None, 0), (|shapers| shapers.outer = None, 1)];
    for (harm, counted) in harms {
        rig.machine.change(each_shapers(harm));
        rig.machine.fail_at(1);
        guard.check_link(endpoint::ifindex_of(0), false).await;
        assert_eq!(rig.machine.fail_no_more(), Some("shape an endpoint"));
        guard.check_link(endpoint::ifindex_of(0), false).await;
        assert_eq!(rig.daemon.host.repairs.all().len(), counted);
        before.assert_same(&rig.shape(), "after a repair");
        guard.check_link(endpoint::ifindex_of(0), false).await;
        assert_eq!(rig.daemon.host.repairs.all().len(), counted, "nothing is wrong");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_restores_queueing_disciplines_and_removes_those_that_nobody_asked_for() {
    let rig = limited().await;
    let before = rig.shape();
    rig.machine.change(each_shapers(|shapers| *shapers = Shapers::default()));
    let rig = rig.restart().await;
    before.assert_same(&rig.shape(), "after a restart");
    let none = ["netbpf.ingress_rate", "netbpf.egress_rate"].map(|key| (key.to_owned(), String::new()));
    let shapers = rig.machine.state().links;
    rig.daemon.update_network("mynet", AccessChange::parse(none.into()).unwrap()).await.unwrap();
    let without = rig.shape();
    // A daemon was killed before it stored that there are limits.
    rig.machine.change(|state| {
        state.links.iter_mut().for_each(|(ifindex, link)| link.shapers = shapers[ifindex].shapers);
        state.endpoints.values_mut().for_each(|entry| entry.limit.rate = 1);
    });
    without.assert_same(&rig.restart().await.shape(), "after a restart without limits");
}
