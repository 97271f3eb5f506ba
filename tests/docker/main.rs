//! netbpf as a network driver of a real Docker engine, on hosts made of namespaces. One module for each subject.

mod coexist;
mod compose;
mod connect;
mod crowd;
mod ipam;
mod moby;
mod newest;
mod recovery;
mod refusals;
mod same;
mod story;

use netbpf_tests::engine;
