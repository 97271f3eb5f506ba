//! A new daemon finds the host as the former one left it, or restores what is missing, and removes what
//! nobody needs.

use super::rig::Rig;
use crate::daemon::parts;

/// A rig with a member.
async fn rig_with_member() -> Rig {
    let rig = Rig::start().await;
    let network = rig.network().await.unwrap();
    rig.connect(&rig.namespace("blue"), &network).await.unwrap();
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_changes_nothing() {
    let rig = rig_with_member().await;
    let before = rig.shape();
    before.assert_same(&rig.restart().await.shape(), "after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_restores_what_is_missing() {
    type Harm = (&'static str, fn(&mut parts::State));
    let harms: [Harm; 6] = [
        ("programs", |state| state.attached.clear()),
        ("entries of endpoints", |state| state.endpoints.clear()),
        ("entries of networks", |state| state.networks.clear()),
        ("rules", |state| state.rules.clear()),
        ("records", |state| state.records.clear()),
        ("links that are up", |state| state.links.values_mut().for_each(|link| link.device.up = false)),
    ];
    for (what, harm) in harms {
        let rig = rig_with_member().await;
        let before = rig.shape();
        rig.machine.change(harm);
        before.assert_same(&rig.restart().await.shape(), what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_creates_deleted_links_again() {
    let rig = rig_with_member().await;
    let before = rig.shape();
    let all: Vec<u32> = before.machine().links.keys().copied().collect();
    rig.machine.change(|state| assert!(all.iter().all(|ifindex| state.delete_link(*ifindex))));
    before.assert_same(&rig.restart().await.shape(), "after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_removes_a_member_whose_namespace_is_gone() {
    let rig = rig_with_member().await;
    let blue = rig.namespace("blue");
    std::fs::remove_file(&blue).unwrap();
    rig.machine.change(|state| state.end_namespace(&blue));
    let shape = rig.restart().await.shape();
    assert!(shape.containers().is_empty() && shape.machine().endpoints.is_empty(), "{shape:#?}");
    assert!(shape.machine().records.is_empty());
}
