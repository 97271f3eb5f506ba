//! Listing links, addresses and routes, and events about them.

use std::{
    io::Write,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use netbpf::{
    link::{Heard, Links},
    plan::{EndpointWiring, NetworkWiring},
};

use crate::{
    endpoint::{broadcast, endpoint},
    host::{container, ip, ip_in, on_a_host},
    host_device::{GROUP, device},
};

#[test]
fn links_are_found_by_their_group() {
    on_a_host(async || {
        let netns = container();
        let host = Links::open().unwrap();
        assert_eq!(host.owned(77).await.unwrap(), []);
        host.create_host_device(&device(), GROUP).await.unwrap();
        host.create_endpoint(&endpoint(), GROUP, Some(&netns)).await.unwrap();
        let stranger = EndpointWiring {
            number: 9,
            host_interface: "veth9".into(),
            interface: "eth1".into(),
            ..endpoint()
        };
        host.create_endpoint(&stranger, GROUP + 1, Some(&netns)).await.unwrap();

        let owned = host.owned(77).await.unwrap();
        let names: Vec<_> = owned.iter().map(|link| (link.name.as_str(), link.up)).collect();
        assert_eq!(names, [("nbp0123456789ab", true), ("veth0123456", false), ("nb-0123456789ab", true)]);
        assert_eq!((owned[1].ifindex, owned[1].mtu), (1_000_003, 1400));
        assert_eq!(owned[2].mac, Some(device().mac));
    });
}

#[test]
fn concurrent_requests_are_all_answered() {
    on_a_host(async || {
        let host = Links::open().unwrap();
        // More links than fit into one netlink message.
        for number in 0..60 {
            host.create_host_device(
                &NetworkWiring {
                    number: 100 + number,
                    device: format!("nb-{number}"),
                    peer: format!("nbp{number}"),
                    ipv4: None,
                    ipv6: None,
                    ..device()
                },
                GROUP,
            )
            .await
            .unwrap();
        }
        for _ in 0..20 {
            let (one, two, routes) = tokio::join!(host.owned(77), host.owned(77), host.on_link_routes());
            assert_eq!((one.unwrap().len(), two.unwrap().len(), routes.unwrap().len()), (120, 120, 0));
        }
    });
}

#[test]
fn a_list_that_nobody_waits_for_does_not_disturb_the_next_one() {
    on_a_host(async || {
        let host = Links::open().unwrap();
        for number in 0..300 {
            let network = NetworkWiring {
                number: 100 + number,
                device: format!("nb-{number}"),
                peer: format!("nbp{number}"),
                ipv4: None,
                ..device()
            };
            host.create_host_device(&network, GROUP).await.unwrap();
        }
        for micros in 0..100 {
            let dropped = tokio::time::timeout(Duration::from_micros(20 * micros), host.owned(GROUP)).await;
            drop(dropped);
            assert_eq!(host.owned(GROUP).await.unwrap().len(), 2 * 300, "both ends of each");
        }
    });
}

#[test]
fn what_a_container_sent_is_counted() {
    on_a_host(async || {
        let netns = container();
        let host = Links::open().unwrap();
        host.create_endpoint(&endpoint(), GROUP, Some(&netns)).await.unwrap();
        host.set_up(1_000_003).await.unwrap();
        assert_eq!(host.received(77).await.unwrap()[&1_000_003].packets, 0, "an idle container is silent");
        broadcast(&netns).await;
        let received = host.received(77).await.unwrap()[&1_000_003];
        assert_eq!((received.packets, received.bytes), (1, 14 + 20 + 8 + 100));
    });
}

#[test]
fn only_subnets_on_a_link_are_listed() {
    on_a_host(async || {
        let host = Links::open().unwrap();
        assert_eq!(host.on_link_routes().await.unwrap(), []);
        host.create_host_device(&device(), GROUP).await.unwrap();
        host.create_host_device(
            &NetworkWiring {
                number: 2,
                device: "nb-1".into(),
                peer: "nbp1".into(),
                ipv4: Some("10.1.0.1/24".parse().unwrap()),
                ..device()
            },
            GROUP,
        )
        .await
        .unwrap();
        ip("route add 10.9.0.0/16 via 10.1.0.7");
        ip("route add default via 10.1.0.7");
        ip("route add 10.8.0.0/16 dev nb-1 table 100");
        let nets: Vec<_> = host.on_link_routes().await.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(nets, ["10.1.0.0/24", "172.18.0.0/16"]);
    });
}

#[test]
fn a_deleted_link_is_reported() {
    on_a_host(async || {
        let netns = container();
        let host = Links::open().unwrap();
        let mut deletions = Links::watch_deleted().unwrap();
        for number in [3, 4] {
            let endpoint = EndpointWiring { number, ..endpoint() };
            host.create_endpoint(&endpoint, GROUP, Some(&netns)).await.unwrap();
            let ifindex = endpoint.ifindex();
            if number == 3 {
                host.delete(ifindex).await.unwrap();
            } else {
                ip_in(&netns, "link del eth0").await;
            }
            assert_eq!(deletions.next().await, Some(Heard::Of(ifindex)));
        }
        host.create_endpoint(&endpoint(), GROUP, Some(&netns)).await.unwrap();
        host.set_up(1_000_003).await.unwrap();
        drop(netns);
        let announced = tokio::time::timeout(Duration::from_secs(10), deletions.next()).await;
        assert_eq!(announced.unwrap(), Some(Heard::Of(1_000_003)), "its namespace went");
    });
}

#[test]
fn removing_a_port_from_a_bridge_is_no_deletion() {
    on_a_host(async || {
        let mut deletions = Links::watch_deleted().unwrap();
        for command in [
            "link add br0 index 50 type bridge",
            "link add port0 index 60 type veth peer name port1",
            "link set port0 master br0",
            "link set port0 nomaster",
            "link del br0",
        ] {
            ip(command);
        }
        assert_eq!(deletions.next().await, Some(Heard::Of(50)));
    });
}

#[test]
fn lost_events_are_reported() {
    on_a_host(async || {
        let mut deletions = Links::watch_deleted().unwrap();
        // The runtime has a single thread, which this blocks: events are not read while the kernel sends them.
        let mut batch = std::process::Command::new("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("iproute2's ip");
        let mut commands = batch.stdin.take().unwrap();
        for _ in 0..2000 {
            commands.write_all(b"link set lo up\nlink set lo down\n").unwrap();
        }
        drop(commands);
        assert!(batch.wait().unwrap().success());
        assert_eq!(deletions.next().await, Some(Heard::Lost));
    });
}

#[test]
fn no_link_is_missing_from_a_list_that_changes_all_the_time() {
    on_a_host(async || {
        let netns = container();
        let host = Links::open().unwrap();
        host.create_endpoint(&endpoint(), GROUP, Some(&netns)).await.unwrap();
        // So many links that the kernel answers in several pieces.
        let add = |number| format!("link add stays{number} type veth peer name peer{number}\n");
        assert!(batch((0..100).map(add).collect()).wait().unwrap().success());
        let change =
            |number| format!("link add comes{number} type bridge\nlink del comes{number}\n").repeat(100_000);
        let mut changes: Vec<_> = (0..4).map(|number| batch(change(number))).collect();
        for _ in 0..10 {
            let owned = host.owned(77).await.unwrap();
            assert_eq!(owned.iter().map(|link| link.ifindex).collect::<Vec<_>>(), [1_000_003]);
            assert!(host.received(77).await.unwrap().contains_key(&1_000_003));
        }
        for change in &mut changes {
            assert!(change.try_wait().unwrap().is_none(), "the list changed to the end");
            change.kill().unwrap();
            change.wait().unwrap();
        }
    });
}

/// Starts iproute2 in this network namespace with these commands.
fn batch(commands: String) -> Child {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    thread::spawn(move || stdin.write_all(commands.as_bytes()));
    child
}
