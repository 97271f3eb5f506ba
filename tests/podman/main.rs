//! netbpf as a driver of real podman's networks, on hosts made of namespaces.

mod story;
