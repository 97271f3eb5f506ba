//! The start and end of sandboxes, and the death of each process.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use netbpf::sandbox::{Error, Supervisor, exit_status};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::world::{World, is_running};

#[tokio::test]
async fn the_command_is_process_1_of_its_own_session() {
    let world = World::new("echo $$; cat /proc/1/stat; ls -d /proc/[0-9]*");
    let (output, exit) = world.run().await;
    let stat: Vec<_> = output.lines().nth(1).unwrap().split(' ').collect();
    assert_eq!(output.lines().next(), Some("1"));
    assert_eq!((stat[4], stat[5]), ("1", "1"), "process group and session");
    assert!(output.lines().skip(2).count() <= 2, "others are seen: {output}");
    assert_eq!(exit.code, 0);
}

#[tokio::test]
async fn the_environment_is_docker_s() {
    let mut world = World::new("pwd; env | sort; hostname; umask");
    world.spec.env = vec!["A=b c".into(), "HOME=/tmp".into()];
    world.spec.working_dir = "/tmp".into();
    let (output, _) = world.run().await;
    let expected = "/tmp\nA=b c\nHOME=/tmp\nHOSTNAME=box\n\
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/tmp\nSHLVL=1\nbox\n0022\n";
    assert_eq!(output, expected);
    assert_ne!(nix::unistd::gethostname().unwrap(), "box");
}

#[tokio::test]
async fn the_exit_code_is_the_command_s_or_128_plus_the_signal() {
    let world = World::new("exit 7");
    assert_eq!(world.run().await.1.code, 7);
    assert_eq!(exit_status(&world.dir()).code, 7);
    let world = World::new("while :; do sleep 1000; done");
    let supervisor = world.start().await;
    supervisor.signal(9).await.unwrap();
    assert_eq!(supervisor.wait().await.code, 137);
    assert!(matches!(supervisor.signal(9).await, Err(Error::Gone)));
}

#[tokio::test]
async fn process_1_receives_only_signals_with_a_handler() {
    let world = World::new("trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    let supervisor = world.start().await;
    let mut log = netbpf::sandbox::logs::read(&world.spec.log, None, Some(&supervisor)).unwrap();
    assert_eq!(log.next().await.unwrap().unwrap().log, "ready\n");
    supervisor.signal(1).await.unwrap();
    supervisor.signal(15).await.unwrap();
    assert_eq!(supervisor.wait().await.code, 3);
}

#[tokio::test]
async fn a_sandbox_starts_again_in_the_same_directory_and_continues_its_log() {
    let world = World::new("echo once; exit 2");
    world.run().await;
    let (output, exit) = world.run().await;
    assert_eq!((output.as_str(), exit.code), ("once\nonce\n", 2));
}

#[tokio::test]
async fn the_supervisor_s_program_cannot_be_written_to() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let exe = format!("/proc/{}/exe", supervisor.pid());
    // Opened for truncation, because then the kernel checks the mount first. It checks later whether the file is being
    // executed, and Linux 6.11 does not.
    let refused = fs::OpenOptions::new().write(true).truncate(true).open(&exe).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(nix::libc::EROFS), "{refused}");
    let program = netbpf_tests::lab::program().canonicalize().unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(program.to_str().unwrap()), "the read-only mount is in no namespace:\n{mounts}");
    let name = fs::read_to_string(format!("/proc/{}/comm", supervisor.pid())).unwrap();
    assert_eq!(name, "netbpf\n");
    supervisor.signal(9).await.unwrap();
    supervisor.wait().await;
}

#[tokio::test]
async fn no_new_privileges_holds_for_the_command_and_for_exec() {
    for asked in [false, true] {
        let mut world = World::new("grep NoNewPrivs /proc/self/status; sleep 1000");
        world.spec.no_new_privileges = asked;
        let supervisor = world.start().await;
        let expected = format!("NoNewPrivs:\t{}\n", u8::from(asked));
        assert_eq!(world.sh("grep NoNewPrivs /proc/self/status"), expected);
        world.prints(&expected).await;
        supervisor.signal(9).await.unwrap();
        supervisor.wait().await;
    }
}

#[tokio::test]
async fn hidden_directories_are_empty_and_hidden_files_are_null() {
    let mut world =
        World::new("ls $DIR | wc -l; wc -c <$FILE; test -f $FILE || echo hidden; cat /etc/hosts | head -n1");
    let (dir, file) = (world.path("run"), world.path("socket"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("inside"), "x").unwrap();
    fs::write(&file, "x").unwrap();
    world.spec.env = vec![format!("DIR={}", dir.display()), format!("FILE={}", file.display())];
    // The directory of the sandbox's own files as well, and a missing one.
    world.spec.hidden = vec![dir, file, world.dir(), world.path("nothing")];
    assert_eq!(world.run().await.0, "0\n0\nhidden\n127.0.0.1\tlocalhost\n");
}

#[tokio::test]
async fn capabilities_are_docker_s_and_do_not_permit_network_changes() {
    let world = World::new(
        "grep ^Cap /proc/self/status; ip link add x type veth 2>&1; echo 1 >/proc/sys/net/ipv4/ip_forward; mount -t tmpfs t /mnt 2>&1",
    );
    let (output, _) = world.run().await;
    let capabilities: Vec<_> =
        output.lines().take(5).map(|l| l.split_ascii_whitespace().nth(1).unwrap()).collect();
    let (none, docker) = ("0000000000000000", "00000000a00425fb");
    assert_eq!(capabilities, [none, docker, docker, docker, none], "Inh Prm Eff Bnd Amb");
    assert!(output.contains("Operation not permitted"), "{output}");
    assert!(output.contains("Read-only file system"), "{output}");
    assert!(
        output.contains("mount: permission denied") || output.matches("permitted").count() > 1,
        "{output}"
    );
}

#[tokio::test]
async fn a_missing_command_gets_docker_s_message() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    fs::write(&text, "x").unwrap();
    let garbage = dir.path().join("garbage");
    fs::write(&garbage, "x").unwrap();
    fs::set_permissions(&garbage, fs::Permissions::from_mode(0o755)).unwrap();
    let (text, garbage) = (text.to_str().unwrap(), garbage.to_str().unwrap());
    let cases = [
        ("nosuch", 127, "exec: \"nosuch\": executable file not found in $PATH".to_owned()),
        ("/no/such", 127, "exec: \"/no/such\": stat /no/such: no such file or directory".to_owned()),
        (text, 126, format!("exec: \"{text}\": permission denied")),
        ("/", 126, "exec: \"/\": is a directory".to_owned()),
        (garbage, 126, format!("exec {garbage}: exec format error")),
    ];
    for (command, code, words) in cases {
        let mut world = World::new("");
        world.spec.command = vec![command.into()];
        let supervisor = world.spawn().await.unwrap();
        let Err(Error::Start { exit_code, message }) = supervisor.start().await else {
            panic!("{command} started")
        };
        let prefix = "failed to create task for container: unable to start container process: ";
        assert_eq!((exit_code, message), (code, format!("{prefix}{words}")));
        supervisor.wait().await;
    }
}

#[tokio::test]
async fn the_error_of_a_failed_setup_names_the_reason() {
    let mut world = World::new("");
    world.spec.rootfs = Some("/no/such/root".into());
    let error = world.spawn().await.unwrap_err().to_string();
    assert_eq!(error, "open rootfs /no/such/root: No such file or directory (os error 2)");
    fs::remove_file(world.socket()).unwrap();
    let mut world = World::new("");
    world.spec.working_dir = "/no/such/dir".into();
    let error = world.spawn().await.unwrap().start().await.unwrap_err().to_string();
    assert!(error.ends_with("chdir to cwd (\"/no/such/dir\") failed: no such file or directory"), "{error}");
}

#[tokio::test]
async fn a_daemon_that_gives_up_before_the_start_leaves_nothing() {
    let world = World::new("echo never");
    let supervisor = world.spawn().await.unwrap();
    let pid = supervisor.pid();
    drop(supervisor);
    while is_running(pid) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let supervisor = world.spawn().await.unwrap();
    let pid = supervisor.pid();
    supervisor.abandon().await;
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(world.output().await, "");
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_container_with_it() {
    let world = World::new("sleep 1000 & sleep 1000");
    let supervisor = world.start().await;
    let command = supervisor.pid1().unwrap();
    assert!(is_running(command));
    kill(Pid::from_raw(supervisor.pid() as i32), Signal::SIGKILL).unwrap();
    assert_eq!(supervisor.wait().await.code, 137);
    assert!(!is_running(command));
    assert!(!world.socket().exists());
}

#[tokio::test]
async fn a_look_for_an_earlier_run_does_not_touch_the_present_one() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let command = supervisor.pid1();
    assert!(Supervisor::find(&world.dir(), supervisor.pid(), supervisor.start_time() + 1).is_none());
    assert_eq!(supervisor.pid1(), command);
    assert_eq!(world.sh("echo here"), "here\n");
    supervisor.signal(9).await.unwrap();
    assert_eq!(supervisor.wait().await.code, 137);
}

#[tokio::test]
async fn a_command_of_another_user_ends_with_its_supervisor_too() {
    let mut world = World::new("");
    let argv = ["setpriv", "--reuid=65534", "--clear-groups", "sleep", "1000"];
    world.spec.command = argv.map(String::from).into();
    let supervisor = world.start().await;
    let command = supervisor.pid1().unwrap();
    let status = || fs::read_to_string(format!("/proc/{command}/status")).unwrap_or_default();
    while !status().starts_with("Name:\tsleep") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    supervisor.kill();
    supervisor.wait().await;
    assert!(!is_running(command));
    assert!(!world.socket().exists());
}

#[tokio::test]
async fn a_sandbox_outlives_its_daemon_and_can_be_adopted() {
    let world = World::new("trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done");
    let supervisor = world.start_by_another(None);
    assert!(supervisor.is_alive());
    assert_eq!(world.sh("cat /etc/hostname"), "box\n");
    assert!(Supervisor::adopt(&world.path("other"), supervisor.pid(), supervisor.start_time() + 1).is_none());
    let mut log = netbpf::sandbox::logs::read(&world.spec.log, None, Some(&supervisor)).unwrap();
    assert_eq!(log.next().await.unwrap().unwrap().log, "up\n");
    // The host's shutdown, for example, sends the supervisor SIGTERM: the command gets it and can end properly.
    kill(Pid::from_raw(supervisor.pid() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(supervisor.wait().await.code, 4);
}

#[tokio::test]
async fn a_supervisor_is_small() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let status = fs::read_to_string(format!("/proc/{}/status", supervisor.pid())).unwrap();
    assert!(status.contains("\nThreads:\t1\n"), "{status}");
    // Memory of its own: heap, stack and the like. Pages of the program file that the loader relocates do not count,
    // because they depend on the build.
    let smaps = fs::read_to_string(format!("/proc/{}/smaps", supervisor.pid())).unwrap();
    let mut is_own = false;
    let mut own = 0;
    for line in smaps.lines() {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["Private_Dirty:", kilobytes, "kB"] if is_own => own += kilobytes.parse::<u32>().unwrap(),
            [field, ..] if field.ends_with(':') => {}
            mapping => is_own = mapping.get(5).is_none_or(|name| name.starts_with('[')),
        }
    }
    assert!((1..512).contains(&own), "{own} kB of its own: {smaps}");
    supervisor.signal(9).await.unwrap();
    supervisor.wait().await;
}
