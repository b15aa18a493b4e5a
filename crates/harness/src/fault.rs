//! What can go wrong, by kind.

use std::time::Duration;
use std::{fmt, io};

use crate::Timeline;

/// What a step of a test or a check ends in.
pub type Result<T = ()> = std::result::Result<T, Failure>;

/// What came instead of what was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The program ended; `stderr` is what it complained about.
    Exited {
        /// As the system prints it, for example `exit status: 101`.
        status: String,
        /// The last of its standard error, not yet expected by anybody.
        stderr: String,
    },
    /// Nobody listens there (`ECONNREFUSED`).
    ConnectionRefused,
    /// The other side sent RST (`ECONNRESET`, or `EPIPE` after it).
    ConnectionReset,
    /// The stream ended before the awaited bytes had come.
    UnexpectedEof {
        /// How many of them had come.
        got: usize,
        /// How many were awaited.
        wanted: usize,
    },
    /// A byte differs from the awaited one.
    WrongByte {
        /// Where, counted from 0 in what was awaited by this step.
        offset: usize,
        /// What came, as text, around that place.
        got: String,
        /// What was awaited, around that place.
        wanted: String,
    },
    /// Something came where the end was awaited, or another text.
    Unexpected(String),
    /// Nothing (more) came, or nothing more was taken, until the deadline.
    TimedOut(Duration),
    /// The program printed more than the harness is willing to keep.
    Flooded(usize),
    /// So many processes that the program started outlived it.
    LeftBehind(usize),
    /// It could not be started, or the machine said no.
    Io(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused => Self::ConnectionRefused,
            Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe => Self::ConnectionReset,
            _ => Self::Io(error.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { status, stderr } if stderr.is_empty() => {
                write!(f, "the program ended ({status})")
            }
            Self::Exited { status, stderr } => {
                write!(f, "the program ended ({status}): {}", stderr.trim())
            }
            Self::ConnectionRefused => {
                write!(f, "connection refused: nobody listens")
            }
            Self::ConnectionReset => {
                write!(f, "the other side reset the connection")
            }
            Self::UnexpectedEof { got, wanted } => {
                write!(f, "the stream ended after {got} of {wanted} bytes")
            }
            Self::WrongByte {
                offset,
                got,
                wanted,
            } => write!(
                f,
                "wrong byte at offset {offset}: got {got:?}, \
                 wanted {wanted:?}"
            ),
            Self::Unexpected(text) => write!(f, "unexpected: {text:?}"),
            Self::TimedOut(waited) => {
                write!(f, "timed out after {} s", waited.as_secs_f64())
            }
            Self::Flooded(bytes) => {
                write!(f, "printed more than {bytes} bytes")
            }
            Self::LeftBehind(count) => {
                write!(f, "left {count} processes behind")
            }
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

/// A [`Fault`], with who waited for what, and everything seen before.
#[derive(Clone)]
pub struct Failure {
    /// The program or peer, by the name that the test gave it.
    pub who: String,
    /// What was awaited or tried.
    pub wanted: String,
    /// What came instead. (Boxed: an error should be small.)
    pub fault: Box<Fault>,
    /// All that came in place of an awaited answer, if something did. It has
    /// been received.
    pub got: Option<Vec<u8>>,
    /// What had been seen; it goes on if the lab does.
    pub timeline: Timeline,
}

impl Failure {
    /// The same failure, with what came in place of the answer.
    pub fn with_got(self, got: Vec<u8>) -> Self {
        let got = Some(got);
        Self { got, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            who,
            wanted,
            fault,
            timeline,
            ..
        } = self;
        write!(f, "{who}: {wanted}: {fault}\n\n{timeline}")
    }
}

/// As `Display`: a test that returns a `Failure` prints it this way.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}
