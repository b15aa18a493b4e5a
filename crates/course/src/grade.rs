//! Grades a class: builds and checks what strangers wrote.
//!
//! Of each hand-in only the files that are named as the stubs are taken. Each
//! of them is built and checked alone, in a fresh copy of this checkout without
//! its solutions, in a sandbox. The checker that runs there prints a report,
//! and that is all that comes back.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::{Fault, Lab, Scratch};
use serde_json::{Value, json};
use textwrap::core::{Word, display_width};

use crate::Options;
use crate::report::{commit, now};

/// Not copied: what is made anew, and what would give the answers away.
const LEFT_OUT: [&str; 5] = [
    "target",
    ".git",
    "crates/exercises/examples",
    "crates/exercises/mistakes",
    STUBS,
];
const STUBS: &str = "crates/exercises/src/bin";
/// Looked into by nobody: a whole checkout that was handed in has files in
/// them that are named as the stubs.
const NOT_HANDED_IN: [&str; 3] = ["target", ".git", "examples"];
/// A stub that is longer, in bytes, is no stub.
const LONGEST: u64 = 1 << 20;
/// How many files and folders of one hand-in are looked at.
const ENTRIES: usize = 10_000;
/// How much a report may print, in bytes.
const OUTPUT: usize = 4 << 20;
/// How long the first build may take.
const FIRST_BUILD: Duration = Duration::from_secs(1800);
/// Podman ends what it runs itself, if it can.
const GRACE: Duration = Duration::from_secs(10);
const SCRIPT: &str = include_str!("sandbox.sh");

/// What keeps a stranger's program away from the rest of the machine.
#[derive(Clone, Debug)]
pub enum Sandbox {
    /// Namespaces of Linux: `unshare`, `setpriv`, `prlimit`, `ip`.
    Unshare,
    /// A container made from this image, which has the Rust toolchain.
    Podman(String),
    /// Nothing: this is a virtual machine that may be thrown away.
    None,
}

impl Sandbox {
    /// What a teacher should know before trusting it.
    pub fn limits(&self) -> &'static str {
        match self {
            Self::Unshare | Self::Podman(_) => {
                "A program in the sandbox sees no network, and no file of yours \
                 but the Rust toolchain. You are not protected from a fault in \
                 the kernel or the compiler, nor from one that fills the disk \
                 or, by many processes, the memory. And it runs beside its \
                 checker: one that attacks the checker can forge its result. \
                 Read what passes."
            }
            Self::None => {
                "There is NO sandbox: each program can read, change and send \
                 away all that you can."
            }
        }
    }
}

/// What one student has handed in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandIn {
    /// The files to be graded, by the stems of their exercises.
    pub stubs: BTreeMap<String, PathBuf>,
    /// The names of all other files.
    pub spare: Vec<String>,
}

/// The hand-ins of a folder by student: a folder each, or files whose names
/// end as those of the stubs do, such as `anna_03-threaded.rs`. Links are not
/// followed.
///
/// # Errors
/// If the folder cannot be read.
pub fn hand_ins(
    folder: &Path,
    stems: &[String],
) -> Result<BTreeMap<String, HandIn>> {
    let mut found = BTreeMap::<String, HandIn>::new();
    for path in entries(folder)? {
        let name = shown(&path);
        if name.starts_with(['.', '_']) {
            continue;
        }
        if is_folder(&path) {
            let hand_in = found.entry(name).or_default();
            hand_in.collect(&path, stems)?;
            continue;
        }
        let student_and_stem = stems.iter().find_map(|stem| {
            let rest = name.strip_suffix(&format!("{stem}.rs"))?;
            Some((rest.trim_end_matches(['-', '_', '.', ' ']), stem))
        });
        let (student, stem) = match student_and_stem {
            Some((student, stem)) => (student.to_owned(), Some(stem)),
            None => (name, None),
        };
        found.entry(student).or_default().add(&path, stem);
    }
    Ok(found)
}

impl HandIn {
    /// Adds what is in `folder`, and in the folders in it.
    fn collect(&mut self, folder: &Path, stems: &[String]) -> Result<()> {
        let mut folders = vec![folder.to_owned()];
        let mut looked_at = 0;
        while let Some(next) = folders.pop() {
            for path in entries(&next)? {
                looked_at += 1;
                if looked_at > ENTRIES {
                    self.spare.push("... and more".to_owned());
                    return Ok(());
                }
                let name = shown(&path);
                if is_folder(&path) {
                    if !NOT_HANDED_IN.contains(&name.as_str()) {
                        folders.push(path);
                    }
                    continue;
                }
                let is = |stem: &&String| name == format!("{stem}.rs");
                self.add(&path, stems.iter().find(is));
            }
        }
        Ok(())
    }

    /// Adds a file: of the exercise `stem`, or a spare one.
    fn add(&mut self, path: &Path, stem: Option<&String>) {
        let is_file = fs::symlink_metadata(path)
            .is_ok_and(|data| data.is_file() && data.len() <= LONGEST);
        match stem.filter(|_| is_file) {
            Some(stem) if !self.stubs.contains_key(stem) => {
                self.stubs.insert(stem.clone(), path.to_owned());
            }
            _ => self.spare.push(shown(path)),
        }
    }
}

/// The paths in a folder, in order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    Ok(paths)
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|data| data.is_dir())
}

/// A file's name, harmless on a terminal.
fn shown(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    name.chars().map(escape).collect()
}

/// Where the copies are made, built and thrown away.
pub struct Workshop {
    folder: Scratch,
    sandbox: Sandbox,
    toolchain: PathBuf,
    registry: PathBuf,
    options: Options,
    limit: Duration,
}

impl Workshop {
    /// Makes a copy of this checkout without solutions and builds the checker
    /// in it. Each later build and check may take `limit`.
    ///
    /// # Errors
    /// If the sandbox does not work here, with what to do; or if the copy
    /// cannot be made or built.
    pub fn new(
        sandbox: Sandbox,
        stems: &[String],
        options: Options,
        limit: Duration,
    ) -> Result<Self> {
        let target = harness::root().join("target");
        fs::create_dir_all(&target)?;
        let folder = Scratch::new(&fs::canonicalize(target)?, "grade")?;
        let home = env::home_dir().unwrap_or_default().join(".cargo");
        let cargo_home = env::var_os("CARGO_HOME").map_or(home, PathBuf::from);
        let shop = Self {
            folder,
            sandbox,
            toolchain: toolchain()?,
            registry: cargo_home.join("registry"),
            options,
            limit,
        };
        fs::create_dir(shop.folder.path().join("root"))?;
        let course = shop.course();
        fs::create_dir(&course)?;
        shop.try_out()?;
        copy(harness::root(), &course, &LEFT_OUT.map(Path::new))?;
        fs::create_dir(course.join(STUBS))?;
        for stem in stems {
            // What the stubs build on is built with them.
            let stub = course.join(STUBS).join(format!("{stem}.rs"));
            fs::write(stub, "fn main() {}\n")?;
        }
        // One by one: together they would get features that one alone has not.
        for package in ["course", "exercises"] {
            let build = ["build", "--quiet", "--package", package];
            shop.run(&["cargo"], &build, FIRST_BUILD)
                .map_err(anyhow::Error::msg)
                .context("cannot build the checker for the class")?;
        }
        fs::remove_dir_all(course.join(STUBS))?;
        fs::rename(course, shop.folder.path().join("clean"))?;
        Ok(shop)
    }

    fn course(&self) -> PathBuf {
        self.folder.path().join("course")
    }

    fn try_out(&self) -> Result<()> {
        let Err(said) = self.run(&["cargo"], &["--version"], self.limit) else {
            return Ok(());
        };
        let advice = "\
An image with Rust in podman or docker is a sandbox, too:
  cargo course grade FOLDER --image docker.io/library/rust:1
And so is a virtual machine that you throw away afterwards; in it, type
  cargo course grade FOLDER --no-sandbox";
        match &self.sandbox {
            Sandbox::Unshare if cfg!(target_os = "linux") => bail!(
                "the sandbox does not work here: {said}\n\
                 It needs unshare, setpriv and prlimit (util-linux), ip \
                 (iproute2), and a kernel that\nallows user namespaces; Ubuntu \
                 does after\n  \
                 sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0\n\
                 {advice}"
            ),
            Sandbox::Unshare => {
                bail!("the sandbox is made of parts of Linux.\n{advice}")
            }
            Sandbox::Podman(image) => bail!(
                "podman cannot run cargo in {image}: {said}\n\
                 Try it: podman run --rm {image} cargo --version"
            ),
            Sandbox::None => bail!("cannot run cargo: {said}"),
        }
    }

    /// Builds and checks one file, in a copy of its own; the result is a test
    /// as a report has it.
    ///
    /// # Errors
    /// If the copy cannot be made. What goes wrong in it is a result.
    pub fn grade(&self, stem: &str, stub: &Path) -> Result<Value> {
        let course = self.course();
        copy(&self.folder.path().join("clean"), &course, &[])?;
        fs::create_dir(course.join(STUBS))?;
        let source = fs::read(stub)
            .with_context(|| format!("cannot read {}", stub.display()))?;
        fs::write(course.join(STUBS).join(format!("{stem}.rs")), source)?;
        let seed = self.options.seed.to_string();
        let timeout = self.options.timeout.as_secs_f64().to_string();
        let said = self.run(
            &["target", "debug", "course"],
            &["report", stem, "--seed", &seed, "--timeout", &timeout],
            self.limit,
        );
        fs::remove_dir_all(course).context("cannot remove a copy")?;
        let test = said.and_then(|said| {
            let report: Value = serde_json::from_str(&said)
                .map_err(|error| format!("its report is no JSON: {error}"))?;
            let test = &report["tests"][0];
            match test["status"].as_str() {
                Some("pass" | "fail" | "error") => Ok(test.clone()),
                _ => Err("its report has no result".to_owned()),
            }
        });
        Ok(test.unwrap_or_else(|why| {
            json!({
                "name": stem,
                "status": "error",
                "message": format!("not-graded: {why}"),
                "output": null,
            })
        }))
    }

    /// Runs a program of the copy in the sandbox; gives what it has printed.
    fn run(
        &self,
        program: &[&str],
        words: &[&str],
        limit: Duration,
    ) -> std::result::Result<String, String> {
        let name = format!("course-{}", std::process::id());
        let command = self.command(program, words, limit, &name);
        let grace = match self.sandbox {
            Sandbox::Podman(_) => GRACE,
            _ => Duration::ZERO,
        };
        let lab = Lab::new()
            .with_timeout(limit + grace)
            .with_output_limit(OUTPUT);
        let failure = |failure: harness::Failure| match *failure.fault {
            Fault::TimedOut(_) => {
                format!("it took more than {} seconds", limit.as_secs())
            }
            fault => fault.to_string(),
        };
        let mut program =
            lab.start_in_group("sandbox", command).map_err(failure)?;
        let status = program.exit().map_err(failure);
        let text =
            |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let (said, complaint) =
            (text(program.stdout()), text(program.stderr()));
        drop(program);
        if let Sandbox::Podman(_) = self.sandbox {
            // Gone already, if all went well.
            let mut remove = Command::new("podman");
            let _ = remove.args(["rm", "--force", "--time=0", &name]).output();
        }
        match status? {
            status if status.success() => Ok(said),
            status => Err(format!("{status}\n{}", complaint.trim())),
        }
    }

    fn command(
        &self,
        program: &[&str],
        words: &[&str],
        limit: Duration,
        name: &str,
    ) -> Command {
        let course = self.course();
        let inside = program.join("/");
        let mut command = match &self.sandbox {
            Sandbox::None => {
                let mut command = Command::new(match program {
                    ["cargo"] => PathBuf::from("cargo"),
                    parts => {
                        parts.iter().fold(course.clone(), |p, n| p.join(n))
                    }
                });
                // Set by the Cargo that runs this, and by the teacher.
                for (key, _) in env::vars_os() {
                    let name = key.to_string_lossy();
                    if name.starts_with("CARGO") && name != "CARGO_HOME" {
                        command.env_remove(&key);
                    }
                }
                command.current_dir(&course).envs(CARGO);
                command
            }
            Sandbox::Unshare => {
                let mut path = OsString::from("PATH=/toolchain/bin:");
                path.push(env::var_os("PATH").unwrap_or_default());
                path.push(":/usr/sbin:/sbin");
                let mut command = Command::new("unshare");
                command
                    .args(["--user", "--map-root-user", "--net", "--mount"])
                    .args(["--pid", "--fork", "--kill-child", "--"])
                    .args(["env", "-i"])
                    .arg(path)
                    .args(inside_env())
                    .args(["sh", "-ec", SCRIPT, "sh"])
                    .arg(self.folder.path().join("root"))
                    .args([&course, &self.toolchain, &self.registry])
                    .arg(inside);
                command
            }
            Sandbox::Podman(image) => {
                let volume = |from: &Path, to: &str| {
                    let mut volume = from.as_os_str().to_owned();
                    volume.push(to);
                    volume
                };
                let seconds = limit.as_secs();
                let mut command = Command::new("podman");
                command
                    .args(["run", "--rm", "--name", name, "--pull=never"])
                    .args(["--network=none", "--read-only", "--cap-drop=all"])
                    .args(["--security-opt=no-new-privileges"])
                    .args(["--security-opt=label=disable"])
                    .args(["--memory=4g", "--pids-limit=1000"])
                    .arg(format!("--timeout={seconds}"))
                    .args(["--tmpfs=/tmp", "--workdir=/course", "--volume"])
                    .arg(volume(&course, ":/course"))
                    .arg("--volume")
                    .arg(volume(&self.registry, ":/tmp/cargo/registry:ro"))
                    .args(inside_env().map(|set| format!("--env={set}")))
                    .arg(image)
                    .arg(inside);
                command
            }
        };
        command.args(words);
        command
    }
}

/// No network is needed, and small programs are copied faster.
const CARGO: [(&str, &str); 4] = [
    ("CARGO_NET_OFFLINE", "true"),
    ("CARGO_INCREMENTAL", "0"),
    ("CARGO_PROFILE_DEV_DEBUG", "0"),
    ("RUST_LIB_BACKTRACE", "0"),
];

/// The environment in a sandbox, without PATH.
fn inside_env() -> impl Iterator<Item = String> {
    [("HOME", "/tmp"), ("CARGO_HOME", "/tmp/cargo")]
        .into_iter()
        .chain(CARGO)
        .map(|(key, value)| format!("{key}={value}"))
}

/// Where the Rust toolchain is that would be run in this checkout.
fn toolchain() -> Result<PathBuf> {
    let said = Command::new("rustc")
        .current_dir(harness::root())
        .args(["--print", "sysroot"])
        .output()
        .context("cannot start rustc")?;
    let path = String::from_utf8(said.stdout)?;
    Ok(path.trim().into())
}

/// Copies a folder with the files' times, by which Cargo knows what is built,
/// but for `left_out`. Links are left out, too.
fn copy(from: &Path, to: &Path, left_out: &[&Path]) -> Result<()> {
    fs::create_dir_all(to)?;
    for path in entries(from)? {
        let name = path.file_name().unwrap_or_default();
        if left_out.contains(&Path::new(name)) {
            continue;
        }
        let to = to.join(name);
        let data = fs::symlink_metadata(&path)?;
        if data.is_dir() {
            let deeper: Vec<_> = left_out
                .iter()
                .filter_map(|path| path.strip_prefix(name).ok())
                .collect();
            copy(&path, &to, &deeper)?;
        } else if data.is_file() {
            fs::copy(&path, &to)
                .with_context(|| format!("cannot copy {}", path.display()))?;
            File::options()
                .write(true)
                .open(&to)?
                .set_modified(data.modified()?)?;
        }
    }
    Ok(())
}

/// What became of one student's work.
pub struct Grades {
    /// Whose it is.
    pub student: String,
    /// For each exercise a test as a report has it; `None` if it is missing.
    pub tests: Vec<Option<Value>>,
    /// What was handed in beside.
    pub spare: Vec<String>,
}

impl Grades {
    fn score(&self) -> usize {
        self.words().filter(|(status, _)| status == "pass").count()
    }

    /// The status of each exercise, and the name of what is wrong.
    fn words(&self) -> impl Iterator<Item = (String, String)> {
        self.tests.iter().map(|test| {
            let Some(test) = test else {
                return ("missing".to_owned(), String::new());
            };
            let text = |key: &str| test[key].as_str().unwrap_or_default();
            let message = text("message");
            let id = message.split([':', '\n']).next().unwrap_or_default();
            let is_id = |c: char| "- ".contains(c) || c.is_ascii_lowercase();
            let id = if id.chars().all(is_id) { id } else { "unknown" };
            (text("status").to_owned(), id.to_owned())
        })
    }

    /// A line of the table, in which names have `width` columns.
    pub fn row(&self, width: usize) -> String {
        let mut row = cell(&self.student, width);
        for (status, id) in self.words() {
            let word = match (status.as_str(), id.as_str()) {
                ("missing", _) => "-",
                (_, "to-do") => "to do",
                (status, _) => status,
            };
            let _ = write!(row, "  {word:5}");
        }
        let _ = write!(row, "  {}/{}", self.score(), self.tests.len());
        row
    }
}

/// The table's first line, for names of `width` columns.
pub fn heading(width: usize, stems: &[String]) -> String {
    let mut row = cell("Student", width);
    for stem in stems {
        let number = stem.split('-').next().unwrap_or(stem);
        let _ = write!(row, "  {number:5}");
    }
    row + "  Score"
}

/// The first `width` columns of `text`, filled up with spaces.
fn cell(text: &str, width: usize) -> String {
    let first = Word::from(text).break_apart(width).next();
    let cell = first.map_or("", |piece| piece.word);
    cell.to_owned() + &" ".repeat(width - display_width(cell))
}

/// What is wrong in most hand-ins: how often, where, and its name.
pub fn most_made(all: &[Grades], stems: &[String]) -> Vec<(usize, String)> {
    let mut counts = BTreeMap::<String, usize>::new();
    for grades in all {
        for ((_, id), stem) in grades.words().zip(stems) {
            if !id.is_empty() {
                *counts.entry(format!("{stem} {id}")).or_default() += 1;
            }
        }
    }
    let mut counts: Vec<_> = counts.into_iter().map(|(k, n)| (n, k)).collect();
    counts.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    counts
}

/// All grades for a spreadsheet (RFC 4180).
pub fn csv(all: &[Grades], stems: &[String]) -> String {
    let mut heads = vec!["student".to_owned()];
    heads.extend_from_slice(stems);
    heads.extend(["score", "max_score", "spare"].map(str::to_owned));
    let rows = all.iter().map(|grades| {
        let mut row = vec![grades.student.clone()];
        row.extend(grades.words().map(|(status, id)| match id.as_str() {
            "" => status,
            id => format!("{status} {id}"),
        }));
        row.push(grades.score().to_string());
        row.push(stems.len().to_string());
        row.push(grades.spare.join(" "));
        row
    });
    let line = |row: Vec<String>| {
        let fields: Vec<_> = row.iter().map(|field| quoted(field)).collect();
        fields.join(",") + "\r\n"
    };
    std::iter::once(heads).chain(rows).map(line).collect()
}

/// A field that no spreadsheet takes for a formula.
fn quoted(field: &str) -> String {
    let formula = field.starts_with(['=', '+', '-', '@']);
    let guard = if formula { "'" } else { "" };
    format!("\"{guard}{}\"", field.replace('"', "\"\""))
}

/// All grades for a program.
pub fn json(all: &[Grades], stems: &[String], options: Options) -> Value {
    let students: Vec<_> = all
        .iter()
        .map(|grades| {
            let tests: Vec<_> = grades.tests.iter().flatten().collect();
            json!({
                "name": grades.student,
                "score": grades.score(),
                "max_score": stems.len(),
                "tests": tests,
                "spare": grades.spare,
            })
        })
        .collect();
    json!({
        "students": students,
        "exercises": stems,
        "seed": options.seed,
        "commit": commit(),
        "time": now(),
    })
}
