//! The plugin `loopback`: sets up `lo` in a container. containerd executes it beside each other plugin. netbpf sets up `lo`
//! itself, so a runtime needs this one only if CNI's own is not installed.

use serde_json::{Value, json};

use super::{
    call::{Call, Verb},
    configuration::Configuration,
    error::{Code, Error},
};
use crate::link;

/// Executes a command.
///
/// # Errors
/// [`Code::Failed`] if there is no such namespace, or `lo` cannot be set up or is down.
pub fn execute(call: &Call, configuration: &Configuration) -> Result<Option<Value>, Error> {
    let failed = |error: link::Error| Error::new(Code::Failed, error.to_string());
    let namespace = call.namespace.as_ref();
    match call.verb {
        Verb::Add => {
            link::loopback::set_up(namespace).map_err(failed)?;
            Ok(Some(result(call, configuration)))
        }
        Verb::Check => match link::loopback::is_up(namespace).map_err(failed)? {
            true => Ok(None),
            false => Err(Error::new(Code::Failed, format!("lo in {} is down", call.namespace))),
        },
        // It ends with its namespace.
        Verb::Del | Verb::Gc | Verb::Status | Verb::Version => Ok(None),
    }
}

fn result(call: &Call, configuration: &Configuration) -> Value {
    let version = configuration.version.as_str();
    let address = |address: &str, family: &str| {
        let mut ip = json!({ "interface": 0, "address": address });
        if version.starts_with("0.") {
            ip["version"] = family.into();
        }
        ip
    };
    json!({
        "cniVersion": version,
        "interfaces": [{ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": call.namespace }],
        "ips": [address("127.0.0.1/8", "4"), address("::1/128", "6")],
        "dns": {},
    })
}
