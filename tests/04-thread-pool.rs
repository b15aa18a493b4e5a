//! Lesson 04 does what its chapter says, with good clients and bad ones.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use harness::{Fault, Lab, Peer, Program, Result, Transcript, proc};
use predicates::prelude::*;
use predicates::str::contains;

// The pool's own tests stand here, not in `pool.rs`: lesson 06 copies that
// file as it is, and would carry its tests along. A package with only a
// binary has no library to import, so the module is taken by its path.
#[path = "../crates/04-thread-pool/src/pool.rs"]
mod pool;

use pool::ThreadPool;

const CHUNK_SIZES: [usize; 6] = [1, 2, 3, 5, 1024, 4096];
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
    let args = ["127.0.0.1:0", millis];
    let mut server = lab.start("server", server_path(), &args)?;
    let addr = server.wait_until_listening()?;
    Ok((server, addr))
}

/// Runs the server with arguments that should end it at once.
fn run(args: &[&str]) -> assert_cmd::assert::Assert {
    refused(assert_cmd::Command::new(server_path()).args(args))
}

fn refused(command: &mut assert_cmd::Command) -> assert_cmd::assert::Assert {
    command
        .env_remove("RUST_BACKTRACE")
        .timeout(PATIENCE)
        .assert()
        .code(1)
        .stdout("")
        .stderr(contains("panicked").not())
}

fn connect(lab: &Lab, addr: SocketAddr, count: usize) -> Result<Vec<Peer>> {
    (1..=count)
        .map(|number| lab.connect(&format!("client {number}"), addr))
        .collect()
}

fn echo(peer: &mut Peer, text: &str) -> Result {
    peer.send(text)?;
    peer.expect(text)
}

/// As many clients as there are workers, each of them being served.
fn occupy_workers(lab: &Lab, addr: SocketAddr) -> Result<Vec<Peer>> {
    let mut peers = connect(lab, addr, WORKERS)?;
    for peer in &mut peers {
        echo(peer, "I am here\n")?;
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

fn joined(thread: thread::JoinHandle<Result>) -> Result {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn lines(output: &[u8]) -> usize {
    output.iter().filter(|&&byte| byte == b'\n').count()
}

/// What the server says when it has waited long enough for `peer`.
fn timed_out(peer: &Peer, timeout: &str) -> Result<String> {
    let local = peer.local_addr()?;
    Ok(format!(
        "{local}: no byte in or out for {timeout}, closed\n"
    ))
}

// The echo.

#[test]
fn every_byte_comes_back_whatever_the_size_of_the_chunks() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, NO_TIMEOUT)?;
    let bytes: Vec<u8> = (0..=255).cycle().take(20_000).collect();
    for size in CHUNK_SIZES {
        let mut a = lab.connect("a", addr)?;
        let local = a.local_addr()?;
        let sending = a.send_in_background(bytes.clone(), size);
        a.expect(&bytes)?;
        joined(sending)?;
        a.half_close()?;
        a.expect_end()?;
        server.expect_line(&format!("{local} connected"))?;
        let bye = format!("{local} closed the connection after 20000 bytes");
        server.expect_line(&bye)?;
    }
    Ok(())
}

#[test]
fn what_is_left_is_sent_after_a_half_close() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, NO_TIMEOUT)?;
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut a = lab.connect("a", addr)?;
    a.send(&bytes)?;
    a.half_close()?;
    assert!(a.rest()? == bytes, "not what was sent");
    server.expect(" closed the connection after 100000 bytes\n")?;
    Ok(())
}

#[test]
fn a_client_is_two_lines_however_much_it_says() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, NO_TIMEOUT)?;
    let mut a = lab.connect("a", addr)?;
    for _ in 0..100 {
        echo(&mut a, "hello\n")?;
    }
    a.close();
    server.expect(" closed the connection after 600 bytes\n")?;
    assert_eq!(lines(&server.stdout()), 3);
    assert_eq!(String::from_utf8_lossy(&server.stderr()), "");
    Ok(())
}

// Few workers, many clients.

#[test]
fn as_many_clients_as_workers_are_served_while_all_stay() -> Result {
    let lab = Lab::new();
    let (_server, addr) = start_server(&lab, NO_TIMEOUT)?;
    let mut clients = occupy_workers(&lab, addr)?;
    for client in clients.iter_mut().rev() {
        echo(client, "still here\n")?;
    }
    Ok(())
}

#[test]
fn one_client_more_is_not_served_while_they_all_stay() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, NO_TIMEOUT)?;
    let mut served = occupy_workers(&lab, addr)?;
    let mut next = lab.connect("next", addr)?;
    let local = next.local_addr()?;
    server.expect(&format!("{local} connected\n"))?;
    let waiting = "I wait. ".repeat(1000);
    next.send(&waiting)?;
    for client in &mut served {
        echo(client, "still here\n")?;
    }
    assert!(next.has_nothing()?, "one client too many was served");

    served.remove(0).close();
    next.expect(waiting)
}

#[test]
fn a_thousand_clients_in_turn_share_the_same_threads() -> Result {
    let lab = Lab::new();
    let (server, addr) = start_server(&lab, NO_TIMEOUT)?;
    for _ in 0..1000 {
        echo(&mut lab.connect("a", addr)?, "hello\n")?;
    }
    good_clients_are_served(&lab, &server, addr)
}

#[test]
fn two_hundred_clients_at_once_are_all_served() -> Result {
    let lab = Lab::new();
    let (server, addr) = start_server(&lab, NO_TIMEOUT)?;
    let client = |lab: Lab| {
        move || -> Result {
            let mut a = lab.connect("a", addr)?;
            echo(&mut a, "hello\n")?;
            a.half_close()?;
            a.expect_end()
        }
    };
    let clients: Vec<_> = (0..200)
        .map(|_| thread::spawn(client(lab.clone())))
        .collect();
    for client in clients {
        joined(client)?;
    }
    good_clients_are_served(&lab, &server, addr)
}

/// Four are served, four wait in the queue, and the main thread has one in
/// its hand, for which there is no room yet.
#[test]
fn no_client_is_accepted_while_the_queue_is_full() -> Result {
    let lab = Lab::new();
    let mut server = lab.start("server", server_path(), &["127.0.0.1:0"])?;
    let addr = server.wait_until_listening()?;
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
        echo(&mut clients[0], "still here\n")?;
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

/// The connections that the kernel has made and no program has accepted.
#[cfg(target_os = "linux")]
fn in_the_backlog(addr: SocketAddr) -> Option<usize> {
    proc::tcp_rows(addr.port())?
        .into_iter()
        .find(|row| row.local == addr && row.state == "LISTEN")
        .map(|row| row.receive_queue)
}

#[test]
#[cfg(target_os = "linux")]
fn clients_beyond_the_queue_wait_in_the_kernels_backlog() -> Result {
    let lab = Lab::new();
    let (server, addr) = start_server(&lab, NO_TIMEOUT)?;
    let mut clients = connect(&lab, addr, WORKERS + QUEUE + 1 + 3)?;
    lab.wait_until("3 in the backlog", || in_the_backlog(addr) == Some(3))?;
    for client in &mut clients[..WORKERS] {
        echo(client, "still here\n")?;
    }
    assert_eq!(in_the_backlog(addr), Some(3));
    clients.remove(0).close();
    lab.wait_until("2 in the backlog", || in_the_backlog(addr) == Some(2))?;
    drop(clients);
    lab.wait_until("an empty backlog", || in_the_backlog(addr) == Some(0))?;
    good_clients_are_served(&lab, &server, addr)
}

/// The backlog is std's, and the limit is in the header.
#[test]
#[cfg(target_os = "linux")]
fn clients_beyond_the_backlog_of_128_try_again_and_are_served() -> Result {
    const BACKLOG: usize = 128 + 1; // Linux takes one more than was asked for.
    const BEYOND: usize = 20;
    let lab = Lab::new();
    let (server, addr) = start_server(&lab, NO_TIMEOUT)?;
    let served = occupy_workers(&lab, addr)?;
    let waiting = connect(&lab, addr, QUEUE + 1)?;
    lab.wait_until("an empty backlog", || in_the_backlog(addr) == Some(0))?;
    // In turn: of two that come at once, Linux may finish one only at the
    // client's end, and then nobody in the table is still trying.
    let queued = connect(&lab, addr, BACKLOG)?;
    // A client is connected a little before the kernel has queued it.
    lab.wait_until("a full backlog", || in_the_backlog(addr) == Some(BACKLOG))?;
    let client = |lab: Lab| move || echo(&mut lab.connect("a", addr)?, "hi\n");
    let beyond: Vec<_> = (0..BEYOND)
        .map(|_| thread::spawn(client(lab.clone())))
        .collect();
    lab.wait_until("20 attempts in vain", || {
        let rows = proc::tcp_rows(addr.port()).unwrap_or_default();
        let trying =
            |row: &&proc::TcpRow| row.remote == addr && row.state == "SYN-SENT";
        rows.iter().filter(trying).count() == BEYOND
    })?;
    drop(served);
    drop(waiting);
    for mut client in queued {
        echo(&mut client, "hi\n")?;
    }
    for client in beyond {
        joined(client)?;
    }
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
    lab.wait_until("51 in the backlog", || in_the_backlog(addr) == wanted)?;
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

#[test]
fn clients_that_left_while_they_waited_are_soon_done_with() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, NO_TIMEOUT)?;
    let served = occupy_workers(&lab, addr)?;
    drop(connect(&lab, addr, 20)?);
    drop(served);
    for _ in 0..WORKERS + 20 {
        server.expect(" closed the connection after ")?;
    }
    good_clients_are_served(&lab, &server, addr)
}

// The timeout.

#[test]
fn an_idle_client_is_closed_after_the_timeout() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "500")?;
    let mut idle = lab.connect("idle", addr)?;
    server.expect_error(&timed_out(&idle, "500ms")?)?;
    idle.expect_end()?;
    assert_eq!(lines(&server.stderr()), 1);
    good_clients_are_served(&lab, &server, addr)
}

#[test]
fn a_client_that_falls_silent_is_closed_after_the_timeout() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "500")?;
    let mut a = lab.connect("a", addr)?;
    echo(&mut a, "hello\n")?;
    server.expect_error(&timed_out(&a, "500ms")?)?;
    a.expect_end()?;
    good_clients_are_served(&lab, &server, addr)
}

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

#[test]
fn clients_that_never_read_lose_their_workers_too() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "500")?;
    let clients = connect(&lab, addr, WORKERS)?;
    // More than both kernels keep for a connection.
    let sending: Vec<_> = clients
        .iter()
        .map(|client| client.send_in_background(vec![0; 64 << 20], 1 << 16))
        .collect();
    for thread in sending {
        let failure = joined(thread).err().map(|failure| *failure.fault);
        assert_eq!(failure, Some(Fault::ConnectionReset));
    }
    for _ in 0..WORKERS {
        server.expect_error(": no byte in or out for 500ms, closed\n")?;
    }
    good_clients_are_served(&lab, &server, addr)
}

/// Two idle clients, one after the other, are the clock of this test.
#[test]
fn a_client_that_sends_now_and_then_keeps_its_worker() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "500")?;
    let mut slow = lab.connect("slow", addr)?;
    let enough = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&enough);
    let dripping = thread::spawn(move || {
        while !stop.load(Ordering::SeqCst) {
            echo(&mut slow, "x")?;
        }
        slow.half_close()?;
        slow.expect_end()
    });
    for _ in 0..2 {
        let mut idle = lab.connect("idle", addr)?;
        server.expect_error(&timed_out(&idle, "500ms")?)?;
        idle.expect_end()?;
    }
    enough.store(true, Ordering::SeqCst);
    joined(dripping)?;
    assert_eq!(lines(&server.stderr()), 2);
    Ok(())
}

/// On Linux a stop interrupts a read that has a timeout: signal(7).
#[test]
#[cfg(target_os = "linux")]
fn a_server_that_was_stopped_goes_on_with_its_clients() -> Result {
    let lab = Lab::new();
    let (server, addr) = start_server(&lab, NO_TIMEOUT)?;
    let mut clients = occupy_workers(&lab, addr)?;
    let pid = server.id().to_string();
    let stopped = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        Some(stat.ok()?.rsplit_once(") ")?.1.starts_with('T'))
    };
    let signal = |name| Command::new("kill").arg(name).arg(&pid).status();
    for _ in 0..5 {
        assert!(signal("-STOP").is_ok_and(|status| status.success()));
        lab.wait_until("be stopped", || stopped() == Some(true))?;
        assert!(signal("-CONT").is_ok_and(|status| status.success()));
        lab.wait_until("go on", || stopped() == Some(false))?;
        for client in &mut clients {
            echo(client, "still here\n")?;
        }
    }
    assert_eq!(String::from_utf8_lossy(&server.stderr()), "");
    Ok(())
}

// Attacks.

/// They end the pool of a well-known tutorial, in which a worker that meets
/// such a client panics.
#[test]
fn five_clients_that_connect_and_close_do_nothing() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, NO_TIMEOUT)?;
    for _ in 0..5 {
        lab.connect("a", addr)?.close();
        server.expect(" closed the connection after 0 bytes\n")?;
    }
    good_clients_are_served(&lab, &server, addr)?;
    assert_eq!(String::from_utf8_lossy(&server.stderr()), "");
    Ok(())
}

#[test]
fn a_client_that_resets_is_one_line_and_costs_no_worker() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, NO_TIMEOUT)?;
    for _ in 0..2 * WORKERS {
        let mut a = lab.connect("a", addr)?;
        let local = a.local_addr()?;
        echo(&mut a, "half a mess")?;
        a.reset()?;
        let line = server.error_line()?;
        assert!(line.starts_with(&format!("{local}: ")), "{line}");
    }
    good_clients_are_served(&lab, &server, addr)?;
    assert_eq!(lines(&server.stderr()), 2 * WORKERS);
    Ok(())
}

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

#[test]
#[cfg(target_os = "linux")]
fn out_of_descriptors_it_serves_again_when_a_client_leaves() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, NO_TIMEOUT)?;
    proc::leave_descriptors(server.id(), 2).expect("a soft limit");
    let mut a = lab.connect("a", addr)?;
    echo(&mut a, "first\n")?;
    let mut b = lab.connect("b", addr)?;
    echo(&mut b, "second\n")?;
    let mut c = lab.connect("c", addr)?;
    let beginning = "cannot accept a client, trying again: ";
    assert!(server.error_line()?.starts_with(beginning));
    echo(&mut b, "still here\n")?;
    a.close();
    echo(&mut c, "at last\n")?;
    // Said once; and once more, because an accept succeeded between.
    assert!(server.error_line()?.starts_with(beginning));
    echo(&mut b, "still here\n")?;
    assert_eq!(lines(&server.stderr()), 2);
    let used = proc::cpu_time(server.id()).expect("this is Linux");
    assert!(used < Duration::from_millis(500), "used {used:?}");
    Ok(())
}

/// What Ctrl-C sends. The pool is not dropped, so its queue is not drained.
#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_cuts_off_all_clients() -> Result {
    let lab = Lab::new();
    // A job in a shell's background ignores SIGINT, and so does what it starts;
    // these tests may be such a job.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(server_path());
    command.args(["127.0.0.1:0", NO_TIMEOUT]);
    let mut server = lab.start_command("server", command)?;
    let addr = server.wait_until_listening()?;
    let mut served = occupy_workers(&lab, addr)?;
    let mut waiting = lab.connect("waiting", addr)?;
    waiting.send("is anybody there?")?;
    server.expect(&format!("{} connected\n", waiting.local_addr()?))?;
    let pid = server.id().to_string();
    let status = Command::new("kill").args(["-INT", &pid]).status();
    assert!(status.is_ok_and(|status| status.success()));
    assert_eq!(server.exit()?.code(), None, "ended by the signal");
    for client in &mut served {
        client.expect_end()?;
    }
    waiting.expect_reset()
}

/// No machine has room for a stack of 2 to the power of 60 bytes.
#[test]
fn workers_that_cannot_be_started_are_one_clear_message() {
    let mut command = assert_cmd::Command::new(server_path());
    command
        .arg("127.0.0.1:0")
        .env("RUST_MIN_STACK", (1_u64 << 60).to_string());
    refused(&mut command)
        .stderr(contains("cannot start 4 threads: "))
        .stderr(contains("end other programs"));
}

// Arguments.

#[test]
fn zero_and_nonsense_are_refused_as_a_timeout() {
    for millis in ["0", "", "-1", "1.5", "soon", "1s", "١"] {
        run(&["127.0.0.1:0", millis]).stderr(contains(
            "[HOST:PORT [TIMEOUT_MS]], a whole number of milliseconds",
        ));
    }
}

#[test]
fn what_is_not_an_address_is_refused_with_an_example() {
    for addr in ["", "nonsense", "127.0.0.1", "127.0.0.1:99999", "::1", ":1"] {
        run(&[addr]).stderr(contains("such as 127.0.0.1:0"));
    }
}

#[test]
fn a_port_in_use_is_refused_with_what_to_do() -> Result {
    let lab = Lab::new();
    let (server, addr) = start_server(&lab, NO_TIMEOUT)?;
    run(&[&addr.to_string()])
        .stderr(contains(format!("cannot listen on {addr}: ")))
        .stderr(contains("give a free HOST:PORT"));
    good_clients_are_served(&lab, &server, addr)
}

#[test]
fn a_name_and_an_ipv6_address_work() -> Result {
    let lab = Lab::new();
    for addr in ["localhost:0", "[::1]:0"] {
        let mut server = lab.start("server", server_path(), &[addr])?;
        let addr = server.wait_until_listening()?;
        let mut a = lab.connect("a", addr)?;
        echo(&mut a, "hello\n")?;
        server.expect_line(&format!("{} connected", a.local_addr()?))?;
    }
    Ok(())
}

// What it costs.

/// The system calls of one client with a hundred requests, as strace saw
/// them; without `futex`, whose number the scheduler decides.
#[cfg(target_os = "linux")]
fn system_calls_of_a_client(lab: &Lab, timeout: &[&str]) -> Result<String> {
    let mut server = {
        let args = [&["127.0.0.1:0"], timeout].concat();
        lab.start("server", server_path(), &args)?
    };
    let addr = server.wait_until_listening()?;
    // A worker that has not come to rest still makes calls of its start.
    lab.wait_until("all threads wait", || {
        let threads = harness::tasks::thread_ids(server.id());
        let wait = |&id: &u32| harness::tasks::blocked_in(id).is_some();
        threads.is_some_and(|ids| ids.iter().all(wait))
    })?;
    let pid = server.id().to_string();
    let args = ["-f", "-s", "100", "-e", "trace=!futex", "-p", &pid];
    let mut strace = lab.start("strace", Path::new("strace"), &args)?;
    strace.expect_error(" attached with 5 threads\n")?;
    let mut a = lab.connect("a", addr)?;
    for _ in 0..100 {
        echo(&mut a, "hello\n")?;
    }
    a.close();
    strace.expect_error("closed the connection after 600 bytes")?;
    strace.expect_error("close(")?;
    Ok(String::from_utf8_lossy(&strace.stderr()).into_owned())
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn a_request_is_two_system_calls() -> Result {
    let calls = system_calls_of_a_client(&Lab::new(), &[])?;
    // One more read, for the end of the stream.
    assert_eq!(calls.matches("recvfrom(").count(), 101, "{calls}");
    assert_eq!(calls.matches("sendto(").count(), 100, "{calls}");
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn a_connection_costs_its_lines_and_its_timeouts_and_no_thread() -> Result {
    let calls = system_calls_of_a_client(&Lab::new(), &[])?;
    let count = |name| calls.matches(name).count();
    assert_eq!(count("write(1,"), 2, "{calls}");
    assert_eq!(count("setsockopt("), 2, "{calls}");
    assert_eq!(count("clone"), 0, "{calls}");
    assert_eq!(count("mmap("), 0, "{calls}");
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn the_timeout_is_thirty_seconds_unless_told_otherwise() -> Result {
    for (args, seconds) in [(&[][..], 30), (&["1000"], 1)] {
        let calls = system_calls_of_a_client(&Lab::new(), args)?;
        // Some versions of strace show the structure, some its bytes.
        let shown = [format!("tv_sec={seconds}"), format!("\"\\{seconds:o}\\")];
        for option in ["SO_RCVTIMEO", "SO_SNDTIMEO"] {
            let line = calls.lines().find(|line| line.contains(option));
            let line = line.unwrap_or_default();
            assert!(shown.iter().any(|text| line.contains(text)), "{line}");
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
