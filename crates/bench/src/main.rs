//! Measures the lessons beside C programs of the same design.
//!
//! The two ends of each conversation run on a core each. Contenders take
//! turns, round by round, with a new process each time; what is compared is
//! two neighbours in time, and what is printed is the median of the rounds.

mod exact;
mod load;
mod server;

use std::fs;
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use harness::proc;

use load::Load;
use server::Contender::{self, C, Lesson, Python};
use server::Server;

/// Measures the lessons beside C programs of the same design.
///
/// Run it with --release, on a machine that does nothing else.
#[derive(Parser)]
struct Args {
    /// How often each contender has its turn
    #[arg(long, default_value_t = 9,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// How long a turn takes, in milliseconds
    #[arg(long, default_value_t = 400,
        value_parser = clap::value_parser!(u64).range(1..=10_000))]
    millis: u64,

    /// What to measure; everything if nothing is named
    #[arg(value_parser = PossibleValuesParser::new(names()))]
    scenario: Vec<String>,
}

struct Scenario {
    name: &'static str,
    what: &'static str,
    load: Load,
    /// The last is the one that the others are compared with.
    contenders: &'static [Contender],
    aim: &'static str,
}

const THREADED: Contender = Lesson("lesson-03-threaded");
const POOL: Contender = Lesson("lesson-04-thread-pool");
const UDP: Contender = Lesson("lesson-05-udp");
const C_THREADS: Contender = C("threads", &[]);
const C_POOL: Contender = C("pool", &[]);
const C_UDP: Contender = C("udp", &[]);
const PYTHON: Contender = Python("threads");
const THREADS: &[Contender] = &[THREADED, PYTHON, C_THREADS];
const AS_C: &str = "aim 0.95, accept 0.85";

#[rustfmt::skip]
const SCENARIOS: &[Scenario] = &[
    Scenario { name: "noise", what: "a program against itself: what this machine adds",
        load: Load::PingPong(8), contenders: &[C_THREADS, C_THREADS], aim: "1.00" },
    Scenario { name: "echo-1", what: "64 bytes there and back, 1 connection",
        load: Load::PingPong(1), contenders: THREADS, aim: AS_C },
    Scenario { name: "echo-8", what: "the same, 8 connections",
        load: Load::PingPong(8), contenders: THREADS, aim: AS_C },
    Scenario { name: "echo-50", what: "the same, 50 connections",
        load: Load::PingPong(50), contenders: THREADS, aim: AS_C },
    Scenario { name: "echo-500", what: "the same, 500 connections",
        load: Load::PingPong(500), contenders: THREADS, aim: AS_C },
    Scenario { name: "bulk", what: "as many bytes as go through, 1 connection",
        load: Load::Bulk, contenders: THREADS, aim: AS_C },
    Scenario { name: "udp-1", what: "64-byte datagrams there and back, 1 under way",
        load: Load::Udp(1), contenders: &[UDP, C_UDP], aim: AS_C },
    Scenario { name: "udp-8", what: "the same, 8 under way",
        load: Load::Udp(8), contenders: &[UDP, C_UDP], aim: AS_C },
    Scenario { name: "connect", what: "connect, 64 bytes there and back, close; 4 clients",
        load: Load::Connect(4), contenders: THREADS, aim: "aim 0.87, accept 0.80" },
    Scenario { name: "connect-pool", what: "the same, served by a pool",
        load: Load::Connect(4), contenders: &[POOL, C_POOL], aim: AS_C },
    Scenario { name: "pool-or-threads", what: "the same, the pool beside the threads",
        load: Load::Connect(4), contenders: &[POOL, THREADED], aim: "aim 1.35" },
    Scenario { name: "burst", what: "500 clients at once, until all are served; C with a backlog of 4096",
        load: Load::Burst(500), contenders: &[THREADED, C_THREADS, C("threads", &["1024", "4096"])],
        aim: "no aim: the backlog decides" },
    Scenario { name: "buffers", what: "bulk with buffers of 1, 4, 16 and 64 KiB",
        load: Load::Bulk,
        contenders: &[C("threads", &["4096"]), C("threads", &["16384"]), C("threads", &["65536"]),
            C("threads", &["1024"])],
        aim: "no aim: the buffer decides" },
];
const CALLS: &str = "calls";
const MEMORY: &str = "memory";

fn names() -> impl Iterator<Item = &'static str> {
    SCENARIOS.iter().map(|s| s.name).chain([CALLS, MEMORY])
}

fn main() -> Result<()> {
    let args = Args::parse();
    let wanted = |name: &str| {
        args.scenario.is_empty() || args.scenario.iter().any(|s| s == name)
    };
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let python = Command::new("python3").arg("-V").output().is_ok();
    let mut ready = Vec::new();
    for scenario in SCENARIOS.iter().filter(|s| wanted(s.name)) {
        let contenders = scenario.contenders.iter().copied();
        let commands = contenders
            .filter(|contender| python || !matches!(contender, Python(_)))
            .map(|contender| {
                Ok((contender.label(), contender.build(folder.path())?))
            })
            .collect::<Result<Vec<_>>>()?;
        ready.push((scenario, commands));
    }
    let pin = pin();
    introduce(&args, pin.is_some());
    let time = Duration::from_millis(args.millis);
    for (scenario, commands) in ready {
        measure(scenario, &commands, args.rounds, time, &pin)
            .with_context(|| format!("in scenario {}", scenario.name))?;
    }
    if wanted(CALLS) {
        let tcp = [THREADED, C_THREADS, POOL, C_POOL];
        exact::calls(&tcp, &[UDP, C_UDP], folder.path())?;
    }
    if wanted(MEMORY) {
        exact::memory(&[THREADED, C_THREADS], folder.path())?;
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

fn introduce(args: &Args, pinned: bool) {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| {
        Some(
            line.strip_prefix("model name")?
                .trim_matches([' ', '\t', ':']),
        )
    });
    println!(
        "{} {}, {}, load average {}",
        std::env::consts::OS,
        read("/proc/sys/kernel/osrelease").trim(),
        model.unwrap_or(std::env::consts::ARCH),
        read("/proc/loadavg").split(' ').next().unwrap_or("unknown"),
    );
    println!(
        "{} rounds of {} ms; no clock on a shared machine establishes a \
         difference of less than 15 %",
        args.rounds, args.millis,
    );
    match pinned {
        true => println!("the server on core 0, the load on core 1"),
        false => println!("not pinned: that takes two cores, and taskset"),
    }
    if cfg!(debug_assertions) {
        println!("NOT OPTIMISED: run it with cargo run --release");
    }
}

fn measure(
    scenario: &Scenario,
    commands: &[(String, Vec<String>)],
    rounds: u16,
    time: Duration,
    pin: &Option<Vec<String>>,
) -> Result<()> {
    let pin = pin.as_deref().unwrap_or_default();
    let mut figures = vec![Vec::new(); commands.len()];
    let mut busy = figures.clone();
    for _ in 0..rounds {
        for (index, (label, command)) in commands.iter().enumerate() {
            let server = Server::start(pin, command)?;
            let start = Instant::now();
            let figure = scenario
                .load
                .run(server.addr(), time)
                .with_context(|| format!("with {label}"))?;
            figures[index].push(figure);
            busy[index].extend(proc::cpu_time(server.process()).map(|used| {
                used.as_secs_f64() / start.elapsed().as_secs_f64()
            }));
        }
    }
    let unit = scenario.load.unit();
    println!("\n{}: {} ({})", scenario.name, scenario.what, scenario.aim);
    let last = &figures[commands.len() - 1];
    for (index, (label, _)) in commands.iter().enumerate() {
        let figure = median(&figures[index]);
        print!("  {label:24}{figure:10.0} {unit}");
        if let [_, ..] = busy[index][..] {
            print!(", {:3.0} % busy", median(&busy[index]) * 100.0);
        }
        if index < commands.len() - 1 {
            let pairs = figures[index].iter().zip(last);
            let mut ratios: Vec<_> = pairs.map(|(a, b)| a / b).collect();
            ratios.sort_by(f64::total_cmp);
            print!(
                ", {:.2} of the last ({:.2} to {:.2})",
                median(&ratios),
                ratios[0],
                ratios[ratios.len() - 1]
            );
        }
        println!();
    }
    Ok(())
}

fn median(numbers: &[f64]) -> f64 {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(f64::total_cmp);
    let (low, high) = ((numbers.len() - 1) / 2, numbers.len() / 2);
    (numbers[low] + numbers[high]) / 2.0
}
