//! One run of a script: the program, its clients, and what went wrong.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use harness::{
    Event, Failure, Fault, Lab, Peer, Program, Timeline, UdpPeer, What, quote,
};

use socket2::Socket;

use crate::page::CONTRACT;
use crate::{Exercise, Mistake};

/// The name of the checked program in the timeline.
const PROGRAM: &str = "program";
/// A program that prints more is stopped; it is more than anybody reads.
const OUTPUT_LIMIT: usize = 4 << 20;
/// How much of a wrong answer is looked at.
const ANSWER_LIMIT: usize = 64 << 10;
/// How long the rest of a wrong answer is waited for.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// A connection may end a moment before its program does.
const MOMENT: Duration = Duration::from_millis(300);
/// What a client takes that takes little, in bytes (Linux doubles it).
const SMALL_BUFFER: usize = 4 << 10;
/// How much it takes in one segment, in bytes.
#[cfg(unix)]
const SMALL_SEGMENT: u32 = 1000;
/// How long one look waits for the first byte.
const GLIMPSE: Duration = Duration::from_millis(1);
/// As many looks, 2 ms apart, must see the same for it to be at rest.
const STILL: usize = 10;
/// Nothing asks for this port, so who listens there did not ask the checker.
const DEFAULT_PORT: u16 = 9006;

/// What is checked.
#[derive(Clone, Debug)]
pub enum Target {
    /// A program that the checker starts.
    Program {
        /// It, and its first arguments; the address comes behind them.
        words: Vec<OsString>,
        /// Where it comes from.
        origin: Origin,
    },
    /// A server that runs already.
    At(SocketAddr),
}

/// Where a program comes from. What a report says of how to go on depends on
/// it.
#[derive(Clone, Debug)]
pub enum Origin {
    /// The learner's stub.
    Stub,
    /// A demonstration.
    Mistake(Mistake),
    /// A command line.
    Command,
}

impl Target {
    /// The command line of a program; the address comes behind it.
    pub fn command(words: Vec<OsString>) -> Self {
        Self::Program {
            words,
            origin: Origin::Command,
        }
    }
}

/// How it is checked.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What the payloads are made from.
    pub seed: u32,
    /// How long each wait may take.
    pub timeout: Duration,
}

/// What a check found.
#[derive(Clone)]
pub struct Report {
    /// The steps that went well, in order.
    pub passed: Vec<&'static str>,
    /// The steps that could not be tried.
    pub skipped: Vec<Skipped>,
    /// What went wrong, if something did: then nothing came after it.
    pub diagnosis: Option<Diagnosis>,
    /// What was checked, and how.
    pub target: Target,
    /// With what.
    pub options: Options,
    /// What was seen.
    pub timeline: Vec<Event>,
    /// How long it took, in all.
    pub took: Duration,
}

/// A step that was not tried.
#[derive(Clone)]
pub struct Skipped {
    /// Its name.
    pub step: &'static str,
    /// The reason, as the end of a sentence.
    pub why: &'static str,
}

/// What went wrong at the first step that failed.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// Its name.
    pub step: &'static str,
    /// The program or client that waited.
    pub who: String,
    /// What it waited for, as the end of "wanted to ...".
    pub wanted: String,
    /// What came instead.
    pub fault: Fault,
    /// All that the program has printed on standard error.
    pub complaint: String,
    /// What came instead of an answer, if one came.
    pub got: Option<Vec<u8>>,
    /// The page (its file's stem) and the id of the section that says what
    /// this means; `None` if nobody knows.
    pub section: Option<(String, &'static str)>,
}

/// A failure, and what it would mean. Boxed: an error should be small.
pub(crate) struct StepError(Box<Inner>);

struct Inner {
    failure: Failure,
    at: Instant,
    got: Option<Vec<u8>>,
    hints: Vec<(Kind, &'static str)>,
    diagnosed: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Silent,
    Closed,
    Wrong,
    Exited,
    /// Exited, with code 0.
    Ended,
}

/// What a step of a script ends in.
pub(crate) type Result<T = ()> = std::result::Result<T, StepError>;

impl From<Failure> for StepError {
    fn from(failure: Failure) -> Self {
        Self(Box::new(Inner {
            failure,
            at: Instant::now(),
            got: None,
            hints: Vec::new(),
            diagnosed: None,
        }))
    }
}

impl StepError {
    fn hint(mut self, kind: Kind, id: &'static str) -> Self {
        self.0.hints.push((kind, id));
        self
    }

    /// What came instead of the answer.
    pub(crate) fn got(&self) -> Option<&[u8]> {
        self.0.got.as_deref()
    }

    pub(crate) fn is_timeout(&self) -> bool {
        matches!(*self.0.failure.fault, Fault::TimedOut(_))
    }

    /// The program has ended.
    pub(crate) fn is_exit(&self) -> bool {
        matches!(*self.0.failure.fault, Fault::Exited { .. })
    }

    pub(crate) fn is_refusal(&self) -> bool {
        *self.0.failure.fault == Fault::ConnectionRefused
    }

    /// Says for certain what it means.
    pub(crate) fn diagnose(mut self, id: &'static str) -> Self {
        self.0.diagnosed = Some(id);
        self
    }

    /// As [`StepError::diagnose`], if `holds`.
    pub(crate) fn diagnose_if(self, holds: bool, id: &'static str) -> Self {
        if holds { self.diagnose(id) } else { self }
    }
}

/// Says what a fault *of this kind at this step* means.
pub(crate) trait Or<T> {
    /// Nothing came.
    fn or_timed_out(self, id: &'static str) -> Result<T>;
    /// The connection was closed, reset or refused (a datagram, too), and the
    /// program still runs.
    fn or_closed(self, id: &'static str) -> Result<T>;
    /// As [`Or::or_closed`], by a reset only.
    fn or_reset(self, id: &'static str) -> Result<T>;
    /// Something else came.
    fn or_wrong(self, id: &'static str) -> Result<T>;
    /// The program ended.
    fn or_exited(self, id: &'static str) -> Result<T>;
    /// The program ended, and thinks that all is well: with code 0.
    fn or_ended(self, id: &'static str) -> Result<T>;
    /// Exactly `answer` came.
    fn or_got(self, answer: impl AsRef<[u8]>, id: &'static str) -> Result<T>;
}

impl<T> Or<T> for Result<T> {
    fn or_timed_out(self, id: &'static str) -> Self {
        self.map_err(|error| error.hint(Kind::Silent, id))
    }

    fn or_closed(self, id: &'static str) -> Self {
        self.map_err(|error| error.hint(Kind::Closed, id))
    }

    fn or_reset(self, id: &'static str) -> Self {
        self.map_err(|error| match *error.0.failure.fault {
            Fault::ConnectionReset => error.hint(Kind::Closed, id),
            _ => error,
        })
    }

    fn or_wrong(self, id: &'static str) -> Self {
        self.map_err(|error| error.hint(Kind::Wrong, id))
    }

    fn or_exited(self, id: &'static str) -> Self {
        self.map_err(|error| error.hint(Kind::Exited, id))
    }

    fn or_ended(self, id: &'static str) -> Self {
        self.map_err(|error| error.hint(Kind::Ended, id))
    }

    fn or_got(self, answer: impl AsRef<[u8]>, id: &'static str) -> Self {
        self.map_err(|error| {
            let holds = error.got() == Some(answer.as_ref());
            error.diagnose_if(holds, id)
        })
    }
}

/// A script at work.
pub(crate) struct Check {
    began: Instant,
    lab: Lab,
    target: Target,
    ip: IpAddr,
    addr: SocketAddr,
    program: Option<Program>,
    step: &'static str,
    passed: Vec<&'static str>,
    skipped: Vec<Skipped>,
    rng: fastrand::Rng,
}

/// Checks `target`, with the script of `exercise`.
pub fn check(exercise: &Exercise, target: &Target, options: Options) -> Report {
    let began = Instant::now();
    let lab = Lab::new()
        .with_timeout(options.timeout)
        .with_output_limit(OUTPUT_LIMIT);
    let mut rng = fastrand::Rng::with_seed(options.seed.into());
    let ip = loopback(&mut rng);
    let mut check = Check {
        began,
        lab,
        target: target.clone(),
        ip,
        addr: SocketAddr::new(ip, 0),
        program: None,
        step: "",
        passed: Vec::new(),
        skipped: Vec::new(),
        rng,
    };
    let result = check
        .begin()
        .and_then(|()| (exercise.script)(&mut check))
        .and_then(|()| check.end());
    let diagnosis = result.err().map(|error| check.judge(exercise, error));
    let timeline = check.lab.timeline().events();
    Report {
        passed: check.passed,
        skipped: check.skipped,
        diagnosis,
        target: check.target,
        options,
        timeline,
        took: began.elapsed(),
    }
}

/// An address that no program has written into it. On Linux all of 127/8 is
/// this machine; elsewhere only 127.0.0.1 is.
fn loopback(rng: &mut fastrand::Rng) -> IpAddr {
    let mut part = || rng.u8(2..=250);
    let ip = Ipv4Addr::new(127, part(), part(), part());
    let usual = Ipv4Addr::LOCALHOST;
    let works = cfg!(target_os = "linux") && TcpListener::bind((ip, 0)).is_ok();
    if works { ip } else { usual }.into()
}

// What a script says.
impl Check {
    /// The steps before are done; the next ones have this name.
    pub(crate) fn step(&mut self, name: &'static str) {
        if !self.step.is_empty() {
            self.passed.push(self.step);
        }
        self.step = name;
    }

    /// As [`Check::step`], for a step that starts or stops the program or
    /// reads what it prints. False if it runs elsewhere: skip the step.
    pub(crate) fn step_with_program(&mut self, name: &'static str) -> bool {
        if self.is_ours() {
            self.step(name);
            return true;
        }
        self.skip(name, "the server was not started by the checker");
        false
    }

    /// Says that a step is not tried here.
    pub(crate) fn skip(&mut self, step: &'static str, why: &'static str) {
        self.skipped.push(Skipped { step, why });
    }

    /// True if the checker started the program.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.target, Target::Program { .. })
    }

    pub(crate) fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }

    /// A word of small letters that no other step has.
    pub(crate) fn word(&mut self) -> String {
        let length = self.rng.usize(4..=9);
        (0..length).map(|_| self.rng.lowercase()).collect()
    }

    /// Adds a remark to the timeline.
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.lab.note(text);
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Where the program listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn connect(&self, name: &str) -> Result<Client> {
        let peer = self.lab.connect(name, self.addr)?;
        Ok(Client(peer, self.lab.timeline().clone()))
    }

    /// A client that takes so little that a server's answers soon pile up.
    pub(crate) fn connect_small(&self, name: &str) -> Result<Client> {
        let stream = || {
            let kind = Some(socket2::Protocol::TCP);
            let domain = socket2::Domain::for_address(self.addr);
            let socket = Socket::new(domain, socket2::Type::STREAM, kind)?;
            // Before connecting: the handshake tells both. A server's kernel
            // makes its send buffer to the measure of the segments.
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
            #[cfg(unix)]
            socket.set_tcp_mss(SMALL_SEGMENT)?;
            socket.connect(&self.addr.into())?;
            Ok(socket.into())
        };
        let wanted = format!("connect to {}", self.addr);
        let stream = stream().map_err(|error: io::Error| {
            self.error(name, wanted, error.into())
        })?;
        let peer = self.lab.adopt(name, stream)?;
        Ok(Client(peer, self.lab.timeline().clone()))
    }

    /// Waits until the server's answers to `client`, which does not read, have
    /// filled all buffers, as far as this end can see.
    pub(crate) fn until_answers_pile_up(&self, client: &Client) -> Result {
        let mut buffer = vec![0; 64 << 10];
        let mut seen = 0;
        let mut still = 0;
        let mut over = None;
        let mut at_rest = || {
            // Not by making it non-blocking: a thread sends at the same time.
            let stream = client.0.stream();
            let looked = stream
                .set_read_timeout(Some(GLIMPSE))
                .and_then(|()| stream.peek(&mut buffer));
            over = match &looked {
                Ok(0) => Some(Fault::UnexpectedEof { got: 0, wanted: 1 }),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                    Some(Fault::ConnectionReset)
                }
                _ => None,
            };
            if over.is_some() {
                return true;
            }
            let waits = looked.unwrap_or(0);
            still = if waits > 0 && waits == seen {
                still + 1
            } else {
                0
            };
            seen = waits;
            still >= STILL
        };
        let wanted = "receive some answers, and take none";
        self.lab
            .wait_until(wanted, &mut at_rest)
            .map_err(|failure| {
                let who = client.name().to_owned();
                StepError::from(Failure { who, ..failure })
            })?;
        match over {
            Some(fault) => Err(self.error(client.name(), wanted, fault)),
            None => Ok(()),
        }
    }

    pub(crate) fn udp(&self, name: &str) -> Result<Datagrams> {
        Ok(Datagrams {
            name: name.to_owned(),
            lab: self.lab.clone(),
            peer: self.lab.udp(name, self.addr)?,
        })
    }

    /// The program, if the checker started it.
    pub(crate) fn program(&mut self) -> Option<&mut Program> {
        self.program.as_mut()
    }

    /// Starts the program on `addr`, and does not wait for anything.
    pub(crate) fn spawn(&self, name: &str, addr: &str) -> Result<Program> {
        let Target::Program { words, .. } = &self.target else {
            let fault = Fault::Io("it runs elsewhere".to_owned());
            return Err(self.error(name, "start", fault));
        };
        let mut words = words.iter();
        let mut command =
            Command::new(words.next().cloned().unwrap_or_default());
        command.args(words).arg(addr);
        Ok(self.lab.start_in_group(name, command)?)
    }

    /// Starts the program on `addr`, and waits until it says that it listens.
    pub(crate) fn start(&mut self, addr: &str) -> Result {
        let program = self.program.insert(self.spawn(PROGRAM, addr)?);
        let heard = program.wait_until_listening().map_err(|failure| Failure {
            wanted: "print `listening on IP:PORT` first".to_owned(),
            ..failure
        });
        let any = SocketAddr::new(self.ip, 0);
        let asked: SocketAddr = addr.parse().unwrap_or(any);
        let said = heard
            .map_err(StepError::from)
            .or_wrong("first-line")
            .or_timed_out("says-nothing")?;
        // A socket for both families may call 127.0.0.1 `::ffff:127.0.0.1`.
        let said = SocketAddr::new(said.ip().to_canonical(), said.port());
        let port_fits = match asked.port() {
            0 => said.port() != DEFAULT_PORT && said.port() != 0,
            port => said.port() == port,
        };
        if said.ip() != asked.ip() || !port_fits {
            let wanted = format!("listen on {asked}, as it was told");
            let fault = Fault::Unexpected(said.to_string());
            return Err(self
                .error(PROGRAM, wanted, fault)
                .diagnose("ignores-its-argument"));
        }
        self.addr = said;
        Ok(())
    }

    /// Starts the program on a port that the kernel chooses.
    pub(crate) fn start_anew(&mut self) -> Result {
        self.start(&SocketAddr::new(self.ip, 0).to_string())
    }

    /// Stops the program at once, and what it started; forgets it.
    pub(crate) fn kill(&mut self) -> Result {
        match self.program.take() {
            Some(mut program) => Ok(program.kill()?),
            None => Ok(()),
        }
    }

    /// Waits for the program's own end, with code 0, and forgets it.
    pub(crate) fn expect_success(&mut self) -> Result {
        if let Some(program) = &mut self.program {
            let status = program.exit()?;
            if !status.success() {
                let stderr = text(&program.stderr());
                let status = status.to_string();
                let fault = Fault::Exited { status, stderr };
                return Err(self.error(PROGRAM, "exit with code 0", fault));
            }
            self.nothing_is_left()?;
            self.program = None;
        }
        Ok(())
    }

    pub(crate) fn error(
        &self,
        who: &str,
        wanted: impl Into<String>,
        fault: Fault,
    ) -> StepError {
        StepError::from(Failure {
            who: who.to_owned(),
            wanted: wanted.into(),
            fault: Box::new(fault),
            timeline: self.lab.timeline().clone(),
        })
    }
}

// Before, after, and what it means.
impl Check {
    fn begin(&mut self) -> Result {
        if let Target::At(addr) = self.target {
            self.addr = addr;
            return Ok(());
        }
        self.step("the program starts and says where it listens");
        self.start_anew()
    }

    fn end(&mut self) -> Result {
        if self.program.is_some() {
            self.step("it still runs, and leaves nothing behind");
            if let Some(fault) = self.ended() {
                return Err(self.error(PROGRAM, "go on", fault));
            }
            if let Some(program) = &mut self.program {
                program.kill()?;
            }
            self.nothing_is_left()?;
        }
        self.step("");
        Ok(())
    }

    /// The program's children, once it has gone. What was killed with it may
    /// take a moment to disappear.
    fn nothing_is_left(&self) -> Result {
        let Some(program) = &self.program else {
            return Ok(());
        };
        let moment = self.lab.clone().with_timeout(MOMENT);
        let gone = || program.descendants() == 0;
        if moment.wait_until("nothing is left", gone).is_ok() {
            return Ok(());
        }
        let fault = Fault::LeftBehind(program.descendants());
        Err(self.error(PROGRAM, "leave nothing behind", fault))
    }

    /// True if the program's end was seen before `time`.
    fn had_exited(&self, time: Instant) -> bool {
        let events = self.lab.timeline().events();
        let mut exits = events.iter().rev().filter(|event| {
            event.who == PROGRAM && matches!(event.what, What::Exited(_))
        });
        exits
            .next()
            .is_some_and(|event| self.began + event.at <= time)
    }

    /// How the program ended, if it did.
    fn ended(&self) -> Option<Fault> {
        let program = self.program.as_ref()?;
        let status: ExitStatus = program.status()?;
        // The rest of what it said may still be on its way, but a process
        // that it left behind may keep its outputs open.
        let moment = self.lab.clone().with_timeout(MOMENT);
        let _ = moment.wait_until("its last words", || program.is_over());
        Some(Fault::Exited {
            status: status.to_string(),
            stderr: text(&program.stderr()),
        })
    }

    fn judge(&mut self, exercise: &Exercise, error: StepError) -> Diagnosis {
        let Inner {
            failure,
            at,
            got,
            hints,
            diagnosed,
        } = *error.0;
        let mut fault = *failure.fault;
        let mut got = got;
        let closed = matches!(
            fault,
            Fault::UnexpectedEof { .. }
                | Fault::ConnectionReset
                | Fault::ConnectionRefused
        );
        if closed && let Some(program) = &self.program {
            let moment = self.lab.clone().with_timeout(MOMENT);
            let _ = moment.wait_until("its end", || program.status().is_some());
        }
        let mut daemon = false;
        if diagnosed.is_none()
            && !matches!(fault, Fault::Flooded(_) | Fault::LeftBehind(_))
        {
            // The script's clients have gone by now, which may have ended the
            // program, too: only what was before counts.
            if (closed || self.had_exited(at))
                && let Some(exited) = self.ended()
            {
                fault = exited;
                got = None;
            } else if let Some(program) = &self.program
                && program.has_flooded()
            {
                fault = Fault::Flooded(OUTPUT_LIMIT);
                got = None;
            }
        }
        let mut stderr = Vec::new();
        let mut ended_well = false;
        if let Some(program) = &self.program {
            stderr = program.stderr();
            let status = program.status();
            daemon = status.is_some() && program.descendants() > 0;
            ended_well = status.is_some_and(|status| status.success());
        }
        let kind = match fault {
            Fault::TimedOut(_) => Some(Kind::Silent),
            Fault::UnexpectedEof { .. }
            | Fault::ConnectionReset
            | Fault::ConnectionRefused => Some(Kind::Closed),
            Fault::WrongByte { .. } | Fault::Unexpected(_) => Some(Kind::Wrong),
            Fault::Exited { .. } => Some(Kind::Exited),
            _ => None,
        };
        let hint = hints.iter().find(|(k, _)| match k {
            Kind::Ended => kind == Some(Kind::Exited) && ended_well,
            _ => Some(*k) == kind,
        });
        let general = if is_still_to_do(&text(&stderr)) {
            Some("still-to-do")
        } else if daemon || matches!(fault, Fault::LeftBehind(_)) {
            Some("leaves-children")
        } else if matches!(fault, Fault::Flooded(_)) {
            Some("floods")
        } else {
            None
        };
        let usual = match fault {
            Fault::Exited { .. } => Some("ended-by-itself"),
            Fault::TimedOut(_) => Some("hangs"),
            Fault::ConnectionRefused if !self.is_ours() => Some("nobody-there"),
            Fault::ConnectionRefused => Some("nobody-listens"),
            Fault::Io(_) if self.program.is_none() => Some("cannot-start"),
            _ => None,
        };
        let id = general.or(diagnosed).or(hint.map(|&(_, id)| id)).or(usual);
        let page = |id| match crate::section(exercise.stem(), id) {
            Some(_) => exercise.stem().to_owned(),
            None => CONTRACT.to_owned(),
        };
        Diagnosis {
            step: self.step,
            who: failure.who,
            wanted: failure.wanted,
            fault,
            complaint: text(&stderr),
            got,
            section: id.map(|id| (page(id), id)),
        }
    }
}

/// A TCP client in the script's hand.
pub(crate) struct Client(pub(crate) Peer, Timeline);

impl Client {
    fn name(&self) -> &str {
        self.0.name()
    }

    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> Result {
        Ok(self.0.send(bytes)?)
    }

    /// Receives exactly `wanted`. If something else comes, gathers all of it
    /// up to the end of the line.
    pub(crate) fn expect(&mut self, wanted: impl AsRef<[u8]>) -> Result {
        let Err(failure) = self.0.expect(wanted) else {
            return Ok(());
        };
        let wrong = matches!(*failure.fault, Fault::WrongByte { .. });
        let mut error = StepError::from(failure);
        if wrong {
            let mut got = Vec::new();
            let until = Instant::now() + ANSWER_TIME;
            while !got.contains(&b'\n')
                && got.len() < ANSWER_LIMIT
                && Instant::now() < until
            {
                match self.0.receive() {
                    Ok(more) => got.extend(more),
                    Err(_) => break,
                }
            }
            error.0.got = Some(got);
        }
        Err(error)
    }

    pub(crate) fn expect_end(&mut self) -> Result {
        Ok(self.0.expect_end()?)
    }

    /// Fails if anything has arrived that was not received. Does not wait.
    pub(crate) fn has_nothing_yet(&mut self) -> Result {
        if self.0.has_nothing()? {
            return Ok(());
        }
        let got = self.0.receive()?;
        let mut error = StepError::from(Failure {
            who: self.name().to_owned(),
            wanted: "wait".to_owned(),
            fault: Box::new(Fault::Unexpected(quote(&got))),
            timeline: self.1.clone(),
        });
        error.0.got = Some(got);
        Err(error)
    }

    /// Receives the end of the connection, by FIN or by RST, and nothing else.
    pub(crate) fn gone(&mut self) -> Result {
        match self.0.expect_end() {
            Err(failure) if *failure.fault == Fault::ConnectionReset => Ok(()),
            result => Ok(result?),
        }
    }

    /// True if the connection ends, by FIN, before very much has come.
    pub(crate) fn ends(&mut self) -> bool {
        let mut count = 0;
        while count < ANSWER_LIMIT {
            match self.0.receive() {
                Ok(more) => count += more.len(),
                Err(failure) => {
                    return matches!(
                        *failure.fault,
                        Fault::UnexpectedEof { .. }
                    );
                }
            }
        }
        false
    }

    pub(crate) fn half_close(&self) -> Result {
        Ok(self.0.half_close()?)
    }

    pub(crate) fn reset(self) -> Result {
        Ok(self.0.reset()?)
    }

    /// Ends both directions at once, even if a thread still sends.
    pub(crate) fn hang_up(self) {
        self.leave();
        self.0.close();
    }

    /// As [`Client::hang_up`], for one that is still wanted as a variable.
    pub(crate) fn leave(&self) {
        // Fails only if the other side was first.
        let _ = self.0.stream().shutdown(Shutdown::Both);
    }

    pub(crate) fn close(self) {
        self.0.close();
    }
}

/// A UDP client in the script's hand.
pub(crate) struct Datagrams {
    name: String,
    lab: Lab,
    peer: UdpPeer,
}

impl Datagrams {
    pub(crate) fn send(&self, datagram: impl AsRef<[u8]>) -> Result {
        Ok(self.peer.send(datagram)?)
    }

    /// Receives the datagram `wanted`.
    pub(crate) fn expect(&self, wanted: &[u8]) -> Result {
        let wanted_text = format!("receive the datagram {}", quote(wanted));
        let got = self.peer.receive().map_err(|failure| Failure {
            wanted: wanted_text.clone(),
            ..failure
        })?;
        if got == wanted {
            return Ok(());
        }
        let mut error = StepError::from(Failure {
            who: self.name.clone(),
            wanted: wanted_text,
            fault: Box::new(Fault::Unexpected(quote(&got))),
            timeline: self.lab.timeline().clone(),
        });
        error.0.got = Some(got);
        Err(error)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// True if the program has met a `todo!`, and not only says such words.
fn is_still_to_do(stderr: &str) -> bool {
    let lines: Vec<_> = stderr.lines().collect();
    lines.windows(2).any(|two| {
        two[0].contains(" panicked at ")
            && two[1].starts_with("not yet implemented")
    })
}
