//! The queueing discipline of the filter at `lo`, beside what a container has there.

use std::process::Command;

use netbpf::link::{Links, Namespace};

use crate::host::{container, on_a_host, tc_in};

/// Adds a filter of the container's own. It matches nothing.
async fn add_own_filter(netns: &Namespace) {
    let add = ["filter", "add", "dev", "lo", "egress", "prio", "9", "bpf", "bytecode", "1,6 0 0 0,"];
    let added = netns.run(move || Command::new("tc").args(add).args(["flowid", "1:1"]).status());
    assert!(added.await.unwrap().unwrap().success());
}

#[test]
fn a_discipline_is_added_once_and_stays_while_it_has_a_filter() {
    on_a_host(async || {
        let netns = container();
        let lo = Links::open().unwrap().lo(&netns).await.unwrap();
        assert!(lo.add_discipline().await.unwrap(), "it is new");
        assert!(!lo.add_discipline().await.unwrap(), "it is there");
        add_own_filter(&netns).await;
        lo.remove_discipline().await.unwrap();
        assert!(tc_in(&netns, "qdisc show dev lo").await.contains("clsact"));
        tc_in(&netns, "filter del dev lo egress prio 9").await;
        for _ in 0..2 {
            lo.remove_discipline().await.unwrap();
            assert!(!tc_in(&netns, "qdisc show dev lo").await.contains("clsact"));
        }
    });
}

#[test]
fn a_discipline_of_another_kind_is_refused_and_stays() {
    on_a_host(async || {
        let netns = container();
        let lo = Links::open().unwrap().lo(&netns).await.unwrap();
        tc_in(&netns, "qdisc add dev lo ingress").await;
        let error = lo.add_discipline().await.unwrap_err();
        assert!(error.is_invalid(), "{error}");
        lo.remove_filter().await.unwrap();
        lo.remove_discipline().await.unwrap();
        assert!(tc_in(&netns, "qdisc show dev lo").await.contains("ingress"));
    });
}
