//! netbpf's table as text in nft's language: a fixed set of rules, and an element for each network and each published
//! port. Pure. Interface names have types that exclude every character that is special between nft's quotes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Display, Write},
};

use netbpf_common::network::BETWEEN_NETWORKS;

use super::elements::Element;
use crate::{
    model::Mapping,
    plan::{Inbound, NetworkRules, Source, Way},
};

const RULES: &str = include_str!("table.nft");

/// Elements by the set or map that contains them, in the form that nft reads and prints.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Elements {
    sets: BTreeMap<&'static str, BTreeSet<String>>,
    /// The maximum number of flows of each container, by the network's host device.
    limits: BTreeMap<String, u32>,
}

impl Elements {
    /// The elements of these networks and published ports.
    pub fn of<'a>(
        networks: impl IntoIterator<Item = &'a NetworkRules>,
        mappings: impl IntoIterator<Item = &'a Mapping>,
    ) -> Self {
        let mut elements = Self::default();
        networks.into_iter().for_each(|network| elements.add_network(network));
        let ports = mappings.into_iter().flat_map(Element::of);
        ports.for_each(|port| elements.add(port.set, port.to_string()));
        elements
    }

    /// Adds families that the host forwards only from and to netbpf's networks.
    pub fn with_closed(mut self, families: impl IntoIterator<Item = &'static str>) -> Self {
        families.into_iter().for_each(|family| self.add("closed", family.to_owned()));
        self
    }

    fn add(&mut self, set: &'static str, element: String) {
        self.sets.entry(set).or_default().insert(element);
    }

    fn add_network(&mut self, network: &NetworkRules) {
        let device = quoted(&network.device);
        self.add("own", format!("{device} . {device}"));
        for gateway in &network.gateways {
            let set = if gateway.is_ipv4() { "gateways4" } else { "gateways6" };
            self.add(set, gateway.to_string());
        }
        if let Some(limit) = network.max_flows {
            self.limits.insert(network.device.to_string(), limit);
        }
        if network.internal {
            self.add("internal", device.clone());
        }
        for interface in &network.trusted {
            self.add("trusted", format!("{} . {device}", quoted(interface)));
        }
        self.add_way(&device, &network.ipv4, ["masquerade4", "source4", "routed4", "unprotected4"]);
        self.add_way(&device, &network.ipv6, ["masquerade6", "source6", "routed6", "unprotected6"]);
    }

    fn add_way(&mut self, device: &str, way: &Way<impl Display>, sets: [&'static str; 4]) {
        let [masquerade, source, routed, unprotected] = sets;
        match &way.source {
            Source::Own => {}
            Source::Interface => self.add(masquerade, device.to_owned()),
            Source::Chosen(address) => {
                self.add(masquerade, device.to_owned());
                self.add(source, format!("{device} : {address}"));
            }
        }
        match way.inbound {
            Inbound::Published => {}
            Inbound::Open => self.add(routed, device.to_owned()),
            Inbound::All => self.add(unprotected, device.to_owned()),
        }
    }

    /// The commands that add these elements.
    pub fn added_to(&self, table: &str) -> String {
        let limits = self.limits.iter().map(|(device, limit)| {
            // The set counts by source MAC, which stands for one container whatever addresses it has. The programs let
            // a container send with no other MAC.
            format!(
                "add set inet {table} flows-{device} {{ type ether_addr; size 65535; flags dynamic; }}\n\
                 add chain inet {table} flows-{device}\n\
                 flush chain inet {table} flows-{device}\n\
                 add rule inet {table} flows-{device} add @flows-{device} {{ ether saddr ct count over {limit} }} \
                 counter name flows drop\n\
                 add element inet {table} limits {{ {device:?} : jump flows-{device} }}\n"
            )
        });
        self.commands("add", table) + &limits.collect::<String>()
    }

    /// The commands that remove these elements, whether they exist or not.
    pub fn deleted_from(&self, table: &str) -> String {
        let limits = self.limits.keys().map(|device| {
            format!(
                "delete element inet {table} limits {{ {device:?} }}\n\
                 flush chain inet {table} flows-{device}\n\
                 delete chain inet {table} flows-{device}\n\
                 delete set inet {table} flows-{device}\n"
            )
        });
        self.added_to(table) + &self.commands("delete", table) + &limits.collect::<String>()
    }

    fn commands(&self, verb: &str, table: &str) -> String {
        let mut commands = String::new();
        for (set, elements) in &self.sets {
            let elements: Vec<_> = elements.iter().map(String::as_str).collect();
            writeln!(commands, "{verb} element inet {table} {set} {{ {} }}", elements.join(", "))
                .expect("a string takes all");
        }
        commands
    }
}

/// nft's strings end at the next quote and have no escapes. A `*` at the end matches any suffix.
fn quoted(name: &impl Display) -> String {
    format!("\"{name}\"")
}

/// The commands that replace the table of this name by one with these elements.
pub fn replacement(table: &str, group: u32, elements: &Elements) -> String {
    let rules = RULES
        .replace("inet TABLE", &format!("inet {table}"))
        .replace("GROUP", &group.to_string())
        .replace("BETWEEN", &format!("{BETWEEN_NETWORKS:#x}"));
    format!("{}{rules}{}", removal(table), elements.added_to(table))
}

/// The commands that remove the table if it exists.
pub fn removal(table: &str) -> String {
    format!("add table inet {table}\ndelete table inet {table}\n")
}

#[cfg(test)]
mod tests {
    use netbpf_common::reason::Reason;

    use super::*;
    use crate::model::{InterfaceName, Protocol};

    fn rules() -> NetworkRules {
        NetworkRules {
            device: InterfaceName::made_of("nb-", "0123456789ab"),
            gateways: vec!["10.1.0.1".parse().unwrap()],
            internal: false,
            max_flows: None,
            trusted: vec!["eth1".parse().unwrap()],
            ipv4: Way { source: Source::Interface, inbound: Inbound::Published },
            ipv6: Way { source: Source::Chosen("2001:db8::1".parse().unwrap()), inbound: Inbound::Open },
        }
    }

    fn mapping(host: &str, host_port: u16) -> Mapping {
        Mapping {
            protocol: Protocol::Tcp,
            host: host.parse().unwrap(),
            host_port,
            container: "172.17.0.2".parse().unwrap(),
            container_port: 80,
        }
    }

    #[test]
    fn a_network_is_one_element_in_each_set_that_it_belongs_to() {
        let elements = Elements::of([&rules()], []);
        assert_eq!(
            elements.added_to("t"),
            "add element inet t gateways4 { 10.1.0.1 }\n\
             add element inet t masquerade4 { \"nb-0123456789ab\" }\n\
             add element inet t masquerade6 { \"nb-0123456789ab\" }\n\
             add element inet t own { \"nb-0123456789ab\" . \"nb-0123456789ab\" }\n\
             add element inet t routed6 { \"nb-0123456789ab\" }\n\
             add element inet t source6 { \"nb-0123456789ab\" : 2001:db8::1 }\n\
             add element inet t trusted { \"eth1\" . \"nb-0123456789ab\" }\n"
        );
    }

    #[test]
    fn a_published_port_is_one_element_and_its_target_another() {
        let mappings = [mapping("0.0.0.0", 8080), mapping("127.0.0.1", 81), mapping("0.0.0.0", 0)];
        assert_eq!(
            Elements::of([], &mappings).added_to("t"),
            "add element inet t any4 { tcp . 8080 : 172.17.0.2 . 80 }\n\
             add element inet t at4 { 127.0.0.1 . tcp . 81 : 172.17.0.2 . 80 }\n\
             add element inet t open4 { 172.17.0.2 . tcp . 80 }\n"
        );
    }

    #[test]
    fn a_relayed_port_is_an_element_of_the_relayed_sets_and_of_no_map() {
        let mappings = [mapping("::", 8080), mapping("2001:db8::1", 81)];
        assert_eq!(
            Elements::of([], &mappings).added_to("t"),
            "add element inet t relayed { tcp . 8080 }\n\
             add element inet t relayed_at { 2001:db8::1 . tcp . 81 }\n"
        );
    }

    #[test]
    fn an_element_that_is_not_there_can_be_deleted() {
        let elements = Elements::of([], &[mapping("0.0.0.0", 0)]);
        assert_eq!(
            elements.deleted_from("t"),
            "add element inet t open4 { 172.17.0.2 . tcp . 80 }\n\
             delete element inet t open4 { 172.17.0.2 . tcp . 80 }\n"
        );
    }

    #[test]
    fn a_flow_limit_has_its_own_chain_which_is_deleted_with_the_network() {
        let elements = Elements::of([&NetworkRules { max_flows: Some(7), ..rules() }], []);
        let added = elements.added_to("t");
        assert!(
            added.contains(
                "add @flows-nb-0123456789ab { ether saddr ct count over 7 } counter name flows drop"
            )
        );
        assert!(added.contains("limits { \"nb-0123456789ab\" : jump flows-nb-0123456789ab }"));
        let deleted = elements.deleted_from("t");
        assert!(deleted.starts_with(&added), "it is added before it is deleted");
        assert!(deleted.ends_with("delete set inet t flows-nb-0123456789ab\n"));
    }

    #[test]
    fn every_counter_is_named_after_a_drop_reason() {
        let declared = RULES.lines().filter_map(|line| line.trim().strip_prefix("counter "));
        let names: Vec<_> = declared.filter_map(|line| line.strip_suffix(" { }")).collect();
        assert_eq!(names, ["internal", "unpublished", "transit", "flows", "untranslated"]);
        for name in names {
            assert!(Reason::ALL.iter().any(|reason| reason.name() == name && reason.is_drop()), "{name}");
        }
    }

    #[test]
    fn every_placeholder_is_replaced() {
        let text = replacement("netbpf-1", 77, &Elements::default());
        let rules: Vec<_> = text.lines().filter(|line| !line.trim().starts_with('#')).collect();
        assert!(
            !["TABLE", "GROUP", "BETWEEN"].iter().any(|word| rules.iter().any(|line| line.contains(word)))
        );
    }
}
