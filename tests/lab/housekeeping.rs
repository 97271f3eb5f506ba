//! Events, other names, restarts and pruning: `events`, `rename`, `--restart`, and `network prune` by label and age.

use netbpf_tests::lab::{Lab, eventually};
use serde_json::Value;

/// The events so far: type, action and name.
fn told(lab: &Lab, filters: &[&str]) -> Vec<String> {
    let format = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}";
    let words = [&["events", "--since", "10m", "--until", "0s", "--format", format], filters].concat();
    lab.netbpf(words).ok().stdout.lines().map(str::to_owned).collect()
}

#[test]
fn events_have_docker_s_text_and_order() {
    let lab = Lab::start();
    lab.network("mynet", "");
    lab.run("web", "--net mynet --label app=shop");
    lab.netbpf(["connect", "bridge", "web"]).ok();
    lab.netbpf(["disconnect", "bridge", "web"]).ok();
    lab.netbpf(["rename", "web", "shop"]).ok();
    lab.netbpf(["stop", "-t", "0", "shop"]).ok();
    lab.netbpf(["rm", "shop"]).ok();
    lab.netbpf(["network", "prune", "-f"]).ok();
    assert_eq!(
        told(&lab, &["--filter", "type=container"]),
        [
            "create web",
            "start web",
            "rename shop",
            "kill shop",
            "kill shop",
            "die shop",
            "stop shop",
            "destroy shop"
        ]
        .map(|event| format!("container {event}"))
    );
    assert_eq!(
        told(&lab, &["--filter", "network=mynet"]),
        ["create", "connect", "disconnect", "destroy"].map(|event| format!("network {event} mynet"))
    );
    assert_eq!(
        told(&lab, &["--filter", "network=bridge", "--filter", "event=connect"]),
        ["network connect bridge"]
    );
    assert_eq!(
        told(&lab, &["--filter", "label=app=shop", "--filter", "event=start"]),
        ["container start web"]
    );

    let json = lab.netbpf(["events", "--since", "10m", "--until", "0s", "--format", "json"]).ok();
    let events: Vec<Value> =
        json.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let die = events.iter().find(|event| event["Action"] == "die").expect("it ended");
    let attributes = &die["Actor"]["Attributes"];
    assert_eq!(
        (&die["status"], &die["Type"], &die["scope"]),
        (&"die".into(), &"container".into(), &"local".into())
    );
    assert_eq!((&attributes["exitCode"], &attributes["app"]), (&"137".into(), &"shop".into()));
    let prune = events.iter().find(|event| event["Action"] == "prune").expect("it was pruned");
    assert_eq!(prune["Actor"]["Attributes"]["reclaimed"], "0");
    assert!(events.iter().any(|event| {
        event["Action"] == "connect" && event["Actor"]["Attributes"]["container"] == die["Actor"]["ID"]
    }));
}

#[test]
fn a_follower_gets_events_until_the_daemon_ends() {
    let lab = Lab::start();
    let follower = lab.spawn_netbpf(["events", "--filter", "type=network", "--filter", "event=create"]);
    let until = lab.spawn_netbpf([
        "events",
        "--since",
        "0",
        "--until",
        "2099-01-01T00:00:00Z",
        "--filter",
        "event=create",
    ]);
    // Creates a network each time, because nothing tells when a follower has started.
    let networks: Vec<String> = (0..20).map(|number| format!("n{number}")).collect();
    for name in &networks {
        lab.network(name, "");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    lab.stop_daemon();
    let heard = follower.output().ok().stdout;
    let last = heard.lines().last().expect("something was heard");
    assert!(last.contains(" network create ") && last.ends_with("(name=n19, type=bridge)"), "{last}");
    let since_the_start = until.output().ok().stdout;
    assert_eq!(since_the_start.lines().count(), 20, "{since_the_start}");
    lab.start_daemon();
    lab.netbpf(["events", "--filter", "colour=red"])
        .fails_with(1, "Error response from daemon: invalid filter 'colour'");
}

#[test]
fn rename_takes_effect_at_once_and_frees_the_old_name() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.run("one", "--net mynet");
    lab.run("two", "--net mynet");
    lab.exec("two", "ping -c1 -W2 one").ok();
    lab.netbpf(["rename", "one", "first"]).ok();
    assert!(lab.exec("two", "ping -c1 -W2 first").ok().stdout.contains("first.mynet (10.1.0.2)"));
    assert!(!lab.exec("two", "ping -c1 -W2 one").status.success());
    lab.run("one", "--net mynet");
    assert!(lab.exec("two", "ping -c1 -W2 one").ok().stdout.contains("10.1.0.4"));
    let id = lab.inspect("two")["Id"].as_str().expect("an ID").to_owned();
    let refuses = |words: [&str; 2], message: &str| {
        lab.netbpf([&["rename"], &words[..]].concat())
            .fails_with(1, &format!("Error response from daemon: {message}"));
    };
    refuses(
        ["first", "two"],
        &format!(
            "Conflict. The container name \"/two\" is already in use by container \"{id}\". You have to remove (or \
             rename) that container to be able to reuse that name."
        ),
    );
    refuses(["first", "first"], "Renaming a container with the same name as its current name");
    refuses(["first", "a b"], "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    refuses(["first", ""], "Neither old nor new names may be empty");
    refuses(["nobody", "other"], "No such container: nobody");
    lab.restart_daemon();
    assert_eq!(lab.inspect("first")["Name"], "/first");
    lab.netbpf(["stop", "-t", "0", "first"]).ok();
    lab.netbpf(["rename", "first", "again"]).ok();
    lab.netbpf(["start", "again"]).ok();
    lab.exec("two", "ping -c1 -W2 again").ok();
}

fn status(lab: &Lab, name: &str) -> String {
    lab.inspect(name)["State"]["Status"].as_str().expect("a status").to_owned()
}

fn restarts(lab: &Lab, name: &str) -> u64 {
    lab.inspect(name)["RestartCount"].as_u64().expect("a count")
}

#[test]
fn a_container_is_restarted_by_its_policy() {
    let lab = Lab::start();
    lab.network("mynet", "");
    let run = |name: &str, policy: &str, command: &str| {
        let words =
            ["run", "-d", "--name", name, "--net", "mynet", "--restart", policy, "--", "sh", "-c", command];
        lab.netbpf(words).ok();
    };
    run("thrice", "on-failure:3", "exit 5");
    eventually("three restarts, and no more", || (status(&lab, "thrice") == "exited").then_some(()));
    assert_eq!((restarts(&lab, "thrice"), lab.inspect("thrice")["State"]["ExitCode"].as_i64()), (3, Some(5)));

    run("well", "on-failure", "exit 0");
    eventually("it ends for good", || (status(&lab, "well") == "exited").then_some(()));
    assert_eq!(restarts(&lab, "well"), 0);

    run("always", "always", "sleep infinity");
    let pid = lab.pid("always");
    lab.host(["kill", "-9", &pid.to_string()]).ok();
    eventually("it runs again", || {
        (restarts(&lab, "always") == 1 && status(&lab, "always") == "running").then_some(())
    });
    assert_ne!(lab.pid("always"), pid);
    lab.exec("always", "ping -c1 -W2 always").ok();
    // A manual stop is final, and a manual start resets the count.
    lab.netbpf(["kill", "always"]).ok();
    eventually("it has ended", || (status(&lab, "always") == "exited").then_some(()));
    lab.netbpf(["start", "always"]).ok();
    assert_eq!(restarts(&lab, "always"), 0);
    lab.netbpf(["rm", "-f", "always"]).ok();

    run("loop", "always", "exit 1");
    eventually("it waits", || {
        (restarts(&lab, "loop") >= 3 && status(&lab, "loop") == "restarting").then_some(())
    });
    // It also runs for moments.
    eventually("it is listed as restarting", || {
        let listed = lab.netbpf(["ps", "-a", "--filter", "name=loop", "--format", "{{.Status}}"]).ok();
        listed.text().starts_with("Restarting (1) ").then_some(())
    });
    lab.netbpf(["rm", "loop"]).fails_with(
        1,
        "cannot remove container \"/loop\": container is restarting: stop the container before removing or force remove",
    );
    lab.netbpf(["stop", "loop"]).ok();
    assert_eq!(status(&lab, "loop"), "exited");
    lab.netbpf(["run", "--rm", "--restart", "always", "--", "true"])
        .fails_with(125, "netbpf: conflicting options: cannot specify both --restart and --rm");
    lab.netbpf(["run", "-it", "--", "sh"]).fails_with(125, "netbpf: run has no -i and no -t");
    lab.netbpf(["run", "--restart", "often", "--", "true"]).fails_with(
        125,
        "invalid restart policy: unknown policy 'often'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
    );
    lab.netbpf(["run", "--restart", "always:3", "--", "true"])
        .fails_with(125, "invalid restart policy: maximum retry count can only be used with 'on-failure'");
}

#[test]
fn a_new_daemon_starts_containers_by_their_policy() {
    let lab = Lab::start();
    for policy in ["no", "always", "unless-stopped", "on-failure"] {
        for end in ["stopped", "killed"] {
            lab.run(&format!("{policy}-{end}"), &format!("--restart {policy}"));
        }
        lab.netbpf(["stop", "-t", "0", &format!("{policy}-stopped")]).ok();
    }
    // As when the host goes down: the containers end while no daemon runs.
    lab.kill_daemon();
    let supervisors = lab.processes("netbpf supervise");
    lab.host(["kill", "-9"].map(str::to_owned).into_iter().chain(supervisors.iter().map(u32::to_string)))
        .ok();
    eventually("all have ended", || lab.processes("netbpf supervise").is_empty().then_some(()));
    lab.start_daemon();
    let running = ["always-killed", "always-stopped", "on-failure-killed", "unless-stopped-killed"];
    eventually("those run that should", || {
        let listed = lab.netbpf(["ps", "--format", "{{.Names}}"]).ok();
        let mut names: Vec<&str> = listed.stdout.lines().collect();
        names.sort_unstable();
        (names == running && running.iter().all(|name| status(&lab, name) == "running")).then_some(())
    });
    assert_eq!(restarts(&lab, "always-stopped"), 0);
}

#[test]
fn networks_are_pruned_by_label_and_age() {
    let lab = Lab::start();
    for (name, options) in [("kept", "--label keep=1"), ("plain", ""), ("other", "--label keep=2")] {
        lab.network(name, options);
    }
    lab.network("used", "");
    lab.run("user", "--net used");
    let prune = |filters: &[&str]| {
        let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
        lab.netbpf(["network", "prune", "-f"].into_iter().chain(filters)).ok().stdout
    };
    assert_eq!(prune(&["until=1h"]), "");
    assert_eq!(prune(&["label=none"]), "");
    assert_eq!(prune(&["label=keep", "label!=keep=1"]), "Deleted Networks:\nother\n\n");
    assert_eq!(prune(&["label!=keep", "until=0s"]), "Deleted Networks:\nplain\n\n");
    assert_eq!(prune(&[]), "Deleted Networks:\nkept\n\n");
    lab.netbpf(["network", "prune", "-f", "--filter", "until=1h", "--filter", "until=2h"])
        .fails_with(1, "more than one until filter specified");
    lab.netbpf(["network", "prune", "-f", "--filter", "name=used"]).fails_with(1, "invalid filter 'name'");
    // A stopped container does not use its networks.
    lab.netbpf(["stop", "-t", "0", "user"]).ok();
    assert_eq!(prune(&[]), "Deleted Networks:\nused\n\n");
}
