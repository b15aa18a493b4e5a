//! What is counted, not timed: system calls, the memory of an idle client.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use harness::{proc, strace};

use crate::load::{client, line_talk};
use crate::server::{self, Contender, Server};

/// How much more is done in another run, to see what each costs.
const MORE: usize = 20;
/// Lines that are counted, and those before them, which may fill buffers.
const LINES: usize = 1000;
const WARM_UP: usize = 10;
/// Idle clients, few and many.
const IDLE: [usize; 2] = [100, 300];
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// A trace that has not grown for so long is complete.
const QUIET: Duration = Duration::from_millis(200);
const DEADLINE: Duration = Duration::from_secs(20);

/// How often each system call is made; a difference has fractions.
type Counts = BTreeMap<String, f64>;

/// A client from beginning to end: the server's address, how many requests.
type Talk = fn(SocketAddr, usize) -> Result<()>;

/// Prints the system calls of a request and of a client.
///
/// # Errors
/// When a server under strace does not do its work.
pub fn calls(contenders: &[(Contender, Talk)], folder: &Path) -> Result<()> {
    println!("\ncalls: system calls of the server, counted with strace");
    if !strace::is_there() {
        println!("  skipped: there is no strace here (it is for Linux)");
        return Ok(());
    }
    for (contender, talk) in contenders {
        let command = contender.build(folder)?;
        let count = |clients, requests| {
            trace(&command, folder, |server| {
                in_turn(server, *talk, clients, requests)
            })
        };
        let base = count(1, 1)?;
        let request = each(&count(1, 1 + MORE)?, &base);
        let mut client = each(&count(1 + MORE, 1)?, &base);
        for (name, count) in &request {
            *client.entry(name.clone()).or_default() -= count;
        }
        println!("  {}", contender.label());
        println!("    a request         {}", list(&request));
        println!("    a client besides  {}", list(&client));
    }
    Ok(())
}

/// Clients one after the other; each begins when no thread is left of the one
/// before, so that what threads leave to each other is always the same.
fn in_turn(
    server: &Server,
    talk: Talk,
    clients: usize,
    requests: usize,
) -> Result<()> {
    let threads = proc::threads(server.process);
    for _ in 0..clients {
        talk(server.addr, requests)?;
        wait_until("a thread ends", || {
            proc::threads(server.process) == threads
        })?;
    }
    Ok(())
}

/// The system calls of a server, from its start to the end of `work`.
fn trace(
    command: &[String],
    folder: &Path,
    work: impl FnOnce(&Server) -> Result<()>,
) -> Result<Counts> {
    let file = folder.join("trace");
    let prefix = [&["strace"], &strace::FOLLOW[..], &["-o"]].concat();
    let mut prefix: Vec<_> = prefix.into_iter().map(str::to_owned).collect();
    prefix.push(file.display().to_string());
    let server = Server::start(&prefix, command)?;
    work(&server)?;
    let read = || fs::read_to_string(&file).unwrap_or_default();
    let mut trace = read();
    let mut changed = Instant::now();
    wait_until("the server comes to rest", || {
        let now = read();
        if now.len() != trace.len() {
            trace = now;
            changed = Instant::now();
        }
        changed.elapsed() > QUIET
    })?;
    let counts = strace::counts(trace.as_bytes()).into_iter();
    let counts: Counts = counts.map(|(name, n)| (name, n as f64)).collect();
    ensure!(
        !counts.is_empty(),
        "strace has traced nothing; may it ptrace?"
    );
    Ok(counts)
}

fn each(many: &Counts, few: &Counts) -> Counts {
    let before = |name| few.get(name).unwrap_or(&0.0);
    many.iter()
        .map(|(name, count)| {
            (name.clone(), (count - before(name)) / MORE as f64)
        })
        .collect()
}

/// Such as `2: recvfrom 1, sendto 1`.
fn list(counts: &Counts) -> String {
    let counts: Vec<_> = counts
        .iter()
        .filter(|(_, count)| count.abs() > 1e-6)
        .collect();
    if counts.is_empty() {
        return "none".to_owned();
    }
    let total: f64 = counts.iter().map(|(_, count)| *count).sum();
    let names: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{name} {}", short(**count)))
        .collect();
    format!("{}: {}", short(total), names.join(", "))
}

/// A number without decimals that say nothing.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Prints how often a server allocates for a line, when it has had some.
///
/// # Errors
/// When a server does not serve.
pub fn allocations(contenders: &[Contender], folder: &Path) -> Result<()> {
    println!("\nallocations: of the server, for each of {LINES} lines");
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        println!("  skipped: it takes a C library that can be asked (glibc)");
        return Ok(());
    }
    let counter =
        server::compile("allocations", folder, &["-shared", "-fPIC"])?;
    let file = folder.join("count");
    for contender in contenders {
        fs::write(&file, 0u64.to_ne_bytes())?;
        let prefix = [
            "env".to_owned(),
            format!("LD_PRELOAD={}", counter.display()),
            format!("ALLOCATIONS={}", file.display()),
        ];
        let server = Server::start(&prefix, &contender.build(folder)?)?;
        let mut counts = [0; 2];
        line_talk(server.addr, WARM_UP + LINES, |number| {
            let now = u64::from_ne_bytes(
                fs::read(&file)?.try_into().unwrap_or_default(),
            );
            match number {
                WARM_UP => counts[0] = now,
                _ => counts[1] = now,
            }
            Ok(())
        })?;
        let [before, after] = counts;
        ensure!(before > 0, "nothing was counted");
        let each = (after - before) as f64 / LINES as f64;
        println!("  {:24}{}", contender.label(), short(each));
    }
    Ok(())
}

/// Prints what an idle client costs a server in memory of its own.
///
/// # Errors
/// When a server does not serve them.
pub fn memory(contenders: &[Contender], folder: &Path) -> Result<()> {
    println!("\nmemory: of the server's own, for each idle client");
    for contender in contenders {
        let server = Server::start(&[], &contender.build(folder)?)?;
        let mut streams = Vec::new();
        let mut bytes = Vec::new();
        for count in IDLE {
            while streams.len() < count {
                streams.push(client(server.addr)?);
            }
            bytes.extend(proc::private_memory(server.process));
        }
        let [few, many] = bytes[..] else {
            println!("  skipped: this system does not tell (Linux does)");
            return Ok(());
        };
        let idle = (IDLE[1] - IDLE[0]) as f64;
        let kib = (many as f64 - few as f64) / idle / 1024.0;
        println!("  {:24}{kib:8.1} KiB", contender.label());
    }
    Ok(())
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > DEADLINE {
            bail!("{DEADLINE:?} have passed before {what}");
        }
        thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}
