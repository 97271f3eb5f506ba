//! `/etc` of a sandbox on the host's files.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use netbpf::sandbox::{SharedFile, Supervisor};

use crate::world::World;

const SHOW: &str = "cat /etc/hosts /etc/resolv.conf /etc/hostname";
const SHOWN: &str = "127.0.0.1\tlocalhost\n10.9.8.7\tbox\nnameserver 127.0.0.11\nbox\n";

/// A copy of the host's `/etc` for the sandboxes of this test only.
fn etc(world: &World, files: &[&str]) -> PathBuf {
    let etc = world.path("etc");
    fs::create_dir(&etc).unwrap();
    for file in files {
        fs::write(etc.join(file), format!("the host's {file}\n")).unwrap();
    }
    etc
}

async fn end(supervisor: Supervisor) {
    supervisor.signal(9).await.unwrap();
    supervisor.wait().await;
}

#[tokio::test]
async fn a_sandbox_has_its_own_files_and_the_host_s_stay() {
    let before = fs::read("/etc/hosts").unwrap();
    let world = World::new(SHOW);
    assert_eq!(world.run().await.0, SHOWN);
    assert_eq!(fs::read("/etc/hosts").unwrap(), before);
}

#[tokio::test]
async fn a_sandbox_sees_a_rewritten_file_at_once() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let hosts = SharedFile::open(&world.dir(), "hosts".as_ref()).unwrap().unwrap();
    hosts.replace(b"10.1.1.1\tx\n").unwrap();
    assert_eq!(world.sh("cat /etc/hosts"), "10.1.1.1\tx\n");
    end(supervisor).await;
}

#[tokio::test]
async fn links_are_followed() {
    let world = World::new("sleep 1000");
    let etc = etc(&world, &["hosts", "hostname", "stub"]);
    symlink("stub", etc.join("resolv.conf")).unwrap();
    let supervisor = world.start_by_another(Some(&etc));
    assert_eq!(world.sh(SHOW), SHOWN);
    assert_eq!(fs::read_to_string(etc.join("stub")).unwrap(), "the host's stub\n");
    end(supervisor).await;
}

#[tokio::test]
async fn files_that_the_host_lacks_exist_in_the_sandbox_only() {
    let world = World::new("sleep 1000");
    let etc = etc(&world, &["hosts", "other"]);
    symlink("../run/nowhere/stub", etc.join("resolv.conf")).unwrap();
    let supervisor = world.start_by_another(Some(&etc));
    assert_eq!(world.sh(SHOW), SHOWN);
    assert_eq!(world.sh("cat /etc/other; echo x >/etc/new; cat /etc/new"), "the host's other\nx\n");
    end(supervisor).await;
    let mut left: Vec<_> =
        fs::read_dir(&etc).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["hosts", "other", "resolv.conf"]);
    assert!(!Path::new("/run/nowhere").exists());
}

#[tokio::test]
async fn a_sandbox_keeps_its_file_when_the_host_replaces_one() {
    let world = World::new("sleep 1000");
    let etc = etc(&world, &["hosts", "hostname", "resolv.conf", "new"]);
    let supervisor = world.start_by_another(Some(&etc));
    // As a DHCP client does.
    fs::rename(etc.join("new"), etc.join("resolv.conf")).unwrap();
    until_shown(&world).await;
    // As some administrators do.
    fs::remove_file(etc.join("hosts")).unwrap();
    fs::write(etc.join("hosts"), "again\n").unwrap();
    until_shown(&world).await;
    end(supervisor).await;
}

async fn until_shown(world: &World) {
    let seen = async {
        while world.sh(SHOW) != SHOWN {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), seen).await.expect("the sandbox's files come back");
}
