//! A TCP echo server with a thread for each client.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-03-threaded
//!   terminal 2: cargo run --bin client
//!   terminal 3: cargo run --bin client
//! Look for: both clients are answered, in any order, while both stay.
//! Limits:
//!   - A client costs a thread, and keeps it until it leaves, however idle it
//!     is (lesson 04 lifts this).
//!   - A thread that has started and then finds no memory for itself ends the
//!     whole server: std leaves no choice. On Linux it happens at some 16,400
//!     clients, if the server may have so many descriptors (`ulimit -n`).
//!   - std asks for an accept queue of 128 clients. While it is full, a client
//!     has to try again a second later (lesson 02 can ask for more).
//!   - A client that sends and never reads is not read from either: its thread
//!     waits for ever (lesson 10 lifts this).
//!   - Ctrl-C cuts off all clients (lesson 09 lifts this).
//!   - A standard output that cannot be written ends it.
//!
//! Builds on: 01-single-client
//! Chapter: docs/03-threaded.md
//! Test: tests/03-threaded.rs, and its row in tests/servers.rs

use std::io::{self, Read, Write};
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
        let thread = move || serve(&stream, peer);
        // A thread that does not start drops the stream, which closes it.
        if let Err(error) = thread::Builder::new().spawn(thread) {
            eprintln!("{peer}: turned away, no thread for it: {error}");
        }
    }
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

// ANCHOR: serve
fn serve(stream: &TcpStream, peer: SocketAddr) {
    match echo(stream) {
        Ok(count) => {
            println!("{peer} closed the connection after {count} bytes");
        }
        Err(error) => eprintln!("{peer}: {error}"),
    }
}
// ANCHOR_END: serve

// ANCHOR: echo
/// Sends back what comes, until the client half-closes; counts the bytes.
fn echo(mut stream: &TcpStream) -> io::Result<u64> {
    let mut buffer = [0; BUFFER_SIZE];
    let mut total = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        stream.write_all(&buffer[..count])?;
        total += count as u64;
    }
}
// ANCHOR_END: echo
