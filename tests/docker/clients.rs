//! Docker's command line on netbpf's own socket, without an engine: the client of each engine that the tests know.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use netbpf_tests::{
    engine,
    lab::{Lab, Output, Process, eventually},
};
use serde_json::{Value, json};

const SOCKET: &str = "unix:///run/netbpf/netbpf.sock";

/// A host with the network `mynet` (10.1.0.0/24), where the container `web` publishes a port.
struct Host {
    lab: Lab,
}

impl Host {
    fn start() -> Self {
        let lab = Lab::start();
        lab.network("mynet", "--subnet 10.1.0.0/24 --label tier=web");
        lab.run("web", "--net mynet -p 8080:80 --label app=shop");
        Self { lab }
    }

    /// Starts a shell script in which `docker` is the client.
    #[track_caller]
    fn spawn(&self, script: &str) -> Process {
        let client = engine::client();
        let docker = format!(
            "export DOCKER_CONFIG=/run/client; docker() {{ {client} -H {SOCKET} \"$@\"; }}; {script}"
        );
        self.lab.spawn(["sh", "-c", &docker])
    }

    /// Runs `docker LINE`.
    #[must_use = "check it with .ok() or .fails_with()"]
    #[track_caller]
    fn docker(&self, line: &str) -> Output {
        self.spawn(&format!("docker {line}")).output()
    }

    #[track_caller]
    fn prints(&self, line: &str, expected: &str) {
        assert_eq!(self.docker(line).ok().stdout, expected, "docker {line}");
    }

    #[track_caller]
    fn refuses(&self, line: &str, message: &str) {
        let output = self.docker(line);
        assert!(!output.status.success() && output.stderr.contains(message), "docker {line}: {output}");
    }

    #[track_caller]
    fn state(&self, container: &str) -> String {
        self.docker(&format!("inspect -f '{{{{.State.Status}}}} {{{{.State.ExitCode}}}}' {container}"))
            .ok()
            .text()
            .to_owned()
    }

    /// Creates a container that runs a script, without starting it. No command of netbpf does that.
    #[track_caller]
    fn create(&self, name: &str, script: &str) {
        let body = json!({ "Cmd": ["sh", "-c", script] }).to_string();
        let mut stream = UnixStream::connect(self.lab.path("/run/netbpf/netbpf.sock")).expect("it listens");
        let head =
            format!("POST /containers/create?name={name} HTTP/1.1\r\nHost: netbpf\r\nConnection: close\r\n");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }

    /// Removes everything that it has.
    fn finish(self) {
        self.docker("rm -f $(docker ps -aq)").ok();
        self.docker("network prune -f").ok();
    }
}

#[test]
fn networks() {
    let host = Host::start();
    host.prints(
        "network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'",
        "bridge bridge local\nhost host local\nmynet bridge local\nnone null local\n",
    );
    let id = host
        .docker("network create --subnet 10.2.0.0/24 --gateway 10.2.0.1 --label a=b --internal other")
        .ok();
    assert_eq!(id.text().len(), 64, "{id}");
    let other = &host.docker("network inspect other").ok().json()[0];
    assert_eq!((&other["Id"], &other["Internal"]), (&Value::from(id.text()), &Value::from(true)));
    assert_eq!(other["IPAM"]["Config"][0]["Gateway"], "10.2.0.1");
    assert_eq!(other["Labels"]["a"], "b");
    host.refuses("network create other", "network with name other already exists");
    host.refuses("network create --driver overlay x", "could not find plugin overlay");

    host.prints("network connect --ip 10.2.0.9 --alias cat other web", "");
    let network = &host.docker("inspect web").ok().json()[0]["NetworkSettings"]["Networks"]["other"];
    assert_eq!((&network["IPAddress"], &network["Aliases"][0]), (&"10.2.0.9".into(), &"cat".into()));
    let member =
        host.docker("network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}' other").ok();
    assert_eq!(member.text(), "web 10.2.0.9/24");
    host.refuses("network rm other", "has active endpoints");
    host.prints("network disconnect other web", "");
    host.prints("network disconnect -f mynet web", "");
    host.prints("network ls -q --filter name=other --no-trunc", &format!("{}\n", id.text()));
    host.prints("network rm other", "other\n");
    host.prints("network prune -f --filter label=tier", "Deleted Networks:\nmynet\n\n");
    host.refuses("network inspect mynet", "mynet");
    host.finish();
}

#[test]
fn containers() {
    let host = Host::start();
    let id = host.lab.inspect("web")["Id"].as_str().expect("an ID").to_owned();
    let columns = "'{{.ID}} {{.Image}} {{.Names}} {{.Networks}} {{.Ports}} {{.Label \"app\"}}'";
    let line = host.docker(&format!("ps --format {columns}")).ok();
    assert!(line.text().starts_with(&format!("{} host web mynet 0.0.0.0:8080->80/tcp", &id[..12])), "{line}");
    assert!(line.text().ends_with(" shop"), "{line}");
    let ports = host.docker("port web 80").ok();
    // Older clients write no brackets.
    assert_eq!(ports.stdout.replace("[::]", "::"), "0.0.0.0:8080\n:::8080\n");
    host.prints("ps -aq --no-trunc --filter network=mynet --filter status=running", &format!("{id}\n"));
    let web = &host.docker("inspect web").ok().json()[0];
    assert_eq!((&web["Name"], &web["HostConfig"]["NetworkMode"]), (&"/web".into(), &"mynet".into()));

    host.prints("rename web shop", "");
    host.prints("stop -t 1 shop", "shop\n");
    assert_eq!(host.state("shop"), "exited 137", "sleep is the first process and ignores SIGTERM");
    host.prints("ps -q", "");
    host.prints("ps -l --format '{{.Names}}'", "shop\n");
    host.prints("start shop", "shop\n");
    host.prints("restart -t 0 shop", "shop\n");
    host.prints("kill -s KILL shop", "shop\n");
    host.prints("wait shop", "137\n");
    host.refuses("kill shop", "is not running");
    host.prints("start shop", "shop\n");
    host.refuses("rm shop", "container is running");
    host.prints("rm -f shop", "shop\n");
    host.refuses("inspect web", "No such object: web");

    host.create("new", "exit 3");
    host.prints("wait new", "0\n");
    // Attaches first, and then waits for the next end.
    host.docker("start -a new").fails_with(3, "");
    host.docker("start -a new").fails_with(3, "");
    host.prints("ps -a --filter exited=3 --format '{{.Names}}'", "new\n");
    let pruned = host.docker("container prune -f").ok();
    assert!(pruned.stdout.starts_with("Deleted Containers:\n"), "{pruned}");
    host.prints("ps -aq", "");
    host.docker("network prune -f").ok();
}

#[test]
fn output_of_containers() {
    let host = Host::start();
    let script =
        "echo first; echo wrong >&2; until [ -e /run/go ]; do sleep 0.01; echo tick; done; echo last; exit 3";
    host.lab.netbpf(["run", "-d", "--name", "writer", "--", "sh", "-c", script]).ok();
    // Each of these sees a line before the container may end.
    let followed = host
        .spawn("docker logs -f writer 2>/dev/null | { read line; echo $line; touch /run/seen; tail -n1; }");
    let attached = host.spawn(
        "{ docker attach writer; echo code $?; } | { read line; echo $line; touch /run/heard; tail -n2; }",
    );
    eventually("both see the output", || {
        (host.lab.path("/run/seen").exists() && host.lab.path("/run/heard").exists()).then_some(())
    });
    std::fs::write(host.lab.path("/run/go"), "").expect("a file");
    assert_eq!(followed.output().ok().stdout, "first\nlast\n");
    assert_eq!(attached.output().ok().stdout, "tick\nlast\ncode 3\n");

    let logs = host.docker("logs writer").ok();
    assert!(logs.stdout.starts_with("first\ntick\n") && logs.stdout.ends_with("tick\nlast\n"), "{logs}");
    assert_eq!(logs.stderr, "wrong\n");
    host.prints("logs --tail 1 writer", "last\n");
    let timed = host.docker("logs -t -n 1 writer").ok();
    assert!(timed.text().starts_with("20") && timed.text().ends_with("Z last"), "{timed}");
    host.prints("logs --since 2100-01-01T00:00:00Z writer", "");
    host.prints("logs --until 2000-01-01T00:00:00Z writer", "");
    host.refuses("logs nosuch", "No such container: nosuch");
    host.refuses("attach writer", "cannot attach to a stopped container");
    // The next run only, although the log has the first one, too.
    host.docker("start -a writer").fails_with(3, "wrong");
    for file in ["go", "seen", "heard"] {
        std::fs::remove_file(host.lab.path(format!("/run/{file}"))).expect("a file");
    }
    host.finish();
}

/// A terminal in Python: `docker exec -it web sh`, whose window is made larger.
const TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios
def resize(rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
def read_until(text):
    global heard
    while text not in heard:
        heard += os.read(terminal, 4096)
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
def shows(text):
    global heard
    while text not in heard:
        heard = b''
        os.write(terminal, b'stty size; echo don""e\n')
        read_until(b'done')
heard = b''
resize(33, 101)
os.write(terminal, b'tty\n')
read_until(b'/dev/pts/')
shows(b'33 101')
resize(44, 102)
shows(b'44 102')
os.write(terminal, b'exit 5\n')
try:
    while os.read(terminal, 4096):
        pass
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn programs_in_containers() {
    let host = Host::start();
    let output =
        host.docker("exec -e COLOUR=red -w /tmp web sh -c 'echo $COLOUR; pwd; echo wrong >&2; exit 7'");
    let output = output.fails_with(7, "wrong");
    assert_eq!(output.stdout, "red\n/tmp\n");
    assert_eq!(host.spawn("echo hello | docker exec -i web cat").output().ok().stdout, "hello\n");
    // More than all buffers on the way hold, in both directions.
    let many = "head -c 3000000 /dev/zero | tr '\\0' x | docker exec -i web cat | wc -c";
    assert_eq!(host.spawn(many).output().ok().text(), "3000000");
    // A program that does not read its input.
    host.spawn("yes | head -c 3000000 | docker exec -i web true").output().ok();
    let nothing = host.docker("exec web nosuch");
    assert_eq!(nothing.status.code(), Some(127), "{nothing}");
    assert!(nothing.stdout.contains(r#"exec: "nosuch": executable file not found in $PATH"#), "{nothing}");
    host.refuses("exec -u nobody web true", "netbpf runs all programs of a container as root");
    host.refuses("exec nosuch true", "No such container: nosuch");

    host.prints("exec -d web sleep 1000", "");
    let top = host.docker("top web").ok();
    let lines: Vec<_> = top.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert_eq!(lines[0][..3], ["UID", "PID", "PPID"]);
    assert_eq!(lines[1][7..], ["sleep", "infinity"], "{top}");
    assert_eq!((lines.len(), &lines[2][7..]), (3, &["sleep", "1000"][..]), "{top}");
    assert_eq!(lines[1][1], host.lab.pid("web").to_string());
    let top = host.docker("top web -o pid,args").ok();
    assert_eq!(top.stdout.lines().count(), 3, "{top}");
    host.refuses("top web -o args", "Couldn't find PID field in ps output");
    host.refuses("top web --nosuch", "ps: ");

    // The container's end is that of its programs.
    let ended = host.spawn("docker exec web sh -c 'echo ready; sleep 1000'; echo code $?");
    eventually("the program runs", || {
        (host.docker("top web").ok().stdout.lines().count() == 5).then_some(())
    });
    host.docker("kill web").ok();
    assert_eq!(ended.output().ok().stdout, "ready\ncode 137\n");
    host.prints("wait web", "137\n");
    host.refuses("exec web true", "is not running");
    host.refuses("top web", "is not running");

    host.docker("start web").ok();
    let client = engine::client();
    let terminal = ["python3", "-c", TERMINAL, client, "-H", SOCKET, "exec", "-it", "web", "sh"];
    host.lab.host(terminal).fails_with(5, "");
    host.finish();
}

#[test]
fn what_the_host_and_its_containers_do() {
    let host = Host::start();
    let version =
        host.docker("version --format '{{.Server.Version}} {{.Server.APIVersion}} {{.Server.Os}}'").ok();
    assert_eq!(version.text(), format!("{} 1.55 linux", env!("CARGO_PKG_VERSION")));
    host.prints("info --format '{{.Containers}} {{.ContainersRunning}} {{.Images}} {{.Swarm.LocalNodeState}} {{.OSType}}'", "1 1 0 inactive linux\n");
    host.prints(
        "system df --format '{{.Type}} {{.TotalCount}} {{.Active}}'",
        "Images 0 0\nContainers 1 1\nLocal Volumes 0 0\nBuild Cache 0 0\n",
    );
    let stats = host.docker("stats --no-stream --format '{{.Name}} {{.PIDs}} {{.MemUsage}}' web").ok();
    assert!(stats.text().starts_with("web 1 ") && !stats.text().starts_with("web 1 0B"), "{stats}");
    host.lab.netbpf(["exec", "web", "ping", "-c1", "10.1.0.1"]).ok();
    eventually("the ping is counted", || {
        let stats = host.docker("stats --no-stream --format '{{.NetIO}}' web").ok();
        (!stats.text().starts_with("0B") && !stats.text().ends_with(" 0B")).then_some(())
    });

    // All of the past, and then what happens.
    let events = host.spawn(
        "docker events --since 0 --filter container=web --filter container=shop \
         --format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}}' >/run/events",
    );
    let heard = |text: &str| {
        let heard = std::fs::read_to_string(host.lab.path("/run/events")).unwrap_or_default();
        (heard == text).then_some(())
    };
    let past = "container create web\ncontainer start web\n";
    eventually("the past is told", || heard(past));
    host.docker("rename web shop").ok();
    eventually("the renaming is told", || heard(&format!("{past}container rename shop\n")));
    drop(events);
    std::fs::remove_file(host.lab.path("/run/events")).expect("a file");
    let past = host.docker("events --since 2000-01-01T00:00:00Z --until $(date +%s).5 --filter type=network --format '{{.Action}}'").ok();
    assert!(past.stdout.contains("create\nconnect\n"), "{past}");

    // By the name of a context, as README says.
    let client = engine::client();
    let context = format!(
        "export DOCKER_CONFIG=/run/client; {client} context create netbpf --docker host={SOCKET} && {client} --context netbpf network ls -q --filter name=mynet"
    );
    host.lab.host(["sh", "-c", &context]).ok();
    host.lab.host(["rm", "-r", "/run/client"]).ok();
    host.finish();
}

#[test]
fn what_netbpf_does_not_have() {
    let host = Host::start();
    for list in ["images -q", "volume ls -q", "plugin ls -q"] {
        host.prints(list, "");
    }
    for (line, message) in [
        ("run --rm busybox true", "netbpf has no images"),
        ("create busybox", "netbpf has no images"),
        ("pull busybox", "netbpf has no images"),
        ("import /dev/null", "netbpf has no images"),
        ("commit web", "netbpf has no images"),
        ("rmi busybox", "No such image: busybox"),
        ("volume create x", "netbpf has no volumes"),
        ("volume inspect x", "o such volume"),
        ("plugin inspect x", "plugin"),
        ("node ls", "This node is not a swarm manager"),
        ("swarm init", "netbpf has no swarm"),
        ("pause web", "netbpf cannot pause containers"),
        ("update --memory 10m web", "netbpf limits no CPU and no memory"),
        ("cp web:/etc/hosts -", "netbpf copies no files"),
        ("export web", "netbpf copies no files"),
        ("diff web", "netbpf copies no files"),
    ] {
        host.refuses(line, message);
    }
    host.refuses("inspect nosuch", "No such object: nosuch");
    assert_eq!(host.state("web"), "running 0");
    host.finish();
}
