//! Lesson 01's client, which tries every address that a name has.
//!
//! Run:
//!   terminal 1: `cargo run -p lesson-08-dual-stack`
//!   terminal 2: `cargo run --bin dual-client -- '[::1]:9006' 127.0.0.1:9006`
//! Look for: nobody listens at the first address. The client says so, and
//!   reaches the server at the second.
//! Limits:
//!   - A name is looked up for as long as the system likes.
//!   - An address that does not answer costs its whole TIMEOUT, before the
//!     next is tried (examples/happy-eyeballs.rs shows the cure).
//!   - What lesson 01's client cannot do, this one cannot do either.
//!
//! Builds on: 01-single-client
//! Chapter: docs/08-dual-stack.md
//! Test: tests/08-dual-stack.rs

#[path = "../connect.rs"]
mod connect;

use std::env;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;

const DEFAULT_NAME: &str = "localhost:9006";
const HINT: &str = "start the server first, \
    or give its HOST:PORT, such as 127.0.0.1:9006";
/// For each address.
const TIMEOUT: Duration = Duration::from_secs(5);
const BUFFER_SIZE: usize = 1024;

// ANCHOR: client_flow
fn main() -> anyhow::Result<ExitCode> {
    let mut names: Vec<_> = env::args().skip(1).collect();
    if names.is_empty() {
        names.push(DEFAULT_NAME.into());
    }
    let addrs = connect::resolve(&names);
    let mut stream = connect::in_turn(&addrs, TIMEOUT)
        .ok_or_else(|| anyhow!("cannot reach {}; {HINT}", names.join(", ")))?;
    println!("connected to {}", stream.peer_addr()?);
    let code = match converse(&mut stream) {
        Ok(()) => {
            finish(&mut stream);
            ExitCode::SUCCESS
        }
        Err(error) if server_has_gone(&error) => ExitCode::FAILURE,
        Err(error) => return Err(error.into()),
    };
    println!("server closed the connection");
    Ok(code)
}
// ANCHOR_END: client_flow

/// A line there, an answer back, until the person ends the input.
fn converse(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; BUFFER_SIZE];
    while let Some(line) = prompt("send> ")? {
        stream.write_all(&line)?;
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        show(&buffer[..count]);
    }
    Ok(())
}

/// Half-close: nothing more from here, but what still comes is shown.
fn finish(stream: &mut TcpStream) {
    println!();
    // An error says that the server has gone: then no more comes either.
    let _ = stream.shutdown(Shutdown::Write);
    let mut buffer = [0; BUFFER_SIZE];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        show(&buffer[..count]);
    }
}

/// The same event has three faces: FIN, RST, or a write after either.
fn server_has_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

fn show(received: &[u8]) {
    let text = String::from_utf8_lossy(received);
    println!("received: {}", text.strip_suffix('\n').unwrap_or(&text));
}

/// One line as it was typed, newline and all; `None` at the end of input.
fn prompt(text: &str) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    // An empty line would send nothing, and then both sides would wait.
    while matches!(line.as_slice(), b"" | b"\n" | b"\r\n") {
        line.clear();
        print!("{text}");
        io::stdout().flush()?;
        if io::stdin().lock().read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(line))
}
