//! Runs a long command with a display of its progress. Its output goes to a log; the end of the log is shown
//! if it fails. Must not know what the command does.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, IsTerminal, Write},
    mem,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use xtask::toolchain;

/// Interval of messages about a running step, without a terminal.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// Lines of the log that are printed after a failure.
const TAIL: usize = 20;

/// Progress, from a line of the command's output.
pub enum Progress {
    /// The present activity.
    Doing(String),
    /// The percentage that is done, and the present activity.
    Percent(u64, String),
}

/// Runs `command` to its end. `follow` reads its output, line by line.
pub fn run(what: &str, command: Command, follow: impl Fn(&str) -> Option<Progress>) -> Result<()> {
    let path = log_path();
    let mut log = open_log(&path)?;
    let mut display = Display::start(what);
    match logged(command, &mut log, |line| match line.map(&follow) {
        Some(Some(progress)) => display.show(progress),
        Some(None) => {}
        None => display.still(),
    }) {
        Ok(()) => {
            display.done();
            Ok(())
        }
        Err(error) => {
            display.failed();
            let tail = tail(&path)?;
            bail!("{what} failed ({error:#}); the end of {}:\n{tail}", path.display())
        }
    }
}

/// The log that all steps share.
pub fn log_path() -> PathBuf {
    toolchain::workspace().join("target/xtask.log")
}

fn open_log(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// `seen` gets the lines of the output, and none after a while without output.
fn logged(mut command: Command, log: &mut File, mut seen: impl FnMut(Option<&str>)) -> Result<()> {
    writeln!(log, "$ {command:?}").context("write the log")?;
    let program = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = io::pipe().context("open a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context("open a pipe")?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("start {program}"))?;
    // It holds the pipe's other end, so without this the pipe would never end.
    drop(command);
    let (sender, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            // Fails if the log could not be written, because then nobody listens any more.
            let _ = sender.send(mem::take(&mut line));
        }
        io::Result::Ok(())
    });
    loop {
        match lines.recv_timeout(SIGN_OF_LIFE) {
            Ok(line) => {
                log.write_all(&line).context("write the log")?;
                seen(Some(String::from_utf8_lossy(&line).trim_end()));
            }
            Err(RecvTimeoutError::Timeout) => seen(None),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if let Ok(read) = reader.join() {
        read.context("read its output")?;
    }
    let status = child.wait().with_context(|| format!("wait for {program}"))?;
    if !status.success() {
        bail!("{program}: {status}");
    }
    Ok(())
}

fn tail(path: &Path) -> Result<String> {
    let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    Ok(lines[from..].iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n"))
}

/// A spinner or a bar on a terminal, plain lines elsewhere.
struct Display {
    what: String,
    started: Instant,
    bar: Option<ProgressBar>,
    doing: String,
    last_line: Instant,
}

impl Display {
    fn start(what: &str) -> Self {
        let started = Instant::now();
        let bar = io::stderr().is_terminal().then(|| {
            let bar =
                ProgressBar::new_spinner().with_style(style("{spinner} {prefix} {wide_msg:.dim} {elapsed}"));
            bar.set_prefix(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("{what} …");
        }
        Self { what: what.to_owned(), started, bar, doing: String::new(), last_line: started }
    }

    fn show(&mut self, progress: Progress) {
        let (percent, doing) = match progress {
            Progress::Doing(doing) => (None, doing),
            Progress::Percent(percent, doing) => (Some(percent), doing),
        };
        if let Some(bar) = &self.bar {
            if let Some(percent) = percent {
                if bar.length().is_none() {
                    bar.set_length(100);
                    bar.set_style(style("{spinner} {prefix} {bar:24} {wide_msg:.dim} {elapsed}"));
                }
                bar.set_position(percent);
            }
            bar.set_message(doing);
        } else {
            self.doing = percent.map(|percent| format!("{percent} %, ")).unwrap_or_default() + &doing;
            self.still();
        }
    }

    /// Shows that the step still runs: a spinner does so by itself, otherwise a line is printed.
    fn still(&mut self) {
        if self.bar.is_none() && self.last_line.elapsed() >= SIGN_OF_LIFE {
            self.last_line = Instant::now();
            eprintln!("  {} ({})", self.doing, took(self.started.elapsed()));
        }
    }

    fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{}: done in {}", self.what, took(self.started.elapsed()));
    }

    fn failed(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// A duration for people: `7 s`, `3 min 20 s`.
pub fn took(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else if seconds < 60.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        assert_eq!(took(Duration::from_millis(640)), "0.6 s");
        assert_eq!(took(Duration::from_secs(42)), "42 s");
        assert_eq!(took(Duration::from_secs(200)), "3 min 20 s");
    }
}
