//! Executes netbpf as a runtime executes a CNI plugin.

use netbpf_tests::{
    engine::netbpf,
    lab::{Lab, Output},
};
use serde_json::{Value, json};

/// A call of the plugin.
#[derive(Clone)]
pub struct Call {
    pub command: &'static str,
    pub container: String,
    pub namespace: String,
    pub interface: &'static str,
    pub arguments: &'static str,
    pub configuration: Value,
}

/// A call about the interface `eth0` in the namespace that has the container's name.
pub fn call(command: &'static str, container: &str, configuration: Value) -> Call {
    Call {
        command,
        container: container.to_owned(),
        namespace: format!("/run/netns/{container}"),
        interface: "eth0",
        arguments: "",
        configuration,
    }
}

/// The configuration of `mynet` in a version of the specification, with more members.
pub fn conf(version: &str, more: Value) -> Value {
    let mut conf = json!({ "cniVersion": version, "name": "mynet", "type": "netbpf" });
    let all = more.as_object().expect("members").clone();
    conf.as_object_mut().expect("an object").extend(all);
    conf
}

impl Call {
    /// The same with a change.
    pub fn with(self, change: impl FnOnce(&mut Self)) -> Self {
        let mut call = self;
        change(&mut call);
        call
    }

    /// The command that executes the plugin.
    pub fn command(&self) -> Vec<String> {
        let script = "printf %s \"$0\" | exec env \"$@\"";
        let text = self.configuration.to_string();
        let variables = [
            ("CNI_COMMAND", self.command),
            ("CNI_CONTAINERID", &self.container),
            ("CNI_NETNS", &self.namespace),
            ("CNI_IFNAME", self.interface),
            ("CNI_ARGS", self.arguments),
            ("CNI_PATH", "/opt/cni/bin"),
        ]
        .map(|(name, value)| format!("{name}={value}"));
        let command = ["sh", "-c", script, &text].map(str::to_owned).into_iter().chain(variables);
        command.chain([netbpf()]).collect()
    }

    /// Executes the plugin.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    pub fn run(&self, lab: &Lab) -> Output {
        lab.host(self.command())
    }

    /// The result of a call that succeeds.
    #[track_caller]
    pub fn result(&self, lab: &Lab) -> Value {
        self.run(lab).ok().json()
    }

    /// The code and the message of a call that fails.
    #[track_caller]
    pub fn error(&self, lab: &Lab) -> (u64, String) {
        let output = self.run(lab);
        assert!(!output.status.success(), "{output}");
        let error = output.json();
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        (error["code"].as_u64().expect("a code"), format!("{} {}", text("msg"), text("details")))
    }
}
