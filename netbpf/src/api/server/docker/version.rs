//! Versions of Docker's API: the prefix of a path, and which ones are served. Pure.

use std::fmt;

/// The oldest version that is served: older clients than Docker 1.12 have another format of `create`.
pub const OLDEST: ApiVersion = ApiVersion::of(1, 24);

/// The newest version. Clients use it or their own, whichever is older.
pub const NEWEST: ApiVersion = ApiVersion::of(1, 55);

/// A version of the API, as a client writes it in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    major: u64,
    minor: u64,
    /// Of further parts, which no known version has.
    patch: u64,
}

/// A version that is not served; moby's messages.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// It is older than [`OLDEST`].
    #[error(
        "client version {0} is too old. Minimum supported API version is {OLDEST}, please upgrade your client to a newer version"
    )]
    TooOld(ApiVersion),
    /// It is newer than [`NEWEST`].
    #[error("client version {0} is too new. Maximum supported API version is {NEWEST}")]
    TooNew(ApiVersion),
}

impl ApiVersion {
    /// A version of two numbers.
    pub const fn of(major: u64, minor: u64) -> Self {
        Self { major, minor, patch: 0 }
    }

    /// Refuses a version that is not served.
    pub fn check(self) -> Result<(), Unserved> {
        match self {
            older if older < OLDEST => Err(Unserved::TooOld(self)),
            newer if newer > NEWEST => Err(Unserved::TooNew(self)),
            _ => Ok(()),
        }
    }

    /// Parses digits and dots. As in moby, a missing number is 0.
    fn parse(text: &str) -> Self {
        let number = |part: &str| if part.is_empty() { 0 } else { part.parse().unwrap_or(u64::MAX) };
        let mut numbers = text.split('.').map(number);
        let mut next = || numbers.next().unwrap_or_default();
        Self { major: next(), minor: next(), patch: numbers.max().unwrap_or_default() }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor, patch } = self;
        match patch {
            0 => write!(f, "{major}.{minor}"),
            patch => write!(f, "{major}.{minor}.{patch}"),
        }
    }
}

/// Splits `/v1.41/info?x` into the version and `/info?x`; `None` if the path does not begin with a version.
pub fn split(target: &str) -> Option<(ApiVersion, &str)> {
    let rest = target.strip_prefix("/v")?;
    let end = rest.find(|char: char| !matches!(char, '0'..='9' | '.'))?;
    let (version, rest) = rest.split_at(end);
    (!version.is_empty() && rest.starts_with('/')).then(|| (ApiVersion::parse(version), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_begins_with_a_version_or_does_not() {
        let split = |target| split(target).map(|(version, rest)| (version.to_string(), rest.to_owned()));
        for (target, version, rest) in [
            ("/v1.41/info", "1.41", "/info"),
            ("/v1.24/containers/json?all=1", "1.24", "/containers/json?all=1"),
            ("/v99/info", "99.0", "/info"),
            ("/v1.41/../info", "1.41", "/../info"),
            ("/v1.41//info", "1.41", "//info"),
            ("/v.../x", "0.0", "/x"),
            ("/v99999999999999999999999.1/x", "18446744073709551615.1", "/x"),
        ] {
            assert_eq!(split(target), Some((version.to_owned(), rest.to_owned())), "{target}");
        }
        for target in
            ["/version", "/v", "/v/info", "/v1.41", "/v1.41?x", "/v1%2E41/info", "/vx/info", "/V1.41/info"]
        {
            assert_eq!(split(target), None, "{target}");
        }
    }

    #[test]
    fn versions_are_served_from_the_oldest_to_the_newest() {
        let check = |text| ApiVersion::parse(text).check().map_err(|error| error.to_string());
        for text in ["1.24", "1.41", "1.50", "1.55", "1.41.7"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        let too_old = "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your \
                       client to a newer version";
        assert_eq!(check("1.23"), Err(too_old.to_owned()));
        let too_new = "client version 1.56 is too new. Maximum supported API version is 1.55";
        assert_eq!(check("1.56"), Err(too_new.to_owned()));
        for text in ["", ".", "0", "1", "2", "1.55.1", "99"] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
