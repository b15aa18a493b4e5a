//! Where the project stands, and the programs of its packages.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::SystemTime;
use std::{fmt, io};

use serde_json::Value;

use crate::{Fault, Lab, Result};

/// The stubs of learners may not compile, and are tested by the checker.
const NOT_IN_CARGO_TEST: &str = "exercises";

/// The root of the workspace, where the running program finds it: the folder
/// may have been renamed or copied since it was compiled.
///
/// It is looked for above the package that Cargo runs, then above the current
/// folder, then above the program. If it is nowhere, it is the current folder.
pub fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let starts =
            [package, env::current_dir().ok(), env::current_exe().ok()];
        starts
            .iter()
            .flatten()
            .flat_map(|start| start.ancestors())
            .find(|folder| folder.join("crates/harness/Cargo.toml").is_file())
            .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
    });
    &ROOT
}

/// The executable `name` of `package`, built first if it is missing or stale.
///
/// A test gets its own package's programs from Cargo; this is for another
/// package's, which Cargo would neither build nor refresh. It is built with
/// the profile of the running test, once a process; meanwhile other callers
/// wait.
///
/// # Errors
/// [`Fault::Io`] with what Cargo said if it cannot be built.
pub fn binary(package: &str, name: &str) -> Result<PathBuf> {
    built_once(package, "--bin", name)
}

/// The example `name` of `package`, built first if it is missing or stale.
///
/// Cargo builds the examples for a whole `cargo test`, and leaves them as
/// they are for one of its tests. Otherwise as [`binary`].
pub fn example(package: &str, name: &str) -> Result<PathBuf> {
    built_once(package, "--example", name)
}

fn built_once(package: &str, kind: &str, name: &str) -> Result<PathBuf> {
    type Built = BTreeMap<[String; 3], PathBuf>;
    static BUILT: Mutex<Built> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let key = [package, kind, name].map(str::to_owned);
    if let Some(path) = built.get(&key) {
        return Ok(path.clone());
    }
    let path = build(package, kind, name, &[], false).map_err(|error| {
        let wanted = format!("build {kind} {name}");
        Lab::new().failure("cargo", wanted, Fault::Io(error.to_string()))
    })?;
    built.insert(key, path.clone());
    Ok(path)
}

/// Why there is no program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The source has errors; these are the compiler's words.
    NotCompiling(String),
    /// Cargo itself failed, and the source may be right.
    Cargo(String),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCompiling(said) | Self::Cargo(said) => write!(f, "{said}"),
        }
    }
}

/// Has Cargo build one target of `package` (`kind` is `--bin` or `--example`)
/// and gives the path of the program. Unlike [`binary`] it asks Cargo each
/// time, so that it sees an edit. `options` are Cargo's, such as which features
/// it has; `colour` is for what the compiler says.
///
/// # Errors
/// [`BuildError`].
pub fn build(
    package: &str,
    kind: &str,
    name: &str,
    options: &[&str],
    colour: bool,
) -> std::result::Result<PathBuf, BuildError> {
    let mut targets = [&[kind, name], options].concat();
    // Without a package Cargo takes the features that all need together, as
    // `cargo test` does: so it finds everything built already.
    if package == NOT_IN_CARGO_TEST {
        targets.extend(["--package", package]);
    }
    let messages = cargo_build(&targets, colour)?;
    let program = executables(&messages).find(|(built, _)| built == name);
    program.map(|(_, path)| path).ok_or_else(|| {
        BuildError::Cargo(format!("cargo built no program {name}"))
    })
}

/// The executables of these names, all built by one start of Cargo, which is
/// quicker than one for each. It asks Cargo each time, as [`build`] does.
///
/// # Errors
/// [`Fault::Io`] with what Cargo said if one cannot be built.
pub fn binaries(names: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let targets: Vec<_> =
        names.iter().flat_map(|name| ["--bin", name]).collect();
    let messages = cargo_build(&targets, false).map_err(|error| {
        let wanted = format!("build {}", names.join(", "));
        Lab::new().failure("cargo", wanted, Fault::Io(error.to_string()))
    })?;
    Ok(executables(&messages).collect())
}

fn cargo_build(
    targets: &[&str],
    colour: bool,
) -> std::result::Result<Vec<Value>, BuildError> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let format = if colour {
        "--message-format=json-diagnostic-rendered-ansi"
    } else {
        "--message-format=json"
    };
    let output = Command::new(&cargo)
        .current_dir(root())
        .args(["build", "--quiet"])
        .args(targets)
        .args(["--profile", profile(), format])
        .output()
        .map_err(|error| {
            let cargo = cargo.to_string_lossy();
            BuildError::Cargo(format!("cannot start {cargo}: {error}"))
        })?;
    let messages: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    if output.status.success() {
        Ok(messages)
    } else {
        Err(why_not(&messages, &String::from_utf8_lossy(&output.stderr)))
    }
}

fn executables(messages: &[Value]) -> impl Iterator<Item = (String, PathBuf)> {
    messages.iter().filter_map(|message| {
        let name = message["target"]["name"].as_str()?;
        let path = message["executable"].as_str()?;
        Some((name.to_owned(), path.into()))
    })
}

fn why_not(messages: &[Value], stderr: &str) -> BuildError {
    let said: Vec<_> = messages.iter().map(|m| &m["message"]).collect();
    // A message about the source has a code or a place in it; that the disk is
    // full, or the linker missing, has neither.
    let about_the_source = said.iter().any(|message| {
        let has_place = |spans: &Vec<Value>| !spans.is_empty();
        message["level"] == "error"
            && (message["code"].is_object()
                || message["spans"].as_array().is_some_and(has_place))
    });
    let rendered: Vec<_> =
        said.iter().filter_map(|m| m["rendered"].as_str()).collect();
    let text = format!("{}{stderr}", rendered.concat());
    if about_the_source {
        BuildError::NotCompiling(text)
    } else {
        BuildError::Cargo(text)
    }
}

/// Lets the next build see what `source` says now, whatever its time.
///
/// Cargo compares times only: a file that was replaced by an older one counts
/// as built. The text that was built last is kept beside the running program.
///
/// # Errors
/// The file cannot be read, or its time cannot be set.
pub fn note_edit(source: &Path) -> io::Result<()> {
    let text = fs::read(source)?;
    // Several checkouts may share a folder of programs.
    let path = source.as_os_str().as_encoded_bytes();
    let now = [path, b"\n", &text].concat();
    let mut kept = OsString::from("seen-");
    kept.push(source.file_name().unwrap_or_default());
    let kept = target_folder().join(kept);
    if fs::read(&kept).is_ok_and(|seen| seen == now) {
        return Ok(());
    }
    let file = File::options().write(true).open(source)?;
    file.set_modified(SystemTime::now())?;
    fs::write(kept, now)
}

/// The profile of the running program, from its folder.
fn profile() -> &'static str {
    match target_folder().file_name().and_then(|name| name.to_str()) {
        Some("release") => "release",
        _ => "dev",
    }
}

/// The folder of the running program, such as `target/debug`.
fn target_folder() -> PathBuf {
    let exe = env::current_exe().unwrap_or_default();
    let folder = exe.parent().unwrap_or(Path::new("."));
    match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().unwrap_or(folder),
        _ => folder,
    }
    .to_path_buf()
}
