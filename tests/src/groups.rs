//! A control group for processes that make groups themselves, such as systemd and LXC: they get a namespace of groups
//! whose root it is. Must not know these processes.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// A control group of version 2. It is removed with this value, when the last process in it has ended.
pub struct ControlGroup(PathBuf);

impl ControlGroup {
    /// Makes a group; `name` must be unique on this machine.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/mounts").expect("the mounts");
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let all = mounts.find(|fields| fields.get(2) == Some(&"cgroup2"));
        let all = all.expect("control groups of version 2 are mounted")[1].to_owned();
        let group = Path::new(&all).join(format!("netbpf-tests-{name}"));
        fs::create_dir(&group).expect("a control group");
        Self(group)
    }

    /// The file that the number of a process is written to, for it to enter the group; 0 is the writer.
    pub fn entrance(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    /// The same for it to leave the group.
    pub fn exit(&self) -> PathBuf {
        self.0.with_file_name("cgroup.procs")
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // The kernel buries processes a moment after they have ended.
        for _ in 0..1000 {
            remove(&self.0);
            if !self.0.exists() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(thread::panicking(), "{} is in use", self.0.display());
    }
}

/// Removes a group and those in it, if they are not in use.
fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
