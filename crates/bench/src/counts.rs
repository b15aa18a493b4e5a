//! What is counted, not timed: system calls, the memory of an idle client.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Lab, proc, strace, tasks};
use serde::{Deserialize, Serialize};

use crate::load::{Talk, client, line_talk};
use crate::measure::{Named, round};
use crate::server::{self, Server};

/// How much more is done in another run, to see what each costs.
const MORE: usize = 20;
/// Lines that are counted, and those before them, which may fill buffers.
const LINES: usize = 1000;
const WARM_UP: usize = 10;
/// Idle clients that are there before those who are counted.
const FEW_IDLE: usize = 100;
/// A trace that has not grown for so long is complete.
const QUIET: Duration = Duration::from_millis(200);

/// How often each system call is made; a difference has fractions.
pub type Counts = BTreeMap<String, f64>;

/// The heading above [`Calls`].
pub const CALLS: &str =
    "calls: system calls of the server, counted with strace";

/// The system calls of a server.
#[derive(Serialize, Deserialize)]
pub struct Calls {
    pub contender: String,
    /// Those for a request.
    pub request: Counts,
    /// Those for a client, besides its requests.
    pub client: Counts,
}

impl Display for Calls {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        writeln!(f, "{}", self.contender)?;
        writeln!(f, "    a request         {}", list(&self.request))?;
        write!(f, "    a client besides  {}", list(&self.client))
    }
}

/// Counts the system calls of a server. `None`: there is no strace here.
pub fn calls(
    (contender, command): &Named,
    talk: Talk,
    folder: &Path,
) -> Result<Option<Calls>> {
    if !strace::is_there() {
        return Ok(None);
    }
    let count = |clients, requests| {
        trace(command, folder, |server| {
            in_turn(server, talk, clients, requests)
        })
    };
    let base = count(1, 1)?;
    let request = each(&count(1, 1 + MORE)?, &base);
    let mut client = each(&count(1 + MORE, 1)?, &base);
    for (name, count) in &request {
        *client.entry(name.clone()).or_default() -= count;
    }
    let made = |counts: Counts| {
        let counts = counts.into_iter().map(|(name, n)| (name, round(n)));
        counts.filter(|(_, count)| count.abs() > 1e-6).collect()
    };
    Ok(Some(Calls {
        contender: contender.clone(),
        request: made(request),
        client: made(client),
    }))
}

/// Clients one after the other. Each request comes when the server waits for
/// one, and each client when nothing is left of the one before: so it is the
/// same calls each time.
fn in_turn(
    server: &Server,
    talk: Talk,
    clients: usize,
    requests: usize,
) -> Result<()> {
    let rests = || {
        let threads = tasks::thread_ids(server.process).unwrap_or_default();
        threads.iter().all(|&id| tasks::sleeps(id) != Some(false))
    };
    let lab = Lab::new();
    let wait = || lab.wait_until("the server waits for a client", rests);
    wait()?;
    let descriptors = proc::descriptors(server.process);
    for _ in 0..clients {
        talk(server.addr, requests, &mut |_| Ok(wait()?))?;
        lab.wait_until("nothing is left of a client", || {
            proc::descriptors(server.process) == descriptors && rests()
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
    Lab::new().wait_until("the server comes to rest", || {
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
    if counts.is_empty() {
        return "none".to_owned();
    }
    let total: f64 = counts.values().sum();
    let names: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{name} {}", short(*count)))
        .collect();
    format!("{}: {}", short(total), names.join(", "))
}

/// A number without decimals that say nothing.
pub fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Prints how often a server allocates for a line, when it has had some.
pub fn allocations(contenders: &[Named], folder: &Path) -> Result<()> {
    println!("\nallocations: of the server, for each of {LINES} lines");
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        println!("  skipped: it takes a C library that can be asked (glibc)");
        return Ok(());
    }
    let counter =
        server::compile("allocations", folder, &["-shared", "-fPIC"])?;
    let file = folder.join("count");
    for (contender, command) in contenders {
        fs::write(&file, 0u64.to_ne_bytes())?;
        let prefix = [
            "env".to_owned(),
            format!("LD_PRELOAD={}", counter.display()),
            format!("ALLOCATIONS={}", file.display()),
        ];
        let server = Server::start(&prefix, command)?;
        let mut counts = [0; 2];
        line_talk(server.addr, WARM_UP + LINES, &mut |number| {
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
        println!("  {contender:24}{}", short(each));
    }
    Ok(())
}

/// The heading above [`Memory`].
pub const MEMORY: &str = "memory: of the server's own, for each idle client";

/// What an idle client costs a server.
#[derive(Serialize, Deserialize)]
pub struct Memory {
    pub contender: String,
    pub clients: usize,
    /// In memory of its own, for each of them.
    pub kib: f64,
}

impl Display for Memory {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        write!(f, "{:27}{:8.2} KiB", self.contender, self.kib)
    }
}

/// What an idle client costs a server that has `clients`. `None`: this system
/// does not tell.
pub fn memory(
    (contender, command): &Named,
    clients: usize,
) -> Result<Option<Memory>> {
    let server = Server::start(&[], command)?;
    let mut streams = Vec::new();
    let mut bytes = Vec::new();
    for count in [FEW_IDLE, clients] {
        while streams.len() < count {
            streams.push(client(server.addr)?);
        }
        bytes.extend(proc::private_memory(server.process));
    }
    let [few, many] = bytes[..] else {
        return Ok(None);
    };
    let idle = (clients - FEW_IDLE) as f64;
    Ok(Some(Memory {
        contender: contender.clone(),
        clients,
        kib: round((many as f64 - few as f64) / idle / 1024.0),
    }))
}
