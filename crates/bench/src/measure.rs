//! Servers that take turns under one load, and what comes of it.

use std::fmt::{self, Display, Formatter};
use std::process::{self, Command};
use std::time::Duration;
use std::{fs, thread};

use anyhow::Error;
use serde::{Deserialize, Serialize};

use crate::load::Load;
use crate::server::Server;

/// A server by its name in a table, and the words of its command.
pub type Named = (String, Vec<String>);

/// Puts this process on a core, and gives the words that put a server on
/// another; nothing where that cannot be done.
pub fn pin() -> Option<Vec<String>> {
    thread::available_parallelism()
        .ok()
        .filter(|n| n.get() > 1)?;
    let here = process::id().to_string();
    let pinned = Command::new("taskset").args(["-acp", "1", &here]).output();
    pinned.ok().filter(|output| output.status.success())?;
    Some(["taskset", "-c", "0"].map(str::to_owned).to_vec())
}

/// How many programs wanted a processor in the last minute, where it is told.
pub fn load_average() -> String {
    let average = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    average.split(' ').next().unwrap_or_default().to_owned()
}

/// What one contender did, round by round.
#[derive(Default)]
pub struct Measured {
    /// In the unit of the load.
    figures: Vec<f64>,
    /// The part of the time in which the server had a processor; empty where
    /// the system does not tell.
    busy: Vec<f64>,
    /// Why it was left out from some round on.
    pub failed: Option<Error>,
}

impl Measured {
    /// The seconds of a processor that the server took for each unit of work.
    /// Other programs disturb them less than the clock.
    fn costs(&self) -> Vec<f64> {
        divide(&self.busy, &self.figures)
    }
}

/// Gives each of `commands` a turn, and then again, round by round: a new
/// process each time, behind the words of `pin`, under `load` for `time`.
pub fn in_turn(
    commands: &[Named],
    load: Load,
    rounds: u16,
    time: Duration,
    pin: &[String],
) -> Vec<Measured> {
    let mut all: Vec<_> =
        commands.iter().map(|_| Measured::default()).collect();
    for _ in 0..rounds {
        for (measured, (_, command)) in all.iter_mut().zip(commands) {
            if measured.failed.is_some() {
                continue;
            }
            let turn = Server::start(pin, command)
                .and_then(|server| load.run(&server, time));
            match turn {
                Ok(work) => {
                    measured.figures.push(work.figure);
                    measured.busy.extend(work.busy);
                }
                Err(error) => measured.failed = Some(error),
            }
        }
    }
    all
}

/// How one contender stands to another: taken round by round, between
/// neighbours in time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Ratio {
    pub median: f64,
    pub least: f64,
    pub greatest: f64,
}

impl Ratio {
    fn of(numbers: &[f64], others: &[f64]) -> Option<Self> {
        let ratios = divide(numbers, others);
        let is_one = !ratios.is_empty() && ratios.iter().all(|r| r.is_finite());
        is_one.then(|| Self {
            median: round(median(&ratios)),
            least: round(ratios.iter().copied().fold(f64::INFINITY, f64::min)),
            greatest: round(ratios.iter().copied().fold(0.0, f64::max)),
        })
    }

    /// What `one` did in the time in which `other` did 1.
    pub fn of_figures(one: &Measured, other: &Measured) -> Option<Self> {
        Self::of(&one.figures, &other.figures)
    }

    /// The processor time that `one` took where `other` took 1.
    pub fn of_costs(one: &Measured, other: &Measured) -> Option<Self> {
        Self::of(&one.costs(), &other.costs())
    }
}

impl Display for Ratio {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let Self {
            median,
            least,
            greatest,
        } = self;
        write!(f, "{median:.2} ({least:.2} to {greatest:.2})")
    }
}

/// What all rounds say of a contender under a load, as medians.
#[derive(Serialize, Deserialize)]
pub struct Speed {
    pub load: String,
    pub contender: String,
    /// How much it did.
    pub figure: f64,
    /// And what that counts.
    pub unit: String,
    /// Its figure to that of the one that all are compared with.
    pub ratio: Option<Ratio>,
    /// The part of the time in which the server had a processor.
    pub busy: Option<f64>,
    /// The microseconds of a processor for each unit of work.
    pub cost: Option<f64>,
    /// And how they stand to those of the one that all are compared with.
    pub cost_ratio: Option<Ratio>,
}

impl Speed {
    /// Of `measured`, compared with `base`.
    pub fn of(
        load: &str,
        unit: &str,
        contender: &str,
        measured: &Measured,
        base: &Measured,
    ) -> Self {
        // What takes a number of milliseconds has no units of work.
        let has_cost = unit != "ms" && !measured.busy.is_empty();
        Self {
            load: load.to_owned(),
            contender: contender.to_owned(),
            figure: round(median(&measured.figures)),
            unit: unit.to_owned(),
            ratio: Ratio::of_figures(measured, base),
            busy: has_cost.then(|| round(median(&measured.busy))),
            cost: has_cost.then(|| round(median(&measured.costs()) * 1e6)),
            cost_ratio: Ratio::of_costs(measured, base).filter(|_| has_cost),
        }
    }
}

impl Display for Speed {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        write!(f, "{:27}{:8.0} {}", self.contender, self.figure, self.unit)?;
        if let Some(ratio) = self.ratio {
            write!(f, ", {ratio}")?;
        }
        if let (Some(busy), Some(cost)) = (self.busy, self.cost) {
            write!(f, "; {:.0} % busy, {cost:.1} us each", busy * 100.0)?;
        }
        if let Some(ratio) = self.cost_ratio {
            write!(f, ", {ratio}")?;
        }
        Ok(())
    }
}

fn divide(numbers: &[f64], others: &[f64]) -> Vec<f64> {
    numbers.iter().zip(others).map(|(a, b)| a / b).collect()
}

/// Of no numbers: not a number.
fn median(numbers: &[f64]) -> f64 {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(f64::total_cmp);
    let at = |index: usize| numbers.get(index).copied().unwrap_or(f64::NAN);
    (at(numbers.len().saturating_sub(1) / 2) + at(numbers.len() / 2)) / 2.0
}

/// Without the digits that say nothing.
pub fn round(number: f64) -> f64 {
    format!("{number:.3e}").parse().unwrap_or(number)
}
