//! The environment of a plugin: the command, the container, its namespace and the interface.

use super::{
    COMMAND,
    error::{Code, Error},
};

/// The longest name of an interface, in bytes: `IFNAMSIZ` without the final zero.
const LONGEST_INTERFACE: usize = 15;

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Attach a container.
    Add,
    /// Detach it.
    Del,
    /// Compare what is attached with the result of `ADD`.
    Check,
    /// Remove what the runtime does not list.
    Gc,
    /// Say whether containers can be attached.
    Status,
    /// List the versions that the plugin speaks.
    Version,
}

/// A call of the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The command.
    pub verb: Verb,
    /// The runtime's ID of the container; empty for commands about none.
    pub container: String,
    /// The file of its namespace; empty if the runtime does not know it any more.
    pub namespace: String,
    /// The interface in the container.
    pub interface: String,
    /// `CNI_ARGS`, by key.
    pub arguments: Vec<(String, String)>,
}

impl Verb {
    fn parse(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "ADD" => Self::Add,
            "DEL" => Self::Del,
            "CHECK" => Self::Check,
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            "VERSION" => Self::Version,
            _ => return Err(environment(format!("unknown CNI_COMMAND: {}", text.escape_debug()))),
        })
    }

    /// The variables that it needs.
    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
            Self::Gc | Self::Status | Self::Version => &[],
        }
    }

    /// Checks that a version of the specification has the command.
    ///
    /// # Errors
    /// [`Code::Version`].
    pub fn check_version(self, version: &str) -> Result<(), Error> {
        let (name, since) = match self {
            Self::Check => ("CHECK", &["0.4.0", "1.0.0", "1.1.0"][..]),
            Self::Gc => ("GC", &["1.1.0"][..]),
            Self::Status => ("STATUS", &["1.1.0"][..]),
            Self::Add | Self::Del | Self::Version => return Ok(()),
        };
        match since.contains(&version) {
            true => Ok(()),
            false => Err(Error::new(
                Code::Version,
                format!("config version {version} does not allow {name}, which exists since {}", since[0]),
            )),
        }
    }
}

impl Call {
    /// Reads the variables.
    ///
    /// # Errors
    /// [`Code::Environment`], with all variables that are missing, or the first invalid one.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let value = |name: &str| variable(name).unwrap_or_default();
        let verb = Verb::parse(&value(COMMAND))?;
        let missing: Vec<_> = verb.needs().iter().filter(|name| value(name).is_empty()).copied().collect();
        if !missing.is_empty() {
            return Err(environment(format!("required env variables [{}] missing", missing.join(","))));
        }
        let call = Self {
            verb,
            container: value("CNI_CONTAINERID"),
            namespace: value("CNI_NETNS"),
            interface: value("CNI_IFNAME"),
            arguments: arguments(&value("CNI_ARGS"))?,
        };
        if !verb.needs().is_empty() {
            check_container(&call.container)?;
            check_interface(&call.interface)?;
        }
        Ok(call)
    }

    /// The value of an argument in `CNI_ARGS`.
    pub fn argument(&self, key: &str) -> Option<&str> {
        let mut arguments = self.arguments.iter();
        arguments
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

fn environment(message: String) -> Error {
    Error::new(Code::Environment, message)
}

/// Whether a text is an ID or a name by the specification: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
pub fn is_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) && text.bytes().all(is_inner)
}

fn check_container(id: &str) -> Result<(), Error> {
    match is_name(id) {
        true => Ok(()),
        false => Err(environment(format!("invalid characters in CNI_CONTAINERID: {}", id.escape_debug()))),
    }
}

/// The rules of the specification, which are those of the kernel.
fn check_interface(name: &str) -> Result<(), Error> {
    let reason = if name.len() > LONGEST_INTERFACE {
        "it is longer than 15 characters"
    } else if matches!(name, "." | "..") {
        "it is . or .."
    } else if name.contains(['/', ':'])
        || name.contains(char::is_whitespace)
        || name.contains(char::is_control)
    {
        "it contains '/', ':' or a blank"
    } else {
        return Ok(());
    };
    Err(environment(format!("invalid CNI_IFNAME {}: {reason}", name.escape_debug())))
}

/// Parses `K8S_POD_NAME=web;IgnoreUnknown=1`. Unknown keys have no effect.
fn arguments(text: &str) -> Result<Vec<(String, String)>, Error> {
    let pairs = text.split(';').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| match pair.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(environment(format!("CNI_ARGS: invalid pair {}", pair.escape_debug()))),
    };
    pairs.map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Call, Error> {
        Call::read(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn all_missing_variables_are_named() {
        let error = read(&[("CNI_COMMAND", "ADD"), ("CNI_NETNS", "/x")]).unwrap_err();
        assert_eq!(
            error,
            environment("required env variables [CNI_CONTAINERID,CNI_IFNAME] missing".to_owned())
        );
        read(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "eth0")]).unwrap();
        read(&[("CNI_COMMAND", "STATUS")]).unwrap();
        let unknown = read(&[("CNI_COMMAND", "PUT")]).unwrap_err();
        assert_eq!(unknown.message, "unknown CNI_COMMAND: PUT");
    }

    #[test]
    fn names_of_containers_and_interfaces_are_checked() {
        for (id, interface) in [
            ("../x", "eth0"),
            ("-x", "eth0"),
            ("c c", "eth0"),
            ("c", "0123456789abcdef"),
            ("c", "."),
            ("c", ".."),
            ("c", "a/b"),
            ("c", "a:b"),
            ("c", "a b"),
        ] {
            let variables = [
                ("CNI_COMMAND", "ADD"),
                ("CNI_CONTAINERID", id),
                ("CNI_NETNS", "/x"),
                ("CNI_IFNAME", interface),
            ];
            let error = read(&variables).expect_err("invalid");
            assert_eq!(error.code, Code::Environment, "{id} {interface}: {error:?}");
        }
    }

    #[test]
    fn arguments_are_pairs() {
        let variables = [("CNI_COMMAND", "STATUS"), ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web;IP=")];
        let call = read(&variables).unwrap();
        assert_eq!((call.argument("K8S_POD_NAME"), call.argument("IP")), (Some("web"), None));
        let error = read(&[("CNI_COMMAND", "STATUS"), ("CNI_ARGS", "x")]).unwrap_err();
        assert_eq!(error.message, "CNI_ARGS: invalid pair x");
    }

    #[test]
    fn commands_exist_since_a_version() {
        Verb::Check.check_version("0.4.0").unwrap();
        for (verb, version) in [(Verb::Check, "0.3.1"), (Verb::Gc, "1.0.0"), (Verb::Status, "1.0.0")] {
            assert_eq!(verb.check_version(version).unwrap_err().code, Code::Version);
        }
    }
}
