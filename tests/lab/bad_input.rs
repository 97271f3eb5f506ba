//! Invalid input: one message, which is Docker's if Docker has one, the exit code, and an unchanged host.

mod containers;
mod daemons;
mod networks;
mod ports;
mod streams;

use netbpf_tests::lab::Lab;

use crate::world::World;

/// A host with a container `one` on `bridge`, a stopped one, a network `mynet` (10.9.0.0/24) with `member` in it, and
/// an empty network `free`.
struct Setup {
    lab: Lab,
    world: World,
}

impl Setup {
    fn new() -> Self {
        let lab = Lab::start();
        lab.netbpf(["network", "create", "--subnet", "10.9.0.0/24", "mynet"]).ok();
        lab.netbpf(["network", "create", "--subnet", "10.8.0.0/24", "free"]).ok();
        lab.netbpf(["run", "-d", "--name", "one", "--", "sleep", "infinity"]).ok();
        lab.netbpf(["run", "-d", "--name", "member", "--net", "mynet", "--", "sleep", "infinity"]).ok();
        lab.netbpf(["run", "--name", "ended", "--", "true"]).ok();
        let world = World::of(&lab);
        Self { lab, world }
    }

    /// Asserts that a command exits with this code, prints exactly this to stderr, and changes nothing.
    #[track_caller]
    fn refuses(&self, command: &[&str], code: i32, stderr: &str) {
        let output = self.lab.netbpf(command);
        assert_eq!(
            (output.status.code(), output.stderr.as_str()),
            (Some(code), format!("{stderr}\n").as_str()),
            "netbpf {}",
            command.join(" ")
        );
        self.world.assert_unchanged(&self.lab, &command.join(" "));
    }

    /// The same for an error of the daemon.
    #[track_caller]
    fn daemon_refuses(&self, command: &[&str], message: &str) {
        self.refuses(command, 1, &format!("Error response from daemon: {message}"));
    }

    /// Asserts that `run --rm OPTIONS -- true` is refused and leaves nothing.
    #[track_caller]
    fn run_refused(&self, options: &[&str], message: &str) {
        self.run_fails([&["--rm"], options, &["--", "true"]].concat().as_slice(), 125, message);
    }

    #[track_caller]
    fn run_fails(&self, words: &[&str], code: i32, message: &str) {
        let command = [&["run"], words].concat();
        let help = "Run 'netbpf run --help' for more information";
        self.refuses(&command, code, &format!("netbpf: Error response from daemon: {message}\n\n{help}"));
    }

    /// The same for clap's error about an invalid value.
    #[track_caller]
    fn value_refused(&self, command: &[&str], code: i32, complaint: &str) {
        let output = self.lab.netbpf(command).fails_with(code, complaint);
        assert!(output.stderr.starts_with("error: invalid value "), "{output}");
        self.world.assert_unchanged(&self.lab, &command.join(" "));
    }
}
