//! What members may send changes while they run: completely or not at all. Addresses that members use without a lease
//! are nobody else's.

use netbpf_common::access::{LIMITED, PLAIN, UNGUARDED};

use super::rig::{Rig, with_each_call_failing};
use crate::{
    daemon::Error,
    model::{AccessChange, EndpointOptions, EndpointRequest, Id, Network},
    plan::Shaper,
};

fn change(key: &str, value: &str) -> AccessChange {
    AccessChange::parse([(key.to_owned(), value.to_owned())].into()).unwrap()
}

/// A network with two members.
async fn town(rig: &Rig) -> (Network, Vec<String>) {
    let network = rig.network().await.unwrap();
    let mut members = Vec::new();
    for name in ["blue", "green"] {
        let path = rig.namespace(name);
        rig.connect(&path, &network).await.unwrap();
        members.push(format!("netns:{}", path.display()));
    }
    (network, members)
}

/// What is said to be open.
async fn open(rig: &Rig) -> Vec<String> {
    rig.daemon.info().await.open
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_changed_completely_or_not_at_all() {
    let update = async |rig: &Rig, (network, members): &(Network, Vec<String>)| {
        rig.daemon.update(&network.name, &members[0], change("netbpf.guard", "off")).await
    };
    let failed = with_each_call_failing(town, update).await;
    assert_eq!(failed, ["write an endpoint"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_changed_with_all_its_members_or_not_at_all() {
    let update = async |rig: &Rig, (network, _): &(Network, Vec<String>)| {
        rig.daemon.update_network(&network.name, change("netbpf.guard", "off")).await
    };
    let failed = with_each_call_failing(town, update).await;
    assert_eq!(failed, ["write an endpoint", "write an endpoint"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_changed_completely_or_not_at_all() {
    let update = async |rig: &Rig, (network, members): &(Network, Vec<String>)| {
        rig.daemon.update(&network.name, &members[0], change("netbpf.egress_rate", "10mbit")).await
    };
    assert_eq!(with_each_call_failing(town, update).await, ["write an endpoint", "shape an endpoint"]);
    let update = async |rig: &Rig, (network, _): &(Network, Vec<String>)| {
        rig.daemon.update_network(&network.name, change("netbpf.ingress_rate", "10mbit")).await
    };
    let both = ["write an endpoint", "shape an endpoint"];
    assert_eq!(with_each_call_failing(town, update).await, [both, both].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_there_after_a_restart_and_for_new_members_until_it_is_removed() {
    let rig = Rig::start().await;
    let (network, members) = town(&rig).await;
    let before = rig.shape();
    rig.daemon.update_network("mynet", change("netbpf.ingress_rate", "1gbit")).await.unwrap();
    rig.daemon.update("mynet", &members[0], change("netbpf.egress_rate", "10mbit")).await.unwrap();
    let changed = rig.shape();
    let rig = rig.restart().await;
    changed.assert_same(&rig.shape(), "after a restart");
    let rates = |rig: &Rig| {
        let links = rig.shape().machine().links.clone().into_values().filter(|link| link.peer.1.is_some());
        let rate = |shaper: Option<Shaper>| shaper.map_or(0, |shaper| shaper.rate);
        links.map(|link| (rate(link.shapers.outer), rate(link.shapers.inner))).collect::<Vec<_>>()
    };
    assert_eq!(rates(&rig), [(125_000_000, 1_250_000), (125_000_000, 0)]);
    let limited = |rig: &Rig| {
        let shape = rig.shape();
        let entries = shape.machine().endpoints.values();
        entries.map(|entry| (entry.limit.rate, entry.endpoint.access & (PLAIN | LIMITED))).collect::<Vec<_>>()
    };
    assert_eq!(limited(&rig), [(1_562_500, PLAIN | LIMITED), (0, PLAIN)]);
    let red = rig.connect(&rig.namespace("red"), &network).await.unwrap();
    assert_eq!(rates(&rig)[2], (125_000_000, 0));
    rig.disconnect(red).await.unwrap();
    for (key, value) in [("netbpf.ingress_rate", "unlimited"), ("netbpf.egress_rate", "")] {
        rig.daemon.update("mynet", &members[0], change(key, value)).await.unwrap();
    }
    assert_eq!(rates(&rig), [(0, 0), (125_000_000, 0)]);
    rig.daemon.update("mynet", &members[0], change("netbpf.ingress_rate", "")).await.unwrap();
    rig.daemon.update_network("mynet", change("netbpf.ingress_rate", "")).await.unwrap();
    before.assert_same(&rig.shape(), "after all were taken back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_must_hold_a_frame() {
    let rig = Rig::start().await;
    let (_, members) = town(&rig).await;
    let before = rig.shape();
    let said = "netbpf.egress_burst: a burst of 1517 bytes is too small: frames of network mynet have up to 1518 bytes";
    let small = || change("netbpf.egress_burst", "1517");
    let refused = rig.daemon.update("mynet", &members[0], small()).await.unwrap_err();
    assert_eq!(refused.to_string(), said);
    let refused = rig.daemon.update_network("mynet", small()).await.unwrap_err();
    assert_eq!(refused.to_string(), said);
    before.assert_same(&rig.shape(), "after refusals");
    rig.daemon.update("mynet", &members[0], change("netbpf.egress_burst", "1518")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_there_after_a_restart_and_is_taken_back_by_an_empty_value() {
    let rig = Rig::start().await;
    let (network, members) = town(&rig).await;
    let before = rig.shape();
    rig.daemon.update_network("mynet", change("netbpf.addresses", "10.1.0.0/28")).await.unwrap();
    rig.daemon.update(&network.name, &members[1], change("netbpf.addresses", "::/0")).await.unwrap();
    let changed = rig.shape();
    let rig = rig.restart().await;
    changed.assert_same(&rig.shape(), "after a restart");
    let own = format!("{} in mynet (addresses ::/0)", members[1]);
    assert_eq!(open(&rig).await, ["all in mynet (addresses 10.1.0.0/28)", &own]);
    // The member has its network's again.
    rig.daemon.update("mynet", &members[1], change("netbpf.addresses", "")).await.unwrap();
    assert_eq!(open(&rig).await, ["all in mynet (addresses 10.1.0.0/28)"]);
    rig.daemon.update_network("mynet", change("netbpf.addresses", "")).await.unwrap();
    before.assert_same(&rig.shape(), "after both were taken back");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_option_of_an_endpoint_stands_when_its_network_changes() {
    let rig = Rig::start().await;
    let (network, members) = town(&rig).await;
    rig.daemon.update("mynet", &members[0], change("netbpf.guard", "on")).await.unwrap();
    let unguarded = |rig: &Rig| {
        let shape = rig.shape();
        let entries = shape.machine().endpoints.values();
        entries.map(|entry| entry.endpoint.access & UNGUARDED != 0).collect::<Vec<_>>()
    };
    assert_eq!(unguarded(&rig), [false, false]);
    rig.machine.fail_at(2);
    rig.daemon.update_network("mynet", change("netbpf.guard", "off")).await.unwrap();
    // There was one call only: that for the other member.
    assert_eq!(rig.machine.fail_no_more(), None);
    assert_eq!(unguarded(&rig), [false, true]);
    // Whoever joins later gets the network's.
    let path = rig.namespace("red");
    let red = rig.connect(&path, &network).await.unwrap();
    assert_eq!(unguarded(&rig), [false, true, true]);
    rig.daemon.update("mynet", &members[0], change("netbpf.guard", "")).await.unwrap();
    assert_eq!(unguarded(&rig), [true, true, true]);
    assert_eq!(open(&rig).await, ["all in mynet (guard off)"]);
    rig.disconnect(red).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_without_a_lease_is_leased_to_nobody() {
    let rig = Rig::start().await;
    let (network, members) = town(&rig).await;
    rig.daemon.update("mynet", &members[0], change("netbpf.addresses", "10.1.0.4")).await.unwrap();
    rig.daemon.update_network("mynet", change("netbpf.addresses", "10.1.0.5,fd00::9")).await.unwrap();
    let rig = rig.restart().await;
    let leased = async |name: &str| {
        let id = rig.connect(&rig.namespace(name), &network).await.unwrap();
        let container = rig.daemon.state.container(&id).unwrap();
        container.attachments[0].endpoint.as_ref().unwrap().ipv4.unwrap().to_string()
    };
    assert_eq!(leased("red").await, "10.1.0.6");
    assert_eq!(ask(&rig, &network, "10.1.0.4", &[]).await, Err("Address already in use".to_owned()));
    assert_eq!(ask(&rig, &network, "10.1.0.5", &[]).await, Err("Address already in use".to_owned()));
    rig.daemon.update("mynet", &members[0], change("netbpf.addresses", "")).await.unwrap();
    rig.daemon.update_network("mynet", change("netbpf.addresses", "")).await.unwrap();
    assert_eq!(leased("yellow").await, "10.1.0.4");
    assert_eq!(leased("brown").await, "10.1.0.5");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_another_is_refused() {
    let rig = Rig::start().await;
    let (network, members) = town(&rig).await;
    let before = rig.shape();
    let said = |address: &str, by: &str| {
        format!("netbpf.addresses: {address} is the address of {by} in network mynet")
    };
    for (address, by) in [("10.1.0.1", "the gateway"), ("10.1.0.2", &*members[0]), ("10.1.0.3", &*members[1])]
    {
        let further = || change("netbpf.addresses", address);
        let refused = rig.daemon.update("mynet", &members[0], further()).await.unwrap_err();
        assert_eq!(refused.to_string(), said(address, by));
        let refused = rig.daemon.update_network("mynet", further()).await.unwrap_err();
        assert_eq!(refused.to_string(), said(address, by));
        assert_eq!(ask(&rig, &network, "10.1.0.9", &[address]).await, Err(said(address, by)));
    }
    for address in ["10.1.0.0", "10.1.0.255"] {
        let refused =
            rig.daemon.update("mynet", &members[0], change("netbpf.addresses", address)).await.unwrap_err();
        let said = format!(
            "netbpf.addresses: {address} is an end of the subnet of network mynet, which no host may have"
        );
        assert_eq!(refused.to_string(), said);
        assert_eq!(ask(&rig, &network, "10.1.0.9", &[address]).await, Err(said));
    }
    assert_eq!(
        ask(&rig, &network, "10.1.0.9", &["10.1.0.9"]).await,
        Err("Address already in use".to_owned())
    );
    before.assert_same(&rig.shape(), "after refusals");
    // Two may use the same address, and a subnet may contain leases.
    for address in ["10.1.0.100", "10.1.0.0/24"] {
        rig.daemon.update("mynet", &members[0], change("netbpf.addresses", address)).await.unwrap();
        rig.daemon.update("mynet", &members[1], change("netbpf.addresses", address)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_and_bridges_can_be_changed() {
    let rig = Rig::start().await;
    let (_, members) = town(&rig).await;
    let off = || change("netbpf.guard", "off");
    let refused = async |network: &str, container: &str| {
        rig.daemon.update(network, container, off()).await.unwrap_err().to_string()
    };
    assert_eq!(refused("yournet", &members[0]).await, "network yournet not found");
    assert_eq!(refused("mynet", "nobody").await, "No such container: nobody");
    assert!(refused("bridge", &members[0]).await.ends_with(" is not connected to network bridge"));
    let refused = rig.daemon.update_network("host", off()).await.unwrap_err();
    assert_eq!(refused.to_string(), "network host has no endpoints");
    rig.daemon.update_network("bridge", off()).await.unwrap();
    assert_eq!(open(&rig).await, ["all in bridge (guard off)"]);
}

/// Connects a new namespace with `--ip` and further addresses, and disconnects it again. The error's text.
async fn ask(rig: &Rig, network: &Network, ip: &str, further: &[&str]) -> Result<(), String> {
    let path = rig.namespace("asker");
    let (id, _) = rig.daemon.find_or_adopt(&format!("netns:{}", path.display())).await.unwrap();
    let asked = connect(rig, id, network, ip, further).await.map_err(|error| error.to_string());
    rig.daemon.state.world().remove_container(&id);
    asked
}

async fn connect(rig: &Rig, id: Id, network: &Network, ip: &str, further: &[&str]) -> Result<(), Error> {
    let mut options = EndpointOptions::default();
    if !further.is_empty() {
        options.access.set("netbpf.addresses", &further.join(",")).unwrap();
    }
    let request = EndpointRequest { ipv4: Some(ip.parse().unwrap()), options, ..EndpointRequest::default() };
    let _locked = rig.daemon.state.lock_container(id).await;
    rig.daemon.connect_locked(id, network, request).await
}
