//! A link on the host's side as netbpf sets it, and what of it somebody changed. Pure.
//!
//! The MTU is not among it: who changes that of a host device finds it left, as with docker0.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ipnet::{IpNet, Ipv6Net};

use super::wiring::{EndpointWiring, NetworkWiring};
use crate::model::Mac;

/// What netbpf sets of a link, or what was read of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its MAC; as it should be: none where the kernel chooses.
    pub mac: Option<Mac>,
    /// Whose it is.
    pub group: u32,
    /// Whether it was set up.
    pub up: bool,
    /// Whether the other end gives it a carrier; as it should be: true where that is netbpf's.
    pub carrier: bool,
    /// Number of the other end, where that was read and is in the same namespace.
    pub peer: Option<u32>,
    /// As it should be: those that it must have. Others are somebody else's, and stay.
    pub addresses: BTreeSet<IpNet>,
    /// Settings below `/proc/sys/net`, by a path that has `*` for the name. A setting that the kernel does not have is
    /// not read.
    pub settings: BTreeMap<&'static str, String>,
}

/// What is put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mend {
    /// What it is called now, where that is wrong.
    pub renamed: Option<String>,
    /// The right MAC, where it has another.
    pub mac: Option<Mac>,
    /// The right group, where it has another.
    pub group: Option<u32>,
    /// Settings that have another value.
    pub settings: BTreeMap<&'static str, String>,
    /// Addresses that are missing.
    pub addresses: BTreeSet<IpNet>,
    /// Number of the other end, where that is down.
    pub peer: Option<u32>,
}

const DISABLE_IPV6: &str = "ipv6/conf/*/disable_ipv6";

impl Device {
    /// A network's host device.
    pub fn of_network(network: &NetworkWiring, group: u32) -> Self {
        let mut settings = BTreeMap::from([("ipv4/conf/*/route_localnet", "1".to_owned())]);
        let mut addresses = BTreeSet::new();
        addresses.extend(network.ipv4.filter(|_| !network.inhibit).map(IpNet::V4));
        if let Some(ipv6) = network.ipv6 {
            addresses.extend([ipv6, Ipv6Net::new_assert(network.mac.link_local(), 64)].map(IpNet::V6));
            settings.extend(
                [
                    ("ipv6/conf/*/addr_gen_mode", "0"),
                    ("ipv6/conf/*/accept_ra", "0"),
                    ("ipv6/conf/*/keep_addr_on_down", "1"),
                    (DISABLE_IPV6, "0"),
                ]
                .map(|(setting, value)| (setting, value.to_owned())),
            );
        } else {
            settings.insert(DISABLE_IPV6, "1".to_owned());
        }
        Self {
            name: network.device.clone(),
            mac: Some(network.mac),
            group,
            up: true,
            carrier: true,
            peer: None,
            addresses,
            settings,
        }
    }

    /// The host side of an endpoint. What is inside is the container's own.
    pub fn of_endpoint(endpoint: &EndpointWiring, group: u32) -> Self {
        Self {
            name: endpoint.host_interface.clone(),
            group,
            up: true,
            settings: BTreeMap::from([(DISABLE_IPV6, "1".to_owned())]),
            ..Self::default()
        }
    }

    /// What has to be put back of `seen`; nothing if it is as this one.
    pub fn mend(&self, seen: &Self) -> Option<Mend> {
        let changed = |(setting, value): &(&&'static str, &String)| {
            seen.settings.get(*setting).is_some_and(|found| found != *value)
        };
        let mend = Mend {
            renamed: (self.name != seen.name).then(|| seen.name.clone()),
            mac: self.mac.filter(|_| self.mac != seen.mac),
            group: (self.group != seen.group).then_some(self.group),
            settings: self
                .settings
                .iter()
                .filter(changed)
                .map(|(setting, value)| (*setting, value.clone()))
                .collect(),
            addresses: self.addresses.difference(&seen.addresses).copied().collect(),
            peer: seen.peer.filter(|_| self.carrier && seen.up && !seen.carrier),
        };
        (mend != Mend::default()).then_some(mend)
    }
}

impl fmt::Display for Mend {
    /// What somebody changed, as it should be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renamed = self.renamed.iter().map(|name| format!("its name (it was {name})"));
        let mac = self.mac.iter().map(|mac| format!("MAC {mac}"));
        let group = self.group.iter().map(|group| format!("group {group}"));
        let settings = self.settings.iter().map(|(setting, value)| format!("{setting} = {value}"));
        let addresses = self.addresses.iter().map(|address| format!("address {address}"));
        let peer = self.peer.iter().map(|_| "its carrier (the other end was down)".to_owned());
        let all: Vec<_> =
            renamed.chain(mac).chain(group).chain(settings).chain(addresses).chain(peer).collect();
        f.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device {
            name: "netbpf0".into(),
            mac: Some("02:42:ac:11:00:01".parse().unwrap()),
            group: 7,
            up: true,
            carrier: true,
            peer: Some(9),
            addresses: ["172.17.0.1/16".parse().unwrap()].into(),
            settings: [(DISABLE_IPV6, "1".to_owned())].into(),
        }
    }

    #[test]
    fn what_others_add_stays() {
        let mut seen = device();
        seen.addresses.insert("10.77.0.1/24".parse().unwrap());
        assert_eq!(device().mend(&seen), None);
    }

    #[test]
    fn what_others_change_is_named_and_put_back() {
        let seen = Device {
            name: "foo0".into(),
            mac: Some("02:42:aa:bb:cc:dd".parse().unwrap()),
            group: 0,
            carrier: false,
            addresses: ["172.17.0.1/24".parse().unwrap()].into(),
            settings: [(DISABLE_IPV6, "0".to_owned())].into(),
            ..device()
        };
        assert_eq!(
            device().mend(&seen).unwrap().to_string(),
            "its name (it was foo0), MAC 02:42:ac:11:00:01, group 7, ipv6/conf/*/disable_ipv6 = 1, address \
             172.17.0.1/16, its carrier (the other end was down)"
        );
    }

    #[test]
    fn a_setting_that_the_kernel_does_not_have_is_not_missed() {
        assert_eq!(device().mend(&Device { settings: BTreeMap::new(), ..device() }), None);
    }
}
