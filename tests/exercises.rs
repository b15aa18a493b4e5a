//! The checker is right about each stub, solution and typical mistake, and
//! survives every program.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;
use std::{env, fs, thread};

use assert_cmd::cargo::cargo_bin;
use course::{
    Build, BuildError, Exercise, Mistake, Options, Origin, Report, Target,
    exercises, find, section,
};
use harness::{Lab, Result, Transcript, side_by_side};
use predicates::function::function;
use predicates::prelude::*;
use predicates::str::contains;

/// A correct program answers in time on any machine.
const PATIENT: Duration = Duration::from_secs(20);
/// What a mistake that ends in silence costs. Twice the usual would be safer
/// and half of it faster; what comes before must be answered within it.
const IMPATIENT: Duration = Duration::from_millis(1500);
/// A learner's.
const USUAL: Duration = Duration::from_secs(2);
/// Less than a slow program takes to start.
const SHORT: Duration = Duration::from_secs(1);
/// Most checks of mistakes wait, so more of them run at once than there are
/// processors.
const AT_ONCE: usize = 16;

fn options(seed: u32, timeout: Duration) -> Options {
    Options { seed, timeout }
}

fn all() -> Vec<Exercise> {
    exercises().unwrap()
}

/// The folder of the examples, all built.
fn examples() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        course::write_mistakes().unwrap_or_else(|error| panic!("{error:#}"));
        let profile = if cfg!(debug_assertions) {
            "dev"
        } else {
            "release"
        };
        assert_cmd::Command::new(env!("CARGO"))
            .current_dir(harness::root())
            .args(["build", "--quiet", "--package", "exercises"])
            .args(["--examples", "--profile", profile])
            // Nobody debugs two hundred mistakes: they are built sooner so.
            .args(["--config", "profile.dev.package.exercises.debug=false"])
            .assert()
            .success();
        let one = harness::example("exercises", "hostile").unwrap();
        one.parent().unwrap().to_owned()
    };
    BUILT.get_or_init(build).clone()
}

fn path(example: &str) -> OsString {
    let name = format!("{example}{}", env::consts::EXE_SUFFIX);
    examples().join(name).into()
}

fn example(name: &str) -> Target {
    command(name, &[])
}

fn command(example: &str, words: &[&str]) -> Target {
    let words = words.iter().map(Into::into);
    Target::command(std::iter::once(path(example)).chain(words).collect())
}

fn shown(exercise: &Exercise, report: &Report) -> String {
    let build = Build::Checked(report.clone().into());
    anstream::adapter::strip_str(&course::show(exercise, &build)).to_string()
}

fn id(report: &Report) -> Option<&str> {
    let (_, id) = report.diagnosis.as_ref()?.section.as_ref()?;
    Some(id)
}

/// Nobody checks anything while this is locked for writing.
static ALONE: RwLock<()> = RwLock::new(());

fn check(exercise: &Exercise, target: &Target, options: Options) -> Report {
    let _with_others = ALONE.read().unwrap_or_else(PoisonError::into_inner);
    course::check(exercise, target, options)
}

/// False for a mistake that makes no difference on this system. (The option
/// of exercise 02 is a matter of Unix, and only Linux asks the old listener
/// for it, too. Signals are a matter of Unix as well.)
fn shows_here(id: &str) -> bool {
    let on_linux = ["set-after-bind"].contains(&id);
    let on_unix = [
        "no-reuse-addr",
        "reuse-port",
        "waits-it-out",
        "dies-at-once",
        "second-time-ignored",
    ]
    .contains(&id);
    (cfg!(target_os = "linux") || !on_linux) && (cfg!(unix) || !on_unix)
}

/// Each mistake that shows here with its exercise, its id, and what the
/// checker said.
fn mistakes() -> &'static [(Exercise, String, Report)] {
    static CHECKED: OnceLock<Vec<(Exercise, String, Report)>> = OnceLock::new();
    CHECKED.get_or_init(|| {
        let mut found = Vec::new();
        for exercise in all() {
            let mistakes = exercise.mistakes().unwrap().into_iter();
            let shown = mistakes.filter(|mistake| shows_here(&mistake.id));
            found.extend(shown.map(|mistake| (exercise.clone(), mistake)));
        }
        // Those of the last lessons take longest.
        found.reverse();
        let target = |mistake: &Mistake| Target::Program {
            words: vec![path(&mistake.example())],
            origin: Origin::Mistake(mistake.clone()),
        };
        let reports = side_by_side(AT_ONCE, &found, |(exercise, mistake)| {
            check(exercise, &target(mistake), options(7, IMPATIENT))
        });
        let found = found.into_iter().zip(reports).rev();
        found
            .map(|((exercise, mistake), mut report)| {
                // A race, or too short a timeout where so much runs.
                for _ in 0..3 {
                    if id(&report) == Some(&mistake.id) {
                        break;
                    }
                    eprintln!("once more: {}", shown(&exercise, &report));
                    let _alone =
                        ALONE.write().unwrap_or_else(PoisonError::into_inner);
                    let options = options(7, USUAL);
                    report =
                        course::check(&exercise, &target(&mistake), options);
                }
                (exercise, mistake.id, report)
            })
            .collect()
    })
}

/// What the checker said of each solution, with several seeds.
fn solutions() -> &'static [(Exercise, Report)] {
    static CHECKED: OnceLock<Vec<(Exercise, Report)>> = OnceLock::new();
    CHECKED.get_or_init(|| {
        let seeds = if env::var_os("CI").is_some() { 20 } else { 2 };
        let runs: Vec<_> = all()
            .into_iter()
            .flat_map(|exercise| {
                (1..=seeds).map(move |seed| (exercise.clone(), seed))
            })
            .collect();
        // Some of them pause.
        side_by_side(AT_ONCE / 2, &runs, |(exercise, seed)| {
            let target = example(exercise.stem());
            let report = check(exercise, &target, options(*seed, PATIENT));
            (exercise.clone(), report)
        })
    })
}

#[test]
fn each_solution_passes_with_two_seeds_and_in_ci_with_20() {
    for (exercise, report) in solutions() {
        let text = shown(exercise, report);
        assert!(report.diagnosis.is_none(), "{text}");
    }
}

#[test]
fn each_untouched_stub_compiles_fails_and_says_that_it_is_to_do() {
    side_by_side(4, &all(), |exercise| {
        if env::var_os("CI").is_some() {
            let (stub, original) = (exercise.stub(), exercise.original());
            assert!(exercise.is_untouched(), "{stub} is not {original}");
        }
        // A learner's own work is not judged here.
        if !exercise.is_untouched() {
            return;
        }
        let Ok(target) = exercise.build(false) else {
            assert!(env::var_os("CI").is_none(), "{}", exercise.stub());
            return;
        };
        let report = check(exercise, &target, options(1, IMPATIENT));
        let text = shown(exercise, &report);
        assert_eq!(id(&report), Some("still-to-do"), "{text}");
    });
}

/// False if there are so many closed connections that the kernel keeps none:
/// somebody else is at work on this machine.
fn was_tried(mistake: &str, report: &Report) -> bool {
    let skipped = report.skipped.first();
    if let Some(skipped) = skipped {
        eprintln!("{mistake} was not tried: {}", skipped.why);
    }
    skipped.is_none()
}

#[test]
fn each_mistake_gets_exactly_its_own_diagnosis() {
    let wrong: Vec<_> = mistakes()
        .iter()
        .filter(|(_, wanted, report)| id(report) != Some(wanted))
        .filter(|(_, wanted, report)| was_tried(wanted, report))
        .map(|(exercise, wanted, report)| {
            format!("{wanted}:\n{}", shown(exercise, report))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What one exercise needs is a feature, which the checker takes for it alone.
#[test]
fn nothing_but_its_own_exercise_builds_mio() {
    let needs_mio = |options: &[&str]| {
        let tree = assert_cmd::Command::new(env!("CARGO"))
            .current_dir(harness::root())
            .args(["tree", "--offline", "--edges", "normal,build"])
            .args(["--package", "exercises", "--package", "course"])
            .args(options)
            .assert()
            .success();
        let tree = String::from_utf8_lossy(&tree.get_output().stdout);
        tree.contains("mio v")
    };
    for exercise in all() {
        let is_its_own = exercise.stem() == "10-event-loop";
        assert_eq!(needs_mio(&exercise.features()), is_its_own);
    }
}

#[test]
fn each_mistake_fits_its_solution_and_compiles() {
    examples();
}

#[test]
fn each_mistake_is_close_to_the_solution() {
    for exercise in all() {
        for mistake in exercise.mistakes().unwrap() {
            let difference = mistake.difference().unwrap();
            let changed = |sign| {
                let lines =
                    difference.lines().skip_while(|l| !l.starts_with('@'));
                let title = format!("{sign}//!");
                lines
                    .filter(|l| l.starts_with(sign) && !l.starts_with(&title))
                    .count()
            };
            let (gone, new) = (changed('-'), changed('+'));
            assert!(gone.max(new) <= 8, "{}: -{gone} +{new}", mistake.file());
        }
    }
}

/// The first step and the last are the same for all exercises, and failed by
/// hostile programs.
const COMMON_STEPS: [&str; 2] = [
    "the program starts and says where it listens",
    "it still runs, and leaves nothing behind",
];

// Elsewhere a restart always finds its address free: see `shows_here`.
#[cfg(unix)]
#[test]
fn each_step_is_the_first_to_fail_for_some_mistake() {
    for (exercise, report) in solutions() {
        let tripped: BTreeSet<_> = mistakes()
            .iter()
            .filter(|(other, _, _)| other.stem() == exercise.stem())
            .flat_map(|(_, _, report)| {
                let failed = report.diagnosis.as_ref().map(|v| v.step);
                failed
                    .into_iter()
                    .chain(report.skipped.iter().map(|s| s.step))
            })
            .chain(COMMON_STEPS)
            .collect();
        let untripped: Vec<_> = report
            .passed
            .iter()
            .filter(|step| !tripped.contains(*step))
            .collect();
        assert!(untripped.is_empty(), "{}: {untripped:?}", exercise.stem());
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
            assert!(section.hint().is_some(), "{id} has no hint");
        }
    }
}

/// The words between quotation marks in a script that look like an id.
#[test]
fn each_diagnosis_in_a_script_has_a_heading() {
    let ids: BTreeSet<_> = all()
        .iter()
        .flat_map(|exercise| exercise.mistakes().unwrap())
        .map(|mistake| mistake.id)
        .collect();
    let stems: BTreeSet<_> =
        all().iter().map(|e| e.stem().to_owned()).collect();
    let folder = harness::root().join("crates/course/src/scripts");
    let mut found = BTreeSet::new();
    for file in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let words = text.split('"').skip(1).step_by(2).filter(|word| {
            word.contains('-')
                && word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.chars().all(|c| c == '-' || c.is_ascii_lowercase())
        });
        found.extend(words.map(str::to_owned));
    }
    assert!(!found.is_empty());
    let lost: Vec<_> = found
        .difference(&ids)
        .filter(|id| !stems.contains(*id) && section("contract", id).is_none())
        .collect();
    assert!(lost.is_empty(), "no example and no heading: {lost:?}");
}

/// What the checker says of programs that go wrong beside the exercise.
const HOSTILE: [(&str, &str, &str); 20] = [
    ("prints-port-0", COMMON_STEPS[0], "prints-port-0"),
    ("exits-at-once", COMMON_STEPS[0], "ended-by-itself"),
    ("panics-at-once", COMMON_STEPS[0], "ended-by-itself"),
    ("says-nothing", COMMON_STEPS[0], "says-nothing"),
    ("talks-first", COMMON_STEPS[0], "first-line"),
    ("talks-and-ends", COMMON_STEPS[0], "first-line"),
    ("floods-at-once", COMMON_STEPS[0], "floods"),
    (
        "ignores-its-argument",
        COMMON_STEPS[0],
        "ignores-its-argument",
    ),
    (
        "listens-everywhere",
        COMMON_STEPS[0],
        "ignores-its-argument",
    ),
    ("lies", "a client's words are counted", "nobody-listens"),
    ("exits", "a client's words are counted", "ended-by-itself"),
    ("floods", "a client's words are counted", "floods"),
    ("floods-stderr", "a client's words are counted", "floods"),
    ("hangs", "a client's words are counted", "hangs"),
    ("spins", "a client's words are counted", "hangs"),
    ("floods-its-client", "a client's words are counted", ""),
    ("drips", "a client's words are counted", ""),
    ("hangs-up", "a client's words are counted", ""),
    (
        "panics-in-a-thread",
        "a client's words are counted",
        "thread-panicked",
    ),
    ("is-a-daemon", COMMON_STEPS[1], "leaves-children"),
];

#[test]
fn a_hostile_program_is_told_apart_and_ended() {
    let exercise = find("03-threaded").unwrap();
    side_by_side(AT_ONCE, &HOSTILE, |(mode, step, wanted)| {
        // Another language on another system: a daemon is told by its group.
        if *mode == "is-a-daemon" && !cfg!(target_os = "linux") {
            return;
        }
        let target = command("hostile", &[mode]);
        let report = check(&exercise, &target, options(1, IMPATIENT));
        let text = shown(&exercise, &report);
        let diagnosis = report.diagnosis.as_ref();
        assert_eq!(diagnosis.map(|v| v.step), Some(*step), "{mode}: {text}");
        assert_eq!(id(&report).unwrap_or(""), *wanted, "{mode}: {text}");
        assert!(text.lines().count() <= LINES, "{mode}");
        if wanted.is_empty() {
            assert!(text.contains("No known mistake looks like this"));
        } else {
            let section = section("contract", wanted).unwrap();
            assert!(text.contains(&section.title), "{mode}: {text}");
        }
        assert!(report.took < PATIENT, "{mode}: {:?}", report.took);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn no_process_is_left_behind() {
    let exercise = find("03-threaded").unwrap();
    let mark = "EXERCISES_TEST=no_process_is_left_behind";
    let left = || harness::proc::with_environment(mark).unwrap();
    for (mode, wanted) in [
        ("runs-away", Some("leaves-children")),
        ("is-a-daemon", Some("leaves-children")),
        ("takes-children-along", None),
    ] {
        let words = ["env".into(), mark.into(), path("hostile"), mode.into()];
        let target = Target::command(words.into());
        let report = check(&exercise, &target, options(1, PATIENT));
        let text = shown(&exercise, &report);
        assert_eq!(id(&report), wanted, "{mode}: {text}");
        assert_eq!(left(), Vec::<u32>::new(), "{mode}");
    }
}

/// Contract rule 4: ten clients are more than a few descriptors are enough for.
#[cfg(target_os = "linux")]
#[test]
fn clients_that_use_up_the_descriptors_end_no_solution() -> Result {
    let lab = Lab::new();
    let greeter = PathBuf::from(path("02-reuse-addr"));
    let mut greeter = lab.start("greeter", &greeter, &["127.0.0.1:0"])?;
    let relayed = format!("{}\n", greeter.wait_until_listening()?);
    for (stem, question, answer) in [
        ("01-single-client", "1\n", "1 1\n"),
        ("02-reuse-addr", "", "you are visitor "),
        ("03-threaded", "1\n", "1 "),
        ("04-thread-pool", "", "ready\n"),
        ("06-socketserver", "1\n", "1\n"),
        ("07-framing", "\0\0\0\x011", "\0\0\0\x011"),
        ("08-dual-stack", "", "IPv4 127.0.0.1 near\n"),
        ("09-shutdown", "1\n\n", "1\n"),
        ("10-event-loop", "1\n", "1\n"),
        ("11-async", &relayed, "you are visitor "),
    ] {
        let program = PathBuf::from(path(stem));
        let mut server = lab.start(stem, &program, &["127.0.0.1:0"])?;
        let addr = server.wait_until_listening()?;
        harness::proc::leave_descriptors(server.id(), 0).unwrap();
        // An `accept` that waits already has its descriptor.
        lab.connect("first", addr)?.close();
        let many: Vec<_> = (0..10)
            .map(|_| lab.connect("many", addr))
            .collect::<Result<_>>()?;
        // Others may be about the first client, which has left.
        while !server.error_line()?.starts_with("cannot ") {}
        harness::proc::leave_descriptors(server.id(), 9).unwrap();
        drop(many);
        lab.wait_until("serve a client again", || {
            let mut client = lab.connect("client", addr).unwrap();
            client.send(question).unwrap();
            client.expect(answer).is_ok()
        })?;
        assert!(server.status().is_none(), "{stem}");
    }
    Ok(())
}

/// It keeps nothing of those who have left: a handle that nobody joins keeps
/// its thread's stack, two memory mappings each.
#[cfg(target_os = "linux")]
#[test]
fn clients_that_have_left_leave_nothing_behind_in_solution_06() -> Result {
    let lab = Lab::new();
    let program = PathBuf::from(path("06-socketserver"));
    let mut server = lab.start("server", &program, &["127.0.0.1:0"])?;
    let addr = server.wait_until_listening()?;
    let mappings = || {
        let maps = format!("/proc/{}/maps", server.id());
        fs::read_to_string(maps).unwrap().lines().count()
    };
    let visit = || -> Result {
        let mut client = lab.connect("client", addr)?;
        client.send("1\n")?;
        client.expect("1\n")?;
        client.half_close()?;
        client.expect_end()
    };
    visit()?;
    let before = mappings();
    for _ in 0..100 {
        visit()?;
    }
    lab.wait_until("unmap the threads", || mappings() < before + 50)
}

#[cfg(target_os = "linux")]
#[test]
fn a_failing_accept_ends_neither_the_solution_nor_the_stub_of_exercise_03()
-> Result {
    let lab = Lab::new();
    let program = PathBuf::from(path("03-threaded"));
    let mut server = lab.start("server", &program, &["127.0.0.1:0"])?;
    let addr = server.wait_until_listening()?;
    harness::proc::leave_descriptors(server.id(), 0).unwrap();
    // An `accept` that waits already has its descriptor.
    let _first = lab.connect("first", addr)?;
    let mut client = lab.connect("client", addr)?;
    client.send("tea\n")?;
    let complaint = server.error_line()?;
    assert!(
        complaint.starts_with("cannot serve a client: "),
        "{complaint}"
    );
    harness::proc::leave_descriptors(server.id(), 9).unwrap();
    client.expect("tea 1\n")?;

    let exercise = find("3").unwrap();
    if !exercise.is_untouched() {
        return Ok(());
    }
    let Ok(Target::Program { words, .. }) = exercise.build(false) else {
        return Ok(());
    };
    let program = PathBuf::from(&words[0]);
    let mut server = lab.start("stub", &program, &["127.0.0.1:0"])?;
    let addr = server.wait_until_listening()?;
    harness::proc::leave_descriptors(server.id(), 0).unwrap();
    lab.connect("client", addr)?.close();
    server.error_line()?;
    server.error_line()?;
    Ok(())
}

#[test]
fn odd_but_correct_programs_pass() {
    let exercise = find("3").unwrap();
    side_by_side(
        2,
        &["byte-by-byte", "late", "talkative", "crlf", "two-writes"],
        |mode| {
            let target = command("odd", &[mode]);
            let report = check(&exercise, &target, options(1, PATIENT));
            let text = shown(&exercise, &report);
            assert!(report.diagnosis.is_none(), "{text}");
        },
    );
}

#[test]
fn a_program_may_be_slow_to_start() {
    let exercise = find("3").unwrap();
    let target = command("odd", &["slow-start"]);
    let report = check(&exercise, &target, options(1, SHORT));
    let text = shown(&exercise, &report);
    assert!(!text.contains("says nothing"), "{text}");
    assert!(report.passed.contains(&COMMON_STEPS[0]), "{text}");
}

#[test]
fn the_end_of_a_udp_server_ends_the_wait_for_its_answer() {
    let exercise = find("5").unwrap();
    let target = example("mistake-05-udp-empty-datagram-is-eof");
    let report = check(&exercise, &target, options(1, PATIENT));
    assert_eq!(id(&report), Some("empty-datagram-is-eof"));
    assert!(report.took < PATIENT, "{:?}", report.took);
}

#[test]
#[ignore = "needs python3"]
fn a_python_program_passes() {
    let exercise = find("3").unwrap();
    let file = harness::root().join("crates/exercises/examples/03-threaded.py");
    let target = Target::command(vec!["python3".into(), file.into()]);
    for seed in 1..=5 {
        let report = check(&exercise, &target, options(seed, PATIENT));
        let text = shown(&exercise, &report);
        assert!(report.diagnosis.is_none(), "{text}");
    }
}

/// Programs that look like a mistake that has a name, and make another one.
/// "" if the checker must say that it knows none.
#[cfg(target_os = "linux")]
const NEAR_MISSES: &[(&str, &str, &str)] = &[
    ("1", "one-line-a-read", "hangs"),
    ("1", "answers-the-rest-at-the-end", ""),
    ("1", "last-line-first", ""),
    ("1", "slow", "hangs"),
    ("1", "keeps-the-connection", "hangs"),
    ("1", "gives-up-on-a-long-line", ""),
    ("1", "without-a-newline", "no-newline"),
    ("1", "ff-is-the-end", ""),
    ("1", "ends-at-a-zero", ""),
    ("1", "one-client-only", "ended-by-itself"),
    ("1", "ends-at-a-lone-cr", "ends-lines-elsewhere"),
    ("1", "reads-until-a-newline-ends-it", "waits-for-the-rest"),
    ("1", "surrogates", "miscounts-broken-text"),
    ("1", "drops-the-mark", ""),
    ("2", "takes-any-port", "ignores-its-argument"),
    ("2", "waits-behind-the-greeting", "waits-for-the-visitor"),
    ("2", "leaves-a-lock-behind", "ended-by-itself"),
    ("2", "listens-before-it-binds", "calls-out-of-order"),
    ("2", "listens-anew-for-each-visitor", ""),
    ("2", "ends-after-its-visitors", "ended-by-itself"),
    ("2", "greets-late", "hangs"),
    ("2", "says-goodbye", "waits-for-the-visitor"),
    ("3", "two-at-a-time", "hangs"),
    ("3", "first-client-only", "hangs"),
    ("3", "no-word-twice", "ended-by-itself"),
    ("3", "talks-of-what-is-not-implemented", ""),
    ("3", "twelve-clients-only", "ended-by-itself"),
    ("3", "waits-for-the-first-word", "one-at-a-time"),
    ("3", "late-words", "hangs"),
    ("3", "one-writer", "lock-held-while-writing"),
    ("4", "never-sees-the-end", "hangs"),
    ("4", "one-chair-less", "chairs-miscounted"),
    ("4", "says-ready-too-early", ""),
    ("4", "always-busy", ""),
    ("4", "four-workers", "thread-per-client"),
    ("4", "dies-of-a-full-queue", ""),
    ("4", "a-queue-for-each-worker", "not-in-turn"),
    ("4", "a-dispatcher-holds-one", "chairs-miscounted"),
    ("4", "serves-newcomers-only", "hangs"),
    ("4", "panics-at-panicking", ""),
    ("4", "keeps-the-place-of-who-left", "keeps-the-place"),
    ("5", "crashes-on-nothing", "ended-by-itself"),
    ("5", "two-spaces", ""),
    ("5", "twice", ""),
    ("5", "one-answer-only", "hangs"),
    ("5", "fails-in-a-thread", "hangs"),
    ("5", "answers-who-asked-last", "hangs"),
    ("6", "forgets-to-count-a-client-out", "hangs"),
    ("6", "one-second-of-grace", "cuts-off-clients"),
    ("6", "waits-for-the-last", "waits-for-one-only"),
    ("6", "ends-late", "hangs"),
    ("6", "says-where", "announced-otherwise"),
    ("6", "does-not-flush", "announced-at-the-end"),
    ("6", "pool-threads-idle", "hangs"),
    ("6", "adds-short-lines", "short-lines-only"),
    ("7", "two-bytes-of-length", ""),
    ("7", "turns-bytes-round", ""),
    ("7", "adds-a-newline", ""),
    ("7", "no-answer-to-nothing", "hangs"),
    ("7", "half-a-header", "one-read-one-message"),
    ("7", "closes-after-one", ""),
    ("7", "signed-length", "trusts-the-length"),
    ("7", "refuses-when-all-has-come", "hangs"),
    ("7", "refuses-and-stays", "hangs"),
    ("7", "refuses-until-it-leaves", "hangs"),
    ("7", "text-or-death", "dies-with-client"),
    ("7", "turns-the-mark-away", ""),
    ("8", "splits-at-the-first-colon", "ipv4-only"),
    ("8", "all-of-it-mapped", "shows-the-mapped-address"),
    ("8", "near-is-the-servers-own-address", ""),
    ("8", "says-ipv6-always", ""),
    ("8", "who-without-a-newline", "no-newline"),
    ("8", "who-one-client-only", "hangs"),
    ("8", "who-waits-for-the-end", "waits-for-the-client"),
    ("8", "everywhere-of-ipv4", "listens-everywhere"),
    ("9", "cuts-off-with-130", "cuts-off-a-request"),
    ("9", "ctrl-c-only", "dies-at-once"),
    ("9", "whole-numbers-only", "cuts-off-a-request"),
    ("9", "takes-no-hint", "hangs"),
    ("10", "one-sum-for-all", ""),
    ("10", "loses-half-a-line", "one-read-one-line"),
    ("10", "repeats-a-part", ""),
    ("10", "sends-all", "waits-for-a-non-reader"),
    (
        "10",
        "throws-out-who-does-not-read",
        "throws-out-a-non-reader",
    ),
    ("10", "reads-once-an-edge", "waits-for-new-bytes"),
    ("10", "has-a-few-threads", ""),
    ("10", "adds-late", "hangs"),
    ("11", "waits-for-both-and-writes-to-one", "in-turns"),
    ("11", "passes-on-lines", "hangs"),
    ("11", "passes-on-at-the-end", "hangs"),
    ("11", "connects-under-a-lock", "blocks-the-others"),
    ("11", "three-at-a-time", "blocks-the-others"),
    ("11", "thirty-silent-ones", "blocks-the-others"),
    ("11", "leaves-out-what-is-no-text", "takes-bytes-for-text"),
    ("11", "fails-at-what-is-no-text", "takes-bytes-for-text"),
    ("11", "passes-on-no-ff", "hangs"),
    ("11", "a-buffer-for-each-direction", "shared-buffer"),
    ("11", "sends-what-fits", "loses-unsent"),
    ("11", "relays-for-one-client", "hangs"),
    ("11", "says-why-not", ""),
    ("11", "keeps-a-client-without-a-target", "hangs"),
    (
        "11",
        "closes-both-when-the-target-ends",
        "closes-both-at-the-first-end",
    ),
    ("12", "a-part-is-the-topic", ""),
    ("12", "one-topic-each", ""),
    ("12", "late-notices", "hangs"),
    ("12", "counts-in-words", ""),
    ("12", "leaves-lines-out", "loses-unsent"),
    ("12", "repeats-what-waits", ""),
    ("12", "forgets-who-does-not-read", ""),
    ("12", "stays-open-behind-the-end", "hangs"),
];

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs python3"]
fn a_near_miss_does_not_get_the_name_of_another_mistake() {
    let file = "crates/exercises/examples/near-misses.py";
    let target = |name: &str| {
        let file = harness::root().join(file);
        let words = ["python3".into(), file.into(), name.into()];
        Target::command(words.into())
    };
    // A language that starts slowly works more than it waits.
    let some = AT_ONCE / 2;
    let wrong = side_by_side(some, NEAR_MISSES, |(number, name, wanted)| {
        let exercise = find(number).unwrap();
        let (target, options) = (target(name), options(7, USUAL));
        let mut report = check(&exercise, &target, options);
        // On a busy machine one that ends too early may end late, and whoever
        // is slow seems to hang; a wrong name is never right.
        let is_in_doubt =
            report.diagnosis.is_none() || id(&report) == Some("hangs");
        if is_in_doubt && id(&report) != Some(wanted) {
            let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
            report = course::check(&exercise, &target, options);
        }
        let failed = report.diagnosis.is_some();
        let right = failed && id(&report).unwrap_or("") == *wanted;
        let text = format!("{name}: {}", shown(&exercise, &report));
        (!right && was_tried(name, &report)).then_some(text)
    });
    let wrong: Vec<_> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));

    // A longer timeout notices a longer grace period.
    let grace = target("three-seconds-of-grace");
    let exercise = find("6").unwrap();
    let longer = options(7, Duration::from_secs(4));
    let report = check(&exercise, &grace, longer);
    let text = shown(&exercise, &report);
    assert_eq!(id(&report), Some("cuts-off-clients"), "{text}");

    for (number, name) in [
        ("3", "mapped"),
        ("7", "right"),
        ("8", "who"),
        ("9", "leaves-with-143"),
        ("9", "leaves-by-the-signal"),
        ("10", "adds-for-all"),
        ("11", "relays"),
        ("12", "notices"),
    ] {
        let exercise = find(number).unwrap();
        let report = check(&exercise, &target(name), options(7, PATIENT));
        let text = shown(&exercise, &report);
        assert!(report.diagnosis.is_none(), "{text}");
    }
}

#[test]
fn a_program_that_does_not_compile_is_said_to_be_so() {
    let exercise = find("3").unwrap();
    let said = "error: expected one of `!` or `.`".to_owned();
    let build = Build::Failed(BuildError::NotCompiling(said.clone()));
    let text = course::show(&exercise, &build);
    let text = anstream::adapter::strip_str(&text).to_string();
    let section = section("contract", "does-not-compile").unwrap();
    for part in [said, section.title, "FAILED  it compiles".to_owned()] {
        assert!(text.contains(&part), "no {part:?} in\n{text}");
    }
    assert!(!build.passes());
}

#[test]
fn a_program_that_does_not_exist_is_said_to_be_missing() {
    let exercise = find("3").unwrap();
    let target = Target::command(vec!["no-such-program".into()]);
    let report = check(&exercise, &target, options(1, PATIENT));
    assert_eq!(id(&report), Some("cannot-start"));
    let text = shown(&exercise, &report);
    assert!(!text.contains("What happened"), "{text}");
}

#[test]
fn a_server_that_runs_already_is_checked_and_what_needs_a_restart_skipped()
-> Result {
    let lab = Lab::new();
    for exercise in all() {
        let program = PathBuf::from(path(exercise.stem()));
        let mut server = lab.start("server", &program, &["127.0.0.1:0"])?;
        let target = Target::At(server.wait_until_listening()?);
        let report = check(&exercise, &target, options(1, PATIENT));
        let text = shown(&exercise, &report);
        assert!(report.diagnosis.is_none(), "{text}");
        let skips = matches!(
            exercise.stem(),
            "01-single-client"
                | "02-reuse-addr"
                | "06-socketserver"
                | "08-dual-stack"
                | "09-shutdown"
                | "10-event-loop"
        );
        assert_eq!(!report.skipped.is_empty(), skips, "{text}");
        assert_eq!(text.contains("skipped"), skips, "{text}");
    }
    Ok(())
}

#[test]
fn a_server_that_should_run_already_and_does_not_is_missed() {
    use socket2::{Domain, Socket, Type};
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    // It has a port, and does not listen.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&any.into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    let exercise = find("3").unwrap();
    let report = check(&exercise, &Target::At(addr), options(1, PATIENT));
    let text = shown(&exercise, &report);
    assert_eq!(id(&report), Some("nobody-there"), "{text}");
}

#[test]
fn the_same_seed_sends_the_same_words() {
    let exercise = find("1").unwrap();
    let sent = |seed| {
        let target = example("01-single-client");
        let report = check(&exercise, &target, options(seed, PATIENT));
        let events = report.timeline.iter().map(|e| e.what.to_string());
        events
            .filter(|what| what.starts_with("sent"))
            .collect::<Vec<_>>()
    };
    let first = sent(5);
    assert_eq!(sent(5), first);
    assert_ne!(sent(6), first);
}

#[test]
fn what_a_failed_check_says_fits_into_80_columns_and_is_all_there() {
    for (exercise, id, report) in mistakes() {
        let text = shown(exercise, report);
        let typed = |l: &&str| l.contains("cargo run");
        for line in text.lines().filter(|l| !typed(l)) {
            let columns = textwrap::core::display_width(line);
            assert!(columns <= 80, "{columns}: {line}");
        }
        // Whether it is the right one is asked by another test.
        if self::id(report) != Some(id) {
            continue;
        }
        let title = section(exercise.stem(), id).unwrap().title;
        let number = exercise.number().unwrap();
        for part in [
            format!(
                "\n  FAILED  {}\n",
                report.diagnosis.as_ref().unwrap().step
            ),
            "\nWhat happened (in seconds".to_owned(),
            " started: ".to_owned(),
            format!("\n{title}\n"),
            format!("Read     {}#{id}\n", exercise.link()),
            format!("Again    cargo course demo {number} {id} --seed 7\n"),
        ] {
            assert!(text.contains(&part), "no {part:?} in\n{text}");
        }
        assert!(!text.contains('\x1b'), "{text:?}");
        let step = report.diagnosis.as_ref().unwrap().step;
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.len() <= LINES, "{} lines:\n{text}", lines.len());
        let end = &lines[lines.len() - LAST_LINES..];
        let failed = end.iter().position(|l| *l == format!("  FAILED  {step}"));
        let letters = |text: &str| -> String {
            text.split_whitespace().collect::<String>()
        };
        let said = letters(&end[failed.unwrap() + 1..].concat());
        let wanted = letters(&report.diagnosis.as_ref().unwrap().wanted);
        let wanted: String = wanted.chars().take(20).collect();
        assert!(said.contains(&wanted), "no {wanted:?} in {said:?}: {text}");
        let looks = |l: &&str| l.starts_with("  Where to look.");
        assert!(end.iter().any(looks), "{text}");
    }
}

/// What a screen shows.
const LINES: usize = 40;
/// What a small one shows behind a report, above the next prompt.
const LAST_LINES: usize = 23;

#[test]
fn a_report_shows_the_exchange_that_failed_and_the_checkers_own_words() {
    for (exercise, id, report) in mistakes() {
        let Some(diagnosis) = &report.diagnosis else {
            continue;
        };
        let text = shown(exercise, report);
        let row = |event: &harness::Event| {
            let what = event.what.to_string();
            let start: String = what.chars().take(25).collect();
            let at = format!("  {:6.3}  ", event.at.as_secs_f64());
            let shown = |l: &str| l.starts_with(&at) && l.contains(&start);
            assert!(text.lines().any(shown), "{id}: no {what:?} in\n{text}");
        };
        use harness::What::{Connected, HalfClosed, Received, Sent};
        let its = report.timeline.iter().rev().filter(|event| {
            event.who == diagnosis.who && event.at <= diagnosis.at
        });
        let sent = |e: &&harness::Event| {
            matches!(e.what, Sent(_) | HalfClosed | Connected { .. })
        };
        let received = |e: &&harness::Event| matches!(e.what, Received(_));
        // Those who connect together share a row.
        let connects =
            |e: &&&harness::Event| matches!(e.what, Connected { .. });
        let begin = its.clone().find(sent);
        begin.iter().filter(|e| !connects(e)).for_each(|e| row(e));
        let answer = its.take_while(|e| !sent(e)).find(received);
        answer.iter().for_each(|e| row(e));
        // A note on a step that went well explains nothing.
        let is_note = |event: &&harness::Event| {
            matches!(event.what, harness::What::Note(_))
                && event.at >= diagnosis.began
        };
        report
            .timeline
            .iter()
            .rev()
            .find(is_note)
            .iter()
            .for_each(|e| row(e));
    }
}

/// The report on a mistake, without colours.
fn report_on(id: &str, number: u32) -> String {
    let is_it = |(exercise, found, _): &&(Exercise, String, Report)| {
        found == id && exercise.number() == Some(number)
    };
    let (exercise, _, report) = mistakes().iter().find(is_it).unwrap();
    shown(exercise, report)
}

fn in_a_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_report_says_what_others_did_how_long_it_waited_and_what_came_last() {
    let unread = report_on("lock-held-while-writing", 3);
    let silent = "nothing came for 1.5 s, nor in 1.5 s more";
    assert!(in_a_line(&unread).contains(silent), "{unread}");
    assert!(unread.contains("  client deaf           sent "), "{unread}");
    assert!(!unread.contains("  note "), "{unread}");
    // The number stands behind 5,000 bytes.
    let counted = report_on("read-then-write", 3);
    assert!(counted.lines().any(|l| l.contains("\\n...")), "{counted}");
    let closed = report_on("long-line", 1);
    assert!(closed.contains("received a reset"), "{closed}");
    // What is wrong stands behind a long beginning that is right.
    let shared = in_a_line(&report_on("shared-buffer", 11));
    assert!(shared.contains(" around byte "), "{shared}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_report_on_exercise_02_says_how_it_ended_and_what_decides() {
    let well = report_on("fails-with-code-0", 2);
    let said = "but it ended with exit code 0";
    assert!(in_a_line(&well).contains(said), "{well}");
    let waits = report_on("waits-it-out", 2);
    let said = "but it still ran after ";
    assert!(in_a_line(&waits).contains(said), "{waits}");
    let late = report_on("set-after-bind", 2);
    let said = "the checker's own listener, with SO_REUSEADDR, may bind";
    assert!(in_a_line(&late).contains(said), "{late}");
    assert!(!late.contains("  note  and "), "{late}");
    let reset = report_on("resets", 2);
    assert!(reset.contains("received a reset"), "{reset}");
    assert!(reset.contains("is it always reset?"), "{reset}");
}

#[test]
fn what_failed_can_be_sent_by_hand() {
    for (id, wanted) in [
        ("ignores-eof", " --half-close"),
        ("dies-with-client", " --rst"),
        ("keeps-earlier-words", r"\n' --chunk "),
        ("one-word-only", r"\n' --chunk "),
        ("trims", r"\x09\n'"),
        ("utf8-unwrap", r"\x80"),
        ("one-read-one-line", " --chunk "),
        ("keeps-earlier-lines", " --repeat 2 --delay 500"),
        ("one-at-a-time", ""),
    ] {
        let (exercise, _, report) =
            mistakes().iter().find(|(_, found, _)| found == id).unwrap();
        let text = shown(exercise, report);
        let probe = text.lines().find(|line| line.contains("-p probe"));
        let (_, sends) = probe.unwrap().split_once(":9006").unwrap();
        assert!(sends.contains(wanted), "{id}: {sends}");
        assert_eq!(sends.is_empty(), wanted.is_empty(), "{id}: {sends}");
    }
    // Nobody types 70,000 bytes, or stops a program in its `write`.
    for id in ["long-line", "write-not-write-all"] {
        let text = report_on(id, 1);
        assert!(!text.contains("By hand"), "{text}");
    }
}

#[test]
fn what_is_alike_stands_in_one_line_and_the_decisive_line_is_there() {
    let exercise = find("4").unwrap();
    let target = example("mistake-04-thread-pool-worker-lost-on-panic");
    let report = check(&exercise, &target, options(1, IMPATIENT));
    let text = shown(&exercise, &report);
    assert!(text.contains(" sent \"panic\\n\"\n"), "{text}");
    assert!(text.contains("\n  Client "), "{text}");
    let folds = |(exercise, _, report): &(Exercise, String, Report)| {
        shown(exercise, report).contains(" more messages sent, each answered\n")
    };
    assert!(mistakes().iter().any(folds));
}

#[test]
fn cargo_test_leaves_out_the_stubs_and_the_book_and_nothing_else() {
    let made = assert_cmd::Command::new(env!("CARGO"))
        .current_dir(harness::root())
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .assert()
        .success();
    let metadata: serde_json::Value =
        serde_json::from_slice(&made.get_output().stdout).unwrap();
    let default = metadata["workspace_default_members"].as_array().unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        let left_out = !default.contains(&package["id"]);
        let is_apart =
            package["name"] == "exercises" || package["name"] == "book";
        assert_eq!(left_out, is_apart, "{package}");
    }
}

// The program itself.

fn course() -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(cargo_bin!("course"));
    // Editors and CI set it, and one sentence stays one sentence.
    // Long enough for Cargo to build something first on a busy machine.
    command.timeout(15 * PATIENT).env("RUST_BACKTRACE", "1");
    command
}

/// A checkout with one exercise that can be built, in a folder of its own.
struct Checkout {
    folder: PathBuf,
}

impl Checkout {
    fn new(name: &str) -> Self {
        let folder =
            env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        for path in [
            "docs/exercises",
            "crates/harness",
            "crates/exercises/src/bin",
            "crates/exercises/stubs",
        ] {
            fs::create_dir_all(folder.join(path)).unwrap();
        }
        let checkout = Self { folder };
        checkout.write("Cargo.toml", WORKSPACE);
        checkout.write("crates/harness/Cargo.toml", "");
        checkout.write("crates/exercises/Cargo.toml", PACKAGE);
        for file in ["05-udp.md", "contract.md"] {
            checkout.copy(&format!("docs/exercises/{file}"));
        }
        checkout.copy(&find("5").unwrap().stub());
        checkout.copy(&find("5").unwrap().original());
        checkout
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.join(file), text).unwrap();
    }

    fn copy(&self, file: &str) {
        let text = fs::read_to_string(harness::root().join(file)).unwrap();
        self.write(file, &text);
    }

    /// Puts `text` in place of the stub, with the time of a file from long ago.
    fn replace_stub_by_an_old_file(&self, text: &str) {
        let stub = self.folder.join(find("5").unwrap().stub());
        fs::write(&stub, text).unwrap();
        let file = fs::File::options().write(true).open(&stub).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
    }

    /// The checker, as its program in this folder would run: it finds the
    /// folder by the current one here, as Cargo does not start it.
    fn course(&self) -> assert_cmd::Command {
        let mut command = course();
        command
            .current_dir(&self.folder)
            .env_remove("CARGO_MANIFEST_DIR")
            .env("CARGO_NET_OFFLINE", "true")
            .env("CARGO_TARGET_DIR", self.folder.join("target"));
        command
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

const WORKSPACE: &str =
    "[workspace]\nmembers = [\"crates/exercises\"]\nresolver = \"3\"\n";
const PACKAGE: &str = "[package]\nname = \"exercises\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";

#[test]
fn what_is_judged_is_what_the_file_says_in_the_folder_it_is_in() {
    let mut checkout = Checkout::new("judged");
    let right = root_file("crates/exercises/examples/05-udp.rs");
    let wrong = right.replace(".rev()", "");

    checkout.replace_stub_by_an_old_file(&right);
    checkout.course().args(["check", "5"]).assert().success();
    // Replaced by a file that is older than what was built.
    checkout.replace_stub_by_an_old_file(&wrong);
    checkout.course().args(["check", "5"]).assert().code(1);
    checkout.replace_stub_by_an_old_file(&right);
    checkout.course().args(["check", "5"]).assert().success();

    // Renamed, with all that was built.
    let renamed = checkout.folder.with_extension("renamed");
    let _ = fs::remove_dir_all(&renamed);
    fs::rename(&checkout.folder, &renamed).unwrap();
    checkout.folder = renamed;
    checkout.course().args(["check", "5"]).assert().success();
    checkout.replace_stub_by_an_old_file(&wrong);
    checkout.course().args(["check", "5"]).assert().code(1);

    // Another copy shares the folder of what is built.
    let other = Checkout::new("other");
    other.replace_stub_by_an_old_file(&right);
    for _ in 0..2 {
        for (checkout, code) in [(&other, 0), (&checkout, 1)] {
            checkout
                .course()
                .env("CARGO_TARGET_DIR", other.folder.join("target"))
                .args(["check", "5"])
                .assert()
                .code(code);
        }
    }

    // A target of one's own puts the program elsewhere.
    let version = std::process::Command::new("rustc")
        .arg("-vV")
        .output()
        .unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    other
        .course()
        .env("CARGO_BUILD_TARGET", host.unwrap())
        .args(["check", "5"])
        .assert()
        .success();
}

#[test]
fn what_cargo_cannot_do_is_not_the_learners_fault() {
    let checkout = Checkout::new("cargo");
    let is_not_judged = |cargo: &str| {
        let said = contains("The checker could not run cargo:");
        checkout
            .course()
            .args(["check", "5"])
            .env("CARGO", cargo)
            .assert()
            .code(3)
            .stdout(said.and(contains("FAILED").not()));
    };
    is_not_judged("no-such-cargo");
    checkout.write("crates/exercises/Cargo.toml", "what is this");
    is_not_judged(env!("CARGO"));
    // A crate that is not there, and no network.
    let dependency =
        format!("{PACKAGE}[dependencies]\nno-such-crate = \"1\"\n");
    checkout.write("crates/exercises/Cargo.toml", &dependency);
    is_not_judged(env!("CARGO"));
    checkout.write("crates/exercises/Cargo.toml", PACKAGE);
    checkout.replace_stub_by_an_old_file("fn main() { nothing }");
    checkout
        .course()
        .args(["check", "5"])
        .assert()
        .code(1)
        .stdout(contains("FAILED  it compiles").and(contains("E0425")));
}

#[test]
fn a_spare_file_beside_the_stubs_is_named_once_and_left_alone() {
    let checkout = Checkout::new("spare");
    let spare = ["05-udp-old.rs", "04-thread-pool (1).rs"]
        .map(|file| format!("crates/exercises/src/bin/{file}"));
    for file in &spare {
        checkout.write(file, "no program at all");
    }
    checkout
        .course()
        .assert()
        .success()
        .stdout(function(|text: &str| {
            spare.iter().all(|file| text.matches(file).count() == 1)
        }));
    let right = root_file("crates/exercises/examples/05-udp.rs");
    checkout.replace_stub_by_an_old_file(&right);
    checkout.course().args(["check", "5"]).assert().success();
    checkout.course().arg("report").assert().success();
}

fn root_file(file: &str) -> String {
    fs::read_to_string(harness::root().join(file)).unwrap()
}

#[test]
fn a_remark_about_a_todo_does_not_make_a_stub_to_do() {
    let checkout = Checkout::new("remark");
    let state = |word: &str| {
        checkout
            .course()
            .assert()
            .success()
            .stdout(function(|text: &str| {
                let line = text.lines().find(|line| line.starts_with("05-udp"));
                line.is_some_and(|line| line.ends_with(word))
            }));
    };
    state("to do");
    let right = root_file("crates/exercises/examples/05-udp.rs");
    let remark = "    let _ = 1; // was todo!(\"serve\")\n    loop {";
    checkout.replace_stub_by_an_old_file(&right.replace("    loop {", remark));
    state("passes");
    // Begun, and something is left to do.
    let begun = root_file(&find("5").unwrap().original());
    checkout.replace_stub_by_an_old_file(&format!("{begun}\n// begun\n"));
    state("to do");
}

#[test]
fn a_check_exits_with_0_or_1_and_a_wrong_command_line_with_2() {
    let program = path("05-udp");
    course()
        .args(["check", "5", "--"])
        .arg(&program)
        .assert()
        .success();
    course()
        .args(["check", "1", "--timeout", "0.5", "--"])
        .arg(&program)
        .assert()
        .code(1)
        .stdout(contains("FAILED"));
    course()
        .args(["check", "5", "--timeout", "no"])
        .assert()
        .code(2);
    course()
        .args(["check", "5", "--at", "127.0.0.1:9", "--", "x"])
        .assert()
        .code(2);
    course().args(["check", "77"]).assert().code(1).stderr(
        contains("there is no exercise 77").and(contains("03-threaded")),
    );
    course().args(["demo", "3", "no-such-id"]).assert().code(1);
}

#[test]
fn a_pass_ends_with_the_next_step() {
    let exercise = find("5").unwrap();
    let target = example("05-udp");
    let report = check(&exercise, &target, options(1, PATIENT));
    let shown = |target| {
        let report = Report {
            target,
            ..report.clone()
        };
        shown(&exercise, &report)
    };
    // As if the stub had passed.
    let folder = examples().parent().unwrap().join("05-udp");
    let text = shown(Target::Program {
        words: vec![folder.into()],
        origin: Origin::Stub,
    });
    let next =
        "Next     lesson 06-socketserver, and then cargo course check 6\n";
    assert!(text.ends_with(next), "{text}");
    for other in [
        Target::command(vec!["./server".into()]),
        Target::At("127.0.0.1:9006".parse().unwrap()),
    ] {
        let text = shown(other);
        assert!(text.ends_with("Rust stubs only, not this program)\n"));
    }
    let mistake = exercise.mistakes().unwrap().remove(0);
    let text = shown(Target::Program {
        words: vec![],
        origin: Origin::Mistake(mistake),
    });
    assert!(!text.contains("Next"), "{text}");
}

#[test]
fn without_a_terminal_there_is_no_colour() {
    course()
        .args(["check", "5", "--"])
        .arg(path("05-udp"))
        .assert()
        .stdout(contains("\x1b").not());
    course()
        .args(["check", "5", "--"])
        .arg(path("05-udp"))
        .env("CLICOLOR_FORCE", "1")
        .assert()
        .stdout(contains("\x1b"));
    course()
        .args(["check", "5", "--"])
        .arg(path("05-udp"))
        .env("NO_COLOR", "1")
        .assert()
        .stdout(contains("\x1b").not());
}

#[test]
fn help_says_what_each_command_does() {
    let commands = [
        "check", "watch", "hint", "demo", "reset", "report", "grade", "book",
    ];
    for command in commands {
        course()
            .arg("--help")
            .assert()
            .success()
            .stdout(contains(format!("  {command} ")));
        course().args([command, "--help"]).assert().success();
    }
}

#[test]
fn a_demonstration_lists_the_mistakes_and_shows_one_before_its_diagnosis() {
    course()
        .args(["demo", "3"])
        .assert()
        .success()
        .stdout(contains(
            "one-at-a-time             One client keeps the others",
        ));
    course()
        .args(["demo", "3", "not-shared"])
        .assert()
        .success()
        .stdout(function(|text: &str| {
            let [file, change, title] = [
                "03-threaded/not-shared.diff\n",
                "\n-    let tally = ",
                "\nEach client counts alone\n",
            ]
            .map(|part| text.find(part));
            file.is_some() && file < change && change < title
        }));
}

#[test]
fn a_number_alone_is_a_check_and_a_check_alone_is_of_the_next_exercise() {
    course()
        .args(["5", "--"])
        .arg(path("05-udp"))
        .assert()
        .success()
        .stdout(contains("05-udp passes"));
    let checkout = Checkout::new("next");
    let mut next = checkout.course();
    next.arg("check")
        .assert()
        .code(1)
        .stdout(contains("Exercise 05: turn datagrams round"));
    let right = root_file("crates/exercises/examples/05-udp.rs");
    checkout.replace_stub_by_an_old_file(&right);
    let mut next = checkout.course();
    next.arg("check")
        .assert()
        .success()
        .stdout(contains("All exercises pass"));
    course().args(["check", "--", "x"]).assert().code(1);
    course().arg("demo").assert().success();
}

#[test]
fn a_command_in_quotation_marks_is_noticed() {
    course()
        .args(["check", "3", "--", "python3 server.py"])
        .assert()
        .code(1)
        .stderr(contains("without quotation marks"));
}

#[test]
fn a_hint_says_where_to_look_and_not_what_is_wrong() {
    let hint = |example: &str| {
        let mut course = course();
        course.args(["hint", "5", "--"]).arg(path(example)).assert()
    };
    let says = |part: &str| contains(part.to_owned());
    hint("mistake-05-udp-whole-buffer").code(1).stdout(
        says("FAILED  a datagram is answered")
            .and(says("Each use of the buffer after the receiving call."))
            .and(says("Which part").not())
            .and(says("whole buffer").not()),
    );
    hint("05-udp").success().stdout(says("05-udp passes."));
}

#[test]
fn a_hint_says_where_the_program_has_panicked_or_what_came() {
    let hint = |mode: &str| {
        let mut course = course();
        course.args(["hint", "3", "--"]).arg(path("hostile"));
        course.arg(mode).assert().code(1)
    };
    let place = "crates/exercises/examples/hostile.rs:";
    hint("panics-at-once")
        .stdout(contains("What came right before").and(contains(place)));
    hint("hangs-up").stdout(contains("Client a wanted to receive"));
}

#[test]
fn a_reset_puts_the_stub_back_and_keeps_what_was_written() {
    let checkout = Checkout::new("reset");
    let exercise = find("5").unwrap();
    let stub = checkout.folder.join(exercise.stub());
    let reset = || checkout.course().args(["reset", "5"]).assert().success();
    let is_back = || {
        let back = fs::read_to_string(&stub).unwrap();
        assert_eq!(back, root_file(&exercise.original()));
    };
    reset().stdout(contains("is as it came"));
    for n in 1..=2 {
        let mine = format!("// mine {n}\n");
        fs::write(&stub, &mine).unwrap();
        let kept = format!("{}.{n}", exercise.stub());
        reset().stdout(contains(&kept));
        let kept = fs::read_to_string(checkout.folder.join(kept)).unwrap();
        assert_eq!(kept, mine);
        is_back();
    }
    fs::remove_file(&stub).unwrap();
    reset().stdout(contains("is there again"));
    is_back();
}

#[test]
fn the_list_names_each_exercise_and_the_next_step() {
    let list = course().assert().success();
    let text = String::from_utf8_lossy(&list.get_output().stdout).into_owned();
    for exercise in all() {
        assert!(text.contains(exercise.stem()), "{text}");
        assert!(text.contains(&exercise.subject()), "{text}");
    }
    assert!(text.contains("Next: ") || text.contains("All exercises pass"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_watch_and_what_it_checks() -> Result {
    let lab = Lab::new();
    let folder = env::temp_dir().join(format!("watch-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    // Its time of change is looked at, and it is run: a copy will do.
    let watched = folder.join("hostile");
    fs::copy(path("hostile"), &watched).unwrap();
    let program = watched.to_str().unwrap();
    let args = ["watch", "3", "--timeout", "19", "--", program, "hangs"];
    let mut watch = lab.start("watch", cargo_bin!("course"), &args)?;
    let mark = "hangs";
    let child = || child_with(mark, program);
    lab.wait_until("start the program", || child().is_some())?;
    interrupt(&watch);
    watch.expect_error("Stopped.\n")?;
    watch.expect_exit(0)?;
    lab.wait_until("end the program", || child().is_none())?;

    let args = ["watch", "3", "--", program, "exits"];
    let mut watch = lab.start("watch", cargo_bin!("course"), &args)?;
    watch.expect("Ctrl-C ends it.\n")?;
    let file = fs::File::options().append(true).open(&watched).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    // A line tells the reports apart where nothing clears the screen.
    watch.expect(&format!("\n{}\n", "-".repeat(79)))?;
    watch.expect("FAILED")?;
    watch.expect("Ctrl-C ends it.\n")?;
    interrupt(&watch);
    watch.expect_exit(0)?;
    let _ = fs::remove_dir_all(&folder);
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs setpriv"]
fn a_checked_program_ends_with_a_checker_that_is_killed() -> Result {
    let lab = Lab::new();
    let hostile = path("hostile");
    let program = hostile.to_str().unwrap();
    let args = ["check", "3", "--timeout", "19", "--", program, "sleeps"];
    let mut check = lab.start("check", cargo_bin!("course"), &args)?;
    let child = || child_with("sleeps", program);
    lab.wait_until("start the program", || child().is_some())?;
    // SIGKILL: nothing of its own can see to the program.
    check.kill()?;
    lab.wait_until("end the program", || child().is_none())
}

#[cfg(unix)]
fn interrupt(program: &harness::Program) {
    let id = program.id().to_string();
    let said = std::process::Command::new("kill")
        .args(["-INT", &id])
        .status();
    assert!(said.unwrap().success());
}

/// True if a process runs whose command line holds both words.
#[cfg(unix)]
fn child_with(mode: &str, program: &str) -> Option<()> {
    let out = std::process::Command::new("ps")
        .args(["-A", "-ww", "-o", "args="])
        .output()
        .unwrap();
    let list = String::from_utf8_lossy(&out.stdout).into_owned();
    let wanted = format!("{program} {mode} ");
    list.lines()
        .any(|line| line.starts_with(&wanted))
        .then_some(())
}

// The sessions on the book's pages.

/// What was said, by whom, without times.
fn session(lab: &Lab) -> String {
    let events = lab.timeline().events();
    let width = events.iter().map(|e| e.who.len()).max().unwrap_or(0);
    events
        .iter()
        .map(|e| format!("{:width$}  {}\n", e.who, e.what))
        .filter(|line| !line.contains("  started: "))
        .collect()
}

#[test]
fn each_page_shows_a_recorded_session() -> Result {
    for exercise in all() {
        let lab = Lab::new();
        let path = PathBuf::from(path(exercise.stem()));
        let both = exercise.stem() == "08-dual-stack";
        if both && TcpListener::bind("[::1]:0").is_err() {
            eprintln!("skipped: exercise 08, this machine has no IPv6");
            continue;
        }
        let listen_on = if both { "[::]:0" } else { "127.0.0.1:0" };
        let mut program = lab.start("program", &path, &[listen_on])?;
        let addr = program.wait_until_listening()?;
        match exercise.stem() {
            "01-single-client" => {
                let mut a = lab.connect("a", addr)?;
                for (line, answer) in
                    [("hello\n", "5 hello\n"), ("你好\n", "2 你好\n")]
                {
                    a.send(line)?;
                    a.expect(answer)?;
                }
                a.half_close()?;
                a.expect_end()?;
            }
            "02-reuse-addr" => {
                for (name, greeting) in
                    [("a", "you are visitor 1\n"), ("b", "you are visitor 2\n")]
                {
                    let mut visitor = lab.connect(name, addr)?;
                    visitor.expect(greeting)?;
                    visitor.expect_end()?;
                }
            }
            "03-threaded" => {
                let mut a = lab.connect("a", addr)?;
                let mut b = lab.connect("b", addr)?;
                a.send("tea\n")?;
                a.expect("tea 1\n")?;
                b.send("tea\n")?;
                b.expect("tea 2\n")?;
                a.send("milk\n")?;
                a.expect("milk 1\n")?;
                a.half_close()?;
                a.expect_end()?;
            }
            "04-thread-pool" => {
                let mut served = Vec::new();
                for name in ["a", "b", "c"] {
                    let mut client = lab.connect(name, addr)?;
                    client.expect("ready\n")?;
                    served.push(client);
                }
                let mut d = lab.connect("d", addr)?;
                served[0].send("abc\n")?;
                served[0].expect("cba\n")?;
                served[0].half_close()?;
                served[0].expect_end()?;
                d.expect("ready\n")?;
            }
            "05-udp" => {
                let a = lab.udp("a", addr)?;
                a.send("abc")?;
                a.expect("3 cba")?;
                let b = lab.udp("b", addr)?;
                b.send("")?;
                b.expect("0 ")?;
            }
            "06-socketserver" => {
                let mut a = lab.connect("a", addr)?;
                a.send("1 2 39\n")?;
                a.expect("42\n")?;
                program.end_input();
                program.expect_line("shutting down")?;
                a.send("20 1\n")?;
                a.expect("21\n")?;
                a.half_close()?;
                program.expect_exit(0)?;
            }
            "07-framing" => {
                let mut a = lab.connect("a", addr)?;
                a.send(b"\0\0\0\x03abc")?;
                a.expect(b"\0\0\0\x03cba")?;
                a.send(b"\0\x01\0\x01")?;
                a.expect(b"\0\0\0\x08too long")?;
                a.expect_end()?;
            }
            "08-dual-stack" => {
                let v4 = (Ipv4Addr::LOCALHOST, addr.port()).into();
                let v6 = (Ipv6Addr::LOCALHOST, addr.port()).into();
                for (name, to, line) in [
                    ("a", v4, "IPv4 127.0.0.1 near\n"),
                    ("b", v6, "IPv6 ::1 near\n"),
                ] {
                    let mut client = lab.connect(name, to)?;
                    client.expect(line)?;
                    client.expect_end()?;
                }
            }
            "09-shutdown" => {
                let mut a = lab.connect("a", addr)?;
                a.send("1\n2\n39\n\n")?;
                a.expect("42\n")?;
                let mut idle = lab.connect("b", addr)?;
                a.send("20\n")?;
                match cfg!(unix) {
                    true => program.interrupt(),
                    false => program.end_input(),
                }
                idle.expect_end()?;
                a.send("1\n\n")?;
                a.expect("21\n")?;
                // The end of a program is noted when it is, that of a stream
                // when it is read.
                program.expect_exit(0)?;
                a.expect_end()?;
            }
            "10-event-loop" => {
                let mut a = lab.connect("a", addr)?;
                let mut b = lab.connect("b", addr)?;
                a.send("5\n")?;
                a.expect("5\n")?;
                a.send("-20\n1")?;
                a.expect("-15\n")?;
                b.send("1\n")?;
                b.expect("1\n")?;
                a.send("00\n")?;
                a.expect("85\n")?;
                a.half_close()?;
                a.expect_end()?;
            }
            "11-async" => {
                let listener = lab.listen("listener")?;
                let mut client = lab.connect("client", addr)?;
                client.send(format!("{}\nhello", listener.addr()))?;
                let mut target = listener.accept("target")?;
                target.expect("hello")?;
                target.send("good day")?;
                client.expect("good day")?;
                client.half_close()?;
                target.expect_end()?;
                target.send("bye")?;
                client.expect("bye")?;
                target.close();
                client.expect_end()?;
            }
            "12-chat" => {
                let mut a = lab.connect("a", addr)?;
                let mut b = lab.connect("b", addr)?;
                a.send("follow tea\n")?;
                a.expect("following tea\n")?;
                b.send("follow tea\n")?;
                b.expect("following tea\n")?;
                b.half_close()?;
                b.expect_end()?;
                let mut c = lab.connect("c", addr)?;
                c.send("post tea The kettle is on.\n")?;
                a.expect("tea: The kettle is on.\n")?;
                c.expect("1\n")?;
                c.send("post milk hello\n")?;
                c.expect("0\n")?;
            }
            stem => panic!("{stem}: no session"),
        }
        let scene = format!("exercise-{}", exercise.stem());
        let mut transcript = Transcript::new(&lab, &scene, addr);
        transcript.text("session", &session(&lab));
        transcript.check()?;
    }
    Ok(())
}

#[test]
#[ignore = "takes minutes: run it alone, with both cores busy"]
fn a_hundred_times_under_load_nothing_changes() {
    // What fails while the spinning threads run would leave them spinning.
    examples();
    let mut runs = Vec::new();
    for seed in 1..=100 {
        for exercise in all() {
            let solution = exercise.stem().to_owned();
            runs.push((seed, exercise.clone(), solution, None));
            let mistakes = exercise.mistakes().unwrap().into_iter();
            for mistake in mistakes.filter(|m| shows_here(&m.id)) {
                let example = mistake.example();
                runs.push((seed, exercise.clone(), example, Some(mistake.id)));
            }
        }
    }
    let stop = AtomicBool::new(false);
    let bad: Vec<_> = thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let bad = side_by_side(AT_ONCE, &runs, |(seed, exercise, name, id)| {
            let timeout = match id {
                Some(_) => USUAL,
                None => PATIENT,
            };
            let target = example(name);
            let report = check(exercise, &target, options(*seed, timeout));
            let right = self::id(&report) == id.as_deref()
                && report.diagnosis.is_some() == id.is_some();
            if right || id.is_some() && !was_tried(name, &report) {
                return None;
            }
            let text = format!("{name}: {}", shown(exercise, &report));
            // At once: the rest may take minutes.
            eprintln!("{text}");
            Some(text)
        });
        stop.store(true, Ordering::Relaxed);
        bad.into_iter().flatten().collect()
    });
    let (bad, all) = (bad.join("\n\n"), (bad.len(), runs.len()));
    assert!(bad.is_empty(), "{} of {} checks: {bad}", all.0, all.1);
}
