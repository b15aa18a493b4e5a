//! Lesson 03 does what its chapter says, with good clients and bad ones.

use std::net::SocketAddr;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use assert_cmd::cargo::cargo_bin;
use harness::{Lab, Program, Result};
#[cfg(target_os = "linux")]
use harness::{Peer, Transcript, lines, proc};

#[cfg(target_os = "linux")]
const MIB: usize = 1 << 20;
/// More than the kernel keeps for both directions of a connection together
/// (measured: 8 MiB, give or take half a MiB).
#[cfg(target_os = "linux")]
const TOO_MUCH: usize = 32 * MIB;
#[cfg(target_os = "linux")]
const REFUSED: &str = "cannot accept a client, trying again: Too many open \
    files (os error 24)\n";
#[cfg(target_os = "linux")]
const CLIENT_COMMAND: &str = "cargo run --bin client";

fn server_path() -> &'static Path {
    cargo_bin!("lesson-03-threaded")
}

fn start_server(lab: &Lab) -> Result<(Program, SocketAddr)> {
    lab.start_server(server_path(), &["127.0.0.1:0"])
}

// An echo.

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
#[cfg(target_os = "linux")]
fn a_line_of_32_mebibytes_blocks_the_client_program_and_its_thread() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let mut client = lab.start_client("client", addr)?;
    let connected = server.line()?;
    let local = connected.strip_suffix(" connected").unwrap_or_default();
    let local: SocketAddr = local.parse().expect("an address");
    client.expect("send> ")?;
    client.type_line(&"x".repeat(TOO_MUCH));
    let mut good = lab.connect("good", addr)?;
    lab.wait_until("four queues full, and still", || {
        proc::is_stuck(local, addr, || {
            (0..300).all(|_| good.gets_echo("still there").is_ok())
        })
    })?;
    assert_eq!(client.stdout(), b"send> ", "it read");

    client.kill()?;
    server.expect_complaint_about(local)?;
    lab.good_client_gets_echo(addr)
}

// The machine says no.

/// Two pipes would not keep the order of what is said on both outputs.
#[cfg(target_os = "linux")]
fn start_server_on_one_pipe(lab: &Lab) -> Result<(Program, SocketAddr)> {
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$0\" 127.0.0.1:0 2>&1"])
        .arg(server_path());
    lab.start_server_command(command)
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
        let mut client = lab.start_client(name, addr)?;
        server.expect(" connected\n")?;
        client.type_line("hello");
        client.expect("received: hello\nsend> ")?;
        clients.push(client);
    }
    server.expect(REFUSED)?;
    server.expect(REFUSED)?;
    let mut third = lab.start_client("third", addr)?;
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
    let mut other = lab.connect("other", addr)?;
    other.gets_echo("before")?;
    limit_address_space(&server, MIB as u64);
    let mut a = lab.connect("a", addr)?;
    a.expect_end()?;
    other.gets_echo("after")?;
    let complaint = server.error_line()?;
    let wanted =
        format!("{}: turned away, no thread for it: ", a.local_addr()?);
    assert!(complaint.starts_with(&wanted), "{complaint}");
    proc::limit_address_space(server.id(), None).expect("no hard limit");
    lab.good_client_gets_echo(addr)?;
    other.gets_echo("still there")?;
    assert_eq!(lines(&server.stderr()), 1);
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn transcript_a_client_without_a_thread_is_turned_away() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server_on_one_pipe(&lab)?;
    limit_address_space(&server, MIB as u64);
    let mut client = lab.start_client("client", addr)?;
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
    if !harness::can_open(18_000)
        || mappings.is_ok_and(|most| most != "65530\n")
    {
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
    lab.good_client_gets_echo(addr)?;
    lab.wait_until("the last client's thread has ended", || {
        proc::threads(server.id()) == Some(1)
    })?;
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
    lab.start_server_command(command)
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
            client.gets_echo("still there")?;
            Ok(client)
        })
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
