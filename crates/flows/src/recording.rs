//! What a recording holds, without any words: `docs/flows/NAME.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{Event, Snapshot};

/// Everything that was seen, act by act.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// One for each act of the scenario.
    pub acts: Vec<Act>,
}

/// What happens between two rests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// The calls by the clock of their beginning, and behind each what it
    /// caused.
    pub events: Vec<Event>,
    /// The kernel's tables at the rest.
    pub snapshot: Snapshot,
}

/// The folder of the recordings and the figures.
pub fn folder() -> PathBuf {
    harness::root().join("docs/flows")
}

impl Recording {
    /// Where the recording of the scenario `name` is kept.
    pub fn path(name: &str) -> PathBuf {
        folder().join(format!("{name}.json"))
    }

    /// Reads a recording.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is no recording", path.display()))
    }

    /// The text of its file.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}
