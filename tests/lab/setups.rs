//! Setups that people bring from a kernel bridge and that need more than leases: real programs, and the option of
//! netbpf that each needs. One module for each kind of setup.

mod floating;
mod routers;
mod stations;
mod storm;
mod xdp;

use netbpf_tests::lab::{Lab, Process};
use nix::sys::signal::Signal;

/// A network `mynet`, 10.5.0.0/24 and fd00:5::/64, with members from 10.5.0.2 and fd00:5::2 on; each with options.
fn town(network: &str, members: &[(&str, &str)]) -> Lab {
    let lab = Lab::start();
    build_town(&lab, network, members);
    lab
}

fn build_town(lab: &Lab, network: &str, members: &[(&str, &str)]) {
    lab.network("mynet", &format!("--ipv6 --subnet 10.5.0.0/24 --subnet fd00:5::/64 {network}"));
    for (name, options) in members {
        lab.run(name, &format!("--net mynet {options}"));
    }
}

/// What differs by kernel, on a lab that other tests use too.
#[track_caller]
pub fn addresses_move_and_the_host_side_sees_all_frames(lab: &Lab) {
    let further = floating::FURTHER;
    build_town(lab, "", &[("first", further), ("second", further), ("client", ""), ("one", ""), ("two", "")]);
    floating::announcements_take_over_at_once(lab);
    xdp::the_host_side_sees_all_frames(lab);
}

/// Starts a command in a container's network namespace, with all privileges of the host.
fn spawn_in(lab: &Lab, container: &str, command: &str) -> Process {
    let pid = lab.pid(container).to_string();
    lab.spawn(["nsenter", "-t", &pid, "-n"].into_iter().chain(command.split_whitespace()))
}

/// Stops a daemon and waits for its end.
#[track_caller]
fn stop(daemon: Process) {
    daemon.signal(Signal::SIGTERM);
    let _stopped = daemon.output();
}

/// Sets options of an endpoint in `mynet`.
#[track_caller]
fn update(lab: &Lab, option: &str, container: &str) {
    lab.netbpf(["update", "--network", "mynet", "--driver-opt", option, container]).ok();
}

#[track_caller]
fn reaches(lab: &Lab, from: &str, address: &str) {
    lab.in_network_of(from, &format!("ping -c1 -W2 {address}")).ok();
}

#[track_caller]
fn host_reaches(lab: &Lab, address: &str) {
    lab.host(["ping", "-c1", "-W2", address]).ok();
}

fn write(lab: &Lab, path: &str, text: &str) {
    std::fs::write(lab.path(path), text).expect("a file of the lab's host");
}

fn remove(lab: &Lab, paths: &[&str]) {
    paths.iter().for_each(|path| std::fs::remove_file(lab.path(path)).expect("a file of the lab's host"));
}
