//! A container of each engine in one network of one host.

use netbpf_tests::{
    containerd::Containerd,
    lab::{Lab, Output, Process, eventually},
    podman::{Backend, Podman},
};

use crate::engine::Engine;

/// The containers: of Docker, of containerd as a CNI runtime, of podman with netavark and with CNI, and netbpf's own.
const ALL: [&str; 5] = ["docked", "default-contained", "podded", "older", "own"];

/// The engines on a lab's host.
struct Engines<'a> {
    lab: &'a Lab,
    docker: Engine<'a>,
    containerd: Containerd<'a>,
    podman: Podman<'a>,
    older: Podman<'a>,
}

impl Engines<'_> {
    fn exec(&self, container: &str, command: &str) -> Output {
        match container {
            "docked" => self.docker.exec(container, command),
            "default-contained" => self.containerd.exec("contained", command),
            "podded" => self.podman.exec(container, command),
            "older" => self.older.exec(container, command),
            _ => self.lab.exec(container, command),
        }
    }

    /// Asserts that all reach each other by name.
    #[track_caller]
    fn reach_each_other(&self) {
        for from in ALL {
            for to in ALL {
                eventually(&format!("{from} reaches {to}"), || {
                    self.exec(from, &format!("ping -c1 -W2 {to}")).status.success().then_some(())
                });
            }
        }
    }
}

/// Asserts that `explain` finds the way between all of them.
#[track_caller]
fn are_explained(lab: &Lab) {
    for from in ALL {
        for to in ALL {
            let said = lab.netbpf(["explain", from, to, "--format", "{{.Code}} {{.Summary}}"]);
            assert!(said.status.success(), "{from} {to}: {said}");
        }
    }
}

/// Pings a container five times per second.
fn pings(lab: &Lab, container: &str) -> Process {
    lab.spawn(["ping", "-i0.2", &lab.address(container, "mynet")])
}

#[test]
fn containers_of_all_engines_reach_each_other_by_name() {
    let lab = Lab::start();
    let docker = Engine::start(&lab);
    docker.docker("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    eventually("netbpf knows its name", || {
        lab.netbpf(["network", "ls"]).ok().text().contains("mynet").then_some(())
    });
    let containerd = Containerd::start(&lab);
    let podman = Podman::enter(&lab, Backend::Netavark);
    podman.podman("network create -d netbpf --subnet 10.8.0.0/24 mynet").ok();
    let older = Podman::enter(&lab, Backend::Cni);
    older.host("netbpf cni enable mynet").ok();
    let mut engines = Engines { lab: &lab, docker, containerd, podman, older };
    // A name server that does not exist: the programs answer on the way.
    engines.docker.run("docked", "--network mynet --dns 192.0.2.53");
    engines.containerd.run("contained");
    engines.podman.run("podded", "--network mynet");
    engines.older.run("older", "--network mynet");
    lab.run("own", "--net mynet");
    engines.reach_each_other();
    are_explained(&lab);
    let shown = lab.netbpf(["ps", "--format", "{{.Names}} {{.Image}}"]).ok();
    for container in ["docked docker", "default-contained cni", "podded podman", "older cni", "own"] {
        assert!(shown.text().contains(container), "{container}: {shown}");
    }

    // A name is one container's, whoever starts it; so is an address.
    let taken = engines.podman.podman("run --name own --network mynet --rootfs /image true");
    assert!(taken.stderr.contains(r#""/own" is already in use"#), "{taken}");
    engines.podman.podman("rm -f own").ok();
    let address = lab.address("default-contained", "mynet");
    let option = format!("run --rm --name late --network mynet:ip={address} --rootfs /image true");
    let taken = engines.podman.podman(&option);
    assert!(taken.stderr.contains("Address already in use"), "{taken}");

    let traffic = ALL.map(|container| pings(&lab, container));
    engines.containerd.kill();
    engines.containerd.start_again();
    lab.restart_daemon();
    lab.kill_daemon();
    lab.start_daemon();
    engines.reach_each_other();
    for pings in traffic {
        let said = pings.interrupt();
        assert!(said.stdout.contains(" 0% packet loss"), "{said}");
    }
    // Without live-restore, Docker's containers end with it; the others do not notice.
    let traffic = ALL[1..].iter().map(|container| pings(&lab, container)).collect::<Vec<_>>();
    engines.docker.stop();
    engines.docker.start_again();
    engines.docker.docker("start docked").ok();
    engines.reach_each_other();
    for pings in traffic {
        let said = pings.interrupt();
        assert!(said.stdout.contains(" 0% packet loss"), "{said}");
    }

    // Each engine removes its own.
    lab.netbpf(["rm", "docked"]).fails_with(1, "docker");
    lab.netbpf(["rm", "podded"]).fails_with(1, "podman");
    for (container, engine) in [
        ("docked", "is Docker's: use docker rm"),
        ("default-contained", "is a CNI runtime's"),
        ("podded", "is podman's: use podman rm"),
        ("older", "is a CNI runtime's"),
    ] {
        lab.netbpf(["rm", "-f", container]).fails_with(1, engine);
    }
    lab.netbpf(["disconnect", "-f", "mynet", "podded"]).fails_with(1, "is podman's");
    engines.reach_each_other();
    engines.containerd.remove("contained");
    eventually("it is gone", || (lab.containers() == ["docked", "older", "own", "podded"]).then_some(()));
    engines.podman.podman("rm -f -t 0 podded").ok();
    engines.older.podman("rm -f -t 0 older").ok();
    engines.docker.docker("rm -f docked").ok();
    eventually("they are gone", || (lab.containers() == ["own"]).then_some(()));
    lab.netbpf(["rm", "-f", "own"]).ok();
    engines.podman.podman("network rm mynet").ok();
    lab.netbpf(["cni", "disable", "mynet"]).ok();
    engines.docker.docker("network rm mynet").ok();
    let Engines { docker, containerd, podman, older, .. } = engines;
    older.leave();
    podman.leave();
    containerd.end();
    drop(docker);
}
