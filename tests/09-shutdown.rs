//! Lesson 09 ends as its chapter says, whenever and however it is asked to.
//! Windows has no signals: there its tests are those of the battery.
#![cfg(unix)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use assert_cmd::cargo::cargo_bin;
use harness::{Lab, Program, Result, Transcript};

/// In milliseconds: where nobody is to be cut off.
const AN_HOUR: &str = "3600000";
const NO_NEW_CLIENTS: &str = "\nno new clients; those who are here have ";
/// Where, on Linux, no client of another test can have the server's port.
const ALONE: &str = if cfg!(target_os = "linux") {
    "127.0.0.3:0"
} else {
    "127.0.0.1:0"
};

fn server_path() -> &'static Path {
    cargo_bin!("lesson-09-shutdown")
}

fn start_server(lab: &Lab, grace: &str) -> Result<(Program, SocketAddr)> {
    lab.start_server(server_path(), &[ALONE, grace])
}

/// It ended by itself, everybody was served, and nothing was complained of.
fn ended_well(server: &mut Program) -> Result {
    server.expect("goodbye\n")?;
    server.expect_exit(0)?;
    assert_eq!(String::from_utf8_lossy(&server.stderr()), "");
    Ok(())
}

// Asked once.

#[test]
fn transcript_ctrl_c_lets_the_present_client_finish() -> Result {
    let lab = Lab::new();
    let (mut server, addr) =
        lab.start_server(server_path(), &["127.0.0.1:0"])?;
    let mut client = lab.start_client("client", addr)?;
    server.expect(" connected\n")?;
    client.expect("send> ")?;
    client.type_line("hello");
    client.expect("received: hello\nsend> ")?;
    server.interrupt();
    server.expect(NO_NEW_CLIENTS)?;
    server.expect("10s\n")?;
    let mut late = lab.start_client("late", addr)?;
    late.expect_exit(1)?;
    client.type_line("still there?");
    client.expect("received: still there?\nsend> ")?;
    client.end_input();
    client.expect_exit(0)?;
    ended_well(&mut server)?;

    let mut scene = Transcript::new(&lab, "09-finish", addr);
    let server_command = "cargo run -p lesson-09-shutdown";
    let client_command = "cargo run --bin client";
    scene.terminal("server", server_command, &server);
    scene.terminal("client", client_command, &client);
    scene.terminal("late", client_command, &late);
    scene.check()
}

#[test]
fn without_clients_each_signal_ends_it_with_success() -> Result {
    let lab = Lab::new();
    for ask in [Program::interrupt, Program::terminate] {
        for addr in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let mut server =
                lab.start("server", server_path(), &[addr, AN_HOUR])?;
            if server.wait_until_listening().is_err() && addr.contains('[') {
                eprintln!("skipped: no IPv6");
                continue;
            }
            ask(&server);
            server.expect(NO_NEW_CLIENTS)?;
            ended_well(&mut server)?;
            let printed =
                String::from_utf8_lossy(&server.stdout()).into_owned();
            assert!(!printed.contains("connected"), "{printed}");
        }
    }
    Ok(())
}

#[test]
fn the_port_is_free_at_once_for_the_next_server() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "0")?;
    for _ in 0..3 {
        let mut stays = lab.connect("stays", addr)?;
        stays.gets_echo("hello")?;
        server.terminate();
        server.expect_exit(1)?;
        stays.expect_end()?;
        let args = [&addr.to_string(), "0"];
        server = lab.start("next server", server_path(), &args)?;
        server.wait_until_listening()?;
    }
    lab.good_client_gets_echo(addr)
}

// Those who stay.

#[test]
fn an_idle_client_delays_the_end_by_the_whole_grace_period() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "1")?;
    let mut idle = lab.connect("idle", addr)?;
    idle.gets_echo("hello")?;
    server.interrupt();
    server.expect(NO_NEW_CLIENTS)?;
    server.expect("1ms\n")?;
    let said = server.error_line()?;
    let wanted = "Error: cut off the clients who were still here after 1ms";
    assert_eq!(said, wanted);
    server.expect_exit(1)?;
    idle.expect_end()
}

#[test]
fn ctrl_c_again_ends_it_at_once() -> Result {
    let lab = Lab::new();
    for again in [Program::interrupt, Program::terminate] {
        let (mut server, addr) = start_server(&lab, AN_HOUR)?;
        let mut idle = lab.connect("idle", addr)?;
        idle.gets_echo("hello")?;
        server.interrupt();
        server.expect(NO_NEW_CLIENTS)?;
        again(&server);
        server.expect_exit(130)?;
        idle.expect_end()?;
    }
    Ok(())
}

// What each side sees of the other's end.

/// A half-close, a reset, and a client that is killed: what `probe` does.
#[test]
fn transcript_the_server_sees_an_end_or_a_reset() -> Result {
    let lab = Lab::new();
    let (mut server, addr) =
        lab.start_server(server_path(), &["127.0.0.1:0"])?;
    let path = harness::binary("probe", "probe")?;
    let addr_text = addr.to_string();
    let probe = |name, args: &[&str]| {
        lab.start(name, &path, &[&[addr_text.as_str()], args].concat())
    };
    probe("half-close", &["--send", "hello", "--half-close"])?
        .expect_exit(0)?;
    server.expect(" closed the connection after 5 bytes\n")?;
    probe("reset", &["--send", "hello", "--rst"])?.expect_exit(0)?;
    server.expect(" connected\n")?;
    server.expect_error("\n")?;
    let mut killed = probe("killed", &["--idle"])?;
    server.expect(" connected\n")?;
    killed.kill()?;
    server.expect(" closed the connection after 0 bytes\n")?;
    server.interrupt();
    server.expect("goodbye\n")?;

    let mut scene = Transcript::new(&lab, "09-ends", addr);
    scene.terminal("server", "cargo run -p lesson-09-shutdown", &server);
    scene.check()
}

/// An echo without a server around it.
fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}

/// The client is in the middle of what it says, and its server takes the 0 of
/// its own `shutdown` for the client's end.
#[test]
fn shutdown_of_reading_ends_an_echo_in_the_middle() -> Result {
    let lab = Lab::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("it is bound");
    let mut client = lab.connect("client", addr)?;
    let (stream, _) = listener.accept().expect("a client");
    client.send("the first half")?;
    thread::scope(|scope| {
        let echo = scope.spawn(|| echo(&stream));
        client.expect("the first half")?;
        stream.shutdown(Shutdown::Read).expect("it is connected");
        let end = echo.join().expect("no panic");
        assert!(end.is_ok(), "{end:?}");
        Ok(())
    })?;
    client.send("the second half")?;
    drop(stream);
    // On Linux unread bytes make a reset of the close.
    assert!(!matches!(client.rest(), Ok(rest) if !rest.is_empty()));
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn the_kernel_begins_an_interrupted_accept_again() -> Result {
    let lab = Lab::new();
    let options = ["-e", "trace=accept4,connect"];
    let args = ["127.0.0.1:0"];
    let (mut server, _) = lab.trace_server(&options, server_path(), &args)?;
    server.wait_until_blocked_in(&["accept4"])?;
    server.interrupt();
    server.expect("goodbye\n")?;
    let said = String::from_utf8_lossy(&server.stderr()).into_owned();
    let again = said.find("ERESTARTSYS").unwrap_or(said.len());
    assert!(said[again..].contains("accept4("), "{said}");
    Ok(())
}
