//! Networks, and who is in them: lease, plan, apply, commit. Does not ask who owns a container.

mod connect;
pub(in crate::daemon) mod endpoint_request;
pub(in crate::daemon) mod networks;
