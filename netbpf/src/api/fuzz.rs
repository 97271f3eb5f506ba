//! Fuzz targets: bodies and filters of requests. A message that is read is written again as the same message; ports in
//! it are valid; a filter that is refused is named in one line.

use std::{collections::BTreeMap, fmt::Display};

use bollard::models::{ExecConfig, ExecStartConfig};
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    events::{Actor, Event, Selection},
    filters::Filters,
    ports, request,
    types::{
        ContainerCreate, ContainerResource, ContainerSummary, ContainerUpdate, Dropped, Explanation,
        NetworkConnect, NetworkCreate, NetworkDisconnect, NetworkResource, NetworkUpdate, Stats,
    },
};
use crate::model::{
    Attachment, Container, Driver, EndpointRequest, Id, Namespace, Network, Origin, State, Subject,
};

/// Checks a JSON body as each message that it may be.
pub(crate) fn check_messages(body: &[u8]) {
    stays::<NetworkCreate>(body);
    stays::<NetworkConnect>(body);
    stays::<NetworkDisconnect>(body);
    stays::<NetworkUpdate>(body);
    stays::<ContainerUpdate>(body);
    stays::<ExecConfig>(body);
    stays::<ExecStartConfig>(body);
    // Answers, which the command line reads.
    stays::<NetworkResource>(body);
    stays::<ContainerResource>(body);
    stays::<ContainerSummary>(body);
    stays::<Stats>(body);
    stays::<Explanation>(body);
    stays::<Dropped>(body);
    stays::<Event>(body);
    if let Some(message) = stays::<ContainerCreate>(body) {
        check_ports(&message);
    }
}

fn stays<T: DeserializeOwned + Serialize>(body: &[u8]) -> Option<T> {
    let write = |message: &T| serde_json::to_string(message).expect("a message has no failing serializer");
    let message = request::body(body).ok()?;
    let text = write(&message);
    let again = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(write(&again), text);
    Some(message)
}

fn check_ports(message: &ContainerCreate) {
    let (published, exposed) = match ports::asked(message) {
        Ok(ports) => ports,
        Err(error) => return assert_one_line(&error),
    };
    let bindings = message.host_config.port_bindings.values().map(Vec::len);
    assert_eq!(published.len(), bindings.sum::<usize>());
    let mut again = ContainerCreate::default();
    for publish in &published {
        assert!(exposed.contains(&publish.container));
        assert_ne!(publish.container.number, 0);
        let bindings = again.host_config.port_bindings.entry(publish.container.to_string()).or_default();
        bindings.push(ports::request(publish));
    }
    assert_eq!(ports::asked(&again).map(|(published, _)| published), Ok(published));
}

/// Checks filters: Docker's JSON; or else `KEY=VALUE`, one in a line, as on the command line.
pub(crate) fn check_filters(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let filters = Filters::parse(&text).unwrap_or_else(|error| {
        assert_one_line(&error);
        let mut filters = Filters::default();
        let pairs = text.split('\n').filter_map(|line| line.split_once('='));
        pairs.for_each(|(key, value)| filters.add(key, value));
        filters
    });
    let (network, container) = (network(), container());
    match filters.networks() {
        Ok(filter) => {
            // `dangling` tells apart whether it is used; all other filters do not.
            let listed = [true, false].map(|in_use| filter.matches(&network, in_use));
            assert!(!filters.get("dangling").is_empty() || listed[0] == listed[1]);
        }
        Err(error) => assert_one_line(&error),
    }
    let now = Timestamp::UNIX_EPOCH;
    match filters.prune(now) {
        Ok(filter) => {
            let later = Network { created: Timestamp::MAX, ..network.clone() };
            assert!(filter.matches(&network) || !filter.matches(&later), "removed although it is newer");
        }
        Err(error) => assert_one_line(&error),
    }
    match filters.containers() {
        Ok(filter) => {
            let is_listed = filter.matches(&container, |id| (*id == network.id).then_some(&network));
            let names = filters.get("network");
            assert!(!is_listed || names.is_empty() || names.iter().any(|name| is_of(&network, name)));
        }
        Err(error) => assert_one_line(&error),
    }
    match Selection::parse(&filters) {
        Ok(selection) => {
            let (kind, action) = ("network", "connect");
            assert!(
                !selection.matches(&event(kind, action))
                    || !selection.matches(&event("other", action))
                    || filters.get("type").is_empty()
                    || filters.get("type").len() > 1
            );
        }
        Err(error) => assert_one_line(&error),
    }
}

fn is_of(network: &Network, wanted: &str) -> bool {
    network.name == wanted || network.id.to_string() == wanted
}

fn event(kind: &str, action: &str) -> Event {
    Event {
        status: String::new(),
        id: String::new(),
        from: String::new(),
        kind: kind.to_owned(),
        action: action.to_owned(),
        actor: Actor {
            id: "ab".repeat(32),
            attributes: [("name", "web"), ("container", "abc"), ("app", "web")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        },
        scope: "local".to_owned(),
        time: 0,
        time_nano: 0,
    }
}

fn network() -> Network {
    Network {
        id: id("ab"),
        name: "mynet".to_owned(),
        created: Timestamp::UNIX_EPOCH,
        driver: Driver::Null,
        internal: false,
        attachable: false,
        options: BTreeMap::new(),
        labels: labels(),
        origin: Origin::Netbpf,
    }
}

fn container() -> Container {
    Container {
        id: id("cd"),
        name: "web".to_owned(),
        created: Timestamp::UNIX_EPOCH,
        subject: Subject::Namespace(Namespace::Path("/x".into())),
        state: State::Running { supervisor: None, started: Timestamp::UNIX_EPOCH },
        attachments: vec![Attachment::new(&network(), EndpointRequest::default())],
        labels: labels(),
        mappings: Vec::new(),
    }
}

fn id(byte: &str) -> Id {
    byte.repeat(32).parse().expect("an ID")
}

fn labels() -> BTreeMap<String, String> {
    [("app".to_owned(), "web".to_owned())].into()
}

/// A message is a line of a log and of a terminal.
#[track_caller]
fn assert_one_line(message: &impl Display) {
    let text = message.to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
}

/// Bodies of all kinds.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    [
        r#"{"Name":"n","Driver":"bridge","Internal":true,"IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":
            "10.1.0.0/24","Gateway":"10.1.0.1","AuxiliaryAddresses":{"a":"10.1.0.9"}}]},"Options":{"a":"b"}}"#,
        r#"{"Container":"web","EndpointConfig":{"IPAMConfig":{"IPv4Address":"10.1.0.5"},"Links":["a:b"],
            "Aliases":["c"],"DriverOpts":{"k":"v"},"GwPriority":5}}"#,
        r#"{"Container":"web","Force":true}"#,
        r#"{"Cmd":["sleep","1"],"Env":["A=b"],"Hostname":"h","NetworkMode":"mynet","Dns":["1.1.1.1"],"Rootfs":"/x",
            "ExposedPorts":{"80/tcp":{}},"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"::1","HostPort":"80-90"}],
            "53/udp":[{}]},"PublishAllPorts":true,"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3}}}"#,
        r#"{"AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"DetachKeys":"","Tty":true,"Env":["A=b"],
            "Cmd":["sh"],"Privileged":false,"User":"","WorkingDir":"/","ConsoleSize":[24,80]}"#,
        r#"{"Detach":false,"Tty":true,"ConsoleSize":null}"#,
        r#"{"Type":"network","Action":"connect","Actor":{"ID":"ab","Attributes":{"name":"n"}},"scope":"local","time":1,
            "timeNano":1}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Filters of all kinds.
pub(crate) fn filters() -> Vec<Vec<u8>> {
    [
        r#"{"name":["my"],"type":["custom"],"dangling":{"true":true}}"#,
        r#"{"label":["app=web"],"id":["ab"],"driver":["null"],"scope":["local"]}"#,
        r#"{"label!":["app"],"until":["10m"]}"#,
        "until=2026-01-02T03:04:05Z",
        "until=17\nlabel=app",
        "name=^w(e|b)+$\nnetwork=mynet\nstatus=running\nlabel=app",
        "publish=80-90/udp\nexpose=443\nexited=0\nancestor=/x",
        "type=network\nevent=connect\ncontainer=abc\nnetwork=web",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
