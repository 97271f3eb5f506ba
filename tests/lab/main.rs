//! The whole of netbpf on hosts made of namespaces: the real daemon, the real command line, real tools. One module by
//! subject.

mod bad_input;
mod harness;
mod scale;
mod throughput;
mod world;
