//! What is printed: a line for each event, and a summary at the end.

use std::collections::{BTreeSet, HashSet};
use std::io::{self, Write};
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{Task, escape, failure};

/// Collects and prints what the clients do and see.
pub struct Report {
    start: Instant,
    clients: usize,
    udp: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Clients that are connected (TCP) or have been answered (UDP).
    reached: BTreeSet<usize>,
    sent: u64,
    received: u64,
    failed: bool,
    /// How clients ended, in the order in which the first of each did.
    ends: Vec<(String, BTreeSet<usize>)>,
    said: HashSet<String>,
}

impl Report {
    /// A report on `clients` clients; its clock starts now.
    pub fn new(clients: usize, udp: bool) -> Self {
        Self {
            start: Instant::now(),
            clients,
            udp,
            state: Mutex::default(),
        }
    }

    /// Something happened to client `id`.
    pub fn note(&self, id: usize, what: &str) {
        let _in_order = self.state();
        self.print(&self.line(id, what));
    }

    /// Client `id` reached its peer.
    pub fn reached(&self, id: usize) {
        self.state().reached.insert(id);
    }

    /// Client `id` is done: `Ok` says how, `Err` why it failed.
    pub fn ended(&self, id: usize, end: Result<String>) {
        let mut state = self.state();
        let how = match end {
            Ok(how) => {
                self.print(&self.line(id, &how));
                how
            }
            Err(error) => {
                let why = error.to_string();
                state.failed = true;
                // What keeps many clients from starting is said once; the
                // summary counts the others.
                let once = !state.reached.contains(&id)
                    || why == failure::OUT_OF_THREADS;
                if state.said.insert(why.clone()) || !once {
                    // Nobody is left to tell if stderr is closed.
                    let _ = writeln!(io::stderr(), "{}", self.line(id, &why));
                }
                why
            }
        };
        match state.ends.iter_mut().find(|(text, _)| *text == how) {
            Some((_, ids)) => drop(ids.insert(id)),
            None => state.ends.push((how, BTreeSet::from([id]))),
        }
    }

    /// Prints the summary; true if no client failed.
    pub fn summary(&self) -> bool {
        let state = self.state();
        self.print(&format!(
            "summary: {} of {} {}, {} sent, {} received",
            state.reached.len(),
            count(self.clients as u64, "client"),
            if self.udp { "answered" } else { "connected" },
            count(state.sent, "byte"),
            count(state.received, "byte"),
        ));
        for (how, ids) in &state.ends {
            self.print(&format!("  {}  {how}", ranges(ids)));
        }
        !state.failed
    }

    fn line(&self, id: usize, what: &str) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        let id = format!("#{id}");
        let width = self.clients.to_string().len() + 1;
        format!("{seconds:7.3} s  {id:<width$}  {what}")
    }

    fn print(&self, line: &str) {
        if writeln!(io::stdout(), "{line}").is_err() {
            // Nobody reads on, as in `probe ... | head`.
            process::exit(1);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `1 byte`, `2 bytes`.
pub fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// `#1, #3-#7`
fn ranges(ids: &BTreeSet<usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &id in ids {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => runs.push((id, id)),
        }
    }
    let runs = runs.into_iter().map(|(first, last)| match first == last {
        true => format!("#{first}"),
        false => format!("#{first}-#{last}"),
    });
    runs.collect::<Vec<_>>().join(", ")
}

/// How many events of a flow get a line of their own in one second.
const LINES: u32 = 20;

/// One direction of one client. Every piece is counted; when they come faster
/// than anyone can read, the rest of that second shares one line.
pub struct Flow<'a> {
    task: &'a Task,
    id: usize,
    verb: Verb,
    second: Instant,
    lines: u32,
    /// What waits for its shared line.
    pieces: u64,
    bytes: u64,
}

/// The direction of a flow.
pub enum Verb {
    /// To the peer.
    Sending,
    /// From the peer.
    Received,
}

impl<'a> Flow<'a> {
    /// A flow in which nothing has moved yet.
    pub fn new(task: &'a Task, id: usize, verb: Verb) -> Self {
        Self {
            task,
            id,
            verb,
            second: Instant::now(),
            lines: 0,
            pieces: 0,
            bytes: 0,
        }
    }

    /// Counts `bytes` that were sent or received.
    pub fn count(&self, bytes: usize) {
        let mut state = self.task.report.state();
        match self.verb {
            Verb::Sending => state.sent += bytes as u64,
            Verb::Received => state.received += bytes as u64,
        }
    }

    /// Shows `piece`. What is sent is shown first, lest the answer be faster.
    pub fn show(&mut self, piece: &[u8]) {
        let bytes = piece.len() as u64;
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.flush();
            self.second = Instant::now();
            self.lines = 0;
        }
        if self.lines < LINES {
            self.lines += 1;
            let what = escape::show(piece);
            self.note(&format!("{}: {what}", count(bytes, "byte")));
        } else {
            self.pieces += 1;
            self.bytes += bytes;
        }
    }

    fn flush(&mut self) {
        if self.pieces > 0 {
            let bytes = count(self.bytes, "more byte");
            let pieces = count(self.pieces, "piece");
            self.note(&format!("{bytes} in {pieces}"));
        }
        (self.pieces, self.bytes) = (0, 0);
    }

    fn note(&self, what: &str) {
        let verb = match self.verb {
            Verb::Sending => "sending",
            Verb::Received => "received",
        };
        self.task.report.note(self.id, &format!("{verb} {what}"));
    }
}

impl Drop for Flow<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}
