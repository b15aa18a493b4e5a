//! The servers that are measured, and their start and end.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::NamedTempFile;

const START_DEADLINE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A server that takes part in a measurement.
#[derive(Clone, Copy)]
pub enum Contender {
    /// The package of a lesson, built with the profile of this program.
    Lesson(&'static str),
    /// A file in `c/`, without its ending, and its arguments.
    C(&'static str, &'static [&'static str]),
    /// A file in `python/`, without its ending.
    Python(&'static str),
}

impl Contender {
    /// The name in a table.
    pub fn label(self) -> String {
        match self {
            Self::Lesson(package) => package.to_owned(),
            Self::C(file, args) => format!("C {file} {}", args.join(" ")),
            Self::Python(file) => format!("Python {file}"),
        }
        .trim_end()
        .to_owned()
    }

    /// Builds it if it has to be, in `folder` if it is in C, and gives the
    /// words of its command.
    ///
    /// # Errors
    /// When it does not compile, or there is no compiler.
    pub fn build(self, folder: &Path) -> Result<Vec<String>> {
        let here = harness::root().join("crates/bench");
        let (program, args) = match self {
            Self::Lesson(package) => {
                let program = harness::binary(package, package)
                    .with_context(|| format!("cannot build {package}"))?;
                (program, vec!["127.0.0.1:0".to_owned()])
            }
            Self::C(file, args) => {
                let args = args.iter().map(|&arg| arg.to_owned()).collect();
                (compile(file, folder, &["-pthread"])?, args)
            }
            Self::Python(file) => {
                let source = here.join("python").join(file);
                let source = source.with_extension("py").display().to_string();
                (PathBuf::from("python3"), vec![source])
            }
        };
        Ok([vec![program.display().to_string()], args].concat())
    }
}

/// Compiles `file` in `c/`, given without its ending, into `folder`.
///
/// # Errors
/// When it does not compile, or there is no compiler.
pub fn compile(file: &str, folder: &Path, flags: &[&str]) -> Result<PathBuf> {
    let source = harness::root().join("crates/bench/c").join(file);
    let (source, program) = (source.with_extension("c"), folder.join(file));
    let status = Command::new("cc")
        .args(["-O2", "-Wall"])
        .args(flags)
        .arg("-o")
        .args([&program, &source])
        .status()
        .context("cannot run cc; install a C compiler, such as gcc or clang")?;
    ensure!(status.success(), "cc cannot compile {}", source.display());
    Ok(program)
}

/// A server that runs. Killed and waited for when it is dropped.
pub struct Server {
    /// The process that was started.
    pub process: u32,
    /// The address where it listens.
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
    /// at the expense of the load.
    ///
    /// # Errors
    /// When it cannot be started, or does not say where it listens.
    pub fn start(prefix: &[String], command: &[String]) -> Result<Self> {
        let words = [prefix, command].concat();
        let name = words.join(" ");
        let printed = NamedTempFile::new().context("no temporary file")?;
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
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
