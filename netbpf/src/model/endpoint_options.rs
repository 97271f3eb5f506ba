//! Options of an endpoint (`--driver-opt key=value`), with Docker's names and messages. Must not know the
//! kernel.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{
    AccessOptions, InterfaceName,
    interface::LONGEST_INTERFACE,
    options::{BadOption, OWN, interface, without_effect},
};

const IFNAME: &str = "com.docker.network.endpoint.ifname";
const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Options for an endpoint's interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointOptions {
    /// Its name; the network's prefix and the next number if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<InterfaceName>,
    /// Its settings, in the order of the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sysctls: Vec<Sysctl>,
    /// What it may send and how frames reach it.
    #[serde(default, skip_serializing_if = "AccessOptions::is_default")]
    pub access: AccessOptions,
    /// Unknown options: shown, without effect.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, String>,
}

/// A setting of an interface: `net.ipv4.conf.IFNAME.log_martians=1`. No part can be a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sysctl {
    /// `ipv4`, `ipv6` or `mpls`.
    pub family: String,
    /// `conf`, `neigh`.
    pub table: String,
    /// Name of the setting.
    pub name: String,
    /// The value as typed.
    pub value: String,
}

/// An invalid option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpointOption {
    /// An unknown option with netbpf's prefix.
    #[error("unknown endpoint option {}: known are {}", .0.escape_debug(), AccessOptions::KEYS.join(", "))]
    Unknown(String),
    /// An invalid value.
    #[error(transparent)]
    Value(#[from] BadOption),
    /// An invalid setting; Docker's message.
    #[error(
        "unrecognised network interface sysctl '{}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'",
        .0.escape_debug()
    )]
    Sysctl(String),
}

impl EndpointOptions {
    /// Parses the user's options.
    ///
    /// # Errors
    /// [`BadEndpointOption`] for the first option, in the order of the keys, that is invalid or an unknown
    /// one of netbpf's.
    pub fn parse(given: &BTreeMap<String, String>) -> Result<Self, BadEndpointOption> {
        let mut options = Self::default();
        for (key, value) in given {
            match key.as_str() {
                IFNAME => options.interface = Some(interface(IFNAME, value, LONGEST_INTERFACE)?),
                SYSCTLS => {
                    options.sysctls = value.split(',').map(Sysctl::parse).collect::<Result<_, _>>()?;
                }
                _ if options.access.set(key, value)? => {}
                _ if key.starts_with(OWN) => return Err(BadEndpointOption::Unknown(key.clone())),
                _ => {
                    options.others.insert(key.clone(), value.clone());
                }
            }
        }
        Ok(options)
    }

    /// The options as the user typed them.
    pub fn given(&self) -> BTreeMap<String, String> {
        let sysctls: Vec<String> = self.sysctls.iter().map(ToString::to_string).collect();
        let sysctls = (!sysctls.is_empty()).then(|| (SYSCTLS.to_owned(), sysctls.join(",")));
        let interface = self.interface.clone().map(|name| (IFNAME.to_owned(), name.into()));
        let typed = interface.into_iter().chain(sysctls).chain(self.access.given());
        typed.chain(self.others.clone()).collect()
    }

    /// Warnings for accepted options without effect.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.others.keys().map(|key| without_effect(key))
    }

    /// Whether no option was given.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, table, name, value } = self;
        write!(f, "net.{family}.{table}.IFNAME.{name}={value}")
    }
}

impl Sysctl {
    fn parse(text: &str) -> Result<Self, BadEndpointOption> {
        let bad = || BadEndpointOption::Sysctl(text.to_owned());
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let is_name = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        };
        match key.split('.').collect::<Vec<_>>()[..] {
            ["net", family @ ("ipv4" | "ipv6" | "mpls"), table, "IFNAME" | "ifname", name]
                if is_name(table) && is_name(name) && !value.contains(['\0', '\n']) =>
            {
                let own = str::to_owned;
                Ok(Self { family: own(family), table: own(table), name: own(name), value: own(value) })
            }
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(key: &str, value: &str) -> Result<EndpointOptions, String> {
        EndpointOptions::parse(&[(key.to_owned(), value.to_owned())].into())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_settings_are_taken() {
        assert_eq!(
            parsed(IFNAME, "web0").map(|options| options.interface),
            Ok(Some("web0".parse().expect("a name")))
        );
        let settings = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.ifname.gc_stale_time=30";
        let sysctls = parsed(SYSCTLS, settings).expect("settings").sysctls;
        let typed: Vec<_> = sysctls.iter().map(ToString::to_string).collect();
        assert_eq!(typed, ["net.ipv4.conf.IFNAME.log_martians=1", "net.ipv6.neigh.IFNAME.gc_stale_time=30"]);
        let given = parsed(SYSCTLS, settings).expect("settings").given();
        assert_eq!(EndpointOptions::parse(&given).expect("the same").sysctls, sysctls);
    }

    #[test]
    fn invalid_options_are_refused() {
        for setting in [
            "net.ipv4.conf.eth0.log_martians=1",
            "net.ipv4.conf.IFNAME.log_martians",
            "net.ipv4.ip_forward=1",
            "net.core.conf.IFNAME.x=1",
            "kernel.ipv4.conf.IFNAME.x=1",
            "net.ipv4.conf.IFNAME.../../x=1",
            "net.ipv4.conf.IFNAME.a/b=1",
            "",
        ] {
            let message = parsed(SYSCTLS, setting).expect_err("no setting");
            assert!(
                message.starts_with(&format!("unrecognised network interface sysctl '{setting}'; ")),
                "{message}"
            );
        }
        assert!(
            parsed(IFNAME, "a/b").expect_err("no name").starts_with("failed to parse com.docker.network.")
        );
        assert_eq!(
            parsed("netbpf.x", "y").expect_err("unknown"),
            "unknown endpoint option netbpf.x: known are netbpf.addresses, netbpf.guard, netbpf.redirect, \
             netbpf.ingress_rate, netbpf.ingress_burst, netbpf.egress_rate, netbpf.egress_burst"
        );
        assert_eq!(
            parsed("netbpf.guard", "x").expect_err("no such word"),
            "failed to parse netbpf.guard value: x (expected off or on)"
        );
        let open = parsed("netbpf.addresses", "10.1.0.9").expect("an address");
        assert_eq!(open.given(), [("netbpf.addresses".to_owned(), "10.1.0.9".to_owned())].into());
        let foreign = parsed("x", "y").expect("what Docker takes");
        assert_eq!(foreign.given(), [("x".to_owned(), "y".to_owned())].into());
        assert_eq!(foreign.warnings().collect::<Vec<_>>(), ["unknown driver option x has no effect"]);
    }
}
