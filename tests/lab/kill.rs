//! The daemon is killed before and after each step of each command, and each step and each call of the kernel
//! fails once. Afterwards the command must have happened completely or not at all.

/// Makes a test of each case for each kind of fault: a module with the kind's name, and the method of [`Case`] that it
/// calls. A name before the kinds is that of a list of the cases.
macro_rules! cases {
    ($all:ident $kinds:tt { $($name:ident: $case:expr;)+ }) => {
        pub(super) const $all: &[Case] = &[$($case),+];
        cases!($kinds { $($name: $case;)+ });
    };
    ([$($kind:ident: $survives:ident;)+] $cases:tt) => {
        $(cases!(@kind $kind, $survives, $cases);)+
    };
    (@kind $kind:ident, $survives:ident, { $($name:ident: $case:expr;)+ }) => {
        mod $kind {
            use super::*;
            $(#[test]
            fn $name() {
                $case.$survives();
            })+
        }
    };
}

mod commands;
mod docker;
mod first;
mod full;
mod processes;
mod walk;

use std::{cell::Cell, fs};

pub use docker::{
    ask_for_a_network as ask_docker_for_a_network, ask_for_an_endpoint as ask_docker_for_an_endpoint,
    remove_all as remove_all_of_docker,
};
use netbpf_tests::lab::{Lab, tell};
pub use walk::{Faults, Random, Walk};

use crate::shape::Shape;

/// The file with the order that the daemon follows at its fault points.
const ORDER: &str = "/run/fault";

/// A command, the commands that must precede it, and the command that undoes it. A line is an argument list
/// of `netbpf`; one that begins with a slash is a request of Docker; `!restart` stops the daemon and starts it.
struct Case {
    before: &'static [&'static str],
    command: &'static str,
    back: &'static [&'static str],
    /// Whether it is two commands: the container may exist without running.
    may_stop_between: bool,
    /// A command after which the host is as it may be half-way, for a command whose first half may happen alone.
    first_half: Option<&'static str>,
    /// Whether there is no other container.
    is_alone: bool,
    /// Whether there is nothing else: no other network and no container.
    is_bare: bool,
}

const RUN: &str =
    "run -d --name web --net mynet --ip 10.1.0.9 --network-alias www -p 8080:80 -- sleep infinity";

/// A container that leaves one of its two networks.
const DISCONNECT: Case = Case::new(
    &[RUN, "network create --subnet 10.2.0.0/24 other", "network connect --ip 10.2.0.9 other web"],
    "network disconnect mynet web",
    &["network connect --ip 10.1.0.9 --alias www mynet web"],
);

/// The allowed states after a fault.
struct Outcomes {
    before: Shape,
    after: Shape,
    /// The state after the first half, if that may happen alone.
    between: Option<Shape>,
}

impl Case {
    const fn new(
        before: &'static [&'static str],
        command: &'static str,
        back: &'static [&'static str],
    ) -> Self {
        Self {
            before,
            command,
            back,
            may_stop_between: false,
            first_half: None,
            is_alone: false,
            is_bare: false,
        }
    }

    const fn of_two(self) -> Self {
        Self { may_stop_between: true, ..self }
    }

    const fn with_first_half(self, command: &'static str) -> Self {
        Self { first_half: Some(command), ..self }
    }

    const fn alone(self) -> Self {
        Self { is_alone: true, ..self }
    }

    const fn bare(self) -> Self {
        Self { is_bare: true, ..self }
    }

    #[track_caller]
    fn lab(&self) -> Lab {
        let lab = faulty_lab();
        self.furnish(&lab);
        lab
    }

    /// Starts the daemon, and creates the preconditions and a container in two networks.
    #[track_caller]
    fn furnish(&self, lab: &Lab) {
        lab.start_daemon();
        if self.is_bare {
            return;
        }
        lab.host(["ip", "netns", "add", "blue"]).ok();
        lab.network("mynet", "--subnet 10.1.0.0/24");
        // From now on the host forwards IPv6.
        lab.network("six", "--ipv6 --subnet 10.6.0.0/24 --subnet fd00:6::/64");
        if !self.is_alone {
            lab.run("neighbour", "--net mynet");
            lab.netbpf(["network", "connect", "six", "neighbour"]).ok();
        }
        self.before.iter().for_each(|line| type_line(lab, line));
    }

    /// Kills the daemon at each point in turn.
    #[track_caller]
    fn survives_kills(&self) {
        let points = self.survives("kill step #", |lab, outcomes, _, hit| self.is_whole(lab, outcomes, hit));
        tell("kills survived", points);
    }

    /// After a kill, the next daemon has done the command or not. Returns the state.
    #[track_caller]
    fn is_whole(&self, lab: &Lab, outcomes: &Outcomes, hit: &str) -> Shape {
        lab.await_daemon_end();
        lab.start_daemon();
        let now = Shape::of(lab);
        self.assert_one_of(&now, outcomes, hit);
        if !self.is_alone && !self.is_bare {
            processes::assert_names(lab, hit);
        }
        now
    }

    /// Lets each step fail in turn.
    #[track_caller]
    fn survives_failures(&self) {
        tell("failed steps survived", self.fails_whole("fail step #"));
    }

    /// Lets each call of the kernel, of nft and of the disk fail in turn.
    #[track_caller]
    fn survives_failed_calls(&self) {
        tell("failed steps survived", self.fails_whole("fail call #"));
    }

    /// A refused command has not happened; one that succeeds despite the fault has.
    #[track_caller]
    fn fails_whole(&self, order: &str) -> u64 {
        self.survives(order, |lab, Outcomes { before, after, between }, answer, hit| {
            let now = Shape::of(lab);
            match answer {
                Ok(()) => self.assert_is(&now, after, hit),
                // What a bare host keeps, it keeps only after a kill.
                Err(_) if !self.is_bare && between.as_ref() == Some(&now) => {}
                Err(error) => {
                    let line = error.lines().next().unwrap_or_default();
                    assert!(
                        line.ends_with("(os error 5)") || line.ends_with("(os error 28)"),
                        "{hit}: {error}"
                    );
                    if !self.is_between(&now, before) && !self.is_between(&now, after) {
                        self.assert_is(&now, before, &format!("{hit}: {error}"));
                    }
                }
            }
            now
        })
    }

    /// Gives the order for each point in turn, and returns the number of points. `check` gets the allowed
    /// states, the answer and the point, and returns the state.
    #[track_caller]
    fn survives(
        &self,
        order: &str,
        check: impl Fn(&Lab, &Outcomes, &Result<(), String>, &str) -> Shape,
    ) -> u64 {
        let lab = self.lab();
        let outcomes = self.outcomes(&lab);
        let tried = Tried::new(order);
        let hits = |point: &u64| {
            let order = order.replace('#', &point.to_string());
            self.is_hit(&lab, &outcomes, &order, |answer, hit| {
                tried.add();
                check(&lab, &outcomes, answer, hit)
            })
        };
        let points = (1..).take_while(hits).count() as u64;
        assert!(points > 0, "{}: no point was hit", self.command);
        clear_up(&lab);
        points
    }

    /// Gives an order, and whether its point was hit. `check` gets the answer and the point, and returns the state.
    #[track_caller]
    fn is_hit(
        &self,
        lab: &Lab,
        outcomes: &Outcomes,
        order: &str,
        check: impl FnOnce(&Result<(), String>, &str) -> Shape,
    ) -> bool {
        give(lab, order);
        let answer = ask(lab, self.command);
        let hit = outcome(lab);
        let now = match &hit {
            Some(hit) => check(&answer, &format!("{order}: {hit}")),
            None => Shape::of(lab),
        };
        self.take_back(lab, now, outcomes, &format!("{order}: {hit:?}"));
        hit.is_some()
    }

    /// The state before the command, and after it.
    #[track_caller]
    fn outcomes(&self, lab: &Lab) -> Outcomes {
        let before = Shape::of(lab);
        type_line(lab, self.command);
        let after = Shape::of(lab);
        let between = self.first_half.map(|first_half| {
            type_line(lab, first_half);
            let between = Shape::of(lab);
            self.back.iter().for_each(|line| type_line(lab, line));
            between
        });
        let changed = between.as_ref().unwrap_or(&after);
        assert!(*changed != before, "{} changes something", self.command);
        let outcomes = Outcomes { before, after, between };
        self.take_back(lab, outcomes.after.clone(), &outcomes, "nothing was hit");
        outcomes
    }

    /// Checks that the command has happened or not.
    #[track_caller]
    fn assert_one_of(&self, now: &Shape, outcomes: &Outcomes, hit: &str) {
        let Outcomes { before, after, .. } = outcomes;
        if !self.is_one_of(now, outcomes) {
            let since = now.since(after);
            self.assert_is(now, before, &format!("{hit}; since it has happened:\n{since}since before it:"));
        }
    }

    fn is_one_of(&self, now: &Shape, Outcomes { before, after, between }: &Outcomes) -> bool {
        between.as_ref() == Some(now)
            || [before, after].iter().any(|shape| now == *shape || self.is_between(now, shape))
    }

    #[track_caller]
    fn assert_is(&self, now: &Shape, expected: &Shape, hit: &str) {
        assert!(now == expected, "{}: {hit}\n{}", self.command, now.since(expected));
    }

    /// Whether one of the two commands has happened and the other has not.
    fn is_between(&self, now: &Shape, shape: &Shape) -> bool {
        self.may_stop_between && now.without_stopped() == shape.without_stopped()
    }

    /// Checks that the command has not happened.
    #[track_caller]
    fn take_back(&self, lab: &Lab, now: Shape, Outcomes { before, .. }: &Outcomes, hit: &str) {
        if now != *before {
            self.back.iter().for_each(|line| type_line(lab, line));
            self.assert_is(&Shape::of(lab), before, &format!("{hit}, taken back"));
        }
    }
}

/// Counts the faults of a test. Tells their number even if the test fails.
struct Tried {
    what: &'static str,
    count: Cell<u64>,
}

impl Tried {
    fn new(order: &str) -> Self {
        let what = if order.starts_with("kill") { "kills tried" } else { "failed steps tried" };
        Self { what, count: Cell::new(0) }
    }

    fn add(&self) {
        self.count.update(|count| count + 1);
    }
}

impl Drop for Tried {
    fn drop(&mut self) {
        tell(self.what, self.count.get());
    }
}

/// A host whose daemons follow orders.
#[track_caller]
fn faulty_lab() -> Lab {
    let lab = Lab::without_daemon();
    obey(&lab);
    lab
}

/// Makes the daemons of a host follow orders.
pub fn obey(lab: &Lab) {
    lab.start_daemons_by(&["env", &format!("NETBPF_FAULT={ORDER}")]);
    give(lab, "");
}

/// What the cases need on a host.
#[track_caller]
pub fn furnish(lab: &Lab) {
    Case::new(&[], "", &[]).furnish(lab);
}

/// Kills the daemon at a random point of a random command or request of Docker, on a host that is furnished. Leaves
/// what the case needs. Returns whether the command has so many points.
#[track_caller]
pub fn kill_somewhere(lab: &Lab, random: &mut Random) -> bool {
    let is_of_docker = random.below(2) == 0;
    let cases = if is_of_docker { docker::CASES } else { commands::CASES };
    let case = &cases[random.below(cases.len())];
    case.before.iter().for_each(|line| type_line(lab, line));
    let outcomes = case.outcomes(lab);
    let order = format!("kill step {}", 1 + random.below(20));
    case.is_hit(lab, &outcomes, &order, |_, hit| match is_of_docker {
        true => case.is_repeated(lab, &outcomes, hit),
        false => case.is_whole(lab, &outcomes, hit),
    })
}

/// Removes what [`furnish`] and the cases leave that no command of netbpf removes.
#[track_caller]
pub fn clear_up(lab: &Lab) {
    fs::remove_file(lab.path(ORDER)).expect("the order");
    docker::remove_all(lab);
    if lab.path("/run/netns/blue").exists() {
        lab.host(["ip", "netns", "del", "blue"]).ok();
    }
}

/// Runs a line; one that begins with a question mark may fail.
#[track_caller]
fn type_line(lab: &Lab, line: &str) {
    if line == "!restart" {
        return lab.restart_daemon();
    }
    match line.strip_prefix('?') {
        Some(line) => drop(ask(lab, line)),
        None => ask(lab, line).unwrap_or_else(|error| panic!("{line}: {error}")),
    }
}

/// Runs a line or sends a request, of Docker or to the API. An error contains the text of the answer.
#[track_caller]
fn ask(lab: &Lab, line: &str) -> Result<(), String> {
    if line.starts_with("/attachments/") {
        let (path, message) = line.split_once(' ').expect("a path and a message");
        let answer = docker::post(lab, "/run/netbpf/netbpf.sock", path, message);
        return answer.map(drop).map_err(|answer| message_of(&answer).unwrap_or(answer));
    }
    if line.starts_with('/') {
        return docker::ask(lab, line);
    }
    let output = lab.netbpf(line.split_whitespace());
    if output.status.success() { Ok(()) } else { Err(output.stderr) }
}

/// The text of a refusal by the API.
fn message_of(answer: &str) -> Option<String> {
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(body["message"].as_str()?.to_owned())
}

fn give(lab: &Lab, order: &str) {
    fs::write(lab.path(ORDER), order).expect("an order");
}

/// The point that was hit; none if the command had no such point.
fn outcome(lab: &Lab) -> Option<String> {
    let path = lab.path(ORDER);
    let order = fs::read_to_string(&path).expect("the order");
    fs::write(&path, "").expect("no order");
    (order.starts_with("killed") || order.starts_with("failed")).then_some(order)
}
