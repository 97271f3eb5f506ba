//! Starts a program in the container from a fork of the supervisor: session, terminal, privileges, environment, and
//! Docker's message if that fails.

use std::{
    ffi::CString,
    fmt::Display,
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::Signal,
        stat::{Mode, umask},
        wait::waitpid,
    },
    unistd::{Gid, Pid, Uid},
};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{filesystem, sys};

/// The capabilities of a program in a container: Docker's default without `MKNOD`, because no control group restricts
/// access to devices that it would create. `NET_ADMIN` is not included, so addresses, routes and neighbours stay as the
/// daemon made them.
const CAPABILITIES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program to start.
pub(super) struct Program<'a> {
    pub argv: &'a [String],
    pub env: Vec<String>,
    pub working_dir: &'a Path,
    /// Whether to create a missing `working_dir`.
    pub make_working_dir: bool,
    /// stdin, stdout, stderr.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Whether stdin is the controlling terminal.
    pub terminal: bool,
    /// Whether it is the first program of its PID namespace, which mounts `/proc`.
    pub first: bool,
    /// Whether set-user-ID bits and file capabilities have no effect (`no_new_privs`).
    pub no_new_privileges: bool,
}

/// Why a program did not start.
#[derive(Debug)]
pub(super) struct Failure {
    pub exit_code: u8,
    pub message: String,
}

impl Failure {
    pub fn new(exit_code: u8, message: impl Display) -> Failure {
        Failure { exit_code, message: message.to_string() }
    }

    /// The failure that Docker makes of an error: exit code 127 for a missing file, else 126.
    pub fn errno(what: impl Display, errno: Errno) -> Failure {
        let exit_code = if matches!(errno, Errno::ENOENT) { 127 } else { 126 };
        Failure::new(exit_code, format!("{what}: {}", errno.desc().to_lowercase()))
    }

    fn io(what: impl Display, error: &io::Error) -> Failure {
        Failure::errno(what, Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    }
}

/// The default environment of programs in a container, with the variables of `given` instead of or besides it. A
/// variable without `=` removes the default.
pub(super) fn environment(hostname: &str, terminal: bool, given: &[&[String]]) -> Vec<String> {
    let mut env = vec![format!("PATH={PATH}"), format!("HOSTNAME={hostname}")];
    if terminal {
        env.push("TERM=xterm".into());
    }
    env.push("HOME=/root".into());
    for variable in given.iter().copied().flatten() {
        let key = variable.split('=').next().unwrap_or(variable);
        env.retain(|old| old.split('=').next() != Some(key));
        if variable.contains('=') {
            env.push(variable.clone());
        }
    }
    env
}

/// Starts the program. Returns its PID once it is running.
pub(super) fn start(program: &Program<'_>) -> Result<Pid, Failure> {
    let broken = |error: io::Error| Failure::io("start a process", &error);
    let (mut outcome, report) = io::pipe().map_err(broken)?;
    let mut report = Some(report);
    let pid = sys::spawn(|| {
        let Some(mut report) = report.take() else { return };
        let Err(failure) = become_program(program, report.as_fd());
        // Fails if the supervisor has ended.
        let _ = report.write_all(&[&[failure.exit_code], failure.message.as_bytes()].concat());
    })
    .map_err(|errno| Failure::errno("start a process", errno))?;
    drop(report.take());
    let mut message = Vec::new();
    outcome.read_to_end(&mut message).map_err(broken)?;
    match message.split_first() {
        None => Ok(pid),
        Some((&exit_code, text)) => {
            let _ = waitpid(pid, None);
            Err(Failure::new(exit_code, String::from_utf8_lossy(text)))
        }
    }
}

/// Turns this process into the program. Returns only on failure.
fn become_program(
    program: &Program<'_>,
    report: BorrowedFd<'_>,
) -> Result<std::convert::Infallible, Failure> {
    let failed = |what: &'static str| move |errno: Errno| Failure::errno(what, errno);
    let denied = |what: &'static str| move |error: io::Error| Failure::io(what, &error);

    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("set the parent death signal"))?;
    if !has_reader(report) {
        return Err(Failure::new(126, "the supervisor is gone"));
    }
    nix::unistd::setsid().map_err(failed("start a session"))?;
    let [stdin, stdout, stderr] = program.stdio;
    if program.terminal {
        rustix::process::ioctl_tiocsctty(stdin).map_err(|e| denied("take the terminal")(e.into()))?;
    }
    nix::unistd::dup2_stdin(stdin).map_err(failed("set stdin"))?;
    nix::unistd::dup2_stdout(stdout).map_err(failed("set stdout"))?;
    nix::unistd::dup2_stderr(stderr).map_err(failed("set stderr"))?;
    if program.first {
        filesystem::mount_proc().map_err(|error| Failure::new(126, error))?;
    }
    // Before the working directory is entered: /proc/self/fd must not lead to files of the host.
    sys::close_others(report).map_err(denied("close descriptors"))?;
    umask(Mode::from_bits_truncate(0o022));
    sys::reset_signals().map_err(denied("reset signals"))?;
    // Until the program is executed, this process has the supervisor's memory. Nobody may read it.
    prctl::set_dumpable(false).map_err(failed("hide memory"))?;
    nix::unistd::setgroups(&[Gid::from_raw(0)]).map_err(failed("set groups"))?;
    nix::unistd::setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))
        .map_err(failed("set the group"))?;
    nix::unistd::setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))
        .map_err(failed("set the user"))?;
    drop_capabilities().map_err(denied("drop capabilities"))?;
    if program.no_new_privileges {
        prctl::set_no_new_privs().map_err(failed("set no_new_privs"))?;
    }
    enter_working_dir(program)?;

    let path = find(program)?;
    let path = c_string(&path.to_string_lossy())?;
    let argv = program.argv.iter().map(|a| c_string(a)).collect::<Result<Vec<_>, _>>()?;
    let env = program.env.iter().map(|v| c_string(v)).collect::<Result<Vec<_>, _>>()?;
    // Set last and for a second time, because a change of credentials clears it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("set the parent death signal"))?;
    nix::unistd::execve(&path, &argv, &env)
        .map_err(|errno| Failure::errno(format!("exec {}", path.to_string_lossy()), errno))
}

/// Whether the supervisor still has the other end open.
fn has_reader(report: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(report, PollFlags::empty())];
    let _ = poll(&mut fds, PollTimeout::ZERO);
    !fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}

fn drop_capabilities() -> io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if CAPABILITIES.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The number after the last capability that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let sets = CapabilitySets {
        effective: CAPABILITIES,
        permitted: CAPABILITIES,
        inheritable: CapabilitySet::empty(),
    };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

fn enter_working_dir(program: &Program<'_>) -> Result<(), Failure> {
    let dir = program.working_dir;
    if program.make_working_dir {
        let _ = fs::create_dir_all(dir);
    }
    nix::unistd::chdir(dir).map_err(|errno| Failure::errno(format!("chdir to cwd ({dir:?}) failed"), errno))
}

/// Finds the program's file by the rules of Docker's runtime, with its messages.
fn find(program: &Program<'_>) -> Result<PathBuf, Failure> {
    let name = program.argv.first().map(String::as_str).unwrap_or_default();
    let what = format!("exec: {name:?}");
    if name.contains('/') {
        let metadata =
            fs::metadata(name).map_err(|error| Failure::io(format!("{what}: stat {name}"), &error))?;
        if metadata.is_dir() {
            return Err(Failure::errno(what, Errno::EISDIR));
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            return Err(Failure::errno(what, Errno::EACCES));
        }
        return Ok(name.into());
    }
    let path = program.env.iter().find_map(|v| v.strip_prefix("PATH=")).unwrap_or(PATH);
    let found = path
        .split(':')
        .map(|dir| Path::new(if dir.is_empty() { "." } else { dir }).join(name))
        .find(|file| fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0));
    match found {
        Some(file) if !name.is_empty() => Ok(file),
        _ => Err(Failure::new(127, format!("{what}: executable file not found in $PATH"))),
    }
}

fn c_string(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| Failure::new(126, format!("exec: {text:?}: invalid argument")))
}

#[cfg(test)]
mod tests {
    use std::io::stdin;

    use super::*;

    fn looked_up(name: &str, path: &str) -> Result<PathBuf, Failure> {
        let stdin = stdin();
        let argv = [name.to_owned()];
        find(&Program {
            argv: &argv,
            env: vec![format!("PATH={path}")],
            working_dir: Path::new("/"),
            make_working_dir: false,
            stdio: [stdin.as_fd(); 3],
            terminal: false,
            first: false,
            no_new_privileges: false,
        })
    }

    #[test]
    fn variables_override_the_defaults_by_key() {
        let container = ["HOME=/".to_owned(), "A=1".to_owned()];
        let exec = ["A=2=3".to_owned(), "HOSTNAME".to_owned()];
        let env = environment("web", true, &[&container, &exec]);
        assert_eq!(env, [&format!("PATH={PATH}"), "TERM=xterm", "HOME=/", "A=2=3"]);
    }

    #[test]
    fn an_unknown_command_gets_docker_s_message() {
        let failure = looked_up("nosuch", "/usr/bin:/bin").unwrap_err();
        assert_eq!(failure.message, "exec: \"nosuch\": executable file not found in $PATH");
        assert_eq!(failure.exit_code, 127);
        let failure = looked_up("/no/such", "").unwrap_err();
        assert_eq!(failure.message, "exec: \"/no/such\": stat /no/such: no such file or directory");
        assert_eq!(failure.exit_code, 127);
        assert_eq!(looked_up("", "/bin").unwrap_err().exit_code, 127);
    }

    #[test]
    fn a_file_that_is_not_executable_is_refused_by_path_and_skipped_in_the_search() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "").unwrap();
        let failure = looked_up(file.to_str().unwrap(), "").unwrap_err();
        assert_eq!((failure.exit_code, failure.message.ends_with(": permission denied")), (126, true));
        let failure = looked_up("/", "").unwrap_err();
        assert_eq!((failure.exit_code, &*failure.message), (126, "exec: \"/\": is a directory"));
        assert_eq!(looked_up("f", dir.path().to_str().unwrap()).unwrap_err().exit_code, 127);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(looked_up("f", &format!("/nowhere:{}", dir.path().display())).unwrap(), file);
    }
}
