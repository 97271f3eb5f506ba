//! A sandbox with its own root file system.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use crate::world::World;

#[tokio::test]
async fn a_bare_rootfs_gets_all_that_a_container_needs() {
    let world = World::with_rootfs(
        "cat /etc/hosts /etc/hostname; ls /; ls /dev; echo x >/dev/null; ls /sys/class/net",
    );
    let (output, exit) = world.run().await;
    assert_eq!(exit.code, 0, "{output}");
    let words: Vec<_> = output.split_ascii_whitespace().collect();
    let expected = "127.0.0.1 localhost 10.9.8.7 box box bin dev etc proc sys \
        fd full null ptmx pts random shm stderr stdin stdout tty urandom zero lo";
    assert_eq!(words.join(" "), expected);
    let rootfs = world.spec.rootfs.as_ref().unwrap();
    assert_eq!(fs::read(rootfs.join("etc/hosts")).unwrap(), b"", "only a place to mount on");
    assert_eq!(fs::read_dir(rootfs.join("dev")).unwrap().count(), 0);
}

#[tokio::test]
async fn nothing_of_the_host_is_mounted_in_it() {
    let world = World::with_rootfs("cat /proc/self/mountinfo");
    let (output, _) = world.run().await;
    let mut points: Vec<_> = output.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
    points.retain(|point| !point.starts_with("/proc/") && *point != "/sys/firmware");
    points.sort_unstable();
    let expected = [
        "/",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/proc",
        "/sys",
    ];
    assert_eq!(points, expected);
}

#[tokio::test]
async fn a_symlink_in_a_rootfs_does_not_lead_out() {
    let world = World::with_rootfs("cat /etc/resolv.conf; sleep 1000");
    let rootfs = world.spec.rootfs.clone().unwrap();
    fs::create_dir(rootfs.join("etc")).unwrap();
    let outside = world.path("outside");
    fs::write(&outside, "the host's").unwrap();
    symlink(&outside, rootfs.join("etc/resolv.conf")).unwrap();
    symlink("../../../../../../../../tmp/../escaped/dir", rootfs.join("etc/hosts")).unwrap();
    let supervisor = world.start().await;
    assert_eq!(world.sh("cat /etc/resolv.conf"), "nameserver 127.0.0.11\n");
    supervisor.signal(9).await.unwrap();
    supervisor.wait().await;
    assert_eq!(fs::read_to_string(&outside).unwrap(), "the host's");
    assert!(!Path::new("/escaped").exists());
    assert!(rootfs.join("escaped/dir").exists());
}

#[tokio::test]
async fn a_fifo_in_place_of_a_file_does_not_block() {
    let world = World::with_rootfs("cat /etc/hosts");
    let etc = world.spec.rootfs.clone().unwrap().join("etc");
    fs::create_dir(&etc).unwrap();
    nix::unistd::mkfifo(&etc.join("hosts"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let run = tokio::time::timeout(Duration::from_secs(20), world.run());
    assert_eq!(run.await.expect("it starts").0, "127.0.0.1\tlocalhost\n10.9.8.7\tbox\n");
}

#[tokio::test]
async fn it_cannot_create_devices_and_has_its_own_ipc_namespace() {
    let world = World::with_rootfs("busybox mknod /kvm c 10 232; busybox readlink /proc/self/ns/ipc");
    let (output, _) = world.run().await;
    assert!(output.contains("mknod: /kvm: Operation not permitted"), "{output}");
    assert!(!output.contains(&crate::world::namespace("self", "ipc")), "{output}");
}

#[tokio::test]
async fn a_missing_working_directory_is_created() {
    let mut world = World::with_rootfs("pwd");
    world.spec.working_dir = "/srv/app".into();
    assert_eq!(world.run().await.0, "/srv/app\n");
}

#[tokio::test]
async fn two_sandboxes_share_a_rootfs() {
    let first = World::with_rootfs("sleep 1000");
    let mut second = World::new("cat /etc/hostname");
    second.spec.rootfs.clone_from(&first.spec.rootfs);
    fs::write(&second.spec.files.hostname, "second\n").unwrap();
    let supervisor = first.start().await;
    assert_eq!(second.run().await.0, "second\n");
    assert_eq!(first.sh("cat /etc/hostname"), "box\n");
    supervisor.signal(9).await.unwrap();
    supervisor.wait().await;
}

#[tokio::test]
async fn a_terminal_has_a_path_in_it() {
    let world = World::with_rootfs("sleep 1000");
    let supervisor = world.start().await;
    let output = world.exec(&["-t"], &["tty"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "/dev/pts/0\r\n");
    supervisor.signal(9).await.unwrap();
    supervisor.wait().await;
}
