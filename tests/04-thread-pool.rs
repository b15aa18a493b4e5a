//! Lesson 04 does what its chapter says, with good clients and bad ones.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
#[cfg(target_os = "linux")]
use harness::strace::{self, Call};
use harness::{Lab, Peer, Program, Result, Transcript, joined, proc};

// The pool's own tests stand here, not in `pool.rs`: lesson 06 copies that
// file as it is, and would carry its tests along. A package with only a
// binary has no library to import, so the module is taken by its path.
#[path = "../crates/04-thread-pool/src/pool.rs"]
mod pool;

use pool::ThreadPool;

/// The two numbers of the lesson.
const WORKERS: usize = 4;
const QUEUE: usize = 4;
const SERVER_COMMAND: &str = "cargo run -p lesson-04-thread-pool";
/// An hour: in these tests nobody is sent away for being silent.
const NO_TIMEOUT: &str = "3600000";
/// Only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

fn server_path() -> &'static Path {
    cargo_bin!("lesson-04-thread-pool")
}

fn start_server(lab: &Lab, millis: &str) -> Result<(Program, SocketAddr)> {
    lab.start_server(server_path(), &["127.0.0.1:0", millis])
}

fn connect(lab: &Lab, addr: SocketAddr, count: usize) -> Result<Vec<Peer>> {
    (1..=count)
        .map(|number| lab.connect(&format!("client {number}"), addr))
        .collect()
}

/// As many clients as there are workers, each of them being served.
fn occupy_workers(lab: &Lab, addr: SocketAddr) -> Result<Vec<Peer>> {
    let mut peers = connect(lab, addr, WORKERS)?;
    for peer in &mut peers {
        peer.gets_echo("I am here\n")?;
    }
    Ok(peers)
}

/// As many clients as there are workers are served at once, so no worker is
/// lost, and none has been added.
fn good_clients_are_served(
    lab: &Lab,
    server: &Program,
    addr: SocketAddr,
) -> Result {
    for mut good in occupy_workers(lab, addr)? {
        good.half_close()?;
        good.expect_end()?;
    }
    if let Some(threads) = proc::threads(server.id()) {
        assert_eq!(threads, 1 + WORKERS, "main and the workers");
    }
    Ok(())
}

/// What the server says when it has waited long enough for `peer`.
fn timed_out(peer: &Peer, timeout: &str) -> Result<String> {
    let local = peer.local_addr()?;
    Ok(format!(
        "{local}: no byte in or out for {timeout}, closed\n"
    ))
}

// Few workers, many clients.

/// Four are served, four wait in the queue, and the main thread has one in
/// its hand, for which there is no room yet.
#[test]
fn no_client_is_accepted_while_the_queue_is_full() -> Result {
    let lab = Lab::new();
    let (mut server, addr) =
        lab.start_server(server_path(), &["127.0.0.1:0"])?;
    let mut clients = connect(&lab, addr, WORKERS + QUEUE + 1)?;
    for client in &clients {
        let local = client.local_addr()?;
        server.expect_line(&format!("{local} connected"))?;
    }
    let tenth = lab.connect("tenth", addr)?;
    let _others = connect(&lab, addr, 20)?;
    let first = clients.remove(0);
    // Time enough to accept one more, if there were room.
    for _ in 0..100 {
        clients[0].gets_echo("still here\n")?;
    }
    let gone = first.local_addr()?;
    first.close();
    let bye = format!("{gone} closed the connection after 0 bytes");
    server.expect_line(&bye)?;
    let local = tenth.local_addr()?;
    server.expect_line(&format!("{local} connected"))?;

    let mut scene = Transcript::new(&lab, "04-full", addr);
    scene.terminal("server", SERVER_COMMAND, &server);
    scene.check()
}

#[test]
#[cfg(target_os = "linux")]
fn clients_beyond_the_queue_wait_in_the_kernels_backlog() -> Result {
    let lab = Lab::new();
    let (server, addr) = start_server(&lab, NO_TIMEOUT)?;
    let mut clients = connect(&lab, addr, WORKERS + QUEUE + 1 + 3)?;
    lab.wait_until("3 in the backlog", || proc::accept_queue(addr) == Some(3))?;
    for client in &mut clients[..WORKERS] {
        client.gets_echo("still here\n")?;
    }
    assert_eq!(proc::accept_queue(addr), Some(3));
    clients.remove(0).close();
    lab.wait_until("2 in the backlog", || proc::accept_queue(addr) == Some(2))?;
    drop(clients);
    lab.wait_until("an empty backlog", || proc::accept_queue(addr) == Some(0))?;
    good_clients_are_served(&lab, &server, addr)
}

/// Lesson 03 runs out of descriptors here; this server holds nine clients.
#[test]
#[cfg(target_os = "linux")]
fn sixty_clients_do_not_use_up_thirty_two_descriptors() -> Result {
    let lab = Lab::new();
    let (server, addr) = start_server(&lab, NO_TIMEOUT)?;
    proc::leave_descriptors(server.id(), 32 - 4).expect("a soft limit");
    let before = proc::descriptors(server.id());
    let held = WORKERS + QUEUE + 1;
    let clients = connect(&lab, addr, 60)?;
    let wanted = Some(60 - held);
    lab.wait_until("51 in the backlog", || proc::accept_queue(addr) == wanted)?;
    // A client leaves the backlog a little before its descriptor is there.
    let wanted = before.map(|count| count + held);
    lab.wait_until("nine descriptors more", || {
        proc::descriptors(server.id()) == wanted
    })?;
    drop(clients);
    good_clients_are_served(&lab, &server, addr)?;
    assert_eq!(String::from_utf8_lossy(&server.stderr()), "");
    Ok(())
}

// The timeout.

/// Without a timeout, the fifth client would wait as long as they stay.
#[test]
fn as_many_idle_clients_as_workers_freeze_it_until_the_timeout() -> Result {
    let lab = Lab::new();
    // Before the clock runs, because it may have to be built.
    let client = harness::binary("lesson-01-single-client", "client")?;
    let (mut server, addr) = start_server(&lab, "3000")?;
    let mut idle = connect(&lab, addr, WORKERS)?;
    let mut fifth = lab.start("fifth", &client, &[&addr.to_string()])?;
    for _ in 0..WORKERS + 1 {
        server.expect(" connected\n")?;
    }
    fifth.expect("send> ")?;
    fifth.type_line("Is anybody there?");
    fifth.expect("received: Is anybody there?\nsend> ")?;

    let mut complaints = String::new();
    for peer in &mut idle {
        peer.expect_end()?;
        complaints += &timed_out(peer, "3s")?;
    }
    for _ in 0..WORKERS {
        let line = server.error_line()?;
        assert!(complaints.contains(&line), "{line}");
    }
    fifth.end_input();
    server.expect(" closed the connection after 18 bytes\n")?;
    fifth.expect_exit(0)?;

    // They time out together; the page shows them in the clients' order.
    let screen = server.screen();
    let connected = " connected\n";
    let end = screen.rfind(connected).unwrap_or_default() + connected.len();
    let (before, rest) = screen.split_at(end);
    let behind = &rest[complaints.len()..];
    let mut scene = Transcript::new(&lab, "04-frozen", addr);
    let typed = format!("$ {SERVER_COMMAND} -- {addr} 3000\n");
    let text = typed + before + &complaints + behind;
    scene.text("server", &text);
    scene.terminal("fifth", "cargo run --bin client", &fifth);
    scene.check()?;
    good_clients_are_served(&lab, &server, addr)
}

/// Two idle clients of another server, one after the other, are the clock.
#[test]
fn clients_that_send_now_and_then_keep_all_workers() -> Result {
    let lab = Lab::new();
    let (mut clock, clock_addr) = start_server(&lab, "500")?;
    let (server, addr) = start_server(&lab, "500")?;
    let slow = occupy_workers(&lab, addr)?;
    let enough = Arc::new(AtomicBool::new(false));
    let dripping: Vec<_> = slow
        .into_iter()
        .map(|mut slow| {
            let stop = Arc::clone(&enough);
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    slow.gets_echo("x")?;
                }
                slow.half_close()?;
                slow.expect_end()
            })
        })
        .collect();
    let mut fifth = lab.connect("fifth", addr)?;
    fifth.send("I wait")?;
    for _ in 0..2 {
        let mut idle = lab.connect("idle", clock_addr)?;
        clock.expect_error(&timed_out(&idle, "500ms")?)?;
        idle.expect_end()?;
    }
    assert!(fifth.has_nothing()?, "served although all drip");
    enough.store(true, Ordering::SeqCst);
    dripping.into_iter().try_for_each(joined)?;
    fifth.expect("I wait")?;
    assert_eq!(String::from_utf8_lossy(&server.stderr()), "");
    Ok(())
}

// Attacks.

#[test]
fn clients_that_reset_while_they_wait_cost_no_worker() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, NO_TIMEOUT)?;
    let served = occupy_workers(&lab, addr)?;
    for waiting in connect(&lab, addr, QUEUE)? {
        let local = waiting.local_addr()?;
        server.expect(&format!("{local} connected\n"))?;
        waiting.reset()?;
    }
    drop(served);
    for _ in 0..QUEUE {
        server.error_line()?;
    }
    good_clients_are_served(&lab, &server, addr)
}

// The machine says no.

/// What Ctrl-C sends. The pool is not dropped, so its queue is not drained.
#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_cuts_off_all_clients() -> Result {
    let lab = Lab::new();
    let mut command = harness::takes_ctrl_c(server_path());
    command.args(["127.0.0.1:0", NO_TIMEOUT]);
    let (mut server, addr) = lab.start_server_command(command)?;
    let mut served = occupy_workers(&lab, addr)?;
    let mut waiting = lab.connect("waiting", addr)?;
    waiting.send("is anybody there?")?;
    server.expect(&format!("{} connected\n", waiting.local_addr()?))?;
    server.interrupt();
    assert_eq!(server.exit()?.code(), None, "ended by the signal");
    for client in &mut served {
        client.expect_end()?;
    }
    waiting.expect_reset()
}

/// No machine has room for a stack of 2 to the power of 60 bytes.
#[test]
fn workers_that_cannot_be_started_are_one_clear_message() -> Result {
    let mut command = Command::new(server_path());
    command.arg("127.0.0.1:0");
    command.env("RUST_MIN_STACK", (1_u64 << 60).to_string());
    let said = Lab::new().refusal_of(command)?;
    assert!(said.contains("cannot start 4 threads: "), "{said}");
    assert!(said.contains("end other programs"), "{said}");
    Ok(())
}

// What it costs.

/// The system calls of one client with a hundred requests, as strace saw
/// them; without `futex`, whose number the scheduler decides.
#[cfg(target_os = "linux")]
fn calls_of_a_client(timeout: &[&str]) -> Result<Vec<Call>> {
    let lab = Lab::new();
    let args = [&["127.0.0.1:0"], timeout].concat();
    let (server, addr) = lab.start_server(server_path(), &args)?;
    // A worker that has not come to rest still makes calls of its start.
    lab.wait_until("all threads wait", || {
        let threads = harness::tasks::thread_ids(server.id());
        let wait = |&id: &u32| harness::tasks::blocked_in(id).is_some();
        threads.is_some_and(|ids| ids.iter().all(wait))
    })?;
    let pid = server.id().to_string();
    let args = ["-f", "-s", "100", "-e", "trace=!futex", "-p", &pid];
    let mut trace = lab.start("strace", Path::new("strace"), &args)?;
    trace.expect_error(" attached with 5 threads\n")?;
    let mut a = lab.connect("a", addr)?;
    for _ in 0..100 {
        a.gets_echo("hello\n")?;
    }
    a.close();
    trace.expect_error("closed the connection after 600 bytes")?;
    trace.expect_error("close(")?;
    Ok(strace::calls(&trace.stderr()))
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn a_connection_costs_its_lines_and_its_timeouts_and_no_thread() -> Result {
    let calls = calls_of_a_client(&[])?;
    let count = |name| calls.iter().filter(|call| call.name == name).count();
    let lines = calls
        .iter()
        .filter(|c| c.name == "write" && c.args[0] == "1");
    assert_eq!(lines.count(), 2, "{calls:?}");
    assert_eq!(count("setsockopt"), 2, "{calls:?}");
    for of_a_thread in ["clone", "clone3", "mmap"] {
        assert_eq!(count(of_a_thread), 0, "{calls:?}");
    }
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn the_timeout_is_thirty_seconds_unless_told_otherwise() -> Result {
    for (args, seconds) in [(&[][..], 30), (&["1000"], 1)] {
        let calls = calls_of_a_client(args)?;
        // Some versions of strace show the structure, some its bytes.
        let shown = [format!("tv_sec={seconds}"), format!("\"\\{seconds:o}\\")];
        for option in ["SO_RCVTIMEO", "SO_SNDTIMEO"] {
            let sets = |call: &&Call| call.args.concat().contains(option);
            let call = calls.iter().find(sets).expect(option);
            let set = shown.iter().any(|text| call.args[3].contains(text));
            assert!(set, "{call:?}");
        }
    }
    Ok(())
}

// The lock held while working.

#[test]
fn jobs_under_the_queues_lock_run_one_at_a_time() -> Result {
    let lab = Lab::new();
    let path = harness::example("lesson-04-thread-pool", "lock-held")?;
    let mut program = lab.start("lock-held", &path, &[])?;
    for _ in 0..2 {
        program.expect_line("a job started")?;
        program.type_line("end a job");
        program.expect_line("a job ended")?;
    }
    program.expect_exit(0)?;
    recorded(&lab, &program)
}

#[test]
fn the_same_jobs_on_the_pool_run_at_the_same_time() -> Result {
    let lab = Lab::new();
    let path = harness::example("lesson-04-thread-pool", "lock-released")?;
    let mut program = lab.start("lock-released", &path, &[])?;
    for _ in 0..2 {
        program.expect_line("a job started")?;
    }
    for _ in 0..2 {
        program.type_line("end a job");
        program.expect_line("a job ended")?;
    }
    program.expect_exit(0)?;
    recorded(&lab, &program)
}

fn recorded(lab: &Lab, example: &Program) -> Result {
    let name = example.name();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut scene = Transcript::new(lab, "04", nobody);
    let command =
        format!("cargo run -p lesson-04-thread-pool --example {name}");
    scene.terminal(name, &command, example);
    scene.check()
}

// The pool.

/// A pool whose drop may not take for ever, so that no test does.
struct Pool(Option<ThreadPool>);

impl Pool {
    fn new(workers: usize, queue: usize) -> io::Result<Self> {
        ThreadPool::new(workers, queue).map(|pool| Self(Some(pool)))
    }

    fn submit(&self, job: impl FnOnce() + Send + 'static) {
        if let Some(pool) = &self.0 {
            pool.submit(job);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let (done, dropped) = mpsc::channel();
        let pool = self.0.take();
        thread::spawn(move || {
            drop(pool);
            done.send(())
        });
        let ended = dropped.recv_timeout(PATIENCE).is_ok();
        assert!(ended || thread::panicking(), "the pool does not end");
    }
}

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
    let pool = Pool::new(2, 0).unwrap();
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
    let pool = Pool::new(2, 1).unwrap();
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
    let pool = Pool::new(1, 3).unwrap();
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
    let pool = Pool::new(1, room)?;
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
    let pool = Pool::new(1, 4).unwrap();
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
    let pool = Pool::new(1, 0).unwrap();
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
        let text = panic.payload().downcast_ref::<&str>();
        let text = text.copied().unwrap_or_default().to_owned();
        let thread = thread::current();
        let name = thread.name().unwrap_or_default().to_owned();
        let _ = sender.lock().unwrap().send((name, text));
        usual(panic);
    }));
    let pool = Pool::new(1, 0).unwrap();
    pool.submit(|| panic!("the job of this test"));
    let wanted = ("worker 1".to_owned(), "the job of this test".to_owned());
    while said.recv_timeout(PATIENCE).unwrap() != wanted {}
}

#[test]
fn a_job_that_panics_leaves_its_locks_poisoned_and_the_pool_whole() {
    let (sender, log) = mpsc::channel();
    let shared = Arc::new(Mutex::new(0));
    let pool = Pool::new(2, 2).unwrap();
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
        let pool = Pool::new(1, 2).unwrap();
        let (held, key) = held_job("held", &sender);
        pool.submit(held);
        assert_next(&log, "held started");
        pool.submit(quick_job("first", &sender));
        pool.submit(quick_job("second", &sender));
        thread::spawn(move || drop(key));
        drop(pool);
        let seen: Vec<_> = log.try_iter().collect();
        assert_eq!(seen, ["held ended", "first ran", "second ran"]);
    }
}

#[test]
fn an_idle_pool_ends_at_once() {
    drop(Pool::new(4, 4).unwrap());
}

#[test]
fn a_pool_without_workers_is_refused() {
    let error = ThreadPool::new(0, 4).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), "a thread pool needs at least one worker");
}
