//! The whole of netbpf on hosts made of namespaces: the real daemon, the real command line, real tools. One module by
//! subject.

mod bad_input;
mod cli;
mod disk;
mod harness;
mod lifecycle;
mod maps;
mod scale;
mod throughput;
mod isolation;
mod spoofing;
mod story;
mod world;
