//! One container's processes: the supervisor, what it starts, what reaches it. Knows namespaces, mounts, capabilities
//! and pipes; must not know networks, leases or names.
//!
//! A sandbox lives in a directory that the daemon owns ([`Spec`] says how to use it). `netbpf supervise --dir DIR` is
//! its only process outside the container's PID namespace:
//!
//! 1. [`Supervisor::spawn`] returns when the namespaces exist and the files are mounted; the daemon wires
//!    [`Supervisor::netns_path`]. A supervisor whose daemon goes away now goes too, so nothing is left half made.
//! 2. [`Supervisor::start`] runs the command as process 1. From here on the supervisor needs no daemon: it writes the
//!    log, serves `exec` and at the end leaves `exit.json`.
//! 3. A later daemon finds it again by [`Supervisor::adopt`].
//!
//! The supervisor's death is the container's, by whatever signal.

#![deny(unsafe_code)]

mod child;
mod error;
pub mod exec;
mod filesystem;
mod handle;
pub mod logs;
mod namespaces;
mod output;
mod procfs;
mod protocol;
mod relay;
mod rotation;
mod sealed;
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
pub use sys::register;
