//! The output of a sandbox.

use std::time::{Duration, Instant};

use netbpf::sandbox::logs;

use crate::world::World;

#[tokio::test]
async fn streams_are_distinguished_and_the_last_line_needs_no_newline() {
    let world = World::new("echo out; echo err >&2; printf 'no end'");
    world.run().await;
    let mut log = logs::read(&world.spec.log, None, None).unwrap();
    let mut lines = Vec::new();
    while let Some(line) = log.next().await.unwrap() {
        assert!(line.time.ends_with('Z'));
        lines.push((line.stream, line.log));
    }
    // The order of output on two pipes is not defined.
    lines.sort();
    let expected = [("stderr", "err\n"), ("stdout", "no end"), ("stdout", "out\n")];
    assert_eq!(lines, expected.map(|(stream, log)| (stream.to_owned(), log.to_owned())));
}

#[tokio::test]
async fn bulk_output_is_complete() {
    let world = World::new("seq 1 200000");
    let (output, _) = world.run().await;
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(output == expected, "{} bytes instead of {}", output.len(), expected.len());
    let mut log = logs::read(&world.spec.log, Some(2), None).unwrap();
    assert_eq!(log.next().await.unwrap().unwrap().log, "199999\n");
}

#[tokio::test]
async fn a_follower_gets_lines_at_once_and_the_end() {
    let mut world = World::new("echo before; while [ ! -e $GO ]; do sleep 0.02; done; echo after");
    world.spec.env = vec![format!("GO={}", world.path("go").display())];
    let supervisor = world.start().await;
    let mut log = logs::read(&world.spec.log, None, Some(&supervisor)).unwrap();
    assert_eq!(log.next().await.unwrap().unwrap().log, "before\n");
    let more = tokio::time::timeout(Duration::from_millis(50), log.next()).await;
    assert!(more.is_err(), "the container still runs");
    std::fs::write(world.path("go"), "").unwrap();
    assert_eq!(log.next().await.unwrap().unwrap().log, "after\n");
    assert!(log.next().await.unwrap().is_none());
    supervisor.wait().await;
    let mut late = logs::read(&world.spec.log, Some(1), Some(&supervisor)).unwrap();
    assert_eq!(late.next().await.unwrap().unwrap().log, "after\n");
    assert!(late.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_killed_supervisor_ends_its_followers() {
    let world = World::new("echo up; sleep 1000");
    let supervisor = world.start().await;
    let mut log = logs::read(&world.spec.log, None, Some(&supervisor)).unwrap();
    assert!(log.next().await.unwrap().is_some());
    supervisor.kill();
    assert!(log.next().await.unwrap().is_none());
    supervisor.wait().await;
    assert!(!world.socket().exists());
}

#[tokio::test]
async fn closed_output_costs_no_cpu_time() {
    let world = World::new("exec >/dev/null 2>&1; sleep 1000");
    let supervisor = world.start().await;
    let ticks = || -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", supervisor.pid())).unwrap();
        stat.rsplit_once(')')
            .unwrap()
            .1
            .split_ascii_whitespace()
            .skip(11)
            .take(2)
            .map(|n| n.parse::<u64>().unwrap())
            .sum()
    };
    let (before, start) = (ticks(), Instant::now());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(ticks() - before <= 2, "busy for {:?}", start.elapsed());
    supervisor.signal(9).await.unwrap();
    supervisor.wait().await;
}
