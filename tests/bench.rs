//! The benchmarks run. What they measure is not judged here.

use std::fs;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use harness::root;
use predicates::prelude::*;
use tempfile::TempDir;

#[test]
#[ignore = "needs cc"]
fn each_scenario_runs() {
    Command::new(cargo_bin!("bench"))
        .args(["--rounds", "1", "--millis", "20"])
        .assert()
        .success()
        .stdout(predicate::str::contains("pool-16: "))
        .stdout(predicate::str::contains("memory: "));
}

#[test]
fn an_unknown_scenario_is_refused_and_the_known_ones_are_named() {
    Command::new(cargo_bin!("bench"))
        .arg("ehco-1")
        .assert()
        .failure()
        .stderr(predicate::str::contains("pool-16"));
}

#[test]
#[ignore = "needs cc"]
fn the_designs_run_and_what_fails_is_left_out_with_a_word() {
    let folder = TempDir::new().expect("a temporary folder");
    let json = folder.path().join("run.jsonl");
    Command::new(cargo_bin!("bench"))
        .args(["--rounds", "1", "--millis", "20", "designs"])
        .args(["--only", "echo-50", "--only", "connect", "--only", "memory"])
        .arg("--json")
        .arg(&json)
        .args(["--", "false"])
        .assert()
        .success()
        .stdout(predicate::str::contains("\necho-50: "))
        .stdout(predicate::str::contains("\ncalls: ").not())
        .stdout(predicate::str::contains("03-threaded, once more"))
        .stdout(predicate::str::contains("false: left out: "))
        .stdout(predicate::str::contains("\nmemory: "));
    Command::new(cargo_bin!("bench"))
        .arg("--draw")
        .arg(&json)
        .assert()
        .success()
        .stdout(predicate::str::contains(">03-threaded</th><td"))
        .stdout(predicate::str::contains("NaN").not());
}

#[test]
fn the_books_tables_are_drawn_from_its_recording() {
    let folder = root().join("docs/designs");
    let drawn = fs::read_to_string(folder.join("run.html"));
    Command::new(cargo_bin!("bench"))
        .arg("--draw")
        .arg(folder.join("run.jsonl"))
        .assert()
        .success()
        .stdout(drawn.expect("docs/designs/run.html"));
}

#[test]
fn a_file_that_designs_did_not_write_is_refused() {
    for file in ["Cargo.toml", "nowhere"] {
        Command::new(cargo_bin!("bench"))
            .arg("--draw")
            .arg(root().join(file))
            .assert()
            .failure()
            .stderr(predicate::str::contains(file));
    }
}

#[test]
fn what_is_for_the_designs_is_refused_without_them() {
    Command::new(cargo_bin!("bench"))
        .args(["calls", "--", "true"])
        .assert()
        .failure()
        .stderr(predicate::str::contains("`designs`"));
}
