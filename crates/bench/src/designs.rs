//! The designs of the course beside each other, and beside other languages:
//! one load for all of them, and each compared with lesson 03.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::counts::{self, Calls, Memory};
use crate::load::{self, Load};
use crate::measure::{self, Measured, Named, Ratio, Speed};
use crate::server::Contender::{self, C, Go, Lesson, Node, Python};

/// The one that all are compared with.
pub const BASE: &str = "03-threaded";
/// The same a second time: how far it is from itself, the machine adds.
pub const AGAIN: &str = "03-threaded, once more";

/// How many clients a contender can serve at once, and so gets. Those who
/// connect, say something and leave come to all of them.
type AtOnce = usize;
const MANY: AtOnce = usize::MAX;
/// Lesson 04 and lesson 06 have so many workers.
const WORKERS: AtOnce = 4;

const CONTENDERS: &[(Contender, AtOnce)] = &[
    (Lesson("03-threaded", &[]), MANY),
    (Lesson("06-socketserver", &["threads-tcp"]), MANY),
    (Lesson("04-thread-pool", &[]), WORKERS),
    (Lesson("06-socketserver", &["pool-tcp"]), WORKERS),
    (Lesson("06-socketserver", &["sequential-tcp"]), 0),
    (Lesson("09-shutdown", &[]), MANY),
    (Lesson("10-event-loop", &[]), MANY),
    (Lesson("11-async", &[]), MANY),
    (C("epoll", &["edge"]), MANY),
    (C("epoll", &["level"]), MANY),
    (Python("threads"), MANY),
    (Python("tasks"), MANY),
    (Node, MANY),
    (Go, MANY),
];

const LOADS: &[(&str, Load)] = &[
    ("echo-1", Load::PingPong(1)),
    ("echo-4", Load::PingPong(4)),
    ("echo-50", Load::PingPong(50)),
    ("echo-500", Load::PingPong(500)),
    ("echo-5000", Load::PingPong(5000)),
    ("connect", Load::Connect(4)),
    ("bulk", Load::Bulk),
];

pub const CALLS: &str = "calls";
pub const MEMORY: &str = "memory";

/// Idle clients, for their memory.
const IDLE: usize = 1000;
/// What a program needs besides a descriptor for each client.
const SPARE: usize = 100;

/// Two that are looked at side by side, and what is aimed at.
const PAIRS: &[(&str, &str, &str)] = &[
    (
        "10-event-loop",
        "C epoll edge",
        "aim: its processor time at most 1.11",
    ),
    (
        "10-event-loop",
        BASE,
        "aim: at least 1.5 with 500 connections",
    ),
    ("10-event-loop", "Python tasks", "aim: more than 1"),
    ("10-event-loop", "Node", "aim: more than 1"),
    (
        "10-event-loop",
        "Go",
        "aim: 1, or less by no more than noise",
    ),
    (
        "11-async",
        "10-event-loop",
        "aim: its processor time at most 1.18",
    ),
];

/// A line of what has been found.
#[derive(Serialize, Deserialize)]
#[serde(tag = "row", rename_all = "kebab-case")]
pub enum Row {
    /// Where and how it was measured.
    Run {
        /// System, kernel, processor.
        machine: String,
        /// What builds or runs the contenders.
        versions: Vec<String>,
        /// How often each had its turn.
        rounds: u16,
        /// How long a turn took.
        millis: u64,
        /// Whether server and load had a core each.
        pinned: bool,
        /// How many programs wanted a processor, before and after.
        load_average: [String; 2],
    },
    Load {
        name: String,
        what: String,
    },
    /// A contender under a load.
    Speed(Speed),
    /// What was not measured.
    LeftOut {
        /// A contender or a load.
        what: String,
        why: String,
    },
    Calls(Calls),
    Memory(Memory),
    /// Two contenders under a load.
    Pair {
        load: String,
        /// The one.
        contender: String,
        /// The one that it is compared with.
        beside: String,
        aim: String,
        /// What the first did in the time in which the other did 1.
        ratio: Option<Ratio>,
        /// The processor time that it took where the other took 1.
        cost_ratio: Option<Ratio>,
    },
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Self::Run { load_average, .. } => {
                let [before, after] = load_average;
                write!(f, "\nload average {before} before, {after} after")
            }
            Self::Load { name, what } => write!(f, "\n{name}: {what}"),
            Self::Speed(speed) => write!(f, "  {speed}"),
            Self::LeftOut { what, why } => {
                write!(f, "  {what}: left out: {why}")
            }
            Self::Calls(calls) => write!(f, "  {calls}"),
            Self::Memory(memory) => write!(f, "  {memory}"),
            Self::Pair {
                contender,
                beside,
                aim,
                ratio,
                cost_ratio,
                ..
            } => {
                write!(f, "    {contender} beside {beside}:")?;
                if let Some(ratio) = ratio {
                    write!(f, " {ratio}")?;
                }
                if let Some(ratio) = cost_ratio {
                    write!(f, ", processor time {ratio}")?;
                }
                write!(f, "; {aim}")
            }
        }
    }
}

/// What has been found, printed as it is found.
struct Rows(Vec<Row>);

impl Rows {
    fn add(&mut self, row: Row) {
        println!("{row}");
        self.0.push(row);
    }

    /// What was counted of one, or why it was not.
    fn counted(
        &mut self,
        what: &str,
        (contender, _): &Named,
        counted: Result<Option<Row>>,
    ) {
        match counted {
            Ok(Some(row)) => self.add(row),
            Ok(None) => self.leave_out(what, "this system does not tell"),
            Err(error) => self.leave_out(contender, &format!("{error:#}")),
        }
    }

    fn leave_out(&mut self, what: &str, why: &str) {
        self.add(Row::LeftOut {
            what: what.to_owned(),
            why: why.to_owned(),
        });
    }
}

/// How to measure.
pub struct How<'a> {
    /// How often each contender has its turn.
    pub rounds: u16,
    /// How long a turn takes.
    pub time: Duration,
    /// The words that put a server on its core.
    pub pin: &'a [String],
    /// Where traces go.
    pub folder: &'a Path,
    /// Names of loads, or what is counted; all if there is none.
    pub only: &'a [String],
}

/// What can be measured or counted.
pub fn names() -> impl Iterator<Item = &'static str> {
    LOADS.iter().map(|load| load.0).chain([CALLS, MEMORY])
}

/// A contender that can be started.
pub struct Ready {
    named: Named,
    at_once: AtOnce,
    version: String,
}

/// Builds what can be built here, and puts the `command` that a person has
/// given behind it.
pub fn contenders(command: &[String], folder: &Path) -> Result<Vec<Ready>> {
    let mut ready = Vec::new();
    for (contender, at_once) in CONTENDERS {
        let Some(version) = contender.version() else {
            println!("left out, not installed here: {}", contender.label());
            continue;
        };
        ready.push(Ready {
            named: contender.named(folder)?,
            at_once: *at_once,
            version,
        });
    }
    let again = Ready {
        named: (AGAIN.to_owned(), ready[0].named.1.clone()),
        at_once: MANY,
        version: ready[0].version.clone(),
    };
    ready.insert(1, again);
    if !command.is_empty() {
        ready.push(Ready {
            named: (command.join(" "), command.to_vec()),
            at_once: MANY,
            version: String::new(),
        });
    }
    Ok(ready)
}

/// Measures all of them under all loads, and prints what comes of it. One that
/// fails under a load is left out of it, with a word.
pub fn measure(contenders: &[Ready], machine: String, how: &How) -> Vec<Row> {
    let before = measure::load_average();
    let wanted =
        |name: &str| how.only.is_empty() || how.only.iter().any(|o| o == name);
    let mut rows = Rows(Vec::new());
    let clients = LOADS.iter().map(|(_, load)| load.clients());
    let most = clients.max().unwrap_or_default() + SPARE;
    let most = harness::raise_descriptor_limit(most);
    for (name, load) in LOADS.iter().filter(|load| wanted(load.0)) {
        if load.clients() + SPARE > most {
            let why = format!("`ulimit -n` is {most}");
            rows.leave_out(name, &why);
            continue;
        }
        under(contenders, name, *load, how, &mut rows);
    }
    if wanted(CALLS) {
        println!("\n{}", counts::CALLS);
        for named in beside(contenders, 1) {
            let calls = counts::calls(named, load::tcp_talk, how.folder);
            rows.counted(CALLS, named, calls.map(|c| c.map(Row::Calls)));
        }
    }
    if wanted(MEMORY) {
        println!("\n{}", counts::MEMORY);
        for named in beside(contenders, MANY) {
            let memory = counts::memory(named, IDLE);
            rows.counted(MEMORY, named, memory.map(|m| m.map(Row::Memory)));
        }
    }
    let mut versions: Vec<_> = contenders
        .iter()
        .map(|ready| ready.version.clone())
        .filter(|version| !version.is_empty())
        .collect();
    versions.sort();
    versions.dedup();
    rows.add(Row::Run {
        machine,
        versions,
        rounds: how.rounds,
        millis: how.time.as_millis() as u64,
        pinned: !how.pin.is_empty(),
        load_average: [before, measure::load_average()],
    });
    rows.0
}

/// Those who can serve so many clients at once, each once.
fn beside(
    contenders: &[Ready],
    clients: usize,
) -> impl Iterator<Item = &Named> {
    contenders
        .iter()
        .filter(move |ready| ready.at_once >= clients)
        .map(|ready| &ready.named)
        .filter(|named| named.0 != AGAIN)
}

fn under(
    contenders: &[Ready],
    name: &str,
    load: Load,
    how: &How,
    rows: &mut Rows,
) {
    let takes_part = |ready: &&Ready| {
        matches!(load, Load::Connect(_)) || load.clients() <= ready.at_once
    };
    let commands: Vec<_> = contenders
        .iter()
        .filter(takes_part)
        .map(|ready| ready.named.clone())
        .collect();
    let all = measure::in_turn(&commands, load, how.rounds, how.time, how.pin);
    rows.add(Row::Load {
        name: name.to_owned(),
        what: load.what(),
    });
    let found = |wanted: &str| -> Option<&Measured> {
        let at = commands.iter().position(|(label, _)| label == wanted)?;
        Some(&all[at]).filter(|measured| measured.failed.is_none())
    };
    let base = found(BASE);
    for ((label, _), measured) in commands.iter().zip(&all) {
        if let Some(error) = &measured.failed {
            rows.leave_out(label, &format!("{error:#}"));
        } else {
            let base = base.unwrap_or(measured);
            let unit = load.unit();
            let speed = Speed::of(name, unit, label, measured, base);
            rows.add(Row::Speed(speed));
        }
    }
    for (contender, beside, aim) in PAIRS {
        if let (Some(one), Some(other)) = (found(contender), found(beside)) {
            rows.add(Row::Pair {
                load: name.to_owned(),
                contender: (*contender).to_owned(),
                beside: (*beside).to_owned(),
                aim: (*aim).to_owned(),
                ratio: Ratio::of_figures(one, other),
                cost_ratio: Ratio::of_costs(one, other),
            });
        }
    }
}

/// Writes a row a line.
pub fn write(rows: &[Row], file: &Path) -> Result<()> {
    let mut text = String::new();
    for row in rows {
        text += &serde_json::to_string(row)?;
        text += "\n";
    }
    fs::write(file, text)
        .with_context(|| format!("cannot write {}", file.display()))
}
