//! The conventions that make the course one whole, kept by machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use harness::root;

const LESSON_LINES: usize = 100;
const HEADER: [&str; 6] = [
    "//! Run:",
    "//! Look for:",
    "//! Limits:",
    "//! Builds on:",
    "//! Chapter: ",
    "//! Test: ",
];
/// What a learner's `cargo run` may have to build, and nothing else.
const LESSON_DEPENDENCIES: [&str; 5] =
    ["anyhow", "ctrlc", "mio", "socket2", "tokio"];
const WORKSPACE_KEYS: [&str; 5] =
    ["version", "edition", "rust-version", "license", "publish"];

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The entries of a folder, without those that begin with a dot.
fn entries(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let folder = root().join(folder);
    let mut entries: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| !name(path).starts_with('.'))
        .collect();
    entries.sort();
    entries
}

fn rust_files(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    entries(folder)
        .into_iter()
        .flat_map(|path| match path.is_dir() {
            true => rust_files(path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The stems of the lessons, such as `01-single-client`.
fn lessons() -> Vec<String> {
    let lessons: Vec<_> = entries("crates")
        .iter()
        .map(|path| name(path))
        .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    assert!(!lessons.is_empty());
    lessons
}

/// The lines of one section of a manifest.
fn section<'a>(manifest: &'a str, header: &str) -> Vec<&'a str> {
    manifest
        .lines()
        .skip_while(|line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// The programs of a lesson: `src/main.rs`, and what stands in `src/bin`.
fn programs(lesson: &str) -> Vec<PathBuf> {
    let source = root().join("crates").join(lesson).join("src");
    let mut programs = vec![source.join("main.rs")];
    if source.join("bin").is_dir() {
        programs.extend(rust_files(source.join("bin")));
    }
    programs
}

#[test]
fn each_lesson_has_its_package_chapter_test_and_line_in_the_readme() {
    let summary = read("docs/SUMMARY.md");
    let readme = read("README.md");
    for lesson in lessons() {
        let manifest = read(format!("crates/{lesson}/Cargo.toml"));
        for line in [
            format!("name = \"lesson-{lesson}\""),
            format!("name = \"{lesson}\""),
            format!("path = \"../../tests/{lesson}.rs\""),
        ] {
            assert!(manifest.contains(&line), "{lesson}: Cargo.toml: {line}");
        }
        read(format!("tests/{lesson}.rs"));
        read(format!("docs/{lesson}.md"));
        assert!(
            summary.contains(&format!("({lesson}.md)")),
            "{lesson}: no line in docs/SUMMARY.md"
        );
        assert!(
            readme.contains(&format!("`cargo run -p lesson-{lesson}`")),
            "{lesson}: no line in the README's table"
        );
    }
}

#[test]
fn each_other_crate_has_its_line_on_both_maps() {
    for page in ["README.md", "CONTRIBUTING.md"] {
        let map = read(page);
        for package in entries("crates") {
            let folder = format!("crates/{}", name(&package));
            assert!(
                lessons().contains(&name(&package)) || map.contains(&folder),
                "{page} does not say what {folder} is"
            );
        }
    }
}

#[test]
fn the_oldest_rust_is_the_same_everywhere() {
    let manifest = read("Cargo.toml");
    let oldest = section(&manifest, "[workspace.package]")
        .iter()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .map(|version| version.trim_matches('"'))
        .expect("no rust-version in Cargo.toml");
    for (file, words) in [
        ("README.md", format!("Rust, {oldest} or newer")),
        ("docs/lab.md", format!("Rust {oldest} or newer")),
        (".github/workflows/ci.yml", format!("cargo +{oldest} check")),
    ] {
        // A hand-out does not have the workflow.
        if !root().join(file).is_file() {
            continue;
        }
        assert!(read(file).contains(&words), "{file}: {words}");
    }
}

#[test]
fn each_header_has_its_five_parts_in_order() {
    for lesson in lessons() {
        for program in programs(&lesson) {
            let text = read(&program);
            let header: Vec<_> =
                text.lines().take_while(|l| l.starts_with("//!")).collect();
            assert!(
                header.first().is_some_and(|line| line.ends_with('.')),
                "{}: the header begins with one sentence",
                program.display()
            );
            let found: Vec<_> = HEADER
                .iter()
                .map(|part| header.iter().position(|l| l.starts_with(part)))
                .collect();
            assert!(
                found.iter().all(Option::is_some) && found.is_sorted(),
                "{}: header parts {HEADER:?}, found at {found:?}",
                program.display()
            );
            let older = header
                .iter()
                .find_map(|line| line.strip_prefix("//! Builds on: "))
                .unwrap_or_default();
            assert!(
                older == "nothing"
                    || older
                        .split(", ")
                        .all(|older| lessons().contains(&older.to_owned())),
                "{}: builds on {older:?}, which is no lesson",
                program.display()
            );
            for part in ["Chapter", "Test"] {
                let prefix = format!("//! {part}: ");
                let line = header.iter().find_map(|l| l.strip_prefix(&prefix));
                let path = line.unwrap_or_default().split(',').next();
                read(path.unwrap_or_default());
            }
        }
    }
}

#[test]
fn each_program_of_a_lesson_is_short() {
    for lesson in lessons() {
        for program in programs(&lesson) {
            let lines = read(&program)
                .lines()
                .map(str::trim)
                .filter(|l| !l.is_empty() && !l.starts_with("//!"))
                .count();
            assert!(
                lines <= LESSON_LINES,
                "{}: {lines} lines, at most {LESSON_LINES}",
                program.display()
            );
        }
    }
}

#[test]
fn a_lesson_depends_on_no_other_crate_of_ours() {
    for lesson in lessons() {
        let manifest = read(format!("crates/{lesson}/Cargo.toml"));
        for line in section(&manifest, "[dependencies]") {
            let name = line.split(['.', ' ']).next().unwrap_or_default();
            assert!(
                LESSON_DEPENDENCIES.contains(&name),
                "{lesson}: a lesson builds on {LESSON_DEPENDENCIES:?} only"
            );
        }
    }
}

#[test]
fn each_package_takes_keys_lints_and_versions_from_the_workspace() {
    for package in entries("crates") {
        let manifest = read(package.join("Cargo.toml"));
        for key in WORKSPACE_KEYS {
            assert!(
                section(&manifest, "[package]")
                    .contains(&format!("{key}.workspace = true").as_str()),
                "{}: {key}.workspace = true",
                package.display()
            );
        }
        assert_eq!(
            section(&manifest, "[lints]"),
            ["workspace = true"],
            "{}: [lints]",
            package.display()
        );
        let headers = manifest.lines();
        for header in headers.filter(|l| l.ends_with("dependencies]")) {
            for line in section(&manifest, header) {
                assert!(
                    line.contains("workspace = true"),
                    "{}: {line}: versions stand in the workspace's Cargo.toml",
                    package.display()
                );
            }
        }
    }
}

#[test]
fn each_test_file_is_declared_by_exactly_one_manifest() {
    let declared: Vec<_> = entries("crates")
        .iter()
        .flat_map(|package| {
            let manifest = read(package.join("Cargo.toml"));
            let lines: Vec<_> = manifest
                .lines()
                .filter_map(|l| l.strip_prefix("path = \"../../tests/"))
                .map(|rest| rest.trim_end_matches('"').to_owned())
                .collect();
            lines
        })
        .collect();
    let files: BTreeSet<_> =
        rust_files("tests").iter().map(|path| name(path)).collect();
    assert_eq!(
        declared.iter().cloned().collect::<BTreeSet<_>>(),
        files,
        "a test that no manifest declares never runs"
    );
    assert_eq!(declared.len(), files.len(), "declared twice: {declared:?}");
}

#[test]
fn no_test_sleeps_and_neither_does_the_harness() {
    // In two pieces, so that these lines do not find themselves.
    let words = [concat!("sle", "ep("), concat!("park_", "timeout(")];
    // It looks at what the kernel tells nobody about, and says so.
    let exception = root().join("crates/harness/src/lab.rs");
    for path in [rust_files("tests"), rust_files("crates/harness")].concat() {
        for word in words {
            assert!(
                !read(&path).contains(word) || path == exception,
                "{}: {word}: wait for an event, not for time to pass",
                path.display()
            );
        }
    }
}

const OPERATOR_1: &str = "01-single-client/src/main.rs";
const OPERATOR_2: &str = "02-reuse-addr/src/main.rs";
const CLIENT: &str = "01-single-client/src/bin/client.rs";
const THREADED: &str = "03-threaded/src/main.rs";
const POOL: &str = "04-thread-pool/src/main.rs";
const DATAGRAMS: &str = "05-udp/src/main.rs";
const SOCKETSERVER: &str = "06-socketserver/src/main.rs";
const FRAMING: &str = "07-framing/src/main.rs";
const LINE_CLIENT: &str = "07-framing/src/bin/line-client.rs";
const OPERATOR_8: &str = "08-dual-stack/src/main.rs";
const DUAL_CLIENT: &str = "08-dual-stack/src/bin/dual-client.rs";
const SHUTDOWN: &str = "09-shutdown/src/main.rs";
const SHUTDOWN_MODULE: &str = "09-shutdown/src/shutdown.rs";
const EVENT_LOOP: &str = "10-event-loop/src/main.rs";
const EVENT_LOOP_CLIENT: &str = "10-event-loop/src/client.rs";
const ASYNC: &str = "11-async/src/main.rs";
const CHAT: &str = "12-chat/src/main.rs";
const CHAT_STATE: &str = "12-chat/src/client.rs";
const CHAT_CLIENT: &str = "12-chat/src/bin/chat-client.rs";

/// What stands in several programs because each stands alone: the beginning
/// of its first line, and the programs.
const COPIES: [(&str, &[&str]); 18] = [
    (
        "const DEFAULT_ADDR: ",
        &[
            OPERATOR_1,
            OPERATOR_2,
            OPERATOR_8,
            CLIENT,
            THREADED,
            POOL,
            DATAGRAMS,
            SOCKETSERVER,
            FRAMING,
            LINE_CLIENT,
            SHUTDOWN,
            EVENT_LOOP,
            ASYNC,
            CHAT,
            CHAT_CLIENT,
        ],
    ),
    (
        "const HINT: ",
        &[
            OPERATOR_1,
            OPERATOR_2,
            OPERATOR_8,
            THREADED,
            POOL,
            DATAGRAMS,
            SOCKETSERVER,
            FRAMING,
            SHUTDOWN,
            EVENT_LOOP,
            ASYNC,
            CHAT,
        ],
    ),
    (
        "const BUFFER_SIZE: ",
        &[
            OPERATOR_1,
            OPERATOR_2,
            OPERATOR_8,
            CLIENT,
            THREADED,
            POOL,
            SOCKETSERVER,
            FRAMING,
            SHUTDOWN,
            EVENT_LOOP_CLIENT,
            ASYNC,
            CHAT_STATE,
            CHAT_CLIENT,
        ],
    ),
    (
        "const ACCEPT_PAUSE: ",
        &[
            OPERATOR_1,
            OPERATOR_2,
            OPERATOR_8,
            THREADED,
            POOL,
            FRAMING,
            SHUTDOWN_MODULE,
            EVENT_LOOP,
            ASYNC,
            CHAT,
        ],
    ),
    (
        "fn accept(",
        &[OPERATOR_1, OPERATOR_2, OPERATOR_8, THREADED, POOL, FRAMING],
    ),
    ("fn serve(", &[THREADED, SHUTDOWN]),
    ("fn echo(", &[THREADED, SOCKETSERVER, SHUTDOWN]),
    ("const HINT: ", &[LINE_CLIENT, CHAT_CLIENT]),
    ("const LISTENER: ", &[EVENT_LOOP, CHAT]),
    ("const READS_A_TURN: ", &[EVENT_LOOP_CLIENT, CHAT_STATE]),
    ("const MAX_LINE: ", &[FRAMING, CHAT_STATE]),
    (
        "fn server_has_gone(",
        &[CLIENT, LINE_CLIENT, DUAL_CLIENT, CHAT_CLIENT],
    ),
    ("fn finish(", &[CLIENT, DUAL_CLIENT]),
    ("fn converse(", &[CLIENT, DUAL_CLIENT]),
    ("enum Closed ", &[OPERATOR_1, OPERATOR_2, OPERATOR_8]),
    ("fn converse(", &[OPERATOR_1, OPERATOR_2, OPERATOR_8]),
    (
        "fn show(",
        &[OPERATOR_1, OPERATOR_2, OPERATOR_8, CLIENT, DUAL_CLIENT],
    ),
    (
        "fn prompt(",
        &[OPERATOR_1, OPERATOR_2, OPERATOR_8, CLIENT, DUAL_CLIENT],
    ),
];

/// The text of an item, its documentation included.
fn item(file: &str, start: &str) -> String {
    let text = read(Path::new("crates").join(file));
    let lines: Vec<_> = text.lines().collect();
    let at = lines.iter().position(|line| line.starts_with(start));
    let at = at.unwrap_or_else(|| panic!("no {start:?} in crates/{file}"));
    let documented = lines[..at].iter().rev();
    let first = at - documented.take_while(|l| l.starts_with("///")).count();
    let constant = start.starts_with("const");
    let last = lines[at..]
        .iter()
        .position(|l| *l == "}" || (constant && l.ends_with(';')));
    lines[first..=at + last.unwrap_or_default()].join("\n")
}

#[test]
fn what_is_copied_from_lesson_to_lesson_is_identical() {
    for (start, files) in COPIES {
        for file in &files[1..] {
            assert!(
                item(file, start) == item(files[0], start),
                "{start}... differs: crates/{} and crates/{file}",
                files[0]
            );
        }
    }
    let decoder_of = |lesson| -> String {
        let text = read(format!("crates/{lesson}/src/lines.rs"));
        let lines = text.split_inclusive('\n');
        lines.filter(|line| !line.contains("// ANCHOR")).collect()
    };
    assert!(
        decoder_of("07-framing") == decoder_of("12-chat"),
        "lines.rs"
    );
    let loop_of = |file: &str| {
        let main = item(file, "fn main() ");
        let start = main.find("    println!(\"listening on ");
        start.map(|start| main[start..].to_owned())
    };
    assert!(loop_of(OPERATOR_1).is_some(), "{OPERATOR_1}: no loop");
    assert_eq!(loop_of(OPERATOR_1), loop_of(OPERATOR_2), "the loop of main");
}
