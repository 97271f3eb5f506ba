//! The daemon is killed before and after each step of each command, and each step fails once. Afterwards the command has
//! happened or it has not, and nothing else is there.

use std::fs;

use netbpf_tests::lab::{Lab, tell};

use crate::world::Shape;

/// The file where the daemon reads at which step it is killed.
const ORDER: &str = "/run/fault";

/// A command, what has to be there before, and what takes the command back.
struct Case {
    before: &'static [&'static str],
    command: &'static str,
    back: &'static [&'static str],
    /// Whether it is two commands: the container may be there and not run.
    may_stop_between: bool,
}

const RUN: &str =
    "run -d --name web --net mynet --ip 10.1.0.9 --network-alias www -p 8080:80 -- sleep infinity";
const CREATE: &str = "network create --subnet 10.5.0.0/24 --ipv6 --subnet fd00:5::/64 -o com.docker.network.bridge.enable_icc=false fresh";

impl Case {
    const fn new(
        before: &'static [&'static str],
        command: &'static str,
        back: &'static [&'static str],
    ) -> Self {
        Self { before, command, back, may_stop_between: false }
    }

    const fn of_two(self) -> Self {
        Self { may_stop_between: true, ..self }
    }

    /// A host where all that has to be there is.
    #[track_caller]
    fn lab(&self) -> Lab {
        let lab = Lab::without_daemon();
        let order = format!("NETBPF_FAULT={ORDER}");
        lab.start_daemons_by(&["env", &order]);
        lab.start_daemon();
        lab.host(["ip", "netns", "add", "blue"]).ok();
        lab.network("mynet", "--subnet 10.1.0.0/24");
        // The host forwards IPv6 from here on.
        lab.network("six", "--ipv6 --subnet 10.6.0.0/24 --subnet fd00:6::/64");
        lab.run("neighbour", "--net mynet");
        lab.netbpf(["network", "connect", "six", "neighbour"]).ok();
        self.before.iter().for_each(|line| type_line(&lab, line));
        lab
    }

    /// Kills the daemon at each point in turn.
    #[track_caller]
    fn survives_kills(&self) {
        let points = self.survives("kill", |lab| {
            lab.await_daemon_end();
            lab.start_daemon();
        });
        tell("kills survived", points.into());
    }

    /// Has each step fail in turn.
    #[track_caller]
    fn survives_failures(&self) {
        let points = self.survives("fail", |_| {});
        tell("failed steps survived", points.into());
    }

    /// Gives the order at each point in turn, and says how many points there are. `recover` is done after each hit.
    #[track_caller]
    fn survives(&self, what: &str, recover: impl Fn(&Lab)) -> u32 {
        let lab = self.lab();
        let (before, after) = self.both_shapes(&lab);
        let mut point = 0;
        while let Some(hit) = {
            point += 1;
            order(&lab, what, point);
            let _ = lab.netbpf(self.command.split_whitespace());
            outcome(&lab)
        } {
            recover(&lab);
            self.assert_one_of(&lab, &before, &after, &hit);
        }
        assert!(point > 2, "{}: no point was hit", self.command);
        self.clear_up(&lab);
        point - 1
    }

    /// The state before the command, and after it.
    #[track_caller]
    fn both_shapes(&self, lab: &Lab) -> (Shape, Shape) {
        let before = Shape::of(lab);
        type_line(lab, self.command);
        let after = Shape::of(lab);
        assert!(after != before, "{} changes something", self.command);
        self.back.iter().for_each(|line| type_line(lab, line));
        let again = Shape::of(lab);
        assert!(
            again == before,
            "{} is taken back by {:?}:\n{}",
            self.command,
            self.back,
            again.since(&before)
        );
        (before, after)
    }

    /// The command has happened or it has not; afterwards it has not.
    #[track_caller]
    fn assert_one_of(&self, lab: &Lab, before: &Shape, after: &Shape, hit: &str) {
        let now = Shape::of(lab);
        let is_between = self.may_stop_between
            && [before, after].iter().any(|shape| now.without_stopped() == shape.without_stopped());
        assert!(
            now == *before || now == *after || is_between,
            "{}: {hit}\nsince before it:\n{}since it is done:\n{}",
            self.command,
            now.since(before),
            now.since(after)
        );
        if now != *before {
            self.back.iter().for_each(|line| type_line(lab, line));
            let again = Shape::of(lab);
            assert!(again == *before, "{}: {hit}, taken back:\n{}", self.command, again.since(before));
        }
    }

    fn clear_up(&self, lab: &Lab) {
        fs::remove_file(lab.path(ORDER)).expect("the order");
        lab.host(["ip", "netns", "del", "blue"]).ok();
    }
}

/// A line that begins with a question mark may fail.
#[track_caller]
fn type_line(lab: &Lab, line: &str) {
    match line.strip_prefix('?') {
        Some(line) => drop(lab.netbpf(line.split_whitespace())),
        None => drop(lab.netbpf(line.split_whitespace()).ok()),
    }
}

fn order(lab: &Lab, what: &str, point: u32) {
    fs::write(lab.path(ORDER), format!("{what} {point}")).expect("an order");
}

/// The point that was hit; none if the command had no such point.
fn outcome(lab: &Lab) -> Option<String> {
    let path = lab.path(ORDER);
    let order = fs::read_to_string(&path).expect("the order");
    fs::write(&path, "").expect("no order");
    (order.starts_with("killed") || order.starts_with("failed")).then_some(order)
}

macro_rules! cases {
    ($($name:ident: $case:expr;)+) => {
        mod killed {
            use super::*;
            $(#[test]
            fn $name() {
                $case.survives_kills();
            })+
        }
        mod failing {
            use super::*;
            $(#[test]
            fn $name() {
                $case.survives_failures();
            })+
        }
    };
}

cases! {
    network_create: Case::new(&[], CREATE, &["network rm fresh"]);
    network_rm: Case::new(&[CREATE], "network rm fresh", &[CREATE]);
    network_prune: Case::new(&[CREATE], "network prune -f", &[CREATE]);
    connect: Case::new(
        &["network create --subnet 10.2.0.0/24 other", "run -d --name web --net other -p 8080:80 -- sleep infinity"],
        "network connect --ip 10.1.0.9 --alias www mynet web",
        &["network disconnect mynet web"],
    );
    disconnect: Case::new(
        &[RUN, "network create --subnet 10.2.0.0/24 other", "network connect --ip 10.2.0.9 other web"],
        "network disconnect mynet web",
        &["network connect --ip 10.1.0.9 --alias www mynet web"],
    );
    connect_namespace: Case::new(&[], "network connect mynet netns:blue", &["network disconnect mynet netns:blue"]);
    disconnect_namespace: Case::new(
        &["network connect mynet netns:blue"],
        "network disconnect mynet netns:blue",
        &["network connect mynet netns:blue"],
    );
    run: Case::new(&[], RUN, &["rm -f web"]).of_two();
    rm: Case::new(&[RUN], "rm -f web", &["?rm -f web", RUN]).of_two();
    start: Case::new(&[RUN, "stop -t 0 web"], "start web", &["stop -t 0 web"]);
    stop: Case::new(&[RUN], "stop -t 0 web", &["start web"]);
    rename: Case::new(&[RUN], "rename web shop", &["rename shop web"]);
}

/// A daemon that is killed while it brings networks and containers back does so at its next start.
#[test]
fn start_of_the_daemon() {
    let case = Case::new(&[RUN, CREATE], "", &[]);
    let lab = case.lab();
    let before = Shape::of(&lab);
    let mut point = 0;
    loop {
        lab.kill_daemon();
        point += 1;
        order(&lab, "kill", point);
        let started = lab.try_start_daemon();
        let hit = outcome(&lab);
        if started.is_err() {
            lab.start_daemon();
        }
        let now = Shape::of(&lab);
        assert!(now == before, "start: {hit:?}\n{}", now.since(&before));
        if hit.is_none() {
            break;
        }
    }
    tell("kills survived", (point - 1).into());
    case.clear_up(&lab);
}
