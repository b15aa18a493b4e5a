//! What every server of the course promises, tried on each of them.
//!
//! A test is a promise. It runs over the rows of [`SERVERS`] that make it, on
//! all of them at the same time, and names the row that fails. So a new lesson
//! is held to all of this by one row; what only it does stands in its own file.
//!
//! `SERVER=03-threaded cargo test -p harness --test servers` runs one row. A
//! stem of several rows runs them all; `SERVER='06-socketserver pool-tcp'` is
//! one of them.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
#[cfg(target_os = "linux")]
use std::net::Shutdown;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;
use std::{env, fs, thread};

#[cfg(target_os = "linux")]
use harness::strace;
use harness::{
    Fault, Lab, Peer, Program, Result, bad_addresses, bytes, joined, lines,
    proc,
};

use Answers::{Chat, Datagrams, Echo, Lines, Typed};
use NonReader::{CostsNobody, DoesNotMatter, Freezes, KeepsThread, SentAway};

/// How a server answers what it received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    /// As lesson 01: with the line that its operator types.
    Typed,
    /// With the same bytes.
    Echo,
    /// With each line behind its number.
    Lines,
    /// With each line behind the name that is the first one.
    Chat,
    /// With the same bytes in a datagram.
    Datagrams,
}

impl Answers {
    /// So many bytes as its clients send.
    fn request(self, count: usize) -> Vec<u8> {
        let letters: Vec<u8> = (b'a'..=b'z').collect();
        let letters = letters.repeat(4);
        let lines = (1..90).flat_map(|n| [&letters[..n], b"\n"].concat());
        let block = match self {
            Typed => letters,
            Echo | Datagrams => return bytes(count),
            Lines | Chat => lines.collect(),
        };
        let mut request = block.repeat(count / block.len() + 1);
        request.truncate(count);
        if matches!(self, Lines | Chat) {
            request[count - 1] = b'\n';
        }
        request
    }

    /// What a client gets who has sent this, and nothing before it.
    fn to(self, request: &[u8]) -> Vec<u8> {
        match self {
            Typed | Echo | Datagrams => request.to_vec(),
            Lines => {
                let text = String::from_utf8_lossy(request);
                let lines = text.split_inclusive('\n').zip(1..);
                let answers = lines.map(|(line, n)| format!("{n}: {line}"));
                answers.collect::<String>().into_bytes()
            }
            Chat => {
                let text = String::from_utf8_lossy(request);
                let (name, rest) = text.split_once('\n').unwrap_or_default();
                let said = rest.split_inclusive('\n');
                let said: String =
                    said.map(|line| format!("{name}: {line}")).collect();
                format!("{ASKED}* {name} has joined\n{said}").into_bytes()
            }
        }
    }

    /// What the server says that it had of a client who has sent this.
    fn count(self, request: &[u8]) -> String {
        match self {
            Lines | Chat => format!("{} lines", lines(request)),
            _ => format!("{} bytes", request.len()),
        }
    }

    /// A client is answered, whatever it has said before.
    fn once_more(self, client: &mut Peer) -> Result {
        if !matches!(self, Lines | Chat) {
            return client.gets_echo("still there\n");
        }
        client.send("still there\n")?;
        let mut line = client.line()?;
        // Who has not said a name yet is told that this is none.
        while self == Chat && line.starts_with("* ") && line != NO_NAME {
            line = client.line()?;
        }
        let said = line.ends_with(": still there");
        assert!(said || line == NO_NAME, "{line}");
        Ok(())
    }

    /// A good client comes, is answered, and leaves.
    fn good_client(self, lab: &Lab, addr: SocketAddr) -> Result {
        let mut good = lab.connect("good", addr)?;
        let request: &[u8] = match self {
            Chat => b"good\nstill there\n",
            _ => b"still there\n",
        };
        good.send(request)?;
        good.expect(self.to(request))?;
        good.half_close()?;
        good.expect_end()
    }

    /// What a client gets before it has said anything.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    fn greeting(self) -> &'static str {
        if self == Chat { ASKED } else { "" }
    }
}

/// What becomes of a server whose client sends and never reads.
#[derive(Clone, Copy, Debug)]
enum NonReader {
    /// It keeps its own thread, and nobody else waits.
    KeepsThread,
    /// It has no thread of its own, and nobody else waits.
    CostsNobody,
    /// It is sent away with these words, if the server is started with these
    /// arguments behind its address.
    SentAway(&'static [&'static str], &'static str),
    /// It keeps its place. When all places are taken, everybody waits.
    Freezes,
    /// The question is not put: a person answers, or there is no connection.
    DoesNotMatter,
}

/// One row of the table.
struct Server {
    /// Its stem, such as `03-threaded`.
    lesson: &'static str,
    /// What is typed behind the address.
    args: &'static [&'static str],
    answers: Answers,
    /// How many clients it serves at once.
    at_once: usize,
    non_reader: NonReader,
    /// The system call in which it waits for a client.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    waits_in: &'static str,
    /// The system calls of a request. Those with which threads wait for each
    /// other (`futex`) are left out: they depend on who comes first.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    calls: &'static [(&'static str, usize)],
}

const MANY: usize = usize::MAX;
/// In milliseconds: where it does not matter, nobody is sent away.
const AN_HOUR: &str = "3600000";
const ASKED: &str = "* what is your name?\n";
const NO_NAME: &str = "* a name is 1 to 20 letters and digits";
const TIMED_OUT: &str = "no byte in or out for 500ms, closed\n";
const THROWN_OUT: &str = "thrown out, it does not read\n";

const SERVERS: &[Server] = &[
    typed("01-single-client", &[]),
    typed("02-reuse-addr", &[]),
    typed("02-reuse-addr", &["--no-reuse"]),
    echo("03-threaded", &[], MANY, KeepsThread),
    echo(
        "04-thread-pool",
        &[AN_HOUR],
        4,
        SentAway(&["500"], TIMED_OUT),
    ),
    datagrams("05-udp", &[]),
    echo("06-socketserver", &["sequential-tcp"], 1, Freezes),
    echo("06-socketserver", &["threads-tcp"], MANY, KeepsThread),
    echo("06-socketserver", &["pool-tcp"], 4, Freezes),
    datagrams("06-socketserver", &["sequential-udp"]),
    datagrams("06-socketserver", &["threads-udp"]),
    datagrams("06-socketserver", &["pool-udp"]),
    Server {
        answers: Lines,
        ..echo("07-framing", &[], MANY, KeepsThread)
    },
    typed("08-dual-stack", &[]),
    echo("09-shutdown", &[], MANY, KeepsThread),
    event_loop("10-event-loop"),
    Server {
        args: &[AN_HOUR],
        non_reader: SentAway(&["500"], TIMED_OUT),
        calls: &[(EPOLL_WAIT, 1), ("recvfrom", 1), ("sendto", 1)],
        ..event_loop("11-async")
    },
    Server {
        args: &[AN_HOUR],
        answers: Chat,
        non_reader: SentAway(&[AN_HOUR], THROWN_OUT),
        ..event_loop("12-chat")
    },
];

const fn typed(lesson: &'static str, args: &'static [&'static str]) -> Server {
    Server {
        lesson,
        args,
        answers: Typed,
        at_once: 1,
        non_reader: DoesNotMatter,
        waits_in: "accept4",
        calls: &[("read", 1), ("recvfrom", 1), ("sendto", 1), ("write", 2)],
    }
}

const fn echo(
    lesson: &'static str,
    args: &'static [&'static str],
    at_once: usize,
    non_reader: NonReader,
) -> Server {
    Server {
        answers: Echo,
        at_once,
        non_reader,
        calls: &[("recvfrom", 1), ("sendto", 1)],
        ..typed(lesson, args)
    }
}

const fn event_loop(lesson: &'static str) -> Server {
    Server {
        waits_in: EPOLL_WAIT,
        // The second `recvfrom` says that there is no more.
        calls: &[(EPOLL_WAIT, 1), ("recvfrom", 2), ("sendto", 1)],
        ..echo(lesson, &[], MANY, CostsNobody)
    }
}

const fn datagrams(
    lesson: &'static str,
    args: &'static [&'static str],
) -> Server {
    Server {
        answers: Datagrams,
        ..echo(lesson, args, MANY, DoesNotMatter)
    }
}

/// The architectures with the newer table of calls have the other one only.
const EPOLL_WAIT: &str = if cfg!(target_arch = "x86_64") {
    "epoll_wait"
} else {
    "epoll_pwait"
};
const CHUNK_SIZES: [usize; 7] = [1, 2, 3, 5, 1024, 4096, 8192];
const MIB: usize = 1 << 20;
/// So many std asks for, and Linux takes one more.
#[cfg(target_os = "linux")]
const QUEUE: usize = 128 + 1;
/// More than the kernel keeps for both directions of a connection together
/// (measured: 6.8 to 8.1 MiB).
const TOO_MUCH: usize = 32 * MIB;
/// So much sooner than a harness's usual one that a test which fails is done
/// with in 20 seconds.
const TIMEOUT: Duration = Duration::from_secs(15);
/// For bytes that wait on purpose, before they go on their way.
#[cfg(target_os = "linux")]
const PATIENCE: Duration = Duration::from_secs(60);

// The rows, and what runs over them.

impl Server {
    /// Such as `03-threaded` or `06-socketserver pool-tcp`.
    fn name(&self) -> String {
        [&[self.lesson], self.args].concat().join(" ")
    }

    fn is_tcp(&self) -> bool {
        self.answers != Datagrams
    }

    /// Over TCP, and nobody types.
    fn answers_alone(&self) -> bool {
        matches!(self.answers, Echo | Lines | Chat)
    }

    fn sends_datagrams(&self) -> bool {
        self.answers == Datagrams
    }

    /// Asked by a signal to end, it lets those who are there finish.
    #[cfg(unix)]
    fn lets_finish(&self) -> bool {
        ["09-shutdown", "11-async"].contains(&self.lesson)
    }

    /// Its program, built once for all tests, with those of the other rows.
    fn path(&self) -> Result<PathBuf> {
        type Programs = Result<BTreeMap<String, PathBuf>>;
        static PROGRAMS: LazyLock<Programs> = LazyLock::new(|| {
            let names: BTreeSet<_> =
                rows().map(|row| format!("lesson-{}", row.lesson)).collect();
            let names: Vec<_> = names.iter().map(|p| p.as_str()).collect();
            harness::binaries(&names)
        });
        let programs = PROGRAMS.clone()?;
        Ok(programs[&format!("lesson-{}", self.lesson)].clone())
    }

    fn start(&self) -> Result<Running<'_>> {
        self.start_at("127.0.0.1:0", self.args)
    }

    fn start_at(&self, addr: &str, args: &[&str]) -> Result<Running<'_>> {
        let mut command = Command::new(self.path()?);
        command.arg(addr).args(args);
        self.start_command(command)
    }

    fn start_command(&self, command: Command) -> Result<Running<'_>> {
        let lab = Lab::new().with_timeout(TIMEOUT);
        let (program, addr) = lab.start_server_command(command)?;
        Ok(Running {
            lab,
            program,
            addr,
            server: self,
        })
    }

    /// Starts it under strace with `options`.
    #[cfg(target_os = "linux")]
    fn start_traced(&self, options: &[&str]) -> Result<Running<'_>> {
        let args = [&["127.0.0.1:0"], self.args].concat();
        self.start_command(strace::command(options, &self.path()?, &args))
    }

    /// What it says when it is started at `addr` and cannot be.
    fn refusal(&self, addr: &str) -> Result<String> {
        let lab = Lab::new().with_timeout(TIMEOUT);
        lab.refusal(&self.path()?, &[&[addr], self.args].concat())
    }
}

/// A server that was started.
struct Running<'a> {
    lab: Lab,
    program: Program,
    addr: SocketAddr,
    server: &'a Server,
}

impl Running<'_> {
    fn connect(&self, name: &str) -> Result<Peer> {
        self.lab.connect(name, self.addr)
    }

    fn connect_many(&self, name: &str, count: usize) -> Result<Vec<Peer>> {
        (0..count).map(|_| self.connect(name)).collect()
    }

    /// One good client gets what the row says.
    fn serves_one(&mut self) -> Result {
        match self.server.answers {
            Typed => self
                .lab
                .good_client_gets_reply(&mut self.program, self.addr),
            Echo | Lines | Chat => {
                self.server.answers.good_client(&self.lab, self.addr)
            }
            Datagrams => self.lab.good_client_gets_datagram(self.addr),
        }
    }

    /// Good clients get what the row says; of a pool as many at once as it has
    /// workers, so that none of these is lost.
    fn serves(&mut self) -> Result {
        let count = self.server.at_once;
        if self.server.answers_alone() && count != MANY {
            let mut clients = self.connect_many("one of the good", count)?;
            for client in &mut clients {
                self.is_answered(client)?;
            }
            for mut client in clients {
                client.half_close()?;
                client.expect_end()?;
            }
        }
        self.serves_one()
    }

    /// The operator answers each read until `count` bytes were shown.
    fn answers_until(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut shown = Vec::new();
        while shown.len() < count {
            self.program.expect("received: ")?;
            let text = self.program.expect("\nreply> ")?;
            shown.extend_from_slice(text.as_bytes());
            self.program.type_line("ok");
        }
        Ok(shown)
    }

    /// Asks it to end, where it lets those who are there finish.
    #[cfg(unix)]
    fn is_asked_to_end(&mut self) -> Result {
        self.program.terminate();
        self.program.expect("\nno new clients; ")?;
        Ok(())
    }

    /// It ended by itself, everybody was served, and nothing was complained of.
    #[cfg(unix)]
    fn ended_well(&mut self) -> Result {
        self.program.expect("goodbye\n")?;
        self.program.expect_exit(0)?;
        assert_eq!(self.complaints(), "");
        Ok(())
    }

    fn complaints(&self) -> String {
        String::from_utf8_lossy(&self.program.stderr()).into_owned()
    }
}

#[cfg(target_os = "linux")]
impl Running<'_> {
    fn cpu_time(&self) -> Duration {
        proc::cpu_time(self.program.id()).expect("this is Linux")
    }

    /// How often its main thread has left the processor to wait.
    fn pauses(&self) -> u64 {
        proc::pauses(self.program.id()).expect("this is Linux")
    }

    fn leave_descriptors(&self, more: usize) {
        let left = proc::leave_descriptors(self.program.id(), more);
        left.expect("a soft limit");
    }

    /// Waits until its main thread waits for a client.
    fn waits_for_a_client(&self) -> Result {
        self.program.wait_until_blocked_in(&[self.server.waits_in])
    }

    /// Waits until all its threads wait, and gives how many there are, and how
    /// many descriptors.
    fn at_rest(&self) -> Result<(usize, usize)> {
        use harness::tasks::{blocked_in, thread_ids};
        let id = self.program.id();
        let mut threads = 0;
        self.lab.wait_until("all threads wait", || {
            let ids = thread_ids(id).unwrap_or_default();
            threads = ids.len();
            ids.iter().all(|&id| blocked_in(id).is_some())
        })?;
        Ok((threads, proc::descriptors(id).unwrap_or_default()))
    }

    /// Waits until its threads and descriptors are what they were: a thread that
    /// ends may wait for another one first.
    fn wait_until_again(&self, before: (usize, usize)) -> Result {
        let wanted = format!("{before:?} threads and descriptors again");
        self.lab.wait_until(&wanted, || {
            self.at_rest().is_ok_and(|now| now == before)
        })
    }

    /// An `accept` that fails is one line; then the server waits before it
    /// tries again. Two attempts prove that, in whatever time they are made.
    fn pauses_between_attempts(&mut self) -> Result {
        let complaint = self.program.error_line()?;
        assert!(complaint.contains(", trying again: "), "{complaint}");
        let said = |running: &Self| lines(&running.program.stderr()) as u64;
        let before = (said(self), self.pauses(), self.cpu_time());
        let mut more = (0, 0);
        self.lab.wait_until("a pause and one more attempt", || {
            let spun = self.cpu_time() - before.2;
            assert!(
                spun < Duration::from_millis(300),
                "it spins: {more:?} attempts and pauses in {spun:?}"
            );
            more = (said(self) - before.0, self.pauses() - before.1);
            more.0 > 0 && more.1 > 0
        })?;
        let (attempts, pauses) = more;
        assert!(
            attempts <= pauses + 2,
            "it spins: {attempts} attempts, {pauses} pauses"
        );
        Ok(())
    }
}

/// The rows that `SERVER` names, or all.
fn rows() -> impl Iterator<Item = &'static Server> {
    let name = env::var("SERVER").ok();
    let rows = chosen(name.as_deref());
    rows.unwrap_or_else(|refusal| panic!("{refusal}"))
        .into_iter()
}

fn chosen(
    name: Option<&str>,
) -> std::result::Result<Vec<&'static Server>, String> {
    let is_meant = |server: &&Server| {
        name.is_none_or(|n| server.lesson == n || server.name() == n)
    };
    let rows: Vec<_> = SERVERS.iter().filter(is_meant).collect();
    if rows.is_empty() {
        let name = name.unwrap_or_default();
        let names: Vec<_> = SERVERS.iter().map(Server::name).collect();
        let names = names.join("\n  ");
        return Err(format!("SERVER={name} is none of these:\n  {names}"));
    }
    Ok(rows)
}

/// Holds the servers that make a promise to it, all at the same time, and says
/// which of them broke it.
#[track_caller]
fn each(
    makes_it: impl Fn(&Server) -> bool,
    promise: impl Fn(&Server) -> Result + Sync,
) {
    let broken: Vec<String> = thread::scope(|scope| {
        let hold = |server: &'static Server| {
            let promise = &promise;
            let thread = thread::Builder::new()
                .name(server.name())
                .spawn_scoped(scope, move || promise(server));
            (server.name(), thread.expect("a thread"))
        };
        let held: Vec<_> =
            rows().filter(|server| makes_it(server)).map(hold).collect();
        held.into_iter()
            .filter_map(|(name, thread)| match thread.join() {
                Ok(Ok(())) => None,
                Ok(Err(failure)) => Some(format!("{name}: {failure}")),
                Err(panic) => Some(format!("{name}: {}", text_of(&*panic))),
            })
            .collect()
    });
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref().copied())
        .unwrap_or("?")
}

fn all(_: &Server) -> bool {
    true
}

#[test]
fn each_lesson_has_a_row() {
    let folder = harness::root().join("crates");
    let entries = fs::read_dir(folder).expect("the folder of the crates");
    for entry in entries.filter_map(|entry| entry.ok()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_lesson = name.starts_with(|c: char| c.is_ascii_digit());
        let has_row = SERVERS.iter().any(|server| server.lesson == name);
        assert!(!is_lesson || has_row, "{name}: no row in SERVERS");
    }
}

#[test]
fn a_server_is_chosen_by_its_name_and_an_unknown_one_refused_with_the_list() {
    let names = |name| -> Option<Vec<_>> {
        let rows = chosen(name).ok()?.into_iter();
        Some(rows.map(Server::name).collect())
    };
    assert_eq!(names(Some("03-threaded")).unwrap(), ["03-threaded"]);
    let pool = "06-socketserver pool-tcp";
    assert_eq!(names(Some(pool)).unwrap(), [pool]);
    assert_eq!(names(Some("06-socketserver")).unwrap().len(), 6);
    assert_eq!(names(None).unwrap().len(), SERVERS.len());
    let refusal = chosen(Some("threaded")).err().unwrap();
    let is_listed = |server: &Server| refusal.contains(&server.name());
    assert!(SERVERS.iter().all(is_listed), "{refusal}");
}

// Addresses.

#[test]
fn a_bad_address_is_refused_in_one_sentence_with_an_example() {
    const ANOTHER_MACHINES: &str = "192.0.2.1:0"; // For examples: RFC 5737.
    each(all, |server| {
        for addr in bad_addresses().chain([ANOTHER_MACHINES]) {
            let said = server.refusal(addr)?;
            let wanted = format!("Error: cannot listen on {addr}: ");
            assert!(said.starts_with(&wanted), "{said}");
            assert!(
                said.ends_with(
                    "; give a free HOST:PORT of this machine, such as \
                     127.0.0.1:0, which stands for any free one"
                ),
                "{said}"
            );
            assert!(!said.contains("TIME-WAIT"), "{said}");
        }
        Ok(())
    });
}

#[test]
fn a_port_in_use_is_refused_with_what_to_do() {
    each(all, |server| {
        let mut running = server.start()?;
        let addr = running.addr.to_string();
        let said = server.refusal(&addr)?;
        let wanted = format!("Error: cannot listen on {addr}: ");
        assert!(said.starts_with(&wanted), "{said}");
        assert!(said.contains("; give a free HOST:PORT"), "{said}");
        running.serves()
    });
}

#[test]
fn a_name_and_an_ipv6_address_work() {
    let mut addrs = vec!["localhost:0", "[::1]:0"];
    if !harness::has_ipv6() {
        addrs.pop();
    }
    each(all, |server| {
        for addr in &addrs {
            let mut running = server.start_at(addr, server.args)?;
            assert!(running.addr.ip().is_loopback(), "{}", running.addr);
            assert_eq!(*addr == "[::1]:0", running.addr.is_ipv6());
            running.serves()?;
        }
        Ok(())
    });
}

#[test]
fn what_is_no_number_of_milliseconds_is_refused_with_the_usage() {
    each(all, |server| {
        let (worst, usage) = match server.lesson {
            "04-thread-pool" => ("0", "TIMEOUT_MS"),
            "09-shutdown" => ("+ 1", "GRACE_MS"),
            "11-async" => ("+ 1", "TIMEOUT_MS"),
            "12-chat" => ("4294967296", "NAME_TIMEOUT_MS"),
            _ => return Ok(()),
        };
        let lab = Lab::new().with_timeout(TIMEOUT);
        for millis in ["", "-1", "1.5", "soon", "1s", "١", worst] {
            let said =
                lab.refusal(&server.path()?, &["127.0.0.1:0", millis])?;
            let usage = format!("[HOST:PORT [{usage}]], ");
            assert!(said.contains(&usage), "{millis}: {said}");
        }
        Ok(())
    });
}

// Every byte.

#[test]
fn no_byte_is_lost_whatever_the_size_of_the_chunks() {
    const COUNT: usize = 20_000;
    each(Server::is_tcp, |server| {
        let mut running = server.start()?;
        let answers = server.answers;
        let request = answers.request(COUNT);
        for size in CHUNK_SIZES {
            let mut a = running.connect("a")?;
            let sending = a.send_in_background(request.clone(), size);
            if answers == Typed {
                let shown = running.answers_until(COUNT)?;
                joined(sending)?;
                assert!(shown == request, "chunks of {size} bytes");
                a.close();
                continue;
            }
            let local = a.local_addr()?;
            a.expect(answers.to(&request))?;
            joined(sending)?;
            a.half_close()?;
            a.expect_end()?;
            let count = answers.count(&request);
            let closed = format!("closed the connection after {count}");
            running.program.expect(&format!("{local} {closed}\n"))?;
        }
        running.serves()
    });
}

#[test]
fn eight_mebibytes_leave_the_memory_as_it_was() {
    const COUNT: usize = 8 * MIB;
    // Who is late in reading this much may be sent away.
    let makes_it = |server: &Server| server.is_tcp() && server.answers != Chat;
    each(makes_it, |server| {
        let mut running = server.start()?;
        let mut a = running.connect("a")?;
        let request = server.answers.request(COUNT);
        let sending = a.send_in_background(request.clone(), 64 << 10);
        if server.answers == Typed {
            let shown = running.answers_until(COUNT)?;
            assert!(shown == request, "not what was sent");
        } else {
            a.expect(server.answers.to(&request))?;
        }
        joined(sending)?;
        if let Some(peak) = proc::peak_memory(running.program.id()) {
            assert!(peak < COUNT, "the server took {peak} bytes");
        }
        a.close();
        running.serves()
    });
}

#[test]
fn a_half_close_is_answered_with_the_rest_and_then_the_end() {
    each(Server::is_tcp, |server| {
        let mut running = server.start()?;
        let mut a = running.connect("a")?;
        if server.answers == Typed {
            a.send("my last question")?;
            a.half_close()?;
            running.program.expect("my last question\nreply> ")?;
            running.program.type_line("my answer");
            assert_eq!(a.rest()?, b"my answer\n");
        } else {
            let request = server.answers.request(60_000);
            a.send(&request)?;
            a.half_close()?;
            let answer = server.answers.to(&request);
            assert!(a.rest()? == answer, "not what was sent");
        }
        running.serves()
    });
}

#[test]
fn a_datagram_of_any_size_comes_back_whole_and_unmentioned() {
    /// macOS sends no more unless `net.inet.udp.maxdgram` is raised.
    const MOST: usize = if cfg!(target_os = "macos") {
        9_216
    } else {
        65_507
    };
    let sizes = [0, 1, 2, 3, 5, 1023, 1024, 1025, 4096, 65_506, 65_507];
    each(Server::sends_datagrams, |server| {
        let running = server.start()?;
        let a = running.lab.udp("a", running.addr)?;
        for size in sizes.into_iter().filter(|&size| size <= MOST) {
            a.gets_echo(bytes(size))?;
        }
        let printed = running.program.stdout();
        let listening = format!("listening on {}\n", running.addr);
        assert_eq!(String::from_utf8_lossy(&printed), listening);
        assert_eq!(running.complaints(), "");
        Ok(())
    });
}

// Many clients.

#[test]
fn it_serves_as_many_at_once_as_it_says_and_the_next_waits() {
    each(Server::is_tcp, |server| {
        let mut running = server.start()?;
        let mut clients =
            running.connect_many("first", server.at_once.min(8))?;
        for client in &mut clients {
            running.is_answered(client)?;
        }
        for client in clients.iter_mut().rev() {
            running.is_answered(client)?;
        }
        if server.at_once == MANY {
            return running.serves();
        }
        let mut next = running.connect("next")?;
        let waiting = "I wait. ".repeat(1000);
        next.send(&waiting)?;
        for client in &mut clients {
            running.is_answered(client)?;
        }
        assert!(next.has_nothing()?, "one client too many was served");
        clients.remove(0).close();
        if server.answers == Typed {
            let local = next.local_addr()?;
            running.program.expect(&format!("{local} connected\n"))?;
            let shown = running.answers_until(waiting.len())?;
            assert_eq!(String::from_utf8_lossy(&shown), waiting);
            next.expect("ok\n")?;
        } else {
            next.expect(waiting)?;
        }
        drop(clients);
        next.close();
        running.serves()
    });
}

impl Running<'_> {
    /// A client that stays is answered.
    fn is_answered(&mut self, client: &mut Peer) -> Result {
        if self.server.answers_alone() {
            return self.server.answers.once_more(client);
        }
        client.send("still there")?;
        self.program.expect("received: still there\nreply> ")?;
        self.program.type_line("so you are");
        client.expect("so you are\n")
    }
}

#[test]
fn five_hundred_clients_are_served_at_once() {
    const COUNT: usize = 500;
    // Each row has as many here as there are clients, and so has its program.
    if !harness::can_open(6 * COUNT) {
        return;
    }
    each(
        |server| server.answers_alone() && server.at_once == MANY,
        |server| {
            let mut running = server.start()?;
            let mut clients = running.connect_many("one of 500", COUNT)?;
            for client in clients.iter_mut().rev() {
                running.is_answered(client)?;
            }
            for client in &mut clients {
                running.is_answered(client)?;
            }
            // Not FIN: that would leave 500 connections in TIME-WAIT.
            clients.into_iter().try_for_each(Peer::reset)?;
            running.serves()
        },
    );
}

/// As on the lessons' pages. The last of them is asked to end meanwhile.
#[test]
#[cfg(unix)]
fn transcript_two_clients_are_served_at_once() {
    let rows = ["03-threaded", "10-event-loop", "11-async"];
    each(
        |server| rows.contains(&server.lesson),
        |server| {
            let mut running = server.start_at("127.0.0.1:0", &[])?;
            let (lab, addr) = (running.lab.clone(), running.addr);
            let mut arrives = |name, text| -> Result<Program> {
                let mut client = lab.start_client(name, addr)?;
                running.program.expect(" connected\n")?;
                client.expect("send> ")?;
                client.type_line(text);
                client.expect(&format!("received: {text}\nsend> "))?;
                Ok(client)
            };
            let mut first = arrives("first", "I came first")?;
            let mut second = arrives("second", "I came second")?;
            #[cfg(target_os = "linux")]
            if server.waits_in == EPOLL_WAIT {
                assert_eq!(proc::threads(running.program.id()), Some(1));
            }
            if server.lets_finish() {
                running.program.interrupt();
                running.program.expect("\nno new clients; ")?;
            }
            first.type_line("I am still here");
            first.expect("received: I am still here\nsend> ")?;
            for (client, bytes) in [(&mut second, 14), (&mut first, 29)] {
                client.end_input();
                client.expect_exit(0)?;
                let closed = format!("the connection after {bytes} bytes\n");
                running.program.expect(&closed)?;
            }
            if server.lets_finish() {
                running.ended_well()?;
            }
            assert_eq!(running.complaints(), "");

            let (number, _) = server.lesson.split_at(2);
            let scene = format!("{number}-two-clients");
            let mut scene = harness::Transcript::new(&lab, &scene, addr);
            let command = format!("cargo run -p lesson-{}", server.lesson);
            scene.terminal("server", &command, &running.program);
            let command = "cargo run --bin client";
            scene.terminal("first", command, &first);
            scene.terminal("second", command, &second);
            scene.check()
        },
    );
}

/// The accept queue is std's. The limit is in the lessons' headers.
#[test]
#[cfg(target_os = "linux")]
fn clients_beyond_an_accept_queue_of_128_try_again_and_are_served() {
    const BEYOND: usize = 70;
    each(Server::answers_alone, |server| {
        let mut running = server.start()?;
        let (lab, addr) = (running.lab.clone(), running.addr);
        let answers = server.answers;
        // A server that is stopped accepts nobody, and its kernel still does.
        running.waits_for_a_client()?;
        running.program.suspend();
        running.program.wait_until_stopped(true)?;
        // In turn: of two that come at once, Linux may finish one only at the
        // client's end, and then the table shows one connection too many.
        let waiting = running.connect_many("quick", QUEUE)?;
        // A client is connected a little before the kernel has queued it.
        lab.wait_until("a full accept queue", || {
            proc::accept_queue(addr) == Some(QUEUE)
        })?;
        let late: Vec<_> = (0..BEYOND)
            .map(|_| {
                let lab = lab.clone();
                thread::spawn(move || {
                    answers.once_more(&mut lab.connect("late", addr)?)
                })
            })
            .collect();
        lab.wait_until("attempts without an answer", || {
            proc::unanswered(addr) == Some(BEYOND)
        })?;
        running.program.resume();
        for mut client in waiting {
            running.is_answered(&mut client)?;
        }
        late.into_iter().try_for_each(joined)?;
        running.serves()
    });
}

#[test]
fn fifty_clients_of_one_socket_get_their_own_answers_in_any_order() {
    each(Server::sends_datagrams, |server| {
        let mut running = server.start()?;
        let clients = (0..50)
            .map(|n| running.lab.udp(&format!("client {n}"), running.addr))
            .collect::<Result<Vec<_>>>()?;
        for round in 0..3 {
            for (n, client) in clients.iter().enumerate() {
                client.send(format!("round {round} of client {n}"))?;
            }
            for (n, client) in clients.iter().enumerate().rev() {
                client.expect(format!("round {round} of client {n}"))?;
            }
        }
        running.serves()
    });
}

#[test]
#[cfg(target_os = "linux")]
fn clients_in_turn_leave_nothing_behind() {
    each(all, |server| {
        // Each leaves a connection in TIME-WAIT, which the tests that look at
        // the kernel's tables read again and again.
        let count = match env::var_os("CI") {
            Some(_) if server.at_once == MANY => 2000,
            Some(_) => 500,
            None => 100,
        };
        let mut running = server.start()?;
        running.serves_one()?;
        let before = running.at_rest()?;
        for _ in 0..count {
            running.serves_one()?;
        }
        running.wait_until_again(before)?;
        Ok(())
    });
}

/// A stop interrupts a read that has a timeout, and a wait for events:
/// signal(7).
#[test]
#[cfg(target_os = "linux")]
fn a_server_that_was_stopped_goes_on_with_its_clients() {
    each(Server::answers_alone, |server| {
        let mut running = server.start()?;
        let count = server.at_once.min(4);
        let mut clients = running.connect_many("client", count)?;
        for _ in 0..5 {
            for client in &mut clients {
                running.is_answered(client)?;
            }
            running.program.suspend();
            running.program.wait_until_stopped(true)?;
            running.program.resume();
            running.program.wait_until_stopped(false)?;
        }
        assert_eq!(running.complaints(), "");
        drop(clients);
        running.serves()
    });
}

// Clients that misbehave.

#[test]
fn a_reset_is_one_line_and_ends_that_client_only() {
    each(Server::is_tcp, |server| {
        let mut running = server.start()?;
        // In a pool it would keep a place that the good clients need.
        let mut other = match server.at_once {
            MANY => Some(running.connect("other")?),
            _ => None,
        };
        // Twice for each worker of a pool.
        let count = 2 * server.at_once.min(4);
        for _ in 0..count {
            if let Some(other) = &mut other {
                running.is_answered(other)?;
            }
            let mut a = running.connect("a")?;
            let local = a.local_addr()?;
            running.is_answered(&mut a)?;
            a.send("half a mess")?;
            if server.answers == Typed {
                running.program.expect("half a mess\nreply> ")?;
                a.reset()?;
                running.program.type_line("go on");
            } else {
                if server.answers == Echo {
                    a.expect("half a mess")?;
                }
                a.reset()?;
            }
            running.program.expect_complaint_about(local)?;
            running.serves()?;
            let printed = running.program.stdout();
            let closed = format!("{local} closed");
            assert!(!String::from_utf8_lossy(&printed).contains(&closed));
        }
        if let Some(other) = &mut other {
            running.is_answered(other)?;
        }
        // And before it has said anything.
        let silent = running.connect("silent")?;
        let local = silent.local_addr()?;
        running.program.expect(&format!("{local} connected\n"))?;
        silent.reset()?;
        running.program.expect_complaint_about(local)?;
        running.serves()?;
        assert_eq!(lines(&running.program.stderr()), count + 1);
        Ok(())
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_hundred_hang_ups_cost_no_processor_time() {
    each(Server::is_tcp, |server| {
        let mut running = server.start()?;
        for _ in 0..100 {
            let mut a = running.connect("a")?;
            let local = a.local_addr()?;
            a.expect(server.answers.greeting())?;
            a.close();
            running.program.expect(&format!("{local} connected\n"))?;
            let closed = format!("{local} closed the connection");
            running.program.expect(&closed)?;
        }
        let printed = lines(&running.program.stdout());
        assert_eq!(printed, 1 + 2 * 100, "where it listens, two a client");
        running.serves()?;
        let used = running.cpu_time();
        assert!(used < Duration::from_millis(500), "used {used:?}");
        assert_eq!(running.complaints(), "");
        Ok(())
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_thousand_empty_datagrams_are_answered_and_cost_little() {
    each(Server::sends_datagrams, |server| {
        let mut running = server.start()?;
        let a = running.lab.udp("a", running.addr)?;
        for _ in 0..1000 {
            a.gets_echo("")?;
        }
        running.serves()?;
        let used = running.cpu_time();
        assert!(used < Duration::from_millis(500), "used {used:?}");
        Ok(())
    });
}

#[test]
fn clients_that_leave_without_reading_hinder_nobody() {
    each(
        |server| server.answers != Typed,
        |server| {
            let mut running = server.start()?;
            #[cfg(target_os = "linux")]
            let before = running.at_rest()?;
            // Made first: later it might get a port that an answer is for.
            let good = running.lab.udp("good", running.addr)?;
            for _ in 0..100 {
                if server.answers_alone() {
                    let a = running.connect("a")?;
                    a.send(server.answers.request(10_000))?;
                    // Unread bytes make a reset of this.
                    a.close();
                } else {
                    let a = running.lab.udp("a", running.addr)?;
                    a.send("no answer, please")?;
                }
            }
            if server.answers == Datagrams {
                good.gets_echo("are you there?")?;
            }
            running.serves()?;
            #[cfg(target_os = "linux")]
            running.wait_until_again(before)?;
            Ok(())
        },
    );
}

// Clients that never read.

#[test]
#[cfg(target_os = "linux")]
fn clients_that_never_read_hinder_nobody_else() {
    each(
        |server| {
            server.at_once == MANY && matches!(server.answers, Echo | Lines)
        },
        |server| {
            let mut running = server.start()?;
            let lab = running.lab.clone().with_timeout(PATIENCE);
            let request = server.answers.request(TOO_MUCH);
            let costs_nobody = matches!(server.non_reader, CostsNobody);
            let mut deaf = Vec::new();
            for _ in 0..if costs_nobody { 4 } else { 1 } {
                let peer = lab.connect("deaf", running.addr)?;
                let local = peer.local_addr()?;
                let sending =
                    peer.send_in_background(request.clone(), 64 << 10);
                deaf.push((peer, local, sending));
            }
            let mut good = running.connect("good")?;
            let mut used = running.cpu_time();
            running.lab.wait_until("all queues full, and still", || {
                deaf.iter().all(|&(_, local, _)| {
                    proc::is_stuck(local, running.addr, || {
                        let before = running.cpu_time();
                        let mut served = (0..300)
                            .map(|_| server.answers.once_more(&mut good));
                        let all = served.all(|answer| answer.is_ok());
                        used = running.cpu_time() - before;
                        all
                    })
                })
            })?;
            let limit = Duration::from_millis(300);
            assert!(used < limit, "{used:?} for 300 round trips");
            if costs_nobody {
                assert_eq!(running.at_rest()?.0, 1, "threads");
            }
            // They were only let wait: when they read, nothing is lost.
            let answer = server.answers.to(&request);
            let count = server.answers.count(&request);
            for (mut peer, local, sending) in deaf {
                peer.expect(&answer)?;
                joined(sending)?;
                peer.half_close()?;
                peer.expect_end()?;
                let closed = format!("closed the connection after {count}");
                running.program.expect(&format!("{local} {closed}\n"))?;
            }
            running.serves()
        },
    );
}

#[test]
fn clients_that_never_read_are_sent_away() {
    each(
        |server| matches!(server.non_reader, SentAway(..)),
        |server| {
            let SentAway(args, said) = server.non_reader else {
                return Ok(());
            };
            let count = server.at_once.min(4);
            let mut running = server.start_at("127.0.0.1:0", args)?;
            let deaf = running.connect_many("deaf", count)?;
            let request = server.answers.request(TOO_MUCH);
            let sending = |client: &Peer| {
                client.send_in_background(request.clone(), 64 << 10)
            };
            let sending: Vec<_> = deaf.iter().map(sending).collect();
            for thread in sending {
                let failure = joined(thread).err().map(|f| *f.fault);
                assert_eq!(failure, Some(Fault::ConnectionReset));
            }
            for _ in 0..count {
                running.program.expect_error(said)?;
            }
            running.serves()
        },
    );
}

#[test]
#[cfg(target_os = "linux")]
fn as_many_clients_that_never_read_as_it_serves_at_once_freeze_it() {
    each(
        |server| matches!(server.non_reader, Freezes),
        |server| {
            let mut running = server.start()?;
            let addr = running.addr;
            let lab = running.lab.clone().with_timeout(PATIENCE);
            let mut deaf = (0..server.at_once)
                .map(|_| lab.connect("deaf", addr))
                .collect::<Result<Vec<_>>>()?;
            let _sending: Vec<_> = deaf
                .iter()
                .map(|peer| peer.send_in_background(bytes(TOO_MUCH), 64 << 10))
                .collect();
            let locals = deaf.iter().map(Peer::local_addr);
            let locals = locals.collect::<Result<Vec<_>>>()?;
            // Another such server is the clock: this one serves nobody.
            let other = server.start()?;
            let mut good = other.connect("good")?;
            running.lab.wait_until("all queues full, and still", || {
                locals.iter().all(|&local| {
                    proc::is_stuck(local, addr, || {
                        (0..100).all(|_| good.gets_echo("tick").is_ok())
                    })
                })
            })?;
            let mut late = running.connect("late")?;
            late.send("is anybody there?")?;
            // Nothing has moved since: the server could have read `late`.
            let local = late.local_addr()?;
            running.lab.wait_until("what it sent to arrive", || {
                let queues = proc::queues(local, addr);
                queues.is_some_and(|[_, _, unread, _]| unread == 17)
            })?;
            assert!(late.has_nothing()?, "served although all are stuck");
            // It was only waiting: when one reads and leaves, nothing was lost.
            let mut first = deaf.remove(0);
            first.expect(bytes(TOO_MUCH))?;
            first.close();
            late.expect("is anybody there?")?;
            late.close();
            for peer in &deaf {
                // The thread that sends holds the stream, too.
                let _ = peer.stream().shutdown(Shutdown::Both);
            }
            drop(deaf);
            running.serves()
        },
    );
}

#[test]
fn a_client_that_falls_silent_is_closed_after_the_timeout() {
    each(
        |server| matches!(server.non_reader, SentAway(_, TIMED_OUT)),
        |server| {
            let mut running = server.start_at("127.0.0.1:0", &["500"])?;
            for has_spoken in [false, true] {
                let mut idle = running.connect("idle")?;
                if has_spoken {
                    running.is_answered(&mut idle)?;
                }
                let local = idle.local_addr()?;
                let said = format!("{local}: {TIMED_OUT}");
                running.program.expect_error(&said)?;
                idle.expect_end()?;
            }
            assert_eq!(lines(&running.program.stderr()), 2);
            running.serves()
        },
    );
}

// The end.

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_cuts_off_all_clients() {
    each(
        |server| {
            server.answers_alone()
                && server.at_once > 1
                && !server.lets_finish()
        },
        |server| {
            let mut command = harness::takes_ctrl_c(&server.path()?);
            command.arg("127.0.0.1:0").args(server.args);
            let mut running = server.start_command(command)?;
            let mut clients = running.connect_many("client", 2)?;
            for client in &mut clients {
                running.is_answered(client)?;
            }
            running.program.interrupt();
            clients.iter_mut().try_for_each(Peer::expect_end)?;
            let status = running.program.exit()?;
            assert_eq!(status.code(), None, "ended by a signal");
            Ok(())
        },
    );
}

#[test]
#[cfg(unix)]
fn three_million_bytes_under_way_come_back_whole() {
    const COUNT: usize = 3_000_000;
    each(Server::lets_finish, |server| {
        let mut running = server.start_at("127.0.0.1:0", &[AN_HOUR])?;
        let mut client = running.connect("client")?;
        // They fill the four queues, and the rest is not even sent.
        let sending = client.send_in_background(bytes(COUNT), 64 << 10);
        running.program.expect(" connected\n")?;
        running.is_asked_to_end()?;
        client.expect(bytes(COUNT))?;
        joined(sending)?;
        client.half_close()?;
        client.expect_end()?;
        let closed = " closed the connection after 3000000 bytes\n";
        running.program.expect(closed)?;
        running.ended_well()
    });
}

/// A stopped program accepts nobody, and its kernel does.
#[test]
#[cfg(target_os = "linux")]
fn a_full_accept_queue_is_served_before_the_end() {
    each(Server::lets_finish, |server| {
        // A `select!` without an order might do it right by chance once.
        let rounds = if server.lesson == "11-async" { 6 } else { 1 };
        for _ in 0..rounds {
            let mut running = server.start_at("127.0.0.1:0", &[AN_HOUR])?;
            running.waits_for_a_client()?;
            running.program.suspend();
            running.program.wait_until_stopped(true)?;
            let clients = running.connect_many("waiting", QUEUE)?;
            for client in &clients {
                client.send("I was here before the end")?;
            }
            running.program.interrupt();
            running.program.resume();
            for mut client in clients {
                client.expect("I was here before the end")?;
                client.half_close()?;
                client.expect_end()?;
            }
            running.ended_well()?;
        }
        Ok(())
    });
}

/// The old one does not listen any more while it serves those it has.
#[test]
#[cfg(unix)]
fn the_next_server_need_not_wait_for_the_last_client() {
    // Where, on Linux, no client of another test can have the server's port.
    let alone = match cfg!(target_os = "linux") {
        true => "127.0.0.3:0",
        false => "127.0.0.1:0",
    };
    each(Server::lets_finish, |server| {
        let mut old = server.start_at(alone, &[AN_HOUR])?;
        let mut client = old.connect("client")?;
        old.is_answered(&mut client)?;
        old.is_asked_to_end()?;
        server.start_at(&old.addr.to_string(), &[])?.serves()?;
        old.is_answered(&mut client)?;
        client.close();
        old.ended_well()
    });
}

/// A limit: who waits for a place that there is not, is reset.
#[test]
#[cfg(target_os = "linux")]
fn out_of_descriptors_it_ends_and_resets_who_waits() {
    each(Server::lets_finish, |server| {
        let mut running = server.start_at("127.0.0.1:0", &[AN_HOUR])?;
        let mut first = running.connect("first")?;
        running.is_answered(&mut first)?;
        running.waits_for_a_client()?;
        running.leave_descriptors(0);
        // The `accept` that waits has its descriptor, the next one gets none.
        let more = usize::from(server.waits_in == "accept4");
        let mut served = running.connect_many("served", more)?;
        for client in &mut served {
            running.is_answered(client)?;
        }
        let mut waits = running.connect("waits")?;
        let said = "cannot accept a client, trying again: ";
        running.program.expect_error(said)?;
        running.is_asked_to_end()?;
        waits.expect_reset()?;
        running.is_answered(&mut first)?;
        drop((first, served));
        running.program.expect("goodbye\n")?;
        running.program.expect_exit(0)
    });
}

// The machine says no.

/// Out of descriptors, `accept` fails at once, again and again.
#[test]
#[cfg(target_os = "linux")]
fn a_failing_accept_is_said_and_tried_again_after_a_pause() {
    each(Server::is_tcp, |server| {
        let mut running = server.start()?;
        running.waits_for_a_client()?;
        running.leave_descriptors(0);
        if server.waits_in == "accept4" {
            // Linux has reserved the first client's descriptor by then.
            running.serves_one()?;
        }
        let mut a = running.connect("a")?;
        a.send("hello\n")?;
        running.pauses_between_attempts()?;
        assert!(a.has_nothing()?, "served without a descriptor");
        running.leave_descriptors(1);
        if server.answers == Typed {
            running.program.expect("received: hello\nreply> ")?;
            running.program.type_line("at last");
            a.expect("at last\n")?;
        } else {
            a.expect(server.answers.to(b"hello\n"))?;
        }
        a.close();
        proc::limit_descriptors(running.program.id(), 64).expect("a limit");
        running.serves()
    });
}

#[test]
#[cfg(target_os = "linux")]
fn out_of_descriptors_it_pauses_and_serves_again_when_some_leave() {
    each(
        |server| server.answers_alone() && server.at_once > 1,
        |server| {
            let served = (server.at_once / 2).min(28);
            let mut running = server.start()?;
            running.waits_for_a_client()?;
            running.leave_descriptors(served);
            let mut clients =
                running.connect_many("one of many", 2 * served + 1)?;
            let mut waiting = clients.split_off(served);
            running.pauses_between_attempts()?;
            for client in &mut clients {
                running.is_answered(client)?;
            }
            for client in &waiting {
                assert!(client.has_nothing()?, "served without a descriptor");
            }
            while !waiting.is_empty() {
                clients.into_iter().for_each(Peer::close);
                let rest = waiting.split_off(waiting.len().min(served));
                clients = waiting;
                waiting = rest;
                for client in &mut clients {
                    running.is_answered(client)?;
                }
            }
            clients.into_iter().for_each(Peer::close);
            running.leave_descriptors(8);
            running.serves()
        },
    );
}

/// A limit: `println!` panics.
#[test]
#[cfg(target_os = "linux")]
fn a_standard_output_that_cannot_be_written_ends_it() {
    each(all, |server| {
        let lab = Lab::new().with_timeout(TIMEOUT);
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$@\" >/dev/full", "sh"])
            .arg(server.path()?)
            .arg("127.0.0.1:0")
            .args(server.args);
        let mut program = lab.start_command("server", command)?;
        program.expect_error("failed printing to stdout")?;
        program.expect_exit(101)
    });
}

// What it costs, and what else can fail: seen with strace.

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn a_request_is_the_system_calls_of_the_table() {
    const REQUESTS: usize = 100;
    each(all, |server| {
        let calls = |requests| -> Result<strace::Counts> {
            let mut running = server.start_traced(&[])?;
            // A thread that has not come to rest still makes calls of its start.
            running.at_rest()?;
            if server.answers == Datagrams {
                let a = running.lab.udp("a", running.addr)?;
                for _ in 0..requests {
                    a.gets_echo("hello")?;
                }
            } else {
                let mut a = running.connect("a")?;
                running.program.expect(" connected\n")?;
                for _ in 0..requests {
                    // An event loop looks for more when it has answered.
                    running.at_rest()?;
                    running.is_answered(&mut a)?;
                }
                running.at_rest()?;
                a.half_close()?;
                a.expect_end()?;
                running.program.expect_error(" closed the connection")?;
                if server.answers_alone() {
                    running.program.expect_error("close(")?;
                }
            }
            match server.answers {
                Datagrams => running.has_made("recvfrom", requests + 1),
                Typed | Echo | Lines | Chat => running.has_made("accept4", 2),
            }
        };
        let more = strace::increase(&calls(10)?, &calls(10 + REQUESTS)?);
        assert_eq!(more, times(REQUESTS, server.calls));
        Ok(())
    });
}

#[cfg(target_os = "linux")]
fn times(count: usize, calls: &[(&str, usize)]) -> Vec<(String, usize)> {
    let times = |(name, each): &(&str, _)| ((*name).to_owned(), each * count);
    calls.iter().map(times).collect()
}

#[cfg(target_os = "linux")]
impl Running<'_> {
    /// Its calls, when it has made so many of this one, and waits again. (Not
    /// by a kill, which leaves calls in the trace without a name.)
    fn has_made(&self, call: &str, count: usize) -> Result<strace::Counts> {
        self.at_rest()?;
        self.lab.wait_until("the server waits again", || {
            let trace = self.program.stderr();
            let waits = self.server.waits_in != EPOLL_WAIT
                || strace::calls(&trace).last().is_some_and(|call| {
                    call.name == EPOLL_WAIT && call.result.is_none()
                });
            waits && strace::counts(&trace).get(call) >= Some(&count)
        })?;
        Ok(strace::counts(&self.program.stderr()))
    }
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn a_connection_is_the_system_calls_that_it_must_be() {
    const CONNECTIONS: usize = 100;
    each(all, |server| {
        let wanted: &[_] = match server.lesson {
            "03-threaded" => &[
                ("accept4", 1),
                ("close", 1),
                ("recvfrom", 2),
                ("sendto", 1),
                ("write", 2),
            ],
            "10-event-loop" => &[
                ("accept4", 2),
                ("close", 1),
                ("epoll_ctl", 1),
                // It is connected; it can be written to; it has sent; it has
                // left.
                (EPOLL_WAIT, 4),
                ("recvfrom", 3),
                ("sendto", 1),
                ("write", 2),
            ],
            _ => return Ok(()),
        };
        let calls = |connections| -> Result<strace::Counts> {
            let mut running = server.start_traced(&[])?;
            for _ in 0..connections {
                running.at_rest()?;
                let mut client = running.connect("client")?;
                running.program.expect(" connected\n")?;
                running.at_rest()?;
                running.is_answered(&mut client)?;
                running.at_rest()?;
                client.half_close()?;
                client.expect_end()?;
                // In the trace, which comes a little later.
                running.program.expect_error(" closed the connection ")?;
                running.program.expect_error("close(")?;
            }
            running.has_made("accept4", connections + 1)
        };
        let more = strace::increase(&calls(10)?, &calls(10 + CONNECTIONS)?);
        assert_eq!(more, times(CONNECTIONS, wanted));
        Ok(())
    });
}

/// As by `ECONNABORTED`, or a firewall's `EPERM`: see accept(2).
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn a_failing_accept_or_receive_is_tried_again_whatever_the_error() {
    each(all, |server| {
        let call = if server.is_tcp() {
            "accept4"
        } else {
            "recvfrom"
        };
        for error in ["ECONNABORTED", "EPERM", "ENOMEM"] {
            let fail = format!("inject={call}:error={error}:when=1..2");
            let trace = format!("trace={call},clock_nanosleep,{EPOLL_WAIT}");
            let options = ["-e", &trace, "-e", &fail];
            let mut running = server.start_traced(&options)?;
            running.serves()?;
            let wanted = [call, "pause", call, "pause", call];
            let mut made = Vec::new();
            running.lab.wait_until("two pauses", || {
                let calls = strace::calls(&running.program.stderr());
                let calls = calls.iter().filter_map(attempt_or_pause);
                made = calls.skip_while(|&name| name == "pause").collect();
                // A runtime wakes once more to look at its clock.
                made.dedup_by(|a, b| a == b && *a == "pause");
                made.len() >= wanted.len()
            })?;
            assert_eq!(made[..5], wanted);
            let said = running.complaints().matches("trying again").count();
            assert_eq!(said, 2, "{}", running.complaints());
        }
        Ok(())
    });
}

/// An event loop pauses by a wait for events that ends after a time.
#[cfg(target_os = "linux")]
fn attempt_or_pause(call: &strace::Call) -> Option<&'static str> {
    let waits = call.name == EPOLL_WAIT;
    let has_timeout = call.args.get(3).is_some_and(|time| time != "-1");
    match call.name.as_str() {
        "accept4" => Some("accept4"),
        "recvfrom" => Some("recvfrom"),
        "clock_nanosleep" => Some("pause"),
        _ => (waits && has_timeout).then_some("pause"),
    }
}
