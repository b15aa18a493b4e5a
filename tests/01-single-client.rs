//! Lesson 01 does what its chapter says, with good clients and bad ones.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread;

use assert_cmd::cargo::cargo_bin;
#[cfg(target_os = "linux")]
use harness::namespace;
use harness::{Lab, Peer, Program, Result, Transcript, lines, strace};

const SERVER_COMMAND: &str = "cargo run -p lesson-01-single-client";
const CLIENT_COMMAND: &str = "cargo run --bin client";

/// For what meets both the harness and a socket of its own.
type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

fn server_path() -> &'static Path {
    cargo_bin!("lesson-01-single-client")
}

fn start_server(lab: &Lab) -> Result<(Program, SocketAddr)> {
    lab.start_server(server_path(), &["127.0.0.1:0"])
}

fn client_path() -> &'static Path {
    cargo_bin!("client")
}

fn start_client(lab: &Lab, addr: SocketAddr) -> Result<Program> {
    lab.start("client", client_path(), &[&addr.to_string()])
}

// A conversation.

#[test]
fn a_conversation_goes_back_and_forth() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let mut client = start_client(&lab, addr)?;
    server.expect(" connected\n")?;

    client.expect("send> ")?;
    client.type_line("Hello, can you hear me?");
    server.expect_line("received: Hello, can you hear me?")?;
    server.expect("reply> ")?;
    server.type_line("Yes. Who is there?");
    client.expect_line("received: Yes. Who is there?")?;

    client.expect("send> ")?;
    client.type_line("你好");
    server.expect_line("received: 你好")?;
    server.expect("reply> ")?;
    server.type_line("你好");
    client.expect_line("received: 你好")?;

    client.expect("send> ")?;
    client.end_input();
    server.expect(" closed the connection\n")?;
    client.expect_line("")?;
    client.expect_line("server closed the connection")?;
    client.expect_exit(0)?;

    let mut scene = Transcript::new(&lab, "01-conversation", addr);
    scene.terminal("server", SERVER_COMMAND, &server);
    scene.terminal("client", CLIENT_COMMAND, &client);
    scene.check()
}

// The end of a connection.

#[test]
fn a_client_that_closes_without_waiting_may_lose_the_rest() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let a = lab.connect("a", addr)?;
    let local = a.local_addr()?;
    a.send("x".repeat(3 * 1024))?;
    server.expect("reply> ")?;
    a.close();
    // The first reply meets a closed socket, which answers with a reset.
    for _ in 0..3 {
        server.type_line("are you there?");
    }
    server.expect_complaint_about(local)?;
    assert_eq!(lines(&server.stderr()), 1);
    let printed = server.stdout();
    let shown = printed.iter().filter(|&&byte| byte == b'x').count();
    assert!((1024..3 * 1024).contains(&shown), "{shown} bytes shown");
    Ok(())
}

/// Starts a client that says hello and reads nothing, and waits until the
/// server has read that.
#[cfg(target_os = "linux")]
fn start_idle_client(
    lab: &Lab,
    server: &mut Program,
    addr: SocketAddr,
) -> Result<(Program, SocketAddr)> {
    let probe = harness::binary("probe", "probe")?;
    let args = [&addr.to_string(), "--send", "hello", "--idle"];
    let client = lab.start("client", &probe, &args)?;
    let local = server.expect(" connected\nreceived: hello\nreply> ")?;
    let local = local.trim_start().parse().expect("an address");
    Ok((client, local))
}

/// The first leaves with FIN. The reply to it meets a socket that is closed,
/// and the reset that answers comes after the FIN, and is not seen.
#[test]
#[cfg(target_os = "linux")]
fn a_killed_client_reads_as_closed_or_resets_if_bytes_were_unread() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let (mut first, local) = start_idle_client(&lab, &mut server, addr)?;
    first.kill()?;
    server.type_line("are you there?");
    server.expect_line(&format!("{local} closed the connection"))?;
    assert_eq!(String::from_utf8_lossy(&server.stderr()), "");
    let (mut second, local) = start_idle_client(&lab, &mut server, addr)?;
    server.type_line("are you there?");
    second.expect("something arrived: it stays unread")?;
    second.kill()?;
    server.expect_complaint_about(local)?;
    lab.good_client_gets_reply(&mut server, addr)?;

    let mut scene = Transcript::new(&lab, "01-killed", addr);
    scene.terminal("server", SERVER_COMMAND, &server);
    scene.check()
}

#[cfg(target_os = "linux")]
const CABLE: &str = r#"
    "$1" 127.0.0.1:9006 &
    read -r next
    "$2" 127.0.0.1:9006 --idle >/dev/null &
    read -r next
    ip link set lo down
    kill -KILL $!
    wait $! 2>/dev/null
    ss -tn
    echo that is all
    read -r next
    echo the cable is back
    ip link set lo up
    wait
"#;

/// The client is killed while no segment gets through. Its kernel says so
/// again and again, and is heard when the cable is back.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs root and ss"]
fn a_client_behind_a_cut_cable_is_never_missed() -> Result {
    let lab = Lab::new();
    let probe = harness::binary("probe", "probe")?;
    let args = [server_path().as_os_str(), probe.as_os_str()];
    let shell = namespace::with_own_network(CABLE, &args);
    let mut shell = lab.start_in_group("shell", shell)?;
    let addr = shell.wait_until_listening()?;
    shell.type_line("connect");
    shell.expect(" connected\n")?;
    shell.type_line("cut");
    let shown = shell.expect("that is all\n")?;
    let mut rows: Vec<_> = shown.trim().lines().map(str::trim_end).collect();
    rows[1..].sort();
    let states = rows.iter().filter_map(|row| row.split(' ').next());
    assert!(states.eq(["State", "ESTAB", "FIN-WAIT-1"]), "{shown}");
    shell.type_line("mend");
    shell.expect_line("the cable is back")?;
    shell.expect(" closed the connection\n")?;

    let mut scene = Transcript::new(&lab, "01-cable", addr);
    scene.text("cut", &format!("$ ss -tn\n{}", rows.join("\n")));
    scene.check()
}

#[test]
#[cfg(target_os = "linux")]
fn at_its_prompt_it_notices_neither_a_hang_up_nor_a_reset() -> Result {
    for (how, state) in [(Leave::Fin, Some("CLOSE-WAIT")), (Leave::Reset, None)]
    {
        let lab = Lab::new();
        let (mut server, addr) = start_server(&lab)?;
        let a = lab.connect("a", addr)?;
        let local = a.local_addr()?;
        a.send("hello")?;
        server.expect("received: hello\nreply> ")?;
        how.apply(a)?;
        lab.wait_until("its kernel knows that the client has gone", || {
            let rows = harness::proc::tcp_rows(local.port());
            let rows = rows.unwrap_or_default();
            let mut ends = rows.iter().filter(|row| row.local == addr);
            let end = ends.find(|row| row.remote == local);
            end.map(|row| row.state) == state
        })?;
        lab.wait_until("the server waits for the keyboard alone", || {
            harness::tasks::blocked_in(server.id()) == Some(("read", 0))
        })?;
        assert!(server.stdout().ends_with(b"\nreply> "));
        assert_eq!(String::from_utf8_lossy(&server.stderr()), "");
    }
    Ok(())
}

/// A reset can overtake the accept; what the kernel had taken is still read.
#[test]
#[cfg(target_os = "linux")]
fn what_came_before_a_reset_is_shown_first() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let first = lab.connect("first", addr)?;
    server.expect(" connected\n")?;
    let a = lab.connect("a", addr)?;
    let local = a.local_addr()?;
    a.send("before the reset")?;
    a.reset()?;
    first.close();
    server
        .expect(&format!("{local} connected\nreceived: before the reset\n"))?;
    server.expect("reply> ")?;
    server.type_line("too late");
    server.expect_complaint_about(local)?;
    lab.good_client_gets_reply(&mut server, addr)
}

// Two clients.

#[test]
fn transcript_second_client_waits_in_the_kernels_queue() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let mut first = start_client(&lab, addr)?;
    first.expect("send> ")?;
    first.type_line("I came first");
    server.expect("received: I came first\nreply> ")?;

    let mut second = start_client(&lab, addr)?;
    second.expect("send> ")?;
    second.type_line("I came second");
    server.type_line("Welcome, first");
    first.expect("received: Welcome, first\nsend> ")?;
    first.end_input();
    first.expect_exit(0)?;

    server.expect("received: I came second\nreply> ")?;
    server.type_line("Welcome, second");
    second.expect("received: Welcome, second\nsend> ")?;

    let mut scene = Transcript::new(&lab, "01-second-client", addr);
    scene.terminal("server", SERVER_COMMAND, &server);
    scene.terminal("first", CLIENT_COMMAND, &first);
    scene.terminal("second", CLIENT_COMMAND, &second);
    scene.check()
}

#[test]
fn connect_succeeds_although_nobody_accepts() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut stream = std::net::TcpStream::connect(listener.local_addr()?)?;
    stream.write_all(b"the kernel takes this, no program does")
}

#[test]
fn two_connections_to_one_port_differ_in_the_clients_port() -> Result {
    let lab = Lab::new();
    let (_server, addr) = start_server(&lab)?;
    let a = lab.connect("a", addr)?;
    let b = lab.connect("b", addr)?;
    assert_ne!(a.local_addr()?, b.local_addr()?);
    assert_eq!(a.stream().peer_addr().ok(), Some(addr));
    assert_eq!(b.stream().peer_addr().ok(), Some(addr));
    Ok(())
}

// One read is not one message.

#[test]
fn two_messages_can_arrive_in_one_read() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let a = lab.connect("a", addr)?;
    a.send("one")?;
    server.expect("received: one\nreply> ")?;
    a.send("one")?;
    a.send("one")?;
    // Elsewhere there is no seeing them arrive, only believing it.
    #[cfg(target_os = "linux")]
    lab.wait_until("both wait to be read", || {
        let rows = harness::proc::tcp_rows(addr.port()).unwrap_or_default();
        rows.iter()
            .any(|row| row.local == addr && row.receive_queue == 6)
    })?;
    server.type_line("ok");
    server.expect("received: oneone\nreply> ")?;

    let mut scene = Transcript::new(&lab, "01-two-in-one", addr);
    scene.terminal("server", SERVER_COMMAND, &server);
    scene.check()
}

#[test]
fn one_message_can_take_several_reads() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let a = lab.connect("a", addr)?;
    a.send("first")?;
    server.expect("received: first\nreply> ")?;
    a.send("x".repeat(1025))?;
    server.type_line("ok");
    server.expect(&format!("received: {}\nreply> ", "x".repeat(1024)))?;
    server.type_line("ok");
    server.expect("received: x\nreply> ")?;
    Ok(())
}

// Bytes and text.

#[test]
fn bytes_that_are_not_utf8_are_shown_with_a_replacement_character() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let a = lab.connect("a", addr)?;
    a.send(b"caf\xe9")?;
    server.expect("received: caf\u{fffd}\nreply> ")?;
    a.half_close()?;
    server.type_line("ok");
    server.expect(" closed the connection\n")?;
    lab.good_client_gets_reply(&mut server, addr)
}

#[test]
fn a_character_cut_by_the_end_of_the_buffer_is_shown_broken() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let a = lab.connect("a", addr)?;
    a.send("first")?;
    server.expect("received: first\nreply> ")?;
    // 341 characters of three bytes are 1,023: the 342nd is cut after one.
    a.send("你".repeat(342))?;
    server.type_line("ok");
    let whole = "你".repeat(341);
    server.expect(&format!("received: {whole}\u{fffd}\nreply> "))?;
    server.type_line("ok");
    server.expect("received: \u{fffd}\u{fffd}\nreply> ")?;
    Ok(())
}

#[test]
fn typed_bytes_that_are_not_utf8_are_sent_as_they_are() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let mut a = lab.connect("a", addr)?;
    a.send("?")?;
    server.expect("reply> ")?;
    server.type_bytes(b"\xff\xfe\n");
    a.expect(b"\xff\xfe\n")?;

    let listener = lab.listen("listener")?;
    let client = start_client(&lab, listener.addr())?;
    let mut peer = listener.accept("peer")?;
    client.type_bytes(b"\x80\n");
    peer.expect(b"\x80\n")
}

/// A limit: these clear the screen of a terminal.
#[test]
fn control_characters_reach_the_operators_terminal() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let a = lab.connect("a", addr)?;
    a.send("\x1b[2J")?;
    server.expect("received: \x1b[2J\nreply> ")?;
    Ok(())
}

// The keyboard.

#[test]
fn an_empty_line_is_asked_again() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let mut client = start_client(&lab, addr)?;
    client.expect("send> ")?;
    client.type_line("");
    client.expect("send> ")?;
    client.type_bytes(b"\r\n");
    client.expect("send> ")?;
    client.type_line("hello");
    server.expect("received: hello\nreply> ")?;
    server.type_line("");
    server.expect("reply> ")?;
    server.type_line("hello");
    client.expect("received: hello\n")?;
    Ok(())
}

#[test]
fn what_is_typed_ahead_goes_to_whoever_is_served_next() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    server.type_line("typed before anybody came");
    let mut a = lab.connect("a", addr)?;
    a.send("hello")?;
    server.expect("received: hello\nreply> ")?;
    a.expect("typed before anybody came\n")
}

#[test]
fn end_of_input_half_closes_and_shows_what_still_comes() -> Result {
    let lab = Lab::new();
    let listener = lab.listen("listener")?;
    let mut client = start_client(&lab, listener.addr())?;
    let mut peer = listener.accept("peer")?;
    client.expect("send> ")?;
    client.end_input();
    peer.expect_end()?;
    peer.send("a last word\n")?;
    client.expect("received: a last word\n")?;
    peer.close();
    client.expect_line("server closed the connection")?;
    client.expect_exit(0)
}

#[test]
fn a_last_line_without_a_newline_is_sent_too() -> Result {
    let lab = Lab::new();
    let listener = lab.listen("listener")?;
    let mut client = start_client(&lab, listener.addr())?;
    let mut peer = listener.accept("peer")?;
    client.type_bytes(b"no newline");
    client.end_input();
    peer.expect("no newline")?;
    peer.send("answer")?;
    client.expect("received: answer\n")?;
    peer.expect_end()
}

#[test]
fn end_of_input_at_the_server_is_noticed_at_the_next_prompt() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    server.end_input();
    let mut a = lab.connect("a", addr)?;
    server.expect(" connected\n")?;
    a.send("hello")?;
    server.expect("received: hello\nreply> \ngoodbye\n")?;
    a.expect_end()?;
    server.expect_exit(0)
}

#[test]
fn unread_bytes_make_a_reset_of_the_servers_close() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let mut a = lab.connect("a", addr)?;
    a.send("read")?;
    server.expect("received: read\nreply> ")?;
    a.send("unread")?;
    server.end_input();
    server.expect("goodbye\n")?;
    a.expect_reset()?;
    server.expect_exit(0)
}

// The server goes away.

#[derive(Clone, Copy, Debug)]
enum Leave {
    Fin,
    Reset,
    /// A write then fails with EPIPE, not ECONNRESET.
    FinThenReset,
}

const WAYS_TO_LEAVE: [Leave; 3] =
    [Leave::Fin, Leave::Reset, Leave::FinThenReset];

impl Leave {
    fn apply(self, peer: Peer) -> Result {
        match self {
            Self::Fin => peer.close(),
            Self::Reset => peer.reset()?,
            Self::FinThenReset => {
                peer.half_close()?;
                peer.reset()?;
            }
        }
        Ok(())
    }
}

/// A client at its prompt, whose server has left.
fn client_left_alone(lab: &Lab, how: Leave) -> Result<Program> {
    let listener = lab.listen("listener")?;
    let mut client = start_client(lab, listener.addr())?;
    let mut peer = listener.accept("peer")?;
    client.type_line("hello");
    peer.expect("hello\n")?;
    peer.send("hello\n")?;
    client.expect("received: hello\nsend> ")?;
    how.apply(peer)?;
    Ok(client)
}

#[test]
fn client_says_at_once_that_the_server_left_it_waiting() -> Result {
    for how in WAYS_TO_LEAVE {
        let lab = Lab::new();
        let listener = lab.listen("listener")?;
        let mut client = start_client(&lab, listener.addr())?;
        let mut peer = listener.accept("peer")?;
        client.type_line("hello");
        peer.expect("hello\n")?;
        how.apply(peer)?;
        client.expect("send> server closed the connection\n")?;
        client.expect_exit(1)?;
        assert_eq!(String::from_utf8_lossy(&client.stderr()), "");
    }
    Ok(())
}

/// What two writes and a read say in each of the three.
#[test]
#[cfg(target_os = "linux")]
fn a_write_after_a_fin_succeeds_and_after_a_reset_fails() -> Outcome {
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    use io::Read;
    for (how, said) in [
        (Leave::Fin, [Ok(2), Err(BrokenPipe), Ok(0)]),
        (Leave::Reset, [Err(ConnectionReset), Err(BrokenPipe), Ok(0)]),
        (
            Leave::FinThenReset,
            [Err(BrokenPipe), Err(BrokenPipe), Ok(0)],
        ),
    ] {
        let lab = Lab::new();
        let listener = lab.listen("listener")?;
        let mut stream = std::net::TcpStream::connect(listener.addr())?;
        let ends = (stream.local_addr()?, listener.addr());
        how.apply(listener.accept("peer")?)?;
        let is_gone = || {
            let rows = harness::proc::tcp_rows(ends.0.port());
            let rows = rows.unwrap_or_default();
            !rows.iter().any(|row| (row.local, row.remote) == ends)
        };
        if !matches!(how, Leave::Fin) {
            lab.wait_until("the reset has come", is_gone)?;
        }
        let first = stream.write(b"hi");
        lab.wait_until("a reset, if none had come, has answered", is_gone)?;
        let calls = [first, stream.write(b"hi"), stream.read(&mut [0])];
        let calls = calls.map(|result| result.map_err(|error| error.kind()));
        assert_eq!(calls, said, "{how:?}");
    }
    Ok(())
}

#[test]
fn client_at_its_prompt_notices_a_lost_server_at_the_next_line() -> Result {
    for how in WAYS_TO_LEAVE {
        let mut client = client_left_alone(&Lab::new(), how)?;
        client.type_line("are you there?");
        client.expect_line("server closed the connection")?;
        client.expect_exit(1)?;
        assert_eq!(String::from_utf8_lossy(&client.stderr()), "");
    }
    Ok(())
}

#[test]
fn end_of_input_after_the_server_has_gone_is_still_a_success() -> Result {
    for how in WAYS_TO_LEAVE {
        let mut client = client_left_alone(&Lab::new(), how)?;
        client.end_input();
        client.expect("server closed the connection\n")?;
        client.expect_exit(0)?;
    }
    Ok(())
}

#[test]
fn a_close_with_unread_bytes_loses_what_was_written() -> Result {
    let lab = Lab::new();
    let path = harness::example("lesson-01-single-client", "close-unread")?;
    let mut scene =
        Transcript::new(&lab, "01-close", ([127, 0, 0, 1], 9006).into());
    for (name, args, complete) in [
        ("unread", &[][..], false),
        ("unread-cure", &["--cure"], true),
    ] {
        let mut example = lab.start(name, &path, args)?;
        let line = example.line()?;
        assert_eq!(line.starts_with("1048576 of"), complete, "{line}");
        assert_eq!(line.ends_with("the end of the stream"), complete, "{line}");
        example.expect_exit(0)?;
        let words = [
            "cargo run -p lesson-01-single-client --example close-unread",
            " -- --cure",
        ];
        let command = words[..=args.len()].concat();
        scene.terminal(name, &command, &example);
    }
    scene.check()
}

#[test]
fn a_killed_server_reads_as_closed() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let mut client = start_client(&lab, addr)?;
    client.type_line("hello");
    server.expect("reply> ")?;
    server.kill()?;
    client.expect_line("send> server closed the connection")?;
    client.expect_exit(1)
}

// Addresses.

#[test]
fn a_client_without_a_server_is_told_to_start_one() -> Outcome {
    // Bound and not listening: nobody can take the port, nobody answers.
    let bound = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let addr = bound.local_addr()?.to_string();
    let said = Lab::new().refusal(client_path(), &[&addr])?;
    let wanted = format!("Error: cannot reach {addr}: ");
    assert!(said.starts_with(&wanted), "{said}");
    assert!(said.contains("start the server first"), "{said}");
    Ok(())
}

#[test]
fn what_is_not_a_servers_address_is_refused_with_an_example() -> Result {
    for addr in harness::bad_addresses() {
        let said = Lab::new().refusal(client_path(), &[addr])?;
        let hint = "; give HOST:PORT, such as 127.0.0.1:9006, ";
        assert!(said.contains(hint), "{said}");
    }
    Ok(())
}

#[test]
fn the_client_reaches_a_name_and_an_ipv6_address() -> Result {
    let lab = Lab::new();
    for addr in ["localhost:0", "[::1]:0"] {
        if addr == "[::1]:0" && !harness::has_ipv6() {
            continue;
        }
        let mut server = lab.start("server", server_path(), &[addr])?;
        let bound = server.wait_until_listening()?;
        let reached = format!("{}{}", &addr[..addr.len() - 1], bound.port());
        let mut client = lab.start("client", client_path(), &[&reached])?;
        client.type_line("hello");
        server.expect("received: hello\nreply> ")?;
        server.type_line("hello");
        client.expect("received: hello\n")?;
    }
    Ok(())
}

/// Whichever of the two is tried first.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs root"]
fn the_client_tries_each_address_of_a_name() -> Result {
    for host in ["127.0.0.2:0", "127.0.0.3:0"] {
        let lab = Lab::new();
        let (mut server, addr) = lab.start_server(server_path(), &[host])?;
        let name = format!("two-addresses:{}", addr.port());
        let client = namespace::with_two_addresses(
            "two-addresses",
            client_path(),
            &[&name],
        );
        let mut client = lab.start_command("client", client)?;
        client.type_line("hello");
        server.expect("received: hello\nreply> ")?;
        server.type_line("hello");
        client.expect("received: hello\n")?;
    }
    Ok(())
}

// The machine says no.

/// A limit.
#[test]
#[cfg(target_os = "linux")]
fn a_standard_output_that_cannot_be_written_ends_the_client() -> Result {
    let lab = Lab::new();
    let (_server, addr) = start_server(&lab)?;
    let client = client_path().to_str().expect("a path in UTF-8");
    let addr = addr.to_string();
    let args = ["-c", "exec \"$@\" >/dev/full", "sh", client, &addr];
    let mut client = lab.start("client", Path::new("sh"), &args)?;
    client.expect_error("No space left on device")?;
    client.expect_exit(1)
}

// An echo server on the other side.

#[test]
fn lines_up_to_a_mebibyte_come_back_from_an_echo_server() -> Result {
    let lab = Lab::new();
    let listener = lab.listen("echo")?;
    let mut client = start_client(&lab, listener.addr())?;
    let peer = listener.accept("peer")?;
    let echo = thread::spawn(move || {
        let mut stream = peer.stream();
        io::copy(&mut { stream }, &mut stream)
    });
    let line: String = ('a'..='z').cycle().take((1 << 20) - 1).collect();
    client.type_line(&line);
    client.expect("received: ")?;
    client.end_input();
    client.expect_exit(0)?;
    assert!(matches!(echo.join(), Ok(Ok(count)) if count == 1 << 20));
    let shown = String::from_utf8_lossy(&client.stdout())
        .replace("received: ", "")
        .replace("send> ", "")
        .replace("server closed the connection", "")
        .replace('\n', "");
    assert!(shown == line, "not what was typed");
    Ok(())
}

#[test]
fn a_longer_answer_turns_up_under_the_next_prompt() -> Result {
    let lab = Lab::new();
    let listener = lab.listen("listener")?;
    let mut client = start_client(&lab, listener.addr())?;
    let mut peer = listener.accept("peer")?;
    client.type_line("tell me a lot");
    peer.expect("tell me a lot\n")?;
    peer.send("x".repeat(1025))?;
    client.expect(&format!("received: {}\nsend> ", "x".repeat(1024)))?;
    client.type_line("and now?");
    client.expect("received: x\nsend> ")?;
    Ok(())
}

// The system calls.

#[test]
#[ignore = "needs strace"]
fn both_flows_make_the_system_calls_of_the_chapter() -> Result {
    let lab = Lab::new();
    let traced = |name, path, addr: &str| {
        let options = ["-e", "trace=%net,close"];
        lab.start_command(name, strace::command(&options, path, &[addr]))
    };
    let mut server = traced("server", server_path(), "127.0.0.1:0")?;
    let addr = server.wait_until_listening()?;
    let mut client = traced("client", client_path(), &addr.to_string())?;
    client.type_line("hello");
    server.expect("received: hello\nreply> ")?;
    server.type_line("hello");
    client.expect("received: hello\n")?;
    client.end_input();
    client.expect_exit(0)?;
    server.expect(" closed the connection\n")?;
    server.end_input();
    lab.connect("last", addr)?.send("bye")?;
    server.expect_exit(0)?;

    let flow = "socket setsockopt bind listen getsockname accept4 recvfrom \
        sendto recvfrom close accept4 recvfrom close close";
    assert_eq!(strace::flow(&server.stderr()), flow);
    let flow = "socket connect sendto recvfrom shutdown recvfrom close";
    assert_eq!(strace::flow(&client.stderr()), flow);
    Ok(())
}

// Python on the other side.

const PYTHON_CLIENT: &str = r#"
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for text in ["hello", "你好", "bye"]:
    s.send(text.encode())
    print(s.recv(1024).decode(), end="", flush=True)
s.close()
"#;

const PYTHON_SERVER: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
s.bind(("127.0.0.1", 0))
s.listen(5)
print("listening on 127.0.0.1:%d" % s.getsockname()[1], flush=True)
conn, addr = s.accept()
while True:
    data = conn.recv(1024)
    if not data:
        break
    conn.send(b"got " + data.rstrip())
conn.close()
"#;

#[test]
#[ignore = "needs python3"]
fn a_python_client_holds_a_conversation_with_the_server() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let port = addr.port().to_string();
    let args = ["-c", PYTHON_CLIENT, &port];
    let mut python = lab.start("python", Path::new("python3"), &args)?;
    for text in ["hello", "你好", "bye"] {
        server.expect(&format!("received: {text}\nreply> "))?;
        server.type_line(&format!("{text} yourself"));
        python.expect_line(&format!("{text} yourself"))?;
    }
    python.expect_exit(0)?;
    server.expect(" closed the connection\n")?;
    Ok(())
}

#[test]
#[ignore = "needs python3"]
fn the_client_holds_a_conversation_with_a_python_server() -> Result {
    let lab = Lab::new();
    let args = ["-c", PYTHON_SERVER];
    let mut python = lab.start("python", Path::new("python3"), &args)?;
    let mut client = start_client(&lab, python.wait_until_listening()?)?;
    for text in ["hello", "你好", "bye"] {
        client.expect("send> ")?;
        client.type_line(text);
        client.expect(&format!("received: got {text}\n"))?;
    }
    client.expect("send> ")?;
    client.end_input();
    client.expect_exit(0)?;
    python.expect_exit(0)
}
