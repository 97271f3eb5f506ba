//! The name responder or a container's supervisor is killed at each step of a command, while the daemon runs.
//! Afterwards names resolve again, and a container runs or not, as the daemon reports.

use std::time::{Duration, Instant};

use netbpf_tests::lab::{Lab, eventually, tell};

use super::{Case, DISCONNECT, Outcomes, RUN};
use crate::shape::Shape;

/// How long the daemon may take to notice the end and to clean up.
const SETTLING: Duration = Duration::from_secs(10);

impl Case {
    /// Kills the responder at each point in turn.
    #[track_caller]
    fn survives_without_responder(&self) {
        let points = self.survives("kill step # responder", |lab, outcomes, _, hit| {
            // Looking for a process is cheaper than reading the whole state again and again.
            eventually("another responder", || (!lab.processes("netbpf responder").is_empty()).then_some(()));
            let now = self.settled(lab, outcomes, hit);
            assert_names(lab, hit);
            now
        });
        tell("kills survived", points);
    }

    /// Kills the container's supervisor at each point in turn.
    #[track_caller]
    fn survives_without_supervisor(self) {
        let case = self.alone();
        let points =
            case.survives("kill step # supervise", |lab, outcomes, _, hit| case.settled(lab, outcomes, hit));
        tell("kills survived", points);
    }

    /// The state once the daemon has cleaned up after a process that it did not end itself.
    #[track_caller]
    fn settled(&self, lab: &Lab, outcomes: &Outcomes, hit: &str) -> Shape {
        let give_up = Instant::now() + SETTLING;
        loop {
            let now = Shape::of(lab);
            if self.is_one_of(&now, outcomes) || Instant::now() > give_up {
                self.assert_one_of(&now, outcomes, hit);
                return now;
            }
        }
    }
}

/// Checks that the responder resolves the members of `mynet`, and no other container.
#[track_caller]
pub fn assert_names(lab: &Lab, hit: &str) {
    let network = lab.ask("/networks/mynet");
    let members = network["Containers"].as_object().into_iter().flat_map(|members| members.values());
    let members: Vec<_> = members.filter_map(|member| member["Name"].as_str()).collect();
    assert!(members.contains(&"neighbour"), "{hit}: {network}");
    let names = ["neighbour", "web", "shop"];
    let script = format!(
        "for name in {}; do getent hosts $name.mynet >/dev/null && echo $name; done; true",
        names.join(" ")
    );
    let answered = lab.exec_script("neighbour", &script).ok();
    let expected: Vec<_> = names.into_iter().filter(|name| members.contains(name)).collect();
    assert_eq!(answered.stdout.lines().collect::<Vec<_>>(), expected, "{hit}: {members:?}: {answered}");
}

cases! {
    [
        responder: survives_without_responder;
    ]
    {
        connect: Case::new(
            &["network create --subnet 10.2.0.0/24 other", "run -d --name web --net other -- sleep infinity"],
            "network connect --ip 10.1.0.9 --alias www mynet web",
            &["network disconnect mynet web"],
        );
        disconnect: DISCONNECT;
        run: Case::new(&[], RUN, &["rm -f web"]).of_two();
        rm: Case::new(&[RUN], "rm -f web", &["?rm -f web", RUN]).of_two();
        rename: Case::new(&[RUN], "rename web shop", &["rename shop web"]);
    }
}

cases! {
    [
        supervisor: survives_without_supervisor;
    ]
    {
        run: Case::new(&[], RUN, &["rm -f web"]).of_two();
        start: Case::new(&[RUN, "stop -t 0 web"], "start web", &["stop -t 0 web"]);
        restart: Case::new(&[RUN], "restart -t 0 web", &["?start web"]).with_first_half("stop -t 0 web");
    }
}

/// The end of the supervisor is the end of the container, which `stop` with a long timeout waits for.
#[test]
fn a_supervisor_that_is_killed_while_its_container_is_stopped() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("web", "--net mynet -p 8080:80");
    lab.netbpf(["stop", "-t", "0", "web"]).ok();
    let stopped = Shape::of(&lab);
    lab.netbpf(["start", "web"]).ok();
    // Process 1 ignores SIGTERM.
    let stop = lab.spawn_netbpf(["stop", "-t", "1000", "web"]);
    let [supervisor] = lab.processes("netbpf supervise")[..] else { panic!("one supervisor") };
    lab.host(["kill", "-9", &supervisor.to_string()]).ok();
    stop.output().ok();
    let now = Shape::of(&lab);
    assert!(now == stopped, "{}", now.since(&stopped));
}

#[test]
fn a_supervisor_that_is_killed_takes_the_commands_inside_along() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("web", "--net mynet");
    lab.netbpf(["stop", "-t", "0", "web"]).ok();
    let stopped = Shape::of(&lab);
    lab.netbpf(["start", "web"]).ok();
    let inside = lab.spawn_netbpf(["exec", "web", "sleep", "1000"]);
    eventually("a command inside", || (!lab.processes("sleep 1000").is_empty()).then_some(()));
    let [supervisor] = lab.processes("netbpf supervise")[..] else { panic!("one supervisor") };
    lab.host(["kill", "-9", &supervisor.to_string()]).ok();
    let inside = inside.output();
    assert!(!inside.status.success(), "{inside}");
    eventually("a container that has ended", || (Shape::of(&lab) == stopped).then_some(()));
    assert_eq!(lab.inspect("web")["State"]["ExitCode"], 137);
    lab.netbpf(["start", "web"]).ok();
    lab.host(["ping", "-c1", "-W2", &lab.address("web", "mynet")]).ok();
}
