//! Parsers for option values, with Docker's error messages. Pure, except that [`env()`] reads the environment and
//! [`since`] the clock.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::api::types::RestartPolicy;

/// Parses `key=value`; the value is empty if absent.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    Ok((key.to_owned(), value.to_owned()))
}

/// Parses `--label`.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let key = key.trim_start();
    if key.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    if key.contains(char::is_whitespace) {
        return Err(format!("label '{key}' contains whitespaces"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Parses `--filter`.
pub fn filter(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("bad format of filter (expected name=value)")?;
    Ok((key.trim().to_lowercase(), value.trim().to_owned()))
}

/// Parses `--driver-opt`.
pub fn driver_option(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
    let (key, value) =
        pair.filter(|(key, _)| !key.is_empty()).ok_or("invalid key/value pair format in driver options")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Parses `--add-host`: `name:address` or `name=address`. Returns the first form, for the daemon.
pub fn extra_host(text: &str) -> Result<String, String> {
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .filter(|(name, _)| !name.is_empty() && !name.contains(':'))
        .ok_or_else(|| format!("bad format for add-host: {text:?}"))?;
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {bare:?}"));
    }
    Ok(format!("{name}:{bare}"))
}

/// Parses `--dns`.
pub fn address(text: &str) -> Result<String, String> {
    match text.trim().parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

/// Parses `--dns-search`: a domain, or `.` for none.
pub fn search_domain(text: &str) -> Result<String, String> {
    let domain = text.trim();
    if domain == "." {
        return Ok(domain.to_owned());
    }
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let is_label = |label: &str| {
        let inner = label.chars().all(|character| character.is_ascii_alphanumeric() || character == '-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    let has_letter = domain.contains(|character: char| character.is_ascii_alphabetic());
    if has_letter && domain.len() < 255 && domain.split('.').all(is_label) {
        Ok(domain.to_owned())
    } else {
        Err(format!("{text} is not a valid domain"))
    }
}

/// Parses `--env`: `KEY=VALUE`, or `KEY` for the value in this process.
pub fn env(text: &str) -> Result<String, String> {
    let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
    if key.is_empty() {
        return Err(format!("invalid environment variable: {text}"));
    }
    match value {
        Some(_) => Ok(text.to_owned()),
        None => Ok(std::env::var(key).map_or_else(|_| key.to_owned(), |value| format!("{key}={value}"))),
    }
}

/// Removes variables without a value: a variable that is not set in this process is not set in the container.
pub fn set_variables(variables: Vec<String>) -> Vec<String> {
    variables.into_iter().filter(|variable| variable.contains('=')).collect()
}

/// Parses `--restart`: a policy; `on-failure` may have a maximum number of retries.
pub fn restart(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = match text.split_once(':') {
        Some(("", _)) => {
            return Err("invalid restart policy format: no policy provided before colon".to_owned());
        }
        Some((name, count)) => (name, count),
        None => (text, ""),
    };
    let maximum_retry_count = match count {
        "" => 0,
        count => count.parse().map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?,
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

/// Parses `--tail`: a number, or `all`.
pub fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail(None)),
        _ => {
            text.parse().map(|lines| Tail(Some(lines))).map_err(|_| "expected a number or \"all\"".to_owned())
        }
    }
}

/// The number of lines from the end; `None` for all.
#[derive(Clone, Copy, Debug)]
pub struct Tail(pub Option<u64>);

/// Parses `--since`: RFC 3339, seconds since the epoch, or a duration before now (`10m`, `1h30m`).
pub fn since(text: &str) -> Result<Timestamp, String> {
    let error =
        || "expected a time as in RFC 3339, seconds since the epoch, or a duration like 10m".to_owned();
    if let Ok(seconds) = text.parse::<f64>() {
        let duration = SignedDuration::try_from_secs_f64(seconds).map_err(|_| error())?;
        return Timestamp::from_duration(duration).map_err(|_| error());
    }
    text.parse::<Timestamp>()
        .or_else(|_| Timestamp::now().checked_sub(text.parse::<SignedDuration>()?))
        .map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(key: &str, value: &str) -> Result<(String, String), String> {
        Ok((key.to_owned(), value.to_owned()))
    }

    #[test]
    fn pairs() {
        assert_eq!(pair("a=b=c"), owned("a", "b=c"));
        assert_eq!(pair("a"), owned("a", ""));
        assert_eq!(label("com.example=x y"), owned("com.example", "x y"));
        assert_eq!(label("=x"), Err("invalid label '=x': empty name".to_owned()));
        assert_eq!(label("a b=x"), Err("label 'a b' contains whitespaces".to_owned()));
        assert_eq!(filter("Driver = bridge"), owned("driver", "bridge"));
        assert_eq!(filter("driver"), Err("bad format of filter (expected name=value)".to_owned()));
        assert_eq!(driver_option("a"), Err("invalid key/value pair format in driver options".to_owned()));
    }

    #[test]
    fn hosts_domains_and_addresses() {
        assert_eq!(extra_host("web:10.0.0.1"), Ok("web:10.0.0.1".to_owned()));
        assert_eq!(extra_host("web=[fd00::1]"), Ok("web:fd00::1".to_owned()));
        assert_eq!(extra_host("web:fd00::1"), Ok("web:fd00::1".to_owned()));
        assert_eq!(extra_host("web:host-gateway"), Ok("web:host-gateway".to_owned()));
        assert_eq!(extra_host("web"), Err("bad format for add-host: \"web\"".to_owned()));
        assert_eq!(extra_host("web:x"), Err("invalid IP address in add-host: \"x\"".to_owned()));
        assert_eq!(address("1.1.1.1"), Ok("1.1.1.1".to_owned()));
        assert_eq!(address("1.1.1"), Err("IP address is not correctly formatted: 1.1.1".to_owned()));
        assert_eq!(search_domain("."), Ok(".".to_owned()));
        assert_eq!(search_domain("example.com."), Ok("example.com".to_owned()));
        assert_eq!(search_domain("-x"), Err("-x is not a valid domain".to_owned()));
    }

    #[test]
    fn restart_policies() {
        let policy = |name: &str, maximum_retry_count| {
            Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
        };
        assert_eq!(restart("always"), policy("always", 0));
        assert_eq!(restart("on-failure:3"), policy("on-failure", 3));
        assert_eq!(restart("on-failure:"), policy("on-failure", 0));
        let format = |what: &str| Err(format!("invalid restart policy format: {what}"));
        assert_eq!(restart("on-failure:x"), format("maximum retry count must be an integer"));
        assert_eq!(restart(":3"), format("no policy provided before colon"));
    }

    #[test]
    fn times() {
        let text = |time| since(time).map(|time| time.to_string());
        assert_eq!(text("1700000000.5"), Ok("2023-11-14T22:13:20.5Z".to_owned()));
        assert_eq!(text("2023-11-14T22:13:20Z"), Ok("2023-11-14T22:13:20Z".to_owned()));
        assert!(since("10m").is_ok() && since("1h30m").is_ok());
        assert!(since("yesterday").is_err());
    }
}
