//! Lesson 04 does what its chapter says, with good clients and bad ones.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

// The pool's own tests stand here, not in `pool.rs`: lesson 06 copies that
// file as it is, and would carry its tests along. A package with only a
// binary has no library to import, so the module is taken by its path.
#[path = "../crates/04-thread-pool/src/pool.rs"]
mod pool;

use pool::ThreadPool;

/// Only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

// The pool.

/// A job that says "NAME started", then waits for the key to be turned, then
/// says "NAME ended". A key that is dropped is turned.
fn held_job(
    name: &'static str,
    log: &Sender<String>,
) -> (impl FnOnce() + Send + use<>, Sender<()>) {
    let (key, locked) = mpsc::channel();
    let log = log.clone();
    let job = move || {
        say(&log, format!("{name} started"));
        let _ = locked.recv_timeout(PATIENCE);
        say(&log, format!("{name} ended"));
    };
    (job, key)
}

/// A job that only says "NAME ran".
fn quick_job(
    name: &'static str,
    log: &Sender<String>,
) -> impl FnOnce() + Send + use<> {
    let log = log.clone();
    move || say(&log, format!("{name} ran"))
}

/// A test that has ended no longer listens, and its jobs may go on.
fn say(log: &Sender<String>, text: String) {
    let _ = log.send(text);
}

#[track_caller]
fn assert_next(log: &Receiver<String>, wanted: &str) {
    assert_eq!(log.recv_timeout(PATIENCE).as_deref(), Ok(wanted));
}

#[test]
fn jobs_run_at_the_same_time_one_for_each_worker() {
    let (sender, log) = mpsc::channel();
    let pool = ThreadPool::new(2, 0).unwrap();
    let (a, a_key) = held_job("a", &sender);
    let (b, b_key) = held_job("b", &sender);
    pool.submit(a);
    assert_next(&log, "a started");
    pool.submit(b);
    assert_next(&log, "b started");
    drop(a_key);
    assert_next(&log, "a ended");
    drop(b_key);
    assert_next(&log, "b ended");
}

#[test]
fn a_job_waits_while_every_worker_is_busy() {
    let (sender, log) = mpsc::channel();
    let pool = ThreadPool::new(2, 1).unwrap();
    let (a, a_key) = held_job("a", &sender);
    let (b, b_key) = held_job("b", &sender);
    pool.submit(a);
    assert_next(&log, "a started");
    pool.submit(b);
    assert_next(&log, "b started");
    pool.submit(quick_job("c", &sender));
    drop(b_key);
    assert_next(&log, "b ended");
    assert_next(&log, "c ran");
    drop(a_key);
}

#[test]
fn jobs_start_in_the_order_in_which_they_were_submitted() {
    let (sender, log) = mpsc::channel();
    let pool = ThreadPool::new(1, 3).unwrap();
    for name in ["a", "b", "c", "d", "e"] {
        pool.submit(quick_job(name, &sender));
    }
    for name in ["a", "b", "c", "d", "e"] {
        assert_next(&log, &format!("{name} ran"));
    }
}

/// Submits to a pool that has `room` in its queue and none left there, while
/// another thread ends the running job: which comes first?
fn submit_returns_after_the_job_ended(room: usize) -> io::Result<bool> {
    let (sender, log) = mpsc::channel();
    let pool = ThreadPool::new(1, room)?;
    let (job, key) = held_job("held", &sender);
    pool.submit(job);
    assert_next(&log, "held started");
    for _ in 0..room {
        pool.submit(quick_job("queued", &sender));
    }
    let ended = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&ended);
    thread::spawn(move || {
        ends.store(true, Ordering::SeqCst);
        drop(key);
    });
    pool.submit(quick_job("one too many", &sender));
    Ok(ended.load(Ordering::SeqCst))
}

#[test]
fn submitting_waits_while_the_queue_is_full() {
    // An unbounded queue would win this race now and then: not each time.
    for round in 0..50 {
        for room in [0, 1, 4] {
            assert!(
                submit_returns_after_the_job_ended(room).unwrap(),
                "round {round}, a queue of {room}"
            );
        }
    }
}

#[test]
fn submitting_does_not_wait_while_the_queue_has_room() {
    let (sender, log) = mpsc::channel();
    let pool = ThreadPool::new(1, 4).unwrap();
    let (job, key) = held_job("held", &sender);
    pool.submit(job);
    assert_next(&log, "held started");
    for _ in 0..4 {
        pool.submit(quick_job("queued", &sender));
    }
    drop(key);
    assert_next(&log, "held ended");
}

#[test]
fn a_job_that_panics_does_not_cost_a_worker() {
    let (sender, log) = mpsc::channel();
    let pool = ThreadPool::new(1, 0).unwrap();
    let who = |log: &Sender<String>| {
        let log = log.clone();
        move || log.send(format!("{:?}", thread::current().id())).unwrap()
    };
    pool.submit(who(&sender));
    let worker = log.recv_timeout(PATIENCE).unwrap();
    for _ in 0..5 {
        pool.submit(|| panic!("a test lets a job panic"));
    }
    pool.submit(who(&sender));
    assert_next(&log, &worker);
}

/// What a panic says, and where, is the panic hook's business; so the test
/// puts one of its own in its place.
#[test]
fn a_panic_is_said_with_the_workers_name() {
    let (sender, said) = mpsc::channel();
    let sender = Mutex::new(sender);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload_as_str().unwrap_or_default().to_owned();
        let thread = thread::current();
        let name = thread.name().unwrap_or_default().to_owned();
        let _ = sender.lock().unwrap().send((name, text));
        usual(panic);
    }));
    let pool = ThreadPool::new(1, 0).unwrap();
    pool.submit(|| panic!("the job of this test"));
    let wanted = ("worker 1".to_owned(), "the job of this test".to_owned());
    while said.recv_timeout(PATIENCE).unwrap() != wanted {}
}

#[test]
fn a_job_that_panics_leaves_its_locks_poisoned_and_the_pool_whole() {
    let (sender, log) = mpsc::channel();
    let shared = Arc::new(Mutex::new(0));
    let pool = ThreadPool::new(2, 2).unwrap();
    let taken = Arc::clone(&shared);
    let (a, key) = held_job("a", &sender);
    pool.submit(move || {
        let _guard = taken.lock().unwrap();
        a();
        panic!("a test lets a job panic");
    });
    assert_next(&log, "a started");
    drop(key);
    assert_next(&log, "a ended");
    for _ in 0..10 {
        pool.submit(quick_job("b", &sender));
        assert_next(&log, "b ran");
    }
    drop(pool);
    assert!(shared.is_poisoned());
}

#[test]
fn dropping_the_pool_runs_what_waits_and_joins_the_workers() {
    for _ in 0..50 {
        let (sender, log) = mpsc::channel();
        let pool = ThreadPool::new(1, 2).unwrap();
        let (held, key) = held_job("held", &sender);
        pool.submit(held);
        assert_next(&log, "held started");
        pool.submit(quick_job("first", &sender));
        pool.submit(quick_job("second", &sender));
        let other = thread::spawn(move || drop(key));
        drop(pool);
        let seen: Vec<_> = log.try_iter().collect();
        assert_eq!(seen, ["held ended", "first ran", "second ran"]);
        other.join().unwrap();
    }
}

#[test]
fn an_idle_pool_ends_at_once() {
    drop(ThreadPool::new(4, 4).unwrap());
}

#[test]
fn a_pool_without_workers_is_refused() {
    let error = ThreadPool::new(0, 4).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), "a thread pool needs at least one worker");
}
