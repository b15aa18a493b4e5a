//! The checker is right about each stub, solution and typical mistake, and
//! survives every program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use std::{env, fs, thread};

use course::{Exercise, Options, Outcome, Target, check, exercises, section};

/// A correct program answers in time on any machine.
const PATIENT: Duration = Duration::from_secs(20);
/// What a mistake that ends in silence costs. Twice the usual would be safer
/// and half of it faster; what comes before must be answered within it.
const IMPATIENT: Duration = Duration::from_millis(1500);
/// Most checks of mistakes wait, so more of them run at once than there are
/// processors.
const AT_ONCE: usize = 8;

fn options(seed: u64, deadline: Duration) -> Options {
    Options { seed, deadline }
}

fn all() -> Vec<Exercise> {
    exercises().unwrap()
}

/// The folder of the examples, all built.
fn examples() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || course::compile(&["--examples"], false).unwrap();
    BUILT.get_or_init(build).join("examples")
}

fn example(name: &str) -> Target {
    let path = examples()
        .join(name)
        .with_added_extension(env::consts::EXE_EXTENSION);
    Target::Command(vec![path.into_os_string()])
}

fn report(exercise: &Exercise, outcome: &Outcome) -> String {
    anstream::adapter::strip_str(&course::show(exercise, outcome)).to_string()
}

fn id(outcome: &Outcome) -> Option<&str> {
    let (_, id) = outcome.verdict.as_ref()?.diagnosis.as_ref()?;
    Some(id)
}

/// Runs `work` on each item, `threads` at once; gives the results in order.
fn side_by_side<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let queue = Mutex::new(items.iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        std::iter::from_fn(next)
            .map(|(n, t)| (n, work(t)))
            .collect()
    };
    let results: BTreeMap<usize, R> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| -> Vec<_> { run() }))
            .collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    results.into_values().collect()
}

/// Each mistake with its exercise, its id, and what the checker said.
fn mistakes() -> &'static [(Exercise, String, Outcome)] {
    static CHECKED: OnceLock<Vec<(Exercise, String, Outcome)>> =
        OnceLock::new();
    CHECKED.get_or_init(|| {
        let mut found = Vec::new();
        for exercise in all() {
            for mistake in exercise.mistakes().unwrap() {
                found.push((exercise.clone(), mistake));
            }
        }
        side_by_side(AT_ONCE, &found, |(exercise, mistake)| {
            let target = example(&mistake.example);
            let outcome = check(exercise, &target, options(7, IMPATIENT));
            (exercise.clone(), mistake.id.clone(), outcome)
        })
    })
}

#[test]
fn each_solution_passes_with_20_seeds() {
    let runs: Vec<_> = all()
        .into_iter()
        .flat_map(|exercise| (1..=20).map(move |seed| (exercise.clone(), seed)))
        .collect();
    side_by_side(2, &runs, |(exercise, seed)| {
        let target = example(exercise.stem());
        let outcome = check(exercise, &target, options(*seed, PATIENT));
        let text = report(exercise, &outcome);
        assert!(outcome.verdict.is_none(), "{text}");
    });
}

#[test]
fn each_untouched_stub_compiles_fails_and_says_that_it_is_to_do() {
    for exercise in all() {
        if env::var_os("CI").is_some() {
            assert!(exercise.is_untouched(), "{} is solved", exercise.stub());
        }
        // A learner's own work is not judged here.
        if !exercise.is_untouched() {
            continue;
        }
        let Ok(target) = exercise.build(false) else {
            assert!(env::var_os("CI").is_none(), "{}", exercise.stub());
            continue;
        };
        let outcome = check(&exercise, &target, options(1, PATIENT));
        let text = report(&exercise, &outcome);
        assert_eq!(id(&outcome), Some("still-to-do"), "{text}");
    }
}

#[test]
fn each_mistake_gets_exactly_its_own_diagnosis() {
    let wrong: Vec<_> = mistakes()
        .iter()
        .filter(|(_, wanted, outcome)| id(outcome) != Some(wanted))
        .map(|(exercise, wanted, outcome)| {
            format!("{wanted}:\n{}", report(exercise, outcome))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn each_mistake_is_close_to_the_solution() {
    for (exercise, id, _) in mistakes() {
        let read = |name: &str| {
            let folder = harness::root().join("crates/exercises/examples");
            fs::read_to_string(folder.join(name)).unwrap()
        };
        let solution = read(&format!("{}.rs", exercise.stem()));
        let mistake = read(&format!("{}-{id}.rs", exercise.stem()));
        let lines = |text: &str| {
            text.lines()
                .filter(|line| !line.starts_with("//!"))
                .map(|line| line.trim().to_owned())
                .fold(BTreeMap::<_, i32>::new(), |mut lines, line| {
                    *lines.entry(line).or_default() += 1;
                    lines
                })
        };
        let (solution, mistake) = (lines(&solution), lines(&mistake));
        let only = |a: &BTreeMap<String, i32>, b: &BTreeMap<String, i32>| {
            a.iter()
                .map(|(line, n)| (n - b.get(line).unwrap_or(&0)).max(0))
                .sum::<i32>()
        };
        let far = only(&mistake, &solution).max(only(&solution, &mistake));
        assert!(far <= 6, "{}-{id}: {far} lines", exercise.stem());
    }
}

#[test]
fn each_step_is_the_first_to_fail_for_some_mistake() {
    for exercise in all() {
        let target = example(exercise.stem());
        let outcome = check(&exercise, &target, options(1, PATIENT));
        let tripped: BTreeSet<_> = mistakes()
            .iter()
            .filter(|(other, _, _)| other.stem() == exercise.stem())
            .filter_map(|(_, _, outcome)| Some(outcome.verdict.as_ref()?.step))
            .collect();
        let untripped: Vec<_> = outcome
            .passed
            .iter()
            .filter(|step| !tripped.contains(*step))
            .collect();
        eprintln!("{}: {untripped:?}", exercise.stem());
    }
}

#[test]
fn each_diagnosis_has_a_heading_and_a_mistake() {
    for exercise in all() {
        let page = harness::root().join(exercise.page());
        let page = fs::read_to_string(page).unwrap();
        let (_, diagnoses) = page
            .split_once("\n## What the checker may tell you\n")
            .unwrap_or_else(|| panic!("{} has no diagnoses", exercise.page()));
        let headings: BTreeSet<_> = diagnoses
            .lines()
            .filter(|line| line.starts_with("### "))
            .map(|line| {
                let id = line
                    .split_once("{#")
                    .and_then(|(_, id)| id.strip_suffix('}'));
                id.unwrap_or_else(|| panic!("no id: {line}")).to_owned()
            })
            .collect();
        let mistakes: BTreeSet<_> = exercise
            .mistakes()
            .unwrap()
            .into_iter()
            .map(|mistake| mistake.id)
            .collect();
        assert_eq!(headings, mistakes, "{}", exercise.page());
        for id in &mistakes {
            let section = section(exercise.stem(), id).unwrap();
            assert!(!section.markdown.is_empty(), "{id} says nothing");
        }
    }
}
