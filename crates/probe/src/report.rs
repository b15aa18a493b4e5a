//! What is printed: a line for each event, and a summary at the end.

use std::collections::HashSet;
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
    reached: HashSet<usize>,
    sent: u64,
    received: u64,
    failed: usize,
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
        let error = match end {
            Ok(how) => return self.print(&self.line(id, &how)),
            Err(error) => error.to_string(),
        };
        state.failed += 1;
        // What keeps many clients from starting is said once; the summary
        // counts the others.
        let once =
            !state.reached.contains(&id) || error == failure::OUT_OF_THREADS;
        if state.said.insert(error.clone()) || !once {
            // Nobody is left to tell if stderr is closed.
            let _ = writeln!(io::stderr(), "{}", self.line(id, &error));
        }
    }

    /// Prints the summary, one line; true if no client failed.
    pub fn summary(&self) -> bool {
        let state = self.state();
        let failed = match state.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        self.print(&format!(
            "summary: {} of {} {}{failed}, {} sent, {} received",
            state.reached.len(),
            count(self.clients as u64, "client"),
            if self.udp { "answered" } else { "connected" },
            count(state.sent, "byte"),
            count(state.received, "byte"),
        ));
        state.failed == 0
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

/// How many events of one direction get a line of their own in one second.
const LINES: u32 = 20;

/// One direction of one client. Every piece is counted; when they come faster
/// than anyone can read, the rest of that second shares one line.
pub struct Traffic<'a> {
    task: &'a Task,
    id: usize,
    direction: Direction,
    second: Instant,
    lines: u32,
    /// What waits for its shared line.
    pieces: u64,
    bytes: u64,
    total: u64,
    stands_still: bool,
}

/// Which way bytes go.
pub enum Direction {
    /// To the peer.
    Sending,
    /// From the peer.
    Received,
}

impl<'a> Traffic<'a> {
    /// A direction in which nothing has moved yet.
    pub fn new(task: &'a Task, id: usize, direction: Direction) -> Self {
        Self {
            task,
            id,
            direction,
            second: Instant::now(),
            lines: 0,
            pieces: 0,
            bytes: 0,
            total: 0,
            stands_still: false,
        }
    }

    /// Counts `bytes` that were sent or received.
    pub fn count(&mut self, bytes: usize) {
        self.total += bytes as u64;
        self.stands_still = false;
        let mut state = self.task.report.state();
        match self.direction {
            Direction::Sending => state.sent += bytes as u64,
            Direction::Received => state.received += bytes as u64,
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

    /// Says, once until something moves again, that nothing moves.
    pub fn stands_still(&mut self) {
        if !self.stands_still {
            self.flush();
            self.stands_still = true;
            let total = count(self.total, "byte");
            self.note(&format!("stands still: {total} so far"));
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
        let verb = match self.direction {
            Direction::Sending => "sending",
            Direction::Received => "received",
        };
        self.task.report.note(self.id, &format!("{verb} {what}"));
    }
}

impl Drop for Traffic<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}
