//! A container's endpoint, and its way out.

use netbpf::link::{EndpointLink, Links, Namespace};

use crate::host::{container, ip, ip_in, links, on_a_host};

pub fn endpoint(namespace: &Namespace) -> EndpointLink<'_> {
    EndpointLink {
        ifindex: 1_000_003,
        host_interface: "veth0123456".into(),
        interface: "eth0".into(),
        mac: "02:42:ac:12:00:02".parse().unwrap(),
        mtu: 1400,
        group: 77,
        address: "172.18.0.2/16".parse().unwrap(),
        namespace,
    }
}

#[test]
fn it_is_ready_inside_and_down_outside_until_it_is_set_up() {
    on_a_host(async || {
        let netns = container();
        let host = Links::open().unwrap();
        host.create_endpoint(&endpoint(&netns)).await.unwrap();

        let outer = &ip("addr show dev veth0123456")[0];
        assert_eq!((&outer["ifindex"], &outer["mtu"]), (&1_000_003.into(), &1400.into()));
        assert_eq!((&outer["group"], &outer["operstate"]), (&"77".into(), &"DOWN".into()));

        let inner = &ip_in(&netns, "addr show dev eth0").await[0];
        assert_eq!(inner["address"], "02:42:ac:12:00:02");
        assert_eq!(inner["mtu"], 1400);
        assert!(inner["flags"].as_array().unwrap().contains(&"UP".into()));
        assert_eq!(inner["addr_info"][0]["local"], "172.18.0.2");
        assert_eq!(inner["addr_info"][0]["broadcast"], "172.18.255.255");

        host.set_up(1_000_003).await.unwrap();
        assert_eq!(ip("link show dev veth0123456")[0]["operstate"], "UP");
        assert_eq!(ip("addr show dev veth0123456")[0]["addr_info"].as_array().unwrap().len(), 0);
        let inner = &ip_in(&netns, "addr show").await;
        assert_eq!(inner[1]["operstate"], "UP");
        assert_eq!(inner[1]["addr_info"].as_array().unwrap().len(), 1, "no IPv6 address");
        let loopback = inner[0]["addr_info"].as_array().unwrap();
        assert_eq!(loopback.len(), 2, "lo is up and keeps ::1");
        assert_eq!(host.interfaces_in(&netns).await.unwrap(), ["lo", "eth0"]);
    });
}

#[test]
fn its_first_frame_is_not_lost() {
    on_a_host(async || {
        let host = Links::open().unwrap();
        for _ in 0..20 {
            let netns = container();
            host.create_endpoint(&endpoint(&netns)).await.unwrap();
            host.set_up(1_000_003).await.unwrap();
            broadcast(&netns).await;
            assert_eq!(host.received(77).await.unwrap()[&1_000_003].packets, 1);
            host.delete(1_000_003).await.unwrap();
        }
    });
}

/// Sends 100 bytes by UDP.
pub async fn broadcast(netns: &Namespace) {
    let send = || {
        let socket = std::net::UdpSocket::bind("172.18.0.2:0").unwrap();
        socket.set_broadcast(true).unwrap();
        socket.send_to(&[0; 100], "172.18.255.255:9").unwrap()
    };
    assert_eq!(netns.run(send).await.unwrap(), 100);
}

#[test]
fn a_name_that_the_container_has_is_said_and_nothing_is_left() {
    on_a_host(async || {
        let netns = container();
        ip_in(&netns, "link add eth0 type bridge").await;
        let error = Links::open().unwrap().create_endpoint(&endpoint(&netns)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("interface name eth0 is already taken in {netns}"));
        assert!(error.is_exists());
        assert_eq!(links(), Vec::<String>::new());
    });
}

#[test]
fn a_failure_half_way_leaves_nothing_on_either_side() {
    on_a_host(async || {
        let netns = container();
        let no_address = EndpointLink { address: "224.0.0.1/24".parse().unwrap(), ..endpoint(&netns) };
        let host = Links::open().unwrap();
        let error = host.create_endpoint(&no_address).await.unwrap_err();
        assert!(error.to_string().starts_with("add address 224.0.0.1/24 to eth0 in "), "{error}");
        assert_eq!(links(), Vec::<String>::new());
        assert_eq!(host.interfaces_in(&netns).await.unwrap(), ["lo"]);
    });
}

#[test]
fn the_default_route_is_set_replaced_and_removed() {
    on_a_host(async || {
        let netns = container();
        let host = Links::open().unwrap();
        host.create_endpoint(&endpoint(&netns)).await.unwrap();
        host.create_endpoint(&EndpointLink {
            ifindex: 1_000_004,
            host_interface: "veth0123457".into(),
            interface: "eth1".into(),
            address: "172.19.0.2/16".parse().unwrap(),
            ..endpoint(&netns)
        })
        .await
        .unwrap();
        for (gateway, device) in [("172.18.0.1", "eth0"), ("172.19.0.1", "eth1"), ("172.19.0.1", "eth1")] {
            host.set_default_route(&netns, Some(gateway.parse().unwrap())).await.unwrap();
            let routes = ip_in(&netns, "route show default").await;
            assert_eq!(routes.as_array().unwrap().len(), 1);
            assert_eq!((&routes[0]["gateway"], &routes[0]["dev"]), (&gateway.into(), &device.into()));
            assert!(routes[0]["protocol"].is_null(), "as `ip route add` and Docker make it");
        }
        for _ in 0..2 {
            host.set_default_route(&netns, None).await.unwrap();
            assert_eq!(ip_in(&netns, "route show default").await.as_array().unwrap().len(), 0);
        }
        let error = host.set_default_route(&netns, Some("10.0.0.1".parse().unwrap())).await.unwrap_err();
        let expected = format!(
            "set default route via 10.0.0.1 in {netns}: Network is unreachable (os error 101): Nexthop has invalid gateway"
        );
        assert_eq!(error.to_string(), expected);
    });
}
