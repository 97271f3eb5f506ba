//! `GET /events`: what happens to networks and containers, in Docker's words and JSON, and which of it a client asks
//! for (`--filter`). Knows no daemon: it judges messages by what is in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::filters::{Error, Filters};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// As `Action`; of containers only, for old clients of Docker.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// As `Actor.ID`; of containers only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The root file system; of containers only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `network` or `container`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `create`, `connect`, `start`, `die`, …
    #[serde(rename = "Action")]
    pub action: String,
    /// Whom it happened to.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local`.
    pub scope: String,
    /// Seconds since the epoch.
    pub time: i64,
    /// Nanoseconds since the epoch.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// Whom something happened to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// 64 hex digits; empty of `prune`.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name and what else there is to say.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// `--filter` of `events`. Within a key any value will do, but all labels are wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection(Filters);

impl Selection {
    /// What the filters mean here.
    pub fn parse(filters: &Filters) -> Result<Self, Error> {
        filters.only(&["container", "event", "label", "network", "scope", "type"])?;
        Ok(Self(filters.clone()))
    }

    /// Whether the client wants to hear of it. `container` and `network` take names and IDs, and as in Docker also
    /// their beginnings; what happens to a container in a network is told of both.
    pub fn matches(&self, event: &Event) -> bool {
        let equal = |key, text: &str| {
            let wanted = self.0.get(key);
            wanted.is_empty() || wanted.iter().any(|wanted| wanted == text)
        };
        let attribute = |key: &str| event.actor.attributes.get(key).map_or("", String::as_str);
        let actor = |kind: &str| {
            let wanted = self.0.get(kind);
            let names: [&str; 2] = match event.kind == kind {
                true => [&event.actor.id, attribute("name")],
                false => [attribute(kind), ""],
            };
            wanted.is_empty()
                || wanted.iter().any(|wanted| names.iter().any(|name| name.starts_with(wanted.as_str())))
        };
        let has_label = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => event.actor.attributes.get(key).is_some_and(|found| found == value),
            None => event.actor.attributes.contains_key(wanted),
        };
        equal("event", &event.action)
            && equal("type", &event.kind)
            && equal("scope", &event.scope)
            && actor("container")
            && actor("network")
            && self.0.get("label").iter().all(has_label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        Event {
            status: String::new(),
            id: String::new(),
            from: String::new(),
            kind: kind.into(),
            action: action.into(),
            actor: Actor {
                id: id.into(),
                attributes: attributes.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            },
            scope: "local".into(),
            time: 0,
            time_nano: 0,
        }
    }

    #[test]
    fn a_client_hears_of_what_it_asks_for() {
        let events = [
            event("network", "create", "aa11", &[("name", "mynet"), ("type", "bridge")]),
            event("network", "connect", "aa11", &[("container", "cc22"), ("name", "mynet")]),
            event("container", "start", "cc22", &[("name", "web"), ("app", "shop")]),
            event("container", "die", "dd33", &[("name", "db"), ("exitCode", "0")]),
        ];
        for (pairs, expected) in [
            (&[][..], &["create", "connect", "start", "die"][..]),
            (&[("type", "network")], &["create", "connect"]),
            (&[("event", "die"), ("event", "create")], &["create", "die"]),
            (&[("container", "web")], &["start"]),
            (&[("container", "cc22")], &["connect", "start"]),
            (&[("container", "cc")], &["connect", "start"]),
            (&[("network", "mynet")], &["create", "connect"]),
            (&[("network", "mynet"), ("container", "cc22")], &["connect"]),
            (&[("label", "app=shop")], &["start"]),
            (&[("label", "app"), ("type", "network")], &[]),
            (&[("scope", "swarm")], &[]),
        ] {
            let mut filters = Filters::default();
            pairs.iter().for_each(|(key, value)| filters.add(key, value));
            let selection = Selection::parse(&filters).expect("known filters");
            let heard: Vec<&str> = events
                .iter()
                .filter(|event| selection.matches(event))
                .map(|event| event.action.as_str())
                .collect();
            assert_eq!(heard, expected, "{pairs:?}");
        }
    }

    #[test]
    fn an_unknown_filter_is_refused() {
        let mut filters = Filters::default();
        filters.add("colour", "red");
        let refusal = Selection::parse(&filters).expect_err("no such filter");
        assert_eq!(refusal.to_string(), "invalid filter 'colour'");
    }
}
