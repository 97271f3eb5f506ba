//! Driver options of a network (`-o key=value`), with Docker's names. As in Docker, an unknown option is
//! accepted, with a warning; an unknown option with netbpf's prefix is an error. Must not know the kernel.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use netbpf_common::flood::DEFAULT_COPIES;
use serde::{Deserialize, Serialize};

use super::{
    access::AccessOptions,
    interface::{BadInterface, HostInterface, InterfaceName, LONGEST_INTERFACE},
};

const NAME: &str = "com.docker.network.bridge.name";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const GATEWAY_MODE_IPV4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const GATEWAY_MODE_IPV6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";
const TRUSTED: &str = "com.docker.network.bridge.trusted_host_interfaces";
const MTU: &str = "com.docker.network.driver.mtu";
const PREFIX: &str = "com.docker.network.container_iface_prefix";
const HOST_IPV4: &str = "com.docker.network.host_ipv4";
const HOST_IPV6: &str = "com.docker.network.host_ipv6";
const ENABLE_IPV4: &str = "com.docker.network.enable_ipv4";
const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
const ADVERTISE_COUNT: &str = "com.docker.network.advertise_addr_nmsgs";
const ADVERTISE_INTERVAL: &str = "com.docker.network.advertise_addr_ms";
const GSO_MAX_SIZE: &str = "netbpf.gso_max_size";
const MAX_FLOWS: &str = "netbpf.max_flows";
const MAX_FLOOD_COPIES: &str = "netbpf.max_flood_copies";
const DNS_INTERCEPT: &str = "netbpf.dns_intercept";

/// Prefix of netbpf's own options. A misspelt one is an error.
pub(super) const OWN: &str = "netbpf.";

/// All known options, except those of [`AccessOptions`].
const KNOWN: [&str; 21] = [
    NAME,
    ICC,
    MASQUERADE,
    HOST_BINDING,
    GATEWAY_MODE_IPV4,
    GATEWAY_MODE_IPV6,
    INHIBIT_IPV4,
    TRUSTED,
    PREFIX,
    MTU,
    ENABLE_IPV4,
    ENABLE_IPV6,
    HOST_IPV4,
    HOST_IPV6,
    DEFAULT_BRIDGE,
    ADVERTISE_COUNT,
    ADVERTISE_INTERVAL,
    GSO_MAX_SIZE,
    MAX_FLOWS,
    MAX_FLOOD_COPIES,
    DNS_INTERCEPT,
];

/// The largest packet that every device accepts in one piece, in bytes (the kernel's `GSO_LEGACY_MAX_SIZE`).
pub const GSO_LEGACY_MAX_SIZE: u32 = 65536;

/// The largest useful packet in bytes: larger ones are not faster.
pub const BIG_TCP: u32 = 262_144;

/// The kernel's limit in bytes (its `GSO_MAX_SIZE`).
const GSO_MAX: u32 = 524_280;

/// Driver options of a bridge. Those that only affect its creation are not stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Name of the host device; `nb-` and 12 digits of the network's ID if absent.
    #[serde(skip)]
    pub device: Option<InterfaceName>,
    /// Whether members may talk to each other.
    pub icc: bool,
    /// Whether packets that leave the network get the host's address.
    pub masquerade: bool,
    /// The host address for published ports without an address; all of the host's addresses if absent.
    pub host_binding: Option<IpAddr>,
    /// How other hosts reach containers over IPv4.
    pub gateway_mode_ipv4: GatewayMode,
    /// How other hosts reach containers over IPv6.
    pub gateway_mode_ipv6: GatewayMode,
    /// Whether the host device has no IPv4 address although containers use it as gateway.
    pub inhibit_ipv4: bool,
    /// Interfaces of the host whose neighbours may reach containers without published ports.
    pub trusted: Vec<HostInterface>,
    /// Prefix of the container's interfaces: `eth` for `eth0`.
    pub interface_prefix: InterfaceName,
    /// MTU of the host device and both ends of each veth pair, in bytes.
    pub mtu: u32,
    /// The largest TCP packet that members send in one piece, in bytes (`gso_max_size` of both ends of each
    /// veth pair); the limit of the host's uplinks if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gso_max_size: Option<u32>,
    /// Limit of flows (conntrack entries) that a container began; no limit if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_flows: Option<u32>,
    /// Limit of copies a second of a container's frames to groups; 0 for no limit; the default limit if
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_flood_copies: Option<u32>,
    /// Whether queries for names of containers are answered on their way to another name server.
    #[serde(skip_serializing_if = "Clone::clone")]
    pub dns_intercept: bool,
    /// What members may send and how frames reach them, for those without options of their own.
    #[serde(skip_serializing_if = "AccessOptions::is_default")]
    pub access: AccessOptions,
    /// How often a new endpoint's addresses are announced. If absent: once, if neighbours may know another
    /// MAC for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertisements: Option<u32>,
    /// Interval of announcements in milliseconds; 1,000 if absent, as in Docker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertisement_interval: Option<u32>,
    /// Source address of IPv4 packets that leave the network, instead of the outgoing interface's.
    pub host_ipv4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub host_ipv6: Option<Ipv6Addr>,
    /// `--ipv4` as an option.
    #[serde(skip)]
    pub enable_ipv4: Option<bool>,
    /// `--ipv6` as an option.
    #[serde(skip)]
    pub enable_ipv6: Option<bool>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: None,
            icc: true,
            masquerade: true,
            host_binding: None,
            gateway_mode_ipv4: GatewayMode::Nat,
            gateway_mode_ipv6: GatewayMode::Nat,
            inhibit_ipv4: false,
            trusted: Vec::new(),
            interface_prefix: InterfaceName::made_of("eth", ""),
            mtu: 1500,
            max_flows: None,
            max_flood_copies: None,
            dns_intercept: true,
            gso_max_size: None,
            access: AccessOptions::default(),
            advertisements: None,
            advertisement_interval: None,
            host_ipv4: None,
            host_ipv6: None,
            enable_ipv4: None,
            enable_ipv6: None,
        }
    }
}

/// How other hosts reach a network's containers (Docker's `gateway_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// By the host's published ports only.
    #[default]
    Nat,
    /// As `nat`, and by all ports at the container's own address.
    NatUnprotected,
    /// By published ports at the container's own address only; no address is translated.
    Routed,
    /// Not at all, not even from the host, which has no address in the network.
    Isolated,
}

/// An invalid driver option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOption {
    /// An unknown option with netbpf's prefix.
    #[error("unknown driver option {}: known are {}", .0.escape_debug(), own().join(", "))]
    Unknown(String),
    /// An option that holds from the creation on.
    #[error("{} cannot be changed: only {} can", .0.escape_debug(), AccessOptions::KEYS.join(", "))]
    Fixed(String),
    /// Docker's message.
    #[error("failed to parse {key} value: {} ({reason})", .value.escape_debug())]
    Value {
        /// The option.
        key: &'static str,
        /// The value.
        value: String,
        /// Why it is invalid.
        reason: String,
    },
    /// Docker's message.
    #[error("driver-opt {0:?} is not a valid bool")]
    Bool(&'static str),
    /// Docker's message.
    #[error("value for option {key} {value:?} must be {what}")]
    Integer {
        /// The option.
        key: &'static str,
        /// The value.
        value: String,
        /// `an integer`.
        what: &'static str,
    },
    /// Docker's message.
    #[error("{key} must be in the range {least} to {most}")]
    Range {
        /// The option.
        key: &'static str,
        /// Smallest valid value.
        least: u32,
        /// Largest valid value.
        most: u32,
    },
    /// Docker's message.
    #[error("invalid MTU number: {0}")]
    Mtu(i64),
    /// Docker's message.
    #[error("unknown gateway mode {}", .0.escape_debug())]
    GatewayMode(String),
    /// Docker's message.
    #[error("gateway mode 'isolated' can only be used for an internal network")]
    IsolatedNotInternal,
}

impl Options {
    /// Parses the user's options.
    ///
    /// # Errors
    /// [`BadOption`] for the first option, in the order of the keys, with an invalid value or with netbpf's
    /// prefix and an unknown name. Others that are unknown are no error.
    pub fn parse(given: &BTreeMap<String, String>, internal: bool) -> Result<Self, BadOption> {
        // Packets of an internal network never leave by an uplink, which might have to cut them.
        let mut options = Self { gso_max_size: internal.then_some(BIG_TCP), ..Self::default() };
        for (key, value) in given {
            match key.as_str() {
                NAME => options.device = Some(interface(NAME, value, LONGEST_INTERFACE)?),
                ICC => options.icc = boolean(ICC, value)?,
                MASQUERADE => options.masquerade = boolean(MASQUERADE, value)?,
                HOST_BINDING => options.host_binding = Some(parse(HOST_BINDING, value)?),
                GATEWAY_MODE_IPV4 => options.gateway_mode_ipv4 = gateway_mode(value, internal)?,
                GATEWAY_MODE_IPV6 => options.gateway_mode_ipv6 = gateway_mode(value, internal)?,
                INHIBIT_IPV4 => options.inhibit_ipv4 = boolean(INHIBIT_IPV4, value)?,
                TRUSTED => {
                    let names = value.split(':').filter(|name| !name.is_empty());
                    options.trusted = names.map(|name| parse(TRUSTED, name)).collect::<Result<_, _>>()?;
                }
                // The kernel's names have up to four digits after the prefix.
                PREFIX => options.interface_prefix = interface(PREFIX, value, LONGEST_INTERFACE - 4)?,
                MTU => options.mtu = mtu(value)?,
                GSO_MAX_SIZE => options.gso_max_size = Some(gso_max_size(value)?),
                MAX_FLOWS => options.max_flows = Some(max_flows(value)?),
                MAX_FLOOD_COPIES => options.max_flood_copies = Some(parse(MAX_FLOOD_COPIES, value)?),
                DNS_INTERCEPT => options.dns_intercept = boolean(DNS_INTERCEPT, value)?,
                HOST_IPV4 => options.host_ipv4 = Some(parse(HOST_IPV4, value)?),
                HOST_IPV6 => options.host_ipv6 = Some(parse(HOST_IPV6, value)?),
                ENABLE_IPV4 => options.enable_ipv4 = Some(family(ENABLE_IPV4, value)?),
                ENABLE_IPV6 => options.enable_ipv6 = Some(family(ENABLE_IPV6, value)?),
                // Docker's own mark of its default network.
                DEFAULT_BRIDGE => drop(boolean(DEFAULT_BRIDGE, value)?),
                ADVERTISE_COUNT => {
                    options.advertisements = Some(in_range(ADVERTISE_COUNT, value, "an integer", 0, 3)?);
                }
                ADVERTISE_INTERVAL => {
                    let what = "integer milliseconds";
                    options.advertisement_interval =
                        Some(in_range(ADVERTISE_INTERVAL, value, what, 100, 2000)?);
                }
                _ if options.access.set(key, value)? => {}
                _ if key.starts_with(OWN) => return Err(BadOption::Unknown(key.clone())),
                _ => {}
            }
        }
        Ok(options)
    }
}

impl Options {
    /// Warnings for accepted options without effect, which no driver of this kind knows.
    pub fn warnings(given: &BTreeMap<String, String>) -> Vec<String> {
        let is_known = |key: &str| KNOWN.contains(&key) || AccessOptions::KEYS.contains(&key);
        given.keys().filter(|key| !is_known(key)).map(|key| without_effect(key)).collect()
    }

    /// Limit of copies a second of a container's frames to groups; 0 for no limit.
    pub fn flood_copies(&self) -> u32 {
        self.max_flood_copies.unwrap_or(DEFAULT_COPIES)
    }

    /// Whether the host has an IPv4 address in the network.
    pub fn host_has_ipv4(&self) -> bool {
        !self.inhibit_ipv4 && self.gateway_mode_ipv4 != GatewayMode::Isolated
    }

    /// Whether the host has an IPv6 address in the network.
    pub fn host_has_ipv6(&self) -> bool {
        self.gateway_mode_ipv6 != GatewayMode::Isolated
    }
}

/// netbpf's own options.
fn own() -> Vec<&'static str> {
    KNOWN.into_iter().filter(|key| key.starts_with(OWN)).chain(AccessOptions::KEYS).collect()
}

/// Warning for an option without effect.
pub(super) fn without_effect(key: &str) -> String {
    format!("unknown driver option {} has no effect", key.escape_debug())
}

/// Parses a number in Docker's range.
fn in_range(
    key: &'static str,
    value: &str,
    what: &'static str,
    least: u32,
    most: u32,
) -> Result<u32, BadOption> {
    let number: i64 = value.parse().map_err(|_| BadOption::Integer { key, value: value.to_owned(), what })?;
    let number = u32::try_from(number).ok().filter(|number| (least..=most).contains(number));
    number.ok_or(BadOption::Range { key, least, most })
}

fn parse<T: FromStr<Err: ToString>>(key: &'static str, value: &str) -> Result<T, BadOption> {
    value.parse().map_err(|error: T::Err| bad(key, value, error.to_string()))
}

pub(super) fn bad(key: &'static str, value: &str, reason: impl Into<String>) -> BadOption {
    BadOption::Value { key, value: value.to_owned(), reason: reason.into() }
}

/// Parses as Go's `strconv.ParseBool`.
fn go_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn boolean(key: &'static str, value: &str) -> Result<bool, BadOption> {
    go_bool(value).ok_or_else(|| bad(key, value, go_syntax("ParseBool", value)))
}

/// Go's message for a text that a function of its `strconv` cannot parse.
fn go_syntax(function: &str, value: &str) -> String {
    format!("strconv.{function}: parsing {value:?}: invalid syntax")
}

fn family(key: &'static str, value: &str) -> Result<bool, BadOption> {
    go_bool(value).ok_or(BadOption::Bool(key))
}

/// Parses the name of an interface that netbpf creates.
pub(super) fn interface(key: &'static str, name: &str, longest: usize) -> Result<InterfaceName, BadOption> {
    InterfaceName::choose(name, longest).map_err(|error: BadInterface| bad(key, name, error.to_string()))
}

/// Parses an MTU. 0 stands for the default; a veth accepts 68, the minimum of IPv4 (RFC 791), to 65535.
fn mtu(value: &str) -> Result<u32, BadOption> {
    match value.parse::<i64>().map_err(|_| bad(MTU, value, go_syntax("Atoi", value)))? {
        0 => Ok(Options::default().mtu),
        number @ 68..=65535 => Ok(number as u32),
        number => Err(BadOption::Mtu(number)),
    }
}

fn gso_max_size(value: &str) -> Result<u32, BadOption> {
    match parse::<u32>(GSO_MAX_SIZE, value)? {
        size @ GSO_LEGACY_MAX_SIZE..=GSO_MAX => Ok(size),
        _ => Err(bad(GSO_MAX_SIZE, value, format!("expected {GSO_LEGACY_MAX_SIZE} to {GSO_MAX}"))),
    }
}

fn max_flows(value: &str) -> Result<u32, BadOption> {
    match parse(MAX_FLOWS, value)? {
        0 => Err(bad(MAX_FLOWS, value, "expected at least 1")),
        number => Ok(number),
    }
}

fn gateway_mode(value: &str, internal: bool) -> Result<GatewayMode, BadOption> {
    match value {
        "" | "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" if internal => Ok(GatewayMode::Isolated),
        "isolated" => Err(BadOption::IsolatedNotInternal),
        _ => Err(BadOption::GatewayMode(value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(key: &str, value: &str) -> Result<Options, String> {
        let given = [(key.to_owned(), value.to_owned())].into();
        Options::parse(&given, false).map_err(|error| error.to_string())
    }

    #[test]
    fn without_options_dockers_defaults_apply() {
        assert_eq!(Options::parse(&BTreeMap::new(), false), Ok(Options::default()));
        assert_eq!(parsed(MTU, "0"), Ok(Options::default()));
        assert_eq!(parsed(GATEWAY_MODE_IPV4, ""), Ok(Options::default()));
    }

    #[test]
    fn an_unknown_option_is_accepted_with_a_warning_unless_it_has_netbpfs_prefix() {
        for key in ["com.docker.network.bridge.enable_icq", "foo", "parent"] {
            assert_eq!(parsed(key, "x"), Ok(Options::default()), "{key}");
            let given = [(key.to_owned(), "x".to_owned()), (MTU.to_owned(), "1400".to_owned())].into();
            assert_eq!(Options::warnings(&given), [format!("unknown driver option {key} has no effect")]);
        }
        let unknown = parsed("netbpf.gso", "65536").unwrap_err();
        assert!(
            unknown.contains("known are netbpf.gso_max_size, netbpf.max_flows, netbpf.max_flood_copies, ")
        );
        assert!(unknown.ends_with(&AccessOptions::KEYS.join(", ")), "{unknown}");
        let known = KNOWN.into_iter().chain(AccessOptions::KEYS);
        let given = known.map(|key| (key.to_owned(), String::new())).collect();
        assert_eq!(Options::warnings(&given), [""; 0]);
    }

    #[test]
    fn bad_values_are_refused_with_dockers_messages() {
        for (key, value, said) in [
            (
                ICC,
                "no",
                format!(
                    "failed to parse {ICC} value: no (strconv.ParseBool: parsing \"no\": invalid syntax)"
                ),
            ),
            (
                MTU,
                "big",
                format!("failed to parse {MTU} value: big (strconv.Atoi: parsing \"big\": invalid syntax)"),
            ),
            (MTU, "-1", "invalid MTU number: -1".to_owned()),
            (ADVERTISE_COUNT, "4", format!("{ADVERTISE_COUNT} must be in the range 0 to 3")),
            (ADVERTISE_COUNT, "x", format!("value for option {ADVERTISE_COUNT} \"x\" must be an integer")),
            (ADVERTISE_INTERVAL, "99", format!("{ADVERTISE_INTERVAL} must be in the range 100 to 2000")),
            (MTU, "67", "invalid MTU number: 67".to_owned()),
            (MTU, "65536", "invalid MTU number: 65536".to_owned()),
            (GATEWAY_MODE_IPV4, "open", "unknown gateway mode open".to_owned()),
            (
                GATEWAY_MODE_IPV6,
                "isolated",
                "gateway mode 'isolated' can only be used for an internal network".to_owned(),
            ),
            (
                GSO_MAX_SIZE,
                "1500",
                format!("failed to parse {GSO_MAX_SIZE} value: 1500 (expected 65536 to 524280)"),
            ),
            (ENABLE_IPV6, "maybe", format!("driver-opt {ENABLE_IPV6:?} is not a valid bool")),
            (
                HOST_BINDING,
                "everywhere",
                format!("failed to parse {HOST_BINDING} value: everywhere (invalid IP address syntax)"),
            ),
        ] {
            assert_eq!(parsed(key, value).unwrap_err(), said);
        }
        for (key, name) in [(NAME, "int\\"), (NAME, "nb%d"), (PREFIX, "0123456789ab"), (TRUSTED, "eth1:e*")] {
            assert!(parsed(key, name).unwrap_err().contains("expected the name of an interface"), "{key}");
        }
    }

    #[test]
    fn values_are_accepted() {
        assert!(!parsed(ICC, "false").unwrap().icc);
        assert_eq!(parsed(DEFAULT_BRIDGE, "false"), Ok(Options::default()));
        assert_eq!(parsed(ADVERTISE_COUNT, "0").unwrap().advertisements, Some(0));
        assert_eq!(parsed(ADVERTISE_INTERVAL, "2000").unwrap().advertisement_interval, Some(2000));
        let trusted = parsed(TRUSTED, "eth1:eth0.100").unwrap().trusted;
        assert_eq!(trusted.iter().map(ToString::to_string).collect::<Vec<_>>(), ["eth1", "eth0.100"]);
        assert_eq!(parsed(MTU, "9000").unwrap().mtu, 9000);
        assert_eq!(parsed(MAX_FLOWS, "1000").unwrap().max_flows, Some(1000));
        assert!(parsed(MAX_FLOWS, "0").unwrap_err().contains("expected at least 1"));
        let flood_copies = |value| parsed(MAX_FLOOD_COPIES, value).map(|options| options.flood_copies());
        assert_eq!((flood_copies("9"), flood_copies("0")), (Ok(9), Ok(0)));
        assert!(flood_copies("-1").is_err());
        assert_eq!(Options::default().flood_copies(), DEFAULT_COPIES);
        assert_eq!(parsed(GSO_MAX_SIZE, "65536").unwrap().gso_max_size, Some(65536));
        let internal = Options::parse(&[(GATEWAY_MODE_IPV4.into(), "isolated".into())].into(), true).unwrap();
        assert_eq!(internal.gateway_mode_ipv4, GatewayMode::Isolated);
        assert_eq!(internal.gso_max_size, Some(BIG_TCP));
    }
}
