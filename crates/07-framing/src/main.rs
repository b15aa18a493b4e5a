//! A TCP server whose messages are lines, each answered with its number.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-07-framing
//!   terminal 2: cargo run --bin line-client
//! Look for: a line is answered once, when it is whole, however the network
//!   has cut it.
//! Limits:
//!   - Text only: a message cannot hold a newline, and one that is not UTF-8
//!     is refused.
//!   - A line is held until it is whole, so that it has to fit into memory:
//!     one of more than MAX_LINE bytes is skipped and refused.
//!   - A client may take as long as it likes over a line (lesson 12 has a
//!     deadline for the first one).
//!   - What lesson 03 cannot do, this one cannot do either.
//!
//! Builds on: 03-threaded
//! Chapter: docs/07-framing.md
//! Test: tests/07-framing.rs, and its row in tests/servers.rs

mod lines;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

use anyhow::anyhow;
use lines::LineDecoder;

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "give a free HOST:PORT of this machine, \
    such as 127.0.0.1:0, which stands for any free one";
const BUFFER_SIZE: usize = 1024;
/// In bytes, without the end of the line.
const MAX_LINE: usize = 4096;
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let listener = TcpListener::bind(&addr)
        .map_err(|error| anyhow!("cannot listen on {addr}: {error}; {HINT}"))?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, peer) = accept(&listener);
        println!("{peer} connected");
        let thread = move || serve(&stream, peer);
        // A thread that does not start drops the stream, which closes it.
        if let Err(error) = thread::Builder::new().spawn(thread) {
            eprintln!("{peer}: turned away, no thread for it: {error}");
        }
    }
}

/// The next client. An error is one line, and does not end the server.
fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept() {
            Ok(client) => return client,
            Err(error) => {
                eprintln!("cannot accept a client, trying again: {error}");
                // Without a pause a lasting error would spin at full speed.
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn serve(stream: &TcpStream, peer: SocketAddr) {
    match converse(stream) {
        Ok(count) => {
            println!("{peer} closed the connection after {count} lines");
        }
        Err(error) => eprintln!("{peer}: {error}"),
    }
}

// ANCHOR: converse
/// Answers each line with its number and itself; counts the lines.
fn converse(mut stream: &TcpStream) -> io::Result<u64> {
    let mut buffer = [0; BUFFER_SIZE];
    let mut decoder = LineDecoder::new(MAX_LINE);
    let mut answers = Vec::new();
    let mut number = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            decoder.end()?;
            return Ok(number);
        }
        decoder.push(&buffer[..count]);
        while let Some(line) = decoder.next_line() {
            number += 1;
            match line {
                Ok(text) => writeln!(answers, "{number}: {text}")?,
                Err(refusal) => writeln!(answers, "{number} {refusal}")?,
            }
        }
        // One write for all: a second one might wait until the first is
        // acknowledged.
        stream.write_all(&answers)?;
        answers.clear();
    }
}
// ANCHOR_END: converse
