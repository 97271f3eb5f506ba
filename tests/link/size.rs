//! The largest packets of endpoints, depending on the host's uplinks.

use netbpf::{link::Links, plan::NetworkWiring};

use crate::{
    host::{ip, on_a_host},
    host_device::{GROUP, device},
};

/// More than a device accepts by default.
const LARGE: u32 = 262_144;

/// A host whose uplink accepts packets of this size.
async fn uplink(gso_max_size: u32) -> Links {
    let links = Links::open().unwrap();
    links
        .create_host_device(&NetworkWiring { gso_max_size: Some(gso_max_size), ..device() }, GROUP)
        .await
        .unwrap();
    ip("route add default via 172.18.0.9");
    links
}

#[test]
fn both_ends_of_a_pair_get_the_configured_size() {
    on_a_host(async || {
        uplink(LARGE).await;
        for name in [device().device, device().peer] {
            let link = &ip(&format!("-d link show dev {name}"))[0];
            assert_eq!((&link["gso_max_size"], &link["gro_max_size"]), (&LARGE.into(), &LARGE.into()));
        }
    });
}

#[test]
fn packets_are_as_large_as_the_uplink_accepts() {
    on_a_host(async || {
        let links = Links::open().unwrap();
        assert_eq!(links.gso_max_size(None).await.unwrap(), 65536, "a host without an uplink may get one");
    });
    on_a_host(async || assert_eq!(uplink(65536).await.gso_max_size(None).await.unwrap(), 65536));
    on_a_host(async || assert_eq!(uplink(LARGE).await.gso_max_size(None).await.unwrap(), LARGE));
    on_a_host(async || {
        let links = uplink(2 * LARGE - 8).await;
        assert_eq!(links.gso_max_size(None).await.unwrap(), LARGE, "more is not worth it");
    });
}

#[test]
fn the_smallest_uplink_counts_unless_a_size_is_configured() {
    on_a_host(async || {
        let links = uplink(LARGE).await;
        let second = NetworkWiring {
            number: 2,
            device: "second".into(),
            peer: "second-peer".into(),
            ipv4: None,
            ipv6: Some("fd00::1/64".parse().unwrap()),
            ..device()
        };
        links.create_host_device(&second, GROUP).await.unwrap();
        ip("-6 route add default via fd00::9 dev second");
        assert_eq!(links.gso_max_size(None).await.unwrap(), 65536);
        assert_eq!(links.gso_max_size(Some(LARGE)).await.unwrap(), LARGE);
    });
}
