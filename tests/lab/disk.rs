//! A state directory without free space: a change that cannot be stored is not made.

use netbpf_tests::lab::{Lab, STATE_DIR};

use crate::world::World;

/// Repeats a command until it fails, because the store has some free pages at first. The failed command must change
/// nothing.
#[track_caller]
fn until_refused(lab: &Lab, code: i32, command: impl Fn(usize) -> Vec<String>) {
    for number in 0..100 {
        let world = World::of(lab);
        let words = command(number);
        let output = lab.netbpf(&words);
        if output.status.success() {
            continue;
        }
        let output = output.fails_with(code, "Error response from daemon: ");
        assert_eq!(output.stdout, "", "{output}");
        let line = output.stderr.lines().next().unwrap_or_default();
        assert!(
            line.contains(STATE_DIR) && line.ends_with("No space left on device (os error 28)"),
            "{output}"
        );
        return match words[0].as_str() {
            "run" => world.assert_kernel_unchanged(lab, &words.join(" ")),
            _ => world.assert_unchanged(lab, &words.join(" ")),
        };
    }
    panic!("a disk without space still takes records");
}

#[test]
fn commands_fail_on_a_full_disk_and_change_nothing() {
    let lab = Lab::without_daemon();
    lab.host(["sh", "-ec", "mkdir /run/state; mount -t tmpfs -o size=4m,mode=755 tmpfs /run/state"]).ok();
    lab.start_daemon();
    lab.netbpf(["network", "create", "--subnet", "10.0.0.0/24", "mynet"]).ok();
    lab.netbpf(["run", "-d", "--name", "one", "--", "sleep", "infinity"]).ok();
    lab.host(["sh", "-c", &format!("dd if=/dev/zero of={STATE_DIR}/ballast bs=1k")])
        .fails_with(1, "No space left on device");

    until_refused(&lab, 1, |number| {
        ["network", "create", &format!("net{number}")].map(str::to_owned).to_vec()
    });
    until_refused(&lab, 125, |number| {
        ["run", "-d", "--name", &format!("run{number}"), "--", "sleep", "infinity"]
            .map(str::to_owned)
            .to_vec()
    });
    until_refused(&lab, 1, |number| {
        let verb = if number % 2 == 0 { "connect" } else { "disconnect" };
        [verb, "mynet", "one"].map(str::to_owned).to_vec()
    });
    // A container can be stopped even if that cannot be stored.
    lab.netbpf(["stop", "-t", "0", "one"]).ok();
    assert_eq!(lab.netbpf(["ps", "--filter", "name=one", "-q"]).ok().stdout, "");

    lab.host(["rm", &format!("{STATE_DIR}/ballast")]).ok();
    lab.netbpf(["network", "create", "later"]).ok();
    lab.netbpf(["run", "-d", "--name", "two", "--net", "mynet", "--", "sleep", "infinity"]).ok();
    lab.netbpf(["start", "one"]).ok();
    lab.netbpf(["exec", "two", "ping", "-c1", "-W2", "10.0.0.1"]).ok();
    lab.kill_daemon();
    lab.start_daemon();
    let left = lab.netbpf(["network", "ls", "--format", "{{.Name}}"]).ok();
    assert!(left.stdout.contains("later\n"), "{left}");
    lab.netbpf(["exec", "two", "ping", "-c1", "-W2", "10.0.0.1"]).ok();

    let containers = lab.netbpf(["ps", "-aq"]).ok().stdout;
    lab.netbpf(["rm", "-f"].into_iter().chain(containers.split_whitespace())).ok();
    lab.netbpf(["network", "prune", "-f"]).ok();
    lab.stop_daemon();
    lab.host(["umount", STATE_DIR]).ok();
    // Files of mount(8).
    lab.host(["rm", "-rf", "/run/mount"]).ok();
}
