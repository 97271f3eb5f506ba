//! Converts a runtime's call into messages for the daemon. Makes no decisions but CNI's: which of several places of an
//! address counts, and what the annotations of a pod mean.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    bandwidth,
    call::Call,
    configuration::{Configuration, PortMapping},
    error::{Code, Error},
};
use crate::api::types::{
    Attach, AttachmentKey, CheckAttached, CollectAttached, EndpointIpam, EndpointSettings, KeptAttachment,
    NetworkAttachment, PortBinding,
};

/// How the annotations for netbpf begin.
const ANNOTATIONS: &str = "netbpf.io/";
/// The annotation of a pod that names its networks, with commas between them.
const NETWORK: &str = "netbpf.io/network";
/// The annotation with further names of a pod.
const ALIASES: &str = "netbpf.io/aliases";
/// How many of them a pod may have.
const MAX_ALIASES: usize = 64;
/// The number of digits that stand for an ID of 64.
const SHORT: usize = 12;
/// The longest name of a container, in bytes. Both parts of a pod's name may have 253 and 63.
const LONGEST_NAME: usize = 200;

/// The message for `ADD`.
///
/// # Errors
/// [`Code::Configuration`] for invalid addresses, ports or limits.
pub fn request(call: &Call, configuration: &Configuration, key: AttachmentKey) -> Result<Attach, Error> {
    let runtime = &configuration.runtime;
    let named = Named::of(call);
    let networks = networks(configuration)?;
    let mut aliases = named.aliases;
    aliases.extend(aliases_of_pod(configuration)?);
    aliases.extend_from_slice(runtime.aliases.in_configuration(&configuration.name));
    let mut options = configuration.options.clone();
    options.extend(bandwidth::options(runtime)?);
    let settings = |index: usize| -> Result<EndpointSettings, Error> {
        let of_all = EndpointSettings {
            aliases: Some(aliases.clone()),
            driver_opts: Some(options.clone()),
            ..EndpointSettings::default()
        };
        match index {
            // The requested addresses are those of the interface that was asked for.
            0 => Ok(EndpointSettings {
                ipam_config: Some(addresses(call, configuration)?),
                mac_address: mac(call, configuration),
                ..of_all
            }),
            _ => Ok(of_all),
        }
    };
    let networks = networks
        .into_iter()
        .enumerate()
        .map(|(index, network)| Ok(NetworkAttachment { network, endpoint_config: settings(index)? }));
    Ok(Attach {
        key,
        name: named.name,
        is_pod: named.is_pod,
        namespace: call.namespace.clone(),
        namespace_inode: 0,
        networks: networks.collect::<Result<_, Error>>()?,
        port_bindings: bindings(&runtime.port_mappings)?,
        // podman names its containers as pods, without a namespace.
        reserves_ports: !named.is_pod && call.argument("K8S_POD_NAME").is_some(),
        dns: servers(configuration),
    })
}

/// The networks of a container. Whoever writes the annotations of a pod must not choose any network of the host.
fn networks(configuration: &Configuration) -> Result<Vec<String>, Error> {
    let annotations = &configuration.runtime.annotations;
    let is_unknown =
        |key: &&String| key.starts_with(ANNOTATIONS) && ![NETWORK, ALIASES].contains(&key.as_str());
    if let Some(unknown) = annotations.keys().find(is_unknown) {
        let unknown = unknown.escape_debug();
        let message = format!("unknown annotation {unknown}: expected {NETWORK} or {ALIASES}");
        return Err(Error::new(Code::Configuration, message));
    }
    let asked = list(annotations.get(NETWORK));
    let is_allowed =
        |name: &&String| *name == configuration.network() || configuration.allowed.contains(name);
    match asked.iter().find(|name| !is_allowed(name)) {
        Some(other) => Err(Error::new(
            Code::Configuration,
            format!(
                "{NETWORK}: pods may not name the network {} (netbpf cni enable --allow)",
                other.escape_debug()
            ),
        )),
        None if asked.is_empty() => Ok(vec![configuration.network().to_owned()]),
        None => Ok(asked),
    }
}

/// Further names of a pod, a limited number. Without a dot none of them can be that of another host.
fn aliases_of_pod(configuration: &Configuration) -> Result<Vec<String>, Error> {
    let aliases = list(configuration.runtime.annotations.get(ALIASES));
    if aliases.len() > MAX_ALIASES {
        let message = format!("{ALIASES}: {} names, and a pod has at most {MAX_ALIASES}", aliases.len());
        return Err(Error::new(Code::Configuration, message));
    }
    match aliases.iter().find(|alias| alias.contains('.')) {
        Some(alias) => {
            let message = format!("{ALIASES}: {}: the name of a pod has no dot", alias.escape_debug());
            Err(Error::new(Code::Configuration, message))
        }
        None => Ok(aliases),
    }
}

/// The message for `CHECK`.
pub fn check(call: &Call, key: AttachmentKey) -> CheckAttached {
    CheckAttached { key, namespace: call.namespace.clone() }
}

/// The message for `GC`; none if the runtime does not know which attachments are valid.
pub fn collect(configuration: &Configuration) -> Option<CollectAttached> {
    let valid = configuration.valid.as_ref().or(configuration.valid_earlier.as_ref());
    valid.map(|valid| CollectAttached {
        runtime: "cni".to_owned(),
        configuration: configuration.name.clone(),
        keep: valid
            .iter()
            .map(|kept| KeptAttachment {
                container: kept.container.clone(),
                interface: kept.interface.clone(),
            })
            .collect(),
    })
}

/// What a container is called.
struct Named {
    name: String,
    /// Whether it is a pod of Kubernetes, whose name may be used again before the former pod is gone.
    is_pod: bool,
    aliases: Vec<String>,
}

impl Named {
    /// A pod has its name and, after a dot, its namespace, because names are unique in a namespace only. In the
    /// namespace `default` its name alone is an alias. podman names the container in the same way, without a namespace.
    /// Others have the ID only.
    fn of(call: &Call) -> Self {
        let name = call.argument("K8S_POD_NAME");
        match (name, call.argument("K8S_POD_NAMESPACE")) {
            (Some(name), Some(namespace)) => {
                let full = format!("{name}.{namespace}");
                let is_short = full.len() <= LONGEST_NAME;
                // With a dot, it could be a name that is not netbpf's to answer.
                let aliases = (namespace == "default" && !name.contains('.')).then(|| name.to_owned());
                Self {
                    name: if is_short { full } else { named_by_id(&call.container) },
                    is_pod: true,
                    aliases: aliases.into_iter().collect(),
                }
            }
            (Some(name), None) => Self { name: name.to_owned(), is_pod: false, aliases: Vec::new() },
            (None, _) => Self { name: named_by_id(&call.container), is_pod: false, aliases: Vec::new() },
        }
    }
}

/// The first digits of an ID of 64; any other ID as it is, if it is long enough for a name.
fn named_by_id(id: &str) -> String {
    let is_long = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    match id.len() {
        _ if is_long => id[..SHORT].to_owned(),
        0 | 1 => format!("cni-{id}"),
        _ => id.to_owned(),
    }
}

/// The words of an annotation.
fn list(text: Option<&String>) -> Vec<String> {
    let words = text.map(String::as_str).unwrap_or_default().split(',').map(str::trim);
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The requested addresses: one of each family.
fn addresses(call: &Call, configuration: &Configuration) -> Result<EndpointIpam, Error> {
    let mut asked = EndpointIpam::default();
    let of_call = ["IP", "IP6"].into_iter().filter_map(|key| call.argument(key));
    let of_user = configuration.args.cni.ips.iter().map(String::as_str);
    let of_runtime = configuration.runtime.ips.iter().map(String::as_str);
    for text in of_call.chain(of_user).chain(of_runtime) {
        let invalid = |reason: &str| {
            Error::new(Code::Configuration, format!("requested address {}: {reason}", text.escape_debug()))
        };
        let address = text.split_once('/').map_or(text, |(address, _)| address);
        let address: IpAddr = address.parse().map_err(|_| invalid("it is no address"))?;
        let of_family = match address {
            IpAddr::V4(_) => &mut asked.ipv4_address,
            IpAddr::V6(_) => &mut asked.ipv6_address,
        };
        if !of_family.is_empty() && *of_family != address.to_string() {
            return Err(invalid("an interface has one address of each family"));
        }
        *of_family = address.to_string();
    }
    Ok(asked)
}

/// The requested MAC; the last of these counts, as in CNI's own plugins.
fn mac(call: &Call, configuration: &Configuration) -> String {
    let asked =
        [call.argument("MAC").unwrap_or_default(), &configuration.args.cni.mac, &configuration.runtime.mac];
    asked.into_iter().rev().find(|mac| !mac.is_empty()).unwrap_or_default().to_owned()
}

/// The ports to publish, by container port.
fn bindings(mappings: &[PortMapping]) -> Result<BTreeMap<String, Vec<PortBinding>>, Error> {
    let mut bindings: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    // A port without a host port is only named.
    for mapping in mappings.iter().filter(|mapping| mapping.host_port != 0) {
        let protocol = match mapping.protocol.to_ascii_lowercase().as_str() {
            "" => "tcp".to_owned(),
            protocol => protocol.to_owned(),
        };
        if mapping.container_port == 0 {
            let message = format!("port mapping of host port {}: no container port", mapping.host_port);
            return Err(Error::new(Code::Configuration, message));
        }
        bindings
            .entry(format!("{}/{protocol}", mapping.container_port))
            .or_default()
            .push(PortBinding { host_ip: mapping.host_ip.clone(), host_port: mapping.host_port.to_string() });
    }
    Ok(bindings)
}

/// The name servers that the runtime has chosen, without netbpf's own, which asks them.
fn servers(configuration: &Configuration) -> Vec<String> {
    let runtime = &configuration.runtime.dns.nameservers;
    let servers = if runtime.is_empty() { &configuration.dns.nameservers } else { runtime };
    let is_other = |text: &&String| !text.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    servers.iter().filter(is_other).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::call::Verb;

    fn call(arguments: &[(&str, &str)]) -> Call {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Call {
            verb: Verb::Add,
            container: "ab".repeat(32),
            namespace: "/run/netns/x".to_owned(),
            interface: "eth0".to_owned(),
            arguments: arguments.iter().map(owned).collect(),
        }
    }

    fn requested(arguments: &[(&str, &str)], rest: &str) -> Result<Attach, Error> {
        let input = format!(r#"{{"cniVersion":"1.0.0","name":"mynet"{rest}}}"#);
        let configuration = Configuration::parse(input.as_bytes()).expect("a configuration");
        request(&call(arguments), &configuration, AttachmentKey::default())
    }

    #[test]
    fn a_pod_is_named_with_its_namespace_and_others_alone() {
        let long = "x".repeat(201);
        for (name, namespace, full, aliases) in [
            ("web", "shop", "web.shop", &[][..]),
            ("web", "default", "web.default", &["web"]),
            (&long, "shop", "abababababab", &[]),
        ] {
            let pod = requested(&[("K8S_POD_NAME", name), ("K8S_POD_NAMESPACE", namespace)], "").unwrap();
            assert_eq!((pod.name.as_str(), pod.is_pod), (full, true));
            assert_eq!(pod.networks[0].endpoint_config.aliases.as_deref().unwrap_or_default(), aliases);
        }
        let container = requested(&[("K8S_POD_NAME", "web")], "").unwrap();
        assert_eq!((container.name.as_str(), container.is_pod), ("web", false));
        assert_eq!(requested(&[], "").unwrap().name, "abababababab");
    }

    #[test]
    fn annotations_name_networks_and_aliases() {
        let rest = r#","network":"one","allowedNetworks":["two"],"runtimeConfig":{"ips":["10.1.0.5/24","fd00::5"],
            "io.kubernetes.cri.pod-annotations":{"netbpf.io/network":"one, two","netbpf.io/aliases":"a,b"}}"#;
        let request = requested(&[], rest).unwrap();
        let networks: Vec<_> = request.networks.iter().map(|joined| joined.network.as_str()).collect();
        assert_eq!(networks, ["one", "two"]);
        let [first, second] = [0, 1].map(|index| request.networks[index].endpoint_config.clone());
        assert_eq!(first.aliases, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(first.aliases, second.aliases);
        let asked = first.ipam_config.expect("addresses");
        assert_eq!((asked.ipv4_address.as_str(), asked.ipv6_address.as_str()), ("10.1.0.5", "fd00::5"));
        assert!(second.ipam_config.is_none());
        assert_eq!(requested(&[], r#","network":"other""#).unwrap().networks[0].network, "other");
        for (annotation, text) in [(NETWORK, "mynet,secret"), (ALIASES, "shop,registry.k8s.io")] {
            let rest = format!(
                r#","runtimeConfig":{{"io.kubernetes.cri.pod-annotations":{{"{annotation}":"{text}"}}}}"#
            );
            assert_eq!(requested(&[], &rest).expect_err(text).code, Code::Configuration);
        }
    }

    #[test]
    fn addresses_and_macs_may_be_in_three_places() {
        let everywhere = r#","args":{"cni":{"ips":["10.1.0.7"],"mac":"02:00:00:00:00:02"}},
            "runtimeConfig":{"mac":"02:00:00:00:00:03"}"#;
        let arguments = [("IP", "10.1.0.7"), ("MAC", "02:00:00:00:00:01")];
        let request = requested(&arguments, everywhere).unwrap();
        assert_eq!(request.networks[0].endpoint_config.mac_address, "02:00:00:00:00:03");
        for wrong in ["10.1.0.8", "x", ""] {
            let rest = format!(r#","runtimeConfig":{{"ips":["{wrong}"]}}"#);
            let error = requested(&arguments, &rest).expect_err("two addresses, or none");
            assert_eq!(error.code, Code::Configuration, "{wrong}");
        }
    }

    #[test]
    fn ports_without_a_host_port_are_not_published() {
        let rest = r#","runtimeConfig":{"portMappings":[{"HostPort":8080,"ContainerPort":80,"Protocol":"TCP"},
            {"hostPort":0,"containerPort":443},{"hostPort":53,"containerPort":53,"protocol":"udp","hostIP":"127.0.0.1"}]}"#;
        let request = requested(&[], rest).unwrap();
        let binding =
            |ip: &str, port: &str| PortBinding { host_ip: ip.to_owned(), host_port: port.to_owned() };
        let expected = [
            ("53/udp".to_owned(), vec![binding("127.0.0.1", "53")]),
            ("80/tcp".to_owned(), vec![binding("", "8080")]),
        ];
        assert_eq!(request.port_bindings, expected.into());
        requested(&[], r#","runtimeConfig":{"portMappings":[{"hostPort":1}]}"#)
            .expect_err("no container port");
    }

    #[test]
    fn servers_of_the_runtime_are_asked_but_never_netbpfs_own() {
        let of = |rest: &str| requested(&[], rest).unwrap().dns;
        assert_eq!(of(r#","dns":{"nameservers":["127.0.0.11","10.0.0.1"]}"#), ["10.0.0.1"]);
        let both =
            r#","dns":{"nameservers":["10.0.0.1"]},"runtimeConfig":{"dns":{"Servers":["10.96.0.10"]}}"#;
        assert_eq!(of(both), ["10.96.0.10"]);
    }

    #[test]
    fn a_collection_without_a_list_collects_nothing() {
        let collect = |rest: &str| {
            let input = format!(r#"{{"cniVersion":"1.1.0","name":"mynet"{rest}}}"#);
            super::collect(&Configuration::parse(input.as_bytes()).unwrap())
        };
        assert!(collect("").is_none());
        assert_eq!(collect(r#","cni.dev/valid-attachments":[]"#).expect("a list").keep.len(), 0);
        let kept =
            collect(r#","cni.dev/attachments":[{"containerID":"c","ifname":"eth0"}]"#).expect("a list").keep;
        assert_eq!((kept[0].container.as_str(), kept[0].interface.as_str()), ("c", "eth0"));
    }
}
