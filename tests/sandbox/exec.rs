//! `exec` from the command line's side.

use std::{
    fs,
    io::{BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use netbpf::sandbox::{Error, Supervisor};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::world::{World, await_line, text};

async fn end(supervisor: Supervisor) {
    supervisor.signal(9).await.unwrap();
    supervisor.wait().await;
}

#[tokio::test]
async fn exit_codes_and_messages_are_docker_s() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let run = |argv: &[&str]| {
        let output = world.exec(&[], argv).output().unwrap();
        (output.status.code().unwrap(), text(&output))
    };
    let sh = |script: &str| run(&["sh", "-c", script]);
    assert_eq!(sh("echo hi"), (0, "hi\n".into()));
    assert_eq!(sh("exit 3").0, 3);
    assert_eq!(sh("kill -9 $$").0, 137);
    let words = "exec failed: unable to start container process: exec";
    assert_eq!(run(&["nosuch"]), (127, format!("{words}: \"nosuch\": executable file not found in $PATH\n")));
    assert_eq!(run(&["/etc/passwd"]), (126, format!("{words}: \"/etc/passwd\": permission denied\n")));
    end(supervisor).await;
}

#[tokio::test]
async fn a_program_has_the_command_s_namespaces_and_privileges() {
    let mut world = World::new("sleep 1000");
    world.spec.env = vec!["A=1".into()];
    world.spec.working_dir = "/usr".into();
    let supervisor = world.start().await;
    let show = |pid: &str| {
        format!("for n in net mnt uts pid; do readlink /proc/{pid}/ns/$n; done; grep ^Cap /proc/{pid}/status")
    };
    assert_eq!(world.sh(&show("self")), world.sh(&show("1")));
    assert_eq!(world.sh("pwd; echo $A $HOSTNAME; ps -o comm | grep -cx sleep"), "/usr\n1 box\n1\n");
    end(supervisor).await;
}

#[tokio::test]
async fn stdin_is_connected_only_on_request() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    for (flags, expected) in [(&["-i"][..], "hello"), (&[], "")] {
        let mut child =
            world.exec(flags, &["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"hello").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((text(&output).as_str(), output.status.code()), (expected, Some(0)));
    }
    end(supervisor).await;
}

#[tokio::test]
async fn a_program_cannot_open_the_files_behind_its_streams() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let (input, log) = (world.path("input"), world.path("log"));
    let text = "more than a pipe holds\n".repeat(10_000);
    fs::write(&input, &text).unwrap();
    fs::write(&log, "told before\n").unwrap();
    let append = || fs::OpenOptions::new().append(true).open(&log).unwrap();
    let run = |script: &str, stdin: fs::File| {
        let mut command = world.exec(&["-i"], &["sh", "-c", script]);
        command.stdin(stdin).stdout(append()).stderr(append()).status().unwrap();
    };
    run("for fd in 0 1 2; do : >/proc/self/fd/$fd; done", fs::File::open(&input).unwrap());
    run("test -e /proc/self/fd/0/. && echo evil", fs::File::open(world.dir()).unwrap());
    run("cat", fs::File::open(&input).unwrap());
    assert_eq!(fs::read_to_string(&input).unwrap(), text);
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.starts_with("told before\n") && log.ends_with(&text) && !log.contains("evil"), "{log:.200}");
    end(supervisor).await;
}

#[tokio::test]
async fn a_program_goes_on_when_its_caller_dies_and_ends_with_the_container() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let mut child =
        world.exec(&[], &["sh", "-c", "echo $$; exec sleep 2000"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let alive = format!("kill -0 {} && echo alive", line.trim());
    assert_eq!(world.sh(&alive), "alive\n");
    let waiting = world.exec(&[], &["sleep", "3000"]).spawn().unwrap();
    while !world.sh("ps").contains("sleep 3000") {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    end(supervisor).await;
    assert_eq!(waiting.wait_with_output().unwrap().status.code(), Some(137));
}

#[tokio::test]
async fn concurrent_programs_each_have_their_own_exit_code() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let children: Vec<_> =
        (0..40).map(|n| (n, world.exec(&[], &["sh", "-c", &format!("exit {n}")]).spawn().unwrap())).collect();
    for (n, mut child) in children {
        assert_eq!(child.wait().unwrap().code(), Some(n));
    }
    end(supervisor).await;
}

#[tokio::test]
async fn exec_fails_without_a_running_container() {
    let world = World::new("exit 0");
    world.run().await;
    let output = world.exec(&[], &["true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let supervisor = world.spawn().await.unwrap();
    let output = world.exec(&[], &["true"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output)), (Some(1), "the container is not running\n".into()));
    assert!(matches!(supervisor.signal(9).await, Err(Error::Gone)));
    supervisor.abandon().await;
}

#[tokio::test]
async fn only_root_and_the_group_can_use_the_socket() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let mut world = World::new("sleep 1000");
    world.spec.socket_group = Some(4711);
    let supervisor = world.start().await;
    let metadata = fs::metadata(world.socket()).unwrap();
    assert_eq!((metadata.permissions().mode() & 0o777, metadata.uid(), metadata.gid()), (0o660, 0, 4711));
    end(supervisor).await;
}

/// A user's shell on a terminal of 33 rows and 77 columns. Its settings are compared before and after `exec`.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: BufReader<ChildStdout>,
    tty: PathBuf,
    dir: PathBuf,
}

impl Terminal {
    fn exec(world: &World, script: &str) -> Terminal {
        let exec = world.exec(&["-i", "-t"], &["sh", "-c", script]);
        let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''"));
        let words: Vec<_> = std::iter::once(exec.get_program()).chain(exec.get_args()).map(quoted).collect();
        let dir = world.path("terminal");
        let at = |name: &str| dir.join(name).display().to_string();
        fs::create_dir(&dir).unwrap();
        let shell = format!(
            "stty rows 33 cols 77; stty -g >{}; tty >{}; {} & echo $! >{}; fg >/dev/null; echo code $?; stty -g >{}",
            at("before"),
            at("tty"),
            words.join(" "),
            at("pid"),
            at("after"),
        );
        let mut child = Command::new("script")
            .args([
                "--quiet",
                "--command",
                &format!("bash -c 'set -m; {}'", shell.replace('\'', "'\\''")),
                "/dev/null",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keys = child.stdin.take().unwrap();
        let mut screen = BufReader::new(child.stdout.take().unwrap());
        await_line(&mut screen, "ready");
        let tty = fs::read_to_string(dir.join("tty")).unwrap().trim().into();
        Terminal { child, keys, screen, tty, dir }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(fs::read_to_string(self.dir.join("pid")).unwrap().trim().parse().unwrap())
    }

    fn resize(&self) {
        let tty = self.tty.to_str().unwrap();
        assert!(
            Command::new("stty").args(["-F", tty, "rows", "44", "cols", "99"]).status().unwrap().success()
        );
    }

    /// The remaining output, once the shell has ended.
    fn close(mut self) -> String {
        let mut rest = String::new();
        self.screen.read_to_string(&mut rest).unwrap();
        drop(self.keys);
        self.child.wait().unwrap();
        let settings = |name: &str| fs::read_to_string(self.dir.join(name)).unwrap();
        assert_eq!(settings("before"), settings("after"), "the user's terminal is as it was");
        rest.replace('\r', "")
    }
}

#[tokio::test]
async fn tty_gives_a_real_terminal() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let script = "echo ready; read x; tty; stty size; echo $TERM; : </dev/tty && echo controlling; echo got $x; exit 5";
    let mut terminal = Terminal::exec(&world, script);
    terminal.keys.write_all(b"word\r").unwrap();
    let screen = terminal.close();
    let lines: Vec<_> = screen.lines().collect();
    assert!(lines[1].starts_with("/dev/pts/"), "{screen}");
    assert_eq!(
        (lines[0], &lines[2..]),
        ("word", &["33 77", "xterm", "controlling", "got word", "code 5"][..])
    );
    end(supervisor).await;
}

#[tokio::test]
async fn ctrl_c_interrupts_the_program_and_not_its_caller() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let mut terminal = Terminal::exec(
        &world,
        "trap 'echo interrupted; exit 6' INT; echo ready; while :; do sleep 0.02; done",
    );
    terminal.keys.write_all(b"\x03").unwrap();
    let screen = terminal.close();
    assert!(screen.ends_with("interrupted\ncode 6\n"), "{screen}");
    end(supervisor).await;
}

#[tokio::test]
async fn a_new_window_size_reaches_the_program() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let terminal =
        Terminal::exec(&world, "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.02; done");
    terminal.resize();
    assert_eq!(terminal.close(), "44 99\ncode 0\n");
    end(supervisor).await;
}

#[tokio::test]
async fn a_killed_caller_restores_its_terminal_and_hangs_up() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let mark = world.path("hung-up");
    let terminal = Terminal::exec(
        &world,
        &format!("trap 'echo >{}; exit' HUP; echo ready; while :; do sleep 0.02; done", mark.display()),
    );
    kill(terminal.pid(), Signal::SIGTERM).unwrap();
    let screen = terminal.close();
    assert!(screen.ends_with("code 143\n"), "{screen}");
    let hung_up = async {
        while !mark.exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), hung_up).await.expect("the program is hung up on");
    end(supervisor).await;
}

#[tokio::test]
async fn much_output_through_a_terminal_is_complete() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let output = world.exec(&["-t"], &["seq", "1", "50000"]).output().unwrap();
    let expected: String = (1..=50_000).map(|n| format!("{n}\r\n")).collect();
    assert!(text(&output) == expected, "{} bytes instead of {}", output.stdout.len(), expected.len());
    end(supervisor).await;
}

#[tokio::test]
async fn an_interactive_terminal_needs_one() {
    let world = World::new("sleep 1000");
    let supervisor = world.start().await;
    let output = world.exec(&["-i", "-t"], &["true"]).output().unwrap();
    assert!(text(&output).contains("the input device is not a TTY"));
    end(supervisor).await;
}
