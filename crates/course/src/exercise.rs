//! The exercises: found, not listed.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::check::{self, Check, Target};
use crate::{page, scripts};

const PACKAGE: &str = "exercises";
const STUBS: &str = "crates/exercises/src/bin";
const EXAMPLES: &str = "crates/exercises/examples";

/// An exercise: a stub, a page, a script.
#[derive(Clone)]
pub struct Exercise {
    stem: String,
    pub(crate) script: fn(&mut Check) -> check::Result,
}

/// An example with a mistake that the checker recognises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The diagnosis that it must get.
    pub id: String,
    /// The example's name.
    pub example: String,
}

/// All exercises, in the order of the lessons: each stub is one.
///
/// # Errors
/// If the folder of the stubs cannot be read, or a stub has no script.
pub fn exercises() -> Result<Vec<Exercise>> {
    let mut stems = names(STUBS)?;
    stems.sort();
    stems
        .into_iter()
        .map(|stem| {
            let script = scripts::of(&stem)
                .with_context(|| format!("no script checks {stem}"))?;
            Ok(Exercise { stem, script })
        })
        .collect()
}

/// The exercise with that number or name: `3`, `03`, `03-threaded`.
///
/// # Errors
/// If there is none.
pub fn find(name: &str) -> Result<Exercise> {
    let all = exercises()?;
    let digits = |text: &str| text.parse::<u32>().ok();
    let found = all.iter().find(|exercise| {
        exercise.stem == name
            || (digits(name).is_some() && digits(name) == exercise.number())
    });
    let Some(found) = found else {
        let stems: Vec<_> = all.iter().map(Exercise::stem).collect();
        bail!(
            "there is no exercise {name}; give its number or its name:\n  {}",
            stems.join("\n  ")
        );
    };
    Ok(found.clone())
}

impl Exercise {
    /// Its name, such as `03-threaded`.
    pub fn stem(&self) -> &str {
        &self.stem
    }

    /// Its lesson's number.
    pub fn number(&self) -> Option<u32> {
        self.stem.split('-').next()?.parse().ok()
    }

    /// The only file that a learner edits, from the root of the repository.
    pub fn stub(&self) -> String {
        format!("{STUBS}/{}.rs", self.stem)
    }

    /// The page, from the root of the repository.
    pub fn page(&self) -> String {
        page::file(&self.stem)
    }

    /// What it is about, from the page's title.
    pub fn title(&self) -> String {
        let page = page::read(&self.stem).unwrap_or_default();
        page::title(&page).unwrap_or(&self.stem).to_owned()
    }

    /// True if the file still has a `todo!` outside of its comments.
    pub fn is_untouched(&self) -> bool {
        let path = harness::root().join(self.stub());
        fs::read_to_string(path)
            .unwrap_or_default()
            .lines()
            .any(|line| {
                !line.trim_start().starts_with("//") && line.contains("todo!(")
            })
    }

    /// Builds what the learner wrote.
    ///
    /// # Errors
    /// What Cargo said, if it does not compile.
    pub fn build(&self, colour: bool) -> Result<Target, String> {
        let path = compile(&["--bin", &self.stem], colour)?;
        Ok(target(path.join(&self.stem)))
    }

    /// The typical mistakes among the examples.
    ///
    /// # Errors
    /// If the folder of the examples cannot be read.
    pub fn mistakes(&self) -> Result<Vec<Mistake>> {
        let prefix = format!("{}-", self.stem);
        let mut found: Vec<_> = names(EXAMPLES)?
            .into_iter()
            .filter_map(|example| {
                let id = example.strip_prefix(&prefix)?.to_owned();
                Some(Mistake { id, example })
            })
            .collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

}

/// Builds an example, for instance the solution (named as the stem).
///
/// # Errors
/// What Cargo said, if it does not compile.
pub fn build_example(name: &str, colour: bool) -> Result<Target, String> {
    let path = compile(&["--example", name], colour)?;
    Ok(target(path.join("examples").join(name)))
}

/// Has Cargo build `targets` of the exercises; gives the folder of programs.
///
/// # Errors
/// What Cargo said, if they do not compile.
pub fn compile(targets: &[&str], colour: bool) -> Result<PathBuf, String> {
    let colour = if colour {
        "--color=always"
    } else {
        "--color=never"
    };
    let mut words = targets.to_vec();
    words.push(colour);
    harness::compile(PACKAGE, &words).map_err(|failure| match *failure.fault {
        harness::Fault::Io(said) => said,
        other => other.to_string(),
    })
}

fn target(path: PathBuf) -> Target {
    let mut path = path.into_os_string();
    path.push(std::env::consts::EXE_SUFFIX);
    Target::Command(vec![path])
}

/// The command by which a person starts `target` on the default address.
pub fn by_hand(exercise: &Exercise, target: &Target) -> Option<String> {
    match target {
        Target::At(_) => None,
        Target::Command(words) => {
            let first = words.first().map(PathBuf::from).unwrap_or_default();
            let name = first.file_stem().unwrap_or_default().to_string_lossy();
            let built = first.is_absolute() && words.len() == 1;
            Some(if built && name == exercise.stem && !is_example(&first) {
                format!("cargo run -p {PACKAGE} --bin {name}")
            } else if built && is_example(&first) {
                format!("cargo run -p {PACKAGE} --example {name}")
            } else {
                let words: Vec<_> = words.iter().map(quoted).collect();
                format!("{} 127.0.0.1:9006", words.join(" "))
            })
        }
    }
}

fn is_example(path: &std::path::Path) -> bool {
    path.parent()
        .is_some_and(|folder| folder.ends_with("examples"))
}

fn quoted(word: &OsString) -> String {
    let word = word.to_string_lossy();
    if word.contains(char::is_whitespace) {
        format!("'{word}'")
    } else {
        word.into_owned()
    }
}

/// The names of the Rust files in a folder.
fn names(folder: &str) -> Result<Vec<String>> {
    let path = harness::root().join(folder);
    let entries = fs::read_dir(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            Some(name.strip_suffix(".rs")?.to_owned())
        })
        .collect())
}
