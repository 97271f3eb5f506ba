//! One boot with qemu, from start to power-off. Must not know what runs in it, except the lines around the
//! tests' output.

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::initramfs::{BEGIN, END};

/// Timeout for the boot and all tests: some minutes if the machine is shared.
const TIMEOUT: Duration = Duration::from_secs(600);
/// One thread emulates both CPUs in turns. A kernel overwrites its own code (static branches) while other
/// CPUs run it. With a thread for each CPU, QEMU 7.2 may see the temporary breakpoint too late, and the
/// kernel crashes (`Oops: int3`) or hangs before any output: one boot of Linux 7.2 in fifty.
const EMULATION: &str = "tcg,thread=single";
/// All features of the emulator except two. Its cmpxchg16b sometimes leaves wrong flags (QEMU 7.2), and a
/// kernel that allocates memory with it dies of a double fault; five levels of page tables are only slower.
const PROCESSOR: &str = "max,-cx16,-la57";
/// Lines of the console that are printed after a failure.
const TAIL: usize = 80;
const MEMORY: &str = "1536M";
/// Without address space randomization, because the emulator translates a program again at each new address,
/// and a command takes four to five times as long.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=4 panic=-1 random.trust_cpu=on rcupdate.rcu_expedited=1 mitigations=off norandmaps";

/// The result of a boot.
pub struct Run {
    /// The output of the console.
    pub console: String,
    /// The exit code of the tests; none if they did not end.
    pub exit_code: Option<i32>,
}

/// Boots `kernel` with `initrd`, and waits until it powers off.
pub fn boot(kernel: &Path, initrd: &Path) -> Result<Run> {
    let mut child = Command::new("qemu-system-x86_64")
        // Plain emulation: nested virtualisation is rarely available, and this boots in two seconds.
        .args(["-accel", EMULATION, "-cpu", PROCESSOR, "-smp", "2", "-m", MEMORY])
        .args([
            "-display",
            "none",
            "-vga",
            "none",
            "-serial",
            "stdio",
            "-monitor",
            "none",
            "-no-reboot",
            "-nic",
            "none",
        ])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .args(["-append", COMMAND_LINE])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("start qemu-system-x86_64")?;
    let mut stdout = child.stdout.take().context("open qemu's console")?;
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut console = Vec::new();
        let read = stdout.read_to_end(&mut console).map(|_| console);
        // Fails if nobody listens any more after a timeout.
        let _ = sender.send(());
        read
    });
    let in_time = receiver.recv_timeout(TIMEOUT).is_ok();
    if !in_time {
        child.kill().context("end qemu")?;
    }
    child.wait().context("wait for qemu")?;
    let console = match reader.join() {
        Ok(console) => console.context("read qemu's console")?,
        Err(_) => bail!("the reader of qemu's console panicked"),
    };
    let mut console = String::from_utf8_lossy(&console).replace('\r', "");
    if !in_time {
        console.push_str(&format!("\nended after {} s\n", TIMEOUT.as_secs()));
    }
    let exit_code = console.lines().find_map(|line| line.strip_prefix(END)?.trim().parse().ok());
    Ok(Run { console, exit_code })
}

impl Run {
    /// The output of the tests; the whole console if they never began.
    pub fn tests(&self) -> &str {
        let from = self.console.find(BEGIN).map_or(0, |at| at + BEGIN.len());
        let tests = &self.console[from..];
        &tests[..tests.find(END).unwrap_or(tests.len())]
    }

    /// The end of the console, where a crashed kernel prints the reason.
    pub fn tail(&self) -> String {
        let lines: Vec<&str> = self.console.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_output_is_between_the_marks() {
        let console = format!("Linux version 5.10\n{BEGIN}\nrunning 1 test\n{END}0\nreboot: Power down\n");
        assert_eq!(Run { console, exit_code: Some(0) }.tests().trim(), "running 1 test");
    }
}
