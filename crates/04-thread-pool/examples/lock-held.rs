//! Wrong on purpose: workers that run their jobs under the queue's lock.
//!
//! Run: cargo run -p lesson-04-thread-pool --example lock-held
//! Look for: two workers and two jobs, but only one job starts. Each line
//!   that you type ends a job.

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

fn main() -> io::Result<()> {
    let (sender, receiver) = mpsc::sync_channel::<Job>(2);
    let queue = Arc::new(Mutex::new(receiver));
    for _ in 1..=2 {
        // An error would say that no worker is left.
        let _ = sender.send(Box::new(job));
    }
    drop(sender);
    let mut workers = Vec::new();
    for _ in 1..=2 {
        let queue = Arc::clone(&queue);
        workers.push(thread::Builder::new().spawn(move || work(&queue))?);
    }
    for worker in workers {
        let _ = worker.join();
    }
    Ok(())
}

// ANCHOR: lock_held
fn work(queue: &Mutex<Receiver<Job>>) {
    while let Ok(job) = lock(queue).recv() {
        job();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
// ANCHOR_END: lock_held

fn job() {
    println!("a job started");
    // At the end of the input it ends, too.
    let _ = io::stdin().read_line(&mut String::new());
    println!("a job ended");
}
