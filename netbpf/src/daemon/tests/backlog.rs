//! The queue for received frames has room for a broadcast to all members of the largest network.

use super::rig::Rig;
use crate::model::Origin;

const SETTING: &str = "net/core/netdev_max_backlog";

fn limit(rig: &Rig) -> Option<String> {
    rig.machine.state().settings.get(SETTING).cloned()
}

/// As the kernel does at a boot.
fn set_usual(rig: &Rig) {
    rig.machine.change(|state| drop(state.settings.insert(SETTING.to_owned(), "1000".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_with_more_members_than_half_of_the_limit_raises_it() {
    let rig = Rig::start().await;
    set_usual(&rig);
    let big = rig.network_of("big", "10.50.0.0/16".parse().unwrap(), Origin::Netbpf).await.unwrap();
    let other = rig.network_of("other", "10.51.0.0/16".parse().unwrap(), Origin::Netbpf).await.unwrap();
    rig.connect(&rig.namespace("elsewhere"), &other).await.unwrap();
    for number in 1..=500 {
        rig.connect(&rig.namespace(&format!("c{number}")), &big).await.unwrap();
    }
    assert_eq!(limit(&rig).as_deref(), Some("1000"));
    let last = rig.connect(&rig.namespace("last"), &big).await.unwrap();
    assert_eq!(limit(&rig).as_deref(), Some("16384"));
    set_usual(&rig);
    let rig = rig.restart().await;
    assert_eq!(limit(&rig).as_deref(), Some("16384"));
    rig.disconnect(last).await.unwrap();
    rig.daemon.host.restore_backlog().unwrap();
    assert_eq!(limit(&rig).as_deref(), Some("1000"));
}
