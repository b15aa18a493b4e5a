//! Who serves the requests: what `ThreadingMixIn` is for.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use crate::ThreadPool;

/// One request, ready to be served.
pub type Job = Box<dyn FnOnce() + Send>;

// ANCHOR: process_request
/// Who serves the requests. Dropped, it waits for those that it serves.
pub trait ProcessRequest {
    /// Runs `job`, now or later, in this thread or another. An error says
    /// that there is no thread for it, and that it was dropped.
    fn process_request(&mut self, job: Job) -> io::Result<()>;
}

/// One after the other, in the thread that accepts.
pub struct Sequential;

impl ProcessRequest for Sequential {
    fn process_request(&mut self, job: Job) -> io::Result<()> {
        job();
        Ok(())
    }
}

impl ProcessRequest for ThreadPool {
    /// Blocks while the job queue is full.
    fn process_request(&mut self, job: Job) -> io::Result<()> {
        self.submit(job);
        Ok(())
    }
}
// ANCHOR_END: process_request

// ANCHOR: threads
/// A thread for each request, and no list of them. Dropped, it waits until
/// all have ended.
pub struct Threads {
    /// Each thread holds a clone; with the last one the channel is closed.
    running: Option<Sender<()>>,
    all_ended: Receiver<()>,
}

impl Default for Threads {
    fn default() -> Self {
        let (sender, all_ended) = mpsc::channel();
        let running = Some(sender);
        Self { running, all_ended }
    }
}

impl ProcessRequest for Threads {
    fn process_request(&mut self, job: Job) -> io::Result<()> {
        let running = self.running.clone();
        let run = move || {
            job();
            drop(running);
        };
        thread::Builder::new()
            .spawn(run)
            .map(drop)
            .map_err(|error| {
                let text = format!("turned away, no thread for it: {error}");
                io::Error::other(text)
            })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.running = None;
        // Nothing is ever sent: this returns when the last clone is gone.
        let _ = self.all_ended.recv();
    }
}
// ANCHOR_END: threads
