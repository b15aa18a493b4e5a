//! Measures the lessons beside C programs of the same design.
//!
//! Server and load run on a core each. Contenders take turns, round by round,
//! with a new process each time: what is compared are neighbours in time, and
//! what is printed are medians.

mod counts;
mod load;
mod server;

use std::process::{self, Command};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{Parser, value_parser};
use harness::proc;

use load::Load::{self, Bulk, Burst, Connect, Lines, PingPong, Udp};
use server::Contender::{self, C, Lesson, Python};
use server::Server;

/// Measures the lessons beside C programs of the same design.
///
/// Run it with --release, on a machine that does nothing else.
#[derive(Parser)]
struct Args {
    /// How often each contender has its turn
    #[arg(long, default_value_t = 9, value_parser = value_parser!(u16).range(1..=999))]
    rounds: u16,

    /// How long a turn takes, in milliseconds
    #[arg(long, default_value_t = 400, value_parser = value_parser!(u64).range(1..=9999))]
    millis: u64,

    /// What to measure; everything if nothing is named
    #[arg(value_parser = PossibleValuesParser::new(names()))]
    scenario: Vec<String>,
}

const THREADED: Contender = Lesson("lesson-03-threaded");
const POOL: Contender = Lesson("lesson-04-thread-pool");
const UDP: Contender = Lesson("lesson-05-udp");
const FRAMING: Contender = Lesson("lesson-07-framing");
const C_THREADS: Contender = C("threads", &[]);
const C_POOL: Contender = C("pool", &[]);
const C_UDP: Contender = C("udp", &[]);
const C_LINES: Contender = C("lines", &[]);

/// The last contender is the one that the others are compared with.
struct Scenario(&'static str, Load, &'static [Contender], &'static str);

const THREADS: &[Contender] = &[THREADED, Python("threads"), C_THREADS];
const LIKE_C: &str = "aim 0.95, accept 0.85";
const SCENARIOS: &[Scenario] = &[
    // How far a program is from itself: what the machine adds.
    Scenario(
        "noise",
        PingPong(8),
        &[C_THREADS, C_THREADS],
        "1 is perfect",
    ),
    Scenario("echo-1", PingPong(1), THREADS, LIKE_C),
    Scenario("echo-8", PingPong(8), THREADS, LIKE_C),
    Scenario("echo-50", PingPong(50), THREADS, LIKE_C),
    Scenario("echo-500", PingPong(500), THREADS, LIKE_C),
    Scenario("bulk", Bulk, THREADS, LIKE_C),
    Scenario("lines-1", Lines(1), &[FRAMING, C_LINES], LIKE_C),
    Scenario("lines-8", Lines(8), &[FRAMING, C_LINES], LIKE_C),
    Scenario("lines-50", Lines(50), &[FRAMING, C_LINES], LIKE_C),
    Scenario("udp-1", Udp(1), &[UDP, C_UDP], LIKE_C),
    Scenario("udp-8", Udp(8), &[UDP, C_UDP], LIKE_C),
    Scenario("connect", Connect(4), THREADS, "aim 0.87, accept 0.80"),
    Scenario("connect-pool", Connect(4), &[POOL, C_POOL], LIKE_C),
    // With as many clients as workers, and with more than it has places.
    Scenario("pool-4", Connect(4), &[POOL, THREADED], "aim 1.35"),
    Scenario("pool-16", Connect(16), &[POOL, THREADED], "aim 1.35"),
    Scenario(
        "backlog",
        Burst(500),
        &[THREADED, C("threads", &["1024", "4096"]), C_THREADS],
        "no aim; the last number is the backlog, otherwise it is 128",
    ),
    Scenario(
        "buffer",
        Bulk,
        &[
            C("threads", &["4096"]),
            C("threads", &["16384"]),
            C("threads", &["65536"]),
            C_THREADS,
        ],
        "no aim; the number is the size of the buffer, otherwise it is 1024",
    ),
];
const CALLS: &str = "calls";
const ALLOCATIONS: &str = "allocations";
const MEMORY: &str = "memory";

fn names() -> impl Iterator<Item = &'static str> {
    SCENARIOS
        .iter()
        .map(|s| s.0)
        .chain([CALLS, ALLOCATIONS, MEMORY])
}

fn main() -> Result<()> {
    let args = Args::parse();
    let wanted = |name: &str| {
        args.scenario.is_empty() || args.scenario.iter().any(|s| s == name)
    };
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let python = Command::new("python3").arg("-V").output().is_ok();
    // Built first: a compiler should have both cores.
    let mut ready = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| wanted(scenario.0)) {
        let mut commands = Vec::new();
        for contender in scenario.2 {
            if python || !matches!(contender, Python(_)) {
                let command = contender.build(folder.path())?;
                commands.push((contender.label(), command));
            }
        }
        ready.push((scenario, commands));
    }
    let pin = pin().unwrap_or_default();
    introduce(&args, &pin);
    let time = Duration::from_millis(args.millis);
    for (scenario, commands) in ready {
        measure(scenario, &commands, args.rounds, time, &pin)
            .with_context(|| format!("in scenario {}", scenario.0))?;
    }
    if wanted(CALLS) {
        let tcp = [THREADED, C_THREADS, POOL, C_POOL];
        let tcp = tcp.map(|contender| (contender, load::tcp_talk as _));
        let udp = [UDP, C_UDP].map(|c| (c, load::udp_talk as _));
        let lines = [FRAMING, C_LINES].map(|c| {
            let talk =
                |addr, requests| load::line_talk(addr, requests, |_| Ok(()));
            (c, talk as _)
        });
        counts::calls(&[&tcp[..], &lines, &udp].concat(), folder.path())?;
    }
    if wanted(ALLOCATIONS) {
        counts::allocations(&[FRAMING, C_LINES], folder.path())?;
    }
    if wanted(MEMORY) {
        counts::memory(THREADS, folder.path())?;
    }
    Ok(())
}

/// Puts this process on a core, and gives the words that put a server on
/// another; nothing where that cannot be done.
fn pin() -> Option<Vec<String>> {
    thread::available_parallelism()
        .ok()
        .filter(|n| n.get() > 1)?;
    let here = process::id().to_string();
    let pinned = Command::new("taskset").args(["-acp", "1", &here]).output();
    pinned.ok().filter(|output| output.status.success())?;
    Some(["taskset", "-c", "0"].map(str::to_owned).to_vec())
}

fn introduce(args: &Args, pin: &[String]) {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| {
        Some(
            line.strip_prefix("model name")?
                .trim_matches([' ', '\t', ':']),
        )
    });
    println!(
        "{} {}, {}, load average {}; {} rounds of {} ms",
        env::consts::OS,
        read("/proc/sys/kernel/osrelease").trim(),
        model.unwrap_or(env::consts::ARCH),
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
        args.rounds,
        args.millis,
    );
    println!(
        "On a machine that others use too, a clock establishes no difference \
         below 15 %."
    );
    match pin {
        [] => println!("Not pinned: that takes two cores, and taskset."),
        _ => println!("The server is on core 0, the load on core 1."),
    }
    if cfg!(debug_assertions) {
        println!("NOT OPTIMISED: use `cargo run --release -p bench`.");
    }
}

/// What one contender did, round by round.
#[derive(Clone, Default)]
struct Measured {
    /// In the unit of the load.
    figures: Vec<f64>,
    /// The part of the time in which the server had a processor; empty where
    /// the system does not tell.
    busy: Vec<f64>,
}

impl Measured {
    /// The seconds of a processor that the server took for each unit of work.
    /// Other programs disturb them less than the clock.
    fn costs(&self) -> Vec<f64> {
        divide(&self.busy, &self.figures)
    }
}

fn measure(
    Scenario(name, load, _, aim): &Scenario,
    commands: &[(String, Vec<String>)],
    rounds: u16,
    time: Duration,
    pin: &[String],
) -> Result<()> {
    let mut all = vec![Measured::default(); commands.len()];
    for _ in 0..rounds {
        for (measured, (label, command)) in all.iter_mut().zip(commands) {
            let server = Server::start(pin, command)?;
            let start = Instant::now();
            let figure = load.run(server.addr, time);
            measured
                .figures
                .push(figure.with_context(|| label.clone())?);
            let elapsed = start.elapsed().as_secs_f64();
            let used = proc::cpu_time(server.process);
            measured
                .busy
                .extend(used.map(|t| t.as_secs_f64() / elapsed));
        }
    }
    println!("\n{name}: {} ({aim})", load.what());
    let last = &all[all.len() - 1];
    for (measured, (label, _)) in all.iter().zip(commands) {
        let Measured { figures, busy } = measured;
        let ratios = divide(figures, &last.figures);
        print!(
            "  {label:22}{:8.0} {}, {:.2} ({:.2} to {:.2})",
            median(figures),
            load.unit(),
            median(&ratios),
            ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratios.iter().copied().fold(0.0, f64::max),
        );
        if !busy.is_empty() && load.unit() != "ms" {
            let costs = measured.costs();
            print!(
                "; {:.0} % busy, {:.1} us each, {:.2}",
                median(busy) * 100.0,
                median(&costs) * 1e6,
                median(&divide(&costs, &last.costs())),
            );
        }
        println!();
    }
    Ok(())
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
