//! netbpf as a driver of podman's networks (netavark plugin API 1.0.0, podman 4.5 and later): podman executes this program
//! as `DIRECTORY/netbpf COMMAND`, with JSON on standard input, and reads JSON from standard output. The daemon does the
//! work; this is its client. Must not know the daemon.
//!
//! | file | content |
//! |---|---|
//! | `message` | podman's messages |
//! | `create` | a new network of podman: netbpf's with that name, or a new one |
//! | `attach` | a container that joins or leaves a network |

mod attach;
mod create;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod message;

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Value, json};

use crate::api::blocking::{self, SOCKET};

/// The version of the plugin API (netavark's `plugin-API.md`).
const API_VERSION: &str = "1.0.0";
/// The options of limits, which may be typed without netbpf's prefix.
const LIMITS: [(&str, &str); 4] = [
    ("ingress_rate", "netbpf.ingress_rate"),
    ("ingress_burst", "netbpf.ingress_burst"),
    ("egress_rate", "netbpf.egress_rate"),
    ("egress_burst", "netbpf.egress_burst"),
];
/// Whether a key is that of one of netbpf's options, or of Docker's.
fn is_name_of_option(key: &str) -> bool {
    key.starts_with("netbpf.") || key.starts_with("com.docker.network.")
}

/// The maximum size of a message in bytes. It may publish every TCP and UDP port.
const MAX_INPUT: u64 = 32 << 20;

/// Why a command failed. podman shows the text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is none of netavark's.
    #[error("unknown command {0}: expected create, setup NAMESPACE, teardown NAMESPACE or info")]
    Command(String),
    /// Standard input cannot be read.
    #[error("read standard input: {0}")]
    Input(io::Error),
    /// A message cannot be decoded.
    #[error("decode podman's message: {0}")]
    Message(#[from] serde_json::Error),
    /// netbpf cannot do what the network's definition asks.
    #[error("{0}")]
    Unsupported(String),
    /// A detached container cannot be noted for a daemon that does not run.
    #[error("note that a container was detached: {0}")]
    Note(#[from] io::Error),
    /// The daemon cannot be reached, or refuses the request.
    #[error(transparent)]
    Daemon(#[from] blocking::Error),
}

/// Whether podman executes the program: it does so in a directory of that name.
pub fn is_called(program: &OsStr) -> bool {
    Path::new(program).parent().and_then(Path::file_name).is_some_and(|folder| folder == "netavark")
}

/// Executes podman's command, and prints the answer.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let socket = env::var_os("NETBPF_SOCKET").map_or_else(|| SOCKET.into(), PathBuf::from);
    let done = execute(&socket, arguments, io::stdin().lock());
    let (answer, code) = match done {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(error) => (Some(json!({ "error": error.to_string() })), ExitCode::FAILURE),
    };
    if let Some(answer) = answer
        && let Err(error) = writeln!(io::stdout(), "{answer}")
    {
        eprintln!("netbpf: write the answer: {error}");
        return ExitCode::FAILURE;
    }
    code
}

/// Executes a command. Returns what to print.
fn execute(socket: &Path, arguments: &[OsString], input: impl io::Read) -> Result<Option<Value>, Error> {
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
    let read = || {
        let mut text = Vec::new();
        input.take(MAX_INPUT).read_to_end(&mut text).map_err(Error::Input)?;
        Ok::<_, Error>(text)
    };
    match words.iter().map(AsRef::as_ref).collect::<Vec<&str>>()[..] {
        ["info"] => Ok(Some(json!({ "version": env!("CARGO_PKG_VERSION"), "api_version": API_VERSION }))),
        ["create"] => create::network(socket, &read()?).map(Some),
        ["setup", namespace] => attach::setup(socket, namespace, &read()?).map(Some),
        ["teardown", namespace] => attach::teardown(socket, namespace, &read()?).map(|()| None),
        _ => Err(Error::Command(words.join(" ").escape_debug().to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_calls_it_in_a_directory_named_netavark() {
        assert!(is_called("/usr/lib/netavark/netbpf".as_ref()));
        assert!(!is_called("/usr/bin/netbpf".as_ref()) && !is_called("netbpf".as_ref()));
    }

    #[test]
    fn other_commands_are_refused() {
        let answer = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            execute(Path::new("/nowhere"), &words, io::empty())
        };
        assert_eq!(answer(&["info"]).unwrap().unwrap()["api_version"], "1.0.0");
        for words in [&[][..], &["setup"], &["up", "/x"], &["create", "/x"]] {
            assert!(matches!(answer(words), Err(Error::Command(_))), "{words:?}");
        }
        let error = answer(&["setup", "/x"]).unwrap_err().to_string();
        assert!(error.starts_with("decode podman's message: "), "{error}");
    }
}
