//! Fuzz targets: options, ports, names and IDs as users type them and as Docker sends them. What is accepted is within
//! its limits, and is read again from its own text. What is refused is named in one line.

use std::{collections::BTreeMap, fmt::Display, str::FromStr};

use super::{
    AccessChange, AccessOptions, ContainerPort, EndpointOptions, HostInterface, Id, InterfaceName, Link, Mac,
    Options, PortRange, Publish, RestartPolicy, check_alias, check_container_name, check_dns_option,
    check_hostname, check_network_name, check_search_domain, parse_expose, parse_host_ports, parse_publish,
};

/// Checks driver options of networks and endpoints: `key=value`, one in a line.
pub(crate) fn check_options(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let pairs = text.split('\n').filter_map(|line| line.split_once('='));
    let given: BTreeMap<_, _> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    for internal in [false, true] {
        match Options::parse(&given, internal) {
            Ok(options) => check_network_options(options),
            Err(error) => assert_one_line(&error),
        }
    }
    Options::warnings(&given).iter().for_each(assert_one_line);
    match EndpointOptions::parse(&given) {
        Ok(options) => {
            assert_eq!(EndpointOptions::parse(&options.given()), Ok(options.clone()));
            assert_stored(&options);
            assert_access(&options.access);
            options.warnings().for_each(|warning| assert_one_line(&warning));
            for sysctl in &options.sysctls {
                let path = format!("{}/{}/{}", sysctl.family, sysctl.table, sysctl.name);
                assert!(path.split('/').count() == 3 && !path.contains('.'), "{path} leads elsewhere");
            }
        }
        Err(error) => assert_one_line(&error),
    }
    match AccessChange::parse(given) {
        Ok(change) => {
            let once = change.apply(&AccessOptions::default());
            assert_access(&once);
            assert_eq!(change.apply(&once), once);
        }
        Err(error) => assert_one_line(&error),
    }
}

fn assert_access(options: &AccessOptions) {
    assert_stored(options);
    let nets = options.addresses();
    assert!(nets.len() <= 64 && nets.is_sorted() && nets.iter().all(|net| *net == net.trunc()));
    for address in options.single_addresses() {
        let is_nobodys = address.is_loopback() || address.is_multicast() || address.is_unspecified();
        assert!(!is_nobodys, "{address} is accepted");
    }
}

fn check_network_options(options: Options) {
    assert!((68..=65535).contains(&options.mtu), "MTU {}", options.mtu);
    assert!(options.gso_max_size.is_none_or(|size| (65536..=524_280).contains(&size)));
    assert!(options.max_flows != Some(0));
    assert!(options.advertisements.is_none_or(|count| count <= 3));
    assert!(options.advertisement_interval.is_none_or(|interval| (100..=2000).contains(&interval)));
    assert!(options.interface_prefix.len() <= 11, "no room for a number in {}", options.interface_prefix);
    assert_access(&options.access);
    options.device.iter().for_each(|name| assert_interface(name));
    options.trusted.iter().for_each(|name| assert_interface(name));
    // These are not stored.
    assert_stored(&Options { device: None, enable_ipv4: None, enable_ipv6: None, ..options });
}

/// Checks ports as in `-p`, `--expose` and the API.
pub(crate) fn check_ports(input: &[u8]) {
    let text = &*String::from_utf8_lossy(input);
    match parse_publish(text) {
        Ok(published) => {
            assert!((1..=65535).contains(&published.len()));
            let [first, .., last] = &published[..] else { return assert_publish(&published[0]) };
            assert_eq!(usize::from(last.container.number - first.container.number) + 1, published.len());
            [first, last].into_iter().for_each(assert_publish);
        }
        Err(error) => assert_one_line(&error),
    }
    match parse_expose(text) {
        Ok(ports) => {
            assert!((1..=65535).contains(&ports.len()));
            [ports[0], ports[ports.len() - 1]].iter().for_each(assert_port);
        }
        Err(error) => assert_one_line(&error),
    }
    match parse_host_ports(text) {
        Ok(ports) => ports.iter().for_each(assert_same),
        Err(error) => assert_one_line(&error),
    }
    text.parse().iter().for_each(assert_port);
    text.parse::<PortRange>().iter().for_each(|range| {
        assert_same(range);
        assert_eq!(range.iter().count(), range.count());
    });
}

fn assert_publish(publish: &Publish) {
    let Publish { container, host, host_ports } = publish;
    let ports = host_ports.map(|ports| ports.to_string()).unwrap_or_default();
    let text = match host {
        Some(host) => format!("[{host}]:{ports}:{container}"),
        None => format!("{ports}:{container}"),
    };
    assert_eq!(parse_publish(&text).as_deref(), Ok(std::slice::from_ref(publish)), "{text}");
    assert_stored(publish);
}

fn assert_port(port: &ContainerPort) {
    assert_ne!(port.number, 0);
    assert_same(port);
    assert_stored(port);
}

/// Checks single words: names, IDs, MACs, links, policies.
pub(crate) fn check_words(input: &[u8]) {
    let text = &*String::from_utf8_lossy(input);
    let is_plain =
        |also: &[u8]| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte));
    let is_word =
        !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#');
    for (checked, is_safe) in [
        (check_container_name(text), is_plain(b"_.-") && !text.starts_with(['.', '-', '_'])),
        (check_network_name(text), !text.contains(char::is_control)),
        (check_alias(text), is_word),
        (check_hostname(text), is_word && text.len() <= 64),
        (check_dns_option(text), is_word),
        (check_search_domain(text), is_plain(b"_.-")),
    ] {
        match checked {
            Ok(()) => assert!(is_safe && text.len() <= 256, "{text:?} is accepted"),
            Err(error) => assert_one_line(&error),
        }
    }
    match Link::parse(text) {
        Ok(link) => {
            let again = format!("/{}:{}", link.target, link.alias);
            assert_eq!(Link::parse(&again).map_err(|error| error.to_string()), Ok(link.clone()), "{again}");
            assert!(check_alias(&link.alias).is_ok());
        }
        Err(error) => assert_one_line(&error),
    }
    for count in [0, 3, -1, i64::MAX] {
        match RestartPolicy::parse(text, count) {
            Ok(policy) => assert_stored(&policy),
            Err(error) => assert_one_line(&error),
        }
    }
    if let Ok(id) = text.parse::<Id>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
        assert_stored(&id);
    }
    match text.parse::<Mac>() {
        Ok(mac) => {
            assert_eq!(mac.to_string(), text.to_ascii_lowercase().replace('-', ":"));
            assert!(mac.octets()[0] & 1 == 0 && mac.octets() != [0; 6]);
            assert_stored(&mac);
            assert!(mac.and_alternatives().take(70).all(|other| other.octets()[0] & 1 == 0));
        }
        Err(error) => assert_one_line(&error),
    }
    text.parse::<InterfaceName>().iter().for_each(|name| assert_interface(name));
    text.parse::<HostInterface>().iter().for_each(|name| assert_interface(name));
}

/// The name is safe as the name of a file and of a device, and between nft's quotes.
fn assert_interface(name: &str) {
    let is_safe = name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'/:\\*%".contains(&byte));
    assert!(
        is_safe && (1..=15).contains(&name.len()) && ![".", ".."].contains(&name),
        "{name:?} is accepted"
    );
}

#[track_caller]
fn assert_same<T: Copy + Display + FromStr<Err: std::fmt::Debug> + PartialEq + std::fmt::Debug>(value: &T) {
    assert_eq!(value.to_string().parse::<T>().as_ref().ok(), Some(value));
}

#[track_caller]
fn assert_stored<T>(value: &T)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let text = serde_json::to_string(value).expect("the model has no failing serializer");
    assert_eq!(serde_json::from_str::<T>(&text).ok().as_ref(), Some(value), "{text}");
}

/// A message is a line of a log and of a terminal.
#[track_caller]
fn assert_one_line(message: &impl Display) {
    let text = message.to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
}

/// Options of all kinds.
pub(crate) fn options() -> Vec<Vec<u8>> {
    [
        "com.docker.network.bridge.name=br0\ncom.docker.network.bridge.enable_icc=false",
        "com.docker.network.driver.mtu=1450\ncom.docker.network.bridge.gateway_mode_ipv4=routed\nx=y",
        "com.docker.network.bridge.gateway_mode_ipv6=isolated\ncom.docker.network.bridge.inhibit_ipv4=1",
        "com.docker.network.bridge.trusted_host_interfaces=eth0:eth1.100\ncom.docker.network.host_ipv4=10.0.0.1",
        "com.docker.network.container_iface_prefix=lan\ncom.docker.network.host_ipv6=fd00::1",
        "com.docker.network.advertise_addr_nmsgs=3\ncom.docker.network.advertise_addr_ms=500",
        "com.docker.network.bridge.host_binding_ipv4=127.0.0.1\ncom.docker.network.enable_ipv6=T",
        "com.docker.network.bridge.enable_ip_masquerade=F\ncom.docker.network.bridge.default_bridge=true",
        "netbpf.gso_max_size=262144\nnetbpf.max_flows=10\nnetbpf.max_flood_copies=0\nnetbpf.dns_intercept=false",
        "netbpf.guard=off\nnetbpf.redirect=plain\nnetbpf.addresses=10.5.0.100,10.244.1.0/24,2001:db8::/64,::/0",
        "netbpf.ingress_rate=10mbit\nnetbpf.ingress_burst=64k\nnetbpf.egress_rate=1.5gbit\nnetbpf.egress_burst=1m",
        "netbpf.guard=\nnetbpf.egress_rate=\nnetbpf.ingress_rate=unlimited\nnetbpf.addresses=\nnetbpf.redirect=peer",
        "com.docker.network.endpoint.ifname=lan0\n\
         com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.IFNAME.x=2",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Ports in all forms.
pub(crate) fn ports() -> Vec<Vec<u8>> {
    [
        "80",
        "0:80",
        "8080:80/udp",
        "127.0.0.1::80",
        "[::1]:8000-8010:80",
        "1.2.3.4:7000-7002:8000-8002/sctp",
        "published=8080,target=80,protocol=tcp,host_ip=127.0.0.1",
        "65535-65535/TCP",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Words of all kinds.
pub(crate) fn words() -> Vec<Vec<u8>> {
    let words =
        ["web-01", "db:alias", "/a:/b/c", "eth0.100", "on-failure", "02:42:ac:11:00:02", "example.com."];
    words.map(str::to_owned).into_iter().chain(["0a".repeat(32)]).map(String::into_bytes).collect()
}
