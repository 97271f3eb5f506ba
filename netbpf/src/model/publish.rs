//! Published ports: the user's requests (`-p`, `--expose`), with Docker's syntax and messages, and the
//! mappings of a running container. Must not know which host ports are taken.

use std::{fmt, net::IpAddr, num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

/// Protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = BadPublish;

    fn from_str(text: &str) -> Result<Self, BadPublish> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            other => Err(BadPublish::Protocol(other.to_owned())),
        }
    }
}

/// A container's port: `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerPort {
    /// Never 0.
    #[serde(deserialize_with = "not_zero")]
    pub number: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl fmt::Display for ContainerPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl FromStr for ContainerPort {
    type Err = BadPublish;

    /// `80` is `80/tcp`.
    fn from_str(text: &str) -> Result<Self, BadPublish> {
        let (number, protocol) = split_protocol(text)?;
        let bad = || BadPublish::ContainerPort(number.to_owned());
        let number = number.parse().ok().filter(|number| *number != 0).ok_or_else(bad)?;
        Ok(Self { number, protocol })
    }
}

fn not_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    NonZeroU16::deserialize(deserializer).map(NonZeroU16::get)
}

/// A range of ports with both ends included, neither 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Ends")]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// The ends of a range as they are stored.
#[derive(Deserialize)]
struct Ends {
    first: u16,
    last: u16,
}

impl TryFrom<Ends> for PortRange {
    type Error = String;

    fn try_from(Ends { first, last }: Ends) -> Result<Self, String> {
        Self::new(first, last).ok_or_else(|| format!("{first} to {last} is no range of ports"))
    }
}

impl PortRange {
    /// None if a port is 0 or `last` is less than `first`.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || last < first { None } else { Some(Self { first, last }) }
    }

    /// The lowest.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// The number of ports; never 0.
    pub fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    /// All ports in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl FromStr for PortRange {
    type Err = String;

    /// Parses `8000` or `8000-8010`. Errors are those of Go's `strconv`, as in Docker.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("empty string specified for ports".into());
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        if last.contains('-') {
            return Err(format!("invalid port range format: {}", text.escape_debug()));
        }
        Self::new(port(first)?, port(last)?)
            .ok_or_else(|| format!("invalid range specified for port: {}", text.escape_debug()))
    }
}

fn port(text: &str) -> Result<u16, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or_else(|| {
        let reason = if is_number { "value out of range" } else { "invalid syntax" };
        format!("strconv.ParseUint: parsing {text:?}: {reason}")
    })
}

/// A container port to publish.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Publish {
    /// The container port.
    pub container: ContainerPort,
    /// The host address; if absent, the network's default (all addresses if it has none).
    pub host: Option<IpAddr>,
    /// The host port: the first free one of these; any free one if absent.
    pub host_ports: Option<PortRange>,
}

/// A published port of a running container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mapping {
    /// The protocol.
    pub protocol: Protocol,
    /// The host address; unspecified (`0.0.0.0`, `::`) for all addresses of that family.
    pub host: IpAddr,
    /// The host port; 0 if the network is routed: then nothing is on the host, and the container's own
    /// address and port are opened.
    pub host_port: u16,
    /// The container's address.
    pub container: IpAddr,
    /// The container's port.
    pub container_port: u16,
}

impl Mapping {
    /// `80/tcp`.
    pub const fn container_port(&self) -> ContainerPort {
        ContainerPort { number: self.container_port, protocol: self.protocol }
    }

    /// Whether the packet filter translates packets to the container: possible within one family only.
    pub const fn is_translated(&self) -> bool {
        self.host.is_ipv4() == self.container.is_ipv4()
    }

    /// Whether the host port needs a relay, for clients whose packets cannot be translated: those of the
    /// other family, those with an IPv6 address that is valid on one link only (`::1`, `fe80::/10`), and, if
    /// published at all addresses, broadcasts.
    pub const fn is_relayed(&self) -> bool {
        match self.protocol {
            _ if self.host_port == 0 => false,
            Protocol::Tcp => self.host.is_ipv6(),
            Protocol::Udp => self.host.is_ipv6() || self.host.is_unspecified(),
            Protocol::Sctp => false,
        }
    }
}

/// An invalid `-p` or `--expose`; Docker's message if there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPublish {
    /// An invalid host address.
    #[error("invalid IP address: {}", .0.escape_debug())]
    Address(String),
    /// The container port is missing.
    #[error("no port specified: {}<empty>", .0.escape_debug())]
    NoPort(String),
    /// Not a port or a range.
    #[error("invalid containerPort: {}", .0.escape_debug())]
    ContainerPort(String),
    /// Not a port or a range.
    #[error("invalid hostPort: {}", .0.escape_debug())]
    HostPort(String),
    /// Ranges of different lengths.
    #[error("invalid ranges specified for container and host Ports: {} and {}", .container.escape_debug(), .host.escape_debug())]
    Ranges {
        /// As typed.
        container: String,
        /// As typed.
        host: String,
    },
    /// Unknown protocol.
    #[error("invalid proto: {}", .0.escape_debug())]
    Protocol(String),
    /// A field without a value in the long form.
    #[error("invalid publish opts format (should be name=value but got '{}')", .0.escape_debug())]
    Field(String),
    /// An unknown field in the long form, which Docker ignores.
    #[error("invalid publish opts: unknown name {}: known are published, target, protocol and host_ip", .0.escape_debug())]
    UnknownField(String),
    /// `--expose` with a host port.
    #[error("invalid port format for --expose: {}", .0.escape_debug())]
    Expose(String),
    /// Not a port or a range.
    #[error("invalid range format for --expose: {}, error: {reason}", .text.escape_debug())]
    ExposeRange {
        /// As typed.
        text: String,
        /// Why it is invalid.
        reason: String,
    },
}

/// Parses `-p`: `[ip:][hostPort[-hostPort]:]containerPort[-containerPort][/protocol]`, or the long form
/// `published=…,target=…,protocol=…,host_ip=…`. Returns one entry for each container port.
///
/// # Errors
/// [`BadPublish`] for the part that is invalid, or [`BadPublish::Ranges`] if the ranges of host and container
/// differ in length.
pub fn parse_publish(text: &str) -> Result<Vec<Publish>, BadPublish> {
    if text.contains('=') { parse_short(&short_form(text)?) } else { parse_short(text) }
}

fn parse_short(text: &str) -> Result<Vec<Publish>, BadPublish> {
    // The address is everything before the last two colons: an IPv6 address contains colons.
    let mut parts = text.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host_ports = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();

    if container.split('/').next().is_none_or(str::is_empty) {
        return Err(BadPublish::NoPort(text.to_owned()));
    }
    let (container, protocol) = split_protocol(container)?;
    let host = match host {
        "" => None,
        host => {
            let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            Some(bare.parse().map_err(|_| BadPublish::Address(bare.to_owned()))?)
        }
    };
    let ports: PortRange =
        container.parse().map_err(|_: String| BadPublish::ContainerPort(container.to_owned()))?;
    let typed = host_ports;
    let host_ports = parse_host_ports(typed)?;
    // A range of host ports for one container port means its first free port.
    let count = host_ports.map_or(1, PortRange::count);
    if !typed.is_empty() && ports.count() != count && ports.count() != 1 {
        return Err(BadPublish::Ranges { container: container.to_owned(), host: typed.to_owned() });
    }
    let published = |(index, number)| Publish {
        container: ContainerPort { number, protocol },
        host,
        host_ports: match host_ports {
            Some(host) if ports.count() > 1 => {
                let port = host.first + index;
                Some(PortRange { first: port, last: port })
            }
            other => other,
        },
    };
    Ok((0..).zip(ports.iter()).map(published).collect())
}

/// Parses the host ports in `-p` and in the API's `HostPort`: a port, a range, or any free port, which is
/// empty or 0 as in Docker.
///
/// # Errors
/// [`BadPublish::HostPort`] if it is not a port or a range with its lower end first.
pub fn parse_host_ports(text: &str) -> Result<Option<PortRange>, BadPublish> {
    if text.bytes().all(|byte| byte == b'0') {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_: String| BadPublish::HostPort(text.to_owned()))
}

/// Parses `--expose`: `port[-port][/protocol]`.
///
/// # Errors
/// [`BadPublish::Expose`] for a text with `:`; [`BadPublish::Protocol`]; [`BadPublish::ExposeRange`].
pub fn parse_expose(text: &str) -> Result<Vec<ContainerPort>, BadPublish> {
    if text.contains(':') {
        return Err(BadPublish::Expose(text.to_owned()));
    }
    let (ports, protocol) = split_protocol(text)?;
    let ports: PortRange =
        ports.parse().map_err(|reason| BadPublish::ExposeRange { text: text.to_owned(), reason })?;
    Ok(ports.iter().map(|number| ContainerPort { number, protocol }).collect())
}

/// Splits `80/udp`; TCP if there is no protocol.
fn split_protocol(text: &str) -> Result<(&str, Protocol), BadPublish> {
    match text.split_once('/') {
        None | Some((_, "")) => Ok((text.trim_end_matches('/'), Protocol::Tcp)),
        Some((port, protocol)) => Ok((port, protocol.parse()?)),
    }
}

/// Converts the long form: `published=8080,target=80` is `8080:80/tcp`.
fn short_form(text: &str) -> Result<String, BadPublish> {
    let (mut host, mut published, mut target, mut protocol) = ("", "", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=') {
            None | Some(("", _)) => return Err(BadPublish::Field(field.to_owned())),
            Some(("host_ip", value)) => host = value,
            Some(("published", value)) => published = value,
            Some(("target", value)) => target = value,
            Some(("protocol", value)) => protocol = value,
            Some((name, _)) => return Err(BadPublish::UnknownField(name.to_owned())),
        }
    }
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(match host {
        "" => format!("{published}:{target}/{protocol}"),
        host => format!("[{host}]:{published}:{target}/{protocol}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Formats as `address host-ports container-port`, with `-` for an absent part.
    fn shown(text: &str) -> Vec<String> {
        parse_publish(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .iter()
            .map(|Publish { container, host, host_ports }| {
                let host = host.map_or("-".to_owned(), |host| host.to_string());
                let ports = host_ports.map_or("-".to_owned(), |ports| ports.to_string());
                format!("{host} {ports} {container}")
            })
            .collect()
    }

    #[test]
    fn every_form_of_docker_is_accepted() {
        for (text, expected) in [
            ("80", vec!["- - 80/tcp"]),
            ("80/", vec!["- - 80/tcp"]),
            ("53/udp", vec!["- - 53/udp"]),
            ("3868/SCTP", vec!["- - 3868/sctp"]),
            ("8080:80", vec!["- 8080 80/tcp"]),
            (":80", vec!["- - 80/tcp"]),
            ("127.0.0.1:8080:80/udp", vec!["127.0.0.1 8080 80/udp"]),
            ("127.0.0.1::80", vec!["127.0.0.1 - 80/tcp"]),
            ("0.0.0.0:8080:80", vec!["0.0.0.0 8080 80/tcp"]),
            ("[::1]:8080:80", vec!["::1 8080 80/tcp"]),
            ("[::]::80", vec![":: - 80/tcp"]),
            ("0:80", vec!["- - 80/tcp"]),
            ("127.0.0.1:0:80/udp", vec!["127.0.0.1 - 80/udp"]),
            ("published=0,target=80", vec!["- - 80/tcp"]),
            ("::1:8080:80", vec!["::1 8080 80/tcp"]),
            ("8000-8010:80", vec!["- 8000-8010 80/tcp"]),
            ("8000-8001:80-81", vec!["- 8000 80/tcp", "- 8001 81/tcp"]),
            ("80-81/udp", vec!["- - 80/udp", "- - 81/udp"]),
            ("127.0.0.1::80-81", vec!["127.0.0.1 - 80/tcp", "127.0.0.1 - 81/tcp"]),
            ("8000-8000:80-80", vec!["- 8000 80/tcp"]),
            ("65535:65535", vec!["- 65535 65535/tcp"]),
            ("published=8080,target=80", vec!["- 8080 80/tcp"]),
            ("target=53,protocol=udp", vec!["- - 53/udp"]),
            (
                "published=8080-8081,target=80-81,host_ip=10.0.0.1",
                vec!["10.0.0.1 8080 80/tcp", "10.0.0.1 8081 81/tcp"],
            ),
            ("host_ip=::1,published=8080,target=80", vec!["::1 8080 80/tcp"]),
            ("host_ip=[::1],target=80", vec!["::1 - 80/tcp"]),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert_eq!(parse_publish("20000-20999:20000-20999").unwrap().len(), 1000);
        assert_eq!(parse_publish("1-65535:1-65535").unwrap().len(), 65535);
    }

    #[test]
    fn invalid_ports_are_refused_with_dockers_messages() {
        for (text, message) in [
            ("", "no port specified: <empty>"),
            (":", "no port specified: :<empty>"),
            ("8080:", "no port specified: 8080:<empty>"),
            ("8080:/tcp", "no port specified: 8080:/tcp<empty>"),
            ("x:8080:80", "invalid IP address: x"),
            ("localhost:80:80", "invalid IP address: localhost"),
            ("[::1:80:80", "invalid IP address: [::1"),
            ("256.0.0.1::80", "invalid IP address: 256.0.0.1"),
            ("0", "invalid containerPort: 0"),
            ("8080:0", "invalid containerPort: 0"),
            ("65536", "invalid containerPort: 65536"),
            ("8080:65536", "invalid containerPort: 65536"),
            ("x", "invalid containerPort: x"),
            ("+80", "invalid containerPort: +80"),
            ("81-80", "invalid containerPort: 81-80"),
            ("80-81-82", "invalid containerPort: 80-81-82"),
            ("80-", "invalid containerPort: 80-"),
            ("0-1:80", "invalid hostPort: 0-1"),
            ("0:80-81", "invalid ranges specified for container and host Ports: 80-81 and 0"),
            ("65536:80", "invalid hostPort: 65536"),
            ("-1:80", "invalid hostPort: -1"),
            ("x:80", "invalid hostPort: x"),
            ("8010-8000:80-90", "invalid hostPort: 8010-8000"),
            ("8000-8010:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8000-8010"),
            ("8000:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8000"),
            ("80/icmp", "invalid proto: icmp"),
            ("80/tcp/udp", "invalid proto: tcp/udp"),
            ("published=80", "no port specified: 80:/tcp<empty>"),
            ("published=80,81", "invalid publish opts format (should be name=value but got '81')"),
            ("=80", "invalid publish opts format (should be name=value but got '=80')"),
            (
                "published=80,target=80,mode=host",
                "invalid publish opts: unknown name mode: known are published, target, protocol and host_ip",
            ),
        ] {
            assert_eq!(parse_publish(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn exposed_ports_are_a_port_or_a_range() {
        let shown = |text| parse_expose(text).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown("80"), ["80/tcp"]);
        assert_eq!(shown("53-54/udp"), ["53/udp", "54/udp"]);
        for (text, message) in [
            ("8080:80", "invalid port format for --expose: 8080:80"),
            ("/tcp", "invalid range format for --expose: /tcp, error: empty string specified for ports"),
            (
                "x",
                "invalid range format for --expose: x, error: strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
            (
                "65536",
                "invalid range format for --expose: 65536, error: strconv.ParseUint: parsing \"65536\": value out of range",
            ),
            (
                "81-80",
                "invalid range format for --expose: 81-80, error: invalid range specified for port: 81-80",
            ),
            ("80/icmp", "invalid proto: icmp"),
        ] {
            assert_eq!(parse_expose(text).unwrap_err().to_string(), message, "{text}");
        }
    }
}
