//! The network namespace of a sandbox.

use std::{fs, os::fd::AsRawFd, path::Path, process::Command};

use netbpf::sandbox::Network;

use crate::world::{World, namespace, open};

const SEEN: &str = "readlink /proc/self/ns/net; ls /sys/class/net";

#[tokio::test]
async fn a_new_network_has_lo_up_and_nothing_else() {
    let world = World::new(
        "ls /sys/class/net; cat /sys/class/net/lo/flags; ping -c1 -W2 127.0.0.1 >/dev/null; echo $?",
    );
    let supervisor = world.spawn().await.unwrap();
    assert_ne!(namespace(supervisor.pid(), "net"), namespace("self", "net"));
    assert_eq!(supervisor.netns_path(), Path::new(&format!("/proc/{}/ns/net", supervisor.pid())));
    let interfaces = Command::new("nsenter")
        .arg(format!("--net={}", supervisor.netns_path().display()))
        .args(["ip", "-br", "link"])
        .output()
        .unwrap();
    assert!(interfaces.stdout.starts_with(b"lo"), "reachable before the start");
    supervisor.start().await.unwrap();
    supervisor.wait().await;
    let output = world.output().await;
    assert_eq!(output, "lo\n0x9\n0\n");
}

#[tokio::test]
async fn host_mode_has_the_host_s_network_and_its_own_uts_namespace() {
    let mut world = World::new(&format!("{SEEN}; hostname"));
    world.spec.network = Network::Host;
    let (output, _) = world.run().await;
    assert_eq!(output.lines().next(), Some(namespace("self", "net").as_str()));
    assert!(output.ends_with("box\n"));
}

#[tokio::test]
async fn a_sandbox_can_join_another_network_namespace() {
    let other = World::new("sleep 1000");
    let other_supervisor = other.start().await;
    let mut world = World::new(SEEN);
    world.spec.network = Network::Join(other_supervisor.netns_path());
    let (output, _) = world.run().await;
    assert_eq!(output, format!("{}\nlo\n", namespace(other_supervisor.pid(), "net")));
    other_supervisor.signal(9).await.unwrap();
    other_supervisor.wait().await;

    let mut world = World::new(SEEN);
    world.spec.network = Network::Join(other_supervisor.netns_path());
    let error = world.spawn().await.unwrap_err().to_string();
    assert!(error.starts_with("join network namespace /proc/"), "{error}");
    fs::remove_file(world.socket()).unwrap();
}

#[tokio::test]
async fn a_sandbox_does_not_keep_a_removed_network_namespace_alive() {
    let name = format!("netbpf-test-{}", std::process::id());
    let ip =
        |action: &str| assert!(Command::new("ip").args(["netns", action, &name]).status().unwrap().success());
    ip("add");
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let path = format!("/run/netns/{name}");
    let seen = || world.sh(&format!("grep -c {path} /proc/1/mountinfo")).trim().to_owned();
    assert_eq!(seen(), "1");
    ip("delete");
    assert_eq!(seen(), "0");
    supervisor.signal(9).await.unwrap();
    supervisor.wait().await;
}

#[tokio::test]
async fn the_host_s_bpf_file_systems_are_not_visible() {
    for network in [Network::New, Network::Host] {
        let mut world = World::new("grep -c ' - bpf ' /proc/self/mountinfo; ls \"$BPFFS\"; : >/sys/x");
        let bpffs = world.path("bpf fs");
        fs::create_dir(&bpffs).unwrap();
        let mount =
            |args: &[&str]| assert!(Command::new("mount").args(args).arg(&bpffs).status().unwrap().success());
        mount(&["-t", "bpf", "bpf"]);
        fs::create_dir(bpffs.join("maps")).unwrap();
        world.spec.network = network;
        world.spec.env = vec![format!("BPFFS={}", bpffs.display())];
        let (output, _) = world.run().await;
        assert!(Command::new("umount").arg(&bpffs).status().unwrap().success());
        assert!(output.contains("Read-only file system"), "{output}");
        assert!(output.starts_with("0\n") && !output.contains("maps"), "{output}");
    }
}

#[tokio::test]
async fn users_may_ping_and_bind_low_ports_as_in_docker() {
    let world = World::new("cd /proc/sys/net/ipv4; cat ping_group_range ip_unprivileged_port_start");
    assert_eq!(world.run().await.0, "0\t2147483647\n0\n");
}

#[tokio::test]
async fn no_descriptor_of_the_daemon_or_the_supervisor_reaches_the_command() {
    let held = open(Path::new("/proc/self/ns/net"));
    nix::fcntl::fcntl(&held, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let world = World::new("ls -l /proc/1/fd");
    let supervisor = world.start().await;
    supervisor.wait().await;
    assert!(held.as_raw_fd() > 2);
    let output = world.output().await;
    let descriptors = output.lines().filter(|line| line.contains(" -> ")).count();
    assert_eq!(descriptors, 3, "{output}");
}
