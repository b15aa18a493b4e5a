//! A thread for each job: what `ThreadingMixIn` does.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use crate::Job;

/// Linux, with its defaults, ends a process of some 16,000 threads.
const MAX_THREADS: usize = 4096;

// ANCHOR: threads
/// Starts threads and keeps none. Dropped, it waits until all have ended.
pub struct Threads {
    max: usize,
    /// Each thread holds a clone: their count is that of the threads, and
    /// with the last one the channel is closed.
    place: Option<Arc<Sender<()>>>,
    closed: Receiver<()>,
}

impl Threads {
    /// At most `max` threads at a time.
    pub fn at_most(max: usize) -> Self {
        let (place, closed) = mpsc::channel();
        let place = Some(Arc::new(place));
        Self { max, place, closed }
    }

    /// Runs `job` in a new thread. Does not block.
    ///
    /// # Errors
    /// If there is no thread for it: `job` is dropped, so its client closed.
    pub fn start(&self, job: Job) -> io::Result<()> {
        if self.place.as_ref().map_or(0, Arc::strong_count) > self.max {
            let text = format!("turned away, {} requests are here", self.max);
            return Err(io::Error::other(text));
        }
        let place = self.place.clone();
        let run = move || {
            job();
            drop(place);
        };
        match thread::Builder::new().spawn(run) {
            Ok(_) => Ok(()),
            Err(error) => {
                let text = format!("turned away, no thread for it: {error}");
                Err(io::Error::other(text))
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.place = None;
        // Nothing is ever sent: this returns when the last clone is gone.
        let _ = self.closed.recv();
    }
}
// ANCHOR_END: threads

impl Default for Threads {
    /// At most 4,096 threads.
    fn default() -> Self {
        Self::at_most(MAX_THREADS)
    }
}
