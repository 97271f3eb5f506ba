//! Setups that people bring from a kernel bridge and that need more than leases: real programs, and the option of
//! netbpf that each needs. One module for each kind of setup.

mod floating;
mod routers;
mod stations;
mod storm;
mod xdp;

use netbpf_tests::lab::{Lab, Process};
use nix::sys::signal::Signal;

/// Containers in a network, and what is tried with them.
pub struct Setup {
    /// Options of the network.
    network: &'static str,
    /// Names of the containers, and options of their endpoints.
    members: &'static [(&'static str, &'static str)],
    try_it: fn(&Lab),
}

/// Those whose frames and addresses the kernel has a part in.
pub const ON_ALL_KERNELS: &[Setup] = &[
    floating::SETUP,
    routers::ROUTERS,
    routers::NODES,
    stations::DHCP,
    stations::STATIONS_INSIDE,
    stations::ADVERTISED_PREFIX,
    xdp::SETUP,
];

impl Setup {
    /// On a host of its own.
    #[track_caller]
    fn run(&self) {
        self.run_on(&Lab::start());
    }

    /// With a network `mynet`, 10.5.0.0/24 and fd00:5::/64, whose members are 10.5.0.2 and fd00:5::2 and so on.
    #[track_caller]
    pub fn run_on(&self, lab: &Lab) {
        let Self { network, members, try_it } = self;
        lab.network("mynet", &format!("--ipv6 --subnet 10.5.0.0/24 --subnet fd00:5::/64 {network}"));
        for (name, options) in *members {
            lab.run(name, &format!("--net mynet {options}"));
        }
        try_it(lab);
    }
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
