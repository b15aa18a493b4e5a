//! Lesson 10 does what its chapter says, with good clients and bad ones.

use std::net::SocketAddr;
use std::path::Path;

use assert_cmd::cargo::cargo_bin;
use harness::{Lab, Program, Result};

fn server_path() -> &'static Path {
    cargo_bin!("lesson-10-event-loop")
}

fn start_server(lab: &Lab) -> Result<(Program, SocketAddr)> {
    lab.start_server(server_path(), &["127.0.0.1:0"])
}

#[test]
fn one_line_when_a_client_comes_and_one_when_it_goes() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let mut a = lab.connect("a", addr)?;
    let local = a.local_addr()?;
    server.expect_line(&format!("{local} connected"))?;
    for _ in 0..100 {
        a.gets_echo("hello")?;
    }
    a.half_close()?;
    a.expect_end()?;
    let closed = "closed the connection after";
    server.expect_line(&format!("{local} {closed} 500 bytes"))?;
    assert_eq!(String::from_utf8_lossy(&server.stderr()), "");
    Ok(())
}
