//! A container's life as Docker's users know it: run, output, exit codes, signals, stop, start, exec, network modes.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use netbpf_tests::lab::{Lab, Output, Process, STATE_DIR, eventually};
use nix::sys::signal::Signal;

use crate::world::netbpf;

fn sleeper(lab: &Lab, name: &str, options: &[&str]) {
    let words = [&["run", "-d", "--name", name], options, &["--", "sleep", "infinity"]].concat();
    lab.netbpf(words).ok();
}

fn inspect(lab: &Lab, name: &str, format: &str) -> String {
    lab.netbpf(["inspect", "--format", format, name]).ok().text().to_owned()
}

fn exec(lab: &Lab, name: &str, command: &str) -> Output {
    lab.netbpf(["exec", name, "sh", "-c", command])
}

/// Waits until a command prints what is expected.
#[track_caller]
fn until(lab: &Lab, arguments: &[&str], expected: impl Fn(&str) -> bool) {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        let output = lab.netbpf(arguments);
        if expected(&output.stdout) {
            return;
        }
        assert!(Instant::now() < give_up, "{output}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_output_of_a_short_run_is_complete() {
    let lab = Lab::start();
    // Ten runs in each script, because a command may take one minute at most.
    let script = format!(
        "set -e; for number in $(seq 10); do
            test \"$({0} run --rm -- sh -c 'echo out; echo err >&2; echo out2' 2>/dev/null)\" = \"out\nout2\" || echo lost out
            test \"$({0} run --rm -- sh -c 'echo out; echo err >&2' 2>&1 >/dev/null)\" = err || echo lost err
        done",
        netbpf()
    );
    for _ in 0..10 {
        assert_eq!(lab.host(["bash", "-c", &script]).ok().stdout, "");
    }
    let much = lab.netbpf(["run", "--rm", "--", "seq", "100000"]).ok();
    assert_eq!((much.stdout.lines().count(), much.stdout.lines().last()), (100_000, Some("100000")));
    let bytes = lab.netbpf(["run", "--rm", "--", "printf", "no end of line"]).ok();
    assert_eq!(bytes.stdout, "no end of line");
}

#[test]
fn the_exit_code_is_the_command_s() {
    let lab = Lab::start();
    for code in [0, 1, 7, 125, 255] {
        let output = lab.netbpf(["run", "--rm", "--", "sh", "-c", &format!("exit {code}")]);
        assert_eq!((output.status.code(), output.stderr.as_str()), (Some(code), ""), "{output}");
    }
    let killed = lab.spawn_netbpf(["run", "--name", "killed", "--", "sleep", "infinity"]);
    until(&lab, &["ps", "--format", "{{.Names}}"], |names| names == "killed\n");
    lab.netbpf(["kill", "killed"]).ok();
    killed.output().fails_with(137, "");
    assert_eq!(inspect(&lab, "killed", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    sleeper(&lab, "web", &[]);
    for code in [0, 3, 255] {
        assert_eq!(exec(&lab, "web", &format!("exit {code}")).status.code(), Some(code));
    }
    assert_eq!(exec(&lab, "web", "kill -9 $$").status.code(), Some(137));
}

#[test]
fn a_foreground_run_forwards_signals() {
    let lab = Lab::start();
    let script =
        "trap 'echo hup' HUP; trap 'echo term; exit 42' TERM; echo ready; while :; do sleep 0.05; done";
    let run = lab.spawn_netbpf(["run", "--name", "loop", "--", "sh", "-c", script]);
    until(&lab, &["logs", "loop"], |log| log == "ready\n");
    run.signal(Signal::SIGHUP);
    until(&lab, &["logs", "loop"], |log| log == "ready\nhup\n");
    run.signal(Signal::SIGTERM);
    let output = run.output();
    assert_eq!((output.status.code(), output.stdout.as_str()), (Some(42), "ready\nhup\nterm\n"), "{output}");
}

#[test]
fn stop_sends_sigterm_before_sigkill() {
    let lab = Lab::start();
    let polite = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    lab.netbpf(["run", "-d", "--name", "polite", "--", "sh", "-c", polite]).ok();
    until(&lab, &["logs", "polite"], |log| log == "ready\n");
    assert_eq!(lab.netbpf(["stop", "polite"]).ok().text(), "polite");
    assert_eq!(inspect(&lab, "polite", "{{.State.ExitCode}}"), "5");
    assert_eq!(lab.netbpf(["logs", "polite"]).ok().text(), "ready\nbye");

    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    for (name, options, at_least, at_most) in [
        ("deaf10", &["stop"][..], 9.5, 14.0),
        ("deaf2", &["stop", "-t", "2"], 1.9, 5.0),
        ("deaf0", &["stop", "-t", "0"], 0.0, 5.0),
    ] {
        lab.netbpf(["run", "-d", "--name", name, "--", "sh", "-c", deaf]).ok();
        until(&lab, &["logs", name], |log| log == "ready\n");
        let start = Instant::now();
        lab.netbpf(options.iter().chain(&[name])).ok();
        let took = start.elapsed().as_secs_f64();
        assert!((at_least..at_most).contains(&took), "{options:?} took {took} s");
        assert_eq!(inspect(&lab, name, "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    }
    assert_eq!(lab.netbpf(["stop", "polite"]).ok().text(), "polite", "it is stopped already");
}

#[test]
fn start_restart_and_kill() {
    let lab = Lab::start();
    let script = "trap 'echo usr1' USR1; echo begun; while :; do sleep 0.05; done";
    lab.netbpf(["run", "-d", "--name", "web", "--", "sh", "-c", script]).ok();
    until(&lab, &["logs", "web"], |log| log == "begun\n");
    let first = inspect(&lab, "web", "{{.State.Pid}}");
    assert_eq!(lab.netbpf(["kill", "-s", "USR1", "web"]).ok().text(), "web");
    until(&lab, &["logs", "web"], |log| log == "begun\nusr1\n");
    assert_eq!(lab.netbpf(["restart", "-t", "0", "web"]).ok().text(), "web");
    assert_ne!(inspect(&lab, "web", "{{.State.Pid}}"), first);
    until(&lab, &["logs", "web"], |log| log == "begun\nusr1\nbegun\n");
    lab.netbpf(["kill", "web"]).ok();
    until(&lab, &["ps", "-a", "--format", "{{.Status}}"], |status| status.starts_with("Exited (137) "));
    assert_eq!(lab.netbpf(["start", "web"]).ok().text(), "web");
    until(&lab, &["ps", "--format", "{{.Names}} {{.Status}}"], |status| status.starts_with("web Up "));
    lab.netbpf(["rm", "web"]).fails_with(1, "container is running");
    assert_eq!(lab.netbpf(["rm", "-f", "web"]).ok().text(), "web");
    assert_eq!(lab.netbpf(["ps", "-aq"]).ok().stdout, "");
}

#[test]
fn statuses() {
    let lab = Lab::start();
    sleeper(&lab, "up", &[]);
    lab.netbpf(["run", "--name", "seven", "--", "sh", "-c", "exit 7"]).fails_with(7, "");
    lab.netbpf(["run", "--name", "never", "--", "no-such-command"]).fails_with(127, "");
    lab.netbpf(["run", "-d", "--name", "gone", "--rm", "--", "true"]).ok();
    until(&lab, &["ps", "-a", "--format", "{{.Names}}"], |names| !names.contains("gone"));
    let status = |filter: &str| {
        lab.netbpf(["ps", "-a", "--filter", filter, "--format", "{{.Names}} {{.State}} {{.Status}}"]).ok()
    };
    assert!(status("name=up").stdout.starts_with("up running Up "), "{}", status("name=up"));
    assert!(status("name=seven").stdout.starts_with("seven exited Exited (7) "), "{}", status("name=seven"));
    assert_eq!(status("status=created").stdout, "never created Created\n");
    assert_eq!(lab.netbpf(["ps", "--format", "{{.Names}}"]).ok().stdout, "up\n");
}

#[test]
fn logs_can_be_followed_and_have_timestamps() {
    let lab = Lab::start();
    let script = "for i in 1 2 3 4 5; do echo line $i; done; trap 'echo last; exit' TERM; while :; do sleep 0.05; done";
    lab.netbpf(["run", "-d", "--name", "web", "--", "sh", "-c", script]).ok();
    until(&lab, &["logs", "web"], |log| log.ends_with("line 5\n"));
    assert_eq!(lab.netbpf(["logs", "--tail", "2", "web"]).ok().stdout, "line 4\nline 5\n");
    assert_eq!(lab.netbpf(["logs", "-n", "0", "web"]).ok().stdout, "");
    let follow = format!("exec {} logs -f --tail 1 web >/run/followed", netbpf());
    let follower = lab.spawn(["sh", "-c", &follow]);
    let timed = lab.netbpf(["logs", "-t", "--tail", "1", "web"]).ok();
    let (time, line) = timed.text().split_once(' ').expect("a time and a line");
    assert_eq!(line, "line 5");
    assert!(time.starts_with("20") && time.ends_with('Z') && time.contains('T'), "{time}");
    assert_eq!(lab.netbpf(["logs", "--since", time, "web"]).ok().stdout, "line 5\n");
    let followed = || fs::read_to_string(lab.path("/run/followed")).unwrap_or_default();
    eventually("the follower is connected", || (followed() == "line 5\n").then_some(()));
    lab.netbpf(["stop", "web"]).ok();
    follower.output().ok();
    assert_eq!(followed(), "line 5\nlast\n");
    fs::remove_file(lab.path("/run/followed")).expect("the followed log");
}

/// Runs a command in a terminal of its own with script(1), without input. The input does not end, because `script`
/// would send a NUL byte then.
fn in_terminal(lab: &Lab, command: &str) -> Process {
    const SILENT: &str =
        r#"mkfifo /run/keys && exec 3<> /run/keys && rm /run/keys && exec script -qec "$1" /dev/null <&3"#;
    lab.spawn(["sh", "-c", SILENT, "sh", command])
}

#[test]
fn exec_in_a_terminal() {
    let lab = Lab::start();
    sleeper(&lab, "web", &[]);
    let command = format!(
        "stty rows 33 cols 99; {} exec -it web sh -c 'tty; stty size; test -t 0 && test -t 1 && echo terminal; exit 9'",
        netbpf()
    );
    let output = in_terminal(&lab, &command).output();
    assert_eq!(output.status.code(), Some(9), "{output}");
    assert!(output.stdout.contains("/dev/pts/"), "{output}");
    assert!(output.stdout.ends_with("\r\n33 99\r\nterminal\r\n"), "{output}");
    let typed = format!("printf 'echo typed $((6 * 7))\\nexit\\n' | {} exec -i web sh", netbpf());
    assert_eq!(lab.host(["sh", "-c", &typed]).ok().stdout, "typed 42\n");
    let none = lab.netbpf(["exec", "web", "sh", "-c", "test -t 1 || echo none; cat"]).ok();
    assert_eq!(none.stdout, "none\n", "without -i there is no input");
    let environment =
        lab.netbpf(["exec", "-e", "COLOUR=red", "-w", "/tmp", "web", "sh", "-c", "echo $COLOUR $PWD"]).ok();
    assert_eq!(environment.text(), "red /tmp");
}

#[test]
fn modes() {
    let lab = Lab::start();
    let interfaces = |name: &str| exec(&lab, name, "ls /sys/class/net | sort | xargs").ok().text().to_owned();
    sleeper(&lab, "alone", &["--net", "none"]);
    assert_eq!(interfaces("alone"), "lo");
    assert!(exec(&lab, "alone", "ip addr show lo").ok().stdout.contains("127.0.0.1/8"));
    sleeper(&lab, "hosted", &["--net", "host"]);
    assert!(exec(&lab, "hosted", "ip -br link").ok().stdout.contains("netbpf0"));
    assert_eq!(exec(&lab, "hosted", "hostname").ok().stdout, lab.host(["hostname"]).ok().stdout);
    sleeper(&lab, "owner", &["--hostname", "owner.example.org", "--add-host", "db:10.1.1.1"]);
    sleeper(&lab, "guest", &["--net", "container:owner"]);
    for file in ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname"] {
        let [owner, guest] =
            ["owner", "guest"].map(|name| exec(&lab, name, &format!("cat {file}")).ok().stdout);
        assert_eq!(owner, guest, "{file}");
    }
    assert_eq!(exec(&lab, "guest", "hostname").ok().text(), "owner.example.org");
    let address = "ip -4 -o addr show eth0";
    assert_eq!(exec(&lab, "guest", address).ok().stdout, exec(&lab, "owner", address).ok().stdout);
    exec(&lab, "owner", "echo '10.2.2.2 added' >> /etc/hosts").ok();
    assert!(exec(&lab, "guest", "cat /etc/hosts").ok().stdout.ends_with("10.2.2.2 added\n"));
    // The owner's network namespace lasts as long as another container uses it.
    lab.netbpf(["stop", "-t", "0", "owner"]).ok();
    assert_eq!(lab.netbpf(["ps", "--filter", "name=guest", "-q"]).ok().stdout.lines().count(), 1);
}

#[test]
fn joining_a_container_that_joined_another_leads_to_the_same_network() {
    let lab = Lab::start();
    sleeper(&lab, "owner", &["--hostname", "shared"]);
    sleeper(&lab, "side", &["--net", "container:owner"]);
    sleeper(&lab, "third", &["--net", "container:side"]);
    let own =
        |name: &str| exec(&lab, name, "readlink /proc/self/ns/net; cat /etc/hosts; hostname").ok().stdout;
    assert_eq!(own("third"), own("owner"));
    lab.netbpf(["connect", "bridge", "third"]).fails_with(1, "container sharing network namespace");

    // The joined container must be running, but not the one that created the network namespace.
    lab.netbpf(["stop", "-t", "0", "third", "owner"]).ok();
    lab.netbpf(["start", "third"]).ok();
    assert_eq!(own("third"), own("side"));
    lab.netbpf(["stop", "-t", "0", "third", "side"]).ok();
    lab.netbpf(["start", "third"]).fails_with(1, "cannot join network namespace of a non running container");
    lab.netbpf(["start", "owner"]).ok();
    lab.netbpf(["start", "side"]).ok();
    lab.netbpf(["start", "third"]).ok();
    assert_eq!(own("third"), own("owner"));
    lab.netbpf(["rm", "-f", "owner", "side"]).ok();
    assert!(own("third").contains("shared"));
}

#[test]
fn only_requested_addresses_are_kept_over_a_restart() {
    let lab = Lab::start();
    lab.netbpf(["network", "create", "--subnet", "10.0.0.0/24", "mynet"]).ok();
    let address = |name: &str| inspect(&lab, name, "{{.NetworkSettings.Networks.mynet.IPAddress}}");
    let mac = |name: &str| inspect(&lab, name, "{{.NetworkSettings.Networks.mynet.MacAddress}}");
    sleeper(&lab, "first", &["--net", "mynet"]);
    sleeper(&lab, "fixed", &["--net", "mynet", "--ip", "10.0.0.200", "--mac-address", "02:00:00:00:00:07"]);
    sleeper(&lab, "second", &["--net", "mynet"]);
    assert_eq!(
        [address("first"), address("fixed"), address("second")],
        ["10.0.0.2", "10.0.0.200", "10.0.0.3"]
    );
    assert_eq!([mac("first"), mac("fixed")], ["02:42:0a:00:00:02", "02:00:00:00:00:07"]);
    let shown = exec(&lab, "fixed", "ip -o link show eth0; ip -4 -o addr show eth0").ok();
    assert!(shown.stdout.contains("02:00:00:00:00:07") && shown.stdout.contains("10.0.0.200/24"), "{shown}");
    lab.netbpf(["stop", "-t", "0", "first", "second", "fixed"]).ok();
    assert_eq!([address("first"), address("fixed")], ["", ""], "a stopped container has no address");
    lab.netbpf(["start", "second"]).ok();
    lab.netbpf(["start", "fixed"]).ok();
    lab.netbpf(["start", "first"]).ok();
    assert_eq!(
        [address("first"), address("fixed"), address("second")],
        ["10.0.0.3", "10.0.0.200", "10.0.0.2"]
    );
    assert_eq!(mac("fixed"), "02:00:00:00:00:07");
    exec(&lab, "first", "ping -c1 -W2 10.0.0.200").ok();
    exec(&lab, "first", "ping -c1 -W2 10.0.0.2").ok();
}

#[test]
fn a_container_can_have_its_own_root_directory() {
    let lab = Lab::start();
    lab.host([
        "sh",
        "-ec",
        "mkdir -p /run/root/bin /run/root/proc /run/root/sys /run/root/dev /run/root/etc /run/root/tmp
         cp $(command -v busybox) /run/root/bin/
         for tool in sh ls cat ping hostname sleep wget; do ln -s busybox /run/root/bin/$tool; done",
    ])
    .ok();
    sleeper(&lab, "boxed", &["--rootfs", "/run/root", "--hostname", "boxed"]);
    assert_eq!(exec(&lab, "boxed", "ls / | cat").ok().text(), "bin\ndev\netc\nproc\nsys\ntmp");
    assert_eq!(exec(&lab, "boxed", "hostname; cat /etc/hostname").ok().text(), "boxed\nboxed");
    assert!(exec(&lab, "boxed", "cat /etc/hosts").ok().stdout.ends_with("172.17.0.2\tboxed\n"));
    exec(&lab, "boxed", "ping -c1 -W2 172.17.0.1").ok();
    lab.netbpf(["exec", "boxed", "python3"]).fails_with(127, "executable file not found in $PATH");
    lab.netbpf(["rm", "-f", "boxed"]).ok();
    lab.host(["rm", "-r", "/run/root"]).ok();
}

#[test]
fn files_edited_by_the_user_are_not_changed() {
    let lab = Lab::start();
    lab.netbpf(["network", "create", "mynet"]).ok();
    let resolvers = |name: &str| exec(&lab, name, "grep ^nameserver /etc/resolv.conf").ok().text().to_owned();
    for name in ["edited", "plain"] {
        sleeper(&lab, name, &["--dns", "10.1.1.1"]);
        assert_eq!(resolvers(name), "nameserver 10.1.1.1");
    }
    exec(&lab, "edited", "echo 'nameserver 10.2.2.2' > /etc/resolv.conf").ok();
    for name in ["edited", "plain"] {
        lab.netbpf(["connect", "mynet", name]).ok();
    }
    assert_eq!(resolvers("plain"), "nameserver 127.0.0.11");
    assert_eq!(resolvers("edited"), "nameserver 10.2.2.2");
    lab.netbpf(["disconnect", "mynet", "plain"]).ok();
    assert_eq!(resolvers("plain"), "nameserver 10.1.1.1");
    lab.netbpf(["restart", "-t", "0", "edited"]).ok();
    assert_eq!(resolvers("edited"), "nameserver 10.2.2.2");
}

#[test]
fn a_stopped_container_of_a_removed_network_can_leave_it() {
    let lab = Lab::start();
    for made_anew in [false, true] {
        lab.network("gone", "");
        let id = lab.inspect("gone")["Id"].as_str().expect("an ID").to_owned();
        lab.run("left", "--net gone");
        lab.netbpf(["stop", "-t", "0", "left"]).ok();
        lab.netbpf(["network", "rm", "gone"]).ok();
        if made_anew {
            lab.network("gone", "");
        }
        let networks = || lab.inspect("left")["NetworkSettings"]["Networks"].clone();
        assert_eq!(networks()["gone"]["NetworkID"], id);
        lab.netbpf(["start", "left"]).fails_with(1, &format!("network {id} not found"));
        lab.netbpf(["network", "disconnect", "gone", "left"]).ok();
        assert_eq!(networks(), serde_json::json!({}));
        lab.netbpf(["start", "left"]).ok();
        lab.netbpf(["rm", "-f", "left"]).ok();
        if made_anew {
            lab.netbpf(["network", "rm", "gone"]).ok();
        }
    }
}

#[test]
fn a_new_network_of_the_same_name_replaces_a_removed_one() {
    let lab = Lab::start();
    lab.network("gone", "");
    lab.run("left", "--net gone");
    lab.netbpf(["stop", "-t", "0", "left"]).ok();
    lab.netbpf(["network", "rm", "gone"]).ok();
    lab.netbpf(["disconnect", "other", "left"]).fails_with(1, "network other not found");
    lab.network("gone", "--subnet 10.7.0.0/24");
    lab.netbpf(["connect", "gone", "left"]).ok();
    lab.netbpf(["start", "left"]).ok();
    assert_eq!(lab.address("left", "gone"), "10.7.0.2");
}

#[test]
fn an_interface_created_inside_keeps_its_name() {
    let lab = Lab::start();
    lab.netbpf(["network", "create", "n1"]).ok();
    lab.netbpf(["network", "create", "n2"]).ok();
    lab.netbpf(["run", "-d", "--name", "web", "--", "sleep", "infinity"]).ok();
    let pid = inspect(&lab, "web", "{{.State.Pid}}");
    let inside = |words: &str| {
        let command = ["nsenter", "-t", &pid, "-n", "ip"].into_iter().chain(words.split(' '));
        lab.host(command).ok()
    };
    inside("link add eth1 type veth peer name other");
    lab.netbpf(["connect", "n1", "web"]).ok();
    inside("link show eth2");
    inside("link del eth1");
    lab.netbpf(["connect", "n2", "web"]).ok();
    inside("link show eth1");
}

#[test]
fn a_sandbox_on_the_host_s_files_cannot_reach_the_daemon() {
    let lab = Lab::start();
    sleeper(&lab, "secret", &["-e", "PASSWORD=hunter2"]);
    sleeper(&lab, "other", &["--security-opt", "no-new-privileges"]);
    for folder in ["/run/netbpf", STATE_DIR] {
        assert_eq!(exec(&lab, "other", &format!("ls -A {folder}")).ok().text(), "");
        assert_ne!(lab.host(["ls", "-A", folder]).ok().text(), "");
    }
    // The container's own files are there, in spite of that.
    assert!(exec(&lab, "other", "cat /etc/hosts").ok().text().contains("localhost"));
    assert_eq!(
        exec(&lab, "other", "cat /etc/hostname").ok().text(),
        inspect(&lab, "other", "{{.Config.Hostname}}")
    );
    assert_eq!(exec(&lab, "other", "grep -o 'NoNewPrivs.*1' /proc/self/status | wc -l").ok().text(), "1");
    assert_eq!(inspect(&lab, "other", "{{.HostConfig.SecurityOpt}}"), "[no-new-privileges]");
    lab.netbpf(["run", "--rm", "--security-opt", "nonsense", "--", "true"])
        .fails_with(125, "invalid --security-opt 1: \"nonsense\"");
}
