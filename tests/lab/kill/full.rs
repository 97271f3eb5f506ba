//! A state directory without free space: a command that cannot be stored fails without effect, and succeeds
//! once there is space.

use netbpf_tests::lab::{Lab, STATE_DIR};

use super::{Case, ask, clear_up, docker::post, faulty_lab, give, type_line};
use crate::shape::Shape;

const DAEMON: &str = "/run/netbpf/netbpf.sock";
const BALLAST: &str = "/run/state/ballast";

impl Case {
    #[track_caller]
    pub fn survives_a_full_disk(&self) {
        let lab = faulty_lab();
        lab.host(["sh", "-ec", "mkdir /run/state; mount -t tmpfs -o size=4m,mode=755 tmpfs /run/state"]).ok();
        self.furnish(&lab);
        let outcomes = self.outcomes(&lab);
        fill(&lab);
        let full = Shape::of(&lab);
        let answer = ask(&lab, self.command);
        let now = Shape::of(&lab);
        let changes = |now: &Shape| now.since(&full);
        let is_half_done = self.may_stop_between
            && [&outcomes.before, &outcomes.after].iter().any(|shape| {
                let expected = shape.without_stopped().since(&outcomes.before.without_stopped());
                now.without_stopped().since(&full.without_stopped()) == expected
            });
        match answer {
            Ok(()) => assert_eq!(changes(&now), outcomes.after.since(&outcomes.before), "{}", self.command),
            Err(error) => {
                let line = error.lines().next().unwrap_or_default();
                assert!(
                    line.contains(STATE_DIR) && line.ends_with("No space left on device (os error 28)"),
                    "{}: {error}",
                    self.command
                );
                let is_first_half = outcomes
                    .between
                    .as_ref()
                    .is_some_and(|between| changes(&now) == between.since(&outcomes.before));
                assert!(
                    now == full || is_half_done || is_first_half,
                    "{}: {error}\n{}",
                    self.command,
                    changes(&now)
                );
            }
        }
        lab.host(["rm", BALLAST]).ok();
        if now != full {
            self.back.iter().for_each(|line| type_line(&lab, line));
        }
        let again = Shape::of(&lab);
        assert!(again == full, "{}, taken back\n{}", self.command, changes(&again));
        type_line(&lab, self.command);
        assert_eq!(changes(&Shape::of(&lab)), outcomes.after.since(&outcomes.before), "{}", self.command);
        give(&lab, "");
        clear_up(&lab);
        leave(&lab);
    }
}

/// Leaves no free space: neither on the disk, nor in the store, whose free pages the largest records use
/// first.
#[track_caller]
fn fill(lab: &Lab) {
    lab.host(["dd", "if=/dev/zero", &format!("of={BALLAST}"), "bs=1k"])
        .fails_with(1, "No space left on device");
    for size in [100_000, 10_000, 1_000, 10] {
        let text = "x".repeat(size);
        let filler = format!(r#"{{"Cmd":["true"],"Env":["TEXT={text}"],"NetworkMode":"none"}}"#);
        let is_full = (0..1000).any(|_| post(lab, DAEMON, "/containers/create", &filler).is_err());
        assert!(is_full, "a disk without space still takes records of {size} bytes");
    }
}

/// Empties the disk and unmounts it.
#[track_caller]
fn leave(lab: &Lab) {
    let containers = lab.netbpf(["ps", "-aq"]).ok().stdout;
    if !containers.is_empty() {
        lab.netbpf(["rm", "-f"].into_iter().chain(containers.split_whitespace())).ok();
    }
    lab.netbpf(["network", "prune", "-f"]).ok();
    lab.stop_daemon();
    lab.host(["umount", STATE_DIR]).ok();
    // Files of mount(8).
    lab.host(["rm", "-rf", "/run/mount"]).ok();
}
