//! What a check says, for people: at most 80 columns.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use harness::{BuildError, Event, Fault, What, quote};
use textwrap::WordSplitter;
use textwrap::core::{Word, display_width};

use crate::check::{Report, Target};
use crate::diagnosis::Diagnosis;
use crate::exercise::{again, by_hand, next};
use crate::{Build, Exercise, Section, page, section};

const COLUMNS: usize = 80;
/// What is left of a line that is cut ends so.
const DOTS: &str = "...";
/// A report on a failure has about so many lines: as many as a screen.
const LINES: usize = 40;
/// How many lines the timeline has at least, and how many of them are its
/// beginning.
const FEWEST: usize = 8;
const FIRST: usize = 2;
/// The lines around a section's paragraphs: the timeline's heading, the
/// section's, the footer, and the last one.
const AROUND: usize = 14;
/// How many steps that went well are shown before the one that failed.
const STEPS: usize = 0;
/// So many events that are alike stand one by one.
const MOST_ALIKE: usize = 2;
/// How many lines of standard error are shown of a program that has ended, and
/// of one that goes on.
const LAST_WORDS: usize = 8;
const COMPLAINTS: usize = 3;

const COULD_NOT_RUN: &str = "The checker could not run cargo:";

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const HEAD: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();

/// The whole report on one check, with colours: print it through `anstream`,
/// which removes them where they do not belong.
pub fn show(exercise: &Exercise, build: &Build) -> String {
    let mut out = String::new();
    match build {
        Build::Failed(error) => not_built(&mut out, exercise, error),
        Build::Checked(report) => {
            head(&mut out, exercise, report);
            match &report.diagnosis {
                None => passed(&mut out, exercise, report),
                Some(diagnosis) => {
                    failed(&mut out, exercise, report, diagnosis)
                }
            }
        }
    }
    out
}

/// One or two words for the list; `None` is a stub that nobody has touched.
pub fn state(build: Option<&Build>) -> String {
    match build {
        Some(Build::Checked(report)) if is_to_do(report) => state(None),
        None => format!("{FAINT}to do{FAINT:#}"),
        Some(Build::Failed(BuildError::NotCompiling(_))) => {
            format!("{BAD}does not compile{BAD:#}")
        }
        Some(Build::Failed(BuildError::Cargo(_))) => {
            format!("{BAD}not checked{BAD:#} (the checker could not run cargo)")
        }
        Some(build) if build.passes() => format!("{GOOD}passes{GOOD:#}"),
        Some(_) => format!("{BAD}fails{BAD:#}"),
    }
}

fn is_to_do(report: &Report) -> bool {
    let section = report.diagnosis.as_ref().and_then(|d| d.section.as_ref());
    section.is_some_and(|(_, id)| *id == "still-to-do")
}

/// One line: nothing for a pass; else the step, and what is known.
pub fn summary(build: &Build) -> String {
    match build {
        Build::Failed(BuildError::NotCompiling(_)) => {
            "does-not-compile".to_owned()
        }
        Build::Failed(BuildError::Cargo(said)) => {
            format!("not checked: {COULD_NOT_RUN} {}", said.trim())
        }
        Build::Checked(report) => match &report.diagnosis {
            None => String::new(),
            Some(diagnosis) => {
                let id = diagnosis.section.as_ref().map_or("unknown", |d| d.1);
                format!("{id}: {}. {}", diagnosis.step, sentence(diagnosis))
            }
        },
    }
}

fn not_built(out: &mut String, exercise: &Exercise, error: &BuildError) {
    let said = match error {
        BuildError::NotCompiling(said) => said,
        BuildError::Cargo(said) => {
            let _ = writeln!(out, "{COULD_NOT_RUN}\n\n{}\n", said.trim_end());
            let _ = writeln!(
                out,
                "Your program was not judged. Mend what cargo complains of, \
                 and check again."
            );
            return;
        }
    };
    let id = "does-not-compile";
    let _ = writeln!(out, "{said}");
    let _ = writeln!(out, "{HEAD}{}{HEAD:#}\n", exercise.title());
    let _ = writeln!(out, "  {BAD}FAILED{BAD:#}  it compiles");
    let stem = page::CONTRACT;
    if let Some(section) = section(stem, id) {
        explain(out, &section, usize::MAX);
    }
    let read = page::link(stem, Some(id));
    let number = exercise.number().unwrap_or_default();
    let _ = writeln!(out, "\n{HEAD}Edit{HEAD:#}     {}", exercise.stub());
    let _ = writeln!(out, "{HEAD}Read{HEAD:#}     {read}");
    let _ = writeln!(out, "{HEAD}Again{HEAD:#}    cargo course check {number}");
}

/// The paragraphs of a section that fit into `most` lines, and the first one.
fn explain(out: &mut String, section: &Section, most: usize) {
    let _ = writeln!(out, "\n{HEAD}{}{HEAD:#}", section.title);
    let text = section.text();
    let mut left = most;
    for (n, paragraph) in text.trim_end().split("\n\n").enumerate() {
        let lines = paragraph.lines().count() + 1;
        if n > 0 && lines > left {
            let _ = writeln!(out, "\n  (The rest is on the page.)");
            break;
        }
        left = left.saturating_sub(lines);
        let _ = writeln!(out);
        for line in paragraph.lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
}

fn head(out: &mut String, exercise: &Exercise, report: &Report) {
    let _ = writeln!(out, "{HEAD}{}{HEAD:#}\n", exercise.title());
    let failed = report.diagnosis.is_some();
    let skipped = report.passed.len().saturating_sub(STEPS);
    let skipped = if failed && skipped > 1 { skipped } else { 0 };
    if skipped > 0 {
        let _ = writeln!(out, "  {GOOD}ok{GOOD:#}      {skipped} steps");
    }
    for step in &report.passed[skipped..] {
        let _ = writeln!(out, "  {GOOD}ok{GOOD:#}      {step}");
    }
    failed_step(out, report);
    for skipped in &report.skipped {
        let _ = writeln!(out, "  {FAINT}skipped{FAINT:#} {}", skipped.step);
        let _ = writeln!(out, "          ({})", skipped.why);
    }
}

fn failed_step(out: &mut String, report: &Report) {
    if let Some(Diagnosis { step, .. }) = &report.diagnosis {
        let _ = writeln!(out, "  {BAD}FAILED{BAD:#}  {step}");
    }
}

fn passed(out: &mut String, exercise: &Exercise, report: &Report) {
    let seconds = report.took.as_secs_f64();
    let seed = report.options.seed;
    let stem = exercise.stem();
    let passes = match report.skipped.is_empty() {
        true => "passes.",
        false => "passes what could be tried.",
    };
    let _ = writeln!(
        out,
        "\n{GOOD}{stem} {passes}{GOOD:#} ({seconds:.2} s, seed {seed})"
    );
    if let Some(next) = next(exercise, &report.target) {
        let _ = writeln!(out, "{HEAD}Next{HEAD:#}     {next}");
    }
}

fn failed(
    out: &mut String,
    exercise: &Exercise,
    report: &Report,
    diagnosis: &Diagnosis,
) {
    let _ = writeln!(out);
    wrapped(out, &sentence(diagnosis), "  ");
    let exited = matches!(diagnosis.fault, Fault::Exited { .. });
    complaint(out, &diagnosis.complaint, exited);
    let mut rest = String::new();
    let mut read = exercise.link();
    if let Some((stem, id)) = &diagnosis.section
        && let Some(section) = section(stem, id)
    {
        let others = out.lines().count() + FEWEST + AROUND;
        explain(&mut rest, &section, LINES.saturating_sub(others));
        read = page::link(stem, Some(id));
    } else if let Some((stem, id)) = &diagnosis.section {
        let _ = writeln!(rest, "\n{HEAD}{id}{HEAD:#} (not on the page {stem})");
    } else {
        let _ = writeln!(
            rest,
            "\n{HEAD}No known mistake looks like this.{HEAD:#} \
             What happened is all that is known.\n\
             Read the last lines above from the bottom up."
        );
    }
    footer(&mut rest, exercise, report, &read);
    let _ = writeln!(rest);
    failed_step(&mut rest, report);
    let others = out.lines().count() + rest.lines().count();
    let most = LINES.saturating_sub(others + 3).max(FEWEST);
    timeline(out, &report.timeline, most);
    out.push_str(&rest);
}

/// What was wanted, and what came, as one sentence.
pub(crate) fn sentence(diagnosis: &Diagnosis) -> String {
    let Diagnosis {
        who,
        wanted,
        fault,
        got,
        ..
    } = diagnosis;
    let name = client(who);
    let who = match who.as_str() {
        "program" => "Your program",
        "second copy" | "second" => "The second copy",
        "lab" => "The checker",
        _ => &capital(&name),
    };
    let came = match (fault, got) {
        (Fault::Exited { status, .. }, _) if who == "Your program" => {
            return format!(
                "Your program ended ({status}); it had to {wanted}."
            );
        }
        (Fault::Exited { status, .. }, _) => {
            format!("but your program ended ({status})")
        }
        (Fault::WrongByte { offset, .. }, Some(got)) => format!(
            "but received {} (they differ from byte {offset} on)",
            quote(got)
        ),
        (Fault::WrongByte { offset, got, .. }, None) => {
            format!("but received {got} (they differ from byte {offset} on)")
        }
        (Fault::Unexpected(text), None) if is_program(who) => {
            format!("but printed {text:?}")
        }
        (Fault::Unexpected(text), _) => format!("but received {text}"),
        (Fault::TimedOut(waited), Some(got)) => format!(
            "but only {} came, and nothing more for {} s",
            quote(got),
            waited.as_secs_f64()
        ),
        (Fault::TimedOut(waited), None) => {
            format!("but nothing came for {} s", waited.as_secs_f64())
        }
        (Fault::UnexpectedEof { got: 0, .. }, _) => {
            "but the connection was closed".to_owned()
        }
        (Fault::UnexpectedEof { got, wanted }, _) => format!(
            "but the connection was closed after {got} of {wanted} bytes"
        ),
        (Fault::ConnectionReset, _) => {
            "but the connection was reset".to_owned()
        }
        (Fault::ConnectionRefused, _) => {
            "but was refused: nobody listens there".to_owned()
        }
        (Fault::Flooded(bytes), _) => format!(
            "but your program had printed more than {} MiB",
            bytes >> 20
        ),
        (Fault::LeftBehind(count), _) => {
            return format!(
                "Your program was ended, but {count} of the processes that \
                 it had started went on. (They were killed now.)"
            );
        }
        (other, _) => format!("but: {other}"),
    };
    let verb = if is_program(who) { "had" } else { "wanted" };
    format!("{who} {verb} to {wanted}, {came}.")
}

fn is_program(who: &str) -> bool {
    ["Your program", "The second copy"].contains(&who)
}

/// What a reader calls the one with this name.
fn client(who: &str) -> String {
    match who {
        "program" | "note" | "lab" | "visitor" => who.to_owned(),
        "second" | "trial" => format!("{who} copy"),
        _ => format!("client {who}"),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn complaint(out: &mut String, stderr: &str, exited: bool) {
    let lines: Vec<_> = stderr
        .lines()
        .filter(|line| !line.trim().is_empty())
        .filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE"))
        .collect();
    if lines.is_empty() {
        return;
    }
    let (head, most) = match exited {
        true => ("Its last words:", LAST_WORDS),
        false => ("The end of its standard error:", COMPLAINTS),
    };
    let _ = writeln!(out, "  {head}");
    let skipped = lines.len().saturating_sub(most);
    for line in &lines[skipped..] {
        // A traceback says by its indentation what belongs together.
        let text = line.trim_start();
        let indent = " ".repeat((4 + line.len() - text.len()).min(COLUMNS / 2));
        wrapped(out, text, &indent);
    }
}

fn timeline(out: &mut String, events: &[Event], most: usize) {
    let events: Vec<_> = events.iter().filter(|e| !is_noise(e)).collect();
    if events.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\n{HEAD}What happened{HEAD:#} (in seconds; \\n is a newline)"
    );
    let mut lines = folded(&events);
    if lines.len() > most {
        // That somebody connects, decides nothing.
        let connects = |e: &&Event| matches!(e.what, What::Connected { .. });
        let last = events.len().saturating_sub(2);
        let (early, late) = events.split_at(last);
        let early = early.iter().copied().filter(|e| !connects(e));
        let kept: Vec<_> = early.chain(late.iter().copied()).collect();
        lines = folded(&kept);
    }
    let left_out = lines.len().saturating_sub(most);
    if left_out > 0 {
        let at = lines[FIRST].at;
        let what = format!("({} more lines)", left_out + 1);
        let line = Line::new(at, String::new(), what);
        lines.splice(FIRST..=FIRST + left_out, [line]);
    }
    let width = lines.iter().map(|line| display_width(&line.who)).max();
    let width = width.unwrap_or(0);
    for Line { at, who, what } in lines {
        let line = format!("  {at:6.3}  {who:width$}  {what}");
        let _ = writeln!(out, "{}", cut(&line));
    }
}

/// A line of the timeline.
struct Line {
    at: f64,
    who: String,
    what: String,
}

impl Line {
    fn new(at: f64, who: String, what: String) -> Self {
        Self { at, who, what }
    }
}

/// What happened, with what is alike in one line: requests that were answered,
/// clients that do the same, the pieces of a message on standard error.
fn folded(events: &[&Event]) -> Vec<Line> {
    let events = in_order(events.to_vec());
    let line = |event: &Event, what: String| {
        Line::new(event.at.as_secs_f64(), client(&event.who), what)
    };
    let mut lines = Vec::new();
    let mut rest = &events[..];
    while let Some((first, more)) = rest.split_first() {
        let answered = answered(rest);
        if answered.len() > MOST_ALIKE {
            lines.push(line(first, first.what.to_string()));
            lines.push(line(rest[1], rest[1].what.to_string()));
            let mut names: Vec<_> = answered.iter().map(|e| &e.who).collect();
            names.sort();
            names.dedup();
            let names: Vec<_> =
                names.iter().map(|name| name.as_str()).collect();
            let count = answered.len() - 1;
            let what = format!("{count} more messages sent, each answered");
            let at = answered[1].at.as_secs_f64();
            let who = match names.as_slice() {
                [name] => client(name),
                _ => format!("clients {}", names.join(", ")),
            };
            lines.push(Line::new(at, who, what));
            rest = &rest[2 * answered.len()..];
            continue;
        }
        let alike = 1 + more.iter().take_while(|e| is_alike(first, e)).count();
        let what = match (&first.what, alike) {
            (What::Complained(_), _) | (_, ..=MOST_ALIKE) => {
                first.what.to_string()
            }
            (What::Connected { .. }, _) => format!("connected, {alike} times"),
            (What::Printed(_), _) => {
                format!("{}, and {} more lines", first.what, alike - 1)
            }
            _ => first.what.to_string(),
        };
        let folds =
            matches!(first.what, What::Complained(_)) || alike > MOST_ALIKE;
        lines.push(line(first, what));
        rest = &rest[if folds { alike } else { 1 }..];
    }
    lines
}

/// Those events at the beginning that send something and are answered next.
fn answered<'a>(events: &[&'a Event]) -> Vec<&'a Event> {
    let pairs = events.chunks_exact(2).take_while(|pair| {
        pair[0].who == pair[1].who
            && matches!(pair[0].what, What::Sent(_))
            && matches!(pair[1].what, What::Received(_))
    });
    pairs.map(|pair| pair[0]).collect()
}

fn is_alike(first: &Event, next: &Event) -> bool {
    use What::{Complained, Connected, Printed};
    first.who == next.who
        && matches!(
            (&first.what, &next.what),
            (Complained(_), Complained(_))
                | (Connected { .. }, Connected { .. })
                | (Printed(_), Printed(_))
        )
}

/// A program's end behind what it has printed: the two are seen by different
/// threads.
fn in_order(mut events: Vec<&Event>) -> Vec<&Event> {
    for n in (0..events.len()).rev() {
        let exit = events[n];
        if matches!(exit.what, What::Exited(_)) {
            let prints = |e: &&Event| {
                e.who == exit.who
                    && matches!(e.what, What::Printed(_) | What::Complained(_))
            };
            let starts = |e: &&Event| {
                e.who == exit.who && matches!(e.what, What::Started(_))
            };
            let life = &events[n..];
            let end = life.iter().position(starts).unwrap_or(life.len());
            let last = life[..end].iter().rposition(prints);
            if let Some(last) = last {
                events[n..=n + last].rotate_left(1);
            }
        }
    }
    events
}

/// What the harness did to clean up says nothing about the program.
fn is_noise(event: &Event) -> bool {
    matches!(event.what, What::Killed)
}

fn footer(out: &mut String, exercise: &Exercise, report: &Report, read: &str) {
    let number = exercise.number().unwrap_or_default();
    let seed = report.options.seed;
    let command = by_hand(exercise, &report.target);
    let again = again(&report.target);
    let _ = writeln!(out, "\n{HEAD}Read{HEAD:#}     {read}");
    let _ = writeln!(
        out,
        "{HEAD}Again{HEAD:#}    cargo course {} {number}{} --seed {seed}{}",
        again.0, again.1, again.2
    );
    let (mistake, behind) = match again.0 {
        "demo" => (again.1.replacen(' ', " --mistake ", 1), again.2),
        _ => (again.1, again.2),
    };
    let _ = writeln!(
        out,
        "{HEAD}Figure{HEAD:#}   cargo course show {number}{mistake} \
         --seed {seed}{behind}"
    );
    let addr = match report.target {
        Target::At(addr) => addr.to_string(),
        Target::Program { .. } => "127.0.0.1:9006".to_owned(),
    };
    let udp = if exercise.stem().ends_with("udp") {
        "--udp "
    } else {
        ""
    };
    let probe = format!("cargo run -p probe -- {udp}{addr}");
    let lines = command.into_iter().chain([probe]);
    for (n, line) in lines.enumerate() {
        let head = if n == 0 { "By hand" } else { "       " };
        let _ = writeln!(out, "{HEAD}{head}{HEAD:#}  {line}");
    }
}

fn wrapped(out: &mut String, text: &str, indent: &str) {
    let options = options(COLUMNS)
        .initial_indent(indent)
        .subsequent_indent(indent);
    for line in textwrap::wrap(text, options) {
        let _ = writeln!(out, "{line}");
    }
}

/// Lines of at most `width` columns; only a word that is longer than a line is
/// broken.
pub(crate) fn options(width: usize) -> textwrap::Options<'static> {
    textwrap::Options::new(width).word_splitter(WordSplitter::NoHyphenation)
}

/// One line of at most 80 columns.
fn cut(line: &str) -> String {
    if display_width(line) <= COLUMNS {
        return line.to_owned();
    }
    let word = Word::from(line);
    let mut pieces = word.break_apart(COLUMNS - DOTS.len());
    pieces.next().map_or("", |piece| piece.word).to_owned() + DOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_and_quotes_take_one_column_and_chinese_two() {
        let arrows = "→ “”".repeat(20);
        assert_eq!(cut(&arrows), arrows);
        let chinese = "你".repeat(41);
        assert_eq!(cut(&chinese), "你".repeat(38) + DOTS);
        let mut out = String::new();
        wrapped(&mut out, &chinese, "  ");
        assert_eq!(out, format!("  {}\n  你你\n", "你".repeat(39)));
    }
}
