//! Installation into a directory in place of `/`: the machine's files are not touched.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::task::{Root, install, netbpf};

/// The files of a directory.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("a file").path()).collect()
}

/// Asserts that a tool accepts its input. Its output does not matter.
#[track_caller]
fn accepts(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{command:?}: {}\n{said}", output.status);
}

#[test]
fn installed_files_are_those_of_the_manifest_and_uninstall_removes_them() {
    let root = Root::new();
    let said = root.install();
    let things = root.things();
    for thing in [
        "/usr/local/bin/netbpf 755",
        "/usr/local/lib/systemd/system/netbpf.service 644",
        "/usr/local/lib/systemd/system/netbpf.socket 644",
        "/usr/local/share/bash-completion/completions/netbpf 644",
        "/usr/local/share/fish/vendor_completions.d/netbpf.fish 644",
        "/usr/local/share/man/man1/netbpf-network-create.1 644",
        "/usr/local/share/man/man1/netbpf.1 644",
        "/usr/local/share/netbpf/alerts.yml 644",
        "/usr/local/share/netbpf/dashboard.json 644",
        "/usr/local/share/zsh/site-functions/_netbpf 644",
    ] {
        assert!(things.iter().any(|there| there == thing), "{thing} in {things:#?}");
    }
    let listed = fs::read_to_string(root.at("/usr/local/share/netbpf/manifest")).expect("a manifest");
    let listed: BTreeSet<&str> = listed.lines().collect();
    let there: BTreeSet<&str> = things.iter().map(|thing| thing.split(' ').next().unwrap_or(thing)).collect();
    assert_eq!(there, listed);
    let count = there.iter().filter(|path| !path.ends_with('/')).count();
    assert!(
        said.contains(&format!("installed {count} files below /usr/local")) && said.contains("staged in"),
        "{said}"
    );
    let unit = fs::read_to_string(root.at("/usr/local/lib/systemd/system/netbpf.service")).expect("a unit");
    assert!(unit.contains("\nExecStart=/usr/local/bin/netbpf daemon\n"), "{unit}");
    assert_is_without_symbols(&root.at("/usr/local/bin/netbpf"), &netbpf());

    root.task("uninstall").ok();
    assert_eq!(root.things(), [""; 0]);
}

#[test]
fn with_a_prefix_outside_of_systemd_s_path_units_go_to_etc() {
    let root = Root::new();
    root.task(&install("--prefix /opt/netbpf")).ok();
    let unit = fs::read_to_string(root.at("/etc/systemd/system/netbpf.service")).expect("a unit");
    assert!(unit.contains("\nExecStart=/opt/netbpf/bin/netbpf daemon\n"), "{unit}");
    root.task("uninstall").fails_with("netbpf is not installed below /usr/local: there is no ");
    root.task("uninstall --prefix /opt/netbpf").ok();
    assert_eq!(root.things(), [""; 0]);
    root.task(&install("--prefix opt")).fails_with_usage("expected an absolute path");
    assert_eq!(root.things(), [""; 0]);
}

#[test]
fn files_of_others_and_the_state_stay() {
    let root = Root::new();
    root.install();
    fs::write(root.at("/usr/local/share/man/man1/other.1"), "").expect("a file");
    fs::create_dir_all(root.at("/var/lib/netbpf/containers")).expect("a folder");
    let said = root.task("uninstall").ok();
    assert!(said.contains("--purge"), "{said}");
    let left =
        ["/usr/", "/usr/local/", "/usr/local/share/", "/usr/local/share/man/", "/usr/local/share/man/man1/"];
    let state = ["/var/", "/var/lib/", "/var/lib/netbpf/", "/var/lib/netbpf/containers/"];
    let expected: Vec<_> =
        left.iter().copied().chain(["/usr/local/share/man/man1/other.1 644"]).chain(state).collect();
    assert_eq!(root.things(), expected);

    root.install();
    root.task("uninstall --purge").ok();
    assert_eq!(root.things(), [&expected[..6], &state[..2]].concat());
}

#[test]
fn a_newer_version_replaces_the_older_one_completely() {
    let root = Root::new();
    root.install();
    let whole = root.things();
    // A command that this version does not have any more, and a page that the user changed.
    let manifest = root.at("/usr/local/share/netbpf/manifest");
    let listed = fs::read_to_string(&manifest).expect("a manifest");
    fs::write(&manifest, format!("/usr/local/share/man/man1/netbpf-gone.1\n{listed}")).expect("a manifest");
    fs::write(root.at("/usr/local/share/man/man1/netbpf-gone.1"), "").expect("a file");
    fs::write(root.at("/usr/local/share/man/man1/netbpf.1"), "").expect("a file");
    root.install();
    assert_eq!(root.things(), whole);
    assert_eq!(fs::read_to_string(&manifest).expect("a manifest"), listed);
    assert_ne!(fs::read_to_string(root.at("/usr/local/share/man/man1/netbpf.1")).expect("a page"), "");
    root.task("uninstall").ok();
    assert_eq!(root.things(), [""; 0]);
}

#[test]
fn a_failed_installation_leaves_the_earlier_state() {
    let root = Root::new();
    fs::create_dir_all(root.at("/usr/local/share")).expect("a folder");
    fs::write(root.at("/usr/local/share/zsh"), "no folder").expect("a file");
    let before = root.things();
    root.task(&install("")).fails_with("/usr/local/share/zsh");
    assert_eq!(root.things(), before);

    fs::remove_file(root.at("/usr/local/share/zsh")).expect("the file");
    root.install();
    // With an earlier version installed, whose binary can be recognized.
    fs::write(root.at("/usr/local/bin/netbpf"), "earlier").expect("a program");
    fs::remove_file(root.at("/usr/local/share/zsh/site-functions/_netbpf")).expect("the file");
    fs::create_dir(root.at("/usr/local/share/zsh/site-functions/_netbpf")).expect("a folder in its place");
    let before = root.things();
    root.task(&install("")).fails_with("_netbpf");
    assert_eq!(root.things(), before);
    assert_eq!(fs::read_to_string(root.at("/usr/local/bin/netbpf")).expect("it"), "earlier");
}

#[test]
fn a_foreign_file_is_not_replaced() {
    let root = Root::new();
    fs::create_dir_all(root.at("/usr/local/bin")).expect("a folder");
    fs::write(root.at("/usr/local/bin/netbpf"), "built by hand").expect("a file");
    let before = root.things();
    root.task(&install("")).fails_with("/usr/local/bin/netbpf is there already and was not installed");
    assert_eq!(root.things(), before);
}

#[test]
fn an_invalid_program_or_destination_is_reported_in_one_line() {
    let root = Root::new();
    root.task("install --program /bin/false").fails_with("/bin/false completion bash");
    root.task("install --program /nowhere").fails_with("No such file or directory");
    root.task("uninstall").fails_with("netbpf is not installed below /usr/local: there is no ");
    assert_eq!(root.things(), [""; 0]);
    fs::create_dir_all(root.at("/usr/local/share/netbpf")).expect("a folder");
    fs::write(root.at("/usr/local/share/netbpf/manifest"), "../../etc/passwd\n").expect("a file");
    root.task("uninstall").fails_with("\"../../etc/passwd\" is no absolute path");
}

#[test]
fn manual_pages_are_formatted_without_warnings() {
    let root = Root::new();
    root.install();
    let pages = files(&root.at("/usr/local/share/man/man1"));
    assert!(pages.len() > 25, "{pages:?}");
    for page in &pages {
        // A paragraph that cannot be justified is no fault.
        accepts(Command::new("groff").args(["-man", "-ww", "-Wbreak", "-Tutf8", "-z"]).arg(page));
    }
}

#[test]
fn shells_accept_the_completions() {
    let root = Root::new();
    root.install();
    let bash = root.at("/usr/local/share/bash-completion/completions/netbpf");
    let zsh = root.at("/usr/local/share/zsh/site-functions/_netbpf");
    let fish = root.at("/usr/local/share/fish/vendor_completions.d/netbpf.fish");
    accepts(Command::new("zsh").arg("-n").arg(zsh));
    accepts(Command::new("fish").arg("--no-execute").arg(&fish));
    let complete = r#"complete -C "netbpf network cr""#;
    let completed = Command::new("fish")
        .args(["--no-config", "-c", &format!("source {}; {complete}", fish.display())])
        .output();
    let completed = String::from_utf8_lossy(&completed.expect("fish").stdout).into_owned();
    assert!(completed.starts_with("create\t"), "{completed}");
    let complete = r#"source "$1"; COMP_WORDS=(netbpf network cr) COMP_CWORD=2; _netbpf netbpf cr network; echo "${COMPREPLY[@]}""#;
    let completed = Command::new("bash").args(["-c", complete, "bash"]).arg(bash).output();
    assert_eq!(String::from_utf8_lossy(&completed.expect("bash").stdout), "create\n");
}

/// Asserts that the program is stripped and has the same build ID, by which debuggers find its symbols.
#[track_caller]
fn assert_is_without_symbols(installed: &Path, built: &Path) {
    let read = |option: &str, program: &Path| {
        let output = Command::new("readelf").arg(option).arg(program).output().expect("readelf");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let build_id = |program: &Path| {
        let notes = read("--notes", program);
        notes.lines().find(|line| line.contains("Build ID")).map(str::to_owned)
    };
    assert!(
        build_id(installed).is_some_and(|id| Some(id) == build_id(built)),
        "{}",
        read("--notes", installed)
    );
    let sections = read("--sections", installed);
    assert!(
        !sections.contains(".debug_info")
            && !sections.contains(".debug_line")
            && !sections.contains(".symtab"),
        "{sections}"
    );
}
