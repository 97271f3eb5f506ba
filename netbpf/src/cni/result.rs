//! Standard output: the result of `ADD` in the version of the configuration, and the list of versions.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    VERSIONS,
    call::Call,
    configuration::Configuration,
    error::{Code, Error},
};
use crate::api::types::Attached;

/// The answer to `VERSION`.
pub fn versions() -> Value {
    json!({ "cniVersion": VERSIONS[VERSIONS.len() - 1], "supportedVersions": VERSIONS })
}

/// The result of `ADD`: for each interface its end on the host, then the container's.
pub fn attached(attached: &Attached, call: &Call, configuration: &Configuration) -> Value {
    let version = configuration.version.as_str();
    // What the plugins before this one attached stays in the result.
    let earlier = |key: &str| {
        let member = configuration.previous.as_ref().and_then(|result| result.get(key));
        member.and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let [mut interfaces, mut ips, mut routes] = ["interfaces", "ips", "routes"].map(earlier);
    for interface in &attached.interfaces {
        interfaces.push(json!({ "name": interface.host_interface }));
        let mut inner =
            json!({ "name": interface.name, "mac": interface.mac_address, "sandbox": call.namespace });
        if version == "1.1.0" {
            inner["mtu"] = interface.mtu.into();
        }
        interfaces.push(inner);
        for address in &interface.addresses {
            let mut ip = json!({ "interface": interfaces.len() - 1, "address": address.address });
            if !address.gateway.is_empty() {
                ip["gateway"] = address.gateway.clone().into();
            }
            if version.starts_with("0.") {
                ip["version"] = if address.address.contains(':') { "6" } else { "4" }.into();
            }
            ips.push(ip);
        }
        for gateway in &interface.default_routes {
            let everything = if gateway.contains(':') { "::/0" } else { "0.0.0.0/0" };
            routes.push(json!({ "dst": everything, "gw": gateway }));
        }
    }
    json!({
        "cniVersion": version,
        "interfaces": interfaces,
        "ips": ips,
        "routes": routes,
        "dns": dns(attached, configuration),
    })
}

/// netbpf's resolver if there is one, which asks the configuration's servers; otherwise these.
fn dns(attached: &Attached, configuration: &Configuration) -> Value {
    let [conf, runtime] = [&configuration.dns, &configuration.runtime.dns];
    let servers = match attached.resolver.as_str() {
        "" => first(&runtime.nameservers, &conf.nameservers),
        resolver => vec![resolver.to_owned()],
    };
    let mut dns = json!({});
    if !servers.is_empty() {
        dns["nameservers"] = servers.into();
    }
    if !conf.domain.is_empty() {
        dns["domain"] = conf.domain.clone().into();
    }
    for (key, values) in [
        ("search", first(&runtime.search, &conf.search)),
        ("options", first(&runtime.options, &conf.options)),
    ] {
        if !values.is_empty() {
            dns[key] = values.into();
        }
    }
    dns
}

/// The texts of the runtime, or those of the configuration if it has none.
fn first(runtime: &[String], configuration: &[String]) -> Vec<String> {
    if runtime.is_empty() { configuration.to_vec() } else { runtime.to_vec() }
}

/// Compares what is attached with the result of `ADD` that the runtime kept.
///
/// # Errors
/// [`Code::Configuration`] if the runtime gives no result; [`Code::Failed`] if an address or a MAC differs.
pub fn compare(attached: &Attached, call: &Call, configuration: &Configuration) -> Result<(), Error> {
    let Some(previous) = &configuration.result else {
        return Err(Error::new(Code::Configuration, "required prevResult missing"));
    };
    let inner: Vec<_> =
        previous.interfaces.iter().filter(|interface| !interface.sandbox.is_empty()).collect();
    for interface in &attached.interfaces {
        let kept = inner.iter().find(|kept| kept.name == interface.name);
        if kept.is_none_or(|kept| !kept.mac.eq_ignore_ascii_case(&interface.mac_address)) {
            let message = format!(
                "the result has no interface {} with MAC {} in {}",
                interface.name, interface.mac_address, call.namespace
            );
            return Err(Error::new(Code::Failed, message));
        }
    }
    let ours: BTreeSet<&str> = attached
        .interfaces
        .iter()
        .flat_map(|interface| &interface.addresses)
        .map(|address| address.address.as_str())
        .collect();
    let is_ours = |index: Option<usize>| {
        let interface = index.and_then(|index| previous.interfaces.get(index));
        interface.is_some_and(|kept| attached.interfaces.iter().any(|interface| interface.name == kept.name))
    };
    match previous.ips.iter().find(|ip| is_ours(ip.interface) && !ours.contains(ip.address.as_str())) {
        Some(ip) => {
            Err(Error::new(Code::Failed, format!("the result has {}, which is not leased", ip.address)))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::types::{AttachedAddress, AttachedInterface},
        cni::call::Verb,
    };

    fn call() -> Call {
        Call {
            verb: Verb::Add,
            container: "c".to_owned(),
            namespace: "/run/netns/x".to_owned(),
            interface: "eth0".to_owned(),
            arguments: Vec::new(),
        }
    }

    fn done() -> Attached {
        let address = |address: &str, gateway: &str| AttachedAddress {
            address: address.to_owned(),
            gateway: gateway.to_owned(),
        };
        Attached {
            interfaces: vec![AttachedInterface {
                name: "eth0".to_owned(),
                mac_address: "02:42:0a:01:00:02".to_owned(),
                mtu: 1500,
                host_interface: "veth0123abc".to_owned(),
                network: "mynet".to_owned(),
                addresses: vec![address("10.1.0.2/24", "10.1.0.1"), address("fd00::2/64", "")],
                default_routes: vec!["10.1.0.1".to_owned()],
            }],
            resolver: "127.0.0.11".to_owned(),
        }
    }

    fn printed(version: &str) -> Value {
        let input = format!(r#"{{"cniVersion":"{version}","name":"mynet","dns":{{"search":["lan"]}}}}"#);
        attached(&done(), &call(), &Configuration::parse(input.as_bytes()).unwrap())
    }

    #[test]
    fn a_result_has_the_form_of_its_version() {
        let inner = json!({ "name": "eth0", "mac": "02:42:0a:01:00:02", "sandbox": "/run/netns/x" });
        let now = printed("1.0.0");
        assert_eq!(now["interfaces"], json!([{ "name": "veth0123abc" }, inner]));
        assert_eq!(
            now["ips"],
            json!([
                { "interface": 1, "address": "10.1.0.2/24", "gateway": "10.1.0.1" },
                { "interface": 1, "address": "fd00::2/64" },
            ])
        );
        assert_eq!(now["routes"], json!([{ "dst": "0.0.0.0/0", "gw": "10.1.0.1" }]));
        assert_eq!(now["dns"], json!({ "nameservers": ["127.0.0.11"], "search": ["lan"] }));
        assert_eq!(printed("0.4.0")["ips"][0]["version"], "4");
        assert_eq!(printed("0.3.1")["ips"][1]["version"], "6");
        assert_eq!(printed("1.1.0")["interfaces"][1]["mtu"], 1500);
    }

    #[test]
    fn what_plugins_before_attached_stays_in_the_result() {
        let input = r#"{"cniVersion":"1.0.0","name":"mynet","runtimeConfig":{"dns":{"Searches":["svc"]}},
            "dns":{"search":["lan"],"options":["ndots:1"]},"prevResult":{"cniVersion":"1.0.0",
            "interfaces":[{"name":"lo"}],"ips":[{"interface":0,"address":"127.0.0.1/8"}]}}"#;
        let result = attached(&done(), &call(), &Configuration::parse(input.as_bytes()).unwrap());
        assert_eq!(result["interfaces"][0]["name"], "lo");
        assert_eq!(result["interfaces"][2]["name"], "eth0");
        assert_eq!(
            (&result["ips"][0]["address"], &result["ips"][1]["interface"]),
            (&json!("127.0.0.1/8"), &json!(2))
        );
        assert_eq!(
            (&result["dns"]["search"], &result["dns"]["options"]),
            (&json!(["svc"]), &json!(["ndots:1"]))
        );
    }

    #[test]
    fn a_result_that_differs_is_found() {
        let result = printed("1.0.0");
        let compared = |result: &Value| {
            let input = json!({ "cniVersion": "1.0.0", "name": "mynet", "prevResult": result }).to_string();
            compare(&done(), &call(), &Configuration::parse(input.as_bytes()).unwrap())
        };
        compared(&result).unwrap();
        for (pointer, value) in [
            ("/ips/0/address", json!("10.1.0.3/24")),
            ("/interfaces/1/mac", json!("02:42:0a:01:00:03")),
            ("/interfaces/1/name", json!("eth1")),
        ] {
            let mut other = result.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            assert_eq!(compared(&other).expect_err(pointer).code, Code::Failed);
        }
        let missing = compared(&Value::Null).expect_err("no result");
        assert_eq!(missing.code, Code::Configuration);
    }
}
