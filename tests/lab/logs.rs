//! `netbpf logs` of a container with more output than one log file holds.

use std::fs;

use netbpf_tests::lab::Lab;

/// The size of a log file in bytes.
const SIZE: u64 = 20 * 1024 * 1024;

/// The sizes of a container's log files.
fn sizes(lab: &Lab, container: &str) -> Vec<u64> {
    let path = lab.path(lab.inspect(container)["LogPath"].as_str().expect("a path"));
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    let files = fs::read_dir(path.parent().expect("a folder")).expect("a folder").flatten();
    files
        .filter(|file| file.file_name().to_string_lossy().starts_with(&name))
        .map(|file| file.metadata().expect("a file").len())
        .collect()
}

#[test]
fn a_log_of_several_files_is_read_as_one() {
    let lab = Lab::start();
    // 48 MB, in the foreground, which follows the log from file to file.
    let script = "for i in $(seq 3000); do printf '%016000d\\n' $i; done; echo done";
    let seen = lab.netbpf(["run", "--name", "writer", "--", "sh", "-c", script]).ok().stdout;
    let numbers: Vec<u32> = seen.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers == (1..=3000).collect::<Vec<_>>(), "{} of 3000 lines", numbers.len());
    assert!(seen.ends_with("\ndone\n"));

    let sizes = sizes(&lab, "writer");
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= SIZE), "{sizes:?}");
    assert!(lab.netbpf(["logs", "writer"]).ok().stdout == seen, "logs afterwards are what was seen");
    for lines in [1, 500, 2000] {
        let tail = lab.netbpf(["logs", "--tail", &lines.to_string(), "writer"]).ok().stdout;
        assert!(seen.ends_with(&tail) && tail.lines().count() == lines, "{} lines", tail.lines().count());
    }
    lab.netbpf(["rm", "writer"]).ok();
}
