//! Lesson 07 does what its chapter says: a message is a line.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use harness::{Lab, Peer, Program, Result, Transcript, proc, strace};

const ADDR: &str = "127.0.0.1:0";
const MAX_LINE: usize = 4096;
const MIB: usize = 1 << 20;
const SERVER_COMMAND: &str = "cargo run -p lesson-07-framing";
const CLIENT_COMMAND: &str = "cargo run --bin line-client";

fn server_path() -> &'static Path {
    cargo_bin!("lesson-07-framing")
}

fn start_client(lab: &Lab, name: &str, addr: SocketAddr) -> Result<Program> {
    let args = [&*addr.to_string()];
    lab.start(name, cargo_bin!("line-client"), &args)
}

/// Asks for one line, and gets it with its number.
fn is_answered(peer: &mut Peer, number: usize) -> Result {
    peer.send(format!("still {number}\n"))?;
    peer.expect(format!("{number}: still {number}\n"))
}

fn good_client_is_served(lab: &Lab, addr: SocketAddr) -> Result {
    let mut good = lab.connect("good", addr)?;
    is_answered(&mut good, 1)?;
    good.half_close()?;
    good.expect_end()
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

// A message is a line.

#[test]
fn transcript_each_line_is_answered_with_its_number() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut client = start_client(&lab, "client", addr)?;
    for (number, line) in ["hello", "", "你好"].iter().enumerate() {
        client.expect("send> ")?;
        client.type_line(line);
        client.expect(&format!("received: {}: {line}\n", number + 1))?;
    }
    client.expect("send> ")?;
    client.end_input();
    client.expect_exit(0)?;
    server.expect(" closed the connection after 3 lines\n")?;

    let mut scene = Transcript::new(&lab, "07-lines", addr);
    scene.terminal("server", SERVER_COMMAND, &server);
    scene.terminal("client", CLIENT_COMMAND, &client);
    scene.check()
}

/// The 342nd Chinese character breaks the tutorial's server, and lesson 01
/// shows it broken.
#[test]
fn a_character_cut_by_the_end_of_a_read_comes_back_whole() -> Result {
    let lab = Lab::new();
    let (_server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut a = lab.connect("a", addr)?;
    let line = "你".repeat(342);
    a.send(format!("{line}\n"))?;
    a.expect(format!("1: {line}\n"))
}

#[test]
fn messages_that_come_in_one_read_are_answered_one_by_one() -> Result {
    let lab = Lab::new();
    let (_server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut a = lab.connect("a", addr)?;
    a.send("one\ntwo\nthr")?;
    a.expect("1: one\n2: two\n")?;
    a.send("ee\n")?;
    a.expect("3: three\n")
}

// What is no message.

#[test]
fn bytes_that_are_not_utf8_are_refused_in_their_turn() -> Result {
    let lab = Lab::new();
    let (_server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut a = lab.connect("a", addr)?;
    a.send(b"before\nb\xffd\nbehind\n")?;
    a.expect("1: before\n2 is not UTF-8\n3: behind\n")?;
    is_answered(&mut a, 4)
}

#[test]
fn a_line_over_the_limit_is_refused_in_its_turn() -> Result {
    let lab = Lab::new();
    let (_server, addr) = lab.start_server(server_path(), &[ADDR])?;
    for size in [1, 1000, usize::MAX] {
        let mut a = lab.connect("a", addr)?;
        let line = "x".repeat(MAX_LINE + 1);
        a.send_in_chunks(format!("before\n{line}\nbehind\n"), size)?;
        a.expect("1: before\n2 is too long\n3: behind\n")?;
        is_answered(&mut a, 4)?;
    }
    Ok(())
}

#[test]
fn a_line_without_an_end_costs_no_memory() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let a = lab.connect("a", addr)?;
    let local = a.local_addr()?;
    a.send_in_chunks(vec![b'x'; 64 * MIB], 64 << 10)?;
    good_client_is_served(&lab, addr)?;
    if let Some(peak) = proc::peak_memory(server.id()) {
        assert!(peak < 8 * MIB, "the server took {peak} bytes");
    }
    a.half_close()?;
    let wanted = format!("{local}: it ended in the middle of a line");
    assert_eq!(server.error_line()?, wanted);
    Ok(())
}

#[test]
fn transcript_an_end_in_the_middle_of_a_line_is_told_apart() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut a = lab.connect("a", addr)?;
    let local = a.local_addr()?;
    // Standard output and standard error come on two ways.
    server.expect(" connected\n")?;
    a.send("pay him 100\npay her 1")?;
    a.half_close()?;
    a.expect("1: pay him 100\n")?;
    a.expect_end()?;
    let wanted = format!("{local}: it ended in the middle of a line");
    assert_eq!(server.error_line()?, wanted);
    let mut scene = Transcript::new(&lab, "07-half-line", addr);
    scene.terminal("server", SERVER_COMMAND, &server);
    scene.check()?;
    good_client_is_served(&lab, addr)?;
    server.expect(" closed the connection after 1 lines\n")?;
    Ok(())
}

// The limits.

#[test]
fn an_unfinished_line_keeps_its_thread_and_hinders_nobody() -> Result {
    let lab = Lab::new();
    let (server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut slow = lab.connect("slow", addr)?;
    is_answered(&mut slow, 1)?;
    slow.send("I am thin")?;
    for _ in 0..10 {
        good_client_is_served(&lab, addr)?;
    }
    if let Some(threads) = proc::threads(server.id()) {
        assert!(threads >= 2, "{threads} threads");
    }
    slow.send("king\n")?;
    slow.expect("2: I am thinking\n")
}

// Small writes.

#[test]
#[ignore = "needs strace"]
fn all_answers_of_one_read_are_one_write() -> Result {
    let lab = Lab::new();
    let options = ["-e", "trace=recvfrom,sendto"];
    let (mut server, addr) =
        lab.trace_server(&options, server_path(), &[ADDR])?;
    let mut a = lab.connect("a", addr)?;
    a.send("hi\n".repeat(100))?;
    a.expect((1..=100).map(|n| format!("{n}: hi\n")).collect::<String>())?;
    a.half_close()?;
    server.expect_error("= 0\n")?;
    let calls = strace::calls(&server.stderr());
    let names: Vec<_> = calls.iter().map(|call| call.name.as_str()).collect();
    assert_eq!(
        names,
        ["recvfrom", "sendto", "recvfrom"],
        "the last: the end"
    );
    Ok(())
}

/// How many round trips of one client fit into 20 of another, which writes
/// each line in these pieces.
fn round_trips_meanwhile(
    addr: SocketAddr,
    nodelay: bool,
    pieces: &[&str],
) -> std::io::Result<usize> {
    let connect = || {
        let stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let answers = BufReader::new(stream.try_clone()?);
        std::io::Result::Ok((stream, answers))
    };
    let round_trip = |(stream, answers): &mut (TcpStream, BufReader<_>),
                      pieces: &[&str]| {
        for piece in pieces {
            stream.write_all(piece.as_bytes())?;
        }
        answers.read_line(&mut String::new()).map(drop)
    };
    let (count, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut other = connect()?;
    let mut measured = connect()?;
    measured.0.set_nodelay(nodelay)?;
    thread::scope(|scope| {
        let others = scope.spawn(|| {
            while !over.load(SeqCst) {
                round_trip(&mut other, &["hello\n"])?;
                count.fetch_add(1, SeqCst);
            }
            std::io::Result::Ok(())
        });
        let rounds = (0..20)
            .try_for_each(|_| round_trip(&mut measured, pieces))
            .map(|()| count.load(SeqCst));
        over.store(true, SeqCst);
        others.join().expect("it does not panic")?;
        rounds
    })
}

/// Nagle's algorithm and the delayed acknowledgement, without a clock.
#[test]
fn two_small_writes_wait_for_each_other_and_there_are_two_cures() -> Result {
    if !cfg!(target_os = "linux") {
        eprintln!("skipped: what waits for what was measured on Linux only");
        return Ok(());
    }
    let lab = Lab::new();
    let (_server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let meanwhile = |nodelay, pieces: &[&str]| {
        round_trips_meanwhile(addr, nodelay, pieces).expect("answers")
    };
    let waits = meanwhile(false, &["hello", "\n"]);
    let cures = [
        meanwhile(true, &["hello", "\n"]),
        meanwhile(false, &["hello\n"]),
    ];
    for cured in cures {
        assert!(waits > 10 * cured, "{waits} round trips, and {cured}");
    }
    Ok(())
}

// The client.

/// Lesson 01's client shows the rest under the next prompt.
#[test]
fn a_long_answer_is_shown_whole_under_its_own_prompt() -> Result {
    let lab = Lab::new();
    let listener = lab.listen("listener")?;
    let mut client = start_client(&lab, "client", listener.addr())?;
    let mut peer = listener.accept("peer")?;
    client.type_line("tell me a lot");
    peer.expect("tell me a lot\n")?;
    let line = "x".repeat(100_000);
    peer.send_in_chunks(format!("{line}\n"), 1000)?;
    client.expect(&format!("send> received: {line}\nsend> "))?;
    Ok(())
}

#[test]
fn what_was_typed_without_a_newline_is_sent_with_one() -> Result {
    let lab = Lab::new();
    let listener = lab.listen("listener")?;
    let client = &mut start_client(&lab, "client", listener.addr())?;
    let mut peer = listener.accept("peer")?;
    client.type_bytes(b"\xff is no text");
    client.end_input();
    peer.expect(b"\xff is no text\n")?;
    peer.send("1 is not UTF-8\n")?;
    client.expect("received: 1 is not UTF-8\n")?;
    peer.expect_end()?;
    peer.send("a last word\n")?;
    client.expect("received: a last word\n")?;
    peer.close();
    client.expect_line("server closed the connection")?;
    client.expect_exit(0)
}

#[test]
fn the_client_tells_a_part_of_a_line_from_a_line() -> Result {
    let lab = Lab::new();
    let listener = lab.listen("listener")?;
    let mut client = start_client(&lab, "client", listener.addr())?;
    let mut peer = listener.accept("peer")?;
    client.type_line("how much?");
    peer.expect("how much?\n")?;
    peer.send("100")?;
    peer.half_close()?;
    client.expect("received a part of a line: 100\n")?;
    client.expect_line("server closed the connection")?;
    client.expect_exit(1)
}

#[test]
fn a_lost_server_is_one_line_and_exit_code_1() -> Result {
    let lab = Lab::new();
    for reset in [false, true] {
        let listener = lab.listen("listener")?;
        let mut client = start_client(&lab, "client", listener.addr())?;
        let mut peer = listener.accept("peer")?;
        client.type_line("hello");
        peer.expect("hello\n")?;
        if reset {
            peer.reset()?;
        } else {
            peer.close();
        }
        client.expect("send> server closed the connection\n")?;
        client.expect_exit(1)?;
        assert_eq!(text(&client.stderr()), "");
    }
    Ok(())
}

/// The limits of the client.
#[test]
fn the_client_takes_one_line_of_any_length_for_each_line_typed() -> Result {
    let lab = Lab::new();
    let listener = lab.listen("listener")?;
    let mut client = start_client(&lab, "client", listener.addr())?;
    let mut peer = listener.accept("peer")?;
    client.type_line("one");
    peer.expect("one\n")?;
    peer.send("first\nsecond\n")?;
    client.expect("send> received: first\nsend> ")?;
    client.type_line("two");
    peer.expect("two\n")?;
    client.expect("received: second\nsend> ")?;

    client.type_line("three");
    peer.expect("three\n")?;
    peer.send_in_chunks(vec![b'x'; 8 * MIB], 64 << 10)?;
    peer.send("\n")?;
    client.expect("received: xxxx")?;
    client.expect("xxxx\nsend> ")?;
    Ok(())
}
