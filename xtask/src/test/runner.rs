//! Follows what one test runner prints, and ends one that prints nothing for too long. Must not know the tests.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

/// How long a runner may print nothing. The longest test takes a few minutes.
pub const SILENCE: Duration = Duration::from_secs(15 * 60);

/// Starts a test runner and passes each line that it prints to a function. Whether all tests passed. A runner that
/// prints nothing for `silence` is killed, and has failed: the lines then tell which tests had not ended, and where
/// its threads wait in the kernel.
pub fn follow(command: &mut Command, silence: Duration, mut each: impl FnMut(&str)) -> Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("start it")?;
    let stdout = child.stdout.take().context("its output is a pipe")?;
    let (sender, lines) = mpsc::channel();
    // Is not joined: a child of the runner may keep the pipe open after the runner's end.
    thread::spawn(move || {
        // Fails when nobody follows any more.
        let _ended = BufReader::new(stdout).lines().try_for_each(|line| sender.send(line));
    });
    let mut slow = BTreeSet::new();
    loop {
        match lines.recv_timeout(silence) {
            Ok(line) => {
                let line = line.context("read what it prints")?;
                note(&mut slow, &line);
                each(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                each(&format!("killed, because it printed nothing for {} s", silence.as_secs()));
                slow.iter().for_each(|test| each(&format!("did not end: {test}")));
                waits(&child).iter().for_each(|thread| each(thread));
                child.kill().context("kill it")?;
                break;
            }
        }
    }
    Ok(child.wait().context("wait for its end")?.success())
}

/// Keeps the tests of which the runner said that they take long, until they end.
fn note(slow: &mut BTreeSet<String>, line: &str) {
    let Some(test) = line.strip_prefix("test ") else { return };
    if let Some((name, _)) = test.split_once(" has been running for over") {
        slow.insert(name.to_owned());
    } else if let Some((name, _)) = test.split_once(" ... ") {
        slow.remove(name);
    }
}

/// A line for each thread of a runner: its name, which is the start of its test's, and the functions of the kernel in
/// which it waits, the innermost first.
fn waits(runner: &Child) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", runner.id())).into_iter().flatten().flatten();
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let told = tasks.map(|task| {
        let (name, stack) = (read(task.path().join("comm")), read(task.path().join("stack")));
        // `[<0>] do_wait+0x5e/0x120`
        let functions = stack.lines().filter_map(|line| line.split([' ', '+']).nth(1));
        format!(
            "the thread {:?} waits in {}",
            name.trim_end(),
            functions.take(4).collect::<Vec<_>>().join(" < ")
        )
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed(script: &str, silence: Duration) -> (bool, Vec<String>) {
        let mut lines = Vec::new();
        let passed =
            follow(Command::new("sh").args(["-c", script]), silence, |line| lines.push(line.to_owned()));
        (passed.expect("it is followed"), lines)
    }

    #[test]
    fn lines_and_the_result_are_passed_on() {
        let (passed, lines) = followed("echo one; echo two", SILENCE);
        assert_eq!((passed, lines), (true, vec!["one".to_owned(), "two".to_owned()]));
        assert!(!followed("exit 1", SILENCE).0);
    }

    #[test]
    fn a_silent_runner_is_killed_and_its_tests_are_named() {
        let script = "
            echo 'test a::ends has been running for over 60 seconds'
            echo 'test a::hangs has been running for over 60 seconds'
            echo 'test a::ends ... ok'
            sleep 9 & exec sleep 1000";
        let (passed, lines) = followed(script, Duration::from_millis(200));
        assert!(!passed);
        let told = &lines[3..];
        assert_eq!(told[0], "killed, because it printed nothing for 0 s");
        assert_eq!(told[1], "did not end: a::hangs");
        assert!(told[2].starts_with("the thread \"sleep\" waits in "), "{told:?}");
    }
}
