//! Where the project stands, and the programs of its packages.

use std::collections::BTreeSet;
use std::env::{self, consts::EXE_SUFFIX};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::{Fault, Lab, Result};

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The executable `name` of `package`, built first if it is missing or stale.
///
/// A test gets its own package's programs from Cargo; this is for another
/// package's, which Cargo would neither build nor refresh. It is built with
/// the profile and in the target folder of the running test, once a process;
/// meanwhile other callers wait.
///
/// # Errors
/// [`Fault::Io`] with what Cargo said if it does not compile.
pub fn binary(package: &str, name: &str) -> Result<PathBuf> {
    built(package, "--bin", name)
}

/// The example `name` of `package`, built first if it is missing or stale.
///
/// Cargo builds the examples for a whole `cargo test`, and leaves them as
/// they are for one of its tests. Otherwise as [`binary`].
///
/// # Errors
/// [`Fault::Io`] with what Cargo said if it does not compile.
pub fn example(package: &str, name: &str) -> Result<PathBuf> {
    built(package, "--example", name)
}

fn built(package: &str, kind: &str, name: &str) -> Result<PathBuf> {
    static BUILT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = profile_folder();
    let file = format!("{name}{EXE_SUFFIX}");
    let path = match kind {
        "--example" => folder.join("examples").join(file),
        _ => folder.join(file),
    };
    if !built.contains(&path) {
        build(&[package], &[kind, name], &folder)?;
        built.insert(path.clone());
    }
    Ok(path)
}

/// The folder of the programs of `package` (its examples are in `examples`
/// there), after building what `targets` says in Cargo's words, for example
/// `["--bin", "server", "--color=always"]`. Unlike [`binary`] it asks Cargo
/// each time, so that it sees an edit.
///
/// # Errors
/// [`Fault::Io`] with what Cargo said if it does not compile.
pub fn compile(package: &str, targets: &[&str]) -> Result<PathBuf> {
    let folder = profile_folder();
    build(&[package], targets, &folder)?;
    Ok(folder)
}

/// The folder of the programs of `packages`, all built by one start of Cargo,
/// which is quicker than one for each. As [`compile`] it asks each time.
///
/// # Errors
/// [`Fault::Io`] with what Cargo said if one does not compile.
pub fn binaries(packages: &[&str]) -> Result<PathBuf> {
    let folder = profile_folder();
    build(packages, &["--bins"], &folder)?;
    Ok(folder)
}

fn build(packages: &[&str], targets: &[&str], folder: &Path) -> Result {
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let said = Command::new(cargo)
        .current_dir(root())
        .args(["build", "--quiet"])
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .args(targets)
        .args(["--profile", profile, "--target-dir"])
        .arg(folder.parent().unwrap_or(folder))
        .output();
    let fault = match said {
        Ok(said) if said.status.success() => return Ok(()),
        Ok(said) => {
            Fault::Io(String::from_utf8_lossy(&said.stderr).into_owned())
        }
        Err(error) => error.into(),
    };
    Err(Lab::new().failure(
        "cargo",
        format!("build {}", targets.join(" ")),
        fault,
    ))
}

/// The folder of the running executable's profile, such as `target/debug`.
fn profile_folder() -> PathBuf {
    let exe = env::current_exe().unwrap_or_default();
    let folder = exe.parent().unwrap_or(Path::new("."));
    match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().unwrap_or(folder),
        _ => folder,
    }
    .to_path_buf()
}
