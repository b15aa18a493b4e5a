//! A TCP server that serves one client at a time; you type each reply.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-01-single-client
//!   terminal 2: cargo run --bin client
//! Look for: a second client connects, but nobody answers it until the first
//!   one has left.
//! Limits:
//!   - One client at a time (lesson 03 lifts this).
//!   - One read is not one message, and a character can be cut in two
//!     (lesson 07 lifts this).
//!   - While it waits for your reply it notices neither a hang-up nor a reset.
//!     (The client of lesson 12 does. Its server asks nobody.)
//!   - While it waits for a client it does not notice Ctrl-D (lesson 06 lifts
//!     this).
//!   - A client that closes without waiting for its replies may lose the part
//!     of its message that was not read yet.
//!   - It shows what comes, also the bytes that clear your screen.
//!   - A client that vanishes without a word is waited for without end.
//!   - A standard output that cannot be written ends it.
//!
//! Builds on: nothing
//! Chapter: docs/01-single-client.md
//! Test: tests/01-single-client.rs, and its row in tests/servers.rs

use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

use anyhow::anyhow;

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "give a free HOST:PORT of this machine, \
    such as 127.0.0.1:0, which stands for any free one";
const BUFFER_SIZE: usize = 1024;
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

// ANCHOR: server_flow
fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let listener = TcpListener::bind(&addr)
        .map_err(|error| anyhow!("cannot listen on {addr}: {error}; {HINT}"))?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, peer) = accept(&listener);
        println!("{peer} connected");
        match converse(stream) {
            Ok(Closed::ByPeer) => println!("{peer} closed the connection"),
            Ok(Closed::ByOperator) => break,
            Err(error) => eprintln!("{peer}: {error}"),
        }
    }
    println!("\ngoodbye");
    Ok(())
}
// ANCHOR_END: server_flow

// ANCHOR: accept
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
// ANCHOR_END: accept

enum Closed {
    ByPeer,
    ByOperator,
}

// ANCHOR: converse
fn converse(mut stream: TcpStream) -> io::Result<Closed> {
    let mut buffer = [0; BUFFER_SIZE];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(Closed::ByPeer);
        }
        show(&buffer[..count]);
        match prompt("reply> ")? {
            Some(line) => stream.write_all(&line)?,
            None => return Ok(Closed::ByOperator),
        }
    }
}
// ANCHOR_END: converse

fn show(received: &[u8]) {
    let text = String::from_utf8_lossy(received);
    println!("received: {}", text.strip_suffix('\n').unwrap_or(&text));
}

// ANCHOR: prompt
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
// ANCHOR_END: prompt
