//! `--link`: a line in `/etc/hosts` of one container on the default network; elsewhere a name that only this container
//! resolves.

use netbpf_tests::lab::Lab;

/// The line of a container's `/etc/hosts` that contains a name.
fn line(lab: &Lab, container: &str, name: &str) -> Option<String> {
    let hosts = lab.exec(container, "cat /etc/hosts").ok().stdout;
    let names = |line: &&str| line.split_whitespace().skip(1).any(|word| word == name);
    hosts.lines().find(names).map(str::to_owned)
}

#[test]
fn a_link_on_the_default_network_works_in_one_direction_and_follows_its_target() {
    let lab = Lab::start();
    lab.run("tomcat02", "");
    let short = lab.inspect("tomcat02")["Id"].as_str().expect("an ID")[..12].to_owned();
    lab.run("tomcat03", "--link tomcat02");
    lab.run("tomcat04", "--link tomcat02:db --link tomcat03:shop --hostname four");
    assert_eq!(line(&lab, "tomcat03", "tomcat02"), Some(format!("172.17.0.2\ttomcat02 {short}")));
    assert_eq!(line(&lab, "tomcat04", "db"), Some(format!("172.17.0.2\tdb {short} tomcat02")));
    for (container, name, works) in [
        ("tomcat03", "tomcat02", true),
        ("tomcat03", &short, true),
        ("tomcat04", "db", true),
        ("tomcat04", "tomcat02", true),
        ("tomcat04", "shop", true),
        ("tomcat02", "tomcat03", false),
        ("tomcat03", "db", false),
    ] {
        let ping = lab.exec(container, &format!("ping -c1 -W2 {name}"));
        assert_eq!(ping.status.success(), works, "{container} pings {name}\n{ping}");
    }
    assert_eq!(
        lab.inspect("tomcat04")["NetworkSettings"]["Networks"]["bridge"]["Links"],
        serde_json::json!(["tomcat02:db", "tomcat03:shop"])
    );

    // The target gets another address when it starts again.
    lab.netbpf(["stop", "-t", "0", "tomcat02"]).ok();
    assert_eq!((line(&lab, "tomcat03", "tomcat02"), line(&lab, "tomcat04", "db")), (None, None));
    lab.run("squatter", "");
    assert_eq!(lab.address("squatter", "bridge"), "172.17.0.2");
    lab.netbpf(["start", "tomcat02"]).ok();
    assert_eq!(line(&lab, "tomcat03", "tomcat02"), Some(format!("172.17.0.5\ttomcat02 {short}")));
    lab.exec("tomcat03", "ping -c1 -W2 tomcat02").ok();

    lab.netbpf(["rename", "tomcat02", "cat"]).ok();
    assert_eq!(line(&lab, "tomcat04", "db"), Some(format!("172.17.0.5\tdb {short} cat")));
    lab.netbpf(["disconnect", "bridge", "cat"]).ok();
    assert_eq!(line(&lab, "tomcat04", "db"), None);
    lab.netbpf(["connect", "bridge", "cat"]).ok();
    assert_eq!(line(&lab, "tomcat04", "db"), Some(format!("172.17.0.5\tdb {short} cat")));
    // The target ends by itself, while no daemon runs.
    lab.kill_daemon();
    let processes = lab.processes("netbpf supervise");
    let id = format!("/run/netbpf/containers/{}", lab_id(&lab, &short));
    let supervisor = processes.iter().find(|process| {
        std::fs::read_to_string(lab.path(format!("/proc/{process}/cmdline")))
            .is_ok_and(|line| line.contains(&id))
    });
    lab.host(["kill", "-9", &supervisor.expect("a supervisor").to_string()]).ok();
    lab.start_daemon();
    assert_eq!(line(&lab, "tomcat04", "db"), None);
    lab.netbpf(["rm", "cat"]).ok();
    lab.netbpf(["restart", "-t", "0", "tomcat04"]).ok();
    assert_eq!(line(&lab, "tomcat04", "shop").expect("a line").split('\t').next(), Some("172.17.0.3"));
}

/// The directory of a container, found by the start of its ID.
fn lab_id(lab: &Lab, short: &str) -> String {
    let folders = std::fs::read_dir(lab.path("/run/netbpf/containers")).expect("a folder");
    folders
        .flatten()
        .map(|folder| folder.file_name().to_string_lossy().into_owned())
        .find(|name| name.starts_with(short))
        .expect("a container")
}

#[test]
fn a_link_in_a_user_defined_network_is_a_name_for_one_container() {
    let lab = Lab::start();
    lab.network("mynet", "--subnet 10.1.0.0/24");
    lab.network("other", "--subnet 10.2.0.0/24");
    // The target need not exist yet.
    lab.run("app", "--net mynet --link postgres:db");
    lab.run("friend", "--net mynet");
    lab.exec("app", "ping -c1 -W2 db").fails_with(2, "");
    lab.run("postgres", "--net mynet");
    let ping = lab.exec("app", "ping -c1 -W2 db").ok();
    assert!(ping.stdout.contains("postgres.mynet (10.1.0.4)"), "{ping}");
    assert_eq!(lab.exec("app", "dig +short db.mynet").ok().text(), "10.1.0.4");
    lab.exec("friend", "ping -c1 -W2 db").fails_with(2, "");
    lab.exec("postgres", "ping -c1 -W2 db").fails_with(2, "");

    lab.netbpf(["connect", "other", "postgres"]).ok();
    lab.netbpf(["connect", "--link", "postgres:store", "other", "friend"]).ok();
    assert_eq!(lab.exec("friend", "dig +short store").ok().text(), "10.2.0.2");
    lab.exec("app", "ping -c1 -W2 store").fails_with(2, "");
    lab.netbpf(["disconnect", "other", "friend"]).ok();
    lab.exec("friend", "ping -c1 -W2 store").fails_with(2, "");

    lab.netbpf(["restart", "-t", "0", "app"]).ok();
    lab.restart_daemon();
    lab.exec("app", "ping -c1 -W2 db").ok();
    lab.netbpf(["rm", "-f", "postgres"]).ok();
    lab.exec("app", "ping -c1 -W2 db").fails_with(2, "");
}

#[test]
fn invalid_links_are_refused_and_leave_nothing() {
    let lab = Lab::start();
    lab.network("mynet", "");
    lab.run("elsewhere", "--net mynet");
    lab.netbpf(["run", "--name", "ended", "--", "true"]).ok();
    lab.run("one", "");
    let before = lab.netbpf(["ps", "-aq"]).ok().stdout;
    let no_container = "could not get container for nobody: No such container: nobody";
    let undefined = |what: &str| {
        format!(
            "conflicting options: {what} can't be used with links. This would result in undefined behavior"
        )
    };
    for (options, message) in [
        ("--link nobody:x", no_container.to_owned()),
        ("--link ended", "Cannot link to a non running container: /ended AS /new/ended".to_owned()),
        ("--link ended:e", "Cannot link to a non running container: /ended AS /new/e".to_owned()),
        (
            "--link elsewhere",
            "Cannot link to /elsewhere, as it does not belong to the default network".to_owned(),
        ),
        ("--link a:b:c", "bad format for links: a:b:c".to_owned()),
        ("--net mynet --link a:", "bad format for links: a:".to_owned()),
        ("--net container:one --link one", undefined("container type network")),
        ("--net host --link one", undefined("host type networking")),
    ] {
        let words =
            ["run", "--rm", "--name", "new"].into_iter().chain(options.split(' ')).chain(["--", "true"]);
        lab.netbpf(words).fails_with(125, &format!("Error response from daemon: {message}\n"));
        assert_eq!(lab.netbpf(["ps", "-aq"]).ok().stdout, before, "{options}");
    }
    lab.netbpf(["connect", "--link", "one", "bridge", "elsewhere"])
        .fails_with(1, "links are only supported for user-defined networks");
}
