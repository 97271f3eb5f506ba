//! The daemon is killed while a container of Docker joins a network: it has joined, or nothing of it is left.

use std::{thread, time::Duration};

use super::Dock;

#[test]
fn a_daemon_killed_during_a_connect_leaves_all_or_nothing() {
    let dock = Dock::start("");
    dock.docker_run("tomcat01", "");
    let conf = dock.conf("tomcat01");
    let mut outcomes = [0, 0];
    // A few times at least, and later each time until a connect was done before.
    for round in 0..60 {
        if round >= 12 && outcomes.iter().all(|count| *count > 0) {
            break;
        }
        let connect = dock.spawn_netbpf(["connect", "mynet", "tomcat01"]);
        thread::sleep(Duration::from_millis(12 * round));
        dock.kill_daemon();
        let _ = connect.output();
        dock.start_daemon();
        let is_member = dock.members().contains(&"tomcat01".to_owned());
        outcomes[usize::from(is_member)] += 1;
        if is_member {
            assert!(dock.conf("tomcat01").contains("nameserver 127.0.0.12"), "round {round}");
            dock.docker("exec tomcat01 ping -c1 native").ok();
            dock.exec("native", "ping -c1 tomcat01").ok();
            dock.netbpf(["disconnect", "mynet", "tomcat01"]).ok();
        }
        assert_eq!(dock.conf("tomcat01"), conf, "round {round}");
        dock.nothing_is_left_but(&["native"]);
    }
    assert!(outcomes.iter().all(|count| *count > 0), "killed before and after: {outcomes:?}");
    dock.finish();
}
