//! Tests of whole commands with a fake daemon: arguments, output and exit code.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query},
    http::StatusCode,
    response::IntoResponse,
    routing::{delete, get, post},
};
use serde_json::{Value, json};

use super::{
    args::{Process, parse_from},
    console::Console,
};
use crate::api::types;

/// The result of a command.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: u8,
    out: String,
    err: String,
}

fn outcome(code: u8, out: &str, err: &str) -> Outcome {
    Outcome { code, out: out.to_owned(), err: err.to_owned() }
}

/// Runs a command line, split at spaces, with a fake daemon.
async fn netbpf(router: Router, line: &str) -> Outcome {
    let args: Vec<&str> = line.split(' ').collect();
    netbpf_args(router, &args).await
}

async fn netbpf_args(router: Router, args: &[&str]) -> Outcome {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("netbpf.sock");
    let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut line = vec!["netbpf".into(), "--socket".into(), socket.into_os_string()];
    line.extend(args.iter().map(Into::into));
    let Ok(Process::Client(client)) = parse_from(line) else { panic!("{args:?} is no command") };
    let (mut console, output) = Console::of_test();
    let code = match client.run(&mut console).await {
        Ok(code) => code,
        Err(error) => {
            console.print_error(&error);
            error.exit_code()
        }
    };
    server.abort();
    Outcome { code, out: output.out(), err: output.err() }
}

/// The exit code of an invalid command line.
fn misuse(line: &str) -> u8 {
    let args = ["netbpf"].into_iter().chain(line.split(' ')).map(Into::into);
    parse_from(args).map(|_| ()).expect_err("no command").exit_code
}

fn refuse(status: StatusCode, message: &str) -> axum::response::Response {
    (status, Json(types::Error { message: message.to_owned(), exit_code: None })).into_response()
}

/// A fake daemon with one path, which keeps the body of the last request.
fn recorder(path: &str, answer: Value) -> (Router, Arc<Mutex<Value>>) {
    let body = Arc::new(Mutex::new(Value::Null));
    let kept = Arc::clone(&body);
    let route = post(move |Json(body): Json<Value>| async move {
        *kept.lock().expect("no panic before") = body;
        Json(answer)
    });
    (Router::new().route(path, route), body)
}

fn network(name: &str, id: &str) -> Value {
    json!({
        "Name": name, "Id": id.repeat(16), "Created": "2026-01-31T12:00:00.123456789Z", "Scope": "local",
        "Driver": "bridge", "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": {}, "Config": [
            { "Subnet": "192.168.0.0/16", "Gateway": "192.168.0.1" },
        ] },
        "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": { "Network": "" },
        "ConfigOnly": false, "Containers": {}, "Options": {}, "Labels": { "team": "blue" },
    })
}

/// A fake daemon with the networks `bridge` and `mynet`, and no container.
fn networks() -> Router {
    let list = json!([network("bridge", "0123"), network("mynet", "ab45")]);
    let find = |Path(name): Path<String>| async move {
        match name.as_str() {
            "mynet" => Json(network("mynet", "ab45")).into_response(),
            _ => refuse(StatusCode::NOT_FOUND, &format!("network {name} not found")),
        }
    };
    let remove = |Path(name): Path<String>| async move {
        match name.as_str() {
            "mynet" => StatusCode::NO_CONTENT.into_response(),
            "bridge" => {
                refuse(StatusCode::FORBIDDEN, "bridge is a pre-defined network and cannot be removed")
            }
            _ => refuse(StatusCode::NOT_FOUND, &format!("network {name} not found")),
        }
    };
    Router::new()
        .route("/networks", get(|| async { Json(list) }))
        .route("/networks/{name}", get(find))
        .route("/networks/{name}", delete(remove))
        .route(
            "/containers/{name}/json",
            get(|Path(name): Path<String>| async move {
                refuse(StatusCode::NOT_FOUND, &format!("No such container: {name}"))
            }),
        )
}

#[tokio::test]
async fn networks_are_listed() {
    let table = "\
NETWORK ID     NAME      DRIVER    SCOPE
012301230123   bridge    bridge    local
ab45ab45ab45   mynet     bridge    local
";
    assert_eq!(netbpf(networks(), "network ls").await, outcome(0, table, ""));
    assert_eq!(netbpf(networks(), "ls").await, outcome(0, table, ""));
    assert_eq!(netbpf(networks(), "ls -q").await, outcome(0, "012301230123\nab45ab45ab45\n", ""));
    let format = r#"{{.Name}} {{.Label "team"}} {{.CreatedAt}}"#;
    let line = "blue 2026-01-31 12:00:00.123456789 +0000 UTC";
    assert_eq!(
        netbpf_args(networks(), &["ls", "--format", format]).await,
        outcome(0, &format!("bridge {line}\nmynet {line}\n"), "")
    );
}

#[tokio::test]
async fn inspect_prints_the_objects_it_finds_and_an_error_for_the_others() {
    let json = "\
[
    {
        \"Name\": \"mynet\",
        \"Id\": \"ab45ab45ab45ab45ab45ab45ab45ab45ab45ab45ab45ab45ab45ab45ab45ab45\",
        \"Created\": \"2026-01-31T12:00:00.123456789Z\",
        \"Scope\": \"local\",
        \"Driver\": \"bridge\",
        \"EnableIPv4\": true,
        \"EnableIPv6\": false,
        \"IPAM\": {
            \"Driver\": \"default\",
            \"Options\": {},
            \"Config\": [
                {
                    \"Subnet\": \"192.168.0.0/16\",
                    \"Gateway\": \"192.168.0.1\"
                }
            ]
        },
        \"Internal\": false,
        \"Attachable\": false,
        \"Ingress\": false,
        \"ConfigFrom\": {
            \"Network\": \"\"
        },
        \"ConfigOnly\": false,
        \"Containers\": {},
        \"Options\": {},
        \"Labels\": {
            \"team\": \"blue\"
        }
    }
]
";
    let unknown = "Error response from daemon: network none not found\n";
    assert_eq!(netbpf(networks(), "network inspect mynet").await, outcome(0, json, ""));
    assert_eq!(netbpf(networks(), "network inspect none mynet").await, outcome(1, json, unknown));
    assert_eq!(netbpf(networks(), "network inspect none").await, outcome(1, "[]\n", unknown));
    assert_eq!(netbpf(networks(), "inspect mynet").await, outcome(0, json, ""));
    assert_eq!(netbpf(networks(), "inspect none").await, outcome(1, "[]\n", "Error: No such object: none\n"));
    let format = "{{range .IPAM.Config}}{{.Subnet}}{{.IPRange}}{{end}} {{json .IPAM.Config}}";
    assert_eq!(
        netbpf_args(networks(), &["network", "inspect", "-f", format, "mynet"]).await,
        outcome(0, "192.168.0.0/16 [{\"Subnet\":\"192.168.0.0/16\",\"Gateway\":\"192.168.0.1\"}]\n", "")
    );
    assert_eq!(netbpf(networks(), "inspect -f {{.Name mynet").await.code, 64);
}

#[tokio::test]
async fn networks_are_removed_one_by_one() {
    let errors = "\
Error response from daemon: bridge is a pre-defined network and cannot be removed
Error response from daemon: network none not found
";
    assert_eq!(netbpf(networks(), "network rm bridge none mynet").await, outcome(1, "mynet\n", errors));
    assert_eq!(netbpf(networks(), "network rm -f none mynet").await, outcome(0, "mynet\n", ""));
}

#[tokio::test]
async fn a_network_is_created_with_all_options() {
    let id = "ab45".repeat(16);
    let (router, body) = recorder("/networks/create", json!({ "Id": id }));
    let line =
        "create --subnet 192.168.0.0/16 --gateway 192.168.0.1 --label team=blue -o a=b --internal mynet";
    assert_eq!(netbpf(router, line).await, outcome(0, &format!("{id}\n"), ""));
    let body = body.lock().expect("no panic before").clone();
    assert_eq!(body["Name"], "mynet");
    assert_eq!(body["Driver"], "bridge");
    assert_eq!(body["IPAM"]["Config"], json!([{ "Subnet": "192.168.0.0/16", "Gateway": "192.168.0.1" }]));
    assert_eq!(body["Labels"], json!({ "team": "blue" }));
    assert_eq!(body["Options"], json!({ "a": "b" }));
    assert_eq!(body["Internal"], true);
    let error = "no matching subnet for gateway 10.0.0.1\n";
    let line = "network create --subnet 192.168.0.0/16 --gateway 10.0.0.1 mynet";
    assert_eq!(netbpf(Router::new(), line).await, outcome(1, "", error));
}

#[tokio::test]
async fn connect_prints_nothing() {
    let (router, body) = recorder("/networks/{name}/connect", json!({}));
    let line = "connect --ip 192.168.0.9 --alias a,b --gw-priority -1 mynet netns:blue";
    assert_eq!(netbpf(router, line).await, outcome(0, "", ""));
    let body = body.lock().expect("no panic before").clone();
    assert_eq!(body["Container"], "netns:blue");
    assert_eq!(body["EndpointConfig"]["IPAMConfig"], json!({ "IPv4Address": "192.168.0.9" }));
    assert_eq!(body["EndpointConfig"]["Aliases"], json!(["a", "b"]));
    assert_eq!(body["EndpointConfig"]["GwPriority"], -1);
}

/// A fake daemon that finds everything but `none` at this path, and keeps the body of the last request.
fn updater(path: &str) -> (Router, Arc<Mutex<Value>>) {
    let body = Arc::new(Mutex::new(Value::Null));
    let kept = Arc::clone(&body);
    let route = post(move |Path(name): Path<String>, Json(body): Json<Value>| async move {
        *kept.lock().expect("no panic before") = body;
        match name.as_str() {
            "none" => refuse(StatusCode::NOT_FOUND, "none not found"),
            _ => StatusCode::NO_CONTENT.into_response(),
        }
    });
    (Router::new().route(path, route), body)
}

#[tokio::test]
async fn options_of_containers_and_networks_are_updated() {
    let error = "Error response from daemon: none not found\n";
    let options = json!({ "netbpf.guard": "off", "netbpf.addresses": "" });
    let (router, body) = updater("/containers/{name}/update");
    let line =
        "update --network mynet --driver-opt netbpf.guard=off --driver-opt netbpf.addresses= web none db";
    assert_eq!(netbpf(router, line).await, outcome(1, "web\ndb\n", error));
    let expected = json!({ "Network": "mynet", "DriverOpts": options });
    assert_eq!(*body.lock().expect("no panic before"), expected);
    let (router, body) = updater("/networks/{name}/update");
    let line = "network update -o netbpf.guard=off -o netbpf.addresses= mynet none lab";
    assert_eq!(netbpf(router, line).await, outcome(1, "mynet\nlab\n", error));
    assert_eq!(*body.lock().expect("no panic before"), json!({ "Options": options }));
}

#[tokio::test]
async fn containers_are_listed() {
    let now = jiff::Timestamp::now().as_second();
    let list = json!([
        { "Id": "0123".repeat(16), "Names": ["/web"], "Image": "host",
          "Command": "python3 -m http.server 80", "Created": now - 130, "State": "running",
          "Status": "Up 2 minutes", "Labels": {}, "Networks": ["mynet", "redis"],
          "Ports": [{ "IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp" }] },
        { "Id": "ab45".repeat(16), "Names": ["/db"], "Image": "/srv/db", "Command": "sh", "Created": now - 7200,
          "State": "exited", "Status": "Exited (0) 3 seconds ago", "Labels": {}, "Networks": [] },
    ]);
    let router = Router::new().route(
        "/containers/json",
        get(|Query(query): Query<std::collections::HashMap<String, String>>| async move {
            assert_eq!(query["all"], "true");
            assert_eq!(query["filters"], r#"{"name":["web","db"]}"#);
            Json(list)
        }),
    );
    let table = "\
CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS                     PORTS                  NAMES
012301230123   host      \"python3 -m http.ser…\"   2 minutes ago   Up 2 minutes               0.0.0.0:8080->80/tcp   web
ab45ab45ab45   /srv/db   \"sh\"                     2 hours ago     Exited (0) 3 seconds ago                          db
";
    let filters = "--filter name=web --filter name=db";
    assert_eq!(netbpf(router.clone(), &format!("ps -a {filters}")).await, outcome(0, table, ""));
    let format =
        ["ps", "-a", "--filter", "name=web", "-f", "name=db", "--format", "{{.Names}}: {{.Networks}}"];
    assert_eq!(netbpf_args(router, &format).await, outcome(0, "web: mynet,redis\ndb: \n", ""));
}

#[tokio::test]
async fn names_are_printed_in_order_and_errors_are_reported() {
    let stop = |Path(name): Path<String>| async move {
        match name.as_str() {
            "slow" => {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                StatusCode::NO_CONTENT.into_response()
            }
            "stopped" => StatusCode::NOT_MODIFIED.into_response(),
            _ => refuse(StatusCode::NOT_FOUND, &format!("No such container: {name}")),
        }
    };
    let router = Router::new()
        .route("/containers/{name}/stop", post(stop))
        .route("/containers/{name}/start", post(stop))
        .route("/containers/{name}", delete(stop));
    let error = "Error response from daemon: No such container: x\n";
    let names = "slow\nstopped\n";
    assert_eq!(netbpf(router.clone(), "stop slow x stopped").await, outcome(1, names, error));
    let start = format!("{error}failed to start containers: x\n");
    assert_eq!(netbpf(router.clone(), "start slow x stopped").await, outcome(1, names, &start));
    assert_eq!(netbpf(router, "rm -f slow x stopped").await, outcome(0, names, ""));
}

/// A fake daemon whose only container prints something and ends.
fn foreground(start: fn() -> axum::response::Response) -> Router {
    let line =
        |stream: &str, log: &str| json!({ "log": log, "stream": stream, "time": "" }).to_string() + "\n";
    let output = line("stdout", "one\n") + &line("stderr", "two\n") + &line("stdout", "three");
    Router::new()
        .route("/containers/create", post(|| async { Json(json!({ "Id": "0123" })) }))
        .route("/containers/0123/start", post(move || async move { start() }))
        .route("/containers/0123/logs", get(|| async { Body::from(output) }))
        .route("/containers/0123/wait", post(|| async { Json(json!({ "StatusCode": 7 })) }))
}

#[tokio::test]
async fn run_in_the_foreground_prints_the_output_and_returns_the_exit_code() {
    let started = || StatusCode::NO_CONTENT.into_response();
    let ended = outcome(7, "one\nthree", "two\n");
    assert_eq!(netbpf(foreground(started), "run --rm -- sh -c x").await, ended);
    assert_eq!(netbpf(foreground(started), "run -d sh").await, outcome(0, "0123\n", ""));
}

#[tokio::test]
async fn run_fails_with_docker_s_exit_codes() {
    let not_found = || {
        let message = "exec: \"x\": executable file not found in $PATH".to_owned();
        (StatusCode::BAD_REQUEST, Json(types::Error { message, exit_code: Some(127) })).into_response()
    };
    let error = "\
netbpf: Error response from daemon: exec: \"x\": executable file not found in $PATH

Run 'netbpf run --help' for more information
";
    assert_eq!(netbpf(foreground(not_found), "run x").await, outcome(127, "", error));
    let taken = || refuse(StatusCode::CONFLICT, "taken");
    assert_eq!(netbpf(foreground(taken), "run -d x").await.code, 125);
}

#[tokio::test]
async fn run_accepts_docker_s_options() {
    let (router, body) = recorder("/containers/create", json!({ "Id": "0123" }));
    let line = "run -d --name web --net mynet --ip 192.168.0.9 --mac-address 02:42:c0:a8:00:09 --network-alias a --link db:d \
                --net-alias b -h host --add-host db=10.0.0.1 --dns 1.1.1.1 --dns-search . --dns-option ndots:1 -l x=y \
                -e A=b -e NETBPF_UNSET -w /tmp --rootfs /srv -p 8080:80 --publish 127.0.0.1::53/udp --expose 90 -P python3 -m http.server -d /srv";
    netbpf(router, line).await;
    let body = body.lock().expect("no panic before").clone();
    let request: types::ContainerCreate = serde_json::from_value(body).expect("the API's message");
    assert_eq!(request.cmd, ["python3", "-m", "http.server", "-d", "/srv"]);
    assert_eq!(request.env, ["A=b"]);
    assert_eq!(request.working_dir, "/tmp");
    assert_eq!(request.hostname, "host");
    assert_eq!(request.rootfs, Some("/srv".into()));
    assert_eq!(request.network_mode, "mynet");
    assert_eq!(request.endpoint_config.mac_address, "02:42:c0:a8:00:09");
    assert_eq!(request.endpoint_config.aliases, Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(request.endpoint_config.links, Some(vec!["db:d".to_owned()]));
    assert_eq!(request.extra_hosts, ["db:10.0.0.1"]);
    assert_eq!(
        (request.dns, request.dns_search, request.dns_options),
        (vec!["1.1.1.1".to_owned()], vec![".".to_owned()], vec!["ndots:1".to_owned()])
    );
    assert_eq!(request.labels["x"], "y");
    assert_eq!(
        serde_json::to_value(&request.host_config.port_bindings).expect("JSON"),
        json!({
            "53/udp": [{ "HostIp": "127.0.0.1", "HostPort": "" }],
            "80/tcp": [{ "HostIp": "", "HostPort": "8080" }],
        })
    );
    assert!(request.host_config.publish_all_ports);
    assert_eq!(request.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp", "90/tcp"]);
}

#[tokio::test]
async fn published_ports_are_printed_as_in_docker() {
    let at = |ip: &str, port: &str| json!({ "HostIp": ip, "HostPort": port });
    let ports = json!({
        "443/tcp": null,
        "53/udp": [at("127.0.0.1", "5353")],
        "8080/tcp": [at("", "")],
        "80/tcp": [at("0.0.0.0", "9876"), at("::", "9876")],
    });
    let state = json!({
        "Status": "running", "Running": true, "Restarting": false, "Pid": 7, "ExitCode": 0, "Error": "", "StartedAt": "", "FinishedAt": "",
    });
    let web = json!({
        "Id": "0123", "Created": "", "Path": "", "Args": [], "State": state, "Image": "", "ResolvConfPath": "",
        "HostnamePath": "", "HostsPath": "", "LogPath": "", "Name": "/web", "RestartCount": 0, "HostConfig": {}, "Config": {},
        "NetworkSettings": { "SandboxKey": "", "Networks": {}, "Ports": ports },
    });
    let router = Router::new().route("/containers/web/json", get(|| async { Json(web) }));
    let all = "53/udp -> 127.0.0.1:5353\n80/tcp -> 0.0.0.0:9876\n80/tcp -> [::]:9876\n";
    let missing = |port| format!("no public port '{port}' published for web\n");
    for (line, expected) in [
        ("port web", outcome(0, all, "")),
        ("port web 80", outcome(0, "0.0.0.0:9876\n[::]:9876\n", "")),
        ("port web 53/udp", outcome(0, "127.0.0.1:5353\n", "")),
        ("port web 53", outcome(1, "", &missing("53"))),
        ("port web 443/tcp", outcome(1, "", &missing("443/tcp"))),
        ("port web 8080", outcome(1, "", &missing("8080"))),
        ("port web http", outcome(1, "", "invalid port (http): expected a number up to 65535\n")),
    ] {
        assert_eq!(netbpf(router.clone(), line).await, expected, "{line}");
    }
}

#[test]
fn an_invalid_command_line_fails_with_docker_s_exit_codes() {
    for (line, code) in [
        ("nope", 1),
        ("network", 1),
        ("network ls --nope", 1),
        ("network create", 1),
        ("network create --ipv6=maybe x", 1),
        ("network update mynet", 1),
        ("update --driver-opt netbpf.guard=off web", 1),
        ("port", 1),
        ("port web 80 81", 1),
        ("run", 125),
        ("run --nope x", 125),
        ("run -p 0-1:80 x", 125),
        ("run -p 80:80-81 x", 125),
        ("run -p 80/icmp x", 125),
        ("run --expose 80:80 x", 125),
        ("run --restart on-failure:x y", 125),
        ("run --add-host web x", 125),
        ("--socket /x run --dns x y", 125),
        ("exec", 1),
        ("exec --nope web ls", 1),
        ("--help", 0),
        ("run --help", 0),
        ("--version", 0),
    ] {
        assert_eq!(misuse(line), code, "{line}");
    }
}

#[test]
fn commands_are_well_formed() {
    super::args::command().debug_assert();
}

#[tokio::test]
async fn an_explanation_ends_with_the_verdict() {
    let explained = |verdict: &str| {
        json!([{
            "Type": "explanation", "Time": "2026-01-31T12:00:00Z", "Version": "0", "Protocol": "tcp", "Port": 80,
            "Source": { "Kind": "container", "Name": "web", "ID": "", "Network": "", "Address": "" },
            "Destination": { "Kind": "host", "Name": "host", "ID": "", "Network": "", "Address": "" },
            "Verdict": verdict, "Code": "not-listening", "Summary": "nobody listens", "Advice": "", "Hops": [],
        }])
    };
    for (verdict, code) in [("passes", 0), ("blocked", 3), ("undecided", 4)] {
        let answer = explained(verdict);
        let ask = |Query(query): Query<Vec<(String, String)>>| async move {
            let words: Vec<_> = query.into_iter().map(|(_, word)| word).collect();
            assert_eq!(words, ["web", "host:8080", "tcp"]);
            Json(answer)
        };
        let daemon = Router::new().route("/explain", get(ask));
        let said = netbpf(daemon, "explain web host:8080 tcp --format {{.Code}}").await;
        assert_eq!(said, outcome(code, "not-listening\n", ""));
    }
    assert_eq!(misuse("explain"), 1);
}
