//! netbpf as a network driver of a real Docker engine, and Docker's clients on netbpf's own socket, on hosts made of
//! namespaces. One module for each subject.

mod clients;
mod coexist;
mod compose;
mod connect;
mod crowd;
mod dashboards;
mod ipam;
mod moby;
mod newest;
mod recovery;
mod refusals;
mod same;
mod story;
mod together;

use netbpf_tests::engine;
