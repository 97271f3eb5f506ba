//! Name resolution: the responder's records, `--link`, the host's name servers.

pub(in crate::daemon) mod links;
pub(in crate::daemon) mod record;
mod resolvers;

pub(in crate::daemon) use record::{names_of, record_of};
