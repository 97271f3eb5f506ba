//! A container's endpoint and its default route.

use netbpf::{
    link::{Family, Links, Namespace},
    model::Access,
    plan::EndpointWiring,
};

use crate::{
    host::{container, ip, ip_in, links, on_a_host},
    host_device::GROUP,
};

pub fn endpoint() -> EndpointWiring {
    EndpointWiring {
        number: 3,
        network: 0,
        host_interface: "veth0123456".into(),
        interface: "eth0".into(),
        mac: "02:42:ac:12:00:02".parse().unwrap(),
        mtu: 1400,
        gso_max_size: Some(65536),
        ipv4: Some("172.18.0.2/16".parse().unwrap()),
        ipv6: None,
        icc: true,
        access: Access::default(),
        asks: false,
        owner: None,
        sysctls: Vec::new(),
        namespace: None,
        moved_to: None,
    }
}

#[test]
fn the_host_side_stays_down_until_it_is_set_up() {
    on_a_host(async || {
        let netns = container();
        let host = Links::open().unwrap();
        host.create_endpoint(&endpoint(), GROUP, Some(&netns)).await.unwrap();

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

/// The IPv6 addresses of an interface, such as `fd00::2/64 global permanent`, with their flags.
fn ipv6_addresses(link: &serde_json::Value) -> Vec<String> {
    let of_family = |address: &&serde_json::Value| address["family"] == "inet6";
    let text = |address: &serde_json::Value| {
        let flags = ["tentative", "dadfailed", "dynamic"].into_iter().filter(|flag| address[*flag] == true);
        let words = [address["local"].as_str().unwrap(), address["scope"].as_str().unwrap()];
        words.into_iter().chain(flags).collect::<Vec<_>>().join(" ")
    };
    link["addr_info"].as_array().unwrap().iter().filter(of_family).map(text).collect()
}

#[test]
fn an_endpoint_with_ipv6_has_exactly_the_two_given_addresses() {
    on_a_host(async || {
        let netns = container();
        let host = Links::open().unwrap();
        let ipv6 = Some("fd00::2/64".parse().unwrap());
        host.create_endpoint(&EndpointWiring { ipv4: None, ipv6, ..endpoint() }, GROUP, Some(&netns))
            .await
            .unwrap();
        host.set_up(1_000_003).await.unwrap();
        let inner = &ip_in(&netns, "addr show dev eth0").await[0];
        assert_eq!(ipv6_addresses(inner), ["fd00::2 global", "fe80::42:acff:fe12:2 link"]);
        assert_eq!(inner["addr_info"].as_array().unwrap().len(), 2, "no IPv4 address");
        assert_eq!(ipv6_addresses(&ip("addr show dev veth0123456")[0]), [""; 0]);
        // The addresses are restored when the link comes up.
        ip_in(&netns, "link set eth0 down").await;
        ip_in(&netns, "link set eth0 up").await;
        let inner = &ip_in(&netns, "addr show dev eth0").await[0];
        let addresses = ipv6_addresses(inner);
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        assert!(addresses[1].starts_with("fe80::42:acff:fe12:2 link"), "{addresses:?}");
    });
}

#[test]
fn its_first_frame_is_not_lost() {
    on_a_host(async || {
        let host = Links::open().unwrap();
        for _ in 0..20 {
            let netns = container();
            host.create_endpoint(&endpoint(), GROUP, Some(&netns)).await.unwrap();
            host.set_up(1_000_003).await.unwrap();
            broadcast(&netns).await;
            assert_eq!(host.received(77).await.unwrap()[&1_000_003].packets, 1);
            host.delete(1_000_003).await.unwrap();
        }
    });
}

/// Sends 100 bytes of UDP as broadcast.
pub async fn broadcast(netns: &Namespace) {
    let send = || {
        let socket = std::net::UdpSocket::bind("172.18.0.2:0").unwrap();
        socket.set_broadcast(true).unwrap();
        socket.send_to(&[0; 100], "172.18.255.255:9").unwrap()
    };
    assert_eq!(netns.run(send).await.unwrap(), 100);
}

#[test]
fn the_error_about_a_taken_interface_name_leaves_nothing() {
    on_a_host(async || {
        let netns = container();
        ip_in(&netns, "link add eth0 type bridge").await;
        let error =
            Links::open().unwrap().create_endpoint(&endpoint(), GROUP, Some(&netns)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("interface name eth0 is already taken in {netns}"));
        assert!(error.is_exists());
        assert_eq!(links(), Vec::<String>::new());
    });
}

#[test]
fn a_failure_in_the_middle_leaves_nothing_on_either_side() {
    on_a_host(async || {
        let netns = container();
        let no_address = EndpointWiring { ipv4: Some("224.0.0.1/24".parse().unwrap()), ..endpoint() };
        let host = Links::open().unwrap();
        let error = host.create_endpoint(&no_address, GROUP, Some(&netns)).await.unwrap_err();
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
        host.create_endpoint(&endpoint(), GROUP, Some(&netns)).await.unwrap();
        host.create_endpoint(
            &EndpointWiring {
                number: 4,
                host_interface: "veth0123457".into(),
                interface: "eth1".into(),
                ipv4: Some("172.19.0.2/16".parse().unwrap()),
                ..endpoint()
            },
            GROUP,
            Some(&netns),
        )
        .await
        .unwrap();
        for (gateway, device) in [("172.18.0.1", "eth0"), ("172.19.0.1", "eth1"), ("172.19.0.1", "eth1")] {
            host.set_default_route(&netns, gateway.parse().unwrap()).await.unwrap();
            let routes = ip_in(&netns, "route show default").await;
            assert_eq!(routes.as_array().unwrap().len(), 1);
            assert_eq!((&routes[0]["gateway"], &routes[0]["dev"]), (&gateway.into(), &device.into()));
            assert!(routes[0]["protocol"].is_null(), "as `ip route add` and Docker make it");
        }
        for _ in 0..2 {
            host.remove_default_route(&netns, Family::Ipv4).await.unwrap();
            assert_eq!(ip_in(&netns, "route show default").await.as_array().unwrap().len(), 0);
        }
        let error = host.set_default_route(&netns, "10.0.0.1".parse().unwrap()).await.unwrap_err();
        let expected = format!(
            "set default route via 10.0.0.1 in {netns}: Network is unreachable (os error 101): Nexthop has invalid gateway"
        );
        assert_eq!(error.to_string(), expected);
    });
}

#[test]
fn each_family_has_its_own_default_route() {
    on_a_host(async || {
        let netns = container();
        let host = Links::open().unwrap();
        let ipv6 = Some("fd00::2/64".parse().unwrap());
        host.create_endpoint(&EndpointWiring { ipv6, ..endpoint() }, GROUP, Some(&netns)).await.unwrap();
        let routes = async |family: &'static str| {
            let routes = ip_in(&netns, family).await;
            let gateway = |route: &serde_json::Value| route["gateway"].as_str().unwrap().to_owned();
            routes.as_array().unwrap().iter().map(gateway).collect::<Vec<_>>()
        };
        let both = async || (routes("-4 route show default").await, routes("-6 route show default").await);
        host.set_default_route(&netns, "172.18.0.1".parse().unwrap()).await.unwrap();
        for gateway in ["fd00::1", "fd00::ff", "fd00::ff"] {
            host.set_default_route(&netns, gateway.parse().unwrap()).await.unwrap();
            assert_eq!(both().await, (vec!["172.18.0.1".to_owned()], vec![gateway.to_owned()]));
        }
        for _ in 0..2 {
            host.remove_default_route(&netns, Family::Ipv6).await.unwrap();
            assert_eq!(both().await, (vec!["172.18.0.1".to_owned()], vec![]));
        }
    });
}
