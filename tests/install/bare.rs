//! The tasks on a Debian 12 with nothing but Rust: a root file system of its own, with bind mounts of the toolchain and
//! the source. On a machine that has run the tests before, missing packages would go unnoticed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

/// A script that runs `$1` in the root: an overlay over others, in namespaces of its own that end with it. It has the
/// machine's network with its configuration.
const ENTER: &str = r#"
mount -t overlay overlay -o lowerdir="$BELOW",upperdir="$ROOT/upper",workdir="$ROOT/work" "$ROOT/merged"
cd "$ROOT/merged"
mkdir -p rust src root/.cargo/registry
mount --rbind /dev dev; mount -t proc proc proc; mount -t tmpfs tmpfs run
mount --bind "$TOOLCHAIN" rust; mount -o remount,bind,ro rust
mount --bind "$SOURCE" src; mount -o remount,bind,ro src
mount --bind "$TARGET" src/target
mount -t overlay overlay -o lowerdir="$CRATES",upperdir="$TARGET/crates/upper",workdir="$TARGET/crates/work" root/.cargo/registry
mount --bind "$DEBS" var/cache/apt/archives
for file in etc/resolv.conf etc/hosts etc/ssl/certs/ca-certificates.crt; do cat "/$file" > "$file"; done
[ ! -f "$CARGO_CONFIG" ] || cat "$CARGO_CONFIG" > root/.cargo/config.toml
exec env --unset=CARGO --unset=CARGO_HOME --unset=RUSTUP_HOME --unset=RUSTUP_TOOLCHAIN --unset=CARGO_TARGET_DIR \
    --unset=CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER --unset=NETBPF_TOOLS --unset=LD_LIBRARY_PATH \
    HOME=/root PATH=/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot . sh -ec "cd /src; $1"
"#;

/// The parts that all roots share: an unpacked Debian, the packages fetched so far, cargo's output.
struct Machine {
    cache: PathBuf,
    target: TempDir,
}

/// A root with its changes of what is below.
struct Root<'a> {
    machine: &'a Machine,
    folder: TempDir,
    /// Directories, the upper ones first.
    below: Vec<PathBuf>,
}

impl Machine {
    fn new() -> Self {
        let home = PathBuf::from(env::var_os("HOME").expect("HOME"));
        let cache = env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
        let cache = cache.join("netbpf/bare-12");
        fs::create_dir_all(cache.join("debs/partial")).expect("a folder for packages");
        let target = tempfile::tempdir_in(&cache).expect("a folder for what is built");
        for folder in ["crates/upper", "crates/work"] {
            fs::create_dir_all(target.path().join(folder)).expect("a folder for what cargo fetches");
        }
        let machine = Self { cache, target };
        if !machine.base().exists() {
            machine.make_base();
        }
        machine
    }

    fn base(&self) -> PathBuf {
        self.cache.join("base")
    }

    /// Debian 12 from the machine's package source: required packages and apt.
    fn make_base(&self) {
        let targets = Command::new("apt-get")
            .args(["indextargets", "--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"])
            .args(["Created-By: Packages", "Origin: Debian"])
            .output()
            .expect("apt-get");
        let targets = String::from_utf8_lossy(&targets.stdout).into_owned();
        let is_12 = |line: &&str| line.split(' ').nth(2).is_some_and(|suite| suite.starts_with("bookworm"));
        let sources: Vec<&str> = targets.lines().filter(is_12).collect();
        assert!(!sources.is_empty(), "apt has no source of Debian 12: {targets}");
        let list = self.target.path().join("sources.list");
        fs::write(&list, sources.join("\n") + "\n").expect("a list of sources");
        let partial = tempfile::tempdir_in(&self.cache).expect("a folder for Debian");
        // Its mounts are not those of the tests that run beside this one.
        let made = Command::new("unshare")
            .args(["--mount", "mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates"])
            // No need to survive a power failure.
            .arg("--dpkgopt=force-unsafe-io")
            .arg("bookworm")
            .arg(partial.path().join("base"))
            .arg(&list)
            .output()
            .expect("mmdebstrap");
        assert!(made.status.success(), "{}", said(&made));
        fs::rename(partial.path().join("base"), self.base()).expect("a base");
    }

    /// A bare Debian.
    fn root(&self) -> Root<'_> {
        self.over(vec![self.base()])
    }

    fn over(&self, below: Vec<PathBuf>) -> Root<'_> {
        let folder = tempfile::tempdir_in(&self.cache).expect("a folder for a root");
        for part in ["upper", "work", "merged"] {
            fs::create_dir(folder.path().join(part)).expect("a folder for a root");
        }
        Root { machine: self, folder, below }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.target.path().join("xtask.log")).unwrap_or_default()
    }
}

impl Root<'_> {
    /// Another one that has what this one has by now.
    fn copy(&self) -> Self {
        let own = self.folder.path().join("upper");
        self.machine.over([&[own], &*self.below].concat())
    }

    fn command(&self, typed: &str) -> Command {
        let Machine { cache, target } = self.machine;
        let below: Vec<_> = self.below.iter().map(|folder| folder.to_string_lossy()).collect();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let home = PathBuf::from(env::var_os("HOME").expect("HOME"));
        let cargo = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", ENTER, "enter", typed])
            .env("BELOW", below.join(":"))
            .env("DEBS", cache.join("debs"))
            .env("ROOT", self.folder.path())
            .env("TARGET", target.path())
            .env("TOOLCHAIN", sysroot())
            .env("SOURCE", workspace)
            .env("CRATES", cargo.join("registry"))
            .env("CARGO_CONFIG", cargo.join("config.toml"))
            .stdin(Stdio::null());
        command
    }

    fn type_(&self, typed: &str) -> Output {
        self.command(typed).output().expect("unshare")
    }

    #[track_caller]
    fn succeeds(&self, typed: &str) -> String {
        let output = self.type_(typed);
        assert!(output.status.success(), "$ {typed}\n{}\n{}", said(&output), self.machine.log());
        said(&output)
    }

    /// The installed packages.
    #[track_caller]
    fn packages(&self) -> String {
        self.succeeds("dpkg-query --show")
    }

    /// Runs the task that prepares the root for another task, and checks the result.
    #[track_caller]
    fn becomes_ready_for(&self, task: &str) {
        let first = self.succeeds(&format!("cargo xtask setup {task}"));
        assert!(first.contains("netbpf needs what this machine does not have:"), "{first}");
        let second = self.succeeds(&format!("cargo xtask setup {task}"));
        assert!(second.contains("nothing is missing") && !second.contains("installed now"), "{second}");
        assert_eq!(self.succeeds("test ! -e /usr/sbin/policy-rc.d && dpkg --audit"), "", "half installed");
    }
}

/// The Rust toolchain of this machine.
fn sysroot() -> String {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

#[test]
fn each_task_prepares_a_bare_debian() {
    let machine = Machine::new();

    let root = machine.root();
    let before = root.packages();
    let refused = root.type_("cargo build --package xtask");
    assert!(!refused.status.success());
    let way_out = "apt-get update && apt-get install gcc libc6-dev";
    assert!(said(&refused).contains(way_out), "{}", said(&refused));
    assert_eq!(root.packages(), before, "a build installs nothing");
    root.succeeds(&way_out.replace("install", "install --yes --no-install-recommends"));
    root.becomes_ready_for("run");
    root.succeeds("target/tools/bin/bpf-linker --version && ping -V && ip -V");

    // Each of the other tasks needs a compiler, too. What it needs besides is missing.
    let ready = root;
    let root = ready.copy();
    let begun = machine.log().len();
    let mut killed = root.command("cargo xtask setup demo").stdout(Stdio::piped()).spawn().expect("unshare");
    // The packages are fetched first, however long that takes.
    while !machine.log()[begun..].contains("pmstatus:") {
        assert!(killed.try_wait().expect("a child").is_none(), "{}", machine.log());
        thread::sleep(Duration::from_millis(10));
    }
    killed.kill().expect("a signal");
    // Its output ends with the last process in the root.
    killed.wait_with_output().expect("an end");
    root.succeeds("test ! -e /usr/sbin/policy-rc.d");
    root.becomes_ready_for("demo");
    drop(root);

    for task in ["bench", "test"] {
        ready.copy().becomes_ready_for(task);
    }
}
