//! One experiment: its deadline, its timeline, and who takes part.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::timeline::{Moment, Observer};
use crate::{Failure, Fault, Program, Result, Timeline, What};

/// Long enough for a busy machine; only a test that fails waits for it.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long [`Lab::wait_until`] leaves the processor to others between two
/// looks, at least.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// And this part of the time that it has waited already: a look at the kernel's
/// tables takes milliseconds.
const PART_OF_WAIT: u32 = 8;
/// More than any lesson prints in a test.
const OUTPUT_LIMIT: usize = 64 << 20;

/// Starts programs and makes peers that share a deadline and a timeline.
#[derive(Clone)]
pub struct Lab {
    pub(crate) timeout: Duration,
    pub(crate) timeline: Timeline,
    pub(crate) output_limit: usize,
    pub(crate) quick_acks: bool,
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Lab {
    /// A lab in which each wait may take 20 seconds.
    pub fn new() -> Self {
        Self {
            timeout: TIMEOUT,
            timeline: Timeline::new(),
            output_limit: OUTPUT_LIMIT,
            quick_acks: false,
        }
    }

    /// The same lab, in which each wait may take `timeout`.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How long each wait may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same lab, in which a program that prints more than `bytes` on one
    /// of its two outputs is said to flood (64 MiB otherwise).
    pub fn with_output_limit(self, bytes: usize) -> Self {
        Self {
            output_limit: bytes,
            ..self
        }
    }

    /// The same lab, in which a peer acknowledges at once what it waits for
    /// (on Linux): an answer in two writes then costs no 40 ms, because the
    /// second one waits for that (RFC 896).
    pub fn with_quick_acks(self) -> Self {
        Self {
            quick_acks: true,
            ..self
        }
    }

    /// The same lab, with an empty timeline of its own.
    pub fn unseen(&self) -> Self {
        Self {
            timeline: Timeline::new(),
            ..self.clone()
        }
    }

    /// The same lab, whose moments are told to `observer`.
    pub fn with_observer(self, observer: Observer) -> Self {
        let timeline = self.timeline.with_observer(observer);
        Self { timeline, ..self }
    }

    /// Tells the observer, if there is one, what begins now.
    pub fn begin_chapter(&self, name: &str) {
        self.timeline.tell(Moment::Chapter(name));
    }

    /// What was seen so far.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Adds a remark to the timeline.
    pub fn note(&self, text: impl Into<String>) {
        self.timeline.add("note", What::Note(text.into()));
    }

    /// Starts the program at `path`. Does not wait for anything.
    ///
    /// # Errors
    /// [`Fault::Io`] if it cannot be started.
    pub fn start(
        &self,
        name: &str,
        path: &Path,
        args: &[&str],
    ) -> Result<Program> {
        let mut command = Command::new(path);
        command.args(args);
        self.start_command(name, command)
    }

    /// Looks at `condition` again and again until it holds. Only for what the
    /// kernel tells nobody about, such as the state of a socket in its tables:
    /// everything else has an event to wait for.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] at the deadline.
    pub fn wait_until(
        &self,
        wanted: &str,
        mut condition: impl FnMut() -> bool,
    ) -> Result {
        let began = Instant::now();
        while !condition() {
            let waited = began.elapsed();
            if waited > self.timeout {
                let fault = Fault::TimedOut(self.timeout);
                return Err(self.failure("lab", wanted, fault));
            }
            thread::park_timeout(LOOK_AGAIN.max(waited / PART_OF_WAIT));
        }
        Ok(())
    }

    /// What a step of the test's own ends in.
    pub fn failure(
        &self,
        who: &str,
        wanted: impl Into<String>,
        fault: impl Into<Fault>,
    ) -> Failure {
        let failure = Failure {
            who: who.to_owned(),
            wanted: wanted.into(),
            fault: Box::new(fault.into()),
            got: None,
            timeline: self.timeline.clone(),
        };
        self.timeline.tell(Moment::Failure(&failure));
        failure
    }
}
