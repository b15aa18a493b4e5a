//! The probe, held to its word: each flag against a small server, each
//! combination that makes no sense, and its help.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use assert_cmd::cargo::cargo_bin;
use harness::{Lab, Program};
use predicates::str::{contains, diff};
use socket2::{Domain, SockRef, Socket, Type};

/// Nothing here takes this long unless it hangs.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer may be late on a busy machine.
const LONG_TIMEOUT: &str = "--timeout=30000";

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

// ---- helpers ----

fn probe<S: AsRef<str>>(addr: S, args: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin!("probe"));
    command.arg(addr.as_ref()).args(args).timeout(TIMEOUT);
    command
}

/// A server for `clients` clients at once, in threads; what `work` returns for
/// each can be received (a stream stays open until the receiver is dropped).
fn serve<T: Send + 'static>(
    clients: usize,
    work: impl Fn(usize, TcpStream) -> io::Result<T> + Send + Sync + 'static,
) -> Result<(String, Receiver<io::Result<T>>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?.to_string();
    let (done, results) = mpsc::channel();
    let work = Arc::new(work);
    thread::spawn(move || {
        for id in 1..=clients {
            let stream = listener.accept().map(|(stream, _)| stream);
            let (done, work) = (done.clone(), Arc::clone(&work));
            thread::spawn(move || {
                let result = stream.and_then(|stream| {
                    stream.set_read_timeout(Some(TIMEOUT))?;
                    stream.set_write_timeout(Some(TIMEOUT))?;
                    work(id, stream)
                });
                // The test may have failed and gone.
                let _ = done.send(result);
            });
        }
    });
    Ok((addr, results))
}

fn result<T>(results: &Receiver<io::Result<T>>) -> Result<T> {
    Ok(results.recv_timeout(TIMEOUT)??)
}

/// Echoes until the end of the stream; returns what was echoed.
fn echo(mut stream: TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(all),
            n => {
                stream.write_all(&buffer[..n])?;
                all.extend_from_slice(&buffer[..n]);
            }
        }
    }
}

/// Reads exactly `length` bytes, and closes.
fn take(mut stream: TcpStream, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn reset(stream: TcpStream) -> io::Result<()> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

/// A port that is taken and on which nobody listens.
fn dead_port() -> Result<(String, Socket)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>()?.into())?;
    let addr = socket.local_addr()?.as_socket().ok_or("no address")?;
    Ok((addr.to_string(), socket))
}

fn udp_echo(datagrams: usize) -> Result<(String, Receiver<Vec<Vec<u8>>>)> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    let addr = socket.local_addr()?.to_string();
    let (done, results) = mpsc::channel();
    thread::spawn(move || {
        let mut all = Vec::new();
        let mut buffer = [0; 65536];
        while all.len() < datagrams {
            let Ok((n, peer)) = socket.recv_from(&mut buffer) else {
                break;
            };
            all.push(buffer[..n].to_vec());
            if socket.send_to(&buffer[..n], peer).is_err() {
                break;
            }
        }
        let _ = done.send(all);
    });
    Ok((addr, results))
}

fn stdout(assert: &Assert) -> String {
    String::from_utf8_lossy(&assert.get_output().stdout).into_owned()
}

fn stderr(assert: &Assert) -> String {
    String::from_utf8_lossy(&assert.get_output().stderr).into_owned()
}

/// The probe with a keyboard that stays open.
fn typed(addr: &str, args: &[&str]) -> Result<Program> {
    let args = [&[addr], args].concat();
    Ok(Lab::new().start("probe", cargo_bin!("probe"), &args)?)
}

// ---- the interactive line client ----

#[test]
fn typed_lines_go_out_as_they_are_utf8_or_not() -> Result {
    let (addr, results) = serve(1, |_, stream| echo(stream))?;
    let typed = b"one\n\xff\xfe\nno newline at the end";
    let assert = probe(addr, &[]).write_stdin(typed).assert().success();
    assert_eq!(result(&results)?, typed);
    assert.stdout(contains(r#"sending 3 bytes: "\xff\xfe\n""#));
    Ok(())
}

#[test]
fn an_answer_is_shown_while_the_keyboard_is_still_open() -> Result {
    let (addr, _results) = serve(1, |_, stream| echo(stream))?;
    let mut probe = typed(&addr, &[])?;
    probe.expect("connected")?;
    probe.type_line("one");
    probe.expect(r#"received 4 bytes: "one\n""#)?;
    probe.type_line("two");
    probe.expect(r#"received 4 bytes: "two\n""#)?;
    Ok(())
}

#[test]
fn end_of_input_half_closes_and_shows_what_still_comes() -> Result {
    let (addr, results) = serve(1, |_, mut stream| {
        stream.read_to_end(&mut Vec::new())?;
        stream.write_all(b"late answer\n")
    })?;
    probe(addr, &[])
        .write_stdin("hello\n")
        .assert()
        .success()
        .stdout(contains("half-closing"))
        .stdout(contains(r#"received 12 bytes: "late answer\n""#));
    result(&results)
}

#[test]
fn the_peers_close_ends_it_while_the_keyboard_is_still_open() -> Result {
    let (addr, _results) = serve(1, |_, stream| take(stream, 4))?;
    let mut probe = typed(&addr, &[])?;
    probe.type_line("one");
    probe.expect("the peer closed the connection")?;
    // What was sent a moment ago may not be counted yet.
    probe.expect("summary: 1 of 1 client connected")?;
    Ok(())
}

// ---- --send, --repeat, --chunk, --delay ----

#[test]
fn text_is_sent_exactly_with_its_escapes_understood() -> Result {
    let expected = b"a\n\r\t\0\x7f\xff\\\xc3\xa9 '\"";
    let (addr, results) = serve(1, |_, stream| take(stream, expected.len()))?;
    let text = r#"a\n\r\t\0\x7f\xFF\\é '""#;
    probe(addr, &["--send", text]).assert().success();
    assert_eq!(result(&results)?, expected);
    Ok(())
}

#[test]
fn what_it_does_and_sees_is_told_with_times_and_numbers() -> Result {
    let (addr, _results) = serve(1, |_, mut stream| {
        stream.read_exact(&mut [0; 6])?;
        stream.write_all(b"bye\n")
    })?;
    let assert = probe(&addr, &["--send", r"hello\n"]).assert().success();
    let told = stdout(&assert);
    let mut expected = [
        format!("-> {addr}"),
        r#"sending 6 bytes: "hello\n""#.into(),
        r#"received 4 bytes: "bye\n""#.into(),
        "the peer closed the connection".into(),
    ]
    .into_iter();
    let (events, summary): (Vec<_>, Vec<_>) =
        told.lines().partition(|line| line.contains(" s  #1  "));
    for event in events {
        let (time, what) = event.split_once(" s  #1  ").ok_or("no time")?;
        assert_eq!(time.len(), 7, "{event}");
        assert!(time.trim_start().parse::<f64>()? >= 0.0);
        let expected = expected.next().ok_or("one event too many")?;
        assert!(what.ends_with(&expected), "{what} is not {expected}");
    }
    assert_eq!(expected.next(), None);
    let counts = "1 of 1 client connected, 6 bytes sent, 4 bytes received";
    assert_eq!(summary, [format!("summary: {counts}")]);
    Ok(())
}

#[test]
fn received_bytes_are_shown_escaped_and_long_ones_cut() -> Result {
    let (addr, _results) = serve(1, |_, mut stream| {
        stream.write_all(b"\x1b[31m\0")?;
        // The answer to the first part, so that the second comes alone.
        stream.read_exact(&mut [0; 1])?;
        stream.write_all(&[b'a'; 60])
    })?;
    let mut probe = typed(&addr, &[])?;
    probe.expect(r#"received 6 bytes: "\x1b[31m\0""#)?;
    probe.type_line("");
    let cut = "a".repeat(32);
    probe.expect(&format!("received 60 bytes: \"{cut}\"..."))?;
    Ok(())
}

#[test]
fn repeat_sends_the_text_n_times() -> Result {
    let (addr, results) = serve(1, |_, stream| take(stream, 9))?;
    let assert = probe(addr, &["--send", "ab\\n", "--repeat", "3"]).assert();
    assert_eq!(result(&results)?, b"ab\nab\nab\n");
    let told = stdout(&assert.success());
    assert_eq!(told.matches(r#"sending 3 bytes: "ab\n""#).count(), 3);
    Ok(())
}

#[test]
fn chunk_cuts_what_is_sent_and_loses_nothing() -> Result {
    let text = "0123456789".repeat(1000);
    for chunk in [1, 2, 3, 5, 1024, 4096] {
        let (addr, results) = serve(1, |_, stream| take(stream, 20_000))?;
        let size = chunk.to_string();
        let args = ["--send", &text, "--repeat", "2", "--chunk", &size];
        let assert = probe(addr, &args).assert().success();
        assert_eq!(result(&results)?, text.repeat(2).as_bytes());
        let plural = if chunk == 1 { "" } else { "s" };
        assert.stdout(contains(format!("sending {chunk} byte{plural}: ")));
    }
    Ok(())
}

#[test]
fn chunks_run_across_repeats_and_the_last_may_be_shorter() -> Result {
    let (addr, _results) = serve(1, |_, stream| take(stream, 6))?;
    let args = ["--send", "abc", "--repeat", "2", "--chunk", "4"];
    probe(addr, &args)
        .assert()
        .success()
        .stdout(contains(r#"sending 4 bytes: "abca""#))
        .stdout(contains(r#"sending 2 bytes: "bc""#));
    Ok(())
}

#[test]
fn delay_pauses_between_writes_and_before_the_half_close() -> Result {
    let (addr, _results) = serve(1, |_, stream| echo(stream))?;
    let args = ["--send", "abc", "--chunk", "1", "--delay", "40"];
    let assert = probe(addr, &[&args[..], &["--half-close"]].concat())
        .assert()
        .success();
    let told = stdout(&assert);
    let times = told
        .lines()
        .filter(|line| line.contains("sending") || line.contains("half-clos"))
        .filter_map(|line| line.split_once(" s "))
        .map(|(time, _)| Ok(time.trim_start().parse::<f64>()?))
        .collect::<Result<Vec<_>>>()?;
    assert_eq!(times.len(), 4, "{told}");
    for pair in times.windows(2) {
        // Printed times are rounded; a pause is never shorter than asked.
        assert!(pair[1] - pair[0] > 0.038, "{told}");
    }
    Ok(())
}

#[test]
fn eight_mebibytes_come_back_from_an_echo_server() -> Result {
    let (addr, results) = serve(1, |_, stream| echo(stream))?;
    let args = ["--send", "x", "--repeat", "8388608", "--chunk", "65536"];
    let assert = probe(addr, &[&args[..], &["--half-close"]].concat())
        .assert()
        .success()
        .stdout(contains("8388608 bytes sent, 8388608 bytes received"));
    assert_eq!(result(&results)?.len(), 8 << 20);
    // Few lines for many writes: what is too fast to read is added up.
    assert!(stdout(&assert).contains("more bytes in"));
    Ok(())
}

// ---- --half-close, --rst, --idle ----

#[test]
fn half_close_arrives_as_end_of_stream_and_the_answer_is_shown() -> Result {
    let (addr, results) = serve(1, |_, mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        stream.write_all(b"after the end\n")?;
        Ok(all)
    })?;
    probe(addr, &["--send", "hello", "--half-close"])
        .assert()
        .success()
        .stdout(contains(r#"received 14 bytes: "after the end\n""#));
    assert_eq!(result(&results)?, b"hello");
    Ok(())
}

#[test]
fn half_close_without_text_ends_the_stream_at_once() -> Result {
    let (addr, results) = serve(1, |_, stream| echo(stream))?;
    probe(addr, &["--half-close"]).assert().success();
    assert_eq!(result(&results)?, b"");
    Ok(())
}

#[test]
fn rst_arrives_as_connection_reset() -> Result {
    for args in [&["--send", "hel", "--rst"][..], &["--rst"]] {
        let (addr, results) = serve(1, |_, mut stream| {
            match stream.read_to_end(&mut Vec::new()) {
                Ok(_) => Ok(None),
                Err(e) => Ok(Some(e.kind())),
            }
        })?;
        probe(addr, args)
            .assert()
            .success()
            .stdout(contains("reset the connection, as asked"));
        assert_eq!(result(&results)?, Some(ErrorKind::ConnectionReset));
    }
    Ok(())
}

#[test]
fn idle_stays_until_the_peer_closes() -> Result {
    let (addr, results) = serve(1, |_, stream| take(stream, 3))?;
    probe(addr, &["--send", "hel", "--idle"])
        .assert()
        .success()
        .stdout(contains("idle: reads nothing from now on"))
        .stdout(contains("  #1  the peer closed the connection"));
    assert_eq!(result(&results)?, b"hel");
    Ok(())
}

#[test]
fn idle_reads_nothing_so_its_end_is_a_reset() -> Result {
    let (addr, results) = serve(1, |_, mut stream| {
        stream.write_all(b"unread")?;
        Ok(stream.read(&mut [0; 1]).map_err(|e| e.kind()))
    })?;
    let mut probe = typed(&addr, &["--idle"])?;
    probe.expect("something arrived: it stays unread")?;
    drop(probe);
    assert_eq!(result(&results)?, Err(ErrorKind::ConnectionReset));
    Ok(())
}

/// While it stands, not when it is over.
#[test]
fn a_peer_that_takes_no_more_is_mentioned_while_it_does_not() -> Result {
    let (addr, open) = serve(1, |_, stream| Ok(stream))?;
    let args = ["--send", "x", "--repeat", "33554432", "--chunk", "65536"];
    let mut probe = typed(&addr, &[&args[..], &["--idle"]].concat())?;
    probe.expect("sending stands still: ")?;
    probe.expect(" bytes so far\n")?;
    drop(result(&open)?);
    probe.expect_error("reset by the peer while sending")?;
    Ok(())
}

#[test]
fn idle_with_a_timeout_stays_that_long_and_all_is_well() -> Result {
    let (addr, _open) = serve(1, |_, stream| Ok(stream))?;
    probe(addr, &["--idle", "--timeout", "50"])
        .assert()
        .success()
        .stdout(contains("stayed idle for 50 ms, as asked"));
    Ok(())
}

/// On Linux a stop interrupts a wait that has a deadline: signal(7).
#[test]
#[cfg(target_os = "linux")]
fn idle_with_a_timeout_survives_a_stop() -> Result {
    let (addr, results) = serve(1, |_, stream| Ok(stream))?;
    let lab = Lab::new();
    let mut command = std::process::Command::new(cargo_bin!("probe"));
    command.args([&addr, "--idle", LONG_TIMEOUT]);
    let mut probe = lab.start_in_group("probe", command)?;
    probe.expect("idle: reads nothing from now on")?;
    let open = result(&results)?;
    let threads = || harness::tasks::thread_ids(probe.id()).unwrap_or_default();
    lab.wait_until("the client waits", || {
        let calls = threads().into_iter().map(harness::tasks::blocked_in);
        calls.flatten().any(|(call, _)| call == "recvfrom")
    })?;
    let all_stopped = |stopped| {
        threads()
            .into_iter()
            .all(|id| harness::proc::is_stopped(id) == Some(stopped))
    };
    probe.suspend();
    lab.wait_until("a stop", || all_stopped(true))?;
    probe.resume();
    lab.wait_until("its end", || all_stopped(false))?;
    drop(open);
    probe.expect("the peer closed the connection")?;
    Ok(())
}

#[test]
fn idle_sees_a_reset_behind_unread_bytes() -> Result {
    let (addr, _results) = serve(1, |_, mut stream| {
        stream.write_all(b"unread")?;
        stream.read_exact(&mut [0; 1])?;
        reset(stream)
    })?;
    probe(addr, &["--send", "x", "--idle"])
        .assert()
        .code(1)
        .stderr(contains("reset by the peer while idle"));
    Ok(())
}

// ---- --clients ----

#[test]
fn clients_are_connected_at_once_and_numbered() -> Result {
    // No client is answered before all three are there.
    let all_here = Barrier::new(3);
    let (addr, _results) = serve(3, move |_, stream| {
        all_here.wait();
        echo(stream)
    })?;
    let args = ["--send", "hello", "--half-close", "--clients", "3"];
    let told = stdout(&probe(addr, &args).assert().success());
    for id in ["#1", "#2", "#3"] {
        let event = format!("{id}  received 5 bytes: \"hello\"");
        assert!(told.contains(&event), "{told}");
        let end = format!("{id}  the peer closed the connection");
        assert!(told.contains(&end), "{told}");
    }
    assert!(told.ends_with(
        "summary: 3 of 3 clients connected, 15 bytes sent, 15 bytes received\n"
    ));
    Ok(())
}

#[test]
fn one_clients_failure_does_not_stop_the_others() -> Result {
    let (addr, _results) = serve(3, |id, mut stream| match id {
        1 => {
            stream.read_exact(&mut [0; 5])?;
            reset(stream)
        }
        _ => echo(stream).map(drop),
    })?;
    let args = ["--send", "hello", "--half-close", "--clients", "3"];
    let assert = probe(addr, &args).assert().code(1);
    let told = stdout(&assert);
    assert_eq!(told.matches("received 5 bytes").count(), 2, "{told}");
    assert!(
        told.contains("3 of 3 clients connected, 1 failed, "),
        "{told}"
    );
    assert!(stderr(&assert).contains("reset by the peer"));
    Ok(())
}

#[test]
#[cfg(unix)]
fn too_many_clients_for_the_descriptors_is_one_clear_message() -> Result {
    let (addr, _results) = serve(200, |_, stream| echo(stream))?;
    let script = "ulimit -n 40; exec \"$0\" \"$@\"";
    let assert = Command::new("sh")
        .args(["-c", script])
        .arg(cargo_bin!("probe"))
        .args([&addr, "--idle", "--timeout", "1000", "--clients", "200"])
        .timeout(TIMEOUT)
        .assert()
        .code(1)
        .stdout(contains("stayed idle for 1000 ms, as asked"));
    let said = stderr(&assert);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("out of file descriptors: ask for fewer --clients"));
    Ok(())
}

// ---- --udp ----

#[test]
fn each_send_is_a_datagram_and_each_answer_is_shown() -> Result {
    let (addr, results) = udp_echo(3)?;
    let args = ["--udp", "--send", "hi", "--repeat", "3", LONG_TIMEOUT];
    let told = stdout(&probe(addr, &args).assert().success());
    assert_eq!(results.recv_timeout(TIMEOUT)?, [b"hi", b"hi", b"hi"]);
    assert_eq!(told.matches(r#"received 2 bytes: "hi""#).count(), 3);
    assert!(told.contains("1 of 1 client answered, 6 bytes sent, 6 bytes"));
    Ok(())
}

#[test]
fn an_empty_datagram_can_be_sent_and_is_not_the_end() -> Result {
    let (addr, results) = udp_echo(1)?;
    probe(addr, &["--udp", "--send", "", LONG_TIMEOUT])
        .assert()
        .success()
        .stdout(contains("received 0 bytes: \"\""));
    assert_eq!(results.recv_timeout(TIMEOUT)?, [b""]);
    Ok(())
}

#[test]
fn each_typed_line_is_a_datagram() -> Result {
    let (addr, results) = udp_echo(2)?;
    let mut command = probe(addr, &["--udp", LONG_TIMEOUT]);
    command.write_stdin("one\ntwo\n").assert().success();
    assert_eq!(results.recv_timeout(TIMEOUT)?, [b"one\n", b"two\n"]);
    Ok(())
}

#[test]
fn a_datagram_that_gets_no_answer_is_a_failure() -> Result {
    let silent = UdpSocket::bind("127.0.0.1:0")?;
    let addr = silent.local_addr()?.to_string();
    let args = ["--udp", "--send", "x", "--repeat", "2"];
    probe(&addr, &args)
        .assert()
        .code(1)
        .stderr(contains("0 of 2 datagrams answered within 1000 ms"));
    probe(&addr, &[&args[..], &["--timeout", "50"]].concat())
        .assert()
        .code(1)
        .stderr(contains("answered within 50 ms"));
    Ok(())
}

#[test]
#[cfg(unix)]
fn a_udp_port_that_nobody_has_bound_is_told() -> Result {
    // Taken, but connected to itself: the kernel refuses other senders.
    let own = UdpSocket::bind("127.0.0.1:0")?;
    own.connect(own.local_addr()?)?;
    let addr = own.local_addr()?.to_string();
    probe(&addr, &["--udp", "--send", "x"])
        .assert()
        .code(1)
        .stderr(contains(format!(
            "nobody listens on {addr}: start the server first"
        )));
    Ok(())
}

#[test]
#[cfg(unix)] // Windows has no command lines of this length.
fn a_text_too_long_for_a_datagram_is_told() -> Result {
    let (addr, _results) = udp_echo(1)?;
    let text = "x".repeat(65_508);
    probe(addr, &["--udp", "--send", &text])
        .assert()
        .code(1)
        .stderr(contains("65508 bytes do not fit into a datagram"));
    Ok(())
}

// ---- --timeout, and what goes wrong ----

#[test]
fn silence_after_an_answer_is_a_normal_end() -> Result {
    let (addr, _results) = serve(1, |_, stream| echo(stream))?;
    probe(addr, &["--send", "x", "--timeout", "2000"])
        .assert()
        .success()
        .stdout(contains("closed the connection after 2000 ms of silence"));
    Ok(())
}

#[test]
fn a_peer_that_does_nothing_is_a_failure_after_the_timeout() -> Result {
    for (args, said) in [
        ("--timeout 50 --send x", "no answer within 50 ms"),
        (
            "--timeout 50 --half-close",
            "the peer did not close within 50 ms",
        ),
        (
            "--timeout 200 --send x --repeat 100000000 --chunk 1000000",
            "the peer took no more bytes in time",
        ),
    ] {
        let (addr, _open) = serve(1, |_, stream| Ok(stream))?;
        let args: Vec<_> = args.split(' ').collect();
        probe(addr, &args).assert().code(1).stderr(contains(said));
    }
    Ok(())
}

#[test]
fn a_reset_by_the_peer_is_a_failure() -> Result {
    let (addr, _results) = serve(1, |_, mut stream| {
        stream.read_exact(&mut [0; 1])?;
        reset(stream)
    })?;
    probe(addr, &["--send", "x"])
        .assert()
        .code(1)
        .stderr(contains("reset by the peer while waiting for an answer"));
    Ok(())
}

#[test]
fn nobody_listening_is_one_sentence_with_what_to_do() -> Result {
    let (addr, _socket) = dead_port()?;
    let args = ["--send", "x", "--clients", "3"];
    let assert = probe(&addr, &args).assert().code(1);
    let said = stderr(&assert);
    let sentence = format!("nobody listens on {addr}: start the server first");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&sentence), "{said}");
    assert.stdout(diff(
        "summary: 0 of 3 clients connected, 3 failed, \
         0 bytes sent, 0 bytes received\n",
    ));
    Ok(())
}

#[test]
fn names_and_ipv6_addresses_are_understood() -> Result {
    let (addr, _results) = serve(1, |_, stream| take(stream, 1))?;
    let name = addr.replace("127.0.0.1", "localhost");
    probe(name, &["--send", "x"]).assert().success();

    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: no IPv6 on this machine");
        return Ok(());
    };
    let addr = listener.local_addr()?.to_string();
    // The kernel's queue takes the connection; nobody needs to accept it.
    probe(addr, &["--rst"]).assert().success();
    Ok(())
}

#[test]
fn a_name_means_its_ipv4_address_over_udp() -> Result {
    let (addr, _results) = udp_echo(1)?;
    let name = addr.replace("127.0.0.1", "localhost");
    probe(name, &["--udp", "--send", "x", LONG_TIMEOUT])
        .assert()
        .success();
    Ok(())
}

#[test]
fn an_unknown_name_is_told() {
    probe("no-such-host.invalid:9006", &["--send", "x"])
        .assert()
        .code(1)
        .stderr(contains("cannot find no-such-host.invalid:9006"))
        .stderr(contains("check the host's name"));
}

/// A child that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_closed_stdout_ends_it_without_a_panic() -> Result {
    let (addr, _open) = serve(1, |_, stream| Ok(stream))?;
    let child = std::process::Command::new(cargo_bin!("probe"))
        .args([&addr, "--send", "x", "--repeat", "1000000", "--delay", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut child = Killed(child);
    drop(child.0.stdout.take());
    let mut stderr = child.0.stderr.take().ok_or("no stderr")?;
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let mut said = String::new();
        let _ = done.send(stderr.read_to_string(&mut said).map(|_| said));
    });
    assert_eq!(result(&ended)?, "");
    assert_eq!(child.0.wait()?.code(), Some(1));
    Ok(())
}

// ---- bad usage ----

/// What --delay needs.
const PAUSES: &str = "<--repeat <N>|--chunk <N>|--half-close|--rst>";

#[test]
fn combinations_that_make_no_sense_are_refused_with_the_reason() {
    for (args, reason) in [
        (
            "--half-close --rst",
            "'--half-close' cannot be used with '--rst'",
        ),
        ("--idle --rst", "'--idle' cannot be used with '--rst'"),
        ("--idle --half-close", "cannot be used with '--half-close'"),
        (
            "--udp --half-close",
            "'--udp' cannot be used with '--half-close'",
        ),
        ("--udp --rst", "'--udp' cannot be used with '--rst'"),
        ("--udp --idle", "'--udp' cannot be used with '--idle'"),
        (
            "--udp --send x --chunk 1",
            "cannot be used with '--chunk <N>'",
        ),
        ("--repeat 2", "not provided:\n  --send <TEXT>"),
        ("--chunk 2", "not provided:\n  --send <TEXT>"),
        ("--delay 5", PAUSES),
        ("--send x --delay 5", PAUSES),
        ("--send x --repeat 0", "0 is not in 1.."),
        ("--send x --chunk 0", "0 is not in 1..=16777216"),
        (
            "--send x --chunk 16777217",
            "16777217 is not in 1..=16777216",
        ),
        ("--send=", "not provided:\n  --udp"),
        ("--send x --clients 0", "0 is not in 1..=5000"),
        ("--send x --clients 5001", "5001 is not in 1..=5000"),
        ("--clients 2", "<--send <TEXT>|--half-close|--rst|--idle>"),
        ("--send x --timeout 0", "0 is no time"),
        ("--rst --delay 0", "0 is no time"),
        ("--send x --timeout soon", "give whole milliseconds"),
        (r"--send a\q", r"unknown escape \q"),
        ("--surprise", "unexpected argument"),
    ] {
        let args: Vec<_> = args.split(' ').collect();
        probe("127.0.0.1:1", &args)
            .assert()
            .code(2)
            .stdout("")
            .stderr(contains(reason));
    }
}

#[test]
fn an_address_that_is_none_is_refused_with_an_example() {
    for (addr, reason) in [
        ("127.0.0.1", "the port is missing: write HOST:PORT"),
        (":9006", "the host is missing"),
        ("::1:9006", "an IPv6 address needs brackets: [::1]:9006"),
        ("127.0.0.1:0", "from 1 to 65535"),
        ("127.0.0.1:70000", "from 1 to 65535"),
        ("127.0.0.1:http", "from 1 to 65535"),
    ] {
        probe(addr, &[]).assert().code(2).stderr(contains(reason));
    }
}

#[test]
fn help_has_an_example_for_each_flag_and_fits_eighty_columns() {
    let assert = probe("--help", &[]).assert().success();
    let help = stdout(&assert);
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let flags: Vec<_> = help
        .lines()
        .filter_map(|line| line.strip_prefix("      --"))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(flags.len(), 10, "{flags:?}");
    for flag in flags {
        let example = help.lines().any(|line| {
            line.starts_with("      probe ")
                && line.contains(&format!(" --{flag}"))
        });
        assert!(example, "no example for --{flag}");
    }
}
