//! `GET /events`: events of networks and containers in Docker's format, and the filters for them (`--filter`). Does not
//! know the daemon: filters compare the fields of an event only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::filters::{Error, Filters};

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Same as `Action`; for containers only, and for old Docker clients.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Same as `Actor.ID`; for containers only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The root file system; for containers only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `network` or `container`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `create`, `connect`, `start`, `die`, …
    #[serde(rename = "Action")]
    pub action: String,
    /// The object of the event.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// Always `local`.
    pub scope: String,
    /// In seconds since the epoch.
    pub time: i64,
    /// In nanoseconds since the epoch.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// The object of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// 64 hex digits; empty for `prune`.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name and other attributes.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

/// The filters of `events`. Of several values of a key one must match; of labels all must.
#[derive(Clone, Debug, Default)]
pub struct Selection(Filters);

impl Selection {
    /// Checks the keys.
    ///
    /// # Errors
    /// [`Error::Key`] for a key that is not one of these.
    pub fn parse(filters: &Filters) -> Result<Self, Error> {
        filters.only(&[
            "container",
            "daemon",
            "event",
            "image",
            "label",
            "network",
            "plugin",
            "scope",
            "type",
            "volume",
        ])?;
        Ok(Self(filters.clone()))
    }

    /// Whether an event matches. `container` and `network` compare names and IDs, and also prefixes of them, as Docker
    /// does. A container's event in a network matches both.
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
            && ["container", "daemon", "image", "network", "plugin", "volume"].into_iter().all(actor)
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
    fn only_matching_events_are_selected() {
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
