//! netbpf under real podman, as a plugin of netavark and of CNI, on hosts made of namespaces.

mod limits;
mod story;
