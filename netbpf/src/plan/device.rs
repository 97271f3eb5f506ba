//! A link on the host's side as netbpf configures it, and the differences if somebody changed it. Pure.
//!
//! The MTU is not included: a changed MTU of a host device stays, as with docker0.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ipnet::{IpNet, Ipv6Net};

use super::wiring::{EndpointWiring, NetworkWiring};
use crate::model::Mac;

/// The desired or the observed configuration of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its MAC. Desired: none if the kernel chooses it.
    pub mac: Option<Mac>,
    /// Its group, which identifies the owner.
    pub group: u32,
    /// Whether it was set up.
    pub up: bool,
    /// Whether it has a carrier. Desired: true if the other end is netbpf's.
    pub carrier: bool,
    /// Ifindex of the other end, if that is in the same namespace. Observed only.
    pub peer: Option<u32>,
    /// Its addresses. Desired: the required ones. Others belong to somebody else and stay.
    pub addresses: BTreeSet<IpNet>,
    /// Settings below `/proc/sys/net`, by a path with `*` for the name. Settings that the kernel does not
    /// have are left out.
    pub settings: BTreeMap<&'static str, String>,
}

/// The configuration to restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mend {
    /// The present name, if it is wrong.
    pub renamed: Option<String>,
    /// The right MAC, if the link has another.
    pub mac: Option<Mac>,
    /// The right group, if the link has another.
    pub group: Option<u32>,
    /// The right values of settings that have another value.
    pub settings: BTreeMap<&'static str, String>,
    /// The missing addresses.
    pub addresses: BTreeSet<IpNet>,
    /// Ifindex of the other end, if that is down.
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

    /// The host side of an endpoint. The container's side is the container's own.
    pub fn of_endpoint(endpoint: &EndpointWiring, group: u32) -> Self {
        Self {
            name: endpoint.host_interface.clone(),
            group,
            up: true,
            settings: BTreeMap::from([(DISABLE_IPV6, "1".to_owned())]),
            ..Self::default()
        }
    }

    /// The differences to restore; none if `seen` is correct.
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
    /// The right values of what somebody changed.
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
    fn added_addresses_stay() {
        let mut seen = device();
        seen.addresses.insert("10.77.0.1/24".parse().unwrap());
        assert_eq!(device().mend(&seen), None);
    }

    #[test]
    fn changes_by_others_are_listed_and_restored() {
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
    fn a_setting_that_the_kernel_does_not_have_is_ignored() {
        assert_eq!(device().mend(&Device { settings: BTreeMap::new(), ..device() }), None);
    }
}
