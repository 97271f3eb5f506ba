//! Room in the kernel's tables of neighbours. There is one for each family and for all network namespaces together, so
//! containers that talk to each other fill it: 36 of them need 1,260 entries, and the kernel's limit is 1,024.

use std::path::Path;

use super::{Error, sysctl};

/// As Docker's overlay networks have them: from how many entries on old ones are collected, hurriedly, and at most. From
/// the last to the first, so that they are in order at each moment.
const THRESHOLDS: [(&str, u32); 3] = [("gc_thresh3", 65536), ("gc_thresh2", 49152), ("gc_thresh1", 8192)];

/// Raises thresholds that are lower, of both families, and never lowers one. Says what was set. Only the first network
/// namespace has these settings; in others nothing is done.
pub fn make_room() -> Result<Vec<String>, Error> {
    let mut done = Vec::new();
    for family in ["ipv4", "ipv6"] {
        for (name, least) in THRESHOLDS {
            let setting = format!("net/{family}/neigh/default/{name}");
            if !Path::new("/proc/sys").join(&setting).exists() {
                continue;
            }
            if let Some(value) = raised(&sysctl::read(&setting)?, least) {
                sysctl::write(&setting, &value)?;
                done.push(format!("{}={value}", setting.replace('/', ".")));
            }
        }
    }
    Ok(done)
}

/// The value that a threshold gets; none if it is high enough, or not a number.
fn raised(value: &str, least: u32) -> Option<String> {
    value.parse::<i64>().ok().filter(|value| *value < i64::from(least)).map(|_| least.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_raised_and_never_lowered() {
        let raised = |value| raised(value, 65536);
        assert_eq!(raised("1024"), Some("65536".to_owned()));
        assert_eq!(raised("0"), Some("65536".to_owned()));
        for enough in ["65536", "65537", "1000000", ""] {
            assert_eq!(raised(enough), None, "{enough}");
        }
    }

    #[test]
    fn they_are_in_order() {
        let [(_, at_most), (_, hurriedly), (_, collected)] = THRESHOLDS;
        assert!(collected < hurriedly && hurriedly < at_most);
    }
}
