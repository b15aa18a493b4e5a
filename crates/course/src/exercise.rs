//! The exercises: found, not listed.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use harness::BuildError;

use crate::check::{self, Check, Options, Origin, Report, Target};
use crate::diagnosis;
use crate::mistake::{self, Mistake};
use crate::{page, scripts};

pub(crate) const PACKAGE: &str = "exercises";
const STUBS: &str = "crates/exercises/src/bin";
/// Copies of the stubs that nobody edits.
const ORIGINALS: &str = "crates/exercises/stubs";
/// What comes after a pass of a program of the learner's own making.
const ELSEWHERE: &str =
    "cargo course (it lists the Rust stubs only, not this program)";
pub(crate) const EXAMPLES: &str = "crates/exercises/examples";

/// An exercise: a stub, a page, a script.
#[derive(Clone)]
pub struct Exercise {
    stem: String,
    pub(crate) script: fn(&mut Check) -> diagnosis::Result,
}

/// What became of a learner's file.
pub enum Build {
    /// There is no program to check.
    Failed(BuildError),
    /// It was checked.
    Checked(Box<Report>),
}

impl Build {
    /// Checks what was built, if it was.
    pub fn of(
        exercise: &Exercise,
        target: Result<Target, BuildError>,
        options: Options,
    ) -> Self {
        match target {
            Ok(target) => {
                Self::Checked(check::check(exercise, &target, options).into())
            }
            Err(error) => Self::Failed(error),
        }
    }

    /// True if nothing went wrong.
    pub fn passes(&self) -> bool {
        match self {
            Self::Failed(_) => false,
            Self::Checked(report) => report.diagnosis.is_none(),
        }
    }
}

/// All exercises, in the order of the lessons: each stub with a script is one.
///
/// # Errors
/// If the folder of the stubs cannot be read.
pub fn exercises() -> Result<Vec<Exercise>> {
    with_script(STUBS)
}

fn with_script(folder: &str) -> Result<Vec<Exercise>> {
    let exercise = |stem: String| {
        let script = scripts::of(&stem)?;
        Some(Exercise { stem, script })
    };
    Ok(names(folder, "rs")?
        .into_iter()
        .filter_map(exercise)
        .collect())
}

/// The files beside the stubs that are none, from the root of the repository:
/// a copy of an older try, for instance. Nothing is done with them.
///
/// # Errors
/// If the folder of the stubs cannot be read.
pub fn spare_files() -> Result<Vec<String>> {
    let spare = names(STUBS, "rs")?
        .into_iter()
        .filter(|stem| scripts::of(stem).is_none());
    Ok(spare.map(|stem| format!("{STUBS}/{stem}.rs")).collect())
}

/// The exercise with that number or name: `3`, `03`, `03-threaded`.
///
/// # Errors
/// If there is none.
pub fn find(name: &str) -> Result<Exercise> {
    find_in(&exercises()?, name)
}

/// As [`find`], also if the stub is gone.
///
/// # Errors
/// If there is none.
pub fn find_original(name: &str) -> Result<Exercise> {
    find_in(&with_script(ORIGINALS)?, name)
}

fn find_in(all: &[Exercise], name: &str) -> Result<Exercise> {
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

    /// Where a person reads its page.
    pub fn link(&self) -> String {
        page::link(&self.stem, None)
    }

    /// Puts the stub back as it came. Gives the file that what stood there is
    /// kept in; `None` if the stub was as it came.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn reset(&self) -> Result<Option<String>> {
        if self.is_untouched() {
            return Ok(None);
        }
        let root = harness::root();
        let (stub, original) = (self.stub(), self.original());
        let text = fs::read(root.join(&original))
            .with_context(|| format!("cannot read {original}"))?;
        let kept = if root.join(&stub).exists() {
            let mut names = (1..).map(|n| format!("{stub}.{n}"));
            let kept = names.find(|name| !root.join(name).exists());
            let kept = kept.unwrap_or_default();
            fs::copy(root.join(&stub), root.join(&kept))
                .with_context(|| format!("cannot keep {stub} as {kept}"))?;
            kept
        } else {
            String::new()
        };
        fs::write(root.join(&stub), text)
            .with_context(|| format!("cannot write {stub}"))?;
        Ok(Some(kept))
    }

    /// What it is about, from the page's title.
    pub fn title(&self) -> String {
        let page = page::read(&self.stem).unwrap_or_default();
        page::title(&page).unwrap_or(&self.stem).to_owned()
    }

    /// The title without its number.
    pub fn subject(&self) -> String {
        let title = self.title();
        let subject = title.split_once(": ").map(|(_, subject)| subject);
        subject.unwrap_or(&title).to_owned()
    }

    /// The stub as it came, from the root of the repository.
    pub fn original(&self) -> String {
        format!("{ORIGINALS}/{}.rs", self.stem)
    }

    /// True if the stub is as it came.
    pub fn is_untouched(&self) -> bool {
        let text = |file| fs::read_to_string(harness::root().join(file));
        // A checkout on Windows may end its lines with CR LF.
        let lines = |text: String| text.replace('\r', "");
        let original = text(self.original()).map(lines);
        original.is_ok_and(|original| {
            text(self.stub())
                .map(lines)
                .is_ok_and(|stub| stub == original)
        })
    }

    /// Builds what the learner wrote.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self, colour: bool) -> Result<Target, BuildError> {
        self.note_edit()?;
        let options = self.features();
        let path =
            harness::build(PACKAGE, "--bin", &self.stem, &options, colour)?;
        Ok(target(path, Origin::Stub))
    }

    /// Cargo's options for its programs: what the other exercises need is not
    /// built.
    pub fn features(&self) -> Vec<&str> {
        features(&self.stem)
    }

    /// Lets the next build see what the stub says now, even if it was replaced
    /// by an older file.
    ///
    /// # Errors
    /// The file cannot be read, or its time cannot be set.
    pub fn note_edit(&self) -> Result<(), BuildError> {
        let stub = self.stub();
        harness::note_edit(&harness::root().join(&stub)).map_err(|error| {
            BuildError::Cargo(format!("cannot use {stub}: {error}\n"))
        })
    }

    /// Its typical mistakes; none if there is no folder of them.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn mistakes(&self) -> Result<Vec<Mistake>> {
        mistake::mistakes(&self.stem)
    }
}

pub(crate) fn features(stem: &str) -> Vec<&str> {
    match stem {
        // A feature of `exercises`, of the same name.
        "10-event-loop" => vec!["--no-default-features", "--features", stem],
        _ => vec!["--no-default-features"],
    }
}

pub(crate) fn target(path: PathBuf, origin: Origin) -> Target {
    Target::Program {
        words: vec![path.into()],
        origin,
    }
}

/// The command by which a person starts `target` on the default address.
pub(crate) fn by_hand(exercise: &Exercise, target: &Target) -> Option<String> {
    let Target::Program { words, origin } = target else {
        return None;
    };
    Some(match origin {
        Origin::Stub => {
            format!("cargo run -p {PACKAGE} --bin {}", exercise.stem)
        }
        Origin::Mistake(mistake) => {
            format!("cargo run -p {PACKAGE} --example {}", mistake.example())
        }
        Origin::Command => format!("{} 127.0.0.1:9006", line(words)),
    })
}

/// The command of `cargo course` that checked `target`, and what stands behind
/// the exercise's number, and at the end.
pub(crate) fn again(target: &Target) -> (&'static str, String, String) {
    let none = String::new;
    match target {
        Target::At(addr) => ("check", format!(" --at {addr}"), none()),
        Target::Program { words, origin } => match origin {
            Origin::Stub => ("check", none(), none()),
            Origin::Mistake(mistake) => {
                ("demo", format!(" {}", mistake.id), none())
            }
            Origin::Command => {
                ("check", none(), format!(" -- {}", line(words)))
            }
        },
    }
}

/// What comes after a pass of `target`; nothing after a demonstration.
pub(crate) fn next(exercise: &Exercise, target: &Target) -> Option<String> {
    match target {
        Target::Program { origin, .. } => match origin {
            Origin::Stub => Some(behind(exercise)),
            Origin::Mistake(_) => None,
            Origin::Command => Some(ELSEWHERE.to_owned()),
        },
        Target::At(_) => Some(ELSEWHERE.to_owned()),
    }
}

/// The exercise behind this one.
fn behind(exercise: &Exercise) -> String {
    let all = exercises().unwrap_or_default();
    let mut later = all.iter().filter(|other| other.stem > exercise.stem);
    match later.next() {
        Some(next) => format!(
            "lesson {}, and then cargo course check {}",
            next.stem,
            next.number().unwrap_or_default()
        ),
        None => "cargo course (it lists all exercises)".to_owned(),
    }
}

fn line(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(quoted).collect();
    words.join(" ")
}

fn quoted(word: &OsString) -> String {
    let word = word.to_string_lossy();
    if word.is_empty() || word.contains(char::is_whitespace) {
        format!("'{word}'")
    } else {
        word.into_owned()
    }
}

/// The names of the files in a folder that end in `.extension`, without it.
pub(crate) fn names(folder: &str, extension: &str) -> Result<Vec<String>> {
    let path = harness::root().join(folder);
    let entries = fs::read_dir(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut names: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let (name, end) = name.rsplit_once('.')?;
            (end == extension).then(|| name.to_owned())
        })
        .collect();
    names.sort();
    Ok(names)
}
