//! The TCP client of lessons 01 to 06: you type a line, it shows the answer.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-01-single-client
//!   terminal 2: cargo run --bin client
//! Look for: Ctrl-D closes one direction only; what the server still sends
//!   is shown.
//! Limits:
//!   - It shows one read for each line typed, so a longer answer turns up
//!     under the next prompt (lesson 07's line-client lifts this).
//!   - While it waits for the keyboard it does not notice that the server has
//!     gone (lesson 12 lifts this).
//!   - It does not read while it writes: a line of some megabytes to a server
//!     that echoes blocks both for ever (lesson 03 shows it, and lesson 12
//!     lifts it).
//!   - A standard output that cannot be written ends it.
//!
//! Builds on: nothing
//! Chapter: docs/01-single-client.md
//! Test: tests/01-single-client.rs

use std::env;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;

use anyhow::anyhow;

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "give HOST:PORT, such as 127.0.0.1:9006, \
    and start the server first";
const BUFFER_SIZE: usize = 1024;

// ANCHOR: client_flow
fn main() -> anyhow::Result<ExitCode> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let mut stream = TcpStream::connect(&addr)
        .map_err(|error| anyhow!("cannot reach {addr}: {error}; {HINT}"))?;
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

// ANCHOR: converse
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
// ANCHOR_END: converse

// ANCHOR: finish
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
// ANCHOR_END: finish

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
