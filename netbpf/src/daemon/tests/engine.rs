//! A container of an engine: its `resolv.conf` names netbpf's responder while it is in a network with names, and is the
//! engine's otherwise.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::rig::{ENGINES_FILE, Rig, despite_each_call_failing, with_each_call_failing};
use crate::model::{Id, Network};

async fn container(rig: &Rig) -> (Network, Id, PathBuf) {
    let network = rig.network().await.unwrap();
    let (id, file) = rig.engine_container("tomcat");
    (network, id, file)
}

async fn member(rig: &Rig) -> (Network, Id, PathBuf) {
    let (network, id, file) = container(rig).await;
    rig.join(id, &network).await.unwrap();
    (network, id, file)
}

fn asks_netbpf(file: &Path) -> bool {
    fs::read_to_string(file).unwrap().contains("\nnameserver 127.0.0.12\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_connected_completely_or_not_at_all() {
    let join = async |rig: &Rig, (network, id, file): &(Network, Id, PathBuf)| {
        rig.join(*id, network).await.inspect(|()| assert!(asks_netbpf(file)))
    };
    let failed = with_each_call_failing(container, join).await;
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
            "send a record"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_connected_if_the_engine_s_text_cannot_be_kept() {
    let rig = Rig::start().await;
    let (network, id, file) = container(&rig).await;
    // In place of the container's directory.
    fs::write(rig.daemon.host.folders.of(&id), "").unwrap();
    let before = rig.shape();
    rig.join(id, &network).await.unwrap_err();
    before.assert_same(&rig.shape(), "after a refusal");
    assert!(!asks_netbpf(&file));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_leaves_whatever_fails_once_and_has_the_engine_s_text_again() {
    let leave = async |rig: &Rig, (_, id, file): &(Network, Id, PathBuf)| {
        assert!(asks_netbpf(file));
        rig.disconnect(*id).await.inspect(|()| assert_eq!(fs::read_to_string(file).unwrap(), ENGINES_FILE))
    };
    despite_each_call_failing(member, leave, |shape| {
        let machine = shape.machine();
        shape.containers().is_empty() && machine.endpoints.is_empty() && machine.records.is_empty()
    })
    .await;
}
