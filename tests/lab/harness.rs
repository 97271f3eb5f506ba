//! Tests of the lab itself.

use netbpf_tests::lab::{Lab, meanwhile};
use nix::sys::signal::Signal;

#[test]
fn a_host_has_its_own_network_processes_and_folders() {
    let lab = Lab::without_daemon();
    let links = lab.host(["ip", "-j", "link"]).ok().json();
    assert_eq!((&links[0]["ifname"], &links[1]), (&"lo".into(), &serde_json::Value::Null));
    assert_eq!(lab.host(["sh", "-c", "ls -d /proc/[0-9]*; ls /run"]).ok().text().lines().count(), 4);
    lab.host(["ip", "netns", "add", "blue"]).ok();
    assert!(lab.path("/run/netns/blue").exists());
    assert!(!std::path::Path::new("/run/netns/blue").exists());
    lab.host(["ip", "netns", "del", "blue"]).ok();
}

#[test]
fn orphans_are_reaped_and_background_processes_end_when_dropped() {
    let lab = Lab::without_daemon();
    lab.host(["sh", "-c", "true & exec true"]).ok();
    drop(lab.spawn(["sleep", "infinity"]));
    let sleeper = lab.spawn(["sleep", "infinity"]);
    // Not SIGINT: a shell lets its background processes ignore that, and this test may be one.
    sleeper.signal(Signal::SIGTERM);
    assert_eq!(sleeper.output().status.code(), None);
    lab.host(["sh", "-c", "echo out; echo wrong >&2; exit 7"]).fails_with(7, "wrong");
}

#[test]
#[should_panic(expected = "the test fails")]
fn threads_end_with_a_test_that_fails() {
    let mut rounds = 0;
    meanwhile([|| rounds += 1], || panic!("the test fails"));
}

#[test]
#[should_panic(expected = "is left: link forgotten")]
fn a_leftover_link_is_found() {
    let lab = Lab::without_daemon();
    lab.host(["ip", "link", "add", "forgotten", "type", "bridge"]).ok();
}

#[test]
#[should_panic(expected = "sleep 1000")]
fn a_leftover_process_is_found() {
    let lab = Lab::without_daemon();
    lab.host(["sh", "-c", "sleep 1000 >/dev/null 2>&1 &"]).ok();
}

#[test]
#[should_panic(expected = "is left: mount tmpfs on /mnt")]
fn a_leftover_mount_is_found() {
    let lab = Lab::without_daemon();
    lab.host(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).ok();
}
