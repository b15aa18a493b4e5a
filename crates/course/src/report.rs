//! The results of several exercises at once, to hand in.

use std::env::consts;
use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::time::SystemTime;

use harness::What;
use serde_json::{Value, json};

use crate::{Build, Exercise, Options, show, summary};

/// What a stub that nobody has touched gets instead of a check.
const TO_DO: &str = "to-do: this stub is as it was handed out";
/// How many characters of a program's own output the format allows, and what
/// it says if there were more.
const OUTPUT: usize = 500;
const TRUNCATED: &str = "\nOutput was truncated. Please limit to 500 chars";

/// What became of some exercises.
pub struct Results {
    exercises: Vec<Exercise>,
    /// `None` for a stub that nobody has touched.
    builds: Vec<Option<Build>>,
    options: Options,
    name: Option<String>,
}

impl Results {
    /// Builds and checks `exercises`, one after the other. `name` says whose
    /// they are.
    pub fn of(
        exercises: Vec<Exercise>,
        options: Options,
        name: Option<String>,
    ) -> Self {
        let build = |exercise: &Exercise| {
            (!exercise.is_untouched())
                .then(|| Build::of(exercise, exercise.build(false), options))
        };
        let builds = exercises.iter().map(build).collect();
        Self {
            exercises,
            builds,
            options,
            name,
        }
    }

    fn score(&self) -> usize {
        self.builds.iter().flatten().filter(|b| b.passes()).count()
    }

    /// In the results format of Exercism's test runners, version 2
    /// (<https://exercism.org/docs/building/tooling/test-runners/interface>),
    /// with a score, and where and when it was made.
    pub fn json(&self) -> Value {
        let tests: Vec<_> = self
            .exercises
            .iter()
            .zip(&self.builds)
            .map(|(exercise, build)| test(exercise, build.as_ref()))
            .collect();
        let (status, message) = overall(&tests);
        json!({
            "version": 2,
            "status": status,
            "message": message,
            "tests": tests,
            "score": self.score(),
            "max_score": tests.len(),
            "seed": self.options.seed,
            "name": self.name,
            "made": made(),
        })
    }

    /// A table for people.
    pub fn markdown(&self) -> String {
        let mut out = String::from("| exercise | result | |\n|---|---|---|\n");
        for (exercise, build) in self.exercises.iter().zip(&self.builds) {
            let test = test(exercise, build.as_ref());
            let text = |key: &str| test[key].as_str().unwrap_or_default();
            let line = text("message").lines().next().unwrap_or_default();
            let line = line.replace('|', "\\|");
            let (stem, status) = (exercise.stem(), text("status"));
            let _ = writeln!(out, "| {stem} | {status} | {line} |");
        }
        let of = self.exercises.len();
        let name = self.name.iter().map(|name| format!("{name}: "));
        let name: String = name.collect();
        let _ = writeln!(out, "\n{name}{} of {of}", self.score());
        out
    }
}

fn test(exercise: &Exercise, build: Option<&Build>) -> Value {
    let plain = |text: &str| anstream::adapter::strip_str(text).to_string();
    let (status, message) = match build {
        None => ("error", Some(TO_DO.to_owned())),
        Some(build) if build.passes() => ("pass", None),
        Some(build) => {
            let status = match build {
                Build::Checked(_) => "fail",
                Build::Failed(_) => "error",
            };
            let (line, all) = (summary(build), show(exercise, build));
            (status, Some(plain(&format!("{line}\n\n{all}"))))
        }
    };
    json!({
        "name": exercise.stem(),
        "status": status,
        "message": message,
        "output": build.and_then(printed),
    })
}

/// What the program has printed itself, if it has run.
fn printed(build: &Build) -> Option<String> {
    let Build::Checked(report) = build else {
        return None;
    };
    let text: String = report
        .timeline
        .iter()
        .filter_map(|event| match &event.what {
            What::Printed(text) | What::Complained(text) => Some(text.text()),
            _ => None,
        })
        .collect();
    Some(limited(&text))
}

fn limited(text: &str) -> String {
    if text.chars().count() <= OUTPUT {
        return text.to_owned();
    }
    let kept = OUTPUT - TRUNCATED.chars().count();
    text.chars().take(kept).chain(TRUNCATED.chars()).collect()
}

/// The status of all `tests` together. `error` is for what did not run at all.
fn overall(tests: &[Value]) -> (&'static str, Option<String>) {
    let all = |status| tests.iter().all(|test| test["status"] == status);
    if all("pass") {
        return ("pass", None);
    }
    if !all("error") {
        return ("fail", None);
    }
    let text =
        |test: &Value, key| test[key].as_str().unwrap_or_default().to_owned();
    let lines: Vec<_> = tests
        .iter()
        .map(|test| {
            format!("{}: {}", text(test, "name"), text(test, "message"))
        })
        .collect();
    ("error", Some(lines.join("\n")))
}

/// Where and when, and with what.
fn made() -> Value {
    json!({
        "course": env!("CARGO_PKG_VERSION"),
        "commit": commit(),
        "rust": said(Command::new("rustc").arg("--version")),
        "system": format!("{} {}", consts::OS, consts::ARCH),
        "time": now(),
    })
}

/// The time, in UTC, as RFC 3339 writes it.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// The commit of the checkout, if it is one.
pub(crate) fn commit() -> Option<String> {
    let root = fs::canonicalize(harness::root()).ok()?;
    let mut git = Command::new("git");
    git.current_dir(&root).args(["rev-parse", "HEAD"]);
    // What was unpacked into somebody's own repository is no commit of theirs.
    git.env("GIT_CEILING_DIRECTORIES", root.parent()?);
    said(&mut git)
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tests(all: &[&str]) -> Vec<Value> {
        let test = |status| {
            json!({ "name": "a", "status": status,
                                    "message": "why" })
        };
        all.iter().map(test).collect()
    }

    #[test]
    fn what_did_not_run_at_all_is_an_error_with_a_message() {
        for (all, status, message) in [
            (vec!["pass", "pass"], "pass", None),
            (vec!["pass", "fail"], "fail", None),
            (vec!["pass", "error"], "fail", None),
            (vec!["error", "error"], "error", Some("a: why\na: why")),
        ] {
            let (found, said) = overall(&tests(&all));
            assert_eq!((found, said.as_deref()), (status, message));
        }
    }

    #[test]
    fn a_programs_output_is_cut_at_500_characters() {
        for (count, whole) in [(0, true), (500, true), (501, false)] {
            let text = "é".repeat(count);
            let kept = limited(&text);
            assert_eq!(kept == text, whole, "{count}");
            assert!(kept.chars().count() <= 500, "{count}");
            assert_eq!(kept.ends_with(TRUNCATED), !whole, "{count}");
        }
    }
}
