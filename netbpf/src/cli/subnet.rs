//! Turns `--subnet`, `--ip-range`, `--gateway` and `--aux-address` into the subnets of a network, as Docker's command
//! line does. Pure; the daemon checks whether addresses are free and prefixes have host bits.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::api::types::IpamConfig;

/// The options in the order typed.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    /// `--subnet`.
    pub subnets: Vec<String>,
    /// `--ip-range`.
    pub ranges: Vec<String>,
    /// `--gateway`.
    pub gateways: Vec<String>,
    /// `--aux-address`.
    pub auxiliary: Vec<(String, String)>,
}

/// Options that do not fit together. The messages are Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// There are more ranges or gateways than subnets.
    #[error("every ip-range or gateway must have a corresponding subnet")]
    TooFewSubnets,
    /// Two subnets overlap.
    #[error("multiple overlapping subnet configuration is not supported")]
    Overlap,
    /// Not a prefix in CIDR notation.
    #[error("invalid subnet: invalid CIDR address: {0}")]
    NotASubnet(String),
    /// Not a prefix in CIDR notation.
    #[error("invalid CIDR address: {0}")]
    NotARange(String),
    /// The address or range is in none of the subnets.
    #[error("no matching subnet for {kind} {text}")]
    NoSubnet {
        /// `range`, `gateway` or `aux-address`.
        kind: &'static str,
        /// As typed.
        text: String,
    },
    /// Two ranges are in one subnet.
    #[error("cannot configure multiple ranges ({new}, {old}) on the same subnet ({subnet})")]
    SecondRange {
        /// The second one.
        new: String,
        /// The first one.
        old: String,
        /// Their subnet.
        subnet: String,
    },
    /// Two gateways are in one subnet.
    #[error("cannot configure multiple gateways ({new}, {old}) for the same subnet ({subnet})")]
    SecondGateway {
        /// The second one.
        new: String,
        /// The first one.
        old: String,
        /// Their subnet.
        subnet: String,
    },
}

impl Typed {
    /// Returns one entry for each subnet, in the order of `--subnet`.
    pub fn into_config(self) -> Result<Vec<IpamConfig>, Mismatch> {
        if self.subnets.len() < self.ranges.len().max(self.gateways.len()) {
            return Err(Mismatch::TooFewSubnets);
        }
        let mut config: Vec<IpamConfig> = Vec::new();
        for subnet in self.subnets {
            for other in &config {
                if holds(&subnet, &other.subnet)? || holds(&other.subnet, &subnet)? {
                    return Err(Mismatch::Overlap);
                }
            }
            config.push(IpamConfig { subnet, ..Default::default() });
        }
        for new in self.ranges {
            for_each_holder(&mut config, "range", &new, |IpamConfig { subnet, ip_range, .. }| {
                if ip_range.is_empty() {
                    *ip_range = new.clone();
                    return Ok(());
                }
                let (new, old, subnet) = (new.clone(), ip_range.clone(), subnet.clone());
                Err(Mismatch::SecondRange { new, old, subnet })
            })?;
        }
        for new in self.gateways {
            for_each_holder(&mut config, "gateway", &new, |IpamConfig { subnet, gateway, .. }| {
                if gateway.is_empty() {
                    *gateway = new.clone();
                    return Ok(());
                }
                let (new, old, subnet) = (new.clone(), gateway.clone(), subnet.clone());
                Err(Mismatch::SecondGateway { new, old, subnet })
            })?;
        }
        for (name, address) in self.auxiliary.into_iter().filter(|(_, address)| !address.is_empty()) {
            for_each_holder(&mut config, "aux-address", &address, |entry| {
                entry.auxiliary_addresses.insert(name.clone(), address.clone());
                Ok(())
            })?;
        }
        Ok(config)
    }
}

fn for_each_holder(
    config: &mut [IpamConfig],
    kind: &'static str,
    text: &str,
    mut put: impl FnMut(&mut IpamConfig) -> Result<(), Mismatch>,
) -> Result<(), Mismatch> {
    let mut found = false;
    for entry in config {
        if holds(&entry.subnet, text)? {
            put(entry)?;
            found = true;
        }
    }
    if found { Ok(()) } else { Err(Mismatch::NoSubnet { kind, text: text.to_owned() }) }
}

/// Whether an address, or the first address of a prefix, is in a subnet.
fn holds(subnet: &str, text: &str) -> Result<bool, Mismatch> {
    let subnet: IpNet = subnet.parse().map_err(|_| Mismatch::NotASubnet(subnet.to_owned()))?;
    if text.contains('/') {
        let prefix: IpNet = text.parse().map_err(|_| Mismatch::NotARange(text.to_owned()))?;
        return Ok(subnet.contains(&prefix.addr()));
    }
    Ok(text.parse().is_ok_and(|address: IpAddr| subnet.contains(&address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(subnets: &[&str], ranges: &[&str], gateways: &[&str], auxiliary: &[(&str, &str)]) -> Typed {
        let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let auxiliary = auxiliary.iter().map(|&(name, address)| (name.to_owned(), address.to_owned()));
        Typed {
            subnets: own(subnets),
            ranges: own(ranges),
            gateways: own(gateways),
            auxiliary: auxiliary.collect(),
        }
    }

    #[test]
    fn each_option_is_assigned_to_its_subnet() {
        let config = typed(
            &["192.168.0.0/16", "fd00::/64"],
            &["192.168.1.0/24"],
            &["fd00::1", "192.168.0.1"],
            &[("router", "192.168.0.9")],
        )
        .into_config()
        .expect("they belong together");
        assert_eq!(config[0].gateway, "192.168.0.1");
        assert_eq!(config[0].ip_range, "192.168.1.0/24");
        assert_eq!(config[0].auxiliary_addresses["router"], "192.168.0.9");
        assert_eq!(config[1].subnet, "fd00::/64");
        assert_eq!(config[1].gateway, "fd00::1");
        assert_eq!(config[1].ip_range, "");
    }

    #[test]
    fn the_daemon_checks_a_single_subnet() {
        let config =
            typed(&["10.0.0.1/24"], &[], &[], &[]).into_config().expect("host bits are the daemon's");
        assert_eq!(config[0].subnet, "10.0.0.1/24");
        assert_eq!(typed(&["x"], &[], &[], &[]).into_config().expect("so is nonsense")[0].subnet, "x");
    }

    #[test]
    fn options_that_do_not_fit_are_refused_with_docker_s_messages() {
        for (typed, message) in [
            (
                typed(&[], &[], &["10.0.0.1"], &[]),
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (
                typed(&["10.0.0.0/8", "10.1.0.0/16"], &[], &[], &[]),
                "multiple overlapping subnet configuration is not supported",
            ),
            (typed(&["10.0.0.0/24"], &["10.0.1.0/28"], &[], &[]), "no matching subnet for range 10.0.1.0/28"),
            (typed(&["10.0.0.0/24"], &[], &["10.0.1.1"], &[]), "no matching subnet for gateway 10.0.1.1"),
            (typed(&["10.0.0.0/24"], &[], &["gw"], &[]), "no matching subnet for gateway gw"),
            (
                typed(&["10.0.0.0/24"], &[], &[], &[("a", "10.0.1.1")]),
                "no matching subnet for aux-address 10.0.1.1",
            ),
            (
                typed(&["10.0.0.0/24", "10.0.1.0/24"], &["10.0.0.0/28", "10.0.0.16/28"], &[], &[]),
                "cannot configure multiple ranges (10.0.0.16/28, 10.0.0.0/28) on the same subnet (10.0.0.0/24)",
            ),
            (
                typed(&["10.0.0.0/24", "10.0.1.0/24"], &[], &["10.0.0.1", "10.0.0.2"], &[]),
                "cannot configure multiple gateways (10.0.0.2, 10.0.0.1) for the same subnet (10.0.0.0/24)",
            ),
            (
                typed(&["10.0.0.0/33"], &[], &["10.0.0.1"], &[]),
                "invalid subnet: invalid CIDR address: 10.0.0.0/33",
            ),
            (typed(&["10.0.0.0/24"], &["10.0.0.0/x"], &[], &[]), "invalid CIDR address: 10.0.0.0/x"),
        ] {
            assert_eq!(typed.into_config().map_err(|error| error.to_string()), Err(message.to_owned()));
        }
    }
}
