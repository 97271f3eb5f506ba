//! Other firewalls on the same host: whose rules win, which traffic passes in spite of them, and what is reported.

use netbpf_tests::lab::{Lab, Process, eventually};

use super::outside::Neighbourhood;

/// A chain as iptables, ufw and Docker make it.
const POLICY: &str = "add table ip filter; \
                      add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }";

/// A neighbourhood with the container `web` at 172.17.0.2.
fn neighbourhood() -> Neighbourhood {
    let lab = Neighbourhood::start();
    lab.run("web", "");
    assert_eq!(lab.address("web", "bridge"), "172.17.0.2");
    lab
}

#[track_caller]
fn nft(lab: &Lab, command: &str) -> String {
    lab.host(["nft", command]).ok().stdout
}

fn reaches(lab: &Lab, address: &str) -> bool {
    lab.exec("web", &format!("ping -c1 -W1 {address}")).status.success()
}

#[track_caller]
fn comes_to_reach(lab: &Lab, address: &str) {
    eventually(&format!("web reaches {address}"), || reaches(lab, address).then_some(()));
}

#[track_caller]
fn comes_to_miss(lab: &Lab, address: &str) {
    eventually(&format!("web does not reach {address}"), || (!reaches(lab, address)).then_some(()));
}

/// The lines of `doctor` about foreign chains.
#[track_caller]
fn firewall_rows(lab: &Lab) -> Vec<String> {
    let rows = lab.netbpf(["doctor"]).stdout;
    rows.lines().filter(|line| line.contains(" firewall ")).map(str::to_owned).collect()
}

/// The number of lines in the daemon's log with the name of a chain.
fn told(lab: &Lab, chain: &str) -> usize {
    lab.daemon_log().lines().filter(|line| line.contains(chain)).count()
}

#[test]
fn the_administrator_s_rules_win_whenever_they_were_added() {
    let lab = neighbourhood();
    let rule = "ip saddr 172.17.0.2 ip daddr 192.0.2.2 drop";
    // In a chain with policy `accept` and no other rule.
    nft(&lab, "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; }");
    nft(&lab, &format!("insert rule ip filter FORWARD {rule}"));
    assert!(!reaches(&lab, "192.0.2.2"));
    assert!(reaches(&lab, "203.0.113.2"));
    assert!(!nft(&lab, "list ruleset ip").contains("netbpf"), "no rule of netbpf is needed");
    // In a chain with policy `drop`.
    nft(&lab, "flush chain ip filter FORWARD");
    nft(&lab, POLICY);
    comes_to_reach(&lab, "192.0.2.2");
    // Behind netbpf's rules.
    nft(&lab, &format!("add rule ip filter FORWARD {rule}"));
    comes_to_miss(&lab, "192.0.2.2");
    assert!(reaches(&lab, "203.0.113.2"));
    nft(&lab, "add rule ip filter FORWARD oifname \"second\" drop");
    comes_to_miss(&lab, "203.0.113.2");
    let chain = nft(&lab, "list chain ip filter FORWARD");
    assert_eq!(chain.matches("netbpf0").count(), 2, "{chain}");
    // Before all other rules.
    nft(&lab, "flush chain ip filter FORWARD");
    comes_to_reach(&lab, "192.0.2.2");
    nft(&lab, &format!("insert rule ip filter FORWARD {rule}"));
    assert!(!reaches(&lab, "192.0.2.2"));
    assert!(reaches(&lab, "203.0.113.2"));
    // A rule that matches the device only.
    nft(&lab, "flush chain ip filter FORWARD; add rule ip filter FORWARD iifname \"netbpf0\" drop");
    comes_to_miss(&lab, "192.0.2.2");
    eventually("doctor names it", || {
        firewall_rows(&lab).iter().any(|row| row.contains("ip filter FORWARD has a rule")).then_some(())
    });
    nft(&lab, "delete table ip filter");
    comes_to_reach(&lab, "192.0.2.2");
}

#[test]
fn netbpf_s_rules_go_right_before_a_rule_that_drops_the_rest() {
    let lab = neighbourhood();
    let rule = "ip daddr 192.0.2.2 drop";
    let chain = "add table inet own; \
                 add chain inet own f { type filter hook forward priority 5; policy accept; }; \
                 add rule inet own f ct state established accept";
    // A last rule of the chain itself; of a chain that is jumped to (ufw); of a chain that is the default target
    // (firewalld's default zone), with a chain of the administrator before it.
    let jump = "add chain inet own end; add rule inet own end reject; add rule inet own f jump end";
    let zone = "add chain inet own deny; add chain inet own public; add chain inet own zones; \
                add rule inet own public jump deny; add rule inet own public counter reject; \
                add rule inet own zones iifname \"lo\" goto end; add rule inet own zones goto public; \
                add rule inet own f jump zones";
    let ends = [
        ("f", "add rule inet own f counter drop".to_owned()),
        ("f", jump.to_owned()),
        ("deny", format!("add chain inet own end; {zone}")),
    ];
    for (administrators, end) in ends {
        nft(&lab, &format!("{chain}; {end}"));
        comes_to_reach(&lab, "192.0.2.2");
        nft(&lab, &format!("insert rule inet own {administrators} {rule}"));
        assert!(!reaches(&lab, "192.0.2.2"), "{end}");
        assert!(reaches(&lab, "203.0.113.2"), "{end}");
        let listed = nft(&lab, "list table inet own");
        assert_eq!(listed.matches("comment \"netbpf\"").count(), 2, "{listed}");
        nft(&lab, "delete table inet own");
    }
    comes_to_reach(&lab, "192.0.2.2");
}

#[test]
fn netbpf_recognizes_its_rules_after_iptables_save_and_restore() {
    let lab = neighbourhood();
    lab.host(["iptables", "-P", "FORWARD", "DROP"]).ok();
    comes_to_reach(&lab, "192.0.2.2");
    let restore =
        "iptables-save >/run/saved; iptables -F FORWARD; iptables-restore </run/saved; rm /run/saved";
    lab.host(["sh", "-ec", restore]).ok();
    lab.host(["iptables", "-A", "FORWARD", "-d", "192.0.2.2", "-j", "DROP"]).ok();
    comes_to_miss(&lab, "192.0.2.2");
    let rules = lab.host(["iptables", "-S", "FORWARD"]).ok().stdout;
    assert_eq!(rules.matches("netbpf0").count(), 2, "{rules}");
    // iptables can read the table, so it is not taken for another tool's.
    assert!(rules.contains("-A FORWARD -i netbpf0 -m comment --comment netbpf -j ACCEPT"), "{rules}");
    lab.host(["sh", "-ec", "nft delete table ip filter; rm -f /run/xtables.lock"]).ok();
}

/// Starts a process that owns a table with a chain that rejects unmatched packets, as firewalld does with
/// `NftablesTableOwner=yes`.
#[track_caller]
fn owned_table(lab: &Lab) -> Process {
    let script = "{ echo 'add table inet firewalld { flags owner; }'
          echo 'add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }'
          echo 'add rule inet firewalld filter_FORWARD ct state established accept'
          echo 'add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited'
          sleep infinity; } | nft -i";
    let owner = lab.spawn(["sh", "-c", script]);
    eventually("the table is there", || {
        let listed = lab.host(["nft", "list", "table", "inet", "firewalld"]);
        listed.stdout.contains("admin-prohibited").then_some(())
    });
    owner
}

#[test]
fn a_chain_that_cannot_be_changed_is_reported_and_no_command_fails() {
    const CHAIN: &str = "inet firewalld filter_FORWARD";
    let lab = Neighbourhood::without_daemon();
    let owner = owned_table(&lab);
    lab.start_daemon();
    lab.network("red", "");
    lab.run("web", "--net red -p 8080:80");
    lab.netbpf(["network", "create", "--internal", "blue"]).ok();
    lab.netbpf(["network", "rm", "blue"]).ok();
    // Other changes make the daemon check the chains again, without a second report.
    for _ in 0..3 {
        nft(&lab, "add table inet other; delete table inet other");
    }
    let rows = firewall_rows(&lab);
    let row = rows.iter().find(|row| row.contains(CHAIN)).unwrap_or_else(|| panic!("{rows:?}"));
    assert!(row.starts_with("missing") && row.contains("NftablesTableOwner=no"), "{row}");
    assert!(row.contains("firewall-cmd --permanent --zone=trusted --add-interface=nb-+"), "{row}");
    assert_eq!(told(&lab, CHAIN), 1, "{}", lab.daemon_log());
    assert!(!reaches(&lab, "192.0.2.2"));
    lab.restart_daemon();
    assert_eq!(told(&lab, CHAIN), 2, "{}", lab.daemon_log());
    // The table disappears with its owner.
    drop(owner);
    comes_to_reach(&lab, "192.0.2.2");
    nft(&lab, "add table inet other; delete table inet other");
    eventually("doctor is content", || {
        firewall_rows(&lab).iter().all(|row| row.starts_with("ok ")).then_some(())
    });
}

/// nft would take the end of the name for another command.
#[test]
fn a_chain_that_nft_cannot_name_is_reported_and_left_alone() {
    let lab = neighbourhood();
    assert!(reaches(&lab, "192.0.2.2"));
    lab.host(["iptables", "-N", "x;y"]).ok();
    lab.host(["iptables", "-A", "x;y", "-j", "DROP"]).ok();
    lab.host(["iptables", "-A", "FORWARD", "-j", "x;y"]).ok();
    let row = eventually("doctor names it", || {
        let says = |row: &String| {
            row.contains("ip filter FORWARD") && row.contains("nft has no way to name \"x;y\"")
        };
        firewall_rows(&lab).into_iter().find(says)
    });
    assert!(row.starts_with("missing"), "{row}");
    assert!(!reaches(&lab, "192.0.2.2"));
    lab.host(["iptables", "-F", "x;y"]).ok();
    comes_to_reach(&lab, "192.0.2.2");
    eventually("doctor is content", || {
        firewall_rows(&lab).iter().all(|row| row.starts_with("ok ")).then_some(())
    });
    nft(&lab, "delete table ip filter");
}

#[test]
fn a_chain_that_drops_traffic_to_the_host_is_reported() {
    const CHAIN: &str = "inet firewalld filter_INPUT";
    let lab = neighbourhood();
    let reaches = || lab.exec("web", "ping -c1 -W1 172.17.0.1").status.success();
    assert!(reaches());
    nft(
        &lab,
        "add table inet firewalld; add chain inet firewalld filter_INPUT { type filter hook input priority 10; }; \
         add rule inet firewalld filter_INPUT ct state established accept; \
         add rule inet firewalld filter_INPUT iifname \"lo\" accept; \
         add rule inet firewalld filter_INPUT reject with icmpx admin-prohibited",
    );
    let rows = eventually("doctor names it", || {
        let rows = firewall_rows(&lab);
        rows.iter().any(|row| row.contains(CHAIN)).then_some(rows)
    });
    assert!(rows[0].starts_with("note ") && rows[0].contains("the host's own services"), "{rows:?}");
    assert!(rows[0].contains("--add-interface=netbpf0"), "{rows:?}");
    lab.netbpf(["doctor"]).ok();
    assert_eq!(told(&lab, CHAIN), 1, "{}", lab.daemon_log());
    // As with Docker's bridge, the administrator decides what containers may reach on the host.
    assert!(!reaches());
    nft(&lab, "insert rule inet firewalld filter_INPUT iifname \"netbpf0\" accept");
    assert!(reaches());
    eventually("doctor is content", || {
        firewall_rows(&lab).iter().all(|row| row.starts_with("ok ")).then_some(())
    });
    // A rule of the administrator that drops is not overruled.
    nft(&lab, "insert rule inet firewalld filter_INPUT iifname \"netbpf0\" icmp type echo-request drop");
    assert!(!reaches());
    assert!(!nft(&lab, "list table inet firewalld").contains("comment"), "nothing is opened");
    nft(&lab, "delete table inet firewalld");
}
