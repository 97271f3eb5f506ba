//! netbpf as a network driver of a real Docker engine, each on a host made of namespaces. One module by subject.

mod connect;
mod crowd;
mod engine;
mod ipam;
mod recovery;
mod refusals;
mod story;
