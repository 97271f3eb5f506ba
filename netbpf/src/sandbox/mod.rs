//! The processes of one container: the supervisor, the programs it starts, and access to them. Knows namespaces,
//! mounts, capabilities and pipes; must not know networks, leases or names.
//!
//! A sandbox has a directory that the daemon owns; [`Spec`] describes its use. `netbpf supervise --dir DIR` is its only
//! process outside the container's PID namespace:
//!
//! 1. [`Supervisor::spawn`] returns when the namespaces exist and the files are mounted. The daemon then connects
//!    [`Supervisor::netns_path`] to the networks. If the daemon ends at this stage, the supervisor ends as well, so
//!    nothing stays half made.
//! 2. [`Supervisor::start`] runs the command as process 1. From here on the supervisor does not need the daemon: it
//!    writes the log, serves `exec`, and writes `exit.json` at the end.
//! 3. A later daemon finds it again with [`Supervisor::adopt`].
//!
//! The container dies with its supervisor, whatever signal kills that.

mod child;
mod error;
pub mod exec;
mod filesystem;
mod handle;
pub mod logs;
mod namespaces;
mod output;
mod protocol;
mod relay;
mod rotation;
mod sealed;
pub mod session;
mod shared_file;
mod spec;
mod supervisor;
mod sys;

pub use error::Error;
pub use handle::Supervisor;
pub use sealed::SealedProgram;
pub use shared_file::SharedFile;
pub use spec::{Exit, Files, Network, SOCKET, Spec, exit_status};
pub use supervisor::supervise;
pub use sys::{namespace_of, register};
