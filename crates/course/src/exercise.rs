//! The exercises: found, not listed.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::check::{self, Check, Options, Origin, Report, Target};
use crate::diagnosis;
use crate::mistake::{self, Mistake};
use crate::{page, scripts};

const PACKAGE: &str = "exercises";
const STUBS: &str = "crates/exercises/src/bin";
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
    /// It does not compile; this is what Cargo said.
    NotCompiling(String),
    /// It was checked.
    Checked(Box<Report>),
}

impl Build {
    /// True if nothing went wrong.
    pub fn passes(&self) -> bool {
        match self {
            Self::NotCompiling(_) => false,
            Self::Checked(report) => report.diagnosis.is_none(),
        }
    }
}

/// Builds what the learner wrote, and checks it.
pub fn build_and_check(
    exercise: &Exercise,
    options: Options,
    colour: bool,
) -> Build {
    match exercise.build(colour) {
        Ok(target) => {
            Build::Checked(check::check(exercise, &target, options).into())
        }
        Err(said) => Build::NotCompiling(said),
    }
}

/// All exercises, in the order of the lessons: each stub is one.
///
/// # Errors
/// If the folder of the stubs cannot be read, or a stub has no script.
pub fn exercises() -> Result<Vec<Exercise>> {
    names(STUBS, "rs")?
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

    /// The title without its number.
    pub fn subject(&self) -> String {
        let title = self.title();
        let subject = title.split_once(": ").map(|(_, subject)| subject);
        subject.unwrap_or(&title).to_owned()
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
        Ok(target(path.join(&self.stem), Origin::Stub))
    }

    /// Its typical mistakes; none if there is no folder of them.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn mistakes(&self) -> Result<Vec<Mistake>> {
        mistake::mistakes(&self.stem)
    }
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

pub(crate) fn target(path: PathBuf, origin: Origin) -> Target {
    let mut path = path.into_os_string();
    path.push(std::env::consts::EXE_SUFFIX);
    Target::Program {
        words: vec![path],
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
pub(crate) fn next(target: &Target) -> Option<&'static str> {
    match target {
        Target::Program { origin, .. } => match origin {
            Origin::Stub => Some("cargo course"),
            Origin::Mistake(_) => None,
            Origin::Command => Some(ELSEWHERE),
        },
        Target::At(_) => Some(ELSEWHERE),
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
