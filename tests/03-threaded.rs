//! Lesson 03 does what its chapter says, with good clients and bad ones.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fs, panic, process};

use assert_cmd::cargo::cargo_bin;
use harness::{Lab, Peer, Program, Result, Transcript, proc};
use predicates::prelude::*;
use predicates::str::contains;

const CHUNK_SIZES: [usize; 6] = [1, 2, 3, 5, 1024, 4096];
const MIB: usize = 1 << 20;
/// More than the kernel keeps for both directions of a connection together
/// (measured: 8 MiB, give or take half a MiB).
#[cfg(target_os = "linux")]
const TOO_MUCH: usize = 32 * MIB;
#[cfg(target_os = "linux")]
const REFUSED: &str = "cannot accept a client, trying again: Too many open \
    files (os error 24)\n";
const SERVER_COMMAND: &str = "cargo run -p lesson-03-threaded";
const CLIENT_COMMAND: &str = "cargo run --bin client";

fn server_path() -> &'static Path {
    cargo_bin!("lesson-03-threaded")
}

fn start_server(lab: &Lab) -> Result<(Program, SocketAddr)> {
    let mut server = lab.start("server", server_path(), &["127.0.0.1:0"])?;
    let addr = server.wait_until_listening()?;
    Ok((server, addr))
}

/// Lesson 01's client.
fn start_client(lab: &Lab, name: &str, addr: SocketAddr) -> Result<Program> {
    let path = harness::binary("lesson-01-single-client", "client")?;
    lab.start(name, &path, &[&addr.to_string()])
}

/// A client comes, gets its echo and leaves.
fn good_client_is_served(lab: &Lab, addr: SocketAddr) -> Result {
    let mut good = lab.connect("good", addr)?;
    good.send("are you there\n")?;
    good.expect("are you there\n")?;
    good.half_close()?;
    good.expect_end()
}

fn still_served(client: &mut Peer) -> Result {
    client.send("still there")?;
    client.expect("still there")
}

/// What went wrong with one client is one line, with its address.
fn server_complains_about(server: &mut Program, peer: SocketAddr) -> Result {
    let line = server.error_line()?;
    assert!(line.starts_with(&format!("{peer}: ")), "{line}");
    Ok(())
}

fn lines(output: &[u8]) -> usize {
    output.iter().filter(|&&byte| byte == b'\n').count()
}

fn joined<T>(thread: JoinHandle<T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// `count` bytes in which a lost, doubled or moved byte shows.
fn bytes(count: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..=255).chain(1..=250).collect();
    let mut bytes = block.repeat(count / block.len() + 1);
    bytes.truncate(count);
    bytes
}

/// Receives as many bytes as `wanted` has, which must be these.
fn expect_all(peer: &mut Peer, wanted: &[u8]) -> Result {
    let mut got = Vec::new();
    while got.len() < wanted.len() {
        got.extend(peer.receive()?);
    }
    assert!(got == wanted, "not what was sent");
    Ok(())
}

// An echo.

#[test]
fn every_byte_comes_back_whatever_the_size_of_the_chunks() -> Result {
    let lab = Lab::new();
    let (_server, addr) = start_server(&lab)?;
    for size in CHUNK_SIZES {
        let mut a = lab.connect("a", addr)?;
        a.send_in_chunks(bytes(10_000), size)?;
        a.expect(bytes(10_000))?;
        a.half_close()?;
        a.expect_end()?;
    }
    Ok(())
}

#[test]
fn eight_mebibytes_come_back_to_a_client_that_reads() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let mut a = lab.connect("a", addr)?;
    let sending = a.send_in_background(bytes(8 * MIB), 64 << 10);
    expect_all(&mut a, &bytes(8 * MIB))?;
    joined(sending)?;
    a.half_close()?;
    a.expect_end()?;
    server.expect(" closed the connection after 8388608 bytes\n")?;
    if let Some(peak) = proc::peak_memory(server.id()) {
        assert!(peak < 8 * MIB, "the server took {peak} bytes");
    }
    Ok(())
}

#[test]
fn a_half_close_is_answered_with_the_rest_and_then_the_end() -> Result {
    let lab = Lab::new();
    let (_server, addr) = start_server(&lab)?;
    let mut a = lab.connect("a", addr)?;
    a.send(bytes(60_000))?;
    a.half_close()?;
    assert!(a.rest()? == bytes(60_000), "not what was sent");
    good_client_is_served(&lab, addr)
}

#[test]
fn one_line_when_a_client_comes_and_one_when_it_goes() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let mut a = lab.connect("a", addr)?;
    let local = a.local_addr()?;
    server.expect_line(&format!("{local} connected"))?;
    for _ in 0..100 {
        a.send("hello")?;
        a.expect("hello")?;
    }
    a.half_close()?;
    a.expect_end()?;
    let closed = "closed the connection after";
    server.expect_line(&format!("{local} {closed} 500 bytes"))?;

    let silent = lab.connect("silent", addr)?;
    let local = silent.local_addr()?;
    server.expect_line(&format!("{local} connected"))?;
    silent.close();
    server.expect_line(&format!("{local} {closed} 0 bytes"))?;
    assert_eq!(String::from_utf8_lossy(&server.stderr()), "");
    Ok(())
}

// Many clients.

#[test]
fn second_client_is_served_while_the_first_stays() -> Result {
    let lab = Lab::new();
    let (_server, addr) = start_server(&lab)?;
    let mut first = lab.connect("first", addr)?;
    first.send("I am the first")?;
    first.expect("I am the first")?;

    let mut second = lab.connect("second", addr)?;
    second.send("I do not wait")?;
    second.expect("I do not wait")?;
    still_served(&mut first)
}

#[test]
fn transcript_two_clients_are_served_at_once() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let mut first = start_client(&lab, "first", addr)?;
    server.expect(" connected\n")?;
    first.expect("send> ")?;
    first.type_line("I came first");
    first.expect("received: I came first\nsend> ")?;

    let mut second = start_client(&lab, "second", addr)?;
    server.expect(" connected\n")?;
    second.expect("send> ")?;
    second.type_line("I came second");
    second.expect("received: I came second\nsend> ")?;

    first.type_line("I am still here");
    first.expect("received: I am still here\nsend> ")?;
    second.end_input();
    second.expect_exit(0)?;
    server.expect(" closed the connection after 14 bytes\n")?;
    first.end_input();
    first.expect_exit(0)?;
    server.expect(" closed the connection after 29 bytes\n")?;

    let mut scene = Transcript::new(&lab, "03-two-clients", addr);
    scene.terminal("server", SERVER_COMMAND, &server);
    scene.terminal("first", CLIENT_COMMAND, &first);
    scene.terminal("second", CLIENT_COMMAND, &second);
    scene.check()
}

#[test]
fn an_idle_client_hinders_nobody() -> Result {
    let lab = Lab::new();
    let (_server, addr) = start_server(&lab)?;
    let mut idle = lab.connect("idle", addr)?;
    for _ in 0..10 {
        good_client_is_served(&lab, addr)?;
    }
    still_served(&mut idle)
}

#[test]
fn thousands_of_clients_in_turn_leave_nothing_behind() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    good_client_is_served(&lab, addr)?;
    let descriptors = server_is_alone(&lab, &server)?;
    for _ in 0..2000 {
        good_client_is_served(&lab, addr)?;
    }
    assert_eq!(server_is_alone(&lab, &server)?, descriptors);
    for _ in 0..2001 {
        server.expect(" closed the connection after 14 bytes\n")?;
    }
    Ok(())
}

/// Waits until no client's thread is left, and counts the descriptors.
fn server_is_alone(lab: &Lab, server: &Program) -> Result<Option<usize>> {
    lab.wait_until("the last client's thread has ended", || {
        proc::threads(server.id()).is_none_or(|threads| threads == 1)
    })?;
    Ok(proc::descriptors(server.id()))
}

#[test]
fn five_hundred_clients_are_served_at_once() -> Result {
    if !can_open(1200) {
        return Ok(());
    }
    let lab = Lab::new();
    let (server, addr) = start_server(&lab)?;
    let mut clients = (0..500)
        .map(|_| lab.connect("one of 500", addr))
        .collect::<Result<Vec<_>>>()?;
    for client in clients.iter_mut().rev() {
        still_served(client)?;
    }
    if let Some(threads) = proc::threads(server.id()) {
        assert_eq!(threads, 501);
    }
    clients.iter_mut().try_for_each(still_served)?;
    clients.into_iter().try_for_each(Peer::reset)
}

/// True if this process, and what it starts, may have `count` descriptors;
/// raises the limit where that is allowed.
fn can_open(count: usize) -> bool {
    let count = count as u64;
    let able = match descriptor_limit() {
        Some(limit) if limit >= count => true,
        Some(_) => proc::limit_descriptors(process::id(), count).is_ok(),
        None => cfg!(windows),
    };
    if !able {
        eprintln!("skipped: no {count} descriptors for this process");
    }
    able
}

/// How many descriptors this process may have, on Linux.
fn descriptor_limit() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|l| l.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// The queue is std's, and the limit is in the header.
#[test]
#[cfg(target_os = "linux")]
fn clients_beyond_the_queue_of_128_try_again_and_are_served() -> Result {
    const QUEUE: usize = 128 + 1; // Linux takes one more than was asked for.
    const BEYOND: usize = 20;
    let lab = Lab::new();
    let (server, addr) = start_server(&lab)?;
    // A server that is stopped accepts nobody, and its kernel still does.
    signal(&server, "STOP");
    let stat = format!("/proc/{}/stat", server.id());
    lab.wait_until("the server has stopped", || {
        fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
    })?;
    // In turn: of two that come at once, Linux may finish one only at the
    // client's end, and then the table shows one connection too many.
    let waiting: Vec<_> = (0..QUEUE)
        .map(|_| lab.connect("quick", addr))
        .collect::<Result<_>>()?;
    // A client is connected a little before the kernel has queued it.
    lab.wait_until("a full queue", || {
        let rows = proc::tcp_rows(addr.port()).unwrap_or_default();
        rows.iter().any(|row| {
            row.local == addr
                && row.state == "LISTEN"
                && row.receive_queue == QUEUE
        })
    })?;
    let connecting: Vec<_> = (0..BEYOND)
        .map(|_| {
            let lab = lab.clone();
            std::thread::spawn(move || lab.connect("late", addr))
        })
        .collect();
    lab.wait_until("20 attempts without answer", || {
        let rows = proc::tcp_table().unwrap_or_default();
        let wanted =
            |row: &&proc::TcpRow| row.remote == addr && row.state == "SYN-SENT";
        rows.iter().filter(wanted).count() == BEYOND
    })?;
    signal(&server, "CONT");
    for mut client in waiting {
        still_served(&mut client)?;
    }
    for client in connecting {
        still_served(&mut joined(client)?)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn signal(program: &Program, name: &str) {
    let killed = Command::new("kill")
        .args([&format!("-{name}"), &program.id().to_string()])
        .status();
    assert!(killed.is_ok_and(|status| status.success()), "no kill");
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_c_cuts_off_all_clients() -> Result {
    let lab = Lab::new();
    // A job in a shell's background ignores SIGINT, and so does what it starts;
    // these tests may be such a job.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT");
    command.arg(server_path()).arg("127.0.0.1:0");
    let mut server = lab.start_command("server", command)?;
    let addr = server.wait_until_listening()?;
    let mut a = lab.connect("a", addr)?;
    let mut b = lab.connect("b", addr)?;
    still_served(&mut a)?;
    still_served(&mut b)?;
    signal(&server, "INT");
    a.expect_end()?;
    b.expect_end()?;
    assert_eq!(server.exit()?.code(), None, "ended by a signal");
    Ok(())
}

// Clients that misbehave.

#[test]
fn a_reset_in_mid_message_is_one_line_on_stderr() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let mut a = lab.connect("a", addr)?;
    let local = a.local_addr()?;
    a.send("half a mess")?;
    a.expect("half a mess")?;
    a.reset()?;
    server_complains_about(&mut server, local)?;
    good_client_is_served(&lab, addr)?;
    server.expect(" closed the connection after 14 bytes\n")?;
    assert!(
        !String::from_utf8_lossy(&server.stdout())
            .contains(&format!("{local} closed"))
    );
    assert_eq!(lines(&server.stderr()), 1);
    Ok(())
}

#[test]
fn a_client_that_leaves_without_reading_hinders_nobody() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    for _ in 0..20 {
        let a = lab.connect("a", addr)?;
        a.send(bytes(10_000))?;
        // Unread bytes make a reset of this.
        a.close();
    }
    for _ in 0..20 {
        server.expect(" connected\n")?;
    }
    good_client_is_served(&lab, addr)?;
    server_is_alone(&lab, &server)?;
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn a_hundred_hang_ups_cost_no_processor_time() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    for _ in 0..100 {
        lab.connect("a", addr)?.close();
        server.expect(" closed the connection after 0 bytes\n")?;
    }
    good_client_is_served(&lab, addr)?;
    let used = proc::cpu_time(server.id()).expect("this is Linux");
    assert!(used < Duration::from_millis(500), "used {used:?}");
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn a_client_that_never_reads_makes_its_own_thread_wait() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let mut deaf = lab.connect("deaf", addr)?;
    let local = deaf.local_addr()?;
    let sending = deaf.send_in_background(bytes(TOO_MUCH), 64 << 10);
    both_ends_are_stuck_while_others_are_served(&lab, local, addr)?;

    // The thread only waited: when its client reads, nothing was lost.
    expect_all(&mut deaf, &bytes(TOO_MUCH))?;
    joined(sending)?;
    deaf.half_close()?;
    deaf.expect_end()?;
    let closed = "closed the connection after 33554432 bytes";
    server.expect(&format!("{local} {closed}\n"))?;
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn a_line_of_32_mebibytes_blocks_the_client_program_and_its_thread() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let mut client = start_client(&lab, "client", addr)?;
    let connected = server.line()?;
    let local = connected.strip_suffix(" connected").unwrap_or_default();
    let local: SocketAddr = local.parse().expect("an address");
    client.expect("send> ")?;
    client.type_line(&"x".repeat(TOO_MUCH));
    both_ends_are_stuck_while_others_are_served(&lab, local, addr)?;
    assert_eq!(client.stdout(), b"send> ", "it read");

    client.kill()?;
    server_complains_about(&mut server, local)?;
    good_client_is_served(&lab, addr)
}

/// Waits until each end has bytes that its program does not read, and bytes
/// that the other end does not take, and none of these four queues moves
/// while a good client makes 300 round trips.
#[cfg(target_os = "linux")]
fn both_ends_are_stuck_while_others_are_served(
    lab: &Lab,
    client: SocketAddr,
    server: SocketAddr,
) -> Result {
    let mut good = lab.connect("good", server)?;
    lab.wait_until("four queues full, and still", || {
        let before = queues(client, server).unwrap_or_default();
        let served = (0..300).all(|_| still_served(&mut good).is_ok());
        let after = queues(client, server).unwrap_or_default();
        served && before == after && !after.contains(&0)
    })
}

/// The bytes not read and not taken, of the client and of the server.
#[cfg(target_os = "linux")]
fn queues(client: SocketAddr, server: SocketAddr) -> Option<[usize; 4]> {
    let table = proc::tcp_table()?;
    let row = |local, remote| {
        table
            .iter()
            .find(|row| row.local == local && row.remote == remote)
    };
    let (a, b) = (row(client, server)?, row(server, client)?);
    Some([a.receive_queue, a.send_queue, b.receive_queue, b.send_queue])
}

// The machine says no.

/// As with `ulimit -n 32`: the standard three, the listener, and 28 clients.
#[test]
#[cfg(target_os = "linux")]
fn out_of_descriptors_it_pauses_and_serves_again_when_some_leave() -> Result {
    const SERVED: usize = 28;
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    proc::leave_descriptors(server.id(), SERVED).expect("a soft limit");
    let mut clients = (0..60)
        .map(|_| lab.connect("one of 60", addr))
        .collect::<Result<Vec<_>>>()?;
    server.expect_error(REFUSED)?;
    let mut waiting = clients.split_off(SERVED);
    clients.iter_mut().try_for_each(still_served)?;

    let cpu_before = proc::cpu_time(server.id());
    server.expect_error(REFUSED)?;
    server.expect_error(REFUSED)?;
    let used = proc::cpu_time(server.id()).zip(cpu_before);
    let used = used.map(|(now, before)| now - before);
    let used = used.expect("this is Linux");
    assert!(used <= Duration::from_millis(50), "used {used:?}");
    for client in &waiting {
        assert!(client.has_nothing()?, "served without a descriptor");
    }

    while !waiting.is_empty() {
        clients.into_iter().for_each(Peer::close);
        let rest = waiting.split_off(waiting.len().min(SERVED));
        clients = waiting;
        waiting = rest;
        clients.iter_mut().try_for_each(still_served)?;
    }
    clients.into_iter().for_each(Peer::close);
    good_client_is_served(&lab, addr)
}

/// Two pipes would not keep the order of what is said on both outputs.
#[cfg(target_os = "linux")]
fn start_server_on_one_pipe(lab: &Lab) -> Result<(Program, SocketAddr)> {
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$0\" 127.0.0.1:0 2>&1"])
        .arg(server_path());
    let mut server = lab.start_command("server", command)?;
    let addr = server.wait_until_listening()?;
    Ok((server, addr))
}

/// As with `ulimit -n 6`: the standard three, the listener, and two clients.
#[test]
#[cfg(target_os = "linux")]
fn transcript_a_client_without_a_descriptor_waits() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server_on_one_pipe(&lab)?;
    proc::leave_descriptors(server.id(), 2).expect("a soft limit");
    let mut clients = Vec::new();
    for name in ["first", "second"] {
        let mut client = start_client(&lab, name, addr)?;
        server.expect(" connected\n")?;
        client.type_line("hello");
        client.expect("received: hello\nsend> ")?;
        clients.push(client);
    }
    server.expect(REFUSED)?;
    server.expect(REFUSED)?;
    let mut third = start_client(&lab, "third", addr)?;
    third.expect("send> ")?;
    third.type_line("is anybody there?");
    clients[0].end_input();
    clients[0].expect_exit(0)?;
    server.expect(" closed the connection after 6 bytes\n")?;
    server.expect(" connected\n")?;
    third.expect("received: is anybody there?\nsend> ")?;
    server.expect(REFUSED)?;
    server.expect(REFUSED)?;

    let mut scene = Transcript::new(&lab, "03-descriptors", addr);
    let command = "(ulimit -n 6; target/debug/lesson-03-threaded)";
    let screen = at_most_twice(&server.screen());
    scene.text("server", &format!("$ {command}\n{screen}"));
    scene.terminal("third", CLIENT_COMMAND, &third);
    scene.check()
}

/// A slow machine is refused once more often: the page shows two of a kind.
#[cfg(target_os = "linux")]
fn at_most_twice(screen: &str) -> String {
    let lines: Vec<_> = screen.split_inclusive('\n').collect();
    let thrice = |at: usize| at > 1 && lines[at - 2..at] == [lines[at]; 2];
    (0..lines.len())
        .filter(|&at| !thrice(at))
        .map(|at| lines[at])
        .collect()
}

/// A thread needs 2 MiB of address space for its stack.
#[test]
#[cfg(target_os = "linux")]
fn a_thread_that_cannot_be_spawned_costs_that_client_only() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    limit_address_space(&server, MIB as u64);
    let mut a = lab.connect("a", addr)?;
    a.expect_end()?;
    let complaint = server.error_line()?;
    let wanted =
        format!("{}: turned away, no thread for it: ", a.local_addr()?);
    assert!(complaint.starts_with(&wanted), "{complaint}");
    proc::limit_address_space(server.id(), None).expect("no hard limit");
    good_client_is_served(&lab, addr)
}

#[test]
#[cfg(target_os = "linux")]
fn transcript_a_client_without_a_thread_is_turned_away() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server_on_one_pipe(&lab)?;
    limit_address_space(&server, MIB as u64);
    let mut client = start_client(&lab, "client", addr)?;
    server.expect("turned away, no thread for it: ")?;
    server.expect("\n")?;
    client.expect("send> ")?;
    client.type_line("hello");
    client.expect_line("server closed the connection")?;
    client.expect_exit(1)?;

    let mut scene = Transcript::new(&lab, "03-no-thread", addr);
    let command = "(ulimit -v 5000; target/debug/lesson-03-threaded)";
    scene.terminal("server", command, &server);
    scene.terminal("client", CLIENT_COMMAND, &client);
    scene.check()
}

/// A thread takes four memory mappings, and Linux allows 65,530 a process, if
/// nobody has changed that.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs 18,000 descriptors and 17,000 threads"]
fn some_16_400_clients_end_the_server() -> Result {
    let mappings = fs::read_to_string("/proc/sys/vm/max_map_count");
    if !can_open(18_000) || mappings.is_ok_and(|most| most != "65530\n") {
        eprintln!("skipped: other limits");
        return Ok(());
    }
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let ask = |mut client: TcpStream| {
        client.set_read_timeout(Some(Duration::from_secs(20)))?;
        client.write_all(b"??")?;
        // The other byte stays unread, and makes a reset of the close: so many
        // in TIME-WAIT would slow down later tests.
        client.read_exact(&mut [0])?;
        Ok(client)
    };
    let _crowd: Vec<_> = (0..16_000)
        .map(|_| TcpStream::connect(addr).and_then(ask))
        .collect::<std::io::Result<_>>()
        .expect("16,000 are served");
    // Not in turn any more: else it can be the next stack that finds no room.
    let _burst: Vec<_> = (0..500).map(|_| TcpStream::connect(addr)).collect();
    assert_eq!(server.exit()?.code(), None, "ended by a signal");
    Ok(())
}

/// The stack of a thread that has ended is kept by the C library and used
/// again, so `spawn` succeeds, and then the thread itself needs 16 KiB more.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn a_thread_that_starts_and_gets_no_memory_ends_the_server() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    good_client_is_served(&lab, addr)?;
    server_is_alone(&lab, &server)?;
    limit_address_space(&server, 0);
    let _a = lab.connect("a", addr)?;
    server.expect(" connected\n")?;
    assert_eq!(server.exit()?.code(), None, "ended by a signal");
    let complaint = String::from_utf8_lossy(&server.stderr()).into_owned();
    assert!(complaint.contains("alternative stack"), "{complaint}");
    Ok(())
}

/// Leaves a server so many bytes more than it has already.
#[cfg(target_os = "linux")]
fn limit_address_space(server: &Program, more: u64) {
    let most = proc::address_space(server.id()).map(|used| used + more);
    proc::limit_address_space(server.id(), most).expect("a soft limit");
}

// Addresses.

#[test]
fn a_name_and_an_ipv6_address_work() -> Result {
    let lab = Lab::new();
    for addr in ["localhost:0", "[::1]:0"] {
        let mut server = lab.start("server", server_path(), &[addr])?;
        let bound = server.wait_until_listening()?;
        good_client_is_served(&lab, bound)?;
        let local = server.line()?;
        let ip = format!("{bound}").replace(&bound.port().to_string(), "");
        assert!(local.starts_with(&ip), "{local} is not like {ip}");
    }
    Ok(())
}

#[test]
fn a_port_in_use_is_refused_with_what_to_do() -> Result {
    let lab = Lab::new();
    let (_server, addr) = start_server(&lab)?;
    let addr = addr.to_string();
    run(&[&addr])
        .stderr(contains(format!("cannot listen on {addr}: ")))
        .stderr(contains("give a free HOST:PORT"));
    good_client_is_served(&lab, addr.parse().expect("an address"))
}

#[test]
fn what_is_not_an_address_is_refused_with_an_example() {
    for addr in ["", "nonsense", "127.0.0.1", "127.0.0.1:99999", "::1", ":1"] {
        run(&[addr]).stderr(contains("such as 127.0.0.1:0"));
    }
}

/// Runs the server with arguments that should end it at once.
fn run(args: &[&str]) -> assert_cmd::assert::Assert {
    refused(assert_cmd::Command::new(server_path()).args(args))
}

fn refused(command: &mut assert_cmd::Command) -> assert_cmd::assert::Assert {
    command
        .env_remove("RUST_BACKTRACE")
        .timeout(Duration::from_secs(20))
        .assert()
        .code(1)
        .stdout("")
        .stderr(contains("panicked").not())
}

// What a client costs.

#[cfg(target_os = "linux")]
const COUNTED: usize = 100;

/// The bound holds where a page has 4 KiB; measured: 9.6 KiB.
#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn an_idle_client_costs_at_most_12_kib_of_memory() -> Result {
    let lab = Lab::new();
    let (server, addr) = start_server_with_one_heap(&lab)?;
    let private = || proc::private_memory(server.id()).unwrap_or_default();
    let _warm_up = idle_clients(&lab, addr, 20)?;
    let before = private();
    let _counted = idle_clients(&lab, addr, COUNTED)?;
    let each = (private() - before) / COUNTED as u64;
    assert!(each <= 12 << 10, "{each} bytes");
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn a_thread_takes_four_mappings_and_two_mebibytes_of_addresses() -> Result {
    let lab = Lab::new();
    let (server, addr) = start_server_with_one_heap(&lab)?;
    let mappings = || proc::mappings(server.id()).unwrap_or_default();
    let space = || proc::address_space(server.id()).unwrap_or_default();
    let _warm_up = idle_clients(&lab, addr, 20)?;
    let before = (mappings(), space());
    let _counted = idle_clients(&lab, addr, COUNTED)?;
    // Neighbours may become one mapping, so this is rounded.
    let more = mappings() - before.0;
    assert_eq!((more + COUNTED / 2) / COUNTED, 4, "{more} mappings");
    let more = (space() - before.1) / COUNTED as u64;
    assert_eq!(more / MIB as u64, 2, "{more} bytes each");
    Ok(())
}

/// With the heaps that the C library makes for the first threads (eight for
/// each processor), the result would depend on the machine.
#[cfg(target_os = "linux")]
fn start_server_with_one_heap(lab: &Lab) -> Result<(Program, SocketAddr)> {
    let mut command = Command::new(server_path());
    command.arg("127.0.0.1:0").env("MALLOC_ARENA_MAX", "1");
    let mut server = lab.start_command("server", command)?;
    let addr = server.wait_until_listening()?;
    Ok((server, addr))
}

#[cfg(target_os = "linux")]
fn idle_clients(
    lab: &Lab,
    addr: SocketAddr,
    count: usize,
) -> Result<Vec<Peer>> {
    (0..count)
        .map(|_| {
            let mut client = lab.connect("idle", addr)?;
            still_served(&mut client)?;
            Ok(client)
        })
        .collect()
}

// The system calls.

#[test]
#[ignore = "needs strace"]
fn a_request_is_two_system_calls_and_a_connection_what_it_must_be() -> Result {
    // What std and the C library do to make and to end a thread, which is a
    // little more or less each time; and fcntl, by which std looks in a debug
    // build at a descriptor that it closes.
    const OF_THREADS: &str = "clone clone3 exit fcntl futex gettid madvise \
        mmap mprotect munmap rseq rt_sigprocmask sched_getaffinity \
        set_robust_list sigaltstack";
    let calls = |connections, requests| {
        let lab = Lab::new();
        let mut command = Command::new("strace");
        command
            .args(["-D", "-f", "-s", "100"])
            .arg(server_path())
            .arg("127.0.0.1:0");
        let mut server = lab.start_command("server", command)?;
        let addr = server.wait_until_listening()?;
        for _ in 0..connections {
            let mut client = lab.connect("client", addr)?;
            for _ in 0..requests {
                still_served(&mut client)?;
            }
            client.half_close()?;
            client.expect_end()?;
            server.expect_error(" closed the connection after ")?;
            server.expect_error("close(")?;
        }
        // Not by a kill, which leaves calls in the trace without a name.
        lab.wait_until("the server waits in accept again", || {
            let counts = count_calls(&server.stderr());
            counts.get("accept4") == Some(&(connections + 1))
        })?;
        Ok(count_calls(&server.stderr()))
    };
    let few = calls(10, 1)?;
    let more_requests = calls(10, 101)?;
    assert_eq!(
        increase(&few, &more_requests, OF_THREADS),
        [("recvfrom", 1000), ("sendto", 1000),]
    );
    let more_connections = calls(110, 1)?;
    assert_eq!(
        increase(&few, &more_connections, OF_THREADS),
        [
            ("accept4", 100),
            ("close", 100),
            ("recvfrom", 200),
            ("sendto", 100),
            ("write", 200),
        ]
    );
    Ok(())
}

/// How often each call stands in a trace of strace.
fn count_calls(trace: &[u8]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in String::from_utf8_lossy(trace).lines() {
        let call = match line.strip_prefix("[pid") {
            Some(rest) => rest.split_once("] ").map_or("", |(_, call)| call),
            None => line,
        };
        // `<... accept4 resumed>` is the second half of a call seen before.
        if let Some((name, _)) = call.split_once('(')
            && !name.starts_with('<')
        {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// Which calls there are more of, `except` some, and how many more.
fn increase<'a>(
    few: &BTreeMap<String, usize>,
    many: &'a BTreeMap<String, usize>,
    except: &str,
) -> Vec<(&'a str, usize)> {
    many.iter()
        .filter(|(name, _)| !except.split(' ').any(|e| e == *name))
        .map(|(name, count)| {
            let before = few.get(name).copied().unwrap_or_default();
            (name.as_str(), count.saturating_sub(before))
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

// Python on the other side.

const PYTHON_CLIENT: &str = r#"
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for text in ["hello", "你好"]:
    s.sendall(text.encode())
    print(s.recv(1024).decode(), flush=True)
s.shutdown(socket.SHUT_WR)
print(s.recv(1024), flush=True)
"#;

#[test]
#[ignore = "needs python3"]
fn a_python_client_gets_back_what_it_sends() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let port = addr.port().to_string();
    let args = ["-c", PYTHON_CLIENT, &port];
    let mut python = lab.start("python", Path::new("python3"), &args)?;
    for line in ["hello", "你好", "b''"] {
        python.expect_line(line)?;
    }
    python.expect_exit(0)?;
    server.expect(" closed the connection after 11 bytes\n")?;
    Ok(())
}
