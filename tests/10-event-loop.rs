//! Lesson 10 does what its chapter says, with good clients and bad ones.
//! Only Linux tells of a program what is asked here: elsewhere its tests are
//! those of the battery.
#![cfg(target_os = "linux")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use assert_cmd::cargo::cargo_bin;
use harness::{
    Lab, Peer, Program, Result, Transcript, bytes, joined, proc, strace, tasks,
};

const MIB: usize = 1 << 20;

fn server_path() -> &'static Path {
    cargo_bin!("lesson-10-event-loop")
}

fn start_server(lab: &Lab) -> Result<(Program, SocketAddr)> {
    lab.start_server(server_path(), &["127.0.0.1:0"])
}

// One thread.

/// Its standard output is a pipe that nobody reads: when it is full, `println!`
/// waits, and everybody with it.
#[test]
fn one_call_that_blocks_stops_everybody() -> Result {
    let lab = Lab::new();
    let mut server = Unread::start();
    let addr = server.addr;
    let mut a = lab.connect("a", addr)?;
    a.gets_echo("before")?;
    let blocks = || tasks::blocked_in(server.child.id()) == Some(("write", 1));
    // Each line is 26 bytes, and a pipe takes 64 KiB: pipe(7).
    for _ in 0..4000 {
        if blocks() {
            break;
        }
        lab.connect("one of many", addr)?.reset()?;
    }
    lab.wait_until("a full pipe", blocks)?;
    a.send("during")?;
    let local = a.local_addr()?;
    lab.wait_until("what it sent to arrive", || {
        proc::queues(local, addr).is_some_and(|[_, _, unread, _]| unread == 6)
    })?;
    assert!(blocks() && a.has_nothing()?, "served although it blocks");

    let output = server.child.stdout.take();
    thread::spawn(move || io::copy(&mut output?, &mut io::sink()).ok());
    a.expect("during")?;
    a.gets_echo("after")
}

/// A server whose output is not read.
struct Unread {
    child: Child,
    addr: SocketAddr,
}

impl Unread {
    fn start() -> Self {
        let mut child = Command::new(server_path())
            .arg("127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server");
        let mut line = String::new();
        // The smallest buffer: what is read beyond the line would be lost.
        let output = child.stdout.as_mut().expect("a pipe");
        let read = BufReader::with_capacity(1, output).read_line(&mut line);
        assert!(read.is_ok(), "{line}");
        let addr = line.trim().strip_prefix("listening on ");
        let addr = addr.and_then(|addr| addr.parse().ok());
        let addr = addr.expect("an address");
        Self { child, addr }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(lab: &Lab, addr: SocketAddr, count: usize) -> Result<Vec<Peer>> {
    (0..count).map(|_| lab.connect("client", addr)).collect()
}

// Many.

/// Descriptors that a process needs besides those of its clients.
const SPARE: usize = 100;

/// So many clients, or as many as the limit allows, and then it says so.
fn at_most(count: usize) -> usize {
    let allowed = harness::raise_descriptor_limit(count + SPARE) - SPARE;
    if allowed < count {
        eprintln!("with {allowed} clients instead of {count}");
    }
    allowed
}

/// A client that has been served, and from now on says nothing. One byte of
/// its answer stays unread, and makes a reset of its end: thousands in
/// TIME-WAIT would slow down later tests.
fn idle(addr: SocketAddr) -> io::Result<TcpStream> {
    let mut client = TcpStream::connect(addr)?;
    client.set_read_timeout(Some(Duration::from_secs(20)))?;
    client.write_all(b"??")?;
    client.read_exact(&mut [0])?;
    Ok(client)
}

/// Measured: 0.2 KiB.
#[test]
fn nine_thousand_idle_clients_cost_at_most_1_kib_each() -> Result {
    let count = at_most(9000);
    let lab = Lab::new();
    let (server, addr) = start_server(&lab)?;
    let private = || proc::private_memory(server.id()).unwrap_or_default();
    let _warm_up = idle(addr).expect("it is served");
    let before = private();
    let crowd: io::Result<Vec<_>> = (0..count).map(|_| idle(addr)).collect();
    let crowd = crowd.expect("all are served");
    let each = (private() - before) as usize / count;
    eprintln!("{each} bytes each");
    assert!(each <= 1024, "{each} bytes each");
    assert_eq!(proc::threads(server.id()), Some(1));
    lab.good_client_gets_echo(addr)?;
    drop(crowd);
    lab.good_client_gets_echo(addr)
}

/// Lesson 04 has four workers, and they keep them all.
#[test]
fn clients_that_send_a_byte_now_and_then_freeze_lesson_04_and_not_this_one()
-> Result {
    let lab = Lab::new();
    let pool = "lesson-04-thread-pool";
    let pool = harness::binary(pool, pool)?;
    let an_hour = "3600000";
    let (_pool, addr) = lab.start_server(&pool, &["127.0.0.1:0", an_hour])?;
    let mut slow = connect(&lab, addr, 4)?;
    let now_and_then = |slow: &mut Peer| slow.gets_echo("x");
    slow.iter_mut().try_for_each(now_and_then)?;
    let fifth = lab.connect("fifth", addr)?;
    fifth.send("is anybody there?")?;
    for _ in 0..3 {
        slow.iter_mut().try_for_each(now_and_then)?;
        assert!(fifth.has_nothing()?, "a fifth worker");
    }

    let count = at_most(5000);
    let (server, addr) = start_server(&lab)?;
    let crowd: io::Result<Vec<_>> = (0..count).map(|_| idle(addr)).collect();
    let mut crowd = crowd.expect("all are served");
    for _ in 0..3 {
        for slow in &mut crowd {
            slow.write_all(b"x").expect("it sends");
        }
        lab.good_client_gets_echo(addr)?;
        for slow in &mut crowd {
            slow.read_exact(&mut [0]).expect("its answer");
        }
    }
    assert_eq!(proc::threads(server.id()), Some(1));
    lab.good_client_gets_echo(addr)
}

// Clients that take more than their share.

/// Each fills the kernel's buffers with megabytes.
#[test]
fn twenty_clients_that_never_read_cost_one_read_each() -> Result {
    const COUNT: usize = 20;
    let lab = Lab::new().with_timeout(Duration::from_secs(60));
    let (server, addr) = start_server(&lab)?;
    let private = || proc::private_memory(server.id()).unwrap_or_default();
    let mut good = lab.connect("good", addr)?;
    good.gets_echo("hello")?;
    let before = private();
    let deaf = connect(&lab, addr, COUNT)?;
    let sending: Vec<_> = deaf
        .iter()
        .map(|peer| peer.send_in_background(bytes(32 * MIB), 64 << 10))
        .collect();
    for peer in &deaf {
        let local = peer.local_addr()?;
        lab.wait_until("four queues full, and still", || {
            proc::is_stuck(local, addr, || {
                (0..300).all(|_| good.gets_echo("still there").is_ok())
            })
        })?;
    }
    let more = (private() - before) as usize;
    assert!(more <= COUNT * 4096, "{more} bytes");
    for peer in &deaf {
        // The thread that sends holds the stream, too.
        let _ = peer.stream().shutdown(Shutdown::Both);
    }
    drop(deaf);
    for thread in sending {
        assert!(joined(thread).is_err(), "it read");
    }
    lab.good_client_gets_echo(addr)
}

#[test]
fn two_clients_go_on_while_one_floods_the_server() -> Result {
    let lab = Lab::new().with_timeout(Duration::from_secs(60));
    let (_server, addr) = start_server(&lab)?;
    let example = harness::example("lesson-10-event-loop", "flood")?;
    let mut flood = lab.start("flood", &example, &[&addr.to_string()])?;
    let mut good = lab.connect("good", addr)?;
    while !flood.is_over() {
        good.gets_echo("still there")?;
    }
    flood.expect(" round trips while another client sent 64 MiB\n")?;
    flood.expect_exit(0)
}

/// How many reads of a client that floods the server come before the first of
/// a client that has said something after it. All of it has been sent while
/// the server was stopped, so it does not matter how quickly anybody is.
fn reads_before_anothers(path: &Path) -> Result<usize> {
    let lab = Lab::new().with_timeout(Duration::from_secs(60));
    let options = ["-e", "trace=recvfrom"];
    let (server, addr) = lab.trace_server(&options, path, &["127.0.0.1:0"])?;
    let mut flooding = lab.connect("flooding", addr)?;
    flooding.gets_echo("x")?;
    let mut other = lab.connect("other", addr)?;
    other.gets_echo("x")?;

    server.wait_until_blocked_in(&["epoll_wait", "epoll_pwait"])?;
    server.suspend();
    server.wait_until_stopped(true)?;
    let flood = bytes(2 * MIB);
    let sending = flooding.send_in_background(flood.clone(), 64 << 10);
    joined(sending)?;
    other.send("hello")?;
    server.resume();
    other.expect("hello")?;
    let mut count = 0;
    lab.wait_until("the trace of the other's read", || {
        let reads = strace::calls(&server.stderr()).into_iter();
        let results = reads.filter_map(|call| call.result);
        let mut results = results.skip_while(|result| result != "1024");
        let flood = results.by_ref().take_while(|result| result != "5");
        count = flood.filter(|result| result == "1024").count();
        count > 0 && results.next().is_some()
    })?;
    flooding.expect(flood)?;
    Ok(count)
}

#[test]
#[ignore = "needs strace"]
fn after_sixteen_reads_it_is_anothers_turn_and_without_turns_never() -> Result {
    assert_eq!(reads_before_anothers(server_path())?, 16);
    let turn = "READS_A_TURN: usize = 16;";
    let no_turns = "READS_A_TURN: usize = usize::MAX;";
    let reads = reads_before_anothers(&edited(turn, no_turns)?)?;
    assert!(reads >= 1024, "{reads} reads");
    Ok(())
}

/// This lesson's program with another line in `client.rs`, as an example that
/// Git ignores.
fn edited(line: &str, other: &str) -> Result<PathBuf> {
    let package = harness::root().join("crates/10-event-loop");
    let folder = package.join("examples/edited");
    fs::create_dir_all(&folder).expect("a folder");
    for file in ["main.rs", "client.rs"] {
        let source = package.join("src").join(file);
        let source = fs::read_to_string(source).expect("the source");
        let text = source.replace(line, other);
        assert_eq!(text != source, file == "client.rs", "{line} in {file}");
        // The book would look for a page that shows it.
        let text = text.replace("// ANCHOR", "// Anchor");
        fs::write(folder.join(file), text).expect("a copy");
    }
    harness::example("lesson-10-event-loop", "edited")
}

// Level and edge.

#[test]
#[ignore = "needs python3"]
fn transcript_level_and_edge() -> Result {
    let lab = Lab::new();
    let script = "crates/10-event-loop/examples/level-and-edge.py";
    let path = harness::root().join(script);
    let path = path.to_string_lossy();
    let mut python = lab.start("python", Path::new("python3"), &[&path])?;
    python.expect_exit(0)?;
    let printed = String::from_utf8_lossy(&python.stdout()).into_owned();
    assert!(printed.contains("[1, 1, 1] events\n"), "{printed}");
    assert!(printed.contains("[1, 0, 0] events\n"), "{printed}");

    let addr = "127.0.0.1:9006".parse().expect("an address");
    let mut scene = Transcript::new(&lab, "10-level-and-edge", addr);
    scene.terminal("python", &format!("python3 {script}"), &python);
    scene.check()
}
