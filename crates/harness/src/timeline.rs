//! What was seen, by whom, and when.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Failure;

/// How many bytes of a message an [`Event`] keeps, and so shows.
const SHOWN_BYTES: usize = 60;
/// How many bytes of its end.
const END_BYTES: usize = 15;
/// How many events a printed timeline shows, the newest ones.
const SHOWN_EVENTS: usize = 40;
/// How many events are kept; a program that floods costs no more memory.
const KEPT_EVENTS: usize = 4096;
/// So many of them are the first ones, which say how it began.
const KEPT_FIRST: usize = 2;

/// The events of one lab, in the order in which they were seen.
///
/// A clone is the same timeline. Times are seconds since the lab was made.
#[derive(Clone)]
pub struct Timeline {
    began: Instant,
    log: Arc<Mutex<Log>>,
    observer: Option<Observer>,
}

/// Told of each moment, by the thread whose moment it is, which waits.
pub type Observer = Arc<dyn Fn(Moment<'_>) + Send + Sync>;

/// What an [`Observer`] is told.
#[derive(Clone, Copy, Debug)]
pub enum Moment<'a> {
    /// A name for what comes.
    Chapter(&'a str),
    /// Something was seen, or is about to be done.
    Event(&'a Event),
    /// Something that was waited for has not come.
    Failure(&'a Failure),
}

#[derive(Default)]
struct Log {
    events: std::collections::VecDeque<Event>,
    forgotten: usize,
}

/// One line of a timeline.
#[derive(Clone, Debug)]
pub struct Event {
    /// Time since the lab was made.
    pub at: Duration,
    /// The name that the test gave to the program or peer.
    pub who: String,
    /// What happened.
    pub what: What,
}

/// What an event was.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each name says it, and Display the rest")]
pub enum What {
    Started(String),
    Printed(Excerpt),
    Complained(Excerpt),
    Typed(Excerpt),
    EndedInput,
    Signalled(&'static str),
    Exited(String),
    Killed,
    Connected { from: String, to: String },
    Sent(Excerpt),
    Received(Excerpt),
    HalfClosed,
    HungUp,
    SawEnd,
    SawReset,
    Closed,
    Reset,
    Note(String),
}

/// The beginning of a message, its end, and its length.
#[derive(Clone, Debug)]
pub struct Excerpt {
    start: Vec<u8>,
    end: Vec<u8>,
    length: usize,
}

impl From<&[u8]> for Excerpt {
    fn from(bytes: &[u8]) -> Self {
        Self {
            start: bytes[..bytes.len().min(SHOWN_BYTES)].to_vec(),
            end: bytes[bytes.len().saturating_sub(END_BYTES)..].to_vec(),
            length: bytes.len(),
        }
    }
}

impl Excerpt {
    /// What is kept of the message, as it came.
    pub fn text(&self) -> String {
        let start = String::from_utf8_lossy(&self.start);
        let dots = if self.length > self.start.len() {
            "..."
        } else {
            ""
        };
        format!("{start}{dots}")
    }

    /// Both ends of a message that is not all kept, with at most `width`
    /// characters of its beginning; `None` if it is.
    pub fn ends(&self, width: usize) -> Option<String> {
        if self.length <= self.start.len() + self.end.len() {
            return None;
        }
        let start: String = escape(&self.start).chars().take(width).collect();
        let (end, length) = (escape(&self.end), self.length);
        Some(format!("\"{start}...{end}\" ({length} bytes)"))
    }

    /// How long the message was, in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The message, if all of it is kept.
    pub fn whole(&self) -> Option<&[u8]> {
        (self.length == self.start.len()).then_some(&self.start)
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length == self.start.len() {
            return write!(f, "\"{}\"", escape(&self.start));
        }
        // An escape takes the room of up to four characters.
        let fits = |count: &usize| {
            escape(&self.start[..*count]).chars().count() <= SHOWN_BYTES
        };
        let count = (0..=self.start.len()).rev().find(fits);
        let start = escape(&self.start[..count.unwrap_or_default()]);
        write!(f, "\"{start}\"... ({} bytes)", self.length)
    }
}

/// `bytes` as an event shows them: quoted, escaped, cut if long.
pub fn quote(bytes: &[u8]) -> String {
    Excerpt::from(bytes).to_string()
}

/// Text as it is, and what a terminal would not show as an escape.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\0' => out.push_str("\\0"),
                '\n' | '\r' | '\t' | '\\' | '"' => {
                    out.extend(c.escape_default());
                }
                c if c.is_ascii_control() => {
                    out.push_str(&format!("\\x{:02x}", u32::from(c)));
                }
                c if c.is_control() => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(command) => write!(f, "started: {command}"),
            Self::Printed(text) => write!(f, "printed {text}"),
            Self::Complained(text) => write!(f, "printed on stderr {text}"),
            Self::Typed(text) => write!(f, "was typed {text}"),
            Self::EndedInput => write!(f, "was told: end of input"),
            Self::Signalled(name) => write!(f, "was sent {name}"),
            Self::Exited(status) => write!(f, "exited: {status}"),
            Self::Killed => write!(f, "was killed by the harness"),
            Self::Connected { from, to } => {
                write!(f, "connected {from} -> {to}")
            }
            Self::Sent(bytes) => write!(f, "sent {bytes}"),
            Self::Received(bytes) => write!(f, "received {bytes}"),
            Self::HalfClosed => write!(f, "half-closed: sends no more"),
            Self::HungUp => write!(f, "hung up: ended both directions"),
            Self::SawEnd => write!(f, "received the end of the stream"),
            Self::SawReset => write!(f, "received a reset"),
            Self::Closed => write!(f, "closed"),
            Self::Reset => write!(f, "reset the connection"),
            Self::Note(text) => write!(f, "{text}"),
        }
    }
}

impl Timeline {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            log: Arc::default(),
            observer: None,
        }
    }

    pub(crate) fn with_observer(self, observer: Observer) -> Self {
        let observer = Some(observer);
        Self { observer, ..self }
    }

    pub(crate) fn tell(&self, moment: Moment<'_>) {
        if let Some(observer) = &self.observer {
            observer(moment);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // A panic elsewhere leaves the log whole: only pushes happen here.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event, now.
    pub fn add(&self, who: &str, what: What) {
        let mut log = self.lock();
        let at = self.began.elapsed();
        if log.events.len() == KEPT_EVENTS {
            log.events.remove(KEPT_FIRST);
            log.forgotten += 1;
        }
        let event = Event {
            at,
            who: who.to_owned(),
            what,
        };
        let told = self.observer.is_some().then(|| event.clone());
        log.events.push_back(event);
        drop(log);
        if let Some(event) = told {
            self.tell(Moment::Event(&event));
        }
    }

    /// What an event at this moment has as its time.
    pub fn time(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.began)
    }

    /// A copy of the events kept, oldest first (at most 4,096, the first two and
    /// the newest).
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.iter().cloned().collect()
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.lock();
        let width = log.events.iter().map(|e| e.who.len()).max().unwrap_or(0);
        let skipped = log.events.len().saturating_sub(SHOWN_EVENTS);
        if skipped + log.forgotten > 0 {
            writeln!(f, "  ({} earlier events)", skipped + log.forgotten)?;
        }
        for Event { at, who, what } in log.events.iter().skip(skipped) {
            let at = at.as_secs_f64();
            writeln!(f, "  {at:7.3} s  {who:width$}  {what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_with_time_who_and_what() {
        let timeline = Timeline::new();
        timeline.add("a", What::Sent(b"h\xffi\n\x1b".as_slice().into()));
        timeline.add("server", What::Printed("你".as_bytes().into()));
        let text = timeline.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with(" s  a       sent \"h\\xffi\\n\\x1b\""));
        assert!(lines[1].ends_with(" s  server  printed \"你\""));
    }

    #[test]
    fn a_long_message_is_cut_and_its_length_told() {
        let excerpt = Excerpt::from([b'x'; 100].as_slice());
        assert!(excerpt.to_string().ends_with("xxx\"... (100 bytes)"));
        let binary = Excerpt::from([0xff; 100].as_slice()).to_string();
        assert_eq!(binary.len(), excerpt.to_string().len());
        let bytes = [[b'x'; 80].as_slice(), b"abc 1234\n"].concat();
        let ends = Excerpt::from(&bytes[..]).ends(3);
        assert_eq!(ends.unwrap(), "\"xxx...xxxxxxabc 1234\\n\" (89 bytes)");
        assert!(Excerpt::from(&bytes[10..70]).ends(3).is_none());
    }

    #[test]
    fn of_a_flood_of_events_the_beginning_and_the_end_are_kept() {
        let timeline = Timeline::new();
        for n in 0..KEPT_EVENTS + 5 {
            timeline.add("a", What::Note(n.to_string()));
        }
        let events = timeline.events();
        assert_eq!(events.len(), KEPT_EVENTS);
        let notes: Vec<_> = events.iter().map(|e| e.what.to_string()).collect();
        assert_eq!(notes[..3], ["0", "1", "7"]);
        assert!(timeline.to_string().starts_with("  (4061 earlier events)"));
    }
}
