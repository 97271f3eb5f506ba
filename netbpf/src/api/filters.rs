//! `--filter` of `network ls`, `network prune` and `ps`, applied to the model: Docker's keys, rules and messages. Of
//! several values of a key one must match; of labels all must.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use serde::Deserialize;

use crate::model::{Container, ContainerPort, Id, Mapping, Mode, Network, State, one_line, parse_expose};

/// Filters: values by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

/// An invalid filter (a bad request).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not in Docker's JSON format.
    #[error("invalid filters: {}", one_line(.0))]
    Json(String),
    /// There is no such key.
    #[error("invalid filter '{}'", .0.escape_debug())]
    Key(String),
    /// The key does not accept this value.
    #[error("invalid filter '{}={}'", .0, .1.escape_debug())]
    Value(&'static str, String),
    /// `type` accepts `builtin` and `custom`.
    #[error("invalid filter: 'type'='{}'", .0.escape_debug())]
    Type(String),
    /// `dangling` accepts a boolean.
    #[error(r#"invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")"#)]
    Dangling,
    /// `dangling` was given twice.
    #[error(r#"got more than one value for filter key "dangling""#)]
    DanglingTwice,
    /// `until` was given twice.
    #[error("more than one until filter specified")]
    UntilTwice,
    /// `until` accepts a time or a duration.
    #[error(
        "invalid filter 'until={}': it must be a time (2026-01-02T03:04:05Z, seconds since 1970) or a duration (10m, 1h30m)",
        .0.escape_debug()
    )]
    Until(String),
}

impl Filters {
    /// Parses Docker's JSON in both of its forms: `{"key":["value"]}` and `{"key":{"value":true}}`. An empty text is no
    /// filter.
    ///
    /// # Errors
    /// [`Error::Json`] if the text has neither form.
    pub fn parse(text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Values {
            List(Vec<String>),
            Set(BTreeMap<String, bool>),
        }
        if text.is_empty() {
            return Ok(Self::default());
        }
        let filters: BTreeMap<String, Values> =
            serde_json::from_str(text).map_err(|error| Error::Json(error.to_string()))?;
        let values = |values| match values {
            Values::List(list) => list,
            Values::Set(set) => set.into_iter().filter_map(|(value, on)| on.then_some(value)).collect(),
        };
        Ok(Self(filters.into_iter().map(|(key, found)| (key, values(found))).collect()))
    }

    /// Adds a `KEY=VALUE` of the command line; the value is empty for a key alone.
    pub fn add(&mut self, key: &str, value: &str) {
        self.0.entry(key.to_owned()).or_default().push(value.to_owned());
    }

    pub(super) fn only(&self, keys: &[&str]) -> Result<(), Error> {
        match self.0.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(unknown) => Err(Error::Key(unknown.clone())),
            None => Ok(()),
        }
    }

    pub(super) fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Parses ports and port ranges: `80`, `8000-8010/udp`.
    fn ports(&self, key: &'static str) -> Result<BTreeSet<ContainerPort>, Error> {
        let mut ports = BTreeSet::new();
        for text in self.get(key) {
            ports.extend(parse_expose(text).map_err(|_| Error::Value(key, text.clone()))?);
        }
        Ok(ports)
    }

    fn patterns(&self, key: &str) -> Patterns {
        Patterns(self.get(key).iter().map(|text| (text.clone(), Regex::new(text).ok())).collect())
    }
}

/// A text matches if it equals or matches (as a regular expression) one of these; or if there are none.
#[derive(Clone, Debug)]
struct Patterns(Vec<(String, Option<Regex>)>);

impl Patterns {
    fn matches(&self, text: &str) -> bool {
        self.0.is_empty()
            || self.0.iter().any(|(equal, pattern)| {
                equal == text || pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
            })
    }
}

fn exact(values: &[String], text: &str) -> bool {
    values.is_empty() || values.iter().any(|value| value == text)
}

/// Whether there is a label `k` or `k=v`.
fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

fn has_labels(labels: &BTreeMap<String, String>, wanted: &[String]) -> bool {
    wanted.iter().all(|wanted| has_label(labels, wanted))
}

/// The filters of `network ls`.
#[derive(Clone, Debug)]
pub struct Networks {
    filters: Filters,
    ids: Patterns,
    names: Patterns,
    dangling: Option<bool>,
}

impl Networks {
    /// Checks keys and values.
    ///
    /// # Errors
    /// [`Error::Key`] for an unknown key; [`Error::Dangling`], [`Error::DanglingTwice`] or [`Error::Type`] for a value.
    pub fn parse(filters: &Filters) -> Result<Self, Error> {
        filters.only(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
        let dangling = match filters.get("dangling") {
            [] => None,
            [value] => Some(match value.as_str() {
                "1" | "true" => true,
                "0" | "false" => false,
                _ => return Err(Error::Dangling),
            }),
            _ => return Err(Error::DanglingTwice),
        };
        if let Some(bad) =
            filters.get("type").iter().find(|value| !["builtin", "custom"].contains(&value.as_str()))
        {
            return Err(Error::Type(bad.clone()));
        }
        let (ids, names) = (filters.patterns("id"), filters.patterns("name"));
        Ok(Self { filters: filters.clone(), ids, names, dangling })
    }

    /// Whether to list a network. `in_use`: whether it has endpoints.
    pub fn matches(&self, network: &Network, in_use: bool) -> bool {
        let builtin = network.is_predefined();
        self.ids.matches(&network.id.to_string())
            && self.names.matches(&network.name)
            && exact(self.filters.get("driver"), network.driver.name())
            && exact(self.filters.get("scope"), "local")
            && exact(self.filters.get("type"), if builtin { "builtin" } else { "custom" })
            && has_labels(&network.labels, self.filters.get("label"))
            && self.dangling.is_none_or(|dangling| dangling != (builtin || in_use))
    }
}

/// The filters of `network prune`.
#[derive(Clone, Debug)]
pub struct Prune {
    filters: Filters,
    until: Option<Timestamp>,
}

impl Prune {
    /// Checks keys and values. Durations count back from `now`.
    ///
    /// # Errors
    /// [`Error::Key`] for an unknown key; [`Error::Until`] or [`Error::UntilTwice`] for a value.
    pub fn parse(filters: &Filters, now: Timestamp) -> Result<Self, Error> {
        filters.only(&["label", "label!", "until"])?;
        let until = match filters.get("until") {
            [] => None,
            [text] => Some(parse_time(text, now).ok_or_else(|| Error::Until(text.clone()))?),
            _ => return Err(Error::UntilTwice),
        };
        Ok(Self { filters: filters.clone(), until })
    }

    /// Whether an unused network is to be removed.
    pub fn matches(&self, network: &Network) -> bool {
        has_labels(&network.labels, self.filters.get("label"))
            && !self.filters.get("label!").iter().any(|unwanted| has_label(&network.labels, unwanted))
            && self.until.is_none_or(|until| network.created < until)
    }
}

/// Parses a time, seconds since the epoch, or a duration before `now`.
fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse() {
        return Timestamp::from_second(seconds).ok();
    }
    if let Ok(ago) = text.parse::<SignedDuration>() {
        return now.checked_sub(ago).ok();
    }
    text.parse().ok()
}

/// The filters of `ps`.
#[derive(Clone, Debug)]
pub struct Containers {
    filters: Filters,
    ids: Patterns,
    names: Patterns,
    exit_codes: Vec<i32>,
    published: BTreeSet<ContainerPort>,
    exposed: BTreeSet<ContainerPort>,
}

impl Containers {
    /// Checks keys and values.
    ///
    /// # Errors
    /// [`Error::Key`] for an unknown key; [`Error::Value`] for an unknown state, an exit code that is no number, or no
    /// port.
    pub fn parse(filters: &Filters) -> Result<Self, Error> {
        filters
            .only(&["ancestor", "exited", "expose", "id", "label", "name", "network", "publish", "status"])?;
        let states = ["created", "dead", "exited", "paused", "removing", "restarting", "running"];
        if let Some(bad) = filters.get("status").iter().find(|value| !states.contains(&value.as_str())) {
            return Err(Error::Value("status", bad.clone()));
        }
        let exit_codes = filters
            .get("exited")
            .iter()
            .map(|text| text.parse().map_err(|_| Error::Value("exited", text.clone())))
            .collect::<Result<_, _>>()?;
        let (ids, names) = (filters.patterns("id"), filters.patterns("name"));
        let (published, exposed) = (filters.ports("publish")?, filters.ports("expose")?);
        Ok(Self { filters: filters.clone(), ids, names, exit_codes, published, exposed })
    }

    /// Whether the filters list stopped containers even without `-a`.
    pub fn asks_for_state(&self) -> bool {
        !self.filters.get("status").is_empty() || !self.exit_codes.is_empty()
    }

    /// Whether to list a container.
    pub fn matches<'a>(&self, container: &Container, network: impl Fn(&Id) -> Option<&'a Network>) -> bool {
        let exit_code = match container.state {
            State::Created { .. } | State::Running { .. } => None,
            State::Exited { code, .. } => Some(code),
        };
        self.ids.matches(&container.id.to_string())
            && (self.names.matches(&container.name) || self.names.matches(&format!("/{}", container.name)))
            && exact(self.filters.get("status"), container.status())
            && exact(self.filters.get("ancestor"), &container.owner().image())
            && (self.exit_codes.is_empty() || exit_code.is_some_and(|code| self.exit_codes.contains(&code)))
            && has_labels(&container.labels, self.filters.get("label"))
            && self.has_port(container)
            && self.is_in_network(container, network)
    }

    /// Compares a host port (`publish`) or an own port (`expose`) of a running container.
    fn has_port(&self, container: &Container) -> bool {
        let exposed = !container.owner().exposed(&container.state).is_disjoint(&self.exposed);
        let is_published = |mapping: &Mapping| {
            let on_host = ContainerPort { number: mapping.host_port, protocol: mapping.protocol };
            self.published.contains(&on_host)
        };
        let asks = !(self.published.is_empty() && self.exposed.is_empty());
        !asks || exposed || container.mappings.iter().any(is_published)
    }

    /// Compares the name or ID of a network.
    fn is_in_network<'a>(&self, container: &Container, network: impl Fn(&Id) -> Option<&'a Network>) -> bool {
        let wanted = self.filters.get("network");
        let mode = match container.owner().mode() {
            Some(Mode::Host) => Some("host"),
            Some(Mode::None) => Some("none"),
            Some(Mode::Networks | Mode::Container(_)) | None => None,
        };
        wanted.is_empty()
            || mode.is_some_and(|mode| exact(wanted, mode))
            || container.attachments.iter().any(|attachment| {
                exact(wanted, &attachment.network.to_string())
                    || network(&attachment.network).is_some_and(|network| exact(wanted, &network.name))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Attachment, Driver, EndpointRequest, Namespace, Protocol, Subject};

    fn network(name: &str, labels: &[(&str, &str)]) -> Network {
        Network {
            id: Id::random(),
            name: name.to_owned(),
            created: "2026-01-02T03:04:05Z".parse().unwrap(),
            driver: Driver::Null,
            internal: false,
            attachable: false,
            options: BTreeMap::new(),
            labels: labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            origin: Default::default(),
        }
    }

    fn container(name: &str, state: State, networks: &[&Network]) -> Container {
        Container {
            id: Id::random(),
            name: name.to_owned(),
            created: Timestamp::UNIX_EPOCH,
            subject: Subject::Namespace(Namespace::Path("/x".into())),
            state,
            attachments: networks
                .iter()
                .map(|network| Attachment::new(network, EndpointRequest::default()))
                .collect(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            mappings: Vec::new(),
        }
    }

    fn filters(pairs: &[(&str, &str)]) -> Filters {
        let mut filters = Filters::default();
        for (key, value) in pairs {
            filters.add(key, value);
        }
        filters
    }

    /// Names of the listed networks; `mynet` is in use.
    fn list(pairs: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let networks = [
            network("bridge", &[]),
            network("none", &[]),
            network("mynet", &[("app", "web"), ("tier", "1")]),
            network("mynet2", &[("app", "db")]),
        ];
        let filter = Networks::parse(&filters(pairs)).map_err(|error| error.to_string())?;
        Ok(networks
            .iter()
            .filter(|network| filter.matches(network, network.name == "mynet"))
            .map(|network| network.name.clone())
            .collect())
    }

    #[track_caller]
    fn lists(pairs: &[(&str, &str)], expected: &[&str]) {
        assert_eq!(list(pairs).unwrap(), expected);
    }

    #[test]
    fn both_json_forms_are_read() {
        let expected = filters(&[("name", "a"), ("type", "custom")]);
        assert_eq!(Filters::parse(r#"{"name":["a"],"type":["custom"]}"#), Ok(expected.clone()));
        assert_eq!(Filters::parse(r#"{"name":{"a":true,"b":false},"type":{"custom":true}}"#), Ok(expected));
        assert_eq!(Filters::parse(""), Ok(Filters::default()));
        assert!(matches!(Filters::parse("["), Err(Error::Json(_))));
    }

    #[test]
    fn networks_are_listed_as_docker_lists_them() {
        lists(&[], &["bridge", "none", "mynet", "mynet2"]);
        lists(&[("name", "mynet")], &["mynet", "mynet2"]);
        lists(&[("name", "^mynet$"), ("name", "none")], &["none", "mynet"]);
        lists(&[("name", "(")], &[]);
        lists(&[("label", "app")], &["mynet", "mynet2"]);
        lists(&[("label", "app=web"), ("label", "tier")], &["mynet"]);
        lists(&[("type", "builtin")], &["bridge", "none"]);
        lists(&[("type", "builtin"), ("type", "custom")], &["bridge", "none", "mynet", "mynet2"]);
        lists(&[("dangling", "true")], &["mynet2"]);
        lists(&[("dangling", "0")], &["bridge", "none", "mynet"]);
        lists(&[("driver", "nul")], &[]);
        lists(&[("driver", "null"), ("scope", "local"), ("name", "none")], &["none"]);
        lists(&[("id", "z")], &[]);
    }

    #[test]
    fn the_error_names_an_invalid_filter() {
        let refusal = |key, value| list(&[(key, value)]).unwrap_err();
        assert_eq!(refusal("color", "red"), "invalid filter 'color'");
        assert_eq!(refusal("type", "x"), "invalid filter: 'type'='x'");
        assert_eq!(
            refusal("dangling", "x"),
            r#"invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")"#
        );
        assert_eq!(
            list(&[("dangling", "1"), ("dangling", "0")]).unwrap_err(),
            r#"got more than one value for filter key "dangling""#
        );
    }

    #[test]
    fn networks_are_pruned_by_label_and_age() {
        let now = "2026-01-02T04:00:00Z".parse().unwrap();
        let net = network("mynet", &[("keep", "1")]);
        let prunes = |pairs: &[_]| Prune::parse(&filters(pairs), now).map(|filter| filter.matches(&net));
        assert_eq!(prunes(&[]), Ok(true));
        assert_eq!(prunes(&[("label", "keep=1")]), Ok(true));
        assert_eq!(prunes(&[("label!", "keep")]), Ok(false));
        assert_eq!(prunes(&[("label!", "keep=2")]), Ok(true));
        for (until, expected) in [
            ("10m", true),
            ("1h30m", false),
            ("2026-01-02T03:04:05Z", false),
            ("2026-01-02T03:04:06Z", true),
            ("0", false),
            ("1800000000", true),
        ] {
            assert_eq!(prunes(&[("until", until)]), Ok(expected), "{until}");
        }
        assert_eq!(prunes(&[("until", "soon")]), Err(Error::Until("soon".into())));
        let error = prunes(&[("until", "1m"), ("until", "2m")]).unwrap_err();
        assert_eq!(error.to_string(), "more than one until filter specified");
    }

    #[test]
    fn containers_are_listed_by_name_state_label_and_network() {
        let net = network("mynet", &[]);
        let time = Timestamp::UNIX_EPOCH;
        let exited = State::Exited { code: 137, started: time, finished: time, error: String::new() };
        let mut web = container("web", State::Running { supervisor: None, started: time }, &[&net]);
        web.mappings.push(Mapping {
            protocol: Protocol::Tcp,
            host: "0.0.0.0".parse().unwrap(),
            host_port: 8080,
            container: "10.0.0.2".parse().unwrap(),
            container_port: 80,
        });
        let containers = [
            web,
            container("web2", exited, &[]),
            container("db", State::Created { error: String::new() }, &[&net]),
        ];
        let id = net.id.to_string();
        let list = |pairs: &[_]| {
            let filter = Containers::parse(&filters(pairs)).map_err(|error| error.to_string())?;
            let found = containers.iter().filter(|c| filter.matches(c, |id| (*id == net.id).then_some(&net)));
            Ok::<_, String>(found.map(|c| c.name.as_str()).collect::<Vec<_>>())
        };
        assert_eq!(list(&[("name", "web")]), Ok(vec!["web", "web2"]));
        assert_eq!(list(&[("name", "^/web$")]), Ok(vec!["web"]));
        assert_eq!(list(&[("status", "exited"), ("status", "created")]), Ok(vec!["web2", "db"]));
        assert_eq!(list(&[("exited", "137")]), Ok(vec!["web2"]));
        assert_eq!(list(&[("network", "mynet"), ("label", "app=web")]), Ok(vec!["web", "db"]));
        assert_eq!(list(&[("network", id.as_str())]), Ok(vec!["web", "db"]));
        assert_eq!(list(&[("network", "host")]), Ok(vec![]));
        assert_eq!(list(&[("publish", "8000-8100")]), Ok(vec!["web"]));
        assert_eq!(list(&[("publish", "8080/udp")]), Ok(vec![]));
        assert_eq!(list(&[("publish", "80"), ("publish", "8080/tcp")]), Ok(vec!["web"]));
        assert_eq!(list(&[("publish", "0")]), Err("invalid filter 'publish=0'".into()));
        assert_eq!(list(&[("status", "asleep")]), Err("invalid filter 'status=asleep'".into()));
        assert_eq!(list(&[("ancestor", "x")]), Ok(vec![]));
        assert_eq!(list(&[("volume", "x")]), Err("invalid filter 'volume'".into()));
    }
}
