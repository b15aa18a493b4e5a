//! One run of a script: the program, its clients, and what went wrong.

use std::cell::Cell;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use harness::{Event, Failure, Fault, Lab, Peer, Program, UdpPeer, What, proc};

use crate::diagnosis::{
    Diagnose, Diagnosis, Observation, Result, StepError, Symptom, diagnose,
    panicked_at,
};
use crate::page::CONTRACT;
use crate::{Exercise, Mistake};

/// The name of the checked program in the timeline.
const PROGRAM: &str = "program";
/// A program that prints more is stopped. Who prints each word and each answer of
/// exercise 03 needs nearly 16 MiB.
const OUTPUT_LIMIT: usize = 16 << 20;
/// So many timeouts may pass before the first line: a virtual machine starts, a
/// scanner of viruses looks at the program, the machine is busy.
const START: u32 = 5;
/// A program that has worked for this part of the time is still starting, and
/// may take so many times as long.
const MUCH_WORK: u32 = 10;
const STILL_AT_WORK: u32 = 3;
/// What is caused comes in this part of a timeout.
const AT_ONCE: u32 = 4;
/// The longest grace period that is noticed, if the timeout is not shorter.
const PAUSE: Duration = Duration::from_secs(6);
/// More clients than any step has before its rude ones.
const GOOD_CLIENTS: usize = 60;
/// How much a client sends that reads no answer.
const MANY_LINES: usize = 1_000;
/// A connection may end a moment before its program does.
pub(crate) const MOMENT: Duration = Duration::from_millis(300);
/// The same, where the end is looked for because the connection has ended.
const LONG_MOMENT: Duration = Duration::from_secs(1);
/// What a rude client says before it resets its connection.
pub(crate) const HALF: &str = "half a li";
/// What a complaint has in it, in most languages.
const COMPLAINTS: [&str; 9] = [
    "panicked",
    "traceback",
    "exception",
    "error",
    "fatal",
    "abort",
    "fail",
    "overflow",
    "segmentation",
];
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

impl Report {
    /// True if nothing went wrong.
    pub fn passes(&self) -> bool {
        self.diagnosis.is_none()
    }
}

/// A step that was not tried.
#[derive(Clone)]
pub struct Skipped {
    /// Its name.
    pub step: &'static str,
    /// The reason, as the end of a sentence.
    pub why: &'static str,
}

/// How a client may behave.
#[derive(Clone, Copy)]
pub(crate) enum Rude {
    /// Resets its connection behind the first half of a line.
    ResetsInALine,
    /// Resets its connection before anybody has accepted it, if the program is
    /// the checker's (on Unix).
    ResetsAtOnce,
    /// Sends many lines, reads no answer, and closes, before anybody has
    /// accepted it, likewise.
    ReadsNothing,
}

impl Rude {
    pub(crate) const ALL: [Self; 3] =
        [Self::ResetsInALine, Self::ResetsAtOnce, Self::ReadsNothing];
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
    step_began: Duration,
    start_took: Option<Duration>,
    started: Instant,
    passed: Vec<&'static str>,
    skipped: Vec<Skipped>,
    rng: fastrand::Rng,
    /// Something was waited for a second time, and did not come either.
    again: Cell<bool>,
}

/// Checks `target`, with the script of `exercise`.
pub fn check(exercise: &Exercise, target: &Target, options: Options) -> Report {
    check_in(Lab::new(), exercise, target, options)
}

/// As [`check`], in a lab that may have an observer.
pub(crate) fn check_in(
    lab: Lab,
    exercise: &Exercise,
    target: &Target,
    options: Options,
) -> Report {
    let began = Instant::now();
    let lab = lab
        .with_timeout(options.timeout)
        .with_output_limit(OUTPUT_LIMIT)
        .with_quick_acks();
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
        step_began: Duration::ZERO,
        start_took: None,
        started: began,
        passed: Vec::new(),
        skipped: Vec::new(),
        rng,
        again: Cell::new(false),
    };
    let result = (exercise.script)(&mut check).and_then(|()| check.end());
    let diagnosis = result.err().map(|error| check.explain(exercise, error));
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
        self.step_began = self.lab.timeline().time(Instant::now());
        self.lab.begin_chapter(name);
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

    pub(crate) fn connect(&self, name: &str) -> harness::Result<Peer> {
        self.lab.connect(name, self.addr)
    }

    /// As [`Lab::connect_small`].
    pub(crate) fn connect_small(&self, name: &str) -> harness::Result<Peer> {
        self.lab.connect_small(name, self.addr)
    }

    pub(crate) fn udp(&self, name: &str) -> harness::Result<UdpPeer> {
        let mut client = self.lab.udp(name, self.addr)?;
        if let Some(program) = &self.program {
            client.depend_on(program.ending());
        }
        Ok(client)
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
        let again = self.time_to_start();
        self.started = Instant::now();
        let program = self.program.insert(self.spawn(PROGRAM, addr)?);
        program.set_timeout(match self.start_took {
            None => self.lab.timeout() * START,
            Some(_) => again,
        });
        let mut heard = program.wait_until_listening();
        program.set_timeout(self.lab.timeout());
        let longest = self.lab.timeout() * START * STILL_AT_WORK;
        while heard.as_ref().is_err_and(is_silence)
            && self.started.elapsed() < longest
            && is_at_work(program, self.started)
        {
            heard = program.wait_until_listening();
        }
        let heard = heard.map_err(|failure| Failure {
            wanted: "print `listening on IP:PORT` first".to_owned(),
            ..failure
        });
        self.start_took.get_or_insert(self.started.elapsed());
        let any = SocketAddr::new(self.ip, 0);
        let asked: SocketAddr = addr.parse().unwrap_or(any);
        let said = heard
            // Also if it ends then: whether that is seen here is chance.
            .diagnose_if("first-line", |error| error.is(Symptom::Wrong))
            .diagnose(Symptom::TimedOut, "says-nothing")?;
        if said.port() == 0 {
            let fault = Fault::Unexpected(format!("listening on {said}"));
            return Err(self
                .error(PROGRAM, "print the port that it got", fault)
                .certainly("prints-port-0"));
        }
        // A socket for both families may call 127.0.0.1 `::ffff:127.0.0.1`.
        let said = SocketAddr::new(said.ip().to_canonical(), said.port());
        let port_fits = match asked.port() {
            0 => said.port() != DEFAULT_PORT,
            port => said.port() == port,
        };
        // The only name that is asked for is `localhost`.
        let ip_fits = match addr.parse::<SocketAddr>() {
            Ok(asked) => said.ip() == asked.ip(),
            Err(_) => said.ip().is_loopback(),
        };
        if !ip_fits || !port_fits {
            let wanted = format!("listen on {asked}, as it was told");
            let fault = Fault::Unexpected(said.to_string());
            return Err(self
                .error(PROGRAM, wanted, fault)
                .certainly("ignores-its-argument"));
        }
        self.addr = said;
        Ok(())
    }

    /// How long a copy of the program may take to start.
    pub(crate) fn time_to_start(&self) -> Duration {
        self.lab.timeout() + self.start_took.unwrap_or_default() * START
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

    /// Lets the usual timeout pass, or less if the program ends.
    pub(crate) fn pause(&self) {
        self.is_over_within(self.lab.timeout().min(PAUSE));
    }

    /// As [`Check::pause`], for the end of a program that is about to end.
    pub(crate) fn pause_for_an_end(&self) {
        self.is_over_within(MOMENT);
    }

    fn is_over_within(&self, time: Duration) -> bool {
        let is_over = || self.program.as_ref().is_some_and(Program::is_over);
        self.comes_within(time, is_over)
    }

    /// True if `condition` holds before this time has passed.
    pub(crate) fn comes_within(
        &self,
        time: Duration,
        condition: impl FnMut() -> bool,
    ) -> bool {
        let lab = self.lab.clone().with_timeout(time);
        lab.wait_until("let time pass", condition).is_ok()
    }

    /// True if what `client` waits for comes by `cure`: it does not come by
    /// itself in another timeout, and it comes at once after it. (What is late
    /// would have come without it.)
    pub(crate) fn is_cured(
        &self,
        client: &mut Peer,
        wait: impl Fn(&mut Peer) -> harness::Result,
        cure: impl FnOnce(&mut Peer) -> bool,
    ) -> bool {
        if !wait(client).fails_with(Symptom::TimedOut) {
            return false;
        }
        self.again.set(true);
        if !cure(client) {
            return false;
        }
        client.set_timeout(self.lab.timeout() / AT_ONCE);
        let came = wait(client).is_ok();
        client.set_timeout(self.lab.timeout());
        came
    }

    /// Waits until the program has received what `client` has sent, where the
    /// system tells; elsewhere for a moment.
    pub(crate) fn wait_until_read(&self, client: &Peer) -> Result {
        let (local, addr) = (client.local_addr()?, self.addr);
        if !cfg!(target_os = "linux") {
            self.pause_for_an_end();
        }
        Ok(self.lab.wait_until("see the program read it", || {
            // Behind the acknowledgement there is nothing on its way any more.
            proc::queues(addr, local)
                .is_none_or(|[unread, _, _, unsent]| unread + unsent == 0)
        })?)
    }

    /// True if the program ends in the time that an effect takes.
    pub(crate) fn ends_at_once(&mut self) -> bool {
        let timeout = self.lab.timeout();
        self.program.as_mut().is_some_and(|program| {
            program.set_timeout(timeout / AT_ONCE);
            let ended = program.exit().is_ok();
            program.set_timeout(timeout);
            ended
        })
    }

    /// A client that goes as it likes: contract rule 4. It says `line`, which
    /// is answered with `answer`; the server may speak first.
    pub(crate) fn rude(
        &self,
        how: Rude,
        greeting: &str,
        line: &str,
        answer: &str,
    ) -> Result {
        match how {
            Rude::ResetsInALine => {
                let mut rude = self.connect("rude")?;
                rude.expect(greeting)?;
                rude.send(format!("{line}{HALF}"))?;
                rude.expect(answer)?;
                Ok(rude.reset()?)
            }
            Rude::ResetsAtOnce => {
                self.while_stopped(|| self.connect("rude")?.reset())
            }
            Rude::ReadsNothing => self.while_stopped(|| {
                let rude = self.connect("rude")?;
                // Fails if a program elsewhere was quicker in closing.
                let _ = rude.send(line.repeat(MANY_LINES));
                rude.close();
                Ok(())
            }),
        }
    }

    /// The program, if it is the checker's, is stopped, and notices what `act`
    /// does when it is over.
    pub(crate) fn while_stopped(
        &self,
        act: impl FnOnce() -> harness::Result,
    ) -> Result {
        let Some(program) = &self.program else {
            return Ok(act()?);
        };
        program.suspend();
        let stopped = || proc::is_stopped(program.id()) != Some(false);
        let done = self
            .lab
            .wait_until("stop for a moment", stopped)
            .and_then(|()| act());
        program.resume();
        Ok(done?)
    }

    /// A good client must be served after a rude one. If it is not, is it the
    /// rude one that ends the program? Started anew, it must serve many good
    /// clients and end with the rude one again. (The report is about the first
    /// run.) Otherwise it has ended for another reason: by the number of its
    /// clients, for instance.
    pub(crate) fn survives(
        &mut self,
        good: impl Fn(&mut Self) -> Result,
        rude: impl Fn(&mut Self) -> Result,
    ) -> Result {
        let Err(error) = rude(self).and_then(|()| good(self)) else {
            return Ok(());
        };
        Err(self.ends_with("dies-with-client", error, good, rude))
    }

    pub(crate) fn ends_with(
        &mut self,
        id: &'static str,
        error: StepError,
        good: impl Fn(&mut Self) -> Result,
        rude: impl Fn(&mut Self) -> Result,
    ) -> StepError {
        let Some(first) = self.program.take() else {
            return error;
        };
        let ended = || first.status().is_some();
        let has_ended = self.comes_within(LONG_MOMENT, ended);
        let unseen = self.lab.unseen();
        let (addr, lab) = (self.addr, std::mem::replace(&mut self.lab, unseen));
        // Nor may it end by its time, or by the number of its clients.
        let (started, lifetime) = (self.started, self.started.elapsed());
        let serves_long = |check: &mut Self| {
            (0..GOOD_CLIENTS).all(|_| good(check).is_ok())
                && !check.is_over_within(2 * lifetime)
                && good(check).is_ok()
        };
        let again =
            has_ended && self.start_anew().is_ok() && serves_long(self) && {
                let _ = rude(self).and_then(|()| good(self));
                self.is_over_within(self.lab.timeout())
            };
        (self.program, self.addr, self.lab) = (Some(first), addr, lab);
        self.started = started;
        if !again {
            return error;
        }
        self.note(
            "the checker started it again: it served many clients that left \
             politely, and ended when one left like this",
        );
        error.if_ended(id)
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
        self.lab.failure(who, wanted, fault).into()
    }
}

// Before, after, and what it means.
impl Check {
    /// The first step of each script.
    pub(crate) fn begin(&mut self) -> Result {
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
    pub(crate) fn nothing_is_left(&self) -> Result {
        let Some(program) = &self.program else {
            return Ok(());
        };
        if self.comes_within(MOMENT, || program.descendants() == 0) {
            return Ok(());
        }
        let fault = Fault::LeftBehind(program.descendants());
        Err(self.error(PROGRAM, "leave nothing behind", fault))
    }

    /// True if the program's end was seen before `time`. (Others of its name
    /// may have ended before it.)
    fn had_exited(&self, time: Instant) -> bool {
        let events = self.lab.timeline().events();
        events.iter().any(|event| {
            event.who == PROGRAM
                && matches!(event.what, What::Exited(_))
                && (self.started..=time).contains(&(self.began + event.at))
        })
    }

    /// True if the program has printed something like a complaint on standard
    /// error, in this step and before `time`. (Others print there what they do:
    /// that explains no silence.)
    fn complained(&self, time: Instant) -> bool {
        let events = self.lab.timeline().events();
        let said = events.iter().filter_map(|event| match &event.what {
            What::Complained(text)
                if event.who == PROGRAM
                    && event.at >= self.step_began
                    && self.began + event.at <= time =>
            {
                Some(text.to_string().to_lowercase())
            }
            _ => None,
        });
        let said: String = said.collect();
        COMPLAINTS.iter().any(|word| said.contains(word))
    }

    /// How the program ended, if it did.
    fn ended(&self) -> Option<Fault> {
        let program = self.program.as_ref()?;
        let status: ExitStatus = program.status()?;
        // The rest of what it said may still be on its way, but a process
        // that it left behind may keep its outputs open.
        self.comes_within(MOMENT, || program.is_over());
        Some(Fault::Exited {
            status: status.to_string(),
            stderr: text(&program.stderr()),
        })
    }

    /// Asks the program what the error cannot know.
    fn observe(&self, error: &StepError) -> Observation {
        let is_ours = self.is_ours();
        let Some(program) = &self.program else {
            return Observation {
                is_ours,
                ..Observation::default()
            };
        };
        let closed = error.is(Symptom::Closed);
        if closed {
            self.comes_within(LONG_MOMENT, || program.status().is_some());
        }
        // The script's clients have gone by now, which may have ended the
        // program, too: only what was before counts.
        let counts = closed || self.had_exited(error.at());
        let ended = counts.then(|| self.ended()).flatten();
        let status = program.status();
        let complained = self.complained(error.at());
        let stderr = text(&program.stderr());
        // Another thread reads it, perhaps a moment after the end of the
        // connection that a panic has closed.
        let late = if closed { MOMENT } else { Duration::ZERO };
        let failed = self.lab.timeline().time(error.at());
        let (before, until) = self.lengths(failed + late);
        let now = stderr.get(before..until.min(stderr.len()));
        Observation {
            is_ours,
            has_started: true,
            ended,
            exited_well: status.is_some_and(|status| status.success()),
            complained,
            panicked: now.is_some_and(|said| panicked_at(said).is_some()),
            left_behind: status.is_some() && program.descendants() > 0,
            flooded: program.has_flooded().then_some(OUTPUT_LIMIT),
            stderr,
        }
    }

    /// How much the program had printed on standard error before this step,
    /// and when the step failed.
    fn lengths(&self, failed: Duration) -> (usize, usize) {
        let events = self.lab.timeline().events();
        let life = events.iter().rev().take_while(|event| {
            !(event.who == PROGRAM && matches!(event.what, What::Started(_)))
        });
        let (mut before, mut until) = (0, 0);
        for event in life.filter(|event| event.who == PROGRAM) {
            let What::Complained(text) = &event.what else {
                continue;
            };
            before += text.length() * usize::from(event.at < self.step_began);
            until += text.length() * usize::from(event.at <= failed);
        }
        (before, until)
    }

    /// What the program, which goes on, had printed of `stderr` when a step
    /// failed: in this step, since that earlier clients have left explains
    /// nothing; or ever, if a thread has died.
    fn complaint<'a>(&self, stderr: &'a str, failed: Duration) -> &'a str {
        let (before, until) = self.lengths(failed);
        let said = stderr.get(..until).unwrap_or(stderr);
        let has_died =
            said.contains(" panicked at ") || said.contains("Traceback");
        match said.get(before..) {
            Some(now) if !has_died => now,
            _ => said,
        }
    }

    fn explain(&self, exercise: &Exercise, error: StepError) -> Diagnosis {
        let seen = self.observe(&error);
        let (fault, id) = diagnose(&error, &seen);
        let at = error.at();
        let failure = error.into_failure();
        let timeline = self.lab.timeline();
        let failed = timeline.time(at);
        let complaint = match fault {
            Fault::Exited { .. } if failure.who != "second copy" => {
                seen.stderr.as_str()
            }
            _ if id == Some("thread-panicked") => {
                self.complaint(&seen.stderr, failed + MOMENT)
            }
            _ => self.complaint(&seen.stderr, failed),
        };
        let page = |id| match crate::section(exercise.stem(), id) {
            Some(_) => exercise.stem().to_owned(),
            None => CONTRACT.to_owned(),
        };
        Diagnosis {
            step: self.step,
            began: self.step_began,
            at: failed,
            who: failure.who,
            wanted: failure.wanted,
            got: failure.got.filter(|_| fault == *failure.fault),
            fault,
            again: self.again.get(),
            complaint: complaint.to_owned(),
            section: id.map(|id| (page(id), id)),
        }
    }
}

pub(crate) fn is_silence(failure: &Failure) -> bool {
    matches!(*failure.fault, Fault::TimedOut(_))
}

/// True if the program has used much of the processor since it was started, or
/// wanted to, where the system tells: a compiler may be at work, or others.
fn is_at_work(program: &Program, started: Instant) -> bool {
    let wanted = harness::proc::wanted_time(program.id());
    wanted.is_some_and(|wanted| wanted > started.elapsed() / MUCH_WORK)
}

/// Receives the end of the connection, by FIN or by RST, and nothing else.
pub(crate) fn expect_gone(peer: &mut Peer) -> Result {
    match peer.expect_end() {
        Err(failure) if *failure.fault == Fault::ConnectionReset => Ok(()),
        result => Ok(result?),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
