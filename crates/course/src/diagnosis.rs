//! What a failed step means: by what came, by what the script says of it, and
//! by what the program shows.

use std::time::{Duration, Instant};

use harness::{Failure, Fault, quote};

/// What went wrong at the first step that failed.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// Its name.
    pub step: &'static str,
    /// When it began, as a time of the timeline.
    pub began: Duration,
    /// When it failed. What came later are the checker's questions.
    pub at: Duration,
    /// The program or client that waited.
    pub who: String,
    /// What it waited for, as the end of "wanted to ...".
    pub wanted: String,
    /// What came instead.
    pub fault: Fault,
    /// It was waited for a second time, and did not come either.
    pub again: bool,
    /// What the program has printed on standard error: all, if it has ended,
    /// and otherwise in this step.
    pub complaint: String,
    /// What came instead of an answer, if one came.
    pub got: Option<Vec<u8>>,
    /// The page (its file's stem) and the id of the section that says what
    /// this means; `None` if nobody knows.
    pub section: Option<(String, &'static str)>,
}

impl Diagnosis {
    /// True if what was waited for did not come in time.
    pub fn is_silence(&self) -> bool {
        matches!(self.fault, Fault::TimedOut(_))
    }
}

/// What came instead, as far as a script tells it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Symptom {
    /// Nothing came, and the program has not complained of anything: silence
    /// behind a complaint has the reason that the complaint tells.
    TimedOut,
    /// Nothing came, whatever the program has complained of.
    TimedOutAnyway,
    /// The connection was closed, reset or refused (a datagram, too), and the
    /// program still runs.
    Closed,
    /// As `Closed`, by a reset only.
    Reset,
    /// As `Closed`, because nobody listens.
    Refused,
    /// Something else came.
    Wrong,
    /// The program ended.
    Exited,
    /// The program ended, and thinks that all is well: with code 0.
    ExitedWell,
    /// The program ended, and not with code 0.
    Crashed,
}

impl Symptom {
    fn fits(self, fault: &Fault, seen: &Observation) -> bool {
        let silent = matches!(fault, Fault::TimedOut(_));
        let refused = *fault == Fault::ConnectionRefused;
        let reset = *fault == Fault::ConnectionReset;
        let exited = matches!(fault, Fault::Exited { .. });
        match self {
            Self::TimedOut => silent && !seen.complained,
            Self::TimedOutAnyway => silent,
            Self::Closed => {
                reset || refused || matches!(fault, Fault::UnexpectedEof { .. })
            }
            Self::Reset => reset,
            Self::Refused => refused,
            Self::Wrong => {
                matches!(fault, Fault::WrongByte { .. } | Fault::Unexpected(_))
            }
            Self::Exited => exited,
            Self::ExitedWell => exited && seen.exited_well,
            Self::Crashed => exited && !seen.exited_well,
        }
    }
}

/// A failure, and what it would mean. Boxed: an error should be small.
pub(crate) struct StepError(Box<Inner>);

struct Inner {
    failure: Failure,
    at: Instant,
    hints: Vec<(Symptom, &'static str)>,
    certain: Option<&'static str>,
    despite_complaint: bool,
}

/// What a step of a script ends in.
pub(crate) type Result<T = ()> = std::result::Result<T, StepError>;

impl From<Failure> for StepError {
    fn from(failure: Failure) -> Self {
        Self(Box::new(Inner {
            failure,
            at: Instant::now(),
            hints: Vec::new(),
            certain: None,
            despite_complaint: false,
        }))
    }
}

impl StepError {
    /// What came instead of the answer.
    pub(crate) fn got(&self) -> Option<&[u8]> {
        self.0.failure.got.as_deref()
    }

    /// True if this came, as far as the one who waited can tell. A part of an
    /// answer is not nothing.
    pub(crate) fn is(&self, symptom: Symptom) -> bool {
        let silent = matches!(*self.0.failure.fault, Fault::TimedOut(_));
        !(silent && self.got().is_some())
            && symptom.fits(&self.0.failure.fault, &Observation::default())
    }

    /// True if nothing more came, also if a part of the answer did.
    pub(crate) fn has_timed_out(&self) -> bool {
        matches!(*self.0.failure.fault, Fault::TimedOut(_))
    }

    /// True if the answer came, but for its newline.
    fn lacks_newline(&self) -> bool {
        let stopped = matches!(
            *self.0.failure.fault,
            Fault::TimedOut(_) | Fault::UnexpectedEof { .. }
        );
        let whole = |got: &[u8]| {
            let line = [got, b"\n"].concat();
            self.0.failure.wanted == format!("receive {}", quote(&line))
        };
        stopped && self.got().is_some_and(whole)
    }

    /// True if what came begins with this.
    pub(crate) fn begins_with(&self, text: impl AsRef<[u8]>) -> bool {
        self.got().is_some_and(|got| got.starts_with(text.as_ref()))
    }

    /// When it was noticed.
    pub(crate) fn at(&self) -> Instant {
        self.0.at
    }

    pub(crate) fn into_failure(self) -> Failure {
        self.0.failure
    }

    /// Says for certain what it means.
    pub(crate) fn certainly(mut self, id: &'static str) -> Self {
        self.0.certain = Some(id);
        self
    }

    /// Forgets what it would mean at another step.
    pub(crate) fn unnamed(mut self) -> Self {
        self.0.certain = None;
        self.0.hints.clear();
        self
    }

    /// What is said of it holds even if the program has complained meanwhile.
    pub(crate) fn despite_complaint(mut self) -> Self {
        self.0.despite_complaint = true;
        self
    }

    /// Says what it means if it comes from the end of the program.
    pub(crate) fn if_ended(mut self, id: &'static str) -> Self {
        self.0.hints.insert(0, (Symptom::Exited, id));
        self
    }
}

/// Says what an error means *at this step*, by the id of a section.
pub(crate) trait Diagnose<T>: Sized {
    /// The same, with room for what it means.
    fn step(self) -> Result<T>;

    /// This symptom means `id`. Of several, the first one that fits counts.
    fn diagnose(self, symptom: Symptom, id: &'static str) -> Result<T> {
        self.step().map_err(|mut error| {
            error.0.hints.push((symptom, id));
            error
        })
    }

    /// It certainly means `id` if `holds`, which may ask the program more.
    /// Nothing is asked if another meaning is certain already.
    fn diagnose_if(
        self,
        id: &'static str,
        holds: impl FnOnce(&StepError) -> bool,
    ) -> Result<T> {
        self.step().map_err(|error| {
            match error.0.certain.is_none() && holds(&error) {
                true => error.certainly(id),
                false => error,
            }
        })
    }

    /// As [`Diagnose::diagnose_if`], for what holds even if the program has
    /// complained: what came as soon as the right thing was done has not died.
    fn diagnose_if_cured(
        self,
        id: &'static str,
        is_cured: impl FnOnce(&StepError) -> bool,
    ) -> Result<T> {
        self.diagnose_if(id, is_cured).map_err(|error| {
            match error.0.certain == Some(id) {
                true => error.despite_complaint(),
                false => error,
            }
        })
    }

    /// It certainly means `id` if exactly `answer` came.
    fn diagnose_answer(
        self,
        answer: impl AsRef<[u8]>,
        id: &'static str,
    ) -> Result<T> {
        self.diagnose_if(id, |error| error.got() == Some(answer.as_ref()))
    }

    /// It certainly means `id` if what came begins with this.
    fn diagnose_beginning(
        self,
        beginning: impl AsRef<[u8]>,
        id: &'static str,
    ) -> Result<T> {
        self.diagnose_if(id, |error| error.begins_with(beginning))
    }

    /// True if it failed in this way: see [`StepError::is`].
    fn fails_with(self, symptom: Symptom) -> bool {
        self.step().is_err_and(|error| error.is(symptom))
    }
}

impl<T, E: Into<StepError>> Diagnose<T> for std::result::Result<T, E> {
    fn step(self) -> Result<T> {
        self.map_err(E::into)
    }
}

/// What the program shows when a step has failed.
#[derive(Clone, Default)]
pub(crate) struct Observation {
    /// The checker starts it; otherwise it runs elsewhere.
    pub(crate) is_ours: bool,
    /// The checker has started it.
    pub(crate) has_started: bool,
    /// How it ended, if that was before the failure, or with it.
    pub(crate) ended: Option<Fault>,
    /// It has ended with code 0, whenever that was.
    pub(crate) exited_well: bool,
    /// It has ended, and processes that it started go on.
    pub(crate) left_behind: bool,
    /// It has complained in the step that failed, before it failed.
    pub(crate) complained: bool,
    /// A thread of it has panicked in the step that failed, before it failed.
    pub(crate) panicked: bool,
    /// It has printed more than this many bytes, the limit.
    pub(crate) flooded: Option<usize>,
    /// All that it has printed on standard error.
    pub(crate) stderr: String,
}

/// What has happened, and the id of the section that says what it means.
///
/// Of these the first that holds, because it explains what comes behind it:
///
/// 1. the program has met a `todo!`;
/// 2. it has left processes behind;
/// 3. it has printed too much;
/// 4. an answer came without its newline;
/// 5. what the step says for certain (not of silence behind a complaint);
/// 6. what the step says of this symptom;
/// 7. a thread has panicked, and the program goes on;
/// 8. what the symptom means at every step.
pub(crate) fn diagnose(
    error: &StepError,
    seen: &Observation,
) -> (Fault, Option<&'static str>) {
    // Whoever has died, or complained of something, is silent for that reason.
    let silent = matches!(*error.0.failure.fault, Fault::TimedOut(_));
    let doubtful = silent
        && !error.0.despite_complaint
        && (seen.complained || seen.ended.is_some());
    let certain = error.0.certain.filter(|_| !doubtful);
    let fault = cause(error, seen, certain.is_some());
    let id = if is_still_to_do(&seen.stderr) {
        Some("still-to-do")
    } else if seen.left_behind || matches!(fault, Fault::LeftBehind(_)) {
        Some("leaves-children")
    } else if matches!(fault, Fault::Flooded(_)) {
        Some("floods")
    } else if error.lacks_newline() {
        Some("no-newline")
    } else {
        let partly =
            error.got().is_some() && matches!(fault, Fault::TimedOut(_));
        let mut hints = error.0.hints.iter().filter(|_| !partly);
        let hint = hints.find(|(symptom, _)| symptom.fits(&fault, seen));
        let hint = hint.map(|&(_, id)| id);
        certain.or(hint).or_else(|| usual(&fault, seen))
    };
    (fault, id)
}

/// What came, or why it came: a program that has ended closes its connections
/// and says nothing, and one that has printed too much is stopped. Not so if
/// the step is certain.
fn cause(error: &StepError, seen: &Observation, certain: bool) -> Fault {
    let fault = &*error.0.failure.fault;
    let is_cause =
        certain || matches!(fault, Fault::Flooded(_) | Fault::LeftBehind(_));
    match (&seen.ended, seen.flooded) {
        _ if is_cause => fault.clone(),
        (Some(ended), _) => ended.clone(),
        (None, Some(limit)) => Fault::Flooded(limit),
        (None, None) => fault.clone(),
    }
}

/// True if the program has met a `todo!`, and not only says such words.
fn is_still_to_do(stderr: &str) -> bool {
    let lines: Vec<_> = stderr.lines().collect();
    lines.windows(2).any(|two| {
        two[0].contains(" panicked at ")
            && two[1].starts_with("not yet implemented")
    })
}

/// Where the program has panicked last, as `FILE:LINE`, by what it has printed
/// on standard error.
pub(crate) fn panicked_at(stderr: &str) -> Option<&str> {
    stderr.lines().rev().find_map(|line| {
        let (thread, place) = line.split_once(" panicked at ")?;
        let (place, column) = place.strip_suffix(':')?.rsplit_once(':')?;
        let is_place = thread.starts_with("thread ")
            && column.parse::<u32>().is_ok()
            && place.rsplit_once(':')?.1.parse::<u32>().is_ok();
        is_place.then_some(place)
    })
}

fn usual(fault: &Fault, seen: &Observation) -> Option<&'static str> {
    let goes_on =
        seen.ended.is_none() && !matches!(fault, Fault::Exited { .. });
    if seen.panicked && goes_on {
        return Some("thread-panicked");
    }
    Some(match fault {
        Fault::Exited { .. } => "ended-by-itself",
        Fault::TimedOut(_) => "hangs",
        Fault::ConnectionRefused if seen.is_ours => "nobody-listens",
        Fault::ConnectionRefused => "nobody-there",
        Fault::Io(_) if !seen.has_started => "cannot-start",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::Symptom::{
        Closed, Crashed, Exited, ExitedWell, Reset, TimedOut, TimedOutAnyway,
        Wrong,
    };
    use super::*;

    fn failed(fault: Fault) -> Result {
        Err(harness::Lab::new().failure("a", "receive", fault).into())
    }

    fn silence() -> Fault {
        Fault::TimedOut(std::time::Duration::from_secs(2))
    }

    fn eof() -> Fault {
        Fault::UnexpectedEof { got: 0, wanted: 1 }
    }

    fn exited() -> Fault {
        Fault::Exited {
            status: "exit status: 1".to_owned(),
            stderr: String::new(),
        }
    }

    fn running() -> Observation {
        Observation {
            is_ours: true,
            has_started: true,
            ..Observation::default()
        }
    }

    fn todo() -> String {
        "thread 'main' panicked at a.rs:1:1:\nnot yet implemented\n".to_owned()
    }

    #[track_caller]
    fn assert_means(
        result: Result,
        seen: &Observation,
        fault: &Fault,
        id: Option<&str>,
    ) {
        let (found, means) = diagnose(&result.unwrap_err(), seen);
        assert_eq!((&found, means), (fault, id));
    }

    #[test]
    fn what_explains_more_comes_first() {
        // All at once, and one less each time.
        let result = || {
            failed(eof())
                .diagnose(Closed, "said-of-the-symptom")
                .diagnose(Exited, "said-of-the-end")
        };
        let mut seen = Observation {
            stderr: todo(),
            left_behind: true,
            ended: Some(exited()),
            flooded: Some(1),
            ..running()
        };
        assert_means(result(), &seen, &exited(), Some("still-to-do"));
        seen.stderr = "error: not yet implemented\n".to_owned();
        assert_means(result(), &seen, &exited(), Some("leaves-children"));
        seen.left_behind = false;
        assert_means(result(), &seen, &exited(), Some("said-of-the-end"));
        seen.ended = None;
        assert_means(result(), &seen, &Fault::Flooded(1), Some("floods"));
        seen.flooded = None;
        assert_means(result(), &seen, &eof(), Some("said-of-the-symptom"));
        assert_means(failed(eof()), &seen, &eof(), None);
    }

    #[test]
    fn what_is_certain_comes_before_what_the_program_does_later() {
        let certain = |fault| {
            failed(fault)
                .diagnose(Closed, "of-the-symptom")
                .diagnose_if("certain", |error| error.is(Closed))
                .diagnose_if("later", |_| panic!("nothing more is asked"))
        };
        let mut seen = Observation {
            ended: Some(exited()),
            flooded: Some(1),
            ..running()
        };
        assert_means(certain(eof()), &seen, &eof(), Some("certain"));
        seen.left_behind = true;
        assert_means(certain(eof()), &seen, &eof(), Some("leaves-children"));
        seen.stderr = todo();
        assert_means(certain(eof()), &seen, &eof(), Some("still-to-do"));

        let flooded = || {
            let result = failed(Fault::Flooded(9));
            result.diagnose_if("certain", |_| true)
        };
        let flood = Fault::Flooded(9);
        assert_means(flooded(), &running(), &flood, Some("floods"));
    }

    #[test]
    fn a_flood_and_processes_left_behind_need_no_cause() {
        let seen = Observation {
            ended: Some(exited()),
            ..running()
        };
        for (fault, id) in [
            (Fault::Flooded(9), "floods"),
            (Fault::LeftBehind(2), "leaves-children"),
        ] {
            assert_means(failed(fault.clone()), &seen, &fault, Some(id));
        }
    }

    #[test]
    fn a_symptom_means_only_what_is_said_of_it() {
        let wrong = Fault::Unexpected("b".to_owned());
        let well = Observation {
            exited_well: true,
            ..running()
        };
        let complaining = Observation {
            complained: true,
            ..running()
        };
        for (symptom, seen, fits) in [
            (TimedOut, running(), vec![silence()]),
            (
                Closed,
                running(),
                vec![eof(), Fault::ConnectionReset, Fault::ConnectionRefused],
            ),
            (Reset, running(), vec![Fault::ConnectionReset]),
            (Symptom::Refused, running(), vec![Fault::ConnectionRefused]),
            (Wrong, running(), vec![wrong.clone()]),
            (Exited, running(), vec![exited()]),
            (ExitedWell, running(), vec![]),
            (ExitedWell, well.clone(), vec![exited()]),
            (Crashed, running(), vec![exited()]),
            (Crashed, well, vec![]),
            (TimedOut, complaining.clone(), vec![]),
            (TimedOutAnyway, complaining, vec![silence()]),
        ] {
            for fault in [
                silence(),
                eof(),
                Fault::ConnectionReset,
                Fault::ConnectionRefused,
                wrong.clone(),
                exited(),
            ] {
                let result = failed(fault.clone()).diagnose(symptom, "id");
                let (_, id) = diagnose(&result.unwrap_err(), &seen);
                let said = id == Some("id");
                assert_eq!(said, fits.contains(&fault), "{symptom:?} {fault}");
            }
        }
        let twice = failed(silence())
            .diagnose(TimedOut, "first")
            .diagnose(TimedOut, "second");
        assert_means(twice, &running(), &silence(), Some("first"));
    }

    #[test]
    fn an_answer_is_recognised_to_the_byte() {
        let result = |got: &[u8]| {
            let fault = Fault::Unexpected("answer".to_owned());
            let failure = harness::Lab::new().failure("a", "receive", fault);
            Err(failure.with_got(got.into())).diagnose_answer("1\n", "id")
        };
        let id = |result: Result| diagnose(&result.unwrap_err(), &running()).1;
        assert_eq!(id(result(b"1\n")), Some("id"));
        assert_eq!(id(result(b"1\n\n")), None);
        assert_eq!(
            id(failed(silence()).diagnose_answer("", "id")),
            Some("hangs")
        );
    }

    #[test]
    fn an_answer_without_its_newline_is_no_silence() {
        let cut = |wanted: &[u8]| -> Result {
            let wanted = format!("receive {}", quote(wanted));
            let lab = harness::Lab::new();
            let failure = lab.failure("a", wanted, silence());
            Err(failure.with_got(b"1 x".into())).diagnose(TimedOut, "silence")
        };
        assert_means(cut(b"1 x\n"), &running(), &silence(), Some("no-newline"));
        assert_means(cut(b"1 xy\n"), &running(), &silence(), Some("hangs"));
    }

    #[test]
    fn a_panic_explains_what_no_step_does() {
        let seen = Observation {
            complained: true,
            panicked: true,
            ..running()
        };
        let named = Some("thread-panicked");
        assert_means(failed(eof()), &seen, &eof(), named);
        assert_means(failed(silence()), &seen, &silence(), named);
        let certain = failed(eof()).diagnose_if("certain", |_| true);
        assert_means(certain, &seen, &eof(), Some("certain"));
        let said = failed(eof()).diagnose(Closed, "of-the-symptom");
        assert_means(said, &seen, &eof(), Some("of-the-symptom"));
        let ended = Observation {
            ended: Some(exited()),
            ..seen
        };
        let by_itself = Some("ended-by-itself");
        assert_means(failed(eof()), &ended, &exited(), by_itself);
    }

    #[test]
    fn the_place_of_a_panic_is_the_last_one() {
        let said = "thread 'main' panicked at a.rs:1:2:\nx\n\
                    thread '<unnamed>' (7) panicked at C:\\b c.rs:30:4:\nx\n\
                    the mouse panicked at home:\n";
        assert_eq!(panicked_at(said), Some("C:\\b c.rs:30"));
        assert_eq!(panicked_at("somebody panicked at a.rs:1:2:\n"), None);
    }

    #[test]
    fn silence_behind_a_complaint_has_no_name() {
        let seen = Observation {
            complained: true,
            ..running()
        };
        let certain = || failed(silence()).diagnose_if("certain", |_| true);
        assert_means(certain(), &seen, &silence(), Some("hangs"));
        assert_means(certain(), &running(), &silence(), Some("certain"));
        let despite = certain().map_err(StepError::despite_complaint);
        assert_means(despite, &seen, &silence(), Some("certain"));
    }

    #[test]
    fn what_no_step_foresees_means_what_it_means_everywhere() {
        let elsewhere = Observation::default();
        let missing = Observation {
            is_ours: true,
            ..Observation::default()
        };
        let io = Fault::Io("No such file or directory".to_owned());
        for (fault, seen, id) in [
            (exited(), running(), Some("ended-by-itself")),
            (silence(), running(), Some("hangs")),
            (Fault::ConnectionRefused, running(), Some("nobody-listens")),
            (Fault::ConnectionRefused, elsewhere, Some("nobody-there")),
            (io.clone(), missing, Some("cannot-start")),
            (io, running(), None),
            (Fault::ConnectionReset, running(), None),
        ] {
            assert_means(failed(fault.clone()), &seen, &fault, id);
        }
    }
}
