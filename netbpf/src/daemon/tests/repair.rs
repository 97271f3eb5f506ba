//! The daemon restores what others change while it runs, and counts a repair only if it succeeded.

use std::sync::Arc;

use netbpf_common::network::ifindex_of;

use super::rig::Rig;
use crate::daemon::{effects::devices::DeviceGuard, parts};

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
