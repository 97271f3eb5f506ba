//! Parses `--filter` of `network ls`, `network prune` and `ps`: Docker's keys and messages. Must not know what matches:
//! `model/filter.rs` does.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::model::{
    ContainerFilter, ContainerPort, NetworkFilter, Patterns, PruneFilter, one_line, parse_expose,
};

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
        Patterns::of(self.get(key))
    }

    /// The filters of `network ls`.
    ///
    /// # Errors
    /// [`Error::Key`] for an unknown key; [`Error::Dangling`], [`Error::DanglingTwice`] or [`Error::Type`] for a value.
    pub fn networks(&self) -> Result<NetworkFilter, Error> {
        self.only(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
        let dangling = match self.get("dangling") {
            [] => None,
            [value] => Some(match value.as_str() {
                "1" | "true" => true,
                "0" | "false" => false,
                _ => return Err(Error::Dangling),
            }),
            _ => return Err(Error::DanglingTwice),
        };
        if let Some(bad) =
            self.get("type").iter().find(|value| !["builtin", "custom"].contains(&value.as_str()))
        {
            return Err(Error::Type(bad.clone()));
        }
        Ok(NetworkFilter {
            ids: self.patterns("id"),
            names: self.patterns("name"),
            drivers: self.get("driver").to_vec(),
            scopes: self.get("scope").to_vec(),
            types: self.get("type").to_vec(),
            labels: self.get("label").to_vec(),
            dangling,
        })
    }

    /// The filters of `network prune`. Durations count back from `now`.
    ///
    /// # Errors
    /// [`Error::Key`] for an unknown key; [`Error::Until`] or [`Error::UntilTwice`] for a value.
    pub fn prune(&self, now: Timestamp) -> Result<PruneFilter, Error> {
        self.only(&["label", "label!", "until"])?;
        let until = match self.get("until") {
            [] => None,
            [text] => Some(parse_time(text, now).ok_or_else(|| Error::Until(text.clone()))?),
            _ => return Err(Error::UntilTwice),
        };
        Ok(PruneFilter { labels: self.get("label").to_vec(), unwanted: self.get("label!").to_vec(), until })
    }

    /// The filters of `ps`.
    ///
    /// # Errors
    /// [`Error::Key`] for an unknown key; [`Error::Value`] for an unknown state, an exit code that is no number, or no
    /// port.
    pub fn containers(&self) -> Result<ContainerFilter, Error> {
        self.only(&["ancestor", "exited", "expose", "id", "label", "name", "network", "publish", "status"])?;
        let states = ["created", "dead", "exited", "paused", "removing", "restarting", "running"];
        if let Some(bad) = self.get("status").iter().find(|value| !states.contains(&value.as_str())) {
            return Err(Error::Value("status", bad.clone()));
        }
        let exit_codes = self
            .get("exited")
            .iter()
            .map(|text| text.parse().map_err(|_| Error::Value("exited", text.clone())))
            .collect::<Result<_, _>>()?;
        Ok(ContainerFilter {
            ids: self.patterns("id"),
            names: self.patterns("name"),
            states: self.get("status").to_vec(),
            images: self.get("ancestor").to_vec(),
            exit_codes,
            labels: self.get("label").to_vec(),
            published: self.ports("publish")?,
            exposed: self.ports("expose")?,
            networks: self.get("network").to_vec(),
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Attachment, Container, Driver, EndpointRequest, Id, Mapping, Namespace, Network, Protocol, State,
        Subject,
    };

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
        let filter = filters(pairs).networks().map_err(|error| error.to_string())?;
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
        let prunes = |pairs: &[_]| filters(pairs).prune(now).map(|filter| filter.matches(&net));
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
            let filter = filters(pairs).containers().map_err(|error| error.to_string())?;
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
