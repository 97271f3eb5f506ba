//! Size limits of the kernel's neighbour tables. There is one table for each family and for all network
//! namespaces together, so containers that talk to each other fill it: 36 of them need 1,260 entries, and the
//! kernel's default limit is 1,024.

use std::path::Path;

use super::{Error, sysctl};

/// The limits of Docker's overlay networks: the maximum, the number of entries from which old ones are
/// removed sooner, and the number from which old ones are removed at all. In descending order, so that the
/// kernel's limits are in order after each write.
const THRESHOLDS: [(&str, u32); 3] = [("gc_thresh3", 65536), ("gc_thresh2", 49152), ("gc_thresh1", 8192)];

/// Raises lower limits of both families, and never lowers one. Returns what was set. Does nothing in network
/// namespaces other than the first, which have no such settings.
///
/// # Errors
/// [`Error::Failed`] at the first limit that cannot be read or written, for example `EROFS` where `/proc/sys`
/// is mounted read-only. Limits before it are raised.
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

/// The new value of a limit; none if it is high enough, or not a number.
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
