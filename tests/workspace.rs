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

/// What stands in several programs because each stands alone: the beginning
/// of its first line, and the files, such as `01/bin/client` for
/// `crates/01-single-client/src/bin/client.rs`.
const COPIES: [(&str, &str); 19] = [
    (
        "const DEFAULT_ADDR: ",
        "01/main 02/main 08/main 01/bin/client 03/main 04/main 05/main \
         06/main 07/main 07/bin/line-client 09/main 10/main 11/main 12/main \
         12/bin/chat-client 05/bin/udp-client",
    ),
    (
        "const HINT: ",
        "01/main 02/main 08/main 03/main 04/main 05/main 06/main 07/main \
         09/main 10/main 11/main 12/main",
    ),
    (
        "const BUFFER_SIZE: ",
        "01/main 02/main 08/main 01/bin/client 03/main 04/main 06/main \
         07/main 09/main 10/client 11/main 12/client 12/bin/chat-client",
    ),
    (
        "const ACCEPT_PAUSE: ",
        "01/main 02/main 08/main 03/main 04/main 07/main 09/shutdown \
         10/main 11/main 12/main",
    ),
    (
        "fn accept(",
        "01/main 02/main 08/main 03/main 04/main 07/main",
    ),
    ("fn serve(", "03/main 09/main"),
    ("fn echo(", "03/main 06/main 09/main"),
    ("const HINT: ", "07/bin/line-client 12/bin/chat-client"),
    ("const LISTENER: ", "10/main 12/main"),
    ("const READS_A_TURN: ", "10/client 12/client"),
    ("const MAX_LINE: ", "07/main 12/client"),
    (
        "fn server_has_gone(",
        "01/bin/client 07/bin/line-client 08/bin/dual-client \
         12/bin/chat-client",
    ),
    ("fn finish(", "01/bin/client 08/bin/dual-client"),
    ("fn converse(", "01/bin/client 08/bin/dual-client"),
    ("enum Closed ", "01/main 02/main 08/main"),
    ("fn converse(", "01/main 02/main 08/main"),
    (
        "fn show(",
        "01/main 02/main 08/main 01/bin/client 08/bin/dual-client",
    ),
    (
        "fn prompt(",
        "01/main 02/main 08/main 01/bin/client 08/bin/dual-client",
    ),
    ("const HINT: ", "01/bin/client 05/bin/udp-client"),
];

fn source(file: &str) -> PathBuf {
    let (number, path) = file.split_once('/').expect("such as 01/main");
    let mut lessons = lessons().into_iter();
    let lesson = lessons.find(|lesson| lesson.starts_with(number));
    let lesson = lesson.unwrap_or_else(|| panic!("no lesson {number}"));
    Path::new("crates")
        .join(lesson)
        .join("src")
        .join(path)
        .with_extension("rs")
}

/// The text of an item, its documentation included.
fn item(file: &str, start: &str) -> String {
    let text = read(source(file));
    let lines: Vec<_> = text.lines().collect();
    let at = lines.iter().position(|line| line.starts_with(start));
    let at = at.unwrap_or_else(|| panic!("no {start:?} in {file}"));
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
        let mut files = files.split(' ');
        let first = files.next().expect("two files");
        for file in files {
            assert!(
                item(file, start) == item(first, start),
                "{start}... differs: {first} and {file}"
            );
        }
    }
    // All but the marks by which a chapter shows parts of it.
    let module = |file| -> String {
        let text = read(source(file));
        let lines = text.split_inclusive('\n');
        lines.filter(|line| !line.contains("// ANCHOR")).collect()
    };
    assert!(module("07/lines") == module("12/lines"), "lines.rs");
    assert!(module("04/pool") == module("06/pool"), "pool.rs");
    let loop_of = |file: &str| {
        let main = item(file, "fn main() ");
        let start = main.find("    println!(\"listening on ");
        start.map(|start| main[start..].to_owned())
    };
    assert!(loop_of("01/main").is_some(), "01/main: no loop");
    assert_eq!(loop_of("01/main"), loop_of("02/main"), "the loop of main");
}
