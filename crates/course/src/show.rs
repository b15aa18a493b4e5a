//! What a check says, for people: at most 80 columns.

use std::fmt::Write;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use harness::{BuildError, Event, Fault, What, quote};
use textwrap::WordSplitter;
use textwrap::core::{Word, display_width};

use crate::check::{Report, Target};
use crate::diagnosis::{Diagnosis, panicked_at};
use crate::exercise::{again, by_hand, next};
use crate::{Build, Exercise, Section, page, section};

const COLUMNS: usize = 80;
/// What is left of a line that is cut ends so.
const DOTS: &str = "...";
/// A report on a failure has at most so many lines: as many as a screen.
const LINES: usize = 40;
/// How many lines the timeline has at least, and how many of them are its
/// beginning.
const FEWEST: usize = 11;
const FIRST: usize = 2;
/// So many events that are alike stand one by one.
const MOST_ALIKE: usize = 2;
/// So many names stand one by one.
const MOST_NAMES: usize = 4;
/// So much is shown of the beginning of a long answer, in characters.
const BEGINNING: usize = 16;
/// How many lines of standard error are shown of a program that has ended, and
/// of one that goes on.
const LAST_WORDS: usize = 8;
const COMPLAINTS: usize = 3;
/// And of each line so many characters.
const LONGEST: usize = 3 * COLUMNS;

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
    let read = page::hyperlink(stem, Some(id));
    let number = exercise.number().unwrap_or_default();
    let _ = writeln!(out, "\n{HEAD}Edit{HEAD:#}     {}", exercise.stub());
    let _ = writeln!(out, "{HEAD}Read{HEAD:#}     {read}");
    let _ = writeln!(out, "{HEAD}Again{HEAD:#}    cargo course check {number}");
}

/// Where a learner looks comes first of all that a section says; what is seen
/// was seen. Of the rest, what fits into `most` lines.
fn explain(out: &mut String, section: &Section, most: usize) {
    let _ = writeln!(out, "\n{HEAD}{}{HEAD:#}", section.title);
    let text = section.text();
    let paragraphs: Vec<_> = text
        .trim_end()
        .split("\n\n")
        .filter(|paragraph| !paragraph.starts_with("What is seen."))
        .collect();
    let decisive = paragraphs.iter().position(|p| p.starts_with("Where to"));
    let decisive = decisive.unwrap_or(0);
    let length = |n: usize| paragraphs[n].lines().count() + 1;
    let mut left = most.saturating_sub(length(decisive));
    let others = (0..paragraphs.len()).filter(|&n| n != decisive);
    let mut kept: Vec<_> = others
        .take_while(|&n| {
            let fits = length(n) <= left;
            left = left.saturating_sub(length(n));
            fits
        })
        .collect();
    kept.push(decisive);
    kept.sort_unstable();
    for &n in &kept {
        let _ = writeln!(out);
        for line in paragraphs[n].lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    if kept.len() < paragraphs.len() {
        let _ = writeln!(out, "  (The rest is on the page.)");
    }
}

fn head(out: &mut String, exercise: &Exercise, report: &Report) {
    let _ = writeln!(out, "{HEAD}{}{HEAD:#}\n", exercise.title());
    let failed = report.diagnosis.is_some();
    let passed = report.passed.len();
    let skipped = if failed && passed > 1 { passed } else { 0 };
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
    let mut said = String::new();
    wrapped(&mut said, &sentence(diagnosis), "  ");
    let mut end = String::new();
    footer(&mut end, exercise, report, diagnosis);
    // Once more, because a small screen shows the end only.
    let _ = writeln!(end);
    failed_step(&mut end, report);
    end.push_str(&said);
    let count = |text: &str| text.lines().count();
    let page = diagnosis.section.as_ref();
    let page = page.map(|(stem, id)| (id, section(stem, id)));
    // It may have scrolled off a small screen where the program has said it.
    let mut place = String::new();
    if let Some(sentence) = self::place(diagnosis) {
        let _ = writeln!(place);
        wrapped(&mut place, &sentence, "  ");
    }
    let mut shortest = place.clone();
    if let Some((_, Some(section))) = &page {
        explain(&mut shortest, section, 0);
    }
    // Two lines stand above the timeline.
    let others = count(out) + 1 + count(&said) + 2 + count(&end);
    let left = LINES.saturating_sub(others + FEWEST + count(&shortest));
    let exited = matches!(diagnosis.fault, Fault::Exited { .. });
    let complained = complaint(&diagnosis.complaint, exited, left);
    if count(&complained) <= left {
        *out += &format!("\n{said}{complained}");
    } else if !complained.is_empty() {
        *out += &format!("\n{complained}");
    }
    let mut meaning = String::new();
    match page {
        Some((_, Some(section))) => {
            // And two above the section's paragraphs.
            let others = count(out) + 2 + FEWEST + 2 + count(&end);
            let others = others + count(&place);
            explain(&mut meaning, &section, LINES.saturating_sub(others));
        }
        Some((id, None)) => {
            let _ = writeln!(meaning, "\n{HEAD}{id}{HEAD:#} (not on the page)");
        }
        None => {
            let _ = writeln!(
                meaning,
                "\n{HEAD}No known mistake looks like this.{HEAD:#} \
                 What happened is all that is known.\n\
                 Read the last lines above from the bottom up."
            );
        }
    }
    meaning.push_str(&place);
    let others = count(out) + 2 + count(&meaning) + count(&end);
    timeline(
        out,
        report,
        diagnosis,
        LINES.saturating_sub(others).max(FEWEST),
    );
    out.push_str(&meaning);
    out.push_str(&end);
}

/// Where the program has panicked, as one sentence, if it has.
pub fn place(diagnosis: &Diagnosis) -> Option<String> {
    let place = panicked_at(&diagnosis.complaint)?;
    let todo = diagnosis.section.as_ref();
    let is_todo = todo.is_some_and(|(_, id)| *id == "still-to-do");
    let what = if is_todo { "The `todo!`" } else { "The panic" };
    Some(format!("{what} is at {place}."))
}

/// What was wanted, and what came, as one sentence.
pub fn sentence(diagnosis: &Diagnosis) -> String {
    let Diagnosis {
        who,
        wanted,
        fault,
        again,
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
        (Fault::Exited { status, .. }, _) if who == "The second copy" => {
            format!("but it ended with {status}")
        }
        (Fault::Exited { status, .. }, _) => {
            format!("but your program ended ({status})")
        }
        (
            Fault::WrongByte {
                offset,
                got: around,
                ..
            },
            got,
        ) => match got.as_deref().map(quote) {
            // Of a long one `quote` shows the beginning, which is right.
            Some(got) if !got.ends_with(" bytes)") => {
                format!(
                    "but received {got} (they differ from byte {offset} on)"
                )
            }
            _ => format!("but received {around} around byte {offset}"),
        },
        (Fault::Unexpected(text), None) if is_program(who) => {
            match text.as_str() {
                "" => "but printed nothing".to_owned(),
                text => format!("but printed {text:?}"),
            }
        }
        (Fault::Unexpected(text), _) => format!("but received {text}"),
        (Fault::TimedOut(waited), _) if who == "The second copy" => {
            format!("but it still ran after {}", seconds(*waited))
        }
        (Fault::TimedOut(waited), Some(got)) => format!(
            "but only {} came, and nothing more for {}",
            quote(got),
            seconds(*waited)
        ),
        (Fault::TimedOut(waited), None) => {
            let waited = seconds(*waited);
            let more = match again {
                true => format!(", nor in {waited} more"),
                false => String::new(),
            };
            format!("but nothing came for {waited}{more}")
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

/// To a tenth, and as a whole number if it is one.
fn seconds(time: Duration) -> String {
    format!("{} s", (time.as_secs_f64() * 10.0).round() / 10.0)
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

/// The end of what the program has printed on standard error, with what is alike
/// in one line: of its last lines one at least, and as many as fit into `left`.
fn complaint(stderr: &str, exited: bool, left: usize) -> String {
    let lines: Vec<_> = stderr
        .lines()
        .filter(|line| !line.trim().is_empty())
        .filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE"))
        .collect();
    let lines: Vec<_> = lines.chunk_by(|a, b| a == b).collect();
    let (head, most) = match exited {
        true => ("Its last words:", LAST_WORDS),
        false => ("The end of its standard error:", COMPLAINTS),
    };
    let mut said = String::new();
    for (n, alike) in lines.iter().rev().take(most).enumerate() {
        // A traceback says by its indentation what belongs together.
        let text = alike[0].trim_start();
        let indent = 4 + alike[0].len() - text.len();
        let indent = " ".repeat(indent.min(COLUMNS / 2));
        let (text, cut) = match text.char_indices().nth(LONGEST) {
            Some((at, _)) => (&text[..at], "..."),
            None => (text, ""),
        };
        let times = match alike.len() {
            1 => String::new(),
            times => format!(" ({times} times)"),
        };
        let mut line = String::new();
        wrapped(&mut line, &format!("{text}{cut}{times}"), &indent);
        let longer = line + &said;
        if n > 0 && longer.lines().count() + 1 > left {
            break;
        }
        said = longer;
    }
    match said.as_str() {
        "" => said,
        said => format!("  {head}\n{said}"),
    }
}

fn timeline(
    out: &mut String,
    report: &Report,
    diagnosis: &Diagnosis,
    most: usize,
) {
    // What the harness did to clean up says nothing about the program.
    let tells = |e: &&Event| !matches!(e.what, What::Killed);
    let events: Vec<_> = report.timeline.iter().filter(tells).collect();
    if events.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\n{HEAD}What happened{HEAD:#} (in seconds; \\n is a newline)"
    );
    let lines = folded(&events, diagnosis);
    let width = lines.iter().map(|line| display_width(&line.who)).max();
    let width = width.unwrap_or(0);
    let rows: Vec<_> = lines.iter().map(|line| line.rows(width)).collect();
    let kept = fitting(&lines, &rows, most);
    for run in (0..lines.len())
        .collect::<Vec<_>>()
        .chunk_by(|&a, &b| kept[a] == kept[b])
    {
        // One line takes no more room than the word that it is left out.
        let fits = matches!(run, [one] if rows[*one].len() == 1);
        if !kept[run[0]] && !fits {
            let _ = writeln!(out, "          ({} more lines)", run.len());
            continue;
        }
        for row in run.iter().flat_map(|&n| &rows[n]) {
            let _ = writeln!(out, "{row}");
        }
    }
}

/// Which lines are shown, if there are only `most`: the first one, those that
/// decide, the second one, and as many of the last ones as fit.
fn fitting(lines: &[Line], rows: &[Vec<String>], most: usize) -> Vec<bool> {
    let mut kept = vec![false; lines.len()];
    let height = |kept: &[bool]| -> usize {
        let shown = (0..kept.len()).filter(|&n| kept[n]);
        let gaps = (0..kept.len())
            .filter(|&n| !kept[n] && (n == 0 || kept[n - 1]))
            .count();
        shown.map(|n| rows[n].len()).sum::<usize>() + gaps
    };
    let mut order: Vec<_> = (0..lines.len()).rev().collect();
    order.sort_by_key(|&n| {
        let rank = lines[n].rank;
        (n > 0, rank > Rank::Note, n >= FIRST, rank)
    });
    for n in order {
        kept[n] = true;
        if height(&kept) > most {
            kept[n] = false;
            break;
        }
    }
    kept
}

/// A line of the timeline.
struct Line {
    at: f64,
    who: String,
    what: String,
    rank: Rank,
}

/// How much a line decides: what decides more is kept before the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// A part of the exchange that failed.
    Failed,
    /// The checker's own word on it, which is not cut.
    Note,
    /// What others did in the same step.
    Step,
    Other,
}

impl Line {
    /// At most 80 columns each; only prose has more than one.
    fn rows(&self, width: usize) -> Vec<String> {
        let Self { at, who, what, .. } = self;
        let head = format!("  {at:6.3}  {who:width$}  ");
        if self.rank != Rank::Note {
            return vec![cut(&(head + what))];
        }
        let indent = " ".repeat(display_width(&head));
        let options = options(COLUMNS)
            .initial_indent(&head)
            .subsequent_indent(&indent);
        let rows = textwrap::wrap(what, options);
        rows.into_iter().map(String::from).collect()
    }
}

/// What happened, with what is alike in one line: requests that were answered,
/// clients that do the same, the pieces of a message on standard error.
fn folded(events: &[&Event], diagnosis: &Diagnosis) -> Vec<Line> {
    let events = in_order(events.to_vec());
    let failed = failed_exchange(&events, diagnosis);
    let ended = matches!(diagnosis.fault, Fault::Exited { .. });
    let rank = |event: &Event| match event.what {
        _ if failed(event) => Rank::Failed,
        _ if event.at < diagnosis.began => Rank::Other,
        What::Exited(_) if ended && event.who == "program" => Rank::Failed,
        What::Note(_) => Rank::Note,
        _ if event.who == "program" || event.at > diagnosis.at => Rank::Other,
        _ => Rank::Step,
    };
    // What counts may stand at the end of a long answer.
    let said = |event: &Event| match &event.what {
        What::Received(bytes) => match bytes.ends(BEGINNING) {
            Some(ends) => format!("received {ends}"),
            None => event.what.to_string(),
        },
        what => what.to_string(),
    };
    let line = |event: &Event, what: String| Line {
        at: event.at.as_secs_f64(),
        who: client(&event.who),
        what,
        rank: rank(event),
    };
    let mut lines = Vec::new();
    let mut rest = &events[..];
    while let Some((first, more)) = rest.split_first() {
        let is_over = |e: &&Event| e.at > diagnosis.at || failed(e);
        let well = rest.iter().take_while(|e| !is_over(e)).count();
        let answered = answered(&rest[..well]);
        if answered.len() > MOST_ALIKE {
            lines.push(line(first, first.what.to_string()));
            lines.push(line(rest[1], said(rest[1])));
            let count = answered.len() - 1;
            let what = format!("{count} more messages sent, each answered");
            lines.push(Line {
                who: clients(&answered),
                ..line(answered[1], what)
            });
            rest = &rest[2 * answered.len()..];
            continue;
        }
        let alike =
            |e: &&&Event| is_alike(first, e) && failed(e) == failed(first);
        let alike = more.iter().take_while(alike).count() + 1;
        let what = match (&first.what, alike) {
            (What::Connected { .. }, 2..) => {
                let same = rest[..alike].iter().all(|e| e.who == first.who);
                let times = format!(", {alike} times");
                "connected".to_owned() + if same { &times } else { "" }
            }
            (What::Printed(_), 3..) => {
                format!("{}, and {} more lines", first.what, alike - 1)
            }
            (What::Received(_), 4..) => {
                lines.push(line(first, said(first)));
                let what = format!("received {} more pieces", alike - 2);
                lines.push(line(more[0], what));
                rest = &rest[alike - 1..];
                continue;
            }
            _ => said(first),
        };
        let folds = match first.what {
            What::Connected { .. } | What::Complained(_) => true,
            // Each is of the exchange, or the last of many.
            What::Received(_) => false,
            _ => alike > MOST_ALIKE,
        };
        let alike = if folds { alike } else { 1 };
        lines.push(Line {
            who: clients(&rest[..alike]),
            ..line(first, what)
        });
        rest = &rest[alike..];
    }
    lines
}

/// Tells which events are the exchange that failed: what the one who waited
/// sent last, or did first, and all that it saw until it gave up.
fn failed_exchange(
    events: &[&Event],
    diagnosis: &Diagnosis,
) -> impl Fn(&Event) -> bool {
    let (who, at) = (diagnosis.who.clone(), diagnosis.at);
    let begins = |e: &&&Event| {
        matches!(
            e.what,
            What::Sent(_)
                | What::HalfClosed
                | What::Connected { .. }
                | What::Started(_)
        )
    };
    let its = events.iter().filter(|e| e.who == who && e.at <= at);
    let from = its.rev().find(begins).map_or(at, |event| event.at);
    move |event| event.who == who && (from..=at).contains(&event.at)
}

/// Whom these events are about.
fn clients(events: &[&Event]) -> String {
    let mut names: Vec<_> = events.iter().map(|e| e.who.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [] => String::new(),
        [name] => client(name),
        [first, .., last] if names.len() > MOST_NAMES => {
            format!("clients {first} to {last}")
        }
        _ => format!("clients {}", names.join(", ")),
    }
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
    use What::{Complained, Connected, Printed, Received};
    match (&first.what, &next.what) {
        (Connected { .. }, Connected { .. }) => true,
        (Complained(_), Complained(_))
        | (Printed(_), Printed(_))
        | (Received(_), Received(_)) => first.who == next.who,
        _ => false,
    }
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

/// What lets `probe` send what has failed: the last datagram; what ended the
/// program, or the stream; or, if one client alone was there, what it sent in
/// this step behind its last line but one. Nothing if two have to be there, and
/// `None` if a hand cannot send it.
fn again_by_probe(
    report: &Report,
    diagnosis: &Diagnosis,
    is_udp: bool,
) -> Option<String> {
    let Diagnosis { began, at, who, .. } = diagnosis;
    let events = report.timeline.iter().filter(|event| event.at <= *at);
    let now = events.clone().filter(|event| event.at >= *began);
    let sent_by = |who: &str| -> Option<Vec<&[u8]>> {
        let sent = now.clone().filter(|event| event.who == who);
        let sent = sent.filter_map(|event| match &event.what {
            What::Sent(bytes) => Some(bytes.whole()),
            _ => None,
        });
        sent.collect()
    };
    let sent = sent_by(who)?;
    let send = |sent: Option<&&[u8]>| {
        sent.map_or_else(String::new, |s| format!("--send '{}' ", typed(s)))
    };
    if matches!(diagnosis.fault, Fault::Exited { .. }) {
        let leaves = |e: &&Event| matches!(e.what, What::Reset | What::Closed);
        let rude = now.clone().rfind(leaves);
        if let Some(rude) = rude.filter(|_| !is_udp) {
            let sent = sent_by(&rude.who)?;
            return Some(send(sent.last()) + "--rst");
        }
    }
    let own = now.clone().filter(|event| event.who == *who);
    if own
        .clone()
        .any(|event| matches!(event.what, What::HalfClosed))
    {
        return Some(send(sent.last()) + "--half-close");
    }
    let connects = |e: &&Event| matches!(e.what, What::Connected { .. });
    let mut others = events.clone().filter(connects);
    if !is_udp && others.any(|event| event.who != *who) {
        return Some(String::new());
    }
    let Some((&last, before)) = sent.split_last() else {
        return Some(String::new());
    };
    if is_udp {
        return Some(format!("--send '{}'", typed(last)));
    }
    let repeats = !before.is_empty() && before.iter().all(|&b| b == last);
    if repeats {
        let (text, count) = (typed(last), sent.len());
        return Some(format!("--send '{text}' --repeat {count} --delay 500"));
    }
    let ends = |bytes: &&[u8]| bytes.ends_with(b"\n");
    let mut from = before.iter().rposition(ends).map_or(0, |n| n + 1);
    // What is wrong may be that another one came before.
    if from + 1 == sent.len() && from > 0 {
        from -= 1;
    }
    let text = typed(&sent[from..].concat());
    Some(match &sent[from..] {
        [first, _, ..] => {
            let chunk = first.len().max(1);
            format!("--send '{text}' --chunk {chunk} --delay 500")
        }
        _ => format!("--send '{text}'"),
    })
}

/// Bytes as `probe` and a shell take them, between quotation marks.
fn typed(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push_str("\\n"),
                '\\' => out.push_str("\\\\"),
                '\'' => out.push_str("\\x27"),
                c if c.is_control() || c.is_whitespace() && c != ' ' => {
                    let mut bytes = [0; 4];
                    let bytes = c.encode_utf8(&mut bytes).bytes();
                    out.extend(bytes.map(|byte| format!("\\x{byte:02x}")));
                }
                c => out.push(c),
            }
        }
        let broken = chunk.invalid().iter();
        out.extend(broken.map(|byte| format!("\\x{byte:02x}")));
    }
    out
}

fn footer(
    out: &mut String,
    exercise: &Exercise,
    report: &Report,
    diagnosis: &Diagnosis,
) {
    let section = diagnosis.section.as_ref();
    let read = match section {
        Some((stem, id)) => page::hyperlink(stem, Some(id)),
        None => page::hyperlink(exercise.stem(), None),
    };
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
    let is_udp = exercise.stem().ends_with("udp");
    let udp = if is_udp { "--udp " } else { "" };
    let sends = again_by_probe(report, diagnosis, is_udp);
    let probe = sends.map(|sends| {
        let probe = format!("cargo run -p probe -- {udp}{addr} {sends}");
        probe.trim_end().to_owned()
    });
    // A server alone shows nothing.
    let command = command.filter(|_| probe.is_some());
    let lines = command.into_iter().chain(probe);
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
    fn what_a_program_repeats_on_standard_error_is_said_once() {
        let said = "a\n".repeat(6) + "b\n";
        let all = "  Its last words:\n    a (6 times)\n    b\n";
        assert_eq!(complaint(&said, true, 3), all);
        assert_eq!(complaint(&said, true, 0), "  Its last words:\n    b\n");
        assert_eq!(complaint("", true, 9), "");
    }

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
