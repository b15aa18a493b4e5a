//! The benchmarks run. What they measure is not judged here.

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;

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
