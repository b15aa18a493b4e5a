//! A client for servers that talk in lines: a line there, a whole line back.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-07-framing
//!   terminal 2: cargo run --bin line-client
//! Look for: an answer is shown once, and whole, however long it is.
//! Limits:
//!   - It waits for one line to each line typed. A server that answers with
//!     two, or with none, gets it out of step (lesson 12 lifts this).
//!   - It trusts its server: a line without an end would fill its memory.
//!   - While it waits for the keyboard it does not notice that the server has
//!     gone (lesson 12 lifts this).
//!
//! Builds on: 01-single-client
//! Chapter: docs/07-framing.md
//! Test: tests/07-framing.rs

use std::env;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;

use anyhow::anyhow;

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "start the server first, \
    or give its HOST:PORT, such as 127.0.0.1:9006";

fn main() -> anyhow::Result<ExitCode> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let stream = TcpStream::connect(&addr)
        .map_err(|error| anyhow!("cannot reach {addr}: {error}; {HINT}"))?;
    let code = match converse(&stream) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if server_has_gone(&error) => ExitCode::FAILURE,
        Err(error) => return Err(error.into()),
    };
    println!("server closed the connection");
    Ok(code)
}

// ANCHOR: client_converse
/// A line there, a whole line back, until the person ends the input.
fn converse(mut stream: &TcpStream) -> io::Result<()> {
    // One for the whole connection: it may have read more than a line.
    let mut answers = BufReader::new(stream);
    while let Some(line) = prompt("send> ")? {
        stream.write_all(&line)?;
        if !show_line(&mut answers)? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    println!();
    stream.shutdown(Shutdown::Write)?;
    while show_line(&mut answers)? {}
    Ok(())
}
// ANCHOR_END: client_converse

/// Waits for a whole line and shows it; false at the end of the stream.
fn show_line(answers: &mut BufReader<&TcpStream>) -> io::Result<bool> {
    let mut line = Vec::new();
    answers.read_until(b'\n', &mut line)?;
    let text = String::from_utf8_lossy(&line);
    let Some(whole) = text.strip_suffix('\n') else {
        if !text.is_empty() {
            println!("received a part of a line: {text}");
        }
        return Ok(false);
    };
    println!("received: {whole}");
    Ok(true)
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

/// One line with its newline, be it empty; `None` at the end of input.
fn prompt(text: &str) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    print!("{text}");
    io::stdout().flush()?;
    if io::stdin().lock().read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    // Without it both sides would wait: Ctrl-D can end a line, too.
    if !line.ends_with(b"\n") {
        line.push(b'\n');
    }
    Ok(Some(line))
}
