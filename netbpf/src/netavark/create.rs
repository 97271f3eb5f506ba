//! `create`: `podman network create -d netbpf`. The network is netbpf's: one of that name if its definition agrees, otherwise
//! a new one. netbpf leases the addresses, for all engines in the network: podman is told to lease none.

use std::{collections::BTreeMap, net::IpAddr, path::Path};

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::{
    Error, LIMITS, is_name_of_option,
    message::{LeaseRange, Network, Subnet},
};
use crate::api::{
    blocking,
    types::{Ipam, IpamConfig, NetworkCreate, NetworkCreated, NetworkResource},
};

/// Docker's status for a name that is taken.
const CONFLICT: u16 = 409;
/// The options that netbpf takes from podman, and its or Docker's names for them.
const OPTIONS: [(&str, &str); 5] = {
    let [ingress_rate, ingress_burst, egress_rate, egress_burst] = LIMITS;
    [("mtu", "com.docker.network.driver.mtu"), ingress_rate, ingress_burst, egress_rate, egress_burst]
};
/// The option for the name of a network's device.
const DEVICE: &str = "com.docker.network.bridge.name";
/// The drivers of addresses that podman names if the user does not.
const IPAM: [&str; 2] = ["host-local", "none"];
/// netavark's isolation between networks, which netbpf's networks always have.
const ISOLATE: &str = "isolate";

/// Creates a network. Returns podman's definition with the subnets that netbpf chose.
///
/// # Errors
/// [`Error::Unsupported`] for a definition that netbpf cannot fulfil, or that differs from the network of this name;
/// [`Error::Daemon`].
pub fn network(socket: &Path, input: &[u8]) -> Result<Value, Error> {
    let mut answer: Map<String, Value> = serde_json::from_slice(input)?;
    let wanted: Network = serde_json::from_slice(input)?;
    let request = request(&wanted)?;
    let created: Result<NetworkCreated, _> = blocking::post(socket, "/networks/create", &request);
    let is_new = match created {
        Ok(_) => true,
        Err(blocking::Error::Refused { status: CONFLICT, .. }) => false,
        Err(error) => return Err(error.into()),
    };
    let target = format!("/networks/{}", blocking::encoded(&wanted.name));
    let found: NetworkResource = blocking::get(socket, &target)?;
    if !is_new {
        agrees(&request, &found)?;
    }
    let subnets = found.ipam.config.iter().map(|config| {
        let mut subnet = json!({ "subnet": config.subnet });
        if !config.gateway.is_empty() {
            subnet["gateway"] = config.gateway.clone().into();
        }
        subnet
    });
    answer.insert("subnets".to_owned(), subnets.collect());
    answer.insert("ipv6_enabled".to_owned(), found.enable_ipv6.into());
    answer.insert("internal".to_owned(), found.internal.into());
    answer.insert("ipam_options".to_owned(), json!({ "driver": "none" }));
    // Its names are netbpf's; aardvark knows nothing of them.
    answer.insert("dns_enabled".to_owned(), false.into());
    Ok(answer.into())
}

/// The message for the daemon.
pub(super) fn request(wanted: &Network) -> Result<NetworkCreate, Error> {
    if !wanted.routes.is_empty() {
        return Err(Error::Unsupported("netbpf's networks have no routes of their own (--route)".to_owned()));
    }
    // podman would refuse it after the network exists, because netbpf leases the addresses.
    if !wanted.network_dns_servers.is_empty() {
        let instead = format!("podman network update --dns-add … {}", wanted.name);
        return Err(Error::Unsupported(format!(
            "podman adds name servers (--dns) only afterwards: {instead}"
        )));
    }
    if wanted.ipam_options.get("driver").is_some_and(|driver| !IPAM.contains(&driver.as_str())) {
        return Err(Error::Unsupported(
            "netbpf leases the addresses of its networks (--ipam-driver)".to_owned(),
        ));
    }
    let mut options = BTreeMap::new();
    for (key, value) in wanted.options.iter().filter(|(key, _)| *key != ISOLATE) {
        let known = OPTIONS.into_iter().find(|(podmans, _)| podmans == key);
        let name = match known {
            Some((_, ours)) => ours,
            None if is_name_of_option(key) => key,
            None => {
                let known = OPTIONS.map(|(podmans, _)| podmans).join(", ");
                return Err(Error::Unsupported(format!(
                    "netbpf does not know the network option {}: expected {known}, {ISOLATE}, or one of netbpf's",
                    key.escape_debug()
                )));
            }
        };
        options.insert(name.to_owned(), value.clone());
    }
    if !wanted.network_interface.is_empty() {
        options.insert(DEVICE.to_owned(), wanted.network_interface.clone());
    }
    let config: Vec<_> = wanted.subnets.iter().map(config).collect::<Result<_, _>>()?;
    let has_ipv6 = wanted.subnets.iter().any(|subnet| subnet.subnet.contains(':'));
    Ok(NetworkCreate {
        name: wanted.name.clone(),
        internal: wanted.internal,
        enable_ipv6: Some(wanted.ipv6_enabled || has_ipv6),
        ipam: Ipam { config, ..Ipam::default() },
        options,
        labels: wanted.labels.clone(),
        ..NetworkCreate::default()
    })
}

fn config(subnet: &Subnet) -> Result<IpamConfig, Error> {
    Ok(IpamConfig {
        subnet: subnet.subnet.clone(),
        gateway: subnet.gateway.clone(),
        ip_range: subnet
            .lease_range
            .as_ref()
            .map(|range| block(subnet, range))
            .transpose()?
            .unwrap_or_default(),
        auxiliary_addresses: BTreeMap::new(),
    })
}

/// A range of addresses as a block, which is what netbpf leases from. podman makes such a range of `--ip-range`.
fn block(subnet: &Subnet, range: &LeaseRange) -> Result<String, Error> {
    let odd = || Error::Unsupported(format!("the lease range of {} is no block of addresses", subnet.subnet));
    let net: IpNet = subnet.subnet.parse().map_err(|_| odd())?;
    let first = range.start_ip.unwrap_or(net.network());
    let last = range.end_ip.unwrap_or(net.broadcast());
    // podman leaves out the two addresses at the ends of a block.
    let is_block = |block: &IpNet| {
        let [start, end] = [block.network(), block.broadcast()];
        (first == start || next(start) == Some(first)) && (last == end || next(last) == Some(end))
    };
    let lengths = net.prefix_len()..=net.max_prefix_len();
    let mut blocks = lengths.filter_map(|length| Some(IpNet::new(first, length).ok()?.trunc()));
    blocks.find(is_block).map(|block| block.to_string()).ok_or_else(odd)
}

/// The address after this one.
fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => Some(std::net::Ipv4Addr::from(u32::from(address).checked_add(1)?).into()),
        IpAddr::V6(address) => Some(std::net::Ipv6Addr::from(u128::from(address).checked_add(1)?).into()),
    }
}

/// Checks that an existing network is what podman defines.
fn agrees(wanted: &NetworkCreate, found: &NetworkResource) -> Result<(), Error> {
    let differs = |what: String| {
        let name = &found.name;
        Err(Error::Unsupported(format!(
            "netbpf has a network {name} already, {what} (netbpf network rm {name} removes it)"
        )))
    };
    if !found.has_endpoints() {
        return differs(format!("of driver {}", found.driver));
    }
    if wanted.internal && !found.internal {
        return differs("and it is not internal".to_owned());
    }
    let nets: Vec<&str> = found.ipam.config.iter().map(|config| config.subnet.as_str()).collect();
    for subnet in &wanted.ipam.config {
        let is_it = |config: &&IpamConfig| config.subnet == subnet.subnet;
        let Some(config) = found.ipam.config.iter().find(is_it) else {
            return differs(format!("with {} instead of {}", nets.join(" and "), subnet.subnet));
        };
        if !subnet.gateway.is_empty() && config.gateway != subnet.gateway {
            return differs(format!("with gateway {} instead of {}", config.gateway, subnet.gateway));
        }
        if !subnet.ip_range.is_empty() && config.ip_range != subnet.ip_range {
            return differs(format!("without the range {}", subnet.ip_range));
        }
    }
    if wanted.enable_ipv6 == Some(true) && !found.enable_ipv6 {
        return differs("without IPv6".to_owned());
    }
    match wanted.options.iter().find(|(key, value)| found.options.get(*key) != Some(value)) {
        Some((key, value)) => differs(format!("without the option {key}={}", value.escape_debug())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> Network {
        serde_json::from_str(text).expect("a network")
    }

    #[test]
    fn options_have_dockers_names() {
        let text = r#"{"name":"n","network_interface":"br9","options":{"mtu":"1400","isolate":"true","netbpf.guard":"off"},
            "subnets":[{"subnet":"10.1.0.0/24","gateway":"10.1.0.1"},{"subnet":"fd00::/64"}]}"#;
        let request = request(&wanted(text)).unwrap();
        let options: Vec<_> = request.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            options,
            ["com.docker.network.bridge.name=br9", "com.docker.network.driver.mtu=1400", "netbpf.guard=off"]
        );
        assert_eq!((request.enable_ipv6, request.ipam.config.len()), (Some(true), 2));
        for text in [r#"{"options":{"vlan":"5"}}"#, r#"{"routes":[{"destination":"10.0.0.0/8"}]}"#] {
            super::request(&wanted(text)).expect_err(text);
        }
    }

    #[test]
    fn a_lease_range_is_a_block() {
        let block = |start: Option<&str>, end: Option<&str>| {
            let subnet = Subnet { subnet: "10.1.0.0/16".to_owned(), ..Subnet::default() };
            let [start_ip, end_ip] = [start, end].map(|text| text.map(|text| text.parse().unwrap()));
            super::block(&subnet, &LeaseRange { start_ip, end_ip }).ok()
        };
        assert_eq!(block(Some("10.1.5.0"), Some("10.1.5.255")).as_deref(), Some("10.1.5.0/24"));
        assert_eq!(block(Some("10.1.5.1"), Some("10.1.5.254")).as_deref(), Some("10.1.5.0/24"));
        assert_eq!(block(None, None).as_deref(), Some("10.1.0.0/16"));
        assert_eq!(block(Some("10.1.5.7"), Some("10.1.5.200")), None);
        assert_eq!(block(Some("10.1.5.0"), None), None);
    }
}
