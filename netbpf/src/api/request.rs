//! Reads requests as Docker's server does: booleans and times in queries, and null in bodies. Pure.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;

/// A boolean in a query: false if it is absent, empty, `0`, `no`, `false` or `none`, and true for any other text
/// (moby's `httputils.BoolValue`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let text = text.trim().to_ascii_lowercase();
        Ok(Self(!matches!(text.as_str(), "" | "0" | "no" | "false" | "none")))
    }
}

/// Parses a time in a query: RFC 3339, or seconds since the epoch with an optional fraction, as Docker's clients write
/// it. `None` if it is neither.
pub fn time(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let Ok(seconds) = seconds.parse() else { return text.parse().ok() };
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(seconds, nanoseconds).ok()
}

/// Reads the JSON body of a request. As in Docker's server, null stands for an absent value: clients in Go write it for
/// an empty list or map.
///
/// # Errors
/// If the body is no JSON, or not of this type.
pub fn body<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    let mut value = serde_json::from_slice(body)?;
    remove_nulls(&mut value);
    serde_json::from_value(value)
}

fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::types::NetworkCreate;

    #[test]
    fn a_boolean_is_read_as_docker_reads_it() {
        for text in ["1", "true", "True", "TRUE", "t", "yes", " on ", "2"] {
            assert_eq!(serde_json::from_value(text.into()).ok(), Some(Flag(true)), "{text}");
        }
        for text in ["", "0", "false", "False", "no", "none", " 0 "] {
            assert_eq!(serde_json::from_value(text.into()).ok(), Some(Flag(false)), "{text}");
        }
    }

    #[test]
    fn a_time_is_a_text_or_a_number_of_seconds() {
        let read = |text| time(text).map(|time| time.to_string());
        for (text, expected) in [
            ("2026-01-02T03:04:05.5Z", "2026-01-02T03:04:05.5Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("1767323045.000000001", "2026-01-02T03:04:05.000000001Z"),
            ("1767323045.25", "2026-01-02T03:04:05.25Z"),
            ("1767323045.", "2026-01-02T03:04:05Z"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "soon", "1.0000000001", "1.-5", "1.x", "99999999999999999"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn null_stands_for_an_absent_value() {
        let text = r#"{"Name":"n","Driver":null,"Internal":null,"EnableIPv6":null,"Labels":null,"IPAM":
            {"Driver":null,"Config":[{"Subnet":"10.1.0.0/24","Gateway":null,"AuxiliaryAddresses":null}]}}"#;
        let network: NetworkCreate = body(text.as_bytes()).expect("a network");
        assert_eq!((network.driver.as_str(), network.internal), ("", false));
        assert_eq!(network.ipam.config[0].subnet, "10.1.0.0/24");
        assert_eq!(network.labels, BTreeMap::new());
    }
}
