//! Lesson 11 does what its chapter says: one thread, a cap, a timeout for each
//! read and write, and an end that waits for those who are there.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use assert_cmd::cargo::cargo_bin;
use harness::{Lab, Peer, Program, Result, Transcript, joined, lines};
#[cfg(target_os = "linux")]
use harness::{bytes, proc, strace};

/// In milliseconds: where nobody is to be sent away.
#[cfg(unix)]
const AN_HOUR: &str = "3600000";
#[cfg(unix)]
const NO_NEW_CLIENTS: &str =
    "\nno new clients; waiting for those who are here\n";
#[cfg(target_os = "linux")]
const MOST_CLIENTS: usize = 10_000;
/// Where, on Linux, no client of another test can have the server's port.
const ALONE: &str = if cfg!(target_os = "linux") {
    "127.0.0.4:0"
} else {
    "127.0.0.1:0"
};

fn server_path() -> &'static Path {
    cargo_bin!("lesson-11-async")
}

fn start_server(lab: &Lab, timeout: &str) -> Result<(Program, SocketAddr)> {
    lab.start_server(server_path(), &[ALONE, timeout])
}

/// It ended by itself, everybody was served, and nothing was complained of.
#[cfg(unix)]
fn ended_well(server: &mut Program) -> Result {
    server.expect("goodbye\n")?;
    server.expect_exit(0)?;
    assert_eq!(String::from_utf8_lossy(&server.stderr()), "");
    Ok(())
}

// One thread, many clients.

/// The bound holds where a page has 4 KiB; measured: 2.1 KiB.
#[test]
#[cfg(target_os = "linux")]
fn a_thousand_clients_cost_one_thread_and_at_most_3_kib_each() -> Result {
    const COUNT: usize = 1000;
    if !harness::can_open(2 * COUNT) {
        return Ok(());
    }
    let lab = Lab::new();
    let (server, addr) = start_server(&lab, AN_HOUR)?;
    let private = || proc::private_memory(server.id()).unwrap_or_default();
    let warm_up = served_clients(&lab, addr, 100)?;
    let before = private();
    let mut counted = served_clients(&lab, addr, COUNT)?;
    let each = (private() - before) / COUNT as u64;
    if cfg!(target_arch = "x86_64") {
        assert!(each <= 3 << 10, "{each} bytes");
    }
    assert_eq!(proc::threads(server.id()), Some(1));
    for client in counted.iter_mut().rev() {
        client.gets_echo("still there")?;
    }
    warm_up.into_iter().chain(counted).try_for_each(Peer::reset)
}

#[test]
#[cfg(target_os = "linux")]
fn ten_thousand_clients_are_served_and_the_next_waits_for_a_place() -> Result {
    if !harness::can_open(MOST_CLIENTS + 1000) {
        return Ok(());
    }
    let lab = Lab::new();
    let (server, addr) = start_server(&lab, AN_HOUR)?;
    let mut clients = served_clients(&lab.unseen(), addr, MOST_CLIENTS)?;
    let mut next = lab.connect("next", addr)?;
    next.send("is there a place?")?;
    // All it could do for the next one, it could do before these answers.
    for client in clients.iter_mut().take(300) {
        client.gets_echo("still there")?;
    }
    assert!(next.has_nothing()?, "one client too many was served");
    assert_eq!(proc::accept_queue(addr), Some(1));
    clients.remove(0).close();
    next.expect("is there a place?")?;
    assert_eq!(String::from_utf8_lossy(&server.stderr()), "");

    let mut late = lab.connect("late", addr)?;
    server.interrupt();
    late.expect_reset()?;
    clients[0].gets_echo("still here")?;
    // Not FIN: that would leave 10,000 connections in TIME-WAIT.
    clients.into_iter().try_for_each(Peer::reset)
}

#[cfg(target_os = "linux")]
fn served_clients(
    lab: &Lab,
    addr: SocketAddr,
    count: usize,
) -> Result<Vec<Peer>> {
    (0..count)
        .map(|_| {
            let mut client = lab.connect("one of many", addr)?;
            client.gets_echo("hello")?;
            Ok(client)
        })
        .collect()
}

// The timeout.

fn timed_out(peer: &Peer, timeout: &str) -> Result<String> {
    let local = peer.local_addr()?;
    Ok(format!(
        "{local}: no byte in or out for {timeout}, closed\n"
    ))
}

/// Two idle clients, one after the other, are the clock.
#[test]
fn a_client_that_sends_now_and_then_keeps_its_place() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "500")?;
    let mut slow = lab.connect("slow", addr)?;
    let enough = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&enough);
    let dripping = thread::spawn(move || {
        while !stop.load(Ordering::SeqCst) {
            slow.gets_echo("x")?;
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

// The end.

#[cfg(unix)]
const SIGNALS: [fn(&Program); 2] = [Program::interrupt, Program::terminate];

#[test]
#[cfg(unix)]
fn each_signal_ends_it_when_the_last_client_has_left() -> Result {
    let lab = Lab::new();
    for ask in SIGNALS {
        let (mut server, _) = start_server(&lab, AN_HOUR)?;
        ask(&server);
        server.expect(NO_NEW_CLIENTS)?;
        ended_well(&mut server)?;

        let (mut server, addr) = start_server(&lab, AN_HOUR)?;
        let mut a = lab.connect("a", addr)?;
        let mut b = lab.connect("b", addr)?;
        a.gets_echo("hello")?;
        b.gets_echo("hello")?;
        ask(&server);
        server.expect(NO_NEW_CLIENTS)?;
        a.close();
        server.expect(" closed the connection after 5 bytes\n")?;
        b.gets_echo("am I still served?")?;
        b.half_close()?;
        b.expect_end()?;
        ended_well(&mut server)?;
    }
    Ok(())
}

#[test]
#[cfg(unix)]
fn the_second_signal_ends_it_at_once_whichever_it_is() -> Result {
    let lab = Lab::new();
    for (first, second) in SIGNALS
        .iter()
        .flat_map(|first| SIGNALS.iter().map(move |second| (first, second)))
    {
        let (mut server, addr) = start_server(&lab, AN_HOUR)?;
        let mut idle = lab.connect("idle", addr)?;
        idle.gets_echo("hello")?;
        first(&server);
        server.expect(NO_NEW_CLIENTS)?;
        second(&server);
        let said = server.error_line()?;
        assert_eq!(said, "Error: cut off those who were still here");
        server.expect_exit(1)?;
        idle.expect_end()?;
    }
    Ok(())
}

#[test]
#[cfg(unix)]
fn an_idle_client_delays_the_end_until_its_timeout() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "500")?;
    let mut idle = lab.connect("idle", addr)?;
    idle.gets_echo("hello")?;
    server.interrupt();
    server.expect(NO_NEW_CLIENTS)?;
    server.expect("goodbye\n")?;
    server.expect_exit(0)?;
    idle.expect_end()?;
    assert_eq!(lines(&server.stderr()), 1, "the timeout");
    Ok(())
}

// Experiments.

/// With fewer, others are served. Then not even `accept` goes on: the workers
/// are those who would hear of a new client.
#[test]
#[cfg(target_os = "linux")]
fn as_many_silent_clients_as_workers_freeze_blocking_tasks() -> Result {
    use harness::tasks::{blocked_in, thread_ids};
    let path = harness::example("lesson-11-async", "blocking-read")?;
    for workers in [1, 2, 3] {
        let lab = Lab::new();
        let args = [ALONE, &workers.to_string()];
        let (mut server, addr) = lab.start_server(&path, &args)?;
        let mut silent = Vec::new();
        for left in (0..workers).rev() {
            silent.push(lab.connect("silent", addr)?);
            server.expect(" connected\n")?;
            if left > 0 {
                lab.good_client_gets_echo(addr)?;
                server.expect(" connected\n")?;
            }
        }
        lab.wait_until("all workers read, the main thread waits", || {
            let mut calls: Vec<_> = thread_ids(server.id())
                .unwrap_or_default()
                .into_iter()
                .map(|id| blocked_in(id).map(|(call, _)| call))
                .collect();
            calls.sort_unstable();
            calls.pop() == Some(Some("recvfrom"))
                && calls[0] == Some("futex")
                && calls[1..].iter().all(|&call| call == Some("recvfrom"))
                && calls.len() == workers
        })?;
        let mut late = lab.connect("late", addr)?;
        late.send("is anybody there?")?;
        lab.wait_until("a client in the accept queue", || {
            proc::accept_queue(addr) == Some(1)
        })?;
        assert!(late.has_nothing()?, "served although all workers wait");
        silent.remove(0).close();
        late.expect("is anybody there?")?;
    }
    Ok(())
}

#[test]
fn one_thread_runs_blocking_tasks_one_after_the_other() -> Result {
    let mut program = start_flavor(&Lab::new(), "current-thread")?;
    for _ in 0..2 {
        program.expect_line("a task began")?;
        program.type_line("end a task");
        program.expect_line("a task ended")?;
    }
    program.expect_exit(0)?;
    recorded(&program, " -- current-thread")
}

#[test]
fn two_threads_run_two_blocking_tasks_at_once() -> Result {
    both_begin("multi-thread")
}

#[test]
fn one_thread_that_blocks_others_instead_runs_both_at_once() -> Result {
    both_begin("spawn-blocking")
}

fn both_begin(flavor: &str) -> Result {
    let mut program = start_flavor(&Lab::new(), flavor)?;
    for _ in 0..2 {
        program.expect_line("a task began")?;
    }
    for _ in 0..2 {
        program.type_line("end a task");
        program.expect_line("a task ended")?;
    }
    program.expect_exit(0)?;
    recorded(&program, &format!(" -- {flavor}"))
}

fn start_flavor(lab: &Lab, flavor: &str) -> Result<Program> {
    let path = harness::example("lesson-11-async", "flavors")?;
    lab.start(flavor, &path, &[flavor])
}

#[test]
fn a_read_that_is_cancelled_loses_half_a_line_each_time() -> Result {
    let path = harness::example("lesson-11-async", "half-a-line")?;
    let mut program = Lab::new().start("half-a-line", &path, &[])?;
    program.expect("the buffer inside: 200 of 200 lines lost a half\n")?;
    program.expect("the buffer outside: 0 of 200 lines lost a half\n")?;
    program.expect_exit(0)?;
    recorded(&program, "")
}

fn recorded(program: &Program, args: &str) -> Result {
    let name = program.name();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut scene = Transcript::new(&Lab::new(), "11", nobody);
    let example = if args.is_empty() { name } else { "flavors" };
    let command =
        format!("cargo run -p lesson-11-async --example {example}{args}");
    scene.terminal(name, &command, program);
    scene.check()
}

// The system calls.

/// All that both have sent is there before the server looks: no read waits.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn a_client_that_has_sent_much_leaves_another_one_its_turn() -> Result {
    const READS: usize = 150;
    let lab = Lab::new();
    let options = ["-e", "trace=recvfrom"];
    let args = ["127.0.0.1:0", AN_HOUR];
    let (server, addr) = lab.trace_server(&options, server_path(), &args)?;
    let mut clients = served_clients(&lab, addr, 2)?;
    server.suspend();
    server.wait_until_stopped(true)?;
    for client in &clients {
        client.send(bytes(READS * 1024))?;
    }
    server.resume();
    for client in &mut clients {
        client.expect(bytes(READS * 1024))?;
    }
    let mut reads = strace::calls(&server.stderr());
    reads.retain(|read| read.result.as_deref() == Some("1024"));
    let is_of_the_first =
        |read: &&strace::Call| read.args[0] == reads[0].args[0];
    let in_turn = reads.iter().take_while(is_of_the_first).count();
    assert!(in_turn <= 128, "{in_turn} reads before the other's first");
    Ok(())
}

/// tokio's handler only writes a byte into a pair of sockets, whose other end
/// is among the descriptors that the thread waits for.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn a_signal_becomes_a_byte_that_wakes_the_thread() -> Result {
    let lab = Lab::new();
    let command = strace::command(&[], server_path(), &["127.0.0.1:0"]);
    let mut server = lab.start_command("server", command)?;
    server.expect_error("socketpair(")?;
    server.wait_until_listening()?;
    server.expect_error("epoll_")?;
    server.interrupt();
    for call in ["sendto(", "rt_sigreturn(", "epoll_", "recvfrom("] {
        server.expect_error(call)?;
    }
    server.expect("goodbye\n")?;
    server.expect_exit(0)
}
