//! The queueing disciplines of limited endpoints, as `tc` shows them.

use netbpf::{
    link::{Links, Namespace},
    model::{Access, AccessOptions},
    plan::{EndpointWiring, Shapers},
};

use crate::{
    endpoint::endpoint,
    host::{container, ip, ip_in, links, on_a_host, tc, tc_in},
    host_device::GROUP,
};

/// An endpoint with these options.
fn limited(options: &[(&str, &str)]) -> EndpointWiring {
    let mut given = AccessOptions::default();
    for (key, value) in options {
        assert_eq!(given.set(key, value), Ok(true));
    }
    let access: Access = given.within(&AccessOptions::default());
    let gso_max_size = if access.limits.is_some() { Some(65536) } else { Some(131_072) };
    EndpointWiring { access, gso_max_size, ..endpoint() }
}

const BOTH: [(&str, &str); 2] = [("netbpf.ingress_rate", "10mbit"), ("netbpf.egress_rate", "40gbit")];

async fn created(endpoint: &EndpointWiring, netns: &Namespace) -> Links {
    let host = Links::open().unwrap();
    host.create_endpoint(endpoint, GROUP, Some(netns)).await.unwrap();
    host
}

#[test]
fn both_ends_are_shaped_and_read_again() {
    on_a_host(async || {
        let (netns, limited) = (container(), limited(&BOTH));
        let host = created(&limited, &netns).await;
        assert_eq!(host.shapers(&limited, Some(&netns)).await.unwrap(), Shapers::default());
        host.shape(None, &limited, Some(&netns)).await.unwrap();
        host.set_up(1_000_003).await.unwrap();
        assert_eq!(host.shapers(&limited, Some(&netns)).await.unwrap(), limited.shapers());
        let outer = tc("qdisc show dev veth0123456");
        assert!(
            outer.starts_with("qdisc tbf 6e62: root") && outer.contains("rate 10Mbit burst 16"),
            "{outer}"
        );
        let inner = tc_in(&netns, "qdisc show dev eth0").await;
        assert!(inner.starts_with("qdisc tbf 6e62: root") && inner.contains("rate 40Gbit"), "{inner}");
        // Again, and by another rate.
        host.shape(None, &limited, Some(&netns)).await.unwrap();
        let slower = self::limited(&[("netbpf.ingress_rate", "5mbit")]);
        assert_ne!(host.shapers(&slower, Some(&netns)).await.unwrap().outer, slower.shapers().outer);
        host.shape(Some(&limited), &slower, Some(&netns)).await.unwrap();
        assert_eq!(host.shapers(&slower, Some(&netns)).await.unwrap(), slower.shapers());
        assert!(!tc_in(&netns, "qdisc show dev eth0").await.contains("tbf"));
    });
}

#[test]
fn disciplines_are_taken_away_and_those_of_others_stay() {
    on_a_host(async || {
        let (netns, limited, free) = (container(), limited(&BOTH), limited(&[]));
        let host = created(&free, &netns).await;
        host.shape(Some(&free), &limited, Some(&netns)).await.unwrap();
        let size = |link: &serde_json::Value| link["gso_max_size"].as_u64();
        let outer = || size(&ip("-d link show dev veth0123456")[0]);
        let before = outer();
        host.shape(Some(&limited), &free, Some(&netns)).await.unwrap();
        assert_eq!((before, outer()), (Some(65536), Some(131_072)));
        assert_eq!(size(&ip_in(&netns, "-d link show dev eth0").await[0]), Some(131_072));
        assert!(!tc("qdisc show dev veth0123456").contains("tbf"));
        // It may be gone already.
        host.shape(Some(&limited), &free, Some(&netns)).await.unwrap();
        let foreign = "qdisc add dev veth0123456 root handle 7: tbf rate 1mbit burst 16kb latency 25ms";
        tc(foreign);
        host.shape(Some(&limited), &free, Some(&netns)).await.unwrap();
        assert_eq!(host.shapers(&limited, Some(&netns)).await.unwrap(), Shapers::default());
        assert!(tc("qdisc show dev veth0123456").starts_with("qdisc tbf 7: root"));
        // But a limit takes its place.
        host.shape(None, &limited, Some(&netns)).await.unwrap();
        assert_eq!(host.shapers(&limited, Some(&netns)).await.unwrap(), limited.shapers());
    });
}

#[test]
fn the_containers_side_is_found_by_its_peer_whatever_its_name_and_left_out_elsewhere() {
    on_a_host(async || {
        let (netns, limited) = (container(), limited(&BOTH));
        let host = created(&limited, &netns).await;
        ip_in(&netns, "link set eth0 down").await;
        ip_in(&netns, "link set eth0 name lan0").await;
        ip_in(&netns, "link set lan0 up").await;
        host.shape(None, &limited, Some(&netns)).await.unwrap();
        assert!(tc_in(&netns, "qdisc show dev lan0").await.contains("tbf 6e62:"));
        let other = container();
        host.shape(Some(&limited), &limited, Some(&other)).await.unwrap();
        assert_eq!(host.shapers(&limited, Some(&other)).await.unwrap(), limited.shapers());
        assert!(!tc_in(&other, "qdisc show").await.contains("tbf"));
        assert_eq!(host.shapers(&limited, None).await.unwrap(), limited.shapers());
    });
}

#[test]
fn an_endpoint_that_is_gone_cannot_be_shaped() {
    on_a_host(async || {
        let (netns, limited) = (container(), limited(&BOTH));
        let host = created(&limited, &netns).await;
        host.delete(1_000_003).await.unwrap();
        let error = host.shape(None, &limited, Some(&netns)).await.unwrap_err();
        assert!(error.is_missing(), "{error}");
        assert!(links().is_empty());
    });
}
