//! Standard input: the configuration of a network, with what the runtime adds. Keys are read in any case, as Go reads
//! them: containerd writes `HostPort` where the specification has `hostPort`. Unknown keys have no effect.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    VERSIONS,
    call::is_name,
    error::{Code, Error},
};
use crate::api::blocking::SOCKET;

/// The version of a configuration that names none (CNI specification 0.1.0).
const FIRST_VERSION: &str = "0.1.0";
/// Objects whose keys are names: these keep their case.
const NAMED: [&str; 4] = ["aliases", "annotations", "options", "io.kubernetes.cri.pod-annotations"];

/// The members that say which attachment is meant, and where the daemon is.
const NAMES: [&str; 4] = ["cniVersion", "name", "network", "socket"];

/// A configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// The version of the specification, and of the result.
    #[serde(rename = "cniversion")]
    pub version: String,
    /// The name of the configuration.
    pub name: String,
    /// The network; that with the name of the configuration if absent.
    #[serde(deserialize_with = "or_null")]
    network: String,
    /// The daemon's socket, if it is not the usual one.
    #[serde(deserialize_with = "or_null")]
    socket: String,
    /// The networks that a pod may name, besides that of the configuration.
    #[serde(rename = "allowednetworks", deserialize_with = "or_null")]
    pub allowed: Vec<String>,
    /// Options of each endpoint, as `--driver-opt`.
    #[serde(deserialize_with = "or_null")]
    pub options: BTreeMap<String, String>,
    /// Name servers and search domains, which the result repeats.
    #[serde(deserialize_with = "or_null")]
    pub dns: Dns,
    /// What a user asks of one container.
    #[serde(deserialize_with = "or_null")]
    pub args: Arguments,
    /// What the runtime asks of one container.
    #[serde(rename = "runtimeconfig", deserialize_with = "or_null")]
    pub runtime: RuntimeConfig,
    /// The result of `ADD`.
    #[serde(rename = "prevresult", deserialize_with = "or_null")]
    pub result: Option<PreviousResult>,
    /// The same result, or that of the plugin before this one, as the runtime wrote it.
    #[serde(skip)]
    pub previous: Option<Value>,
    /// What `GC` leaves. Absent: the runtime does not know.
    #[serde(rename = "cni.dev/valid-attachments")]
    pub valid: Option<Vec<ValidAttachment>>,
    /// The same by its name before version 1.1.0 was complete.
    #[serde(rename = "cni.dev/attachments")]
    pub valid_earlier: Option<Vec<ValidAttachment>>,
}

/// Name servers and search domains.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses. Go's runtimes call them `Servers`.
    #[serde(alias = "servers", deserialize_with = "or_null")]
    pub nameservers: Vec<String>,
    /// The domain of the container.
    #[serde(deserialize_with = "or_null")]
    pub domain: String,
    /// Search domains.
    #[serde(alias = "searches", deserialize_with = "or_null")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(deserialize_with = "or_null")]
    pub options: Vec<String>,
}

/// `args`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Arguments {
    /// Those for plugins.
    #[serde(deserialize_with = "or_null")]
    pub cni: CniArguments,
}

/// `args.cni`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CniArguments {
    /// Requested addresses.
    #[serde(deserialize_with = "or_null")]
    pub ips: Vec<String>,
    /// The requested MAC.
    #[serde(deserialize_with = "or_null")]
    pub mac: String,
}

/// `runtimeConfig`: the capabilities that the configuration declares.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RuntimeConfig {
    /// Ports to publish.
    #[serde(rename = "portmappings", deserialize_with = "or_null")]
    pub port_mappings: Vec<PortMapping>,
    /// Requested addresses, with or without a prefix length.
    #[serde(deserialize_with = "or_null")]
    pub ips: Vec<String>,
    /// The requested MAC.
    #[serde(deserialize_with = "or_null")]
    pub mac: String,
    /// Limits of the container's traffic.
    #[serde(deserialize_with = "or_null")]
    pub bandwidth: Bandwidth,
    /// Name servers and search domains of the container.
    #[serde(deserialize_with = "or_null")]
    pub dns: Dns,
    /// Further names.
    #[serde(deserialize_with = "or_null")]
    pub aliases: Aliases,
    /// The annotations of a pod.
    #[serde(rename = "io.kubernetes.cri.pod-annotations", deserialize_with = "or_null")]
    pub annotations: BTreeMap<String, String>,
}

/// Further names of a container.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Aliases {
    /// As in CNI's conventions.
    List(Vec<String>),
    /// As podman writes them: by the name of the configuration.
    Named(BTreeMap<String, Vec<String>>),
}

impl Default for Aliases {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Aliases {
    /// Those in this configuration.
    pub fn in_configuration(&self, name: &str) -> &[String] {
        match self {
            Self::List(all) => all,
            Self::Named(by_name) => by_name.get(name).map_or(&[], Vec::as_slice),
        }
    }
}

/// Limits of a container's traffic, towards it and from it; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Bandwidth {
    /// In bits a second.
    #[serde(rename = "ingressrate", deserialize_with = "or_null")]
    pub ingress_rate: u64,
    /// In bits.
    #[serde(rename = "ingressburst", deserialize_with = "or_null")]
    pub ingress_burst: u64,
    /// In bits a second.
    #[serde(rename = "egressrate", deserialize_with = "or_null")]
    pub egress_rate: u64,
    /// In bits.
    #[serde(rename = "egressburst", deserialize_with = "or_null")]
    pub egress_burst: u64,
}

/// A port to publish.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PortMapping {
    /// 0 if the port is only named, and not published.
    #[serde(rename = "hostport", deserialize_with = "or_null")]
    pub host_port: u16,
    /// The container's port.
    #[serde(rename = "containerport", deserialize_with = "or_null")]
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`, in any case; empty for `tcp`.
    #[serde(deserialize_with = "or_null")]
    pub protocol: String,
    /// Empty for all addresses.
    #[serde(rename = "hostip", deserialize_with = "or_null")]
    pub host_ip: String,
}

/// A result of `ADD`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PreviousResult {
    /// The addresses.
    #[serde(deserialize_with = "or_null")]
    pub ips: Vec<PreviousAddress>,
    /// The interfaces.
    #[serde(deserialize_with = "or_null")]
    pub interfaces: Vec<PreviousInterface>,
}

/// An address in a result.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PreviousAddress {
    /// With a prefix length.
    pub address: String,
    /// The index of its interface.
    pub interface: Option<usize>,
}

/// An interface in a result.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PreviousInterface {
    /// Its name.
    pub name: String,
    /// Its MAC.
    #[serde(deserialize_with = "or_null")]
    pub mac: String,
    /// The file of its namespace; empty on the host.
    #[serde(deserialize_with = "or_null")]
    pub sandbox: String,
}

/// An attachment that the runtime has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ValidAttachment {
    /// The container's ID.
    #[serde(rename = "containerid")]
    pub container: String,
    /// The interface.
    #[serde(rename = "ifname")]
    pub interface: String,
}

impl Configuration {
    /// Parses standard input.
    ///
    /// # Errors
    /// [`Code::Decoding`] if it is no such JSON; [`Code::Version`], with both versions; [`Code::Configuration`] for an
    /// invalid name.
    pub fn parse(input: &[u8]) -> Result<Self, Error> {
        let members = members(input)?;
        let previous = members.iter().find(|(key, _)| key.eq_ignore_ascii_case("prevResult"));
        let previous = previous.map(|(_, result)| result.clone()).filter(|result| !result.is_null());
        let read: Self = serde_json::from_value(folded(members.into())).map_err(decoding)?;
        Self { previous, ..read }.checked()
    }

    /// Parses the names in standard input and nothing else.
    ///
    /// # Errors
    /// As of [`Configuration::parse`], about these names.
    pub fn parse_names(input: &[u8]) -> Result<Self, Error> {
        let mut members = members(input)?;
        members.retain(|key, _| NAMES.iter().any(|name| key.eq_ignore_ascii_case(name)));
        serde_json::from_value::<Self>(folded(members.into())).map_err(decoding)?.checked()
    }

    fn checked(self) -> Result<Self, Error> {
        let mut configuration = self;
        if configuration.version.is_empty() {
            FIRST_VERSION.clone_into(&mut configuration.version);
        }
        let Self { version, name, .. } = &configuration;
        if !VERSIONS.contains(&version.as_str()) {
            return Err(Error {
                code: Code::Version,
                message: "incompatible CNI versions".to_owned(),
                details: format!("config is {version:?}, plugin supports {VERSIONS:?}"),
            });
        }
        if !is_name(name) {
            let what =
                if name.is_empty() { "missing network name" } else { "invalid characters in network name" };
            return Err(Error::new(Code::Configuration, format!("{what}: {}", name.escape_debug())));
        }
        Ok(configuration)
    }

    /// The network.
    pub fn network(&self) -> &str {
        if self.network.is_empty() { &self.name } else { &self.network }
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        if self.socket.is_empty() { SOCKET.into() } else { self.socket.clone().into() }
    }
}

/// The members of an object.
fn members(input: &[u8]) -> Result<Map<String, Value>, Error> {
    serde_json::from_slice(input).map_err(decoding)
}

fn decoding(error: serde_json::Error) -> Error {
    Error::new(Code::Decoding, format!("decode the network configuration: {error}"))
}

/// The version of a configuration that may be invalid, for the error about it.
pub fn version_of(input: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(input).ok()?;
    folded(value).get("cniversion")?.as_str().map(str::to_owned)
}

/// The value with keys in lower case, except for those that are names.
fn folded(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let member = |(key, value): (String, Value)| {
                let key = key.to_ascii_lowercase();
                let value =
                    if NAMED.contains(&key.as_str()) && value.is_object() { value } else { folded(value) };
                (key, value)
            };
            Value::Object(members.into_iter().map(member).collect::<Map<_, _>>())
        }
        Value::Array(values) => values.into_iter().map(folded).collect(),
        value => value,
    }
}

/// Reads Go's `null` as the type's empty value.
fn or_null<'de, D: Deserializer<'de>, T: Default + DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_any_case_but_names_stay() {
        let input = br#"{"cniVersion":"1.0.0","NAME":"mynet","runtimeConfig":{"portMappings":[
            {"HostPort":8080,"ContainerPort":80,"Protocol":"tcp","HostIP":""},
            {"hostPort":53,"containerPort":53,"protocol":"udp","hostIP":"127.0.0.1"}],
            "dns":{"Servers":["10.96.0.10"],"Searches":["svc"],"Options":null},
            "io.kubernetes.cri.pod-annotations":null,"aliases":{"MyNet":["Cat"]}}}"#;
        let read = Configuration::parse(input).unwrap();
        let ports: Vec<_> =
            read.runtime.port_mappings.iter().map(|port| (port.host_port, port.container_port)).collect();
        assert_eq!(ports, [(8080, 80), (53, 53)]);
        assert_eq!(read.runtime.dns.nameservers, ["10.96.0.10"]);
        assert_eq!(read.runtime.aliases.in_configuration("MyNet"), ["Cat"]);
        assert_eq!((read.network(), read.socket()), ("mynet", SOCKET.into()));
    }

    #[test]
    fn a_version_that_is_missing_or_unknown_is_refused_with_both_versions() {
        for (version, text) in
            [("", "0.1.0"), (r#""cniVersion":"0.2.0","#, "0.2.0"), (r#""cniVersion":"2.0.0","#, "2.0.0")]
        {
            let error = Configuration::parse(format!("{{{version}\"name\":\"n\"}}").as_bytes()).unwrap_err();
            assert_eq!(error.code, Code::Version);
            assert!(error.details.contains(text) && error.details.contains("1.1.0"), "{error:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (input, code) in [
            (&b""[..], Code::Decoding),
            (b"[]", Code::Decoding),
            (
                br#"{"cniVersion":"1.0.0","name":"n","runtimeConfig":{"portMappings":[{"hostPort":70000}]}}"#,
                Code::Decoding,
            ),
            (br#"{"cniVersion":"1.0.0"}"#, Code::Configuration),
            (br#"{"cniVersion":"1.0.0","name":"../x"}"#, Code::Configuration),
        ] {
            assert_eq!(
                Configuration::parse(input).unwrap_err().code,
                code,
                "{}",
                String::from_utf8_lossy(input)
            );
        }
    }
}
