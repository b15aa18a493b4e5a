//! Measures the lessons beside C programs of the same design.
//!
//! Server and load run on a core each. Contenders take turns, round by round,
//! with a new process each time: what is compared are neighbours in time, and
//! what is printed are medians.

mod counts;
mod designs;
mod draw;
mod load;
mod measure;
mod server;

use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs, thread};

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use clap::{Parser, value_parser};

use designs::{CALLS, MEMORY};
use load::Load::{self, Bulk, Burst, Connect, Lines, PingPong, Udp};
use load::Talk;
use measure::{Named, Speed};
use server::Contender::{self, C, Lesson, Python};

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

    /// Writes what `designs` has found to this file: JSON, an object a line
    #[arg(long)]
    json: Option<PathBuf>,

    /// What `designs` is to measure; everything if nothing is named
    #[arg(long, value_parser = PossibleValuesParser::new(designs::names()))]
    only: Vec<String>,

    /// Draws what such a file holds, as HTML for the book, and measures nothing
    #[arg(long, value_name = "JSON")]
    draw: Option<PathBuf>,

    /// What to measure; everything but `designs` if nothing is named
    #[arg(value_parser = PossibleValuesParser::new(names()))]
    scenario: Vec<String>,

    /// A server that `designs` is to measure, too; its first line must be
    /// `listening on IP:PORT`
    #[arg(last = true)]
    command: Vec<String>,
}

const THREADED: Contender = Lesson("03-threaded", &[]);
const POOL: Contender = Lesson("04-thread-pool", &[]);
const UDP: Contender = Lesson("05-udp", &[]);
const FRAMING: Contender = Lesson("07-framing", &[]);
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
const ALLOCATIONS: &str = "allocations";
const DESIGNS: &str = "designs";

fn names() -> impl Iterator<Item = &'static str> {
    SCENARIOS
        .iter()
        .map(|s| s.0)
        .chain([CALLS, ALLOCATIONS, MEMORY, DESIGNS])
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(file) = args.draw {
        print!("{}", draw::html(&file)?);
        return Ok(());
    }
    let is_named = |name: &str| args.scenario.iter().any(|s| s == name);
    let wanted = |name: &str| args.scenario.is_empty() || is_named(name);
    let designs = is_named(DESIGNS);
    let is_for_designs = !args.command.is_empty()
        || !args.only.is_empty()
        || args.json.is_some();
    if is_for_designs && !designs {
        bail!("a COMMAND, --only and --json are for `designs`: name it, too");
    }
    let folder = tempfile::tempdir().context("no temporary folder")?;
    // Built first: a compiler should have both cores.
    let mut ready = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| wanted(scenario.0)) {
        let mut commands = Vec::new();
        for contender in scenario.2 {
            if !matches!(contender, Python(_)) || contender.version().is_some()
            {
                commands.push(contender.named(folder.path())?);
            }
        }
        ready.push((scenario, commands));
    }
    let contenders = match designs {
        true => designs::contenders(&args.command, folder.path())?,
        false => Vec::new(),
    };
    let machine = machine();
    let pin = measure::pin().unwrap_or_default();
    introduce(&args, &machine, &pin);
    let time = Duration::from_millis(args.millis);
    for (scenario, commands) in ready {
        measure(scenario, &commands, args.rounds, time, &pin)
            .with_context(|| format!("in scenario {}", scenario.0))?;
    }
    let all = |contenders: &[Contender]| {
        contenders
            .iter()
            .map(|contender| contender.named(folder.path()))
            .collect::<Result<Vec<_>>>()
    };
    if wanted(CALLS) {
        println!("\n{}", counts::CALLS);
        let tcp = [THREADED, C_THREADS, POOL, C_POOL];
        let kinds: [(&[Contender], Talk); 3] = [
            (&tcp, load::tcp_talk),
            (&[FRAMING, C_LINES], load::line_talk),
            (&[UDP, C_UDP], load::udp_talk),
        ];
        for (contenders, talk) in kinds {
            for named in all(contenders)? {
                match counts::calls(&named, talk, folder.path())? {
                    Some(calls) => println!("  {calls}"),
                    None => println!("  skipped: there is no strace here"),
                }
            }
        }
    }
    if wanted(ALLOCATIONS) {
        counts::allocations(&all(&[FRAMING, C_LINES])?, folder.path())?;
    }
    if wanted(MEMORY) {
        println!("\n{}", counts::MEMORY);
        for named in all(THREADS)? {
            match counts::memory(&named, 300)? {
                Some(memory) => println!("  {memory}"),
                None => println!("  skipped: this system does not tell"),
            }
        }
    }
    if designs {
        let how = designs::How {
            rounds: args.rounds,
            time,
            pin: &pin,
            folder: folder.path(),
            only: &args.only,
        };
        let rows = designs::measure(&contenders, machine, &how);
        if let Some(file) = args.json {
            designs::write(&rows, &file)?;
        }
    }
    Ok(())
}

/// What it is that measures.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| {
        Some(
            line.strip_prefix("model name")?
                .trim_matches([' ', '\t', ':']),
        )
    });
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{} {}, {}, cores: {cores}",
        env::consts::OS,
        kernel.split(['-', '\n']).next().unwrap_or_default(),
        model.unwrap_or(env::consts::ARCH),
    )
}

fn introduce(args: &Args, machine: &str, pin: &[String]) {
    println!(
        "{machine}, load average {}; {} rounds of {} ms",
        measure::load_average(),
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

fn measure(
    Scenario(name, load, _, aim): &Scenario,
    commands: &[Named],
    rounds: u16,
    time: Duration,
    pin: &[String],
) -> Result<()> {
    let mut all = measure::in_turn(commands, *load, rounds, time, pin);
    for (measured, (label, _)) in all.iter_mut().zip(commands) {
        if let Some(error) = measured.failed.take() {
            return Err(error.context(label.clone()));
        }
    }
    println!("\n{name}: {} ({aim})", load.what());
    for (measured, (label, _)) in all.iter().zip(commands) {
        let last = &all[all.len() - 1];
        let speed = Speed::of(name, load.unit(), label, measured, last);
        println!("  {speed}");
    }
    Ok(())
}
