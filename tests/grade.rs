//! What a teacher does: collects reports, and grades a class.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use assert_cmd::cargo::cargo_bin;
use course::exercises;
use course::grade::{HandIn, hand_ins};
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;
use tempfile::TempDir;

/// Held by who compiles for minutes: two of them at once meet time limits.
static BOTH_CORES: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn course() -> assert_cmd::Command {
    assert_cmd::Command::new(cargo_bin!("course"))
}

/// A hand-out may have fewer exercises.
fn stems() -> Vec<String> {
    names(&["03-threaded", "05-udp"])
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_report_is_json_in_exercisms_format() {
    let made = course()
        .args(["report", "--timeout", "1"])
        .assert()
        .success();
    let report: Value =
        serde_json::from_slice(&made.get_output().stdout).unwrap();
    assert_eq!(report["version"], 2);
    let tests = report["tests"].as_array().unwrap();
    let has = |status| tests.iter().filter(|t| t["status"] == status).count();
    assert_eq!(report["score"], has("pass"));
    assert_eq!(report["max_score"], tests.len());
    let status = match (has("pass"), has("error")) {
        (passes, _) if passes == tests.len() => "pass",
        (_, errors) if errors == tests.len() => "error",
        _ => "fail",
    };
    assert_eq!(report["status"], status);
    assert_eq!(report["message"].is_string(), status == "error");
    for (exercise, test) in exercises().unwrap().iter().zip(tests) {
        assert_eq!(test["name"], exercise.stem());
        if exercise.is_untouched() {
            assert_eq!(test["status"], "error");
            let message = test["message"].as_str().unwrap();
            assert!(message.starts_with("to-do: "), "{message}");
        }
    }
}

#[test]
fn a_report_says_whose_it_is_and_where_and_when_it_was_made() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("report.json");
    course()
        .args(["report", "1", "--timeout", "1", "--name", "Zoë"])
        .arg("--output")
        .arg(&file)
        .assert()
        .success()
        .stdout("");
    let report = read_json(&file);
    assert_eq!(report["name"], "Zoë");
    let tests = report["tests"].as_array().unwrap();
    let names: Vec<_> = tests.iter().map(|test| &test["name"]).collect();
    assert_eq!(names, ["01-single-client"]);
    let made = &report["made"];
    assert_eq!(made["course"], env!("CARGO_PKG_VERSION"));
    for (key, part) in [
        ("rust", "rustc "),
        ("system", std::env::consts::OS),
        ("time", "T"),
    ] {
        let text = made[key].as_str().unwrap();
        assert!(text.contains(part), "{key}: {text}");
    }
    // An archive has none.
    let commit = made["commit"].as_str().unwrap_or("0");
    assert!(commit.chars().all(|c| c.is_ascii_hexdigit()), "{commit}");

    course()
        .args(["report", "1", "--markdown", "--timeout", "1"])
        .args(["--name", "Zoë"])
        .assert()
        .success()
        .stdout(contains("| 01-single-client | ").and(contains("\nZoë: ")));
    course()
        .args(["report", "--output"])
        .arg(folder.path().join("no/such/folder"))
        .assert()
        .code(1)
        .stderr(contains("cannot write "));
}

/// A class whose files are named by their paths and hold their texts.
fn class(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// The exercises and the spare files of each student.
fn found(class: &TempDir) -> BTreeMap<String, (Vec<String>, Vec<String>)> {
    let what =
        |hand_in: HandIn| (hand_in.stubs.into_keys().collect(), hand_in.spare);
    let all = hand_ins(class.path(), &stems()).unwrap();
    all.into_iter().map(|(who, h)| (who, what(h))).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn only_files_named_as_the_stubs_are_taken() {
    let long = "/".repeat(2 << 20);
    let class = class(&[
        ("anna/03-threaded.rs", ""),
        ("anna/Cargo.toml", ""),
        ("bo/deep/er/05-udp.rs", ""),
        ("bo/03-threaded (1).rs", ""),
        ("bo/05-udp.rs.txt", ""),
        ("carl_03-threaded.rs", ""),
        ("carl_05-udp.rs", ""),
        ("dan.zip", ""),
        ("eve/05-udp.rs", &long),
        // A whole checkout holds the solutions, too.
        ("fay/crates/exercises/src/bin/05-udp.rs", ""),
        ("fay/crates/exercises/examples/03-threaded.rs", ""),
        ("fay/target/03-threaded.rs", ""),
        ("gil/a/05-udp.rs", ""),
        ("gil/b/05-udp.rs", ""),
        (".DS_Store", ""),
        ("__MACOSX/anna/03-threaded.rs", ""),
    ]);
    fs::create_dir(class.path().join("hal")).unwrap();
    let wanted: [(&str, &[&str], &[&str]); 8] = [
        ("anna", &["03-threaded"], &["Cargo.toml"]),
        ("bo", &["05-udp"], &["03-threaded (1).rs", "05-udp.rs.txt"]),
        ("carl", &["03-threaded", "05-udp"], &[]),
        ("dan.zip", &[], &["dan.zip"]),
        ("eve", &[], &["05-udp.rs"]),
        ("fay", &["05-udp"], &[]),
        ("gil", &["05-udp"], &["05-udp.rs"]),
        ("hal", &[], &[]),
    ];
    let wanted = wanted.map(|(who, stubs, spare)| {
        (who.to_owned(), (names(stubs), names(spare)))
    });
    assert_eq!(found(&class), BTreeMap::from(wanted));
}

#[cfg(unix)]
#[test]
fn links_are_not_followed_and_odd_names_are_shown_harmless() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let class = class(&[("\x1b[31m\n/05-udp.rs", "")]);
    let odd = class.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
    fs::create_dir(&odd).unwrap();
    symlink("/etc/passwd", odd.join("05-udp.rs")).unwrap();
    symlink("/", odd.join("root")).unwrap();
    symlink("/", class.path().join("zoe")).unwrap();
    let wanted: [(&str, &[&str], &[&str]); 3] = [
        ("\\u{1b}[31m\\n", &["05-udp"], &[]),
        ("zoe", &[], &["zoe"]),
        ("\u{fffd}", &[], &["05-udp.rs", "root"]),
    ];
    let wanted = wanted.map(|(who, stubs, spare)| {
        (who.to_owned(), (names(stubs), names(spare)))
    });
    assert_eq!(found(&class), BTreeMap::from(wanted));
}

/// `cargo course grade`, allowed to whoever runs the tests.
fn grade(class: &TempDir) -> assert_cmd::Command {
    let mut command = course();
    command.arg("grade").arg(class.path()).arg("--allow-root");
    command
}

#[cfg(unix)]
#[test]
fn root_is_refused_unless_it_is_allowed() {
    let class = class(&[("anna/05-udp.rs", "")]);
    let is_root = nix::unistd::geteuid().is_root();
    let refused = course()
        .arg("grade")
        .arg(class.path())
        .args(["--image", "none", "--limit", "20"])
        .env("PATH", "")
        .assert()
        .code(1);
    refused.stderr(contains("as root; be another user").count(is_root.into()));
}

#[test]
fn without_a_sandbox_nothing_is_run_and_it_says_what_to_type() {
    let class = class(&[("anna/05-udp.rs", "")]);
    // Only rustc and cargo.
    let sysroot = std::process::Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .unwrap();
    let sysroot = String::from_utf8(sysroot.stdout).unwrap();
    let path = Path::new(sysroot.trim()).join("bin");
    grade(&class)
        .env("PATH", &path)
        .assert()
        .code(1)
        .stderr(contains("--image ").and(contains("--no-sandbox")));
    grade(&class)
        .args(["--image", "an-image"])
        .env("PATH", &path)
        .assert()
        .code(1)
        .stderr(contains("podman cannot run cargo in an-image"));
}

#[test]
fn a_folder_without_hand_ins_and_a_file_that_cannot_be_written_are_refused() {
    let class = class(&[]);
    grade(&class)
        .assert()
        .code(1)
        .stderr(contains("there is nothing in "));
    fs::write(class.path().join("anna_05-udp.rs"), "").unwrap();
    grade(&class)
        .arg("--csv")
        .arg(class.path().join("no/such/folder"))
        .assert()
        .code(1)
        .stderr(contains("cannot write "));
}

/// The exercise that all of [`CLASS`] have handed in.
#[cfg(target_os = "linux")]
const STEM: &str = "03-threaded";
/// A class as a teacher may get it: who, what they wrote (or the folder it is
/// from), and what becomes of it.
#[cfg(target_os = "linux")]
const CLASS: [(&str, &str, &str); 9] = [
    ("=1+1", "examples", "pass"),
    ("empty", "", "error does-not-compile"),
    (
        "floods",
        "fn main() { loop { println!(\"{:4000}\", 0) } }",
        "fail",
    ),
    ("hangs", "fn main() { loop {} }", "fail says-nothing"),
    (
        "includes",
        "include!(\"../../examples/03-threaded.rs\");",
        "error does-not-compile",
    ),
    (
        "looks",
        "fn main() { for folder in [\"/home\", \"/root\", \"/old\"] {
             assert!(!std::path::Path::new(folder).exists(), \"{folder}\");
         }
         for file in [\"/toolchain/x\", \"/usr/x\", \"/tmp/cargo/registry/x\"] {
             assert!(std::fs::write(file, \"\").is_err(), \"{file}\");
         }
         std::net::TcpStream::connect(\"192.0.2.1:9\").unwrap_err();
         println!(\"kept away\") }",
        "fail first-line",
    ),
    (
        "kills",
        "fn main() { let all = std::process::Command::new(\"sh\")
             .args([\"-c\", \"kill -9 -1; kill -9 1\"]).status();
         panic!(\"{all:?}\") }",
        "fail ended-by-itself",
    ),
    (
        "leaves",
        "fn main() { std::process::Command::new(\"setsid\")
             .args([\"sleep\", \"7777\"]).spawn().unwrap(); }",
        "fail leaves-children",
    ),
    ("untouched", "stubs", "error to-do"),
];

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs unshare, setpriv, prlimit and ip"]
fn a_class_is_graded_in_a_sandbox_and_survived() {
    let _alone = BOTH_CORES
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = |folder| format!("crates/exercises/{folder}/{STEM}.rs");
    if !harness::root().join(path("examples")).is_file() {
        eprintln!("not tried: the solutions are not here");
        return;
    }
    let files = CLASS.map(|(who, text, _)| {
        let file = harness::root().join(path(text));
        let text = fs::read_to_string(file).unwrap_or_else(|_| text.to_owned());
        (format!("{who}/{STEM}.rs"), text)
    });
    let mut files: Vec<_> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    files.push(("nothing/notes.txt", ""));
    let class = class(&files);
    let out = TempDir::new().unwrap();
    let (csv, json) = (out.path().join("a.csv"), out.path().join("a.json"));
    let graded = grade(&class)
        .arg("--csv")
        .arg(&csv)
        .arg("--json")
        .arg(&json)
        .assert();
    let stderr = &graded.get_output().stderr;
    if String::from_utf8_lossy(stderr).contains("sandbox does not work here") {
        eprintln!("not tried: this system allows no user namespaces");
        return;
    }
    graded
        .success()
        .stderr(contains("You are not protected from"))
        .stdout(contains("nothing: notes.txt").and(contains("Score")));
    let csv = fs::read_to_string(csv).unwrap();
    let json = read_json(&json);
    let students = json["students"].as_array().unwrap();
    for (who, _, wanted) in CLASS {
        let student = students.iter().find(|s| s["name"] == who).unwrap();
        let test = &student["tests"][0];
        let message = test["message"].as_str().unwrap_or_default();
        let (status, id) = wanted.split_once(' ').unwrap_or((wanted, ""));
        assert_eq!(test["status"], status, "{who}: {message}");
        assert!(message.starts_with(id), "{who}: {message}");
        let output = test["output"].as_str().unwrap_or_default();
        assert!(output.chars().count() <= 500, "{output}");
        let row = csv.lines().find(|row| row.contains(who)).unwrap();
        assert!(row.contains(&format!("\"{wanted}")), "{row}");
    }
    // No spreadsheet takes it for a formula.
    assert!(csv.contains("\"'=1+1\""), "{csv}");
}

// What is handed out.

/// The lines of the page for teachers behind `<!-- hand-out: NAME -->`.
fn recipe(name: &str) -> String {
    let page = harness::root().join("docs/for-teachers.md");
    let page = fs::read_to_string(page).unwrap();
    let mark = format!("<!-- hand-out: {name} -->\n```sh\n");
    let (_, lines) = page.split_once(&mark).expect("no such recipe");
    lines.split("```").next().unwrap().to_owned()
}

/// What is in Git's list of this checkout, as a repository of its own.
fn clone() -> TempDir {
    let clone = TempDir::new().unwrap();
    let root = harness::root();
    let git = |folder: &Path, words: &[&str]| {
        let mut git = assert_cmd::Command::new("git");
        git.current_dir(folder).args(words).assert().success()
    };
    let files = git(
        root,
        &[
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--deduplicate",
        ],
    );
    let files = String::from_utf8(files.get_output().stdout.clone()).unwrap();
    let is_there = |file: &&str| root.join(file).is_file();
    for file in files.split('\0').filter(is_there) {
        let to = clone.path().join(file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root.join(file), to).unwrap();
    }
    git(clone.path(), &["init", "--quiet"]);
    git(clone.path(), &["add", "--all"]);
    let who = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
    let commit = ["commit", "--quiet", "--message=Begin"];
    git(clone.path(), &[who.as_slice(), &commit].concat());
    clone
}

#[test]
#[ignore = "needs git, and takes minutes"]
fn a_hand_out_builds_checks_and_tests_clean() {
    let _alone = BOTH_CORES
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if !harness::root().join("crates/exercises/examples").is_dir() {
        eprintln!("not tried: this is a hand-out");
        return;
    }
    let hand_outs: [(&[&str], usize); 2] = [
        (
            &["without solutions", "on GitHub"],
            exercises().unwrap().len(),
        ),
        (&["without solutions", "first exercises"], 3),
    ];
    for (recipes, count) in hand_outs {
        let clone = clone();
        let run = |program: &str, words: &[&str]| {
            let mut command = assert_cmd::Command::new(program);
            let target = harness::root().join("target/hand-out");
            command
                .current_dir(clone.path())
                .args(words)
                .env("CARGO_TARGET_DIR", target)
                .assert()
                .success()
        };
        for recipe in recipes.iter().map(|name| self::recipe(name)) {
            run("sh", &["-ec", &recipe]);
        }
        run(env!("CARGO"), &["check", "--workspace", "--all-targets"])
            .stderr(contains("warning").not());
        run(env!("CARGO"), &["course"]).stdout(contains("to do").count(count));
        let words = "test -p book -p course -p harness --test book --test exercises \
             --test grade --test workspace";
        let words: Vec<_> = words.split_whitespace().collect();
        run(env!("CARGO"), &words).stderr(contains("warning").not());
    }
}

#[test]
fn the_workflow_for_students_checks_each_exercise() {
    let workflow = harness::root().join("docs/classroom.yml");
    let workflow = fs::read_to_string(workflow).unwrap();
    for exercise in exercises().unwrap() {
        let n = exercise.number().unwrap();
        for line in [
            format!("- id: exercise_{n}\n"),
            format!("command: cargo course check {n}\n"),
            format!(
                "EXERCISE_{n}_RESULTS: ${{{{ steps.exercise_{n}.outputs.result \
                 }}}}\n"
            ),
        ] {
            assert!(workflow.contains(&line), "docs/classroom.yml: {line}");
        }
        let runners = workflow.lines().last().unwrap();
        assert!(runners.contains(&format!("exercise_{n}")), "{runners}");
    }
}
