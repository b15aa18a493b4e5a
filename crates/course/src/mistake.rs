//! The typical mistakes: each one a difference from an exercise's solution.
//!
//! The program that makes a mistake is written from the difference, to where
//! Cargo finds examples, under a name that Git ignores.

use std::path::PathBuf;
use std::{env, fs, process};

use anyhow::{Context, Result, bail};
use diffy::{DiffOptions, Line, Patch, PatchFormatter};
use harness::BuildError;

use crate::exercise::{EXAMPLES, PACKAGE, exercises, features, names, target};
use crate::{Origin, Target};

/// A folder for each exercise, in it a file for each mistake.
const MISTAKES: &str = "crates/exercises/mistakes";
/// What the written programs' names begin with, and no others.
const PREFIX: &str = "mistake-";
/// How many lines a difference shows around a change: the fewer, the longer it
/// fits while the solution changes.
const CONTEXT: usize = 1;
/// Set to anything, differences whose lines have moved are written again.
const RECORD: &str = "RECORD";

/// A mistake that the checker recognises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    stem: String,
    /// The diagnosis that it must get.
    pub id: String,
}

impl Mistake {
    /// The file of the difference, from the root of the repository.
    pub fn file(&self) -> String {
        format!("{MISTAKES}/{}/{}.diff", self.stem, self.id)
    }

    /// The name of the example that makes it.
    pub fn example(&self) -> String {
        format!("{PREFIX}{}-{}", self.stem, self.id)
    }

    /// The unified difference of its program from the solution.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn difference(&self) -> Result<String> {
        read(&self.file())
    }

    /// As [`Mistake::difference`], in colours: print it through `anstream`.
    ///
    /// # Errors
    /// If the file cannot be read, or is no unified difference.
    pub fn coloured(&self) -> Result<String> {
        let difference = self.difference()?;
        let patch = Patch::from_str(&difference)?;
        let colours = PatchFormatter::new().with_color();
        Ok(colours.fmt_patch(&patch).to_string())
    }

    /// Builds its program.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self) -> Result<Target, BuildError> {
        let example = self.example();
        let options = features(&self.stem);
        let path =
            harness::build(PACKAGE, "--example", &example, &options, false)?;
        Ok(target(path, Origin::Mistake(self.clone())))
    }

    fn solution(&self) -> String {
        format!("{EXAMPLES}/{}.rs", self.stem)
    }

    fn program(&self) -> Result<String> {
        let solution = read(&self.solution())?;
        let difference = self.difference()?;
        if env::var_os(RECORD).is_some()
            && let Some(again) = self.made_again(&solution, &difference)
        {
            write(&self.file(), &again)?;
            return apply(&solution, &again);
        }
        apply(&solution, &difference).with_context(|| {
            format!("{} does not fit {}", self.file(), self.solution())
        })
    }

    /// The difference with the line numbers of today's solution.
    fn made_again(&self, solution: &str, difference: &str) -> Option<String> {
        let patch = Patch::from_str(difference).ok()?;
        let program = diffy::apply(solution, &patch).ok()?;
        let again = DiffOptions::new()
            .set_context_len(CONTEXT)
            .set_original_filename(format!("examples/{}.rs", self.stem))
            .set_modified_filename(format!("examples/{}.rs", self.example()))
            .create_patch(solution, &program)
            .to_string();
        Some(again)
    }
}

/// The mistakes of the exercise with that stem; none if there is no folder.
pub(crate) fn mistakes(stem: &str) -> Result<Vec<Mistake>> {
    let folder = format!("{MISTAKES}/{stem}");
    if !harness::root().join(&folder).is_dir() {
        return Ok(Vec::new());
    }
    let mistake = |id| Mistake {
        stem: stem.to_owned(),
        id,
    };
    Ok(names(&folder, "diff")?.into_iter().map(mistake).collect())
}

/// Writes the program of each mistake to where Cargo finds it, if it is not
/// there yet, and removes the programs that no difference makes.
///
/// # Errors
/// All differences that do not fit their solutions, with the hunk and the line
/// that each of them expects; or if a file cannot be read or written.
pub fn write_mistakes() -> Result<()> {
    let mut wanted = Vec::new();
    let mut errors = Vec::new();
    for exercise in exercises()? {
        for mistake in exercise.mistakes()? {
            let example = mistake.example();
            let path = format!("{EXAMPLES}/{example}.rs");
            match mistake.program() {
                Ok(program) if read(&path).ok() == Some(program.clone()) => {}
                Ok(program) => write(&path, &program)?,
                Err(error) => errors.push(format!("{error:#}")),
            }
            wanted.push(example);
        }
    }
    if harness::root().join(EXAMPLES).is_dir() {
        for example in names(EXAMPLES, "rs")? {
            if example.starts_with(PREFIX) && !wanted.contains(&example) {
                let path = path(&format!("{EXAMPLES}/{example}.rs"));
                fs::remove_file(path)?;
            }
        }
    }
    if !errors.is_empty() {
        bail!(
            "{}\n\nIf lines have only moved, `{RECORD}=1 cargo course mistakes` \
             writes their new numbers; mend the rest by hand.",
            errors.join("\n\n")
        );
    }
    Ok(())
}

/// What `difference` makes of `solution`.
fn apply(solution: &str, difference: &str) -> Result<String> {
    let patch = Patch::from_str(difference)?;
    // diffy would look for the lines elsewhere, too.
    stands_where_it_says(&patch, solution)?;
    let program = diffy::apply(solution, &patch)?;
    stands_where_it_says(&patch.reverse(), &program)?;
    Ok(program)
}

/// Fails unless the lines that `patch` keeps or removes are in `text`, with
/// the numbers that it gives them.
fn stands_where_it_says(patch: &Patch<'_, str>, text: &str) -> Result<()> {
    for (hunk, n) in patch.hunks().iter().zip(1..) {
        let expected = hunk.lines().iter().filter_map(|line| match line {
            Line::Context(text) | Line::Delete(text) => Some(*text),
            Line::Insert(_) => None,
        });
        let first = hunk.old_range().start();
        let mut found = text.split_inclusive('\n').skip(first.max(1) - 1);
        for (expected, line) in expected.zip(first..) {
            let found = found.next().unwrap_or_default();
            if found != expected {
                bail!(
                    "hunk {n} expects, as line {line},\n    {}\nwhere it is\n    \
                     {}",
                    expected.trim_end(),
                    found.trim_end()
                );
            }
        }
    }
    Ok(())
}

fn path(file: &str) -> PathBuf {
    harness::root().join(file)
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(path(file))
        .with_context(|| format!("cannot read {file}"))
}

/// Replaces the file at once: Cargo may be reading it.
fn write(file: &str, text: &str) -> Result<()> {
    let path = path(file);
    let new = path.with_extension(process::id().to_string());
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, &path))
        .with_context(|| format!("cannot write {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOLUTION: &str = "a\nb\nc\nd\ne\nf\ng\n";
    const DIFFERENCE: &str = "\
--- solution
+++ mistake
@@ -1,2 +1,2 @@
-a
+A
 b
@@ -5,2 +5,3 @@
 e
+E
 f
";

    #[test]
    fn a_difference_makes_a_program() {
        let program = apply(SOLUTION, DIFFERENCE).unwrap();
        assert_eq!(program, "A\nb\nc\nd\ne\nE\nf\ng\n");
    }

    #[test]
    fn a_difference_that_does_not_fit_is_refused_with_its_hunk_and_line() {
        let shorter = &SOLUTION[..8];
        let changed = &SOLUTION.replace('f', "F");
        // It would fit one line further down.
        let moved = &SOLUTION.replace('c', "c\nc");
        for (solution, hunk, line, expected, found) in [
            (changed, 2, 6, "f", "F"),
            (moved, 2, 5, "e", "d"),
            (&shorter.to_owned(), 2, 5, "e", ""),
        ] {
            let error = apply(solution, DIFFERENCE).unwrap_err().to_string();
            let wanted = format!(
                "hunk {hunk} expects, as line {line},\n    {expected}\n\
                 where it is\n    {found}"
            );
            assert_eq!(error, wanted);
        }
        let shifted = DIFFERENCE.replace("+5,3", "+6,3");
        assert!(apply(SOLUTION, &shifted).is_err());
        assert!(apply(SOLUTION, "@@ -1,9 +1,2 @@\n-a\n").is_err());
    }
}
