//! The servers that are measured, and their start and end.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::NamedTempFile;

use crate::measure::Named;

const START_DEADLINE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A server that takes part in a measurement.
#[derive(Clone, Copy)]
pub enum Contender {
    /// The stem of a lesson, built with the profile of this program, and its
    /// arguments behind the address.
    Lesson(&'static str, &'static [&'static str]),
    /// A file in `c/`, without its ending, and its arguments.
    C(&'static str, &'static [&'static str]),
    /// A file in `python/`, without its ending.
    Python(&'static str),
    /// The file in `node/`.
    Node,
    /// The file in `go/`.
    Go,
}

impl Contender {
    /// The name in a table.
    pub fn label(self) -> String {
        match self {
            Self::Lesson(stem, args) => format!("{stem} {}", args.join(" ")),
            Self::C(file, args) => format!("C {file} {}", args.join(" ")),
            Self::Python(file) => format!("Python {file}"),
            Self::Node => "Node".to_owned(),
            Self::Go => "Go".to_owned(),
        }
        .trim_end()
        .to_owned()
    }

    /// The version of its language; `None` where it is not installed.
    pub fn version(self) -> Option<String> {
        let [program, argument] = match self {
            Self::Lesson(..) => ["rustc", "--version"],
            Self::C(..) => ["cc", "--version"],
            Self::Python(_) => ["python3", "--version"],
            Self::Node => ["node", "--version"],
            Self::Go => ["go", "version"],
        };
        let said = Command::new(program).arg(argument).output().ok()?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let line = text.lines().next().unwrap_or_default().trim();
        let line = line.strip_prefix("go version ").unwrap_or(line);
        Some(match self {
            Self::Node => format!("Node {line}"),
            _ => line.to_owned(),
        })
    }

    /// Its name and the words of its command. It is built if it has to be, in
    /// `folder` if it is not a lesson.
    pub fn named(self, folder: &Path) -> Result<Named> {
        let here = harness::root().join("crates/bench");
        let text = |path: PathBuf| path.display().to_string();
        let mut command = match self {
            Self::Lesson(stem, _) => {
                let package = format!("lesson-{stem}");
                let program = harness::binary(&package, &package)
                    .with_context(|| format!("cannot build {package}"))?;
                vec![text(program), "127.0.0.1:0".to_owned()]
            }
            Self::C(file, _) => {
                vec![text(compile(file, folder, &["-pthread"])?)]
            }
            Self::Python(file) => {
                let source = here.join("python").join(file);
                // Itself, and not a script that looks for it and starts it.
                let which = ["-c", "import sys; print(sys.executable)"];
                let python = Command::new("python3").args(which).output()?;
                let python = String::from_utf8(python.stdout)?;
                let source = text(source.with_extension("py"));
                vec![python.trim().to_owned(), source]
            }
            Self::Node => {
                vec!["node".to_owned(), text(here.join("node/events.mjs"))]
            }
            Self::Go => {
                let program = folder.join("goroutines");
                let mut go = Command::new("go");
                go.args(["build", "-o"]).arg(&program);
                run(go.arg(here.join("go/goroutines.go")))?;
                vec![text(program)]
            }
        };
        if let Self::Lesson(_, args) | Self::C(_, args) = self {
            command.extend(args.iter().map(|&arg| arg.to_owned()));
        }
        Ok((self.label(), command))
    }
}

/// Compiles `file` in `c/`, given without its ending, into `folder`.
pub fn compile(file: &str, folder: &Path, flags: &[&str]) -> Result<PathBuf> {
    let source = harness::root().join("crates/bench/c").join(file);
    let (source, program) = (source.with_extension("c"), folder.join(file));
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-Wall"]).args(flags).arg("-o");
    run(cc.args([&program, &source]))?;
    Ok(program)
}

fn run(compiler: &mut Command) -> Result<()> {
    let name = compiler.get_program().display().to_string();
    let status = compiler.status().with_context(|| {
        format!("cannot run {name}; install it (cc is gcc or clang)")
    })?;
    ensure!(
        status.success(),
        "{name} does not compile what it was given"
    );
    Ok(())
}

/// A server that runs. Killed and waited for when it is dropped.
pub struct Server {
    pub process: u32,
    pub addr: SocketAddr,
    _child: KillOnDrop,
    _printed: NamedTempFile,
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Starts `command` behind the words of `prefix` (such as `taskset`),
    /// and waits until it has said its address.
    ///
    /// What it prints goes to a file: a pipe would have to be read meanwhile,
    /// at the expense of the load. Its input stays open: one whose end is the
    /// server's end, too, shall run on.
    pub fn start(prefix: &[String], command: &[String]) -> Result<Self> {
        let words = [prefix, command].concat();
        let name = words.join(" ");
        let printed = NamedTempFile::new().context("no temporary file")?;
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(printed.reopen()?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut child = KillOnDrop(child);
        let start = Instant::now();
        let line = loop {
            let ended = child.0.try_wait()?;
            let text = fs::read_to_string(&printed)?;
            if let Some((line, _)) = text.split_once('\n') {
                break line.to_owned();
            }
            if let Some(status) = ended {
                bail!("{name} ended at once: {status}");
            }
            if start.elapsed() > START_DEADLINE {
                bail!("{name} printed no line in {START_DEADLINE:?}");
            }
            thread::sleep(LOOK_AGAIN);
        };
        let addr = line.strip_prefix("listening on ");
        let addr = addr.and_then(|addr| addr.parse().ok());
        Ok(Self {
            process: child.0.id(),
            addr: addr.with_context(|| {
                format!("{name} began with {line:?}, not its address")
            })?,
            _child: child,
            _printed: printed,
        })
    }
}
