//! What each command does.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{IsTerminal, Write, stderr, stdout};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, SystemTime};

use anstream::{eprintln, print, println};
use anyhow::{Context, Result, bail};
use course::grade::{self, Grades, Sandbox, Workshop};
use course::{Build, BuildError, Exercise, Mistake, Options, Results, Target};
use textwrap::core::display_width;

/// How often the watched files are looked at. Events of the file system would
/// be faster, but do not come from network file systems.
const LOOK: Duration = Duration::from_millis(300);
/// Who waits longer than this for Cargo is told so.
const SLOW: Duration = Duration::from_secs(1);
/// What a shell says of a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;
const WHICH: &str = "which exercise? Give its number, such as 3";
/// The exit code of a check that says nothing about the program.
const NOT_CHECKED: u8 = 3;
const TOO_SLOW: &str = "This was so only while its calls were recorded, which \
     makes each of them slower: a check without that, made now, passes.";
/// How wide text is, in columns.
const WIDTH: usize = 78;
/// What the table of a class shows of a name, in columns.
const WIDEST_NAME: usize = 24;

pub fn list() -> Result<ExitCode> {
    stop_on_ctrl_c(INTERRUPTED)?;
    let exercises = course::exercises()?;
    println!("{:<22}{:<34}State\n", "Lesson", "Exercise");
    let mut next = None;
    let options = Options {
        seed: 1,
        timeout: Duration::from_secs(2),
    };
    for exercise in &exercises {
        let build = (!exercise.is_untouched())
            .then(|| checked(exercise, None, options, false));
        let state = course::state(build.as_ref());
        let stem = exercise.stem();
        println!("{stem:<22}{:<34}{state}", exercise.subject());
        let passes = build.is_some_and(|build| build.passes());
        if !passes && next.is_none() {
            next = Some(exercise);
        }
    }
    println!();
    for file in course::spare_files()? {
        println!("{file} is no exercise, and is left alone.");
    }
    match next.and_then(|exercise| Some((exercise, exercise.number()?))) {
        None => println!("All exercises pass. What will you build next?"),
        Some((exercise, number)) => {
            println!("Next: exercise {}.", exercise.stem());
            println!("  lesson  cargo run -p lesson-{}", exercise.stem());
            println!("  read    {}", exercise.link());
            println!("  edit    {}", exercise.stub());
            println!("  check   cargo course check {number}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub fn check(
    name: Option<&str>,
    at: Option<SocketAddr>,
    command: Vec<OsString>,
    options: Options,
) -> Result<ExitCode> {
    stop_on_ctrl_c(INTERRUPTED)?;
    if let [word] = command.as_slice() {
        let text = word.to_string_lossy();
        if text.contains(' ') && !Path::new(word).exists() {
            bail!(
                "there is no program {text:?}; behind `--` write its words \
                 without quotation marks around all of them:\n  -- {text}"
            );
        }
    }
    let Some(name) = name else {
        if at.is_some() || !command.is_empty() {
            bail!(WHICH);
        }
        return check_next(options);
    };
    let exercise = course::find(name)?;
    let target = at.map(Target::At).or_else(|| target_of(command));
    Ok(one_check(&exercise, target, options))
}

/// Checks one after the other, and shows the first one that does not pass.
fn check_next(options: Options) -> Result<ExitCode> {
    let colour = stderr().is_terminal();
    for exercise in course::exercises()? {
        let build = checked(&exercise, None, options, colour);
        if !build.passes() {
            return Ok(report_on(&exercise, &build));
        }
        println!("{} passes.", exercise.stem());
    }
    println!("All exercises pass. What will you build next?");
    Ok(ExitCode::SUCCESS)
}

/// Checks `target`, or what the learner wrote.
fn checked(
    exercise: &Exercise,
    target: Option<Target>,
    options: Options,
    colour: bool,
) -> Build {
    let target = target.map_or_else(|| built(exercise, colour), Ok);
    Build::of(exercise, target, options)
}

/// Builds what the learner wrote; says that Cargo is at work if it is not
/// quick.
fn built(exercise: &Exercise, colour: bool) -> Result<Target, BuildError> {
    let (done, waiting) = mpsc::channel::<()>();
    let stem = exercise.stem().to_owned();
    let note = thread::spawn(move || {
        let slow = waiting.recv_timeout(SLOW);
        if slow == Err(RecvTimeoutError::Timeout) {
            eprintln!("Cargo builds {stem}, or waits for another cargo ...");
        }
    });
    let target = exercise.build(colour);
    drop(done);
    let _ = note.join();
    target
}

pub fn reset(name: &str) -> Result<ExitCode> {
    let exercise = course::find_original(name)?;
    let stub = exercise.stub();
    match exercise.reset()? {
        None => println!("{stub} is as it came."),
        Some(kept) if kept.is_empty() => println!("{stub} is there again."),
        Some(kept) => {
            println!("{stub} is as it came. Your file is kept as\n{kept}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a check says, but for what it means: where to look, in one sentence.
pub fn hint(
    name: &str,
    command: Vec<OsString>,
    options: Options,
) -> Result<ExitCode> {
    stop_on_ctrl_c(INTERRUPTED)?;
    let exercise = course::find(name)?;
    let colour = stderr().is_terminal();
    let build = checked(&exercise, target_of(command), options, colour);
    let diagnosis = match &build {
        Build::Checked(report) => report.diagnosis.as_ref(),
        Build::Failed(_) => return Ok(report_on(&exercise, &build)),
    };
    let Some(diagnosis) = diagnosis else {
        println!("{} passes.", exercise.stem());
        return Ok(ExitCode::SUCCESS);
    };
    let section = diagnosis.section.as_ref();
    let hint = section
        .and_then(|(stem, id)| course::section(stem, id)?.hint())
        .unwrap_or_else(|| course::sentence(diagnosis));
    let place = course::place(diagnosis);
    let hint = [Some(hint), place].into_iter().flatten();
    let hint = hint.collect::<Vec<_>>().join(" ");
    let number = exercise.number().unwrap_or_default();
    println!("FAILED  {}\n", diagnosis.step);
    println!("{}\n", textwrap::fill(&hint, WIDTH));
    println!("What happened: cargo course check {number}");
    Ok(ExitCode::FAILURE)
}

fn target_of(command: Vec<OsString>) -> Option<Target> {
    (!command.is_empty()).then(|| Target::command(command))
}

fn one_check(
    exercise: &Exercise,
    target: Option<Target>,
    options: Options,
) -> ExitCode {
    let colour = stderr().is_terminal();
    report_on(exercise, &checked(exercise, target, options, colour))
}

fn report_on(exercise: &Exercise, build: &Build) -> ExitCode {
    print!("{}", course::show(exercise, build));
    match build {
        Build::Failed(BuildError::Cargo(_)) => ExitCode::from(NOT_CHECKED),
        build => exit_code(build.passes()),
    }
}

fn exit_code(is_good: bool) -> ExitCode {
    match is_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

pub fn show(
    name: &str,
    at: Option<SocketAddr>,
    command: Vec<OsString>,
    mistake: Option<&str>,
    options: Options,
) -> Result<ExitCode> {
    stop_on_ctrl_c(INTERRUPTED)?;
    if let Some(status) = course::in_own_namespaces()? {
        return Ok(exit_code(status.success()));
    }
    let exercise = course::find(name)?;
    let target = match (mistake, at.map(Target::At).or(target_of(command))) {
        (Some(id), _) => {
            course::write_mistakes()?;
            mistake_of(&exercise, id)?.build()
        }
        (None, Some(target)) => Ok(target),
        (None, None) => exercise.build(stderr().is_terminal()),
    };
    let target = match target {
        Ok(target) => target,
        Err(error) => {
            print!("{}", course::show(&exercise, &Build::Failed(error)));
            return Ok(ExitCode::FAILURE);
        }
    };
    eprintln!("Checking {}, and recording it ...", exercise.stem());
    let seen = course::see(&exercise, &target, options)?;
    let file = seen.write(&exercise)?;
    let passes = seen.report.diagnosis.is_none();
    match &seen.report.diagnosis {
        None => println!("{} passes.", exercise.stem()),
        Some(diagnosis) => {
            println!("FAILED  {}\n", diagnosis.step);
            let section = diagnosis.section.as_ref();
            let section =
                section.and_then(|(stem, id)| course::section(stem, id));
            let title = section.map(|section| section.title + ". ");
            let sentence = course::sentence(diagnosis);
            let said = title.unwrap_or_default() + &sentence;
            println!("{}\n", textwrap::fill(&said, WIDTH));
            // Each of its calls takes longer when it is recorded.
            if diagnosis.is_silence()
                && course::check(&exercise, &target, options).passes()
            {
                println!("{}\n", textwrap::fill(TOO_SLOW, WIDTH));
            }
        }
    }
    println!("The figure is in {}.", file.display());
    if stdout().is_terminal() {
        open(&file);
    }
    Ok(exit_code(passes))
}

/// Lets a browser open a file. Where there is none, its place was said.
fn open(file: &Path) {
    let program = match std::env::consts::OS {
        "macos" => "open",
        "windows" => "explorer",
        _ => "xdg-open",
    };
    let mut command = Command::new(program);
    command
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _ = command.spawn();
}

pub fn figures() -> Result<ExitCode> {
    stop_on_ctrl_c(INTERRUPTED)?;
    course::write_mistakes()?;
    for (stem, id) in course::APPETIZERS {
        let (file, figure) = course::appetizer(stem, id)?;
        fs::write(&file, figure)
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

pub fn watch(
    name: &str,
    command: Vec<OsString>,
    timeout: Duration,
    seed: Option<u32>,
) -> Result<ExitCode> {
    let exercise = course::find(name)?;
    let files = watched(&exercise, &command);
    if files.is_empty() {
        bail!("none of the words behind `--` is a file that could be watched");
    }
    let names = files_shown(&files).join(", ");
    let target = target_of(command);
    let interrupted = ctrl_c()?;
    let mut is_first = true;
    loop {
        // Here, because it may change the file's time: that is no save.
        if target.is_none() {
            let _ = exercise.note_edit();
        }
        let before = stamps(&files);
        if !std::mem::take(&mut is_first) {
            println!("\n{}\n", "-".repeat(79));
        }
        if stdout().is_terminal() {
            print!("\x1b[2J\x1b[3J\x1b[H");
        }
        let seed = seed.unwrap_or_else(|| fastrand::u32(..1_000_000));
        let options = Options { seed, timeout };
        let (exercise, target) = (exercise.clone(), target.clone());
        let names = names.clone();
        // In a thread of its own, so that Ctrl-C need not wait for it.
        let check = thread::spawn(move || {
            one_check(&exercise, target, options);
            println!("\nWatching {names}. Ctrl-C ends it.");
        });
        // A save during the check counts, too. Some editors save in two steps:
        // it is over when nothing changes from one look to the next.
        let mut seen = before.clone();
        loop {
            let now = stamps(&files);
            if check.is_finished() && now != before && now == seen {
                break;
            }
            seen = now;
            match interrupted.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => {
                    harness::kill_all_groups();
                    eprintln!("\nStopped.");
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
    }
}

/// The stub, or the files among the words of a command.
fn watched(exercise: &Exercise, command: &[OsString]) -> Vec<PathBuf> {
    if command.is_empty() {
        return vec![harness::root().join(exercise.stub())];
    }
    let words = command.iter().map(PathBuf::from);
    words.filter(|path| path.is_file()).collect()
}

fn files_shown(files: &[PathBuf]) -> Vec<String> {
    let root = fs::canonicalize(harness::root()).unwrap_or_default();
    let shown = |path: &PathBuf| {
        let full = fs::canonicalize(path).unwrap_or_default();
        full.strip_prefix(&root)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    files.iter().map(shown).collect()
}

/// When each file was changed, and how long it is. An editor may replace a
/// file, so for a moment there may be none.
fn stamps(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let stamp = |path: &PathBuf| {
        let data = fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    files.iter().map(stamp).collect()
}

pub fn demo(
    name: Option<&str>,
    id: Option<&str>,
    options: Options,
) -> Result<ExitCode> {
    stop_on_ctrl_c(INTERRUPTED)?;
    let Some(name) = name else {
        println!("Of which exercise? cargo course demo 3, for instance:\n");
        for exercise in course::exercises()? {
            println!("  {}", exercise.stem());
        }
        return Ok(ExitCode::SUCCESS);
    };
    let exercise = course::find(name)?;
    let mistakes = mistakes_of(&exercise)?;
    let Some(id) = id else {
        println!("Mistakes in exercise {}:\n", exercise.stem());
        for mistake in mistakes {
            let section = course::section(exercise.stem(), &mistake.id);
            let title = section.map(|s| s.title).unwrap_or_default();
            println!("  {:<26}{title}", mistake.id);
        }
        let number = exercise.number().unwrap_or_default();
        println!("\nShow one: cargo course demo {number} ID");
        return Ok(ExitCode::SUCCESS);
    };
    let mistake = mistake_of(&exercise, id)?;
    course::write_mistakes()?;
    println!(
        "The mistake, as a difference from a solution. (It shows a part of the \
         solution:\nuntil you have your own, read from *What happened* on.)\n"
    );
    println!("{}\n\n{}", mistake.file(), mistake.coloured()?);
    let target = match mistake.build() {
        Ok(target) => target,
        Err(error) => bail!("{} cannot be built:\n{error}", mistake.file()),
    };
    one_check(&exercise, Some(target), options);
    Ok(ExitCode::SUCCESS)
}

/// Refuses a hand-out, which has none.
fn mistakes_of(exercise: &Exercise) -> Result<Vec<Mistake>> {
    let mistakes = exercise.mistakes()?;
    if mistakes.is_empty() {
        bail!("there are no mistakes here, so there is nothing to show");
    }
    Ok(mistakes)
}

fn mistake_of(exercise: &Exercise, id: &str) -> Result<Mistake> {
    let mistakes = mistakes_of(exercise)?;
    let ids: Vec<_> = mistakes.iter().map(|m| m.id.as_str()).collect();
    let ids = ids.join("\n  ");
    let found = mistakes.into_iter().find(|mistake| mistake.id == id);
    found.with_context(|| {
        format!("{} has no mistake {id}; it has\n  {ids}", exercise.stem())
    })
}

pub fn report(
    names: &[String],
    markdown: bool,
    output: Option<&Path>,
    name: Option<String>,
    options: Options,
) -> Result<ExitCode> {
    stop_on_ctrl_c(INTERRUPTED)?;
    let mut exercises = course::exercises()?;
    if !names.is_empty() {
        let found = names.iter().map(|name| course::find(name));
        exercises = found.collect::<Result<_>>()?;
    }
    let file = output.map(create).transpose()?;
    let results = Results::of(exercises, options, name);
    let text = match markdown {
        true => results.markdown(),
        false => format!("{:#}\n", results.json()),
    };
    match file {
        Some(mut file) => file.write_all(text.as_bytes())?,
        None => print!("{text}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// A file that can be written: what takes minutes should not find out at the
/// end that it cannot.
fn create(path: &Path) -> Result<File> {
    File::create(path)
        .with_context(|| format!("cannot write {}", path.display()))
}

pub fn grade(
    folder: &Path,
    sandbox: Sandbox,
    allow_root: bool,
    csv: Option<&Path>,
    json: Option<&Path>,
    limit: Duration,
    options: Options,
) -> Result<ExitCode> {
    #[cfg(unix)]
    if nix::unistd::geteuid().is_root() && !allow_root {
        bail!(
            "this would run the programs of strangers as root; be another user, \
             or add --allow-root"
        );
    }
    #[cfg(not(unix))]
    let _ = allow_root;
    let exercises = course::exercises()?;
    let stems: Vec<_> = exercises.iter().map(|e| e.stem().to_owned()).collect();
    let hand_ins = grade::hand_ins(folder, &stems)?;
    if hand_ins.is_empty() {
        bail!("there is nothing in {}", folder.display());
    }
    let csv = csv.map(create).transpose()?;
    let json = json.map(create).transpose()?;

    let stopped = Arc::new(AtomicBool::new(false));
    let interrupted = ctrl_c()?;
    let stop = Arc::clone(&stopped);
    thread::spawn(move || {
        while interrupted.recv().is_ok() {
            stop.store(true, Ordering::Relaxed);
            harness::kill_all_groups();
        }
    });

    eprintln!("{}\n", textwrap::fill(sandbox.limits(), 79));
    eprintln!("Building the checker for the class ...\n");
    let shop = Workshop::new(sandbox, &stems, options, limit)?;
    let names = hand_ins.keys().map(|name| display_width(name));
    let width = names.max().unwrap_or(0).clamp(7, WIDEST_NAME);
    println!("{}", grade::heading(width, &stems));
    let mut all = Vec::new();
    for (student, hand_in) in hand_ins {
        let graded = stems.iter().map(|stem| {
            let stub = hand_in.stubs.get(stem);
            stub.map(|stub| shop.grade(stem, stub)).transpose()
        });
        let grades = Grades {
            tests: graded.collect::<Result<_>>()?,
            spare: hand_in.spare,
            student,
        };
        if stopped.load(Ordering::Relaxed) {
            eprintln!("Stopped; the rest was not graded.");
            break;
        }
        println!("{}", grades.row(width));
        all.push(grades);
    }
    let most_made = grade::most_made(&all, &stems);
    if !most_made.is_empty() {
        println!("\nHow often what went wrong:");
    }
    for (count, what) in most_made {
        println!("{count:5}  {what}");
    }
    if all.iter().any(|grades| !grades.spare.is_empty()) {
        println!("\nSpare files, not looked at:");
    }
    for Grades { student, spare, .. } in &all {
        match spare.as_slice() {
            [] => {}
            few @ ([_] | [_, _] | [_, _, _]) => {
                println!("  {student}: {}", few.join(", "));
            }
            [a, b, rest @ ..] => {
                println!("  {student}: {a}, {b} and {} more", rest.len());
            }
        }
    }
    if let Some(mut file) = csv {
        file.write_all(grade::csv(&all, &stems).as_bytes())?;
    }
    if let Some(mut file) = json {
        writeln!(file, "{:#}", grade::json(&all, &stems, options))?;
    }
    Ok(exit_code(!stopped.load(Ordering::Relaxed)))
}

/// Runs the `book` package: linking mdBook here would make the first check
/// wait most of a minute for a compiler.
pub fn book() -> Result<ExitCode> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(harness::root())
        .args(["run", "--quiet", "--package", "book", "--", "--open"])
        .status()
        .context("cannot start cargo")?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    let built = Path::new("target/book/index.html");
    if harness::root().join(built).is_file() {
        eprintln!("The book is in {}.", built.display());
    }
    Ok(ExitCode::FAILURE)
}

/// Ctrl-C, a closed terminal or a polite kill ends the checked program, too,
/// which stands in a group of its own and is not told by the terminal.
fn stop_on_ctrl_c(code: i32) -> Result<()> {
    let interrupted = ctrl_c()?;
    thread::spawn(move || {
        if interrupted.recv().is_ok() {
            harness::kill_all_groups();
            std::process::exit(code);
        }
    });
    Ok(())
}

fn ctrl_c() -> Result<Receiver<()>> {
    let (sender, receiver) = mpsc::channel();
    ctrlc::set_handler(move || {
        // The receiver lives as long as the program.
        let _ = sender.send(());
    })
    .context("cannot wait for Ctrl-C")?;
    Ok(receiver)
}
