//! A TCP client that reads the keyboard and the connection at once.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-12-chat
//!   terminal 2: cargo run --bin chat-client
//! Look for: what others say is shown while you type nothing, and so is the
//!   end of the server.
//! Limits:
//!   - What comes while you type is shown in the middle of what you type.
//!   - It shows what comes, also the bytes that clear your screen.
//!   - While the server does not read, what you type waits without a word.
//!   - A standard output that cannot be written ends it.
//!
//! Builds on: 01-single-client
//! Chapter: docs/12-chat.md
//! Test: tests/12-chat.rs

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::{env, thread};

use anyhow::{Context, anyhow};

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "start the server first, \
    or give its HOST:PORT, such as 127.0.0.1:9006";
const BUFFER_SIZE: usize = 1024;

/// The person has ended the input: now the server may end, too.
static FINISHED: AtomicBool = AtomicBool::new(false);

// ANCHOR: client_flow
fn main() -> anyhow::Result<ExitCode> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let stream = TcpStream::connect(&addr)
        .map_err(|error| anyhow!("cannot reach {addr}: {error}; {HINT}"))?;
    let stream = Arc::new(stream);
    let sending = Arc::clone(&stream);
    // Never joined: it may wait at the keyboard when the server has gone.
    thread::Builder::new()
        .spawn(move || send_typed(&sending))
        .context("no thread for the keyboard")?;
    let end = show(&stream);
    println!("server closed the connection");
    match end {
        Ok(()) if FINISHED.load(SeqCst) => Ok(ExitCode::SUCCESS),
        Ok(()) => Ok(ExitCode::FAILURE),
        Err(error) if server_has_gone(&error) => Ok(ExitCode::FAILURE),
        Err(error) => Err(error.into()),
    }
}
// ANCHOR_END: client_flow

// ANCHOR: show
/// Shows what comes, as it comes, until the server sends no more.
fn show(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; BUFFER_SIZE];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        io::stdout().write_all(&buffer[..count])?;
        io::stdout().flush()?;
    }
}
// ANCHOR_END: show

// ANCHOR: send_typed
/// Sends each line that is typed, and at the end of input half-closes.
fn send_typed(mut stream: &TcpStream) {
    let mut line = Vec::new();
    while let Ok(1..) = io::stdin().lock().read_until(b'\n', &mut line) {
        // Ctrl-D can end a line, too.
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        // If the server has gone, `show` sees and says it.
        if stream.write_all(&line).is_err() {
            return;
        }
        line.clear();
    }
    FINISHED.store(true, SeqCst);
    let _ = stream.shutdown(Shutdown::Write);
}
// ANCHOR_END: send_typed

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
