//! `/etc/hosts` and `/etc/resolv.conf` of a container, which both its user and netbpf write to.

use std::fs;

use netbpf_tests::lab::Lab;

fn hosts(lab: &Lab, container: &str) -> String {
    lab.exec_script(container, "cat /etc/hosts").ok().stdout
}

/// The peak memory use of the daemon in KiB.
fn most_memory(lab: &Lab) -> u64 {
    let daemon = lab.processes("netbpf daemon");
    let status = fs::read_to_string(lab.path(format!("/proc/{}/status", daemon[0]))).expect("a daemon");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its memory");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn connect_and_disconnect_keep_the_user_s_lines() {
    let lab = Lab::start();
    for network in ["n1", "n2"] {
        lab.netbpf(["network", "create", network]).ok();
    }
    lab.run("ca", "--net n1 --hostname ca");
    let first = lab.address("ca", "n1");
    lab.exec_script("ca", "echo '10.9.8.7 licence.example' >> /etc/hosts").ok();
    let edited = hosts(&lab, "ca");
    assert!(edited.ends_with(&format!("{first}\tca\n10.9.8.7 licence.example\n")), "{edited}");
    lab.netbpf(["connect", "n2", "ca"]).ok();
    assert_eq!(hosts(&lab, "ca"), format!("{edited}{}\tca\n", lab.address("ca", "n2")));
    lab.netbpf(["disconnect", "n2", "ca"]).ok();
    assert_eq!(hosts(&lab, "ca"), edited);

    // As in Docker, lines of netbpf that the user changed or removed are not restored.
    lab.exec_script("ca", "echo '127.0.0.1 localhost all.of.it' > /etc/hosts").ok();
    lab.netbpf(["connect", "n2", "ca"]).ok();
    let second = format!("{}\tca\n", lab.address("ca", "n2"));
    assert_eq!(hosts(&lab, "ca"), format!("127.0.0.1 localhost all.of.it\n{second}"));
    lab.netbpf(["disconnect", "n1", "ca"]).ok();
    assert_eq!(hosts(&lab, "ca"), format!("127.0.0.1 localhost all.of.it\n{second}"));

    // The next daemon can tell its own lines from the user's.
    lab.kill_daemon();
    lab.start_daemon();
    lab.netbpf(["disconnect", "n2", "ca"]).ok();
    assert_eq!(hosts(&lab, "ca"), "127.0.0.1 localhost all.of.it\n");

    // A start of the container makes a new file.
    lab.netbpf(["connect", "n1", "ca"]).ok();
    lab.netbpf(["restart", "-t", "0", "ca"]).ok();
    let anew = hosts(&lab, "ca");
    assert!(anew.starts_with("127.0.0.1\tlocalhost\n") && !anew.contains("all.of.it"), "{anew}");
}

#[test]
fn a_restart_of_a_link_s_target_keeps_the_user_s_lines() {
    let lab = Lab::start();
    lab.run("target", "");
    lab.run("linked", "--link target");
    lab.exec_script("linked", "echo '10.9.8.7 mine' >> /etc/hosts").ok();
    lab.netbpf(["restart", "-t", "0", "target"]).ok();
    let after = hosts(&lab, "linked");
    assert!(after.contains("10.9.8.7 mine\n"), "{after}");
    let lines: Vec<_> = after.lines().filter(|line| line.contains("\ttarget ")).collect();
    assert_eq!(lines.len(), 1, "{after}");
    assert!(lines[0].starts_with(&lab.address("target", "bridge")), "{after}");
}

#[test]
fn a_huge_file_costs_the_daemon_no_memory() {
    let lab = Lab::start();
    for network in ["n1", "n2"] {
        lab.netbpf(["network", "create", network]).ok();
    }
    lab.run("big", "--net n1");
    // A sparse file of 1 GiB.
    for file in ["hosts", "resolv.conf", "hostname"] {
        lab.exec_script("big", &format!("dd if=/dev/null of=/etc/{file} bs=1048576 seek=1024")).ok();
    }
    lab.netbpf(["connect", "n2", "big"]).ok();
    lab.netbpf(["disconnect", "n1", "big"]).ok();
    let size = lab.exec_script("big", "stat -c %s /etc/hosts /etc/resolv.conf").ok();
    assert_eq!(size.text(), "1073741824\n1073741824", "netbpf leaves a file that is too large to the user");
    lab.netbpf(["restart", "-t", "0", "big"]).ok();
    assert_eq!(lab.exec_script("big", "stat -c %s /etc/resolv.conf").ok().text(), "1073741824");
    let anew = hosts(&lab, "big");
    assert!(anew.starts_with("127.0.0.1\tlocalhost\n"), "{anew}");
    let most = most_memory(&lab);
    assert!(most < 256 * 1024, "the daemon had {most} KiB");
}
