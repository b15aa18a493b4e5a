//! Lesson 03 does what its chapter says, with good clients and bad ones.

use std::net::SocketAddr;
use std::path::Path;

use assert_cmd::cargo::cargo_bin;
use harness::{Lab, Program, Result};

fn server_path() -> &'static Path {
    cargo_bin!("lesson-03-threaded")
}

fn start_server(lab: &Lab) -> Result<(Program, SocketAddr)> {
    let mut server = lab.start("server", server_path(), &["127.0.0.1:0"])?;
    let addr = server.listening()?;
    Ok((server, addr))
}

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
    first.send("still here")?;
    first.expect("still here")
}
