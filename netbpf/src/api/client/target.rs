//! Builds the targets of requests: paths with escaped names, and queries. Knows no messages and makes no requests.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Error, Filters, Result};

/// The path of a network, or of an action on it.
pub(super) fn network_path(name: &str, action: &str) -> Result<String> {
    path("network", name, action)
}

/// The path of a container, or of an action on it.
pub(super) fn container_path(name: &str, action: &str) -> Result<String> {
    path("container", name, action)
}

/// A path with a query.
pub(super) fn target(path: &str, query: &[(&str, String)]) -> String {
    let pairs: Vec<String> = query.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

/// Filters in Docker's JSON.
pub(super) fn filter_query(filters: &Filters) -> Vec<(&'static str, String)> {
    let mut lists = serde_json::Map::new();
    for (key, value) in filters {
        let list = lists.entry(key).or_insert_with(|| serde_json::Value::Array(Vec::new()));
        list.as_array_mut().into_iter().for_each(|list| list.push(value.as_str().into()));
    }
    if lists.is_empty() {
        Vec::new()
    } else {
        vec![("filters", serde_json::Value::Object(lists).to_string())]
    }
}

/// The query of requests that stop a container.
pub(super) fn stop_query(seconds: Option<u64>, signal: Option<&str>) -> Vec<(&'static str, String)> {
    let timeout = seconds.map(|seconds| ("t", seconds.to_string()));
    timeout.into_iter().chain(signal.map(|signal| ("signal", signal.to_owned()))).collect()
}

fn path(kind: &'static str, name: &str, action: &str) -> Result<String> {
    if name.is_empty() {
        return Err(Error::NoName(kind));
    }
    Ok(format!("/{kind}s/{}{action}", escape(name)))
}

fn escape(text: &str) -> impl std::fmt::Display + '_ {
    /// The unreserved characters of RFC 3986 stay.
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, RESERVED)
}
