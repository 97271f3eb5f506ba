//! `cargo xtask package`: a Debian package with what `install` installs, and one with the program's symbols. debhelper
//! makes them from `package/*`. Must not know which files are installed.

mod licenses;

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use xtask::toolchain;

use crate::{
    install::layout::{Content, File, Place},
    run,
    setup::{self, Scope},
    step,
};

/// Build netbpf and make Debian packages of it, for Debian 12 and later: the program, and its symbols
#[derive(clap::Args)]
pub struct Options {
    /// Put the packages there
    #[arg(long, value_name = "DIR", default_value_os_t = toolchain::workspace().join("target/package"))]
    output: PathBuf,
    /// Version of the packages [default: this version before its release, with the time of the commit]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    version: Option<String>,
    /// Package this program instead of building one
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// How much time to spend on small packages
    #[arg(long, value_name = "LEVEL", default_value_t = 6, value_parser = clap::value_parser!(u8).range(0..=9))]
    compression: u8,
}

const CONTROL: &str = include_str!("package/control");
/// The other files that debhelper reads.
const FILES: &[(&str, &str)] = &[
    ("netbpf.postinst", include_str!("package/postinst")),
    ("netbpf.postrm", include_str!("package/postrm")),
    ("netbpf.lintian-overrides", include_str!("package/lintian-overrides")),
];
/// A shell script that calls debhelper.
const BUILD: &str = include_str!("package/build.sh");

/// Makes the packages.
pub fn run(options: Options) -> Result<()> {
    let Options { output, version, program, compression } = options;
    setup::prepare(Scope::Package)?;
    let program = match program {
        Some(program) => program,
        None => run::build()?,
    };
    let time = time_of_source()?;
    let version = match version {
        Some(version) => version,
        None => format!("{}~git{}", env!("CARGO_PKG_VERSION"), date(time, "+%Y%m%d.%H%M%S")?),
    };
    let folder = tempfile::tempdir().context("make a folder for the packages")?;
    describe(&folder.path().join("debian"), &version, time)?;
    stage(&program, folder.path().join("debian/netbpf"))?;
    fs::create_dir_all(&output).with_context(|| format!("create {}", output.display()))?;
    let output = output.canonicalize().with_context(|| format!("find {}", output.display()))?;
    let mut build = Command::new("sh");
    build
        .args(["-ec", BUILD, "build"])
        .arg(&output)
        .arg(compression.to_string())
        .current_dir(folder.path())
        .env("SOURCE_DATE_EPOCH", time.to_string());
    step::run("making the packages", build, |_| None)?;
    let architecture = architecture()?;
    let named = |package| output.join(format!("{package}_{version}_{architecture}.deb"));
    // A program without symbols gets no second package.
    for package in ["netbpf", "netbpf-dbgsym"].map(named).iter().filter(|package| package.exists()) {
        println!("{}", package.display());
    }
    Ok(())
}

/// Parses a version of Debian without an epoch or a revision (deb-version(7)).
fn version(text: &str) -> Result<String, String> {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || ".+~".contains(c));
    if is_plain && text.starts_with(|c: char| c.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("expected a digit, then letters, digits and .+~".to_owned())
    }
}

/// Writes debhelper's files.
fn describe(debian: &Path, version: &str, time: u64) -> Result<()> {
    fs::create_dir_all(debian).with_context(|| format!("create {}", debian.display()))?;
    let write = |name: &str, text: &str| {
        fs::write(debian.join(name), text).with_context(|| format!("write {name} of the package"))
    };
    let maintainer = maintainer();
    let date = date(time, "+%a, %d %b %Y %H:%M:%S +0000")?;
    write("control", &CONTROL.replace("@maintainer@", &maintainer))?;
    write(
        "changelog",
        &format!(
            "netbpf ({version}) unstable; urgency=medium\n\n  * See the history of the source.\n\n -- {maintainer}  {date}\n"
        ),
    )?;
    write("copyright", &licenses::copyright()?)?;
    FILES.iter().try_for_each(|(name, text)| write(name, text))
}

/// The maintainer that Debian's tools would name.
fn maintainer() -> String {
    let given = |variable| env::var(variable).ok().filter(|text| !text.is_empty());
    match (given("DEBFULLNAME"), given("DEBEMAIL")) {
        (Some(name), Some(mail)) => format!("{name} <{mail}>"),
        _ => "netbpf's maintainers <netbpf@netbpf.invalid>".to_owned(),
    }
}

/// Puts the files where debhelper expects them. The program has its symbols, which debhelper separates.
fn stage(program: &Path, root: PathBuf) -> Result<()> {
    let place = Place { prefix: "/usr".into(), root: Some(root) };
    for File { path, content, mode } in place.files(program)? {
        let path = place.on_disk(&path);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
            match content {
                Content::Text(text) => fs::write(&path, text)?,
                Content::Program(program) => fs::copy(program, &path).map(drop)?,
                Content::Link(target) => return symlink(target, &path),
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
        };
        write().with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// When the source was written, in seconds since 1970: of the commit, unless `SOURCE_DATE_EPOCH` says it. All times in
/// the packages are this one, so that the same source gives the same packages.
fn time_of_source() -> Result<u64> {
    if let Some(time) = env::var_os("SOURCE_DATE_EPOCH") {
        return time.to_string_lossy().parse().context("SOURCE_DATE_EPOCH is no number of seconds");
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(toolchain::workspace());
    let time =
        output(git).context("without git's history, SOURCE_DATE_EPOCH must tell the time of the source")?;
    time.parse().context("read the time of the commit")
}

fn date(time: u64, format: &str) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", &format!("--date=@{time}"), format]).env("LC_ALL", "C");
    output(date)
}

fn architecture() -> Result<String> {
    let mut dpkg = Command::new("dpkg");
    dpkg.arg("--print-architecture");
    output(dpkg)
}

/// What a command prints, without the end of its line.
fn output(mut command: Command) -> Result<String> {
    let called = format!("{command:?}");
    let output = command.output().with_context(|| called.clone())?;
    if !output.status.success() {
        bail!("{called}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_one_of_debian_s() {
        for right in ["0.1.0", "1.2.3~rc1", "0.1.0~git20261128.213959"] {
            assert_eq!(version(right), Ok(right.to_owned()));
        }
        for wrong in ["", "v1", "1:2", "1.0-1", "1 2", "1/2"] {
            assert!(version(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_are_those_of_greenwich_in_english() {
        assert_eq!(
            date(0, "+%a, %d %b %Y %H:%M:%S +0000").expect("a date"),
            "Thu, 01 Jan 1970 00:00:00 +0000"
        );
    }
}
