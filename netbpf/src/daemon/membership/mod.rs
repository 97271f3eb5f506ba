//! Networks and their members: lease, plan, apply, commit. Must not call `owners`.

mod announce;
pub(in crate::daemon) mod connect;
pub(in crate::daemon) mod endpoint_request;
pub(in crate::daemon) mod networks;
pub(in crate::daemon) mod restore;
pub(in crate::daemon) mod subnets;
mod update;
