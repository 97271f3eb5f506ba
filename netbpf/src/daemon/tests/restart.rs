//! A new daemon finds the host as the former one left it, or restores what is missing, and removes what
//! nobody needs.

use std::net::IpAddr;

use super::rig::Rig;
use crate::{
    daemon::parts,
    model::{AccessChange, Origin},
    store::Change,
};

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
    let harms: [Harm; 8] = [
        ("programs", |state| state.attached.clear()),
        ("entries of endpoints", |state| state.endpoints.clear()),
        ("entries of networks", |state| state.networks.clear()),
        ("rules", |state| state.rules.clear()),
        ("records", |state| state.records.clear()),
        ("filters at lo", |state| state.at_lo.clear()),
        ("resolvers", |state| state.resolvers.clear()),
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

/// A daemon was killed between the commit of a removal and the end of its flows.
#[tokio::test(flavor = "multi_thread")]
async fn flows_of_addresses_that_nobody_has_end_at_start() {
    let rig = Rig::start().await;
    let network = rig.network().await.unwrap();
    let open = rig.network_of("open", "10.2.0.0/24".parse().unwrap(), Origin::Netbpf).await.unwrap();
    let [stays, leaves] = ["stays", "leaves"].map(|name| rig.namespace(name));
    rig.connect(&stays, &network).await.unwrap();
    let left = rig.connect(&leaves, &network).await.unwrap();
    for (network, option, value) in
        [(&network, "netbpf.addresses", "10.1.0.128/25"), (&open, "netbpf.guard", "off")]
    {
        let change = AccessChange::parse([(option.to_owned(), value.to_owned())].into()).unwrap();
        rig.daemon.update_network(&network.name, change).await.unwrap();
    }
    // Host, member, further address, open network, other host.
    let others =
        ["10.1.0.1", "10.1.0.2", "10.1.0.200", "10.2.0.7", "192.0.2.1"].map(|text| text.parse().unwrap());
    let removed: IpAddr = "10.1.0.3".parse().unwrap();
    let leased = rig.daemon.state.container(&left).unwrap();
    let endpoint = leased.attachments[0].endpoint.as_ref().unwrap();
    assert!(endpoint.addresses().any(|address| address == removed));
    rig.machine.change(|state| state.flows.extend(others.into_iter().chain([removed])));
    let locked = rig.daemon.state.lock_container(left).await;
    rig.daemon.state.commit(&[Change::RemoveContainer(left)]).unwrap();
    drop(locked);
    let rig = rig.restart().await;
    assert_eq!(rig.shape().machine().flows, others.into());
}
