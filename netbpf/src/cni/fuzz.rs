//! Fuzz target: a runtime's environment and standard input. What is accepted can be asked of the daemon, and its messages
//! and errors are JSON that Go reads.

use super::{
    call::{Call, Verb},
    configuration::{self, Configuration},
    convert, result,
};
use crate::api::types::{Attached, AttachmentKey};

/// Checks a call: lines of the environment, an empty line, and standard input.
pub(crate) fn check_call(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (environment, input) = text.split_once("\n\n").unwrap_or(("", &text));
    let variable = |name: &str| {
        let pairs = environment.lines().filter_map(|line| line.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next()
    };
    let call = match Call::read(variable) {
        Ok(call) => call,
        Err(error) => {
            assert!(!error.message.contains(char::is_control), "{error:?}");
            Call {
                verb: Verb::Add,
                container: "c".to_owned(),
                namespace: "/x".to_owned(),
                interface: "eth0".to_owned(),
                arguments: Vec::new(),
            }
        }
    };
    match Configuration::parse(input.as_bytes()) {
        Ok(configuration) => {
            if call.verb != Verb::Add {
                return;
            }
            match convert::request(&call, &configuration, AttachmentKey::default()) {
                Ok(request) => {
                    assert!(!request.networks.is_empty() && !request.name.is_empty());
                    assert!(request.port_bindings.keys().all(|port| !port.starts_with("0/")));
                }
                Err(error) => assert!(!error.message.contains(char::is_control), "{error:?}"),
            }
            let printed = result::attached(&Attached::default(), &call, &configuration);
            assert_eq!(printed["cniVersion"], configuration.version.as_str());
            drop(result::compare(&Attached::default(), &call, &configuration));
            drop(convert::collect(&configuration));
        }
        Err(error) => {
            let message = error.message(configuration::version_of(input.as_bytes()));
            assert!(message["code"].is_u64() && message["msg"].is_string());
        }
    }
}

/// Calls of all kinds.
pub(crate) fn calls() -> Vec<Vec<u8>> {
    [
        "CNI_COMMAND=ADD\nCNI_CONTAINERID=c1\nCNI_NETNS=/run/netns/x\nCNI_IFNAME=eth0\nCNI_ARGS=IgnoreUnknown=1;\
         K8S_POD_NAME=web;K8S_POD_NAMESPACE=shop;IP=10.1.0.5;MAC=02:42:0a:01:00:05\n\n{\"cniVersion\":\"1.0.0\",\
         \"name\":\"mynet\",\"runtimeConfig\":{\"portMappings\":[{\"HostPort\":8080,\"ContainerPort\":80,\"Protocol\":\
         \"tcp\",\"HostIP\":\"\"}],\"dns\":{\"Servers\":[\"10.96.0.10\"]},\"aliases\":{\"mynet\":[\"cat\"]},\
         \"io.kubernetes.cri.pod-annotations\":{\"netbpf.io/network\":\"a,b\"}}}",
        "CNI_COMMAND=CHECK\nCNI_CONTAINERID=c1\nCNI_NETNS=/run/netns/x\nCNI_IFNAME=eth0\n\n{\"cniVersion\":\"0.4.0\",\
         \"name\":\"mynet\",\"prevResult\":{\"interfaces\":[{\"name\":\"eth0\",\"mac\":\"02:42:0a:01:00:05\",\"sandbox\":\
         \"/run/netns/x\"}],\"ips\":[{\"address\":\"10.1.0.5/24\",\"interface\":0}]}}",
        "CNI_COMMAND=GC\n\n{\"cniVersion\":\"1.1.0\",\"name\":\"mynet\",\"cni.dev/valid-attachments\":[{\"containerID\":\
         \"c1\",\"ifname\":\"eth0\"}]}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
