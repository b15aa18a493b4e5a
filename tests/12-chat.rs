//! Lesson 12 does what its chapter says: state that clients share, and readers
//! who stop.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use assert_cmd::cargo::cargo_bin;
use harness::{Lab, Peer, Program, Result, Transcript, joined, proc, strace};

const ADDR: &str = "127.0.0.1:0";
const MIB: usize = 1 << 20;
/// More than the kernel keeps for both directions of a connection together
/// (measured: 8 MiB, give or take half a MiB).
const TOO_MUCH: usize = 32 * MIB;

fn server_path() -> &'static Path {
    cargo_bin!("lesson-12-chat")
}

fn start_client(lab: &Lab, name: &str, addr: SocketAddr) -> Result<Program> {
    let args = [&*addr.to_string()];
    lab.start(name, cargo_bin!("chat-client"), &args)
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

// The room.

/// A client that has come in under this name.
fn join(lab: &Lab, addr: SocketAddr, name: &str) -> Result<Peer> {
    let mut client = lab.connect(name, addr)?;
    client.expect("* what is your name?\n")?;
    client.send(format!("{name}\n"))?;
    client.expect(format!("* {name} has joined\n"))?;
    Ok(client)
}

fn good_client_is_served(lab: &Lab, addr: SocketAddr) -> Result {
    let mut good = join(lab, addr, "good")?;
    good.send("still there\n")?;
    good.expect("good: still there\n")?;
    good.half_close()?;
    good.expect_end()
}

#[test]
fn transcript_everybody_hears_everything() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut ann = start_client(&lab, "ann", addr)?;
    ann.expect("* what is your name?\n")?;
    ann.type_line("ann");
    ann.expect("* ann has joined\n")?;
    let mut bob = start_client(&lab, "bob", addr)?;
    bob.expect("* what is your name?\n")?;
    bob.type_line("ann");
    bob.expect("* that name is taken, say another one\n")?;
    bob.type_line("bob");
    for client in [&mut ann, &mut bob] {
        client.expect("* bob has joined\n")?;
    }
    ann.type_line("hello, bob");
    for client in [&mut ann, &mut bob] {
        client.expect("ann: hello, bob\n")?;
    }
    bob.type_line("你好, ann");
    for client in [&mut ann, &mut bob] {
        client.expect("bob: 你好, ann\n")?;
    }
    bob.end_input();
    bob.expect_exit(0)?;
    server.expect(" closed the connection after 3 lines\n")?;
    ann.expect("* bob has left\n")?;
    server.kill()?;
    ann.expect_exit(1)?;

    let mut scene = Transcript::new(&lab, "12-chat", addr);
    scene.terminal("server", "cargo run -p lesson-12-chat", &server);
    for (name, client) in [("ann", &ann), ("bob", &bob)] {
        scene.terminal(name, "cargo run --bin chat-client", client);
    }
    scene.check()
}

/// Says `count` lines while it hears everything; gives all that it heard.
fn talk(client: &mut Peer, count: usize, length: usize) -> Result<Vec<u8>> {
    let lines: String = (0..count).map(|n| format!("{n}\n")).collect();
    let sending = client.send_in_background(lines.into_bytes(), 64 << 10);
    let mut heard = Vec::new();
    while heard.len() < length {
        heard.extend(client.receive()?);
    }
    joined(sending)?;
    Ok(heard)
}

#[test]
fn a_hundred_clients_hear_18_000_lines_in_one_order() -> Result {
    all_hear_all_in_one_order(100, 180)
}

/// All read as fast as they can. The text of one is more than what a mailbox
/// of the example holds, and it comes in one read.
#[test]
fn a_bounded_mailbox_throws_out_all_of_sixty_and_this_server_nobody() -> Result
{
    let path = harness::example("lesson-12-chat", "mailbox")?;
    for (args, out) in [(&[][..], 60), (&["18000"], 0)] {
        let lab = Lab::new();
        let mut example = lab.start("example", &path, args)?;
        example.expect(&format!(" lines: {out} thrown out\n"))?;
    }
    all_hear_all_in_one_order(60, 300)
}

fn all_hear_all_in_one_order(count: usize, lines: usize) -> Result {
    let lab = Lab::new();
    let (server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let names: Vec<_> = (0..count).map(|n| format!("c{n}")).collect();
    let mut clients = Vec::new();
    for (n, name) in names.iter().enumerate() {
        clients.push(join(&lab, addr, name)?);
        for client in &mut clients[..n] {
            client.expect(format!("* {name} has joined\n"))?;
        }
    }
    let lines_of = |name: &String| -> Vec<String> {
        (0..lines).map(|n| format!("{name}: {n}")).collect()
    };
    let length: usize = names
        .iter()
        .flat_map(lines_of)
        .map(|line| line.len() + 1)
        .sum();
    let heard = thread::scope(|scope| {
        let talking: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| talk(client, lines, length)))
            .collect();
        let heard = talking.into_iter().map(|t| t.join().expect("no panic"));
        heard.collect::<Result<Vec<_>>>()
    })?;
    for other in &heard[1..] {
        assert!(*other == heard[0], "two orders");
    }
    let heard = text(&heard[0]);
    for name in &names {
        let its_own = format!("{name}: ");
        let its_own = heard.lines().filter(|line| line.starts_with(&its_own));
        assert_eq!(its_own.collect::<Vec<_>>(), lines_of(name));
    }
    assert_eq!(heard.lines().count(), count * lines);
    assert_eq!(text(&server.stderr()), "");
    Ok(())
}

#[test]
fn a_name_is_refused_and_asked_for_again() -> Result {
    let lab = Lab::new();
    let (_server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut ann = join(&lab, addr, "ann")?;
    let mut other = lab.connect("other", addr)?;
    other.expect("* what is your name?\n")?;
    let too_long = "x".repeat(21);
    let bad = ["", "*", "two words", "ann: hi", "\x1b[2J", &too_long];
    for name in bad {
        other.send(format!("{name}\n"))?;
        other.expect("* a name is 1 to 20 letters and digits\n")?;
    }
    other.send(b"\xff\n")?;
    other.expect("* that is not UTF-8\n")?;
    other.send("ann\n")?;
    other.expect("* that name is taken, say another one\n")?;
    let longest = "é".repeat(20);
    other.send(format!("{longest}\n"))?;
    for client in [&mut ann, &mut other] {
        client.expect(format!("* {longest} has joined\n"))?;
    }
    other.close();
    ann.expect(format!("* {longest} has left\n"))?;
    // It is free again.
    join(&lab, addr, &longest).map(drop)
}

#[test]
fn a_line_that_is_no_message_is_refused_and_nobody_else_hears_of_it() -> Result
{
    let lab = Lab::new();
    let (_server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut ann = join(&lab, addr, "ann")?;
    let mut bob = join(&lab, addr, "bob")?;
    ann.expect("* bob has joined\n")?;
    let line = "x".repeat(4096);
    bob.send(format!("{line}x\n{line}\n"))?;
    bob.send(b"\xff\nend\n")?;
    let said = format!("bob: {line}\n");
    ann.expect(format!("{said}bob: end\n"))?;
    bob.expect(format!(
        "* that is too long\n{said}* that is not UTF-8\nbob: end\n"
    ))
}

#[test]
fn who_joins_hears_what_comes_from_then_on() -> Result {
    let lab = Lab::new();
    let (_server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut ann = join(&lab, addr, "ann")?;
    // Who has no name hears nothing either.
    let mut nameless = lab.connect("nameless", addr)?;
    nameless.expect("* what is your name?\n")?;
    ann.send("before\n")?;
    ann.expect("ann: before\n")?;
    nameless.send("bob\n")?;
    nameless.expect("* bob has joined\n")?;
    ann.send("after\n")?;
    nameless.expect("ann: after\n")
}

// The deadline.

#[test]
fn who_does_not_say_a_name_in_time_is_sent_away() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = lab.start_server(server_path(), &[ADDR, "1"])?;
    for _ in 0..3 {
        let mut silent = lab.connect("silent", addr)?;
        let local = silent.local_addr()?;
        let said = text(&silent.rest()?);
        let wanted =
            "* what is your name?\n* you have not said your name in time\n";
        assert_eq!(said, wanted);
        let complaint = format!("{local}: sent away, it has no name");
        assert_eq!(server.error_line()?, complaint);
    }
    Ok(())
}

/// Each byte would begin lesson 04's timeout anew.
#[test]
fn a_byte_now_and_then_does_not_put_the_deadline_off() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = lab.start_server(server_path(), &[ADDR, "200"])?;
    let slow = lab.connect("slow", addr)?;
    let mut sent = 0;
    lab.wait_until("be sent away", || {
        sent += usize::from(slow.send("x").is_ok());
        !server.stderr().is_empty()
    })?;
    assert!(sent > 2, "{sent} bytes");
    let said = server.error_line()?;
    assert!(said.ends_with(": sent away, it has no name"), "{said}");
    Ok(())
}

#[test]
fn who_has_said_a_name_may_stay_silent() -> Result {
    let lab = Lab::new();
    let (mut server, addr) =
        lab.start_server(server_path(), &[ADDR, "2000"])?;
    let mut ann = join(&lab, addr, "ann")?;
    let mut later = lab.connect("later", addr)?;
    later.rest()?;
    server.error_line()?;
    ann.send("I am still here\n")?;
    ann.expect("ann: I am still here\n")
}

// What it costs.

#[test]
#[ignore = "needs strace"]
fn a_hundred_lines_at_once_are_one_write_to_each() -> Result {
    let lab = Lab::new();
    let options = ["-e", "trace=sendto"];
    let (server, addr) = lab.trace_server(&options, server_path(), &[ADDR])?;
    let mut ann = join(&lab, addr, "ann")?;
    let mut bob = join(&lab, addr, "bob")?;
    ann.expect("* bob has joined\n")?;
    let writes = || strace::calls(&server.stderr()).len();
    lab.wait_until("two questions and three joins", || writes() == 5)?;
    ann.send("hi\n".repeat(100))?;
    for client in [&mut ann, &mut bob] {
        client.expect("ann: hi\n".repeat(100))?;
    }
    ann.send("one more\n")?;
    ann.expect("ann: one more\n")?;
    bob.expect("ann: one more\n")?;
    lab.wait_until("four writes more", || writes() >= 9)?;
    assert_eq!(writes(), 9);
    Ok(())
}

// Readers who stop.

#[test]
fn a_reader_who_stops_is_thrown_out_and_nobody_waits() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut ann = join(&lab, addr, "ann")?;
    let mut deaf = join(&lab, addr, "deaf")?;
    let local = deaf.local_addr()?;
    ann.expect("* deaf has joined\n")?;
    let line = "x".repeat(4000);
    let mut said = 0;
    // Each line comes back at once, however much waits for the other one.
    loop {
        ann.send(format!("{line}\n"))?;
        said += line.len();
        assert!(said < TOO_MUCH, "it is still there");
        if ann.line()? == "* deaf has left" {
            break;
        }
    }
    assert!(said > MIB, "after {said} bytes");
    let wanted = format!("{local}: thrown out, it does not read");
    assert_eq!(server.error_line()?, wanted);
    if let Some(peak) = proc::peak_memory(server.id()) {
        assert!(peak < 16 * MIB, "the server took {peak} bytes");
    }
    // What the kernel has taken still comes.
    let heard = deaf.rest()?;
    assert!(heard.starts_with(b"ann: xxx"), "{} bytes", heard.len());
    good_client_is_served(&lab, addr)
}

#[test]
fn a_reader_who_is_late_loses_nothing() -> Result {
    const LINES: usize = 250;
    let lab = Lab::new();
    let (server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut ann = join(&lab, addr, "ann")?;
    let mut late = lab.connect_small("small", addr)?;
    late.send("late\n")?;
    ann.expect("* late has joined\n")?;
    let line = "x".repeat(4000);
    for n in 0..LINES {
        ann.send(format!("{n} {line}\n"))?;
        ann.expect(format!("ann: {n} {line}\n"))?;
    }
    late.expect("* what is your name?\n* late has joined\n")?;
    for n in 0..LINES {
        late.expect(format!("ann: {n} {line}\n"))?;
    }
    assert_eq!(text(&server.stderr()), "");
    Ok(())
}

// Last words.

#[test]
fn who_half_closes_is_heard_and_gets_the_rest() -> Result {
    const LINES: usize = 250;
    let lab = Lab::new();
    let (mut server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut ann = join(&lab, addr, "ann")?;
    let mut last = lab.connect_small("small", addr)?;
    last.send("last\n")?;
    ann.expect("* last has joined\n")?;
    let line = "x".repeat(4000);
    let lines: String = (0..LINES).map(|_| format!("{line}\n")).collect();
    let words = format!("last: {line}\n").repeat(LINES);
    last.send(lines)?;
    last.half_close()?;
    ann.expect(format!("{words}* last has left\n"))?;
    // It has read nothing so far, and its server has much that waits.
    last.expect("* what is your name?\n* last has joined\n")?;
    last.expect(words)?;
    last.expect_end()?;
    server.expect("closed the connection after 251 lines\n")?;
    assert_eq!(text(&server.stderr()), "");
    Ok(())
}

/// A limit: it would get its last words.
#[test]
#[cfg(target_os = "linux")]
fn who_half_closes_and_does_not_read_keeps_its_descriptor() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut ann = join(&lab, addr, "ann")?;
    let before = proc::descriptors(server.id());
    let mut last = lab.connect_small("small", addr)?;
    last.send("last\n")?;
    ann.expect("* last has joined\n")?;
    last.send(format!("{}\n", "x".repeat(4000)).repeat(250))?;
    last.half_close()?;
    server.expect("closed the connection after 251 lines\n")?;
    for _ in 0..100 {
        good_client_is_served(&lab, addr)?;
    }
    let more = proc::descriptors(server.id())
        .zip(before)
        .map(|(a, b)| a - b);
    assert_eq!(more, Some(1));
    last.rest()?;
    lab.wait_until("the descriptor is free", || {
        proc::descriptors(server.id()) == before
    })
}

#[test]
fn an_end_in_the_middle_of_a_line_is_told_apart() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = lab.start_server(server_path(), &[ADDR])?;
    let mut ann = join(&lab, addr, "ann")?;
    let mut bob = join(&lab, addr, "bob")?;
    ann.expect("* bob has joined\n")?;
    let local = bob.local_addr()?;
    bob.send("whole\nhal")?;
    bob.half_close()?;
    bob.expect("bob: whole\n")?;
    bob.expect_end()?;
    ann.expect("bob: whole\n* bob has left\n")?;
    let wanted = format!("{local}: it ended in the middle of a line");
    assert_eq!(server.error_line()?, wanted);
    Ok(())
}

// The client.

/// Nothing is typed: lesson 01's client would see it after the next line.
#[test]
fn at_its_prompt_the_client_notices_a_hang_up_and_a_reset() -> Result {
    let lab = Lab::new();
    for reset in [false, true] {
        let listener = lab.listen("listener")?;
        let mut client = start_client(&lab, "client", listener.addr())?;
        let peer = listener.accept("peer")?;
        match reset {
            true => peer.reset()?,
            false => peer.close(),
        }
        client.expect_line("server closed the connection")?;
        client.expect_exit(1)?;
        assert_eq!(text(&client.stderr()), "");
    }
    Ok(())
}

/// Lesson 01's client stops for ever at this line.
#[test]
fn thirty_two_mebibytes_come_back_whole() -> Result {
    let lab = Lab::new();
    let path = harness::binary("lesson-03-threaded", "lesson-03-threaded")?;
    let (_echo, addr) = lab.start_server(&path, &["127.0.0.1:0"])?;
    let mut client = start_client(&lab, "client", addr)?;
    let line = "0123456789abcdef".repeat(TOO_MUCH / 16);
    client.type_line(&line);
    client.end_input();
    client.expect_exit(0)?;
    let shown = text(&client.stdout());
    let ended = shown.strip_suffix("\nserver closed the connection\n");
    assert!(ended == Some(&line), "{} bytes", shown.len());
    Ok(())
}

#[test]
fn what_comes_is_shown_while_nothing_is_typed() -> Result {
    let lab = Lab::new();
    let listener = lab.listen("listener")?;
    let mut client = start_client(&lab, "client", listener.addr())?;
    let mut peer = listener.accept("peer")?;
    peer.send("one\ntwo\nno newline")?;
    client.expect("one\ntwo\nno newline")?;
    client.type_line("hello");
    peer.expect("hello\n")?;
    // A character that comes in two pieces is shown whole.
    peer.send(b"\xe4\xbd")?;
    peer.send(b"\xa0\n")?;
    client.expect("你\n")?;
    // So is what clears a screen: a limit.
    peer.send("\x1b[2J\n")?;
    client.expect("\x1b[2J\n")?;
    Ok(())
}

#[test]
fn while_the_server_does_not_read_the_client_still_does() -> Result {
    let lab = Lab::new();
    let listener = lab.listen("listener")?;
    let mut client = start_client(&lab, "client", listener.addr())?;
    let mut peer = listener.accept("peer")?;
    let line = "x".repeat(TOO_MUCH);
    client.type_line(&line);
    client.type_line("typed meanwhile");
    for n in 0..100 {
        peer.send(format!("line {n}\n"))?;
        client.expect(&format!("line {n}\n"))?;
    }
    peer.expect(format!("{line}\ntyped meanwhile\n"))
}

#[test]
#[cfg(target_os = "linux")]
fn a_standard_output_that_cannot_be_written_ends_the_client() -> Result {
    let lab = Lab::new();
    let listener = lab.listen("listener")?;
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "exec \"$@\" >/dev/full", "sh"])
        .arg(cargo_bin!("chat-client"))
        .arg(listener.addr().to_string());
    let mut client = lab.start_command("client", command)?;
    listener.accept("peer")?.send("hello\n")?;
    client.expect_error("No space left on device")?;
    assert!(!client.exit()?.success());
    Ok(())
}

#[test]
fn at_the_end_of_input_it_half_closes_and_shows_the_rest() -> Result {
    let lab = Lab::new();
    let listener = lab.listen("listener")?;
    let mut client = start_client(&lab, "client", listener.addr())?;
    let mut peer = listener.accept("peer")?;
    client.type_bytes(b"\nan empty line, and one without its end");
    client.end_input();
    peer.expect("\nan empty line, and one without its end\n")?;
    peer.expect_end()?;
    peer.send("a last word\n")?;
    client.expect("a last word\n")?;
    peer.close();
    client.expect_line("server closed the connection")?;
    client.expect_exit(0)
}

/// It ends by itself, while the keyboard's thread still writes.
#[test]
fn it_notices_a_reset_while_it_writes() -> Result {
    let lab = Lab::new();
    let listener = lab.listen("listener")?;
    let mut client = start_client(&lab, "client", listener.addr())?;
    let mut peer = listener.accept("peer")?;
    client.type_line(&"x".repeat(TOO_MUCH));
    peer.expect("xxxx")?;
    peer.reset()?;
    client.expect_line("server closed the connection")?;
    client.expect_exit(1)
}

#[test]
fn a_server_that_cannot_be_reached_is_one_sentence() -> Result {
    let lab = Lab::new();
    let said = lab.refusal(cargo_bin!("chat-client"), &["nonsense"])?;
    assert!(said.starts_with("Error: cannot reach nonsense: "), "{said}");
    assert!(said.contains("start the server first"), "{said}");
    Ok(())
}
