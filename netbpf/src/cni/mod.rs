//! netbpf as a CNI plugin (spec 0.3.1 to 1.1.0): a runtime executes this program, describes an interface by environment
//! variables and standard input, and reads the result. The daemon does the work; this is its client. A process takes
//! about a millisecond of its own, so it has neither tokio nor clap. Must not know the daemon.
//!
//! | file | content |
//! |---|---|
//! | `call` | the environment: the command, and what it is about |
//! | `configuration` | standard input |
//! | `convert` | messages for the daemon |
//! | `bandwidth` | limits, as options of an endpoint |
//! | `result` | standard output |
//! | `error` | the errors of the protocol |

mod bandwidth;
mod call;
mod configuration;
mod convert;
mod error;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod loopback;
mod result;

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::ExitCode,
};

use serde_json::Value;

use crate::{
    api::{
        blocking,
        types::{Attached, AttachmentKey, Detach},
    },
    detached::{Detached, FOLDER},
};
use call::{Call, Verb};
use configuration::Configuration;

pub use call::is_name;
use error::{Code, Error};

/// The versions of the specification that this plugin speaks, in ascending order.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The variable with the command; a runtime sets it for plugins only.
pub const COMMAND: &str = "CNI_COMMAND";

/// The maximum size of a configuration in bytes. It may publish every TCP and UDP port.
const MAX_INPUT: u64 = 32 << 20;

/// What a plugin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// Interfaces in netbpf's networks.
    Netbpf,
    /// The interface `lo`, which some runtimes ask for beside the others.
    Loopback,
}

/// Executes the runtime's command, and prints its result.
pub fn run(plugin: Plugin) -> ExitCode {
    let mut input = Vec::new();
    let called = Call::read(|name| env::var(name).ok());
    let done = called.and_then(|call| {
        if call.verb != Verb::Version {
            let read = io::stdin().lock().take(MAX_INPUT).read_to_end(&mut input);
            read.map_err(|error| Error::new(Code::Io, format!("read standard input: {error}")))?;
        }
        execute(plugin, &call, &input)
    });
    let (output, code) = match done {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err(error) => (Some(error.message(configuration::version_of(&input))), ExitCode::FAILURE),
    };
    if let Some(output) = output
        && let Err(error) = writeln!(io::stdout(), "{output}")
    {
        eprintln!("netbpf: write the result: {error}");
        return ExitCode::FAILURE;
    }
    code
}

/// Executes a command. Returns what to print.
fn execute(plugin: Plugin, call: &Call, input: &[u8]) -> Result<Option<Value>, Error> {
    if call.verb == Verb::Version {
        return Ok(Some(result::versions()));
    }
    let configuration = match call.verb {
        // What cannot be attached must be detached all the same.
        Verb::Del => Configuration::parse_names(input)?,
        _ => Configuration::parse(input)?,
    };
    call.verb.check_version(&configuration.version)?;
    match plugin {
        Plugin::Netbpf => netbpf(call, &configuration),
        Plugin::Loopback => loopback::execute(call, &configuration),
    }
}

fn netbpf(call: &Call, configuration: &Configuration) -> Result<Option<Value>, Error> {
    let socket = configuration.socket();
    let key = || AttachmentKey {
        runtime: "cni".to_owned(),
        container: call.container.clone(),
        configuration: configuration.name.clone(),
        interface: call.interface.clone(),
    };
    match call.verb {
        Verb::Add => {
            let mut request = convert::request(call, configuration, key())?;
            request.namespace_inode = inode(&call.namespace);
            let attached: Attached = blocking::post(&socket, "/attachments/attach", &request)?;
            Ok(Some(result::attached(&attached, call, configuration)))
        }
        Verb::Del => {
            detach(&socket, Detach { key: key(), namespace: call.namespace.clone() })?;
            Ok(None)
        }
        Verb::Check => {
            let request = convert::check(call, key());
            let attached: Attached = blocking::post(&socket, "/attachments/check", &request)?;
            result::compare(&attached, call, configuration)?;
            Ok(None)
        }
        Verb::Gc => {
            if let Some(request) = convert::collect(configuration) {
                blocking::submit(&socket, "/attachments/collect", &request)?;
            }
            Ok(None)
        }
        Verb::Status => {
            let target =
                format!("/attachments/status?network={}", blocking::encoded(configuration.network()));
            blocking::ask(&socket, &target).map_err(|error| error::of_status(&error))?;
            Ok(None)
        }
        Verb::Version => unreachable!("it was answered before"),
    }
}

/// Detaches a container. A daemon that does not run is told when it starts.
fn detach(socket: &Path, request: Detach) -> Result<(), Error> {
    let AttachmentKey { runtime, container, configuration, interface } = request.key.clone();
    let noted = Detached { runtime, container, configuration, interface };
    let detach = || Ok(blocking::submit(socket, "/attachments/detach", &request)?);
    noted.or_note(&socket.with_file_name(FOLDER), detach, |error: &Error| error.code == Code::TryAgain)
}

/// The inode of a file; 0 if there is none.
fn inode(path: &str) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.ino())
}
