//! Other users of the host: what they can read, lock or remove in netbpf's directories.

use std::os::unix::fs::MetadataExt;

use netbpf_tests::lab::{Lab, Output, Process};

use super::pins::{ROOT, folder, pin};

const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

#[test]
fn only_root_can_enter_netbpf_s_bpf_file_system() {
    let lab = Lab::without_daemon();
    lab.host(["umount", "/sys/fs/bpf"]).ok();
    lab.start_daemon();
    lab.netbpf(["run", "-d", "--name", "one", "--", "sleep", "infinity"]).ok();
    let mount = lab.host(["grep", " /sys/fs/bpf ", "/proc/self/mounts"]).ok().stdout;
    for option in ["nosuid", "nodev", "noexec", "mode=700"] {
        assert!(mount.contains(option), "{mount}");
    }
    by_nobody(&lab, &["ls", "/sys/fs/bpf"]).fails_with(2, "Permission denied");
    lab.netbpf(["rm", "-f", "one"]).ok();
    lab.stop_daemon();
    lab.host(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"]).ok();
    // Files of mount(8).
    lab.host(["rm", "-rf", "/run/mount"]).ok();
}

#[test]
fn others_cannot_reach_pins_on_a_world_writable_bpf_file_system() {
    let lab = Lab::start();
    lab.netbpf(["run", "-d", "--name", "one", "--", "sleep", "infinity"]).ok();
    let folders = ["maps", "programs", "links", "uplinks"].map(pin);
    for folder in folders.iter().map(String::as_str).chain([&*folder(), ROOT]) {
        assert_eq!(mode(&lab, folder), 0o700, "{folder}");
    }
    by_nobody(&lab, &["mv", &pin("maps/ENDPOINTS"), &pin("maps/XPORTS")]).fails_with(1, "Permission denied");
}

#[test]
fn a_directory_of_another_user_is_not_used() {
    let lab = Lab::without_daemon();
    by_nobody(&lab, &["mkdir", "-p", &pin("links")]).ok();
    let refused = lab.netbpf(["daemon", "--state-dir", netbpf_tests::lab::STATE_DIR]).fails_with(1, "");
    assert_eq!(
        refused.stderr,
        format!(
            "netbpf: {ROOT} belongs to user 65534, who could change what netbpf keeps there: remove it, or give it to \
             root (chown)\n"
        )
    );
    // A directory below another user's is used, with a warning.
    lab.host(["install", "-d", "-o", "65534", "/run/theirs"]).ok();
    let warned = lab.netbpf(["daemon", "--state-dir", "/run/theirs/state"]).fails_with(1, ROOT);
    assert!(warned.stderr.contains("/run/theirs belongs to user 65534"), "{warned}");
    lab.host(["rm", "-r", ROOT, "/run/theirs"]).ok();
    lab.host(["chmod", "0777", "/run/netbpf"]).ok();
    let refused = lab.netbpf(["daemon", "--state-dir", netbpf_tests::lab::STATE_DIR]).fails_with(1, "");
    assert!(
        refused.stderr.starts_with("netbpf: /run/netbpf may be written by others than root (mode 0777)"),
        "{refused}"
    );
    lab.host(["chmod", "0755", "/run/netbpf"]).ok();
    lab.start_daemon();
}

#[test]
fn a_lock_of_another_user_does_not_prevent_a_daemon_from_starting() {
    let lab = Lab::start();
    lab.netbpf(["run", "-d", "--name", "one", "--", "sleep", "infinity"]).ok();
    lab.stop_daemon();
    // As left by earlier versions, when such a lock could be taken.
    let folders = ["/run/netbpf", ROOT];
    let held: Vec<Process> = folders
        .iter()
        .map(|folder| {
            lab.host(["chmod", "0755", folder]).ok();
            // flock waits, because the check below holds the lock for a moment, too.
            lab.spawn(NOBODY.iter().chain(&["flock", folder, "sleep", "infinity"]))
        })
        .collect();
    for folder in folders {
        netbpf_tests::lab::eventually("both folders are locked", || {
            (lab.host(["flock", "-n", folder, "true"]).status.code() == Some(1)).then_some(())
        });
    }
    lab.start_daemon();
    drop(held);
}

#[test]
fn others_cannot_read_a_container_s_settings() {
    let lab = Lab::start();
    let id = lab.netbpf(["run", "-d", "--name", "one", "-e", "SECRET=hunter2", "--", "sleep", "infinity"]);
    let id = id.ok().text().to_owned();
    let spec = format!("/run/netbpf/containers/{id}/spec.json");
    by_nobody(&lab, &["cat", &spec]).fails_with(1, "Permission denied");
    assert_eq!(mode(&lab, &spec), 0o600);
    assert_eq!(mode(&lab, "/run/netbpf") & 0o007, 0);
    assert_eq!(mode(&lab, netbpf_tests::lab::STATE_DIR), 0o700);
    let open = lab.host(["find", "/run/netbpf", "-perm", "/o=rwx"]).ok().stdout;
    // Files in directories that others cannot enter.
    let files = ["pid", "exit.json", "supervisor.log"];
    let shown = |line: &&str| files.iter().any(|file| line.ends_with(&format!("/{file}")));
    assert_eq!(open.lines().filter(|line| !shown(line)).collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn a_daemon_without_a_umask_creates_nothing_writable_by_others() {
    let lab = Lab::without_daemon();
    lab.start_daemons_by(&["sh", "-c", "umask 000 && exec \"$@\"", "sh"]);
    lab.start_daemon();
    lab.run("one", "");
    let folders = ["/run/netbpf", "/run/docker", netbpf_tests::lab::STATE_DIR];
    let search = ["find"].into_iter().chain(folders).chain(["-perm", "/o=w"]);
    assert_eq!(lab.host(search).ok().stdout, "");
}

#[track_caller]
fn by_nobody(lab: &Lab, command: &[&str]) -> Output {
    lab.host(NOBODY.iter().chain(command))
}

#[track_caller]
fn mode(lab: &Lab, path: &str) -> u32 {
    std::fs::metadata(lab.path(path)).expect(path).mode() & 0o7777
}
