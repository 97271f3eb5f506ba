//! Docker's remote network driver, and its IPAM driver: the messages exactly as Docker sends them, what they mean, and the socket that they
//! come in on. Decides nothing, and never asks Docker anything.
//!
//! | file | owns |
//! |---|---|
//! | `wire` | the messages of the network driver |
//! | `ipam` | those of the IPAM driver, and what they mean |
//! | `convert` | from messages to what the daemon is asked for, and back |
//! | `server` | methods, time limits, refusals |

mod convert;
mod ipam;
mod server;
mod wire;

pub use server::serve;
