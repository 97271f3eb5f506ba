//! A network's host device.

use netbpf::{
    link::Links,
    plan::{Closed, NetworkWiring},
};

use crate::host::{ip, links, on_a_host};

/// The group of our links.
pub const GROUP: u32 = 77;

pub fn device() -> NetworkWiring {
    NetworkWiring {
        number: 1,
        device: "nb-0123456789ab".into(),
        peer: "nbp0123456789ab".into(),
        mac: "02:42:ac:12:00:01".parse().unwrap(),
        mtu: 1400,
        gso_max_size: Some(65536),
        ipv4: Some("172.18.0.1/16".parse().unwrap()),
        ipv6: None,
        default_gateway: None,
        default_gateway_ipv6: None,
        inhibit: false,
        icc: true,
        flood_copies: 0,
        closed: Closed::default(),
    }
}

#[test]
fn it_has_number_mac_mtu_address_and_carrier() {
    on_a_host(async || {
        Links::open().unwrap().create_host_device(&device(), GROUP).await.unwrap();
        let link = &ip("addr show dev nb-0123456789ab")[0];
        assert_eq!(link["ifindex"], 1_100_001);
        assert_eq!(link["address"], "02:42:ac:12:00:01");
        assert_eq!(link["mtu"], 1400);
        assert_eq!(link["group"], "77");
        assert_eq!(link["operstate"], "UP");
        let addresses = link["addr_info"].as_array().unwrap();
        assert_eq!(addresses.len(), 1, "no IPv6 address: {addresses:?}");
        assert_eq!(addresses[0]["local"], "172.18.0.1");
        assert_eq!(addresses[0]["prefixlen"], 16);
        assert_eq!(addresses[0]["broadcast"], "172.18.255.255");
        assert_eq!(addresses[0]["scope"], "global");

        let peer = &ip("addr show dev nbp0123456789ab")[0];
        assert_eq!((&peer["mtu"], &peer["group"]), (&1400.into(), &"77".into()));
        assert_eq!(peer["operstate"], "UP");
        assert_eq!(peer["addr_info"].as_array().unwrap().len(), 0);
    });
}

#[test]
fn the_error_about_a_taken_name_or_number_leaves_nothing() {
    on_a_host(async || {
        let links_of = Links::open().unwrap();
        for (taken, other, expected) in [
            (
                "ip link add nb-0123456789ab type bridge",
                "nb-0123456789ab",
                "interface name nb-0123456789ab is already taken in this network namespace",
            ),
            (
                "ip link add nbp0123456789ab type bridge",
                "nbp0123456789ab",
                "interface name nbp0123456789ab is already taken in this network namespace",
            ),
            (
                "ip link add other index 1100001 type bridge",
                "other",
                "interface number 1100001 is already taken by other of link group 0: another netbpf daemon probably uses \
                 this network namespace, or has left interfaces here (ip link show group 0)",
            ),
        ] {
            ip(taken.strip_prefix("ip ").unwrap());
            let error = links_of.create_host_device(&device(), GROUP).await.unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(error.is_exists());
            assert_eq!(links(), [other]);
            ip(&format!("link del {other}"));
        }
    });
}

#[test]
fn a_failure_in_the_middle_leaves_nothing() {
    on_a_host(async || {
        let no_address = NetworkWiring { ipv4: Some("224.0.0.1/24".parse().unwrap()), ..device() };
        let error = Links::open().unwrap().create_host_device(&no_address, GROUP).await.unwrap_err();
        assert!(
            error.to_string().starts_with("add address 224.0.0.1/24 to nb-0123456789ab: Invalid argument"),
            "{error}"
        );
        assert_eq!(links(), Vec::<String>::new());
    });
}

#[test]
fn a_bad_mtu_is_refused() {
    on_a_host(async || {
        let small = NetworkWiring { mtu: 20, ..device() };
        let error = Links::open().unwrap().create_host_device(&small, GROUP).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "create nb-0123456789ab and nbp0123456789ab: Invalid argument (os error 22)"
        );
    });
}

#[test]
fn deletion_removes_both_ends_and_is_idempotent() {
    on_a_host(async || {
        let links_of = Links::open().unwrap();
        links_of.create_host_device(&device(), GROUP).await.unwrap();
        assert!(links_of.delete(1_100_001).await.unwrap());
        assert_eq!(links(), Vec::<String>::new());
        assert!(!links_of.delete(1_100_001).await.unwrap());
        assert!(links_of.set_up(1_100_001).await.unwrap_err().is_missing());
    });
}

#[test]
fn with_ipv6_its_gateway_address_works_at_once() {
    on_a_host(async || {
        let ipv6 = Some("fd00::1/64".parse().unwrap());
        let links_of = Links::open().unwrap();
        links_of.create_host_device(&NetworkWiring { ipv6, ..device() }, GROUP).await.unwrap();
        let addresses = ip("-6 addr show dev nb-0123456789ab");
        let addresses = addresses[0]["addr_info"].as_array().unwrap();
        let local = |address: &serde_json::Value| {
            assert!(address["tentative"].is_null(), "{address}");
            address["local"].as_str().unwrap().to_owned()
        };
        assert_eq!(addresses.iter().map(local).collect::<Vec<_>>(), ["fd00::1", "fe80::42:acff:fe12:1"]);
        std::net::UdpSocket::bind("[fd00::1]:0").expect("an address that is the host's");
        let peer = ip("-6 addr show dev nbp0123456789ab");
        assert!(peer.as_array().unwrap().iter().all(|link| link["addr_info"].is_null()), "{peer}");
        assert_eq!(
            links_of.on_link_routes_ipv6().await.unwrap(),
            ["fd00::/64".parse().unwrap()],
            "link-local subnets do not count"
        );
    });
}

#[test]
fn interfaces_configured_by_a_router_accept_its_advertisements() {
    on_a_host(async || {
        ip("link add up0 type veth peer name up1");
        ip("link add up2 type veth peer name up3");
        ip("link add theirs type bridge");
        for name in ["up0", "up1", "up2", "up3"] {
            ip(&format!("link set {name} up"));
        }
        let links = Links::open().unwrap();
        assert_eq!(links.listening_to_routers().await.unwrap(), [""; 0]);
        ip("-6 route add 2001:db8:5::/64 dev up0 proto ra");
        ip("-6 route add 2001:db8:6::/64 dev up1 proto static");
        ip("-6 addr add 2001:db8:7::1/64 dev up3 mngtmpaddr");
        ip("-6 addr add 2001:db8:8::1/64 dev up2");
        assert_eq!(links.listening_to_routers().await.unwrap(), ["up0", "up3"]);
        assert_eq!(links.bridges().await.unwrap(), ["theirs"]);
    });
}
