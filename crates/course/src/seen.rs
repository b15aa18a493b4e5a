//! `cargo course show`: one page with the figure of a check and its diagnosis.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flows::html;
use harness::{Event, Lab, Scratch, What};

use crate::check::{Options, Report, Target, check_in};
use crate::figure;
use crate::recorder::{Recorder, why_no_calls};
use crate::wire::Recording;
use crate::{Exercise, find, page, section, show};

const PLAYER: &str = include_str!("../../../docs/assets/player.js");
const FIGURE_STYLE: &str = include_str!("../../../docs/assets/player.css");
const STYLE: &str = "\
:root { color-scheme: light dark; --bg: Canvas; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1em;
    max-width: 70em; }
pre { overflow-x: auto; font-size: 0.85em; }
.words { max-width: 42em; }
";

/// Longer than a busy machine lets a program rest.
const APPETIZER_TIMEOUT: Duration = Duration::from_secs(4);

/// A check, and the figure of it.
pub struct Seen {
    /// What was found.
    pub report: Report,
    /// The figure, as a page includes it.
    pub figure: String,
    /// The same with the addresses that the book has.
    pub book: String,
}

/// Checks `target`, and records it.
///
/// # Errors
/// There is no place for strace's files, or they cannot be read.
pub fn see(
    exercise: &Exercise,
    target: &Target,
    options: Options,
) -> Result<Seen> {
    let none = match target {
        Target::Program { words, .. } => why_no_calls(words),
        Target::At(_) => Some("its calls are not seen: it runs elsewhere"),
    };
    let parent = harness::root().join("target/show");
    let folder = match none {
        None => Some(Scratch::new(&parent, "calls").with_context(|| {
            format!("cannot write into {}", parent.display())
        })?),
        Some(_) => None,
    };
    let recorder = Recorder::new(folder.as_ref().map(|f| f.path().into()));
    let seen = match target {
        Target::Program { words, origin } => Target::Program {
            words: recorder.command(words),
            origin: origin.clone(),
        },
        target => target.clone(),
    };
    let recording = Recording::start()?;
    let lab = recorder.watch(Lab::new());
    let mut report = check_in(lab, exercise, &seen, options);
    report.target = target.clone();
    let title = match &report.diagnosis {
        Some(diagnosis) => {
            format!("Wanted, and not seen: {}", diagnosis.step.replace('`', ""))
        }
        None => format!("{} passes", exercise.stem()),
    };
    let wire = recording.map(|recording| recording.wire()).transpose()?;
    let mut summary = "The last acts of the check: the checker's clients on \
                       the left, the program on the right."
        .to_owned();
    if wire.is_none() {
        summary += " Packets and changes of state between the tables are not \
                    recorded.";
    }
    let name = format!("exercise-{}", exercise.stem());
    let failure = report.diagnosis.as_ref();
    let failure = failure.map(|d| (d.who.as_str(), d.wanted.as_str()));
    let flow =
        figure::flow(&recorder, &name, title, summary, failure, none, wire)?;
    let figure = html::figure(&flow);
    let book = html::figure(&recorder.with_usual_addresses(flow));
    Ok(Seen {
        report,
        figure,
        book,
    })
}

impl Seen {
    /// Writes the page, and says where it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, exercise: &Exercise) -> Result<PathBuf> {
        let folder = harness::root().join("target/show");
        let file = folder.join(format!("{}.html", exercise.stem()));
        fs::create_dir_all(&folder)
            .and_then(|()| fs::write(&file, self.page(exercise)))
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    /// The page, which needs no other file.
    pub fn page(&self, exercise: &Exercise) -> String {
        let title = html::escape(&exercise.title());
        let words = self.words(exercise);
        let figure = &self.figure;
        let mut timeline = String::new();
        for Event { at, who, what } in &self.report.timeline {
            let what = match what {
                // Not with strace, as it was.
                What::Started(_) => "started".to_owned(),
                what => what.to_string(),
            };
            let at = at.as_secs_f64();
            let _ = writeln!(timeline, "{at:7.3}  {who}  {what}");
        }
        let timeline = html::escape(&timeline);
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <title>{title}</title>\n<style>\n{STYLE}{FIGURE_STYLE}</style>\n\
             <h1>{title}</h1>\n{figure}\n{words}<h2>What the checker saw</h2>\n\
             <pre>{timeline}</pre>\n<script>\n{PLAYER}</script>\n</html>\n"
        )
    }

    /// The diagnosis.
    fn words(&self, exercise: &Exercise) -> String {
        let Some(diagnosis) = &self.report.diagnosis else {
            return String::new();
        };
        let sentence = html::escape(&show::sentence(diagnosis));
        let mut out = format!("<div class=\"words\">\n<p>{sentence}</p>\n");
        if let Some((stem, id)) = &diagnosis.section
            && let Some(section) = section(stem, id)
        {
            let title = html::escape(&section.title);
            let _ = writeln!(out, "<h2>{title}</h2>");
            out += &paragraphs(&section.text());
            let read = format!("{}#{id}", page::file(stem));
            let _ = writeln!(out, "<p>More: <code>{read}</code></p>");
        } else {
            let _ = writeln!(
                out,
                "<p>No known mistake looks like this: {} may help.</p>",
                exercise.page()
            );
        }
        out + "</div>\n"
    }
}

/// A page's text, as a terminal has it, for a browser.
fn paragraphs(text: &str) -> String {
    let mut out = String::new();
    for block in text.split("\n\n").filter(|block| !block.is_empty()) {
        let html = html::escape(block);
        let _ = match block.starts_with("    ") || block.starts_with("- ") {
            true => writeln!(out, "<pre>{html}</pre>"),
            false => writeln!(out, "<p>{}</p>", coded(&html)),
        };
    }
    out
}

/// What stands between backticks is code.
fn coded(text: &str) -> String {
    let mut out = String::new();
    for (n, part) in text.split('`').enumerate() {
        match n % 2 {
            0 => out += part,
            _ => out += &format!("<code>{part}</code>"),
        }
    }
    out
}

/// The exercises whose page has a figure, and the mistake that it shows.
pub const APPETIZERS: [(&str, &str); 12] = [
    ("01-single-client", "one-read-one-line"),
    ("02-reuse-addr", "no-reuse-addr"),
    ("03-threaded", "one-at-a-time"),
    ("04-thread-pool", "thread-per-client"),
    ("05-udp", "empty-datagram-is-eof"),
    ("06-socketserver", "one-request-only"),
    ("07-framing", "drops-what-came-with-it"),
    ("08-dual-stack", "ipv6-only"),
    ("09-shutdown", "waits-for-the-idle"),
    ("10-event-loop", "shared-buffer"),
    ("11-async", "in-turns"),
    ("12-chat", "prefix-is-topic"),
];

/// The figure of a mistake for the page of its exercise, recorded now: its
/// file, and its text.
///
/// # Errors
/// The program cannot be built, or its calls cannot be seen.
pub fn appetizer(stem: &str, id: &str) -> Result<(PathBuf, String)> {
    if let Some(why) = why_no_calls(&["strace".into()]) {
        bail!("to record, have strace: {why}");
    }
    let exercise = find(stem)?;
    let mistakes = exercise.mistakes()?;
    let mistake = mistakes.iter().find(|mistake| mistake.id == id);
    let mistake = mistake.with_context(|| format!("{stem}: no {id}"))?;
    let target = match mistake.build() {
        Ok(target) => target,
        Err(error) => bail!("{}: {error}", mistake.file()),
    };
    let options = Options {
        seed: 1,
        timeout: APPETIZER_TIMEOUT,
    };
    let seen = see(&exercise, &target, options)?;
    let folder = harness::root().join("docs/exercises/figures");
    Ok((folder.join(format!("{stem}.html")), seen.book))
}
