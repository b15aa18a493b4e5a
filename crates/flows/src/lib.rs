//! Figures that are recordings.
//!
//! A scenario plays a lesson's real programs. Whenever all of them wait, the
//! kernel's tables are read; strace gives the calls between, tcpdump the
//! packets, and a tracepoint the states. With its words that is a [`Flow`].
//! From it [`html`] makes the figure, which a page includes.

pub mod draw;
mod flow;
pub mod html;
pub mod states;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

pub use flow::{
    Actor, Code, Event, Flow, Phase, SS_HEAD, Seen, Side, Snapshot, Socket,
    Step, Waiting,
};

/// The folder of the recordings and the figures.
pub fn folder() -> PathBuf {
    let folder = harness::root().join("docs/flows");
    folder.canonicalize().unwrap_or(folder)
}

/// The names of the scenarios, in the order of the book.
///
/// # Errors
/// The folder cannot be read.
pub fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "json") {
            let stem = path.file_stem().context("a file has a name")?;
            names.push(stem.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The scenario `name`: its recording with its words.
///
/// # Errors
/// There is none, or it is not a recording.
pub fn load(name: &str) -> Result<Flow> {
    let path = folder().join(format!("{name}.json"));
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{}: record it first", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is no recording", path.display()))
}

/// All of them.
///
/// # Errors
/// As for [`load`].
pub fn all() -> Result<Vec<Flow>> {
    names()?.iter().map(|name| load(name)).collect()
}
