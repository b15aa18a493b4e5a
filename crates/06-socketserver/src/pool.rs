//! A thread pool: a fixed number of workers take jobs from a bounded queue.
//!
//! What it promises:
//! - As many jobs run at the same time as there are workers, never more.
//! - A job that is submitted runs, in its turn; no more than `queue` wait.
//! - A job that panics ends alone. The panic is said on stderr, as always
//!   and with the worker's name, and its worker takes the next job.
//! - Dropping the pool runs what waits, and then ends the workers.

use std::io::{self, ErrorKind};
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

type Job = Box<dyn FnOnce() + Send>;

/// Workers and their queue. Dropped, it waits until every job submitted has
/// ended; a job that never ends blocks it for ever.
pub struct ThreadPool {
    queue: Option<SyncSender<Job>>,
    workers: Vec<JoinHandle<()>>,
}

impl ThreadPool {
    /// Starts `workers` threads, and room for `queue` jobs to wait. With no
    /// room a job is handed over when a worker is free. Does not block.
    ///
    /// # Errors
    /// When a thread cannot be spawned; those that could are ended first.
    /// [`ErrorKind::InvalidInput`] for no workers, who would run nothing.
    pub fn new(workers: usize, queue: usize) -> io::Result<Self> {
        if workers == 0 {
            let text = "a thread pool needs at least one worker";
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        let (sender, receiver) = mpsc::sync_channel(queue);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut pool = Self {
            queue: Some(sender),
            workers: Vec::new(),
        };
        for number in 1..=workers {
            let receiver = Arc::clone(&receiver);
            let worker = thread::Builder::new()
                .name(format!("worker {number}"))
                .spawn(move || work(&receiver))?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Hands a job to the workers. Blocks while the queue is full: whoever
    /// makes work must wait for those who do it. (A job that submits to its
    /// own pool can so wait for itself.)
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) {
        if let Some(queue) = &self.queue {
            // An error would say that no worker is left: not before `drop`.
            let _ = queue.send(Box::new(job));
        }
    }
}

/// What each worker does: one job after the other, until no more can come.
fn work(queue: &Mutex<Receiver<Job>>) {
    while let Some(job) = next(queue) {
        // Unwind safe: a job that panics is gone, and nobody looks into it.
        let _ = panic::catch_unwind(AssertUnwindSafe(job));
    }
}

/// The next job. Blocks while there is none; `None` when the pool is dropped.
fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    // A function of its own, because the lock lives until it returns: no job
    // may run under it. One worker waits for a job, the others for the lock.
    let receiver = queue.lock().unwrap_or_else(PoisonError::into_inner);
    receiver.recv().ok()
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        // With the sender goes the queue's end that jobs come in by: the
        // workers still get what waits in it, and then an error.
        drop(self.queue.take());
        for worker in self.workers.drain(..) {
            // A worker catches every panic, so it does not end with one.
            let _ = worker.join();
        }
    }
}
