//! Sees a check: what the checker does and meets, moment by moment, and the
//! kernel's tables in between.
//!
//! The program is started under strace. After each act of a client the
//! recorder waits, for a moment, until all threads of the program rest, and
//! reads the tables. Where there is no strace, only the checker is seen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flows::{Event, Flow};
use harness::proc::{self, TcpRow, UdpRow};
use harness::trace::strace;
use harness::{Fault, Lab, Moment, What, tasks};

/// How long a program may take to come to rest after an act, if it is at work;
/// on a busy machine it may only wait for the processor. And how long they may
/// all take together.
const MOMENT: Duration = Duration::from_millis(500);
const BUSY_MOMENT: Duration = Duration::from_secs(2);
const MOMENTS: Duration = Duration::from_secs(6);
/// Who has used so much of a moment is at work.
const WORK: Duration = Duration::from_millis(50);
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// So much of a check is kept.
const KEPT: usize = 4096;
/// The program that the checker tries something on, once a step has failed.
const TRIAL: &str = "trial";
/// The names of strace's files.
pub(crate) const FILES: &str = "calls";
/// The addresses of the book's figures; the first client has the next port.
const BOOK_IP: &str = "127.0.0.1";
const BOOK_SERVER: u16 = 9006;
const BOOK_CLIENT: u16 = 50000;
/// The harness marks what it starts, and looks for the mark: strace must not
/// have it, the program must.
const WITHOUT_MARK: &str = "mark=$HARNESS_GROUP; unset HARNESS_GROUP; \
     strace=$1; shift; exec \"$strace\" -E HARNESS_GROUP=\"$mark\" \"$@\"";

/// Sees a check.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) folder: Option<PathBuf>,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) entries: VecDeque<Entry>,
    pub(crate) port: u16,
    /// The ports to which the program has connected.
    targets: BTreeSet<u16>,
    /// The loopback address that the checker has chosen, the program's port
    /// and its clients', and what a book has instead.
    names: Vec<(String, String)>,
    clients: u16,
    is_over: bool,
    waited: Duration,
    /// The process of each thread.
    pub(crate) processes: BTreeMap<u32, u32>,
    /// The threads whose end strace has written down.
    ended: BTreeSet<u32>,
}

impl Log {
    fn listens(&mut self, address: SocketAddr) {
        self.port = address.port();
        self.rename(&format!(":{}", self.port), format!(":{BOOK_SERVER}"));
        if address.is_ipv4() && address.ip().is_loopback() {
            self.rename(&address.ip().to_string(), BOOK_IP.to_owned());
        }
    }

    fn rename_client(&mut self, address: SocketAddr) {
        self.clients += 1;
        let name = format!(":{}", BOOK_CLIENT + self.clients);
        self.rename(&format!(":{}", address.port()), name);
    }

    /// The listener, and the connections that it or the program has made.
    fn tcp_rows(&self) -> Vec<TcpRow> {
        let listener = Some(self.port).filter(|port| *port != 0);
        let ports = listener.iter().chain(&self.targets);
        let rows = ports.flat_map(|&port| proc::tcp_rows(port));
        let is_own = |row: &TcpRow| {
            row.state != "LISTEN" || row.local.port() == self.port
        };
        rows.flatten().filter(is_own).collect()
    }

    fn rename(&mut self, what: &str, name: String) {
        let new = (what.to_owned(), name);
        if !self.names.contains(&new) {
            self.names.push(new);
        }
    }
}

/// `text` with another name for each `what` that is not the beginning of a
/// longer number.
fn renamed(text: &str, what: &str, name: &str) -> String {
    let mut parts = text.split(what);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let goes_on = part.starts_with(|c: char| c.is_ascii_digit());
        out += if goes_on { what } else { name };
        out += part;
    }
    out
}

pub(crate) enum Entry {
    Chapter(String),
    Event { at: u64, who: String, what: What },
    Failure(Failed),
    Rest(Rest),
}

/// Somebody did not get what it wanted.
#[derive(Clone)]
pub(crate) struct Failed {
    pub(crate) at: u64,
    pub(crate) who: String,
    pub(crate) wanted: String,
    came: String,
}

impl Failed {
    pub(crate) fn words(&self) -> String {
        let who = match self.who.as_str() {
            "program" => "the server had",
            _ => "wanted",
        };
        format!("{who} to {}: {}", self.wanted, self.came)
    }

    fn is_like(&self, other: &Self) -> bool {
        (&self.who, self.words()) == (&other.who, other.words())
    }
}

/// A thread that lives.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Thread {
    pub(crate) id: u32,
    /// The call that it waits in, if known, such as `read(0)`.
    pub(crate) waits: Option<String>,
    /// The thread whose end it waits for.
    pub(crate) joins: Option<u32>,
}

impl Thread {
    fn look(id: u32) -> Self {
        let waits = tasks::blocked_in(id).map(|(call, first)| match call {
            "futex" | "wait4" | "clock_nanosleep" | "poll" => call.to_owned(),
            _ => match tasks::behind(id, first).filter(|_| first > 0) {
                Some(file) => format!("{call}({first}), for {file}"),
                None => format!("{call}({first})"),
            },
        });
        let joins = tasks::joins(id);
        Self { id, waits, joins }
    }
}

/// The kernel's tables at one moment.
#[derive(Clone, Default)]
pub(crate) struct Rest {
    pub(crate) at: u64,
    /// Whether all threads waited.
    rested: bool,
    /// Whether the program was at work instead.
    pub(crate) goes_on: bool,
    pub(crate) threads: Vec<Thread>,
    pub(crate) tcp: Vec<TcpRow>,
    pub(crate) udp: Vec<UdpRow>,
    pub(crate) port: u16,
}

impl Rest {
    /// Whether the program listens. (Others on this machine may have the
    /// same port for UDP, or connections of it.)
    pub(crate) fn is_tcp(&self) -> bool {
        let own = |row: &&TcpRow| row.local.port() == self.port;
        self.tcp.iter().filter(own).any(|row| row.state == "LISTEN")
    }

    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (self.rested, &self.threads, &self.tcp, &self.udp)
            == (other.rested, &other.threads, &other.tcp, &other.udp)
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos() as u64)
}

impl Recorder {
    /// Keeps strace's files in `folder`; `None` if calls are not to be seen.
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Self {
            folder,
            log: Arc::default(),
        }
    }

    /// The words that start a program, seen.
    pub(crate) fn command(&self, program: &[OsString]) -> Vec<OsString> {
        let Some(folder) = &self.folder else {
            return program.to_vec();
        };
        let shell = ["sh", "-c", WITHOUT_MARK, "sh"].map(OsString::from);
        let strace = strace::words(folder, FILES);
        let words = shell.into_iter().chain(strace);
        words.chain(program.iter().cloned()).collect()
    }

    /// The same lab, seen.
    pub(crate) fn watch(&self, lab: Lab) -> Lab {
        let recorder = self.clone();
        lab.with_observer(Arc::new(move |moment| recorder.see(moment)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, entry: Entry) {
        let mut log = self.lock();
        if log.entries.len() == KEPT {
            log.entries.pop_front();
        }
        log.entries.push_back(entry);
    }

    /// Some events are told before they happen, some after: in each case what
    /// was before has come to rest when the next thing begins.
    fn see(&self, moment: Moment<'_>) {
        // What the checker tries afterwards, to be sure, is another story.
        if let Moment::Event(event) = moment
            && event.who == TRIAL
        {
            self.lock().is_over = true;
        }
        if self.lock().is_over {
            return;
        }
        match moment {
            Moment::Chapter(name) => {
                self.rest();
                self.push(Entry::Chapter(name.to_owned()));
            }
            Moment::Failure(failure) if failure.who != "lab" => {
                self.rest();
                let who = failure.who.clone();
                let wanted = failure.wanted.clone();
                let came = match &*failure.fault {
                    Fault::TimedOut(time) => {
                        format!("nothing for {} s", time.as_secs_f64())
                    }
                    Fault::WrongByte { .. } | Fault::Unexpected(_) => {
                        "it got something else".to_owned()
                    }
                    Fault::Exited { status, .. } => {
                        format!("the program ended ({status})")
                    }
                    fault => fault.to_string(),
                };
                let at = now();
                let failed = Failed {
                    at,
                    who,
                    wanted,
                    came,
                };
                let log = self.lock();
                let mut last = log.entries.iter().rev();
                let last = last.find_map(|entry| match entry {
                    Entry::Failure(last) => Some(last),
                    _ => None,
                });
                // One failure may be passed on as another.
                let is_new = !last.is_some_and(|last| last.is_like(&failed));
                drop(log);
                if is_new {
                    self.push(Entry::Failure(failed));
                }
            }
            Moment::Failure(_) => {}
            Moment::Event(event) => {
                self.find_ports(&event.what);
                let (at, who) = (now(), event.who.clone());
                let what = event.what.clone();
                if matches!(
                    what,
                    What::HalfClosed
                        | What::HungUp
                        | What::Closed
                        | What::Reset
                        | What::Killed
                        | What::Typed(_)
                        | What::EndedInput
                        | What::Signalled(_)
                        | What::Note(_)
                        | What::Started(_)
                ) {
                    self.rest();
                }
                let settles = matches!(
                    what,
                    What::Connected { .. }
                        | What::Received(_)
                        | What::SawEnd
                        | What::SawReset
                );
                self.push(Entry::Event { at, who, what });
                if settles {
                    self.rest();
                }
            }
        }
    }

    fn find_ports(&self, what: &What) {
        let mut log = self.lock();
        match what {
            What::Connected { from, to } => {
                let [Ok(from), Ok(to)] = [from, to].map(|a| a.parse()) else {
                    return;
                };
                log.rename_client(from);
                if log.port == 0 {
                    log.listens(to);
                } else if log.port != to.port() {
                    // The program has connected, to one of the checker's.
                    log.targets.insert(from.port());
                    log.rename_client(to);
                }
            }
            What::Printed(text) => {
                let text = text.to_string();
                let Some((_, rest)) = text.split_once("listening on ") else {
                    return;
                };
                let end = rest.find(['\\', '"']).unwrap_or(rest.len());
                if let Ok(address) = rest[..end].parse() {
                    log.listens(address);
                }
            }
            _ => {}
        }
    }

    /// The same figure with the addresses that the book has, which are the
    /// same each time.
    pub(crate) fn with_usual_addresses(&self, mut flow: Flow) -> Flow {
        let log = self.lock();
        let rename = |text: &mut String| {
            for (what, name) in &log.names {
                *text = renamed(text, what, name);
            }
        };
        for step in &mut flow.steps {
            for event in &mut step.events {
                match event {
                    Event::Call { call, result, .. } => {
                        rename(call);
                        rename(result);
                    }
                    Event::Happens { what, .. } => rename(what),
                    Event::Packet { .. } | Event::State { .. } => {}
                }
            }
            let tables = step.snapshot.iter_mut();
            for socket in tables.flat_map(|table| &mut table.sockets) {
                rename(&mut socket.local);
                rename(&mut socket.peer);
            }
        }
        flow
    }

    /// Waits until all threads of the program rest, or for a moment, and
    /// keeps what the tables say.
    fn rest(&self) {
        let log = self.lock();
        if matches!(log.entries.back(), None | Some(Entry::Rest(_))) {
            return;
        }
        let left = MOMENTS.saturating_sub(log.waited);
        drop(log);
        let began = Instant::now();
        let used_before = self.used();
        loop {
            let mut rest = self.look();
            let waited = began.elapsed();
            let works = || self.used().saturating_sub(used_before) >= WORK;
            let is_over = waited > BUSY_MOMENT.min(left)
                || waited > MOMENT.min(left) && works();
            if rest.rested || is_over {
                rest.goes_on = !rest.rested && works();
                if !rest.rested {
                    self.lock().waited += waited;
                }
                self.push(Entry::Rest(rest));
                return;
            }
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }

    /// The processor time of all processes.
    fn used(&self) -> Duration {
        let processes: BTreeSet<_> =
            self.lock().processes.values().copied().collect();
        processes.into_iter().filter_map(proc::cpu_time).sum()
    }

    fn look(&self) -> Rest {
        let mut log = self.lock();
        let mut threads = Vec::new();
        let mut rested = true;
        for thread in self.threads() {
            let process = tasks::process_of(thread);
            let known = log.processes.get(&thread).copied();
            // The number of one that has ended may be another's by now.
            let is_own = known.is_none() || process == known;
            match tasks::sleeps(thread).filter(|_| is_own) {
                Some(sleeps) => {
                    rested &= sleeps;
                    threads.push(Thread::look(thread));
                    log.processes.extend(process.map(|p| (thread, p)));
                }
                None if log.ended.contains(&thread) => {}
                None => {
                    let ended = self.is_written(thread);
                    rested &= ended;
                    if ended {
                        log.ended.insert(thread);
                    }
                }
            }
        }
        let port = log.port;
        let udp = proc::udp_table().unwrap_or_default().into_iter();
        Rest {
            at: now(),
            rested,
            goes_on: false,
            threads,
            tcp: log.tcp_rows(),
            udp: udp
                .filter(|_| port != 0)
                .filter(|row| {
                    [&row.local, &row.remote].iter().any(|a| a.port() == port)
                })
                .collect(),
            port,
        }
    }

    /// All threads that strace knows, and those that it will know in a moment.
    fn threads(&self) -> BTreeSet<u32> {
        let Some(folder) = &self.folder else {
            return BTreeSet::new();
        };
        let files = fs::read_dir(folder).into_iter().flatten();
        let known: BTreeSet<u32> = files
            .filter_map(|file| {
                let path = file.ok()?.path();
                path.extension()?.to_str()?.parse().ok()
            })
            .collect();
        let tasks = known.iter().filter_map(|&id| tasks::thread_ids(id));
        tasks.flatten().chain(known.iter().copied()).collect()
    }

    fn is_written(&self, thread: u32) -> bool {
        let Some(folder) = &self.folder else {
            return true;
        };
        let file = folder.join(format!("{FILES}.{thread}"));
        let Ok(text) = fs::read_to_string(file) else {
            return true;
        };
        text.ends_with("+++\n")
    }
}

/// Whether strace is here, and there is a program for it: or why not.
pub(crate) fn why_no_calls(program: &[OsString]) -> Option<&'static str> {
    if !cfg!(target_os = "linux") {
        return Some("its calls are not seen: only Linux has strace");
    }
    let is_there = program.first().is_some_and(|name| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let is_name = Path::new(name).components().count() == 1;
        let mut folders = std::env::split_paths(&path);
        match is_name {
            true => folders.any(|folder| folder.join(name).is_file()),
            false => Path::new(name).is_file(),
        }
    });
    if !is_there {
        return Some("there is no such program");
    }
    let version = std::process::Command::new("strace").arg("-V").output();
    match version {
        Ok(output) if output.status.success() => None,
        _ => Some("its calls are not seen: strace is not installed"),
    }
}
