//! Runs the benchmark's shortest scene once and checks its results.

use std::process::{Command, Output};

use netbpf_tests::lab;

/// Runs the benchmark; options are separated by spaces.
fn bench(out: &tempfile::TempDir, options: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netbpf-bench"));
    command.arg("--netbpf").arg(lab::program()).arg("--out").arg(out.path());
    command.args(options.split_whitespace()).output().expect("the benchmark starts")
}

#[test]
fn a_scene_ends_in_a_table_and_in_json() {
    let out = tempfile::tempdir().expect("a folder for the results");
    let output = bench(&out, "--quick --without-docker --rounds 1 --scene commands");
    let (table, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{errors}");
    assert!(table.contains("network connect, ms"), "{table}");
    let json = std::fs::read_to_string(out.path().join("bench.json")).expect("results");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let connect = &json["figures"][0];
    assert_eq!(connect["name"], "network connect");
    let samples = connect["subjects"]["netbpf"]["samples"].as_array().expect("samples");
    assert_eq!(samples.len(), 3);
    assert!(samples.iter().all(|sample| sample.as_f64().is_some_and(|ms| ms > 0.1)), "{connect}");
    let target = json["targets"].as_array().into_iter().flatten().find(|target| target["unit"] == "ms");
    assert!(target.is_some_and(|target| target["met"].is_boolean()), "{json}");
}

#[test]
fn an_unknown_scene_is_answered_with_the_known_ones() {
    let out = tempfile::tempdir().expect("a folder for the results");
    let output = bench(&out, "--scene nonsense");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("round-trip") && errors.contains("commands"), "{errors}");
}
