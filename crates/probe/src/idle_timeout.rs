//! How long a client that waits for its peer goes on waiting.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a reader looks up to see whether its sender is done.
const TICK: Duration = Duration::from_millis(20);

/// Shared by a client's reader and its sender: the waiting ends `timeout`
/// after the last thing that moved, and never while there is still something
/// to send.
pub struct IdleTimeout {
    timeout: Option<Duration>,
    /// When something last moved, and whether the sender is done.
    state: Mutex<(Instant, bool)>,
}

/// What the next read may do.
pub enum Wait {
    /// Block until something comes.
    Forever,
    /// Block for this long, then ask again.
    AtMost(Duration),
    /// Stop reading.
    Over,
}

impl IdleTimeout {
    /// A `timeout` of `None` waits for ever, of zero only for the sender.
    pub fn new(timeout: Option<Duration>) -> Self {
        let state = Mutex::new((Instant::now(), false));
        Self { timeout, state }
    }

    /// Bytes arrived.
    pub fn moved(&self) {
        self.update(|state| state.0 = Instant::now());
    }

    /// Nothing more will be sent: the waiting begins.
    pub fn all_sent(&self) {
        self.update(|state| *state = (Instant::now(), true));
    }

    /// Whether the sender is done.
    pub fn is_all_sent(&self) -> bool {
        self.update(|state| state.1)
    }

    /// What the next read may do.
    pub fn next(&self) -> Wait {
        let Some(timeout) = self.timeout else {
            return Wait::Forever;
        };
        let (moved, all_sent) = self.update(|state| *state);
        let left = timeout.saturating_sub(moved.elapsed());
        match all_sent {
            false => Wait::AtMost(TICK),
            true if left.is_zero() => Wait::Over,
            true => Wait::AtMost(left),
        }
    }

    fn update<T>(&self, change: impl FnOnce(&mut (Instant, bool)) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
